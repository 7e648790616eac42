package simulation

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/varve-dev/varve/repo/storage/mem"
)

// world is one run: the bucket, the processes around it, and the ghost that watches.
type world struct {
	seed   uint64
	off    map[string]bool // roles and faults that this run goes without, see [parts]
	store  *mem.Bucket     // what is really stored, without faults
	ghost  *ghost
	caches *caches

	schedule *rand.Rand // which request goes on
	trouble  *rand.Rand // what happens to it

	mu      sync.Mutex // guards what processes touch at once
	random  *rand.ChaCha8
	waiting []*request
	running int           // tasks that have not ended
	wake    chan struct{} // tells a scheduler that has nothing to do that there is something
	failure string        // the first broken promise

	steps     int
	turns     int // between the scheduler and everybody else
	processes int
	counts    map[string]int // what happened, by name: faults and paths
	sum       hash.Hash64    // of all steps
	tracing   bool           // keep a trace
	wordy     bool           // in which every request stands, and not only what changes something or goes wrong
	trace     []string
}

// request is one request that stands before the scheduler.
type request struct {
	process *process
	op      mem.Op
	answer  chan mem.Fault
}

// maxSteps ends a run that makes no progress.
const maxSteps = 60_000

func newWorld(seed uint64, off map[string]bool) *world {
	stream := func(purpose uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, purpose)) }
	w := &world{seed: seed, off: maps.Clone(off), store: mem.New(), schedule: stream(1), trouble: stream(2),
		wake: make(chan struct{}, 1), counts: map[string]int{}, sum: fnv.New64a()}
	w.caches = &caches{world: w}
	w.ghost = newGhost(w)
	w.omit(stream(3))
	return w
}

// omit leaves out some roles and faults, others in each run: what is always there hides what it prevents.
func (w *world) omit(draw *rand.Rand) {
	if w.off == nil {
		w.off = map[string]bool{}
	}
	for _, part := range parts() {
		if n := draw.IntN(6); n == 0 || n < 4 && part == "damager" {
			w.off[part] = true
		}
	}
}

// Read stands for crypto/rand: everybody who runs draws from the randomness of his own process.
func (w *world) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.Read(b)
}

// drawFrom says whose randomness is that of who runs now.
func (w *world) drawFrom(r *rand.ChaCha8) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.random = r
}

// fail records a broken promise. The first counts; the rest may follow from it.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == "" {
		w.failure = fmt.Sprintf(format, args...)
		w.note("VIOLATION " + w.failure)
	}
}

func (w *world) failed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failure != ""
}

// count notes that something happened.
func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

// note adds a line to the trace. It needs the lock, or that nobody else runs.
func (w *world) note(line string) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%5d %s %s", w.steps, time.Now().Format("01-02T15:04:05.000"), line))
	}
}

// start lets a role run beside the others. Its requests wait for the scheduler from the first on.
func (w *world) start(r role, number uint64) {
	if w.off[r.name] {
		return
	}
	w.running++
	t := &task{world: w, name: r.name, rand: rand.New(rand.NewPCG(w.seed, 1000+cmp.Or(r.like, number)))}
	t.random = rand.NewChaCha8(t.seed())
	first := rand.New(rand.NewPCG(w.seed, 2000+number)).Int64N(int64(2 * time.Second))
	go func() {
		defer w.ended()
		defer func() {
			if p := recover(); p != nil {
				w.fail("%s panics: %v\n%s", r.name, p, debug.Stack())
			}
		}()
		time.Sleep(time.Duration(first))
		r.work(t)
	}()
}

func (w *world) ended() {
	w.mu.Lock()
	w.running--
	w.mu.Unlock()
	w.stir()
}

// stir wakes the scheduler.
func (w *world) stir() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run schedules until all tasks have ended. Between two steps all goroutines stand still.
func (w *world) run() {
	for {
		w.letRun(0)
		if w.failed() || w.steps >= maxSteps {
			break
		}
		if w.running == 0 {
			return
		}
		if len(w.waiting) == 0 {
			w.letRun(untilWoken) // nobody has a request: time passes until a pause is over
			continue
		}
		w.step()
	}
	if !w.failed() {
		w.fail("no end after %d steps", w.steps)
	}
	w.endAll()
}

// untilWoken is as long as it takes until somebody has a request or ends.
const untilWoken = -1

// letRun lets a time pass in which everybody runs who can, and returns when all stand still. The lock
// puts what the scheduler does between two rounds after what they did and before what they do, which the
// race detector wants to see.
func (w *world) letRun(pass time.Duration) {
	turn := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.turns++
	}
	turn()
	switch {
	case pass == untilWoken:
		<-w.wake
	case pass > 0:
		time.Sleep(pass)
	}
	synctest.Wait()
	turn()
}

// step lets one request go on.
func (w *world) step() {
	w.steps++
	w.passTime()
	w.settleHeld()
	if len(w.waiting) == 0 {
		return // time ran out for all of them
	}
	r := w.choose()
	w.withdraw(r)
	f := w.faultFor(r)
	w.record(r, f)
	w.drawFrom(r.process.random)
	r.answer <- f
	w.letRun(0)
	if r.process.crashed {
		r.process.die() // only now, since a context that has ended would keep the last effect away
		w.letRun(0)
	}
	if r.op.Kind == mem.Create || r.op.Kind == mem.Delete {
		w.ghost.observe()
	}
}

// choose draws among the requests in an order that does not depend on which goroutine came first.
func (w *world) choose() *request {
	slices.SortFunc(w.waiting, func(a, b *request) int {
		return cmp.Or(a.process.number-b.process.number, cmp.Compare(a.op.Kind, b.op.Kind), cmp.Compare(a.op.Name, b.op.Name),
			cmp.Compare(a.op.Offset, b.op.Offset), bytes.Compare(a.op.Data, b.op.Data))
	})
	awake := make([]*request, 0, len(w.waiting))
	for _, r := range w.waiting {
		if r.process.pausedUntil <= w.steps {
			awake = append(awake, r)
		}
	}
	if len(awake) == 0 {
		awake = w.waiting // nobody would go on
	}
	r := awake[w.schedule.IntN(len(awake))]
	if w.chance("pause", 25) {
		r.process.pausedUntil = w.steps + w.schedule.IntN(600)
	}
	return r
}

// passTime lets a moment pass now and then, and sometimes days: for what waits by the clock.
func (w *world) passTime() {
	if w.schedule.IntN(4) == 0 {
		w.letRun(time.Duration(w.schedule.IntN(300)) * time.Millisecond)
	}
	if w.chance("jump", 500) {
		ahead := time.Duration(w.schedule.Int64N(int64(50 * time.Hour)))
		w.note("the clock goes ahead by " + ahead.String())
		w.letRun(ahead)
	}
}

// settleHeld lets effects that are held back come now, or never.
func (w *world) settleHeld() {
	held := w.store.Held()
	if len(held) == 0 || w.schedule.IntN(20) > 0 {
		return
	}
	i := w.schedule.IntN(len(held))
	if w.schedule.IntN(4) == 0 {
		w.note(fmt.Sprintf("never comes: %s %s", held[i].Kind, short(held[i].Name)))
		_ = w.store.Drop(i) // it is there
		return
	}
	w.note(fmt.Sprintf("comes late: %s %s", held[i].Kind, short(held[i].Name)))
	if w.store.Release(i) == nil { // else its name was taken meanwhile
		w.counts["late effect lands"]++
	}
	w.ghost.observe()
}

// chance draws whether one in so many happens. It draws also what is switched off, so that the rest of
// the schedule stays as it was.
func (w *world) chance(what string, in int) bool {
	if w.trouble.IntN(in) > 0 || w.off[what] {
		return false
	}
	w.count(what)
	return true
}

// record adds a step to the sum and the trace.
func (w *world) record(r *request, f mem.Fault) {
	var numbers []byte
	for _, n := range []int64{int64(r.process.number), r.op.Offset, r.op.Length, int64(len(r.op.Data)), int64(f.Stale), f.Flip, time.Now().UnixNano()} {
		numbers = binary.LittleEndian.AppendUint64(numbers, uint64(n))
	}
	_, _ = w.sum.Write(numbers)
	_, _ = fmt.Fprintf(w.sum, "%s %s", r.op.Kind, r.op.Name)
	if w.tracing && (w.wordy || f != mem.Fault{} || r.op.Kind == mem.Create || r.op.Kind == mem.Delete) {
		w.note(fmt.Sprintf("%v: %s %s%s", r.process, r.op.Kind, short(r.op.Name), describe(f)))
	}
}

// short leaves of an object's name what tells it from others.
func short(name string) string {
	folder, rest, _ := strings.Cut(name, "/")
	if folder == "journal" || len(rest) < 16 {
		return name
	}
	return folder + "/…" + rest[len(rest)-6:]
}

func describe(f mem.Fault) string {
	var said []string
	say := func(what string, yes bool) {
		if yes {
			said = append(said, what)
		}
	}
	say("has its effect", f.AfterEffect)
	say("comes late", f.Late)
	say("comes twice", f.Duplicate)
	say(fmt.Sprintf("shows the bucket %d effects ago", f.Stale), f.Stale > 0)
	say("a bit flips", f.Flip > 0)
	say(fmt.Sprintf("%d bytes are missing", f.Short), f.Short > 0)
	if f.Err != nil {
		said = append(said, f.Err.Error())
	}
	if len(said) == 0 {
		return ""
	}
	return "   <- " + strings.Join(said, ", ")
}

// endAll crashes every process until all tasks have seen it.
func (w *world) endAll() {
	for w.running > 0 {
		for _, r := range slices.Clone(w.waiting) {
			w.withdraw(r)
			r.process.crashed = true
			r.answer <- mem.Fault{Err: mem.ErrCrashed}
			r.process.die()
		}
		w.letRun(0)
		if w.running > 0 && len(w.waiting) == 0 {
			w.letRun(untilWoken)
		}
	}
}

// withdraw takes a request out of those that wait.
func (w *world) withdraw(r *request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(other *request) bool { return other == r })
}
