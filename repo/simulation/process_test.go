package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// process is one life of a machine: a view of the bucket that dies as a whole.
type process struct {
	world       *world
	name        string
	number      int
	calm        bool // it meets no faults
	ctx         context.Context
	die         context.CancelFunc
	pausedUntil int
	faults      int // that it has met
	crashed     bool
	cache       string
}

func (p *process) String() string { return fmt.Sprintf("%s#%d", p.name, p.number) }

// intercept makes a request wait for the scheduler.
func (p *process) intercept(ctx context.Context, op mem.Op) mem.Fault {
	if p.crashed || p.ctx.Err() != nil {
		return mem.Fault{Err: mem.ErrCrashed}
	}
	w := p.world
	r := &request{process: p, op: op, answer: make(chan mem.Fault, 1)}
	w.mu.Lock()
	w.waiting = append(w.waiting, r)
	w.mu.Unlock()
	w.stir()
	select {
	case f := <-r.answer:
		return f
	case <-ctx.Done(): // who asked has given up
		w.withdraw(r)
		return mem.Fault{}
	}
}

// bucket is the view of a process. A lie of the store is an error that the process does not get to see.
type bucket struct{ *mem.Bucket }

var errLie = errors.New("the store says yes and forgets")

func (b bucket) Create(ctx context.Context, name string, data []byte) error {
	err := b.Bucket.Create(ctx, name, data)
	if errors.Is(err, errLie) {
		return nil
	}
	return err
}

func (p *process) bucket() bucket { return bucket{p.world.store.View(p.intercept)} }

// task is a role that lives through one process after another.
type task struct {
	world *world
	name  string
	rand  *rand.Rand
}

// life runs work in a new process and returns its error, unless the process crashed or met faults that
// explain one. An error of a process that met none is a broken promise, but for those it may tell.
func (t *task) life(calm bool, work func(*process) error, may ...error) (ended bool) {
	w := t.world
	w.mu.Lock()
	w.processes++
	p := &process{world: w, name: t.name, number: w.processes, calm: calm}
	w.mu.Unlock()
	p.ctx, p.die = context.WithCancel(context.Background())
	defer p.die()
	p.cache = w.caches.choose(t)
	err := work(p)
	if w.failed() {
		return true
	}
	w.caches.keep(t, p.cache)
	if w.tracing && err != nil {
		w.mu.Lock()
		w.note(fmt.Sprintf("%s ends: %v", p, err))
		w.mu.Unlock()
	}
	for _, told := range may {
		if errors.Is(err, told) {
			w.count(told.Error())
			return true
		}
	}
	if err != nil && p.faults == 0 && !p.crashed && !(w.ghost.wasDamaged() && errors.Is(err, repo.ErrDamaged)) {
		w.fail("%s met no fault and fails: %v", p, err)
	}
	return err == nil
}

// open opens the repository as every process does.
func (p *process) open() (*repo.Repository, error) {
	o := options()
	o.CacheDir = p.cache
	return repo.Open(p.ctx, p.bucket(), o)
}
