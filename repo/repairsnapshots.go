package repo

import (
	"context"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// RecordLosses records of every lost blob that it is: what is known to be lost is stored again by a backup
// that still has it, and keeps no prune from its work. It returns how many blobs that was new of.
//
// A blob of which not even a pack is known was in one that is lost as a whole, with its table: that is said
// of some other pack, which has no good copy of it either. Where no pack is lost nothing explains the loss,
// and the error is [ErrDamaged].
func (r *Repository) RecordLosses(ctx context.Context, l *Losses) (recorded int, err error) {
	var copies []journal.Copy
	for _, ref := range l.Blobs() {
		of, err := r.lostCopies(ref)
		if err != nil {
			return 0, err
		}
		if len(of) > 0 {
			recorded++
		}
		copies = append(copies, of...)
	}
	return recorded, r.MarkDamaged(ctx, copies)
}

// lostCopies are the copies of a lost blob that nothing says of that they are.
func (r *Repository) lostCopies(ref blob.Ref) (copies []journal.Copy, err error) {
	all := r.everyCopy(ref)
	for _, f := range all {
		if !f.damaged {
			copies = append(copies, journal.Copy{Blob: ref, Pack: f.number})
		}
	}
	if len(all) > 0 {
		return copies, nil
	}
	known, explained := false, false
	r.journal.View(func(s *journal.State) {
		for _, c := range s.Damaged {
			known = known || c.Blob == ref
			explained = explained || c.Blob.IsZero()
		}
		for n := range s.Packs {
			other := journal.Copy{Blob: ref, Pack: uint32(n)}
			if len(copies) == 0 && !known && explained && s.Usable(other.Pack) && !s.IsDamaged(other) {
				copies = append(copies, other)
			}
		}
	})
	if !known && len(copies) == 0 {
		return nil, fmt.Errorf("%v is in no pack, and no lost pack explains that: %w", ref, ErrDamaged)
	}
	return copies, nil
}
