package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/repo/storage"
)

// Errors as stores return them, for faults.
var (
	ErrNoAnswer  = fmt.Errorf("injected fault: no answer: %w", storage.ErrTemporary)
	ErrThrottled = fmt.Errorf("injected fault: %w", storage.ErrThrottled)
	ErrCrashed   = errors.New("injected fault: this machine has crashed")
)

// Kind names a request as [storage.Bucket] does.
type Kind string

// The kinds of requests.
const (
	Create Kind = "create"
	Get    Kind = "get"
	Stat   Kind = "stat"
	List   Kind = "list"
	Delete Kind = "delete"
)

// Op is one request, as an interceptor sees it.
type Op struct {
	Kind       Kind
	Number     int64  // counts the requests of the view, from 1
	Name       string // of a List: the prefix
	Data       []byte // of a Create; not to be changed or kept
	Offset     int64  // of a Get
	Length     int64  // of a Get
	StartAfter string // of a List
}

// Interceptor is asked about each request of a view before anything happens, from the goroutine that
// makes the request and with no lock held: it may wait, which is how a scheduler orders requests and
// a paused machine is played. It may be called from several goroutines at once.
type Interceptor func(ctx context.Context, op Op) Fault

// Fault says what is to go wrong with one request. The zero Fault lets it pass. What does not apply
// to the kind of the request is without effect.
type Fault struct {
	// Err is what the caller is told. By itself it takes the place of the effect: the request
	// fails and nothing happens.
	Err error

	// AfterEffect lets a Create or Delete happen first. With an Err, the answer is lost and the
	// caller cannot know; without, it changes nothing.
	AfterEffect bool

	// Late holds the effect of a Create or Delete back until [Bucket.Release]. The caller is told
	// Err, or ErrNoAnswer if there is none.
	Late bool

	// Duplicate lets a Create or Delete happen now and holds a second one back, as a retrying
	// network does.
	Duplicate bool

	// Keep is the number of names that a List still gives before it ends with Err.
	Keep int

	// Stale makes a List show the bucket as it was that many effects ago.
	Stale int

	// Flip inverts one bit of what a Get returns, the bit of number Flip-1 counted round; 0 is none.
	Flip int64

	// Short leaves out that many bytes at the end of what a Get returns, without an error.
	Short int
}

// effect is a change held back.
type effect struct {
	kind Kind
	name string
	data []byte
}

// Held returns the requests whose effect is held back, oldest first.
func (b *Bucket) Held() []Op {
	b.mu.Lock()
	defer b.mu.Unlock()
	ops := make([]Op, 0, len(b.held))
	for _, e := range b.held {
		ops = append(ops, Op{Kind: e.kind, Name: e.name, Data: bytes.Clone(e.data)})
	}
	return ops
}

// Release lets the request at position i of [Bucket.Held] take its effect now, and returns the
// answer that nobody hears any more: a Create whose name was taken meanwhile changes nothing.
func (b *Bucket) Release(i int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i < 0 || i >= len(b.held) {
		return fmt.Errorf("release request %d: %d are held back", i, len(b.held))
	}
	e := b.held[i]
	b.held = slices.Delete(b.held, i, i+1)
	return b.apply(e)
}

// Drop forgets the request at position i of [Bucket.Held]: its effect will never come.
func (b *Bucket) Drop(i int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i < 0 || i >= len(b.held) {
		return fmt.Errorf("drop request %d: %d are held back", i, len(b.held))
	}
	b.held = slices.Delete(b.held, i, i+1)
	return nil
}

// begin refuses what every driver refuses, then asks the interceptor.
func (b *Bucket) begin(ctx context.Context, op *Op) (Fault, error) {
	check := storage.CheckName
	if op.Kind == List {
		check = storage.CheckPrefix
	}
	if err := check(op.Name); err != nil {
		return Fault{}, fmt.Errorf("%s: %w", op.Kind, err)
	}
	op.Number = b.asked.Add(1)
	var fault Fault
	if b.intercept != nil {
		fault = b.intercept(ctx, *op)
	}
	// The interceptor may have waited, so only now is the time to look.
	if err := ctx.Err(); err != nil {
		return Fault{}, op.failed(err)
	}
	return fault, nil
}

// change carries out a Create or Delete with its fault.
func (b *Bucket) change(ctx context.Context, op Op) error {
	fault, err := b.begin(ctx, &op)
	if err != nil {
		return err
	}
	e := &effect{kind: op.Kind, name: op.Name, data: op.Data}
	b.mu.Lock()
	defer b.mu.Unlock()
	if fault.Late || fault.Duplicate {
		b.held = append(b.held, &effect{kind: op.Kind, name: op.Name, data: bytes.Clone(op.Data)})
	}
	switch {
	case fault.Late && fault.Err == nil:
		return op.failed(ErrNoAnswer)
	case fault.Late:
		return op.failed(fault.Err)
	case fault.Err != nil && !fault.AfterEffect && !fault.Duplicate:
		return op.failed(fault.Err)
	}
	err = b.apply(e)
	if fault.Err != nil {
		return op.failed(fault.Err)
	}
	if err != nil {
		return op.failed(err)
	}
	return nil
}

// apply makes a change; the caller holds the lock.
func (s *store) apply(e *effect) error {
	before, stood := s.objects[e.name]
	switch {
	case e.kind == Create && stood:
		return storage.ErrExists
	case e.kind == Create:
		s.set(e.name, e.data)
	case stood:
		s.history = append(s.history, change{e.name, before, true})
		delete(s.objects, e.name)
	}
	return nil
}

// spoil does to an answer what the fault says; it may change the slice.
func (f Fault) spoil(data []byte) []byte {
	if f.Flip > 0 && len(data) > 0 {
		bit := (f.Flip - 1) % (8 * int64(len(data)))
		data[bit/8] ^= 1 << (bit % 8)
	}
	return data[:len(data)-min(max(f.Short, 0), len(data))]
}

func (op *Op) failed(err error) error {
	return fmt.Errorf("%s %s: %w", op.Kind, op.Name, err)
}
