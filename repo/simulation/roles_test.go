package simulation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// role is what one task does, again and again.
type role struct {
	name string
	work func(*task)
	like uint64 // it is the clone of the role that has this number, the founder being 1
}

// roles are those of a run. Each may be switched off by its name.
var roles = []role{
	{name: "writer-1", work: writer}, {name: "writer-2", work: writer}, {name: "writer-3", work: writer},
	{name: "clone of writer-1", work: writer, like: 2},
	{name: "joiner", work: joiner},
	{name: "forgetter", work: forgetter}, {name: "unforgetter", work: unforgetter}, {name: "holder", work: holder},
	{name: "pruner-1", work: pruner}, {name: "pruner-2", work: pruner},
	{name: "damager", work: damager}, {name: "repairer", work: repairer},
	{name: "restorer-1", work: restorer}, {name: "restorer-2", work: restorer},
	{name: "checker", work: checker},
}

// founder creates the repository, through faults. This store needs no probing: whether two may win is up to
// the faults.
func founder(t *task) {
	for {
		made := t.life(false, func(p *process) error {
			_, err := repo.Init(p.ctx, p.bucket(), repo.InitOptions{Recipient: slot{}, SingleWriter: true})
			return err
		}, repo.ErrExists)
		// One whose creation ended in an error may open all the same, as its founder finds out.
		if made || t.world.failed() || t.life(true, func(p *process) error {
			_, err := p.open()
			return err
		}, repo.ErrNoRepository) {
			return
		}
	}
}

// wait lets the others work for a while. No two tasks wake in the same nanosecond, which nobody would
// order.
func (t *task) wait() {
	time.Sleep(time.Duration(t.rand.Int64N(int64(3 * time.Second))))
	t.world.drawFrom(t.random)
}

// linger is the time that a source takes now and then, in which the others go on. At the end of a run
// there is no task, and nobody waits.
func (t *task) linger() {
	if t == nil || t.rand.IntN(3) > 0 {
		return
	}
	for range 1 + t.rand.IntN(2)*t.rand.IntN(8) { // some take very long
		t.wait()
	}
}

// rest is the time that somebody takes who reads a backup.
func (t *task) rest() {
	for i := 0; t != nil && i < 3; i++ {
		t.wait()
	}
}

// writer makes backups. One that failed is made again under the same UID, as a controller does, and
// now and then two machines make the same one at once. Some are made by hand, without a UID.
func writer(t *task) {
	for i := range 3 {
		uid := fmt.Sprintf("%s-%d", t.name, i)
		switch t.rand.IntN(6) {
		case 0:
			uid = fmt.Sprintf("twin-%d", i)
		case 1:
			uid = ""
		}
		for range 3 {
			if t.life(false, func(p *process) error { return backup(t, p, share{uid: uid}) }, t.known()...) {
				break
			}
		}
		t.wait()
	}
}

// known are the errors that a backup may end with although nothing went wrong: what it builds on was
// given up, or it is that of a clone which has drawn the same ID for another snapshot.
func (t *task) known() []error {
	if strings.HasSuffix(t.name, "writer-1") {
		return []error{repo.ErrSuperseded, journal.ErrInvalid}
	}
	return []error{repo.ErrSuperseded}
}

// joiner makes backups by parts: each share is a snapshot of its own, until one is made of them all.
func joiner(t *task) {
	for i := range 2 {
		uid := fmt.Sprintf("joined-%d", i)
		for range 2 {
			t.life(false, func(p *process) error { return backup(t, p, share{part: uid}) }, repo.ErrSuperseded)
		}
		for range 2 {
			if t.life(false, func(p *process) error { return backup(t, p, share{uid: uid, joins: true}) }, repo.ErrSuperseded) {
				break
			}
		}
		t.wait()
	}
}

// share says what a backup is to others.
type share struct {
	uid   string
	part  string // it is a part of the snapshot with this UID
	joins bool   // it is made of the parts of its UID
}

func backup(t *task, p *process, s share) (err error) {
	g, ctx := t.world.ghost, p.ctx
	r, err := p.open()
	if err != nil {
		return err
	}
	parents, next, err := t.choose(ctx, r, s)
	if err != nil {
		return err
	}
	w := r.NewWriter(ctx, repo.WriterOptions{})
	defer func() {
		if closed := w.Close(); err == nil {
			err = closed
		}
	}()
	c := repo.Commit{ID: journal.NewSnapshotID(), UID: s.uid, Part: s.part}
	manifest, made, inherits, err := write(ctx, t, w, next, c.ID, parents)
	if err != nil {
		return err
	}
	t.linger()
	if t.rand.IntN(10) == 0 {
		t.world.count("session ends without a snapshot")
		return nil
	}
	g.announce(made, manifest)
	c.Manifest, c.Started, c.Inherits = manifest, time.Now(), inherits
	if s.joins {
		c.Inherits = nil
		for _, from := range parents {
			c.Parts = append(c.Parts, from.id)
			g.release(from.id)
		}
	}
	got, err := w.Commit(ctx, c)
	if err != nil {
		return err
	}
	if got.ID != c.ID {
		t.world.count("backup was made before")
	} else if len(c.Parts) > 0 {
		t.world.count("parts are joined")
	}
	g.acknowledge(got)
	return nil
}

// choose draws what a backup is to hold, and on what it builds: on up to two live snapshots, or on its
// parts.
func (t *task) choose(ctx context.Context, r *repo.Repository, s share) (parents []source, next picture, err error) {
	live := r.Snapshots()
	if s.joins {
		for _, l := range live {
			if l.Part != s.uid {
				continue
			}
			from, err := readSource(ctx, t.world.ghost, r, l)
			if err != nil && t.world.ghost.mayBeGone(l) {
				continue
			}
			if err != nil {
				return nil, next, err
			}
			parents, next = append(parents, from), next.with(from.of)
		}
		return parents, next, nil
	}
	for i := t.rand.IntN(3); i > 0 && len(live) > 0; i-- {
		l := live[t.rand.IntN(len(live))]
		from, err := readSource(ctx, t.world.ghost, r, l)
		if err != nil && t.world.ghost.mayBeGone(l) {
			continue // a full backup is made, then
		}
		if err != nil {
			return nil, next, err
		}
		parents, next = append(parents, from), from.of
	}
	return parents, next.evolve(t.rand), nil
}

// readSource reads what may be taken over from a snapshot.
func readSource(ctx context.Context, g *ghost, r *repo.Repository, l journal.Live) (source, error) {
	node, err := r.ReadNode(ctx, blob.Ref{Class: blob.Manifest, ID: l.Manifest})
	if err != nil {
		return source{}, err
	}
	from := source{id: l.ID, of: g.pictureOf(l.Manifest)}
	for folder, set := range from.of {
		if set > 0 {
			from.refs[folder], node.Links = node.Links[0], node.Links[1:]
		}
	}
	return from, nil
}

// forgetter forgets live snapshots that are not held, as a retention does.
func forgetter(t *task) {
	for range 6 {
		t.wait()
		t.life(false, func(p *process) error {
			r, err := p.open()
			if err != nil {
				return err
			}
			rash := t.rand.IntN(8) == 0 // it names held ones too
			_, err = r.Forget(p.ctx, func(live []journal.Live) (which []journal.Forget) {
				for _, l := range live {
					if (!l.Held || rash) && len(live) > 1 && t.rand.IntN(2) == 0 {
						t.world.ghost.release(l.ID)
						which = append(which, journal.Forget{ID: l.ID, Who: t.name})
					}
				}
				return which
			})
			return err
		}, repo.ErrHeld)
	}
}

// unforgetter brings snapshots back, if they can come.
func unforgetter(t *task) {
	for range 5 {
		t.wait()
		t.life(false, func(p *process) error {
			r, err := p.open()
			if err != nil {
				return err
			}
			gone := r.Forgotten()
			if len(gone) == 0 {
				return nil
			}
			return r.Unforget(p.ctx, gone[t.rand.IntN(len(gone))].ID)
		}, repo.ErrGone, repo.ErrNoSnapshot)
	}
}

// holder holds snapshots, and lets go of others.
func holder(t *task) {
	for range 3 {
		t.wait()
		t.life(false, func(p *process) error {
			r, err := p.open()
			if err != nil {
				return err
			}
			var hold, release []journal.SnapshotID
			for _, l := range r.Snapshots() {
				switch t.rand.IntN(4) {
				case 0:
					hold = append(hold, l.ID)
				case 1:
					release = append(release, l.ID)
				}
			}
			if err := r.Hold(p.ctx, hold...); err != nil {
				return err
			}
			return r.Release(p.ctx, release...)
		}, repo.ErrForgotten, repo.ErrNoSnapshot)
	}
}

// damager lets a pack rot. Some time later somebody finds out and says so, or the repairer does. Now and
// then somebody is mistaken.
func damager(t *task) {
	for range 7 {
		t.wait()
		var number uint32
		var ok bool
		if t.rand.IntN(2) == 0 {
			number, ok = t.world.ghost.slander(t.rand)
		} else {
			number, ok = t.world.ghost.rot(t.rand)
			t.wait()
			ok = ok && t.rand.IntN(2) == 0
		}
		if !ok {
			continue
		}
		t.world.ghost.declare(number)
		t.life(false, func(p *process) error {
			r, err := p.open()
			if err != nil {
				return err
			}
			return r.MarkDamaged(p.ctx, []journal.Copy{{Pack: number}})
		})
	}
}

// repairer repairs, whether there is anything to repair or not.
func repairer(t *task) {
	for range 3 {
		t.wait()
		t.life(false, func(p *process) error {
			r, err := p.open()
			if err != nil {
				return err
			}
			if t.rand.IntN(3) == 0 {
				_, err = r.RepairIndex(p.ctx, repo.RepairOptions{})
				return err
			}
			report, err := r.RepairPacks(p.ctx, repo.PacksOptions{ReadData: true})
			if len(report.Packs) > 0 {
				t.world.count("packs are repaired")
			}
			return err
		})
	}
}

// pruner prunes, in more or less of a hurry.
func pruner(t *task) {
	for range 6 {
		t.wait()
		o := repo.PruneOptions{MaxDrop: 1, DryRun: t.rand.IntN(8) == 0}
		o.MinLive = []float64{0, 0.95, 1.5}[t.rand.IntN(3)] // the last copies every pack
		o.Grace = []time.Duration{0, 0, repo.DefaultGrace}[t.rand.IntN(3)]
		o.OrphanAge = []time.Duration{0, time.Minute, repo.DefaultOrphanAge}[t.rand.IntN(3)]
		t.life(false, func(p *process) error {
			p.reads = o.DryRun
			r, err := p.open()
			if err != nil {
				return err
			}
			report, err := r.Prune(p.ctx, o)
			if err != nil {
				return err
			}
			t.world.count("prune")
			if report.Markings > 1 {
				t.world.count("a prune marks again")
			}
			return nil
		})
	}
}

// restorer restores snapshots and compares. Half of its lives meet no fault: they must succeed, unless
// the snapshot was forgotten or damaged meanwhile.
func restorer(t *task) {
	for range 2 {
		t.wait()
		t.life(t.rand.IntN(2) == 0, func(p *process) error { return restoreOne(t, p) })
	}
}

func restoreOne(t *task, p *process) error {
	g := t.world.ghost
	p.reads = true
	r, err := p.open()
	if err != nil {
		return err
	}
	live := r.Snapshots()
	if len(live) == 0 {
		return nil
	}
	l := live[t.rand.IntN(len(live))]
	for range t.rand.IntN(4) {
		t.rest() // what it knows grows old
	}
	err = restore(p.ctx, t, r, l.Manifest, g.pictureOf(l.Manifest), l.ID)
	if wrong, is := errors.AsType[errWrong](err); is {
		t.world.fail("%s restores %v: %v", p, l.ID, wrong)
	}
	if err == nil {
		t.world.count("restore")
		if p.misses.Load() > 0 {
			t.world.count("a read finds its pack elsewhere")
		}
	} else if errors.Is(err, repo.ErrDamaged) && g.mayBeGone(l) {
		t.world.count("restore of what is gone")
		return nil
	}
	return err
}

// checker checks, and reports what it finds as a broken promise unless there was damage.
func checker(t *task) {
	for range 2 {
		t.wait()
		t.life(t.rand.IntN(2) == 0, func(p *process) error {
			p.reads = true
			r, err := p.open()
			if err != nil {
				return err
			}
			report, err := r.Check(p.ctx, repo.CheckOptions{ReadData: t.rand.IntN(2) == 0})
			if err != nil {
				return err
			}
			t.world.count("check")
			if len(report.Findings) > 0 && p.faults == 0 && !p.crashed && !t.world.ghost.wasDamaged() {
				t.world.fail("%s: false alarm: %+v", p, report.Findings)
			}
			return nil
		})
	}
}
