// Package probe finds out whether a store keeps the promises of [storage.Bucket] on which a repository
// rests, before anybody entrusts a backup to it.
//
// Stores that speak a dialect of S3 differ most where it matters most. Some do not know the condition
// "only if the name is free" and overwrite; some let two of several racing writers win now and then; a
// gateway in between may answer from its cache. None of this shows in a trial backup. So each
// [Capability] is tried by itself and gets a [Verdict], and what goes wrong in a known way is called by
// its name, a [Fault], which says what it means for who operates the store.
//
//	report, err := probe.Run(ctx, bucket, probe.Options{})
//	if err == nil {
//		err = report.Err()   // ErrUnfit: look for another store
//	}
//
// [Decides] is the short form, for the moment before a repository is made: does the store decide between
// writers who create the same name?
//
// What cannot be shown by asking is not claimed. A store may pass today and let two writers win once in a
// million times, and none is asked to prove that it keeps an object through a power cut.
//
// # What it leaves behind
//
// Every object of a run has a name that begins with [Prefix] and the run's own random digits. All are
// removed at the end, after an interrupt too. What a killed run has left, a later one removes once it is
// an hour old. Where the credential may not delete, little is stored, and the report says where: no
// repository looks at these names, so there it does no harm.
package probe

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

// Prefix begins the names of all objects that a probe stores.
const Prefix = "probe-"

// ErrUnfit means that a store does not keep the promises on which a repository rests.
var ErrUnfit = errors.New("the store is not fit to hold a repository")

// Options say how thoroughly to look. The zero value is the complete probe.
type Options struct {
	// Quick leaves out what takes long: many objects, a large one, and the wait before the winners of
	// the races are read once more. It runs fewer races, too.
	Quick bool

	// Settle is how long after the last race the winners are read again; 0 is five seconds. Some stores
	// reconcile two winners only after a while.
	Settle time.Duration

	// Progress is told before each capability is tried. It may be nil.
	Progress func(Progress)
}

// Progress is how far a probe is.
type Progress struct {
	Step        string // what is tried now
	Done, Total int    // capabilities
}

// How much is tried.
const (
	writers     = 16
	rounds      = 8
	quickRounds = 2
	settleTime  = 5 * time.Second
	randomBytes = 8 // in the name of a run
)

// A check tries one capability. It returns what was seen, and nil if the store has the capability, a flaw
// if it does not, untold if it cannot be known, and any other error if the store did not answer.
type check struct {
	capability Capability
	step       string
	slow       bool // takes long, so that a quick probe leaves it out
	bulky      bool // stores much that must be removed again
	run        func(*prober, context.Context) (saw string, err error)
}

// checks are in the order of their running. The first shows that anything can be stored at all, and the
// second whether it can be removed again. The last comes late, so that little is left to wait.
func checks() []check {
	return []check{
		{capability: Create, step: "create a name that is taken", run: (*prober).taken},
		{capability: Delete, step: "delete", run: (*prober).deletes},
		{capability: Race, step: "race", run: (*prober).races},
		{capability: Read, step: "read what was just written", run: (*prober).reads},
		{capability: Ranges, step: "read ranges", run: (*prober).ranges},
		{capability: List, step: "list what was just written", run: (*prober).lists},
		{capability: Names, step: "use all names", run: (*prober).names},
		{capability: Pages, step: "list many objects", slow: true, bulky: true, run: (*prober).pages},
		{capability: Size, step: "store a large object", slow: true, bulky: true, run: (*prober).large},
		{capability: Clock, step: "compare clocks", run: (*prober).clock},
		{capability: Versioning, step: "ask for versioning", run: (*prober).versioning},
		{capability: Lock, step: "ask for Object Lock", run: (*prober).lock},
		{capability: Settled, step: "read the winners of the races again", slow: true, run: (*prober).settled},
	}
}

// Run tries everything that a repository needs of a store, and some more that its operator should know.
//
// It returns an error when nothing could be found out (no bucket, no credentials, no answer) and when ctx
// ended. What the store does wrong is no error here: it stands in the report.
func Run(ctx context.Context, b storage.Bucket, o Options) (report Report, err error) {
	p := newProber(b, o)
	report.URL = b.String()
	defer func() {
		report.Left = p.sweep(ctx)
		report.Suitable = err == nil && report.Err() == nil
	}()
	all := checks()
	for i, c := range all {
		if o.Progress != nil {
			o.Progress(Progress{Step: c.step, Done: i, Total: len(all)})
		}
		f := p.try(ctx, c)
		if err := ctx.Err(); err != nil {
			return report, fmt.Errorf("probe %s: %w", b, err)
		}
		if p.nothing && f.failure != nil {
			return report, fmt.Errorf("probe %s: %w", b, f.failure)
		}
		report.Findings = append(report.Findings, f)
	}
	return report, nil
}

// Decides returns nil if a store refuses to create what is there already and lets one of several racing
// writers win. It returns an error that wraps [ErrUnfit] if it does not, and another one if that could not
// be found out. It takes some twenty requests and leaves nothing behind, unless it may not delete.
func Decides(ctx context.Context, b storage.Bucket) error {
	p := newProber(b, Options{})
	defer p.remove(ctx)
	_, err := p.taken(ctx)
	if err == nil {
		err = p.race(ctx, p.folder+"race", writers/2)
	}
	if f, flawed := errors.AsType[*flaw](err); flawed {
		return fmt.Errorf("%w: %w", ErrUnfit, f)
	}
	if err != nil {
		return fmt.Errorf("find out whether the store decides between writers: %w", err)
	}
	return nil
}

// prober is one run.
type prober struct {
	bucket  storage.Bucket
	options Options
	folder  string // where the objects of this run are, with a slash at its end

	nothing    bool // could be stored so far
	stuck      bool // what is stored cannot be removed
	overwrites bool // small objects, too

	raced        map[string][]byte // what the winners of the races wrote
	lastRace     time.Time
	clockOfStore time.Time // zero until it was asked

	mu   sync.Mutex
	made map[string]bool // names that may be there
}

func newProber(b storage.Bucket, o Options) *prober {
	var random [randomBytes]byte
	_, _ = rand.Read(random[:]) // it returns no error
	if o.Settle == 0 {
		o.Settle = settleTime
	}
	return &prober{
		bucket: b, options: o, folder: Prefix + hex.EncodeToString(random[:]) + "/",
		nothing: true, raced: map[string][]byte{}, made: map[string]bool{},
	}
}

// try runs a check, unless there is a reason not to.
func (p *prober) try(ctx context.Context, c check) Finding {
	switch {
	case p.options.Quick && c.slow:
		return finding(c.capability, "", untold("left out of a quick probe"))
	case p.nothing && c.capability != Create:
		return finding(c.capability, "", untold("nothing can be stored to try it"))
	case p.stuck && c.bulky:
		return finding(c.capability, "", untold("left out, since what it stores could not be removed again; a credential that may delete can try it"))
	}
	saw, err := c.run(p, ctx)
	return finding(c.capability, saw, err)
}

// create stores an object, and remembers that it may be there whatever the answer is.
func (p *prober) create(ctx context.Context, name string, data []byte) error {
	p.mu.Lock()
	p.made[name] = true
	p.mu.Unlock()
	return p.bucket.Create(ctx, name, data)
}

// written is the bytes of an object: of its own length and contents for each number, and nowhere the same
// as a little further on, so that a mixture or a shift shows.
func written(number, length int) []byte {
	data := make([]byte, length+number)
	state := uint64(number)*0x9e3779b97f4a7c15 + 1
	for i := range data { // xorshift64
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		data[i] = byte(state >> 32)
	}
	return data
}
