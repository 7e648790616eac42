package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// A prune takes back the space that no live snapshot needs, beside backups and other prunes. Nothing it
// does rests on a lock or a clock; it rests on the journal:
//
//  1. It folds the journal to a base and marks what the live snapshots of that state reach (mark.go).
//  2. From that it plans (plan.go): packs that hold nothing needed are retired. A retired pack is still
//     readable, and a backup that comes across it takes it back.
//  3. Packs that an earlier prune has retired, longer ago than the grace period, are dropped, and only
//     then their objects deleted (sweep.go), with what interrupted runs have left.
//  4. Packs that hold little that is needed are copied into new ones and retired (repack.go). That takes
//     room, so it comes last: a full disk has got some by then.
//
// Each step is a journal entry which holds only if nothing came after the base that the marking had to
// know; the fold decides that for every reader alike (see journal.State.Overtaken). A prune that was
// overtaken marks again. So a crash at any point leaves a repository like any other: packs that the
// next prune finds retired, or objects that it finds dropped.

// ErrMassDrop means that a prune would have dropped a larger share of what is stored than it may. It comes as a
// [*MassDropError].
var ErrMassDrop = errors.New("prune would drop more than it may")

// MassDropError is [ErrMassDrop] with its figures.
type MassDropError struct {
	Drop Drop
	Max  float64 // the largest share that may be dropped
}

func (e *MassDropError) Error() string {
	return fmt.Sprintf("%v: %d of %d stored bytes, a share of more than %g", ErrMassDrop, e.Drop.Bytes, e.Drop.Stored, e.Max)
}

// Is tells [errors.Is] that it is [ErrMassDrop].
func (e *MassDropError) Is(target error) bool { return target == ErrMassDrop }

// Drop is what a prune drops of what is stored, in bytes.
type Drop struct {
	Bytes  int64 `json:"bytes"`
	Stored int64 `json:"stored"` // before it
}

// exceeds reports whether a prune that may drop such a share at most is stopped.
func (d Drop) exceeds(most float64) bool { return float64(d.Bytes) > most*float64(d.Stored) }

// ErrOvertaken means that a prune gave up because others kept changing what it had marked. What it has done
// until then stands, and running it again succeeds as soon as there are fewer of them.
var ErrOvertaken = errors.New("what was marked is out of date; run it again")

// ErrGrace means that a prune was to wait longer than [MaxGrace].
var ErrGrace = errors.New("the grace period is too long")

// MaxGrace is the longest grace period. What waits longer could be taken back, and the journal would not know
// any more which snapshot it belongs to.
const MaxGrace = journal.ForgottenFor

// Defaults of a prune.
const (
	DefaultGrace     = 24 * time.Hour
	DefaultOrphanAge = 7 * 24 * time.Hour
	DefaultMaxDrop   = 0.5
	DefaultMinLive   = 0.7
)

// maxMarkings bounds how often one prune marks again because it was overtaken.
const maxMarkings = 10

// PruneOptions says how a prune goes about. The zero value keeps nothing any longer than it is needed;
// who has no opinion sets the two times to their defaults.
type PruneOptions struct {
	Grace     time.Duration       // how long a retired pack can be taken back before it is dropped, at most MaxGrace; 0: whatever clocks say
	OrphanAge time.Duration       // objects that no entry names, and parts that nobody joins, are left alone until they are older
	MaxDrop   float64             // the largest share of the stored bytes to drop at once; 0: half
	MinLive   float64             // packs of which less is needed are copied; 0: 0.7
	DryRun    bool                // plan and report, change nothing
	Progress  func(PruneProgress) // called from one goroutine at a time; may be nil
}

// PruneProgress tells what a prune is at: how much of a step is done, in the unit of the step.
type PruneProgress struct {
	Step  PruneStep
	Done  int64
	Total int64 // 0: not known
}

// PruneStep names what a prune is at.
type PruneStep string

// The steps of a prune, in order.
const (
	PruneMarking   PruneStep = "mark"   // snapshots
	PruneDeleting  PruneStep = "delete" // objects
	PruneRepacking PruneStep = "repack" // bytes of packs that are copied
)

// Amount counts objects and their stored bytes.
type Amount struct {
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

func (a *Amount) add(bytes int64) { a.Objects, a.Bytes = a.Objects+1, a.Bytes+bytes }

// PruneReport says what a prune found and did, or with DryRun would do. An object counts in one line
// only; inline packs count, although their bytes stay in the journal.
type PruneReport struct {
	DryRun    bool   `json:"dryRun"`
	Base      uint64 `json:"base"`      // entries folded before marking
	Markings  int    `json:"markings"`  // 1, and one more each time it was overtaken
	Snapshots int    `json:"snapshots"` // live
	Nodes     int    `json:"nodes"`     // distinct nodes and manifests that they reach
	Lost      int    `json:"lost"`      // blobs they need of which every copy is known to be damaged
	Blind     bool   `json:"blind"`     // a node is among them, so what lies beneath is not known, and nothing is dropped

	Kept     Amount `json:"kept"`     // packs that stay as they are
	Retired  Amount `json:"retired"`  // packs that hold nothing needed: to be dropped by a later prune
	Repacked Amount `json:"repacked"` // packs that were copied and retired
	Copies   Amount `json:"copies"`   // new packs with what of them is needed
	Revived  Amount `json:"revived"`  // retired packs that hold what is needed after all
	Waiting  Amount `json:"waiting"`  // packs retired before, whose grace period is not over
	Dropped  Amount `json:"dropped"`  // packs given up
	Orphans  Amount `json:"orphans"`  // objects that no entry names, given up
	Young    Amount `json:"young"`    // such objects, too young to be given up: perhaps of a backup that runs
	Deleted  Amount `json:"deleted"`  // objects deleted, leftovers of earlier prunes and old checkpoints among them

	MergedSegments int `json:"mergedSegments"` // index segments replaced
	MergedInto     int `json:"mergedInto"`     // by so many

	Next    Drop `json:"next"`    // what a later prune will drop, when the grace period of all that is retired is over
	Stopped bool `json:"stopped"` // that one will be stopped by [ErrMassDrop], unless it may drop more than this one

	Warnings []string `json:"warnings,omitempty"` // of what could not be done and only saves time: the next prune does it
}

func (r *PruneReport) warn(what string, err error) {
	if text := fmt.Sprintf("%s: %v", what, err); !slices.Contains(r.Warnings, text) {
		r.Warnings = append(r.Warnings, text)
	}
}

// pruning is one prune from a marking to its end, or to where it is overtaken.
type pruning struct {
	repo    *Repository
	options PruneOptions
	id      journal.TxID
	base    uint64
	state   *journal.State // at the base
	report  *PruneReport
	now     int64  // by this machine's clock, milliseconds since 1970
	done    *deeds // of all markings

	mark   *marking
	bucket listing
	plan   plan
}

// Prune takes back the space that no live snapshot needs. It refuses with [ErrDamaged] when something
// that a live snapshot needs is missing, and with [ErrMassDrop] when it would drop too much at once; both
// before it has taken anything away. The report of a prune that would drop too much is its plan.
func (r *Repository) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	if o.MaxDrop == 0 {
		o.MaxDrop = DefaultMaxDrop
	}
	if o.MinLive == 0 {
		o.MinLive = DefaultMinLive
	}
	if o.Progress == nil {
		o.Progress = func(PruneProgress) {}
	}
	var report PruneReport
	if o.Grace > MaxGrace {
		return report, fmt.Errorf("prune: %w: %v is more than %v", ErrGrace, o.Grace, MaxGrace)
	}
	id, done := journal.NewTxID(), newDeeds()
	for marked := 1; ; marked++ {
		report = PruneReport{DryRun: o.DryRun, Markings: marked, Deleted: report.Deleted, Warnings: report.Warnings,
			Dropped: done.dropped, Orphans: done.orphans, MergedSegments: done.merged, MergedInto: done.mergedInto}
		p := &pruning{repo: r, options: o, id: id, report: &report, now: time.Now().UnixMilli(), done: done}
		err := p.run(ctx)
		if errors.Is(err, ErrOvertaken) && marked < maxMarkings {
			id = journal.NewTxID() // the entries so far are another prune's
			continue
		}
		if errors.Is(err, ErrOvertaken) {
			err = fmt.Errorf("%d times others got in between: %w", marked, err)
		}
		if err != nil {
			return report, fmt.Errorf("prune: %w", err)
		}
		// What is pruned is pruned, whether or not the index can follow now: it does at the next Sync.
		_ = r.refresh(ctx)
		return report, nil
	}
}

func (p *pruning) run(ctx context.Context) error {
	if err := p.repo.refuseUnfinished(ctx); err != nil {
		return err
	}
	if !p.options.DryRun {
		if err := p.forgetParts(ctx); err != nil {
			return err
		}
	}
	steps := []func(context.Context) error{p.begin, p.list, p.markAll, p.makePlan, p.guard}
	if !p.options.DryRun {
		steps = append(steps, p.retire, p.drop, p.sweep, p.repack)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	p.report.foresee(p.options.MaxDrop)
	return nil
}

// foresee tells what the prune will come to that drops what this one and others have retired.
func (r *PruneReport) foresee(maxDrop float64) {
	r.Next.Bytes = r.Retired.Bytes + r.Repacked.Bytes + r.Waiting.Bytes
	r.Next.Stored = r.Next.Bytes + r.Kept.Bytes + r.Revived.Bytes + r.Copies.Bytes
	r.Stopped = r.Next.exceeds(maxDrop)
}

// begin takes the state at which the prune marks.
func (p *pruning) begin(ctx context.Context) error {
	if err := p.repo.Sync(ctx); err != nil {
		return err
	}
	var encoded []byte
	var err error
	p.repo.journal.View(func(s *journal.State) { encoded, err = s.Encode() })
	if err == nil {
		p.state, err = journal.DecodeState(encoded)
	}
	if err != nil {
		return err
	}
	p.base = p.state.Next
	p.report.Base, p.report.Snapshots = p.base, len(p.state.Snapshots)
	return refusePrune(p.state)
}

// commit adds an entry of this prune, unless the prune was overtaken. The entry is built for exactly the
// state that it will follow; building nothing commits nothing.
func (p *pruning) commit(ctx context.Context, build func(*journal.State) (journal.Entry, error)) error {
	nothing := errors.New("nothing to commit")
	var built journal.Entry
	var packs int // before it
	_, err := p.repo.journal.Commit(ctx, func(s *journal.State) (journal.Draft, error) {
		if err := refusePrune(s); err != nil {
			return journal.Draft{}, err
		}
		if s.Overtaken(p.id, p.base) {
			return journal.Draft{}, ErrOvertaken
		}
		e, err := build(s)
		if err != nil {
			return journal.Draft{}, err
		}
		if e.Prune == nil {
			return journal.Draft{}, nothing
		}
		e.Prune.ID, e.Prune.Base = p.id, p.base
		built, packs = e, len(s.Packs)
		return journal.Draft{Entry: e}, nil
	})
	if errors.Is(err, nothing) {
		return nil
	}
	if err == nil {
		p.note(built, packs)
	}
	return err
}

// forgetParts forgets parts that nobody has joined for as long as an orphan is left alone: who made them has
// crashed.
func (p *pruning) forgetParts(ctx context.Context) error {
	before := time.UnixMilli(p.now).Add(-p.options.OrphanAge).UnixMilli()
	_, err := p.repo.Forget(ctx, func(live []journal.Live) (abandoned []journal.Forget) {
		for _, l := range live {
			if l.Part != "" && l.Time <= before && !l.Held {
				abandoned = append(abandoned, journal.Forget{ID: l.ID, Why: "a part that nobody joined"})
			}
		}
		return abandoned
	})
	return err
}

// retire gives notice of packs that hold nothing needed, and takes back retired ones that do.
func (p *pruning) retire(ctx context.Context) error {
	return p.commit(ctx, func(s *journal.State) (e journal.Entry, err error) {
		retire := p.stillIdle(s, p.plan.retire, journal.LivePack)
		revive := journal.NewPacks()
		for n := range journal.Members(p.plan.revive) {
			if s.Packs[n].Status == journal.RetiredPack {
				revive.Add(n)
			}
		}
		if retire.IsEmpty() && revive.IsEmpty() {
			return e, nil
		}
		return journal.Entry{Prune: &journal.Prune{Retire: retire}, Revive: revive}, nil
	})
}

// stillIdle leaves out packs on which an entry since the base relies, and those of another status by now.
func (p *pruning) stillIdle(s *journal.State, packs *journal.Packs, status journal.Status) *journal.Packs {
	idle := journal.NewPacks()
	for n := range journal.Members(packs) {
		if s.Packs[n].Status == status && (status == journal.LivePack || s.Packs[n].RetiredIn < p.base) {
			idle.Add(n)
		}
	}
	return idle
}

// guard stops a prune that would drop a large share at once, the mark of a retention or a prune gone
// wrong: a retired pack can still be taken back, a dropped one cannot.
func (p *pruning) guard(context.Context) error {
	var drop Drop
	for n, pack := range p.state.Packs {
		if pack.Status != journal.DroppedPack {
			drop.Stored += pack.Size
		}
		if p.plan.drop.Contains(uint32(n)) {
			drop.Bytes += pack.Size
		}
	}
	for _, name := range p.plan.orphans {
		size := p.bucket.packs[name].Size
		drop.Stored, drop.Bytes = drop.Stored+size, drop.Bytes+size
	}
	if drop.exceeds(p.options.MaxDrop) {
		return &MassDropError{drop, p.options.MaxDrop}
	}
	return nil
}

// damaged is the answer to something missing or wrong that the state at the base says is there. A prune
// that came since explains it, else it is damage.
func (p *pruning) damaged(ctx context.Context, what error) error {
	if err := p.repo.Sync(ctx); err != nil {
		return err
	}
	overtaken := false
	p.repo.journal.View(func(s *journal.State) { overtaken = s.Overtaken(p.id, p.base) })
	if overtaken {
		return ErrOvertaken
	}
	if errors.Is(what, ErrDamaged) {
		return what
	}
	return fmt.Errorf("%w: %w", ErrDamaged, what)
}

// refusePrune: a prune may do its work only where it knows every feature.
func refusePrune(s *journal.State) error {
	for _, f := range s.Features {
		return fmt.Errorf("feature %q: %w", f.Name, ErrVersion)
	}
	return nil
}

// objectName returns where a name lies that stands for a pack or a segment.
func objectName(folder string, name blob.Hash) string {
	if folder == journal.PackFolder {
		return journal.PackName(name)
	}
	return journal.SegmentName(name)
}
