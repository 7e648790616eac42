package simulation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/retry"
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
	faults      int          // that it has met
	misses      atomic.Int64 // packs that were not where it looked
	reads       bool         // it must change nothing
	crashed     bool
	random      *rand.ChaCha8
	cache       string
	limits      repo.Limits
}

func (p *process) String() string { return fmt.Sprintf("%s#%d", p.name, p.number) }

// intercept makes a request wait for the scheduler.
func (p *process) intercept(ctx context.Context, op mem.Op) mem.Fault {
	w := p.world
	if p.reads && (op.Kind == mem.Create || op.Kind == mem.Delete) {
		w.fail("%v only reads, and asks for %s %s", p, op.Kind, op.Name)
	}
	r := &request{process: p, op: op, answer: make(chan mem.Fault, 1)}
	w.mu.Lock()
	dead := p.crashed || p.ctx.Err() != nil
	if !dead {
		w.waiting = append(w.waiting, r)
	}
	w.mu.Unlock()
	if dead {
		return mem.Fault{Err: mem.ErrCrashed}
	}
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
type bucket struct {
	*mem.Bucket
	process *process
}

var errLie = errors.New("the store says yes and forgets")

func (b bucket) Create(ctx context.Context, name string, data []byte) error {
	err := b.Bucket.Create(ctx, name, data)
	if errors.Is(err, errLie) {
		return nil
	}
	return err
}

func (b bucket) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	data, err := b.Bucket.Get(ctx, name, offset, length)
	switch {
	case strings.HasPrefix(name, journal.PackFolder) && errors.Is(err, storage.ErrNotFound):
		b.process.misses.Add(1)
	case strings.HasPrefix(name, journal.CheckpointFolder) && err == nil:
		b.process.world.count("a checkpoint is read")
	}
	return data, err
}

// impatience names what a process does who asks once: whatever fails, the repository gets to see. Without it all
// requests go through the repetition that the program puts before a store.
const impatience = "impatience"

func (p *process) bucket() storage.Bucket {
	b := bucket{p.world.store.View(p.intercept), p}
	if p.world.off[impatience] {
		return retry.New(b, retry.Options{})
	}
	return b
}

// task is a role that lives through one process after another.
type task struct {
	world *world
	name  string
	rand  *rand.Rand // what it decides; a clone decides the same

	random *rand.ChaCha8 // of crypto/rand, in its process
}

// seed draws the randomness of a process, which is the same for that of a clone: what an image of a
// machine holds, its copies go on with.
func (t *task) seed() (seed [32]byte) {
	binary.LittleEndian.PutUint64(seed[:], t.rand.Uint64())
	return seed
}

// life runs work in a new process and reports whether it succeeded. An error of a process that neither
// crashed nor met a fault is a broken promise, but for those that it may tell.
func (t *task) life(calm bool, work func(*process) error, may ...error) (done bool) {
	w := t.world
	w.mu.Lock()
	w.processes++
	p := &process{world: w, name: t.name, number: w.processes, calm: calm}
	w.mu.Unlock()
	t.random = rand.NewChaCha8(t.seed())
	p.random = t.random
	w.drawFrom(p.random)
	p.ctx, p.die = context.WithCancel(context.Background())
	defer p.die()
	p.cache, p.limits = w.caches.choose(t), drawLimits(t.rand)
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
			return false
		}
	}
	if err != nil && p.faults == 0 && !p.crashed && !(w.ghost.wasDamaged() && errors.Is(err, repo.ErrDamaged)) {
		w.fail("%s met no fault and fails: %v", p, err)
	}
	return err == nil
}

// smallLimits are those with which a few kilobytes make packs, deposits, segments and checkpoints.
var smallLimits = repo.Limits{Pack: 800, Inline: 700, Deposit: 1, Loose: 12, Checkpoint: 12}

// drawLimits gives each process its own limits: what one made in an entry, another moves into a pack.
func drawLimits(r *rand.Rand) repo.Limits {
	l := smallLimits
	if r.IntN(2) == 0 {
		l.Pack, l.Inline = 8*l.Pack, 4*l.Inline
	}
	return l
}

func options(l repo.Limits) repo.OpenOptions {
	return repo.OpenOptions{Identities: []age.Identity{slot{}}, Limits: l}
}

// open opens the repository as every process does.
func (p *process) open() (*repo.Repository, error) {
	o := options(p.limits)
	o.CacheDir = p.cache
	return repo.Open(p.ctx, p.bucket(), o)
}
