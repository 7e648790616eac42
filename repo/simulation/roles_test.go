package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// role is what one task does, again and again.
type role struct {
	name string
	work func(*task)
}

// roles are those of a run. Each may be switched off by its name.
var roles = []role{
	{"writer-1", writer}, {"writer-2", writer}, {"writer-3", writer},
	{"forgetter", forgetter}, {"unforgetter", unforgetter}, {"holder", holder}, {"damager", damager},
	{"pruner-1", pruner}, {"pruner-2", pruner},
	{"restorer-1", restorer}, {"restorer-2", restorer},
	{"checker", checker},
}

// wait lets the others work for a while. No two tasks wake in the same nanosecond, which nobody would
// order.
func (t *task) wait() { time.Sleep(time.Duration(t.rand.Int64N(int64(3 * time.Second)))) }

// linger is the time that a source takes now and then, in which the others go on.
func (t *task) linger() {
	if t.rand.IntN(3) == 0 {
		t.wait()
	}
}

// rest is the time that somebody takes who reads a backup. At the end of a run nobody waits.
func (t *task) rest() {
	if t != nil {
		t.wait()
	}
}

// writer makes backups. One that failed is made again under the same UID, as a controller does, and
// now and then two machines make the same one at once.
func writer(t *task) {
	for i := range 3 {
		uid := fmt.Sprintf("%s-%d", t.name, i)
		if t.rand.IntN(4) == 0 {
			uid = fmt.Sprintf("twin-%d", i)
		}
		for range 3 {
			if t.life(false, func(p *process) error { return backup(t, p, uid) }, repo.ErrSuperseded) {
				break
			}
		}
		t.wait()
	}
}

func backup(t *task, p *process, uid string) (err error) {
	g, ctx := t.world.ghost, p.ctx
	r, err := p.open()
	if err != nil {
		return err
	}
	parents, next, err := readParents(ctx, t.rand, g, r)
	if err != nil {
		return err
	}
	w := r.NewWriter(ctx, repo.WriterOptions{})
	defer func() {
		if closed := w.Close(); err == nil {
			err = closed
		}
	}()
	id := journal.NewSnapshotID()
	manifest, s, inherits, err := write(ctx, t, w, next, id, parents)
	if err != nil {
		return err
	}
	t.linger()
	if t.rand.IntN(10) == 0 {
		t.world.count("session ends without a snapshot")
		return nil
	}
	g.announce(s, manifest)
	got, err := w.Commit(ctx, repo.Commit{ID: id, Manifest: manifest, UID: uid, Started: time.Now(), Inherits: inherits})
	if err != nil {
		return err
	}
	if got.ID != id {
		t.world.count("backup was made before")
	}
	g.acknowledge(got)
	return nil
}

// readParents draws up to two live snapshots and reads what a backup may take over from them, then
// draws what the backup is to hold.
func readParents(ctx context.Context, random *rand.Rand, g *ghost, r *repo.Repository) ([]source, picture, error) {
	var next picture
	var parents []source
	live := r.Snapshots()
	for i := random.IntN(3); i > 0 && len(live) > 0; i-- {
		l := live[random.IntN(len(live))]
		node, err := r.ReadNode(ctx, blob.Ref{Class: blob.Manifest, ID: l.Manifest})
		if err != nil && g.mayBeGone(l.ID) {
			continue // a full backup is made, then
		}
		if err != nil {
			return nil, next, err
		}
		from := source{id: l.ID, of: g.pictureOf(l.ID)}
		for folder, set := range from.of {
			if set > 0 {
				from.refs[folder], node.Links = node.Links[0], node.Links[1:]
			}
		}
		parents, next = append(parents, from), from.of
	}
	return parents, next.evolve(random), nil
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

// damager lets a pack rot. Some time later somebody finds out and says so.
func damager(t *task) {
	for range 4 {
		t.wait()
		number, ok := t.world.ghost.rot(t.rand)
		if !ok {
			continue
		}
		t.wait()
		t.life(false, func(p *process) error {
			r, err := p.open()
			if err != nil {
				return err
			}
			return r.MarkDamaged(p.ctx, []journal.Copy{{Pack: number}})
		})
	}
}

// pruner prunes, in more or less of a hurry.
func pruner(t *task) {
	for range 6 {
		t.wait()
		o := repo.PruneOptions{MaxDrop: 1, DryRun: t.rand.IntN(8) == 0}
		o.MinLive = []float64{0, 0.95}[t.rand.IntN(2)]
		o.Grace = []time.Duration{0, 0, time.Minute, repo.DefaultGrace}[t.rand.IntN(4)]
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
	for range 3 {
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
	err = restore(p.ctx, t, r, l.Manifest, g.pictureOf(l.ID), l.ID)
	if wrong, is := errors.AsType[errWrong](err); is {
		t.world.fail("%s restores %v: %v", p, l.ID, wrong)
	}
	if err == nil {
		t.world.count("restore")
		if p.misses > 0 {
			t.world.count("a read finds its pack elsewhere")
		}
	} else if errors.Is(err, repo.ErrDamaged) && g.mayBeGone(l.ID) {
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

// announce tells the ghost what a snapshot will be, before anybody can see it.
func (g *ghost) announce(s whole, manifest blob.Ref) {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	s.blobs = []blob.Ref{manifest}
	for folder, set := range s.picture {
		if set == 0 {
			continue
		}
		s.blobs = append(s.blobs, s.roots[folder])
		for file := range files {
			if class, data := content(folder, file); set&(1<<file) != 0 {
				s.blobs = append(s.blobs, blob.Ref{Class: class, ID: g.keys.BlobID(class, data)})
			}
		}
	}
	g.known[s.id] = s
}

func (g *ghost) acknowledge(s journal.Snapshot) {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	g.acked = append(g.acked, s.ID)
}

// release gives a snapshot free to be forgotten.
func (g *ghost) release(id journal.SnapshotID) {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	g.released[id] = true
}

func (g *ghost) pictureOf(id journal.SnapshotID) picture {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	return g.known[id].picture
}

// mayBeGone reports whether a snapshot is no longer live, or has a blob without a good copy.
func (g *ghost) mayBeGone(id journal.SnapshotID) bool {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	if _, live := g.state.Snapshot(id); !live {
		return true
	}
	for _, ref := range g.known[id].blobs {
		if g.excused[ref] {
			return true
		}
	}
	return false
}
