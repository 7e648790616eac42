package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// harm records what is known to be damaged. It comes when the snapshots are back, so that one comes back of which a
// part was known to be damaged before, and is listed as damaged again.
func (x *journalRepair) harm(ctx context.Context) error {
	x.repo.packs.forgetAll() // what was in memory says nothing of copies that are in the bucket
	copies, err := x.harmed(ctx)
	if err == nil {
		err = x.record(ctx, copies)
	}
	if err != nil {
		return err
	}
	x.report.Recheck = len(x.entries.muted()) > 0
	return x.harmGone(ctx)
}

// record says of copies that they are damaged, and counts those of which that is new.
func (x *journalRepair) record(ctx context.Context, copies []journal.Copy) error {
	x.repo.journal.View(func(s *journal.State) { copies = unrecorded(s, copies) })
	x.report.Damage += len(copies)
	return x.repo.MarkDamaged(ctx, copies)
}

// harmed finds the copies that lost entries call damaged. The packs that were there before the first of these have
// their numbers still. What was added later has another one now, and after an entry that does not open nobody knows
// which: so the copies that may be meant are looked at.
func (x *journalRepair) harmed(ctx context.Context) (copies []journal.Copy, err error) {
	whole := false
	var single []blob.Ref
	x.repo.journal.View(func(s *journal.State) {
		for _, c := range x.entries.damaged {
			switch {
			case int(c.Pack) < len(s.Packs) && s.Packs[c.Pack].Entry < x.entries.first:
				copies = append(copies, c)
			case c.Blob.IsZero():
				whole = true
			default:
				single = append(single, c.Blob)
			}
		}
	})
	for _, ref := range single {
		for _, f := range x.repo.copies(ref) {
			_, err := x.repo.packs.open(ctx, f)
			if err != nil && isDamage(err) { // on its way, perhaps
				_, err = x.repo.packs.open(ctx, f)
			}
			switch {
			case err != nil && isDamage(err):
				copies = append(copies, journal.Copy{Blob: ref, Pack: f.number})
			case err != nil:
				return nil, fmt.Errorf("look at %v in pack %s: %w", ref, f.pack.Name.Short(), err)
			}
		}
	}
	if !whole {
		return copies, nil
	}
	rotten, err := x.rotten(ctx)
	return append(copies, rotten...), err
}

// rotten reads the packs that were added since the first lost entry, and returns those that hold other bytes than
// were stored.
func (x *journalRepair) rotten(ctx context.Context) (copies []journal.Copy, err error) {
	for _, p := range x.standing(func(p journal.Pack) bool { return p.Entry >= x.entries.first }) {
		name, base := p.Object()
		right := false
		for reading := 1; reading <= 2 && !right; reading++ { // what was spoiled on its way is read again
			data, err := x.repo.bucket.Get(ctx, name, base, p.Size)
			if err != nil && !errors.Is(err, storage.ErrNotFound) {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			right = err == nil && seal.HashOf(data) == p.Name
		}
		if !right {
			copies = append(copies, journal.Copy{Pack: p.number})
		}
	}
	return copies, nil
}

// standing returns the packs that are neither dropped nor known to be lost.
func (x *journalRepair) standing(which func(journal.Pack) bool) (packs []numbered) {
	x.repo.journal.View(func(s *journal.State) {
		for n, p := range s.Packs {
			if p.Status != journal.DroppedPack && which(p) && !s.IsDamaged(journal.Copy{Pack: uint32(n)}) {
				packs = append(packs, numbered{uint32(n), p})
			}
		}
	})
	return packs
}

// harmGone records the packs as lost whose objects are gone, and finds the snapshots that have lost something by it.
// A lost entry of a prune has dropped such packs: their objects are deleted, but without the entry they are part of
// the repository again, and so may be snapshots that needed them and were forgotten.
func (x *journalRepair) harmGone(ctx context.Context) error {
	listed, err := x.list(ctx, journal.PackFolder)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(listed))
	for _, name := range listed {
		there[name] = true
	}
	var gone []journal.Copy
	for _, p := range x.standing(func(p journal.Pack) bool { return p.Inline == 0 && !there[journal.PackName(p.Name)] }) {
		_, err := x.repo.bucket.Stat(ctx, journal.PackName(p.Name))
		if errors.Is(err, storage.ErrNotFound) {
			gone = append(gone, journal.Copy{Pack: p.number})
		} else if err != nil {
			return fmt.Errorf("look for %s: %w", journal.PackName(p.Name), err)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	before, err := x.damagedSnapshots(ctx)
	if err == nil {
		err = x.record(ctx, gone)
	}
	if err != nil {
		return err
	}
	after, err := x.damagedSnapshots(ctx)
	for _, id := range after {
		if !slices.Contains(before, id) {
			x.report.Damaged = append(x.report.Damaged, id)
		}
	}
	return err
}

// damagedSnapshots are the live snapshots that have lost something of which the journal knows.
func (x *journalRepair) damagedSnapshots(ctx context.Context) (ids []journal.SnapshotID, err error) {
	live := x.repo.Snapshots()
	manifests := make([]blob.Ref, len(live))
	for i, l := range live {
		manifests[i] = blob.Ref{Class: blob.Manifest, ID: l.Manifest}
	}
	damaged, err := x.repo.Damaged(ctx, manifests...)
	for i, l := range live {
		if damaged[manifests[i]] {
			ids = append(ids, l.ID)
		}
	}
	return ids, err
}
