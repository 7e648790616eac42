package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// Repair works like everything else that writes: it stores new objects and commits entries that say what
// they are, beside backups, restores and prunes. It changes no object and deletes none, but for entries
// of a journal that nobody can read (see [RepairJournal]), which it keeps under another name. What it
// replaces is deleted by a later prune, in its own time.
//
//   - [Repository.RepairIndex] makes index segments anew from the tables of packs.
//   - [Repository.RepairPacks] saves what damaged packs still hold, and records the rest as damaged.
//   - [Repository.Losses] tells what no repair brought back. A backup that still has it stores it again,
//     because a copy that is known to be bad counts as absent.

// RepairOptions say how to repair.
type RepairOptions struct {
	DryRun   bool                    // only tell what would be done
	Progress func(done, total int64) // bytes of packs looked at so far; may be nil
}

// maxDamaged is how many copies one entry records as damaged, far below what fits into it.
const maxDamaged = 8192

// MarkDamaged records that copies of blobs are bad: nothing relies on them from now on, and a backup that
// has the content stores it again. A copy with a zero blob stands for all of its pack. What is recorded
// already, or is of a pack that was dropped meanwhile, is passed over.
func (r *Repository) MarkDamaged(ctx context.Context, copies []journal.Copy) error {
	for some := range slices.Chunk(copies, maxDamaged) {
		err := r.change(ctx, func(s *journal.State) (journal.Entry, error) {
			left := unrecorded(s, some)
			if len(left) == 0 {
				return journal.Entry{}, errSettled
			}
			return journal.Entry{Damaged: left}, nil
		})
		if err != nil {
			return fmt.Errorf("record damage: %w", err)
		}
	}
	return nil
}

func unrecorded(s *journal.State, copies []journal.Copy) (left []journal.Copy) {
	for _, c := range copies {
		if !s.IsDamaged(c) && s.Packs[c.Pack].Status != journal.DroppedPack {
			left = append(left, c)
		}
	}
	return left
}

// KnowsDamage reports whether any copy of a blob is recorded as damaged. As long as none is, nobody needs
// to look for losses.
func (r *Repository) KnowsDamage() (yes bool) {
	r.journal.View(func(s *journal.State) { yes = len(s.Damaged) > 0 })
	return yes
}

// Losses is what is lost of some blobs and all that lies beneath them. The zero value has lost nothing.
type Losses struct {
	gone   map[blob.Ref]bool     // no good copy is left
	above  map[blob.Ref]blob.Ref // nodes with something gone beneath, and one such blob of each
	broken map[blob.Ref]bool     // nodes with a node gone beneath, so that not all beneath is known
}

// None reports whether nothing is lost.
func (l *Losses) None() bool { return l == nil || len(l.gone) == 0 }

// Gone reports whether a blob itself is lost.
func (l *Losses) Gone(ref blob.Ref) bool { return l != nil && l.gone[ref] }

// Touches reports whether a blob or anything beneath it is lost.
func (l *Losses) Touches(ref blob.Ref) bool {
	_, lost := l.one(ref)
	return lost
}

// one returns a lost blob, the one given or one beneath it.
func (l *Losses) one(ref blob.Ref) (one blob.Ref, lost bool) {
	if l.Gone(ref) {
		return ref, true
	}
	if l != nil {
		one, lost = l.above[ref]
	}
	return one, lost
}

// Touching tells the same as one finding of a check, number 0.
func (l *Losses) Touching(ref blob.Ref) (findings []int, lost bool) {
	if l.Touches(ref) {
		findings = []int{0}
	}
	return findings, l.Gone(ref)
}

// Breaks reports whether a node, the one given or one beneath it, is lost, so that not even the names of
// all that lies beneath are known.
func (l *Losses) Breaks(ref blob.Ref) bool {
	return l != nil && (l.broken[ref] || l.gone[ref] && ref.Class.HasLinks())
}

// Blobs returns the lost blobs in ascending order.
func (l *Losses) Blobs() []blob.Ref {
	if l == nil {
		return nil
	}
	all := make([]blob.Ref, 0, len(l.gone))
	for ref := range l.gone {
		all = append(all, ref)
	}
	slices.SortFunc(all, blob.Ref.Compare)
	return all
}

// Losses walks all that blobs reach, each distinct node once, and finds what has no good copy left as far
// as the journal knows, and nodes that do not open. It reads nodes and no contents, and its memory grows
// with what is lost.
func (r *Repository) Losses(ctx context.Context, roots ...blob.Ref) (*Losses, error) {
	w := r.newLossWalk(nil)
	for _, root := range roots {
		if err := w.from(ctx, root); err != nil {
			return nil, err
		}
	}
	return w.Losses, nil
}

// manifests are those of all snapshots, the forgotten ones last.
func (r *Repository) manifests() (all []blob.Ref) {
	r.journal.View(func(s *journal.State) {
		for _, l := range s.Snapshots {
			all = append(all, blob.Ref{Class: blob.Manifest, ID: l.Manifest})
		}
		for _, f := range s.Forgotten {
			all = append(all, blob.Ref{Class: blob.Manifest, ID: f.Manifest})
		}
	})
	return all
}

// lossWalk finds losses as it goes.
type lossWalk struct {
	walk
	*Losses
	repo  *Repository
	visit func(blob.Ref) // is told of every blob; may be nil
}

func (r *Repository) newLossWalk(visit func(blob.Ref)) *lossWalk {
	w := &lossWalk{repo: r, visit: visit,
		Losses: &Losses{gone: map[blob.Ref]bool{}, above: map[blob.Ref]blob.Ref{}, broken: map[blob.Ref]bool{}}}
	w.walk = walk{met: r.newMarks(), enter: w.look, leave: w.sum}
	return w
}

// look finds out whether a blob is lost.
func (w *lossWalk) look(ctx context.Context, ref blob.Ref, _ []index.Location) ([]blob.Ref, error) {
	if w.visit != nil {
		w.visit(ref)
	}
	if !ref.Class.HasLinks() {
		if len(w.repo.copies(ref)) == 0 {
			w.gone[ref] = true
		}
		return nil, nil
	}
	n, err := w.repo.ReadNode(ctx, ref)
	if errors.Is(err, ErrDamaged) {
		w.gone[ref] = true
		return nil, nil
	}
	return n.Links, err
}

// sum hands upwards what is lost beneath a node.
func (w *lossWalk) sum(ref blob.Ref, links []blob.Ref) {
	for _, l := range links {
		if one, lost := w.one(l); lost {
			w.above[ref] = one
		}
		if w.Breaks(l) {
			w.broken[ref] = true
		}
	}
}
