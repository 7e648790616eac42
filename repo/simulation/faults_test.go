package simulation

import (
	"errors"
	"slices"
	"strings"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// errRefused is what a store says that fails before it has done anything.
var errRefused = errors.New("the store refuses")

// How often a request meets a fault, and how often its process dies at it.
const (
	faultEvery = 14
	crashEvery = 250
)

// The names of all faults, each of which occurs in the runs of one test.
var faultNames = []string{
	"create refused", "create without an answer", "create throttled", "create comes late", "create comes twice", "create is a lie",
	"delete refused", "delete without an answer", "delete comes late", "delete comes twice",
	"get refused", "get throttled", "get flips a bit", "get is short",
	"stat refused",
	"list refused", "list breaks off", "list is stale",
	"crash before", "crash after",
	"pause", "jump",
}

// faultFor draws what happens to a request.
func (w *world) faultFor(r *request) mem.Fault {
	p := r.process
	draw, which, size := w.trouble.IntN(faultEvery), w.trouble.IntN(6), w.trouble.IntN(1<<16)
	dies := w.trouble.IntN(crashEvery) == 0
	if p.calm {
		return mem.Fault{}
	}
	if f, hit := w.crash(r, size, dies); hit {
		return f
	}
	if draw > 0 {
		return mem.Fault{}
	}
	name, f := w.spoil(r.op, which, size)
	if name == "" || w.off[name] {
		return mem.Fault{}
	}
	w.counts[name]++
	p.faults++
	return f
}

// crash ends a process at a request, before or after its effect.
func (w *world) crash(r *request, size int, dies bool) (mem.Fault, bool) {
	after := size%2 == 0
	name := "crash before"
	if after {
		name = "crash after"
	}
	if !dies || w.off[name] {
		return mem.Fault{}, false
	}
	w.counts[name]++
	r.process.crashed = true
	for _, other := range slices.Clone(w.waiting) { // the same process may wait with several
		if other.process == r.process {
			w.withdraw(other)
			other.answer <- mem.Fault{Err: mem.ErrCrashed}
			w.letRun(0)
		}
	}
	return mem.Fault{Err: mem.ErrCrashed, AfterEffect: after}, true
}

// spoil names a fault for an operation.
func (w *world) spoil(op mem.Op, which, size int) (string, mem.Fault) {
	switch op.Kind {
	case mem.Create:
		switch which {
		case 0:
			return "create refused", mem.Fault{Err: errRefused}
		case 1:
			return "create without an answer", mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: true}
		case 2:
			return "create throttled", mem.Fault{Err: mem.ErrThrottled}
		case 3:
			return "create comes late", mem.Fault{Err: mem.ErrNoAnswer, Late: true}
		case 4:
			return "create comes twice", mem.Fault{Duplicate: true}
		default:
			if strings.HasPrefix(op.Name, journal.Folder) && size%8 == 0 {
				return "create is a lie", mem.Fault{Err: errLie}
			}
		}
	case mem.Delete:
		switch which {
		case 0:
			return "delete refused", mem.Fault{Err: errRefused}
		case 1:
			return "delete without an answer", mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: true}
		case 2:
			return "delete comes late", mem.Fault{Err: mem.ErrNoAnswer, Late: true}
		case 3:
			return "delete comes twice", mem.Fault{Duplicate: true}
		}
	case mem.Get:
		switch which {
		case 0:
			return "get refused", mem.Fault{Err: errRefused}
		case 1:
			return "get throttled", mem.Fault{Err: mem.ErrThrottled}
		case 2:
			return "get flips a bit", mem.Fault{Flip: int64(size) + 1}
		case 3:
			return "get is short", mem.Fault{Short: 1 + size%64}
		}
	case mem.Stat:
		return "stat refused", mem.Fault{Err: errRefused}
	case mem.List:
		switch which {
		case 0:
			return "list refused", mem.Fault{Err: errRefused}
		case 1:
			return "list breaks off", mem.Fault{Err: mem.ErrNoAnswer, Keep: size % 8}
		default:
			return "list is stale", mem.Fault{Stale: 1 + size%40}
		}
	}
	return "", mem.Fault{}
}
