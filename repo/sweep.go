package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
)

// deletions bounds the deletes that are on their way at once.
const deletions = 8

// keptCheckpoints is how many checkpoints stay.
const keptCheckpoints = 2

// checkpointShare says when a prune that changed nothing makes a checkpoint all the same: after a tenth of the
// entries after which a backup would.
const checkpointShare = 10

// drop commits what is given up for good: packs, orphans, segments that are replaced; and a checkpoint. Once
// it stands, the names of all these never count again, so their objects can go.
func (p *pruning) drop(ctx context.Context) error {
	if err := p.repo.refuseUnfinished(ctx); err != nil { // once more: a repair may have begun since the marking
		return err
	}
	if err := p.storeMerged(ctx); err != nil { // a full disk, perhaps; a merge only saves time, and the next prune makes it
		p.report.warn("index segments are not merged", err)
		p.noMerge()
	}
	var checkpoint *journal.Vouched
	var unstored error
	err := p.commit(ctx, func(s *journal.State) (e journal.Entry, err error) {
		prune := &journal.Prune{Drop: p.stillIdle(s, p.plan.drop, journal.RetiredPack)}
		for _, name := range p.plan.orphans {
			merged := p.plan.merge != nil && p.plan.merge.info.Name == name // left by an earlier try, and taken up again
			if !s.Needs(name) && !s.IsGivenUp(name) && !merged {
				prune.Orphans = append(prune.Orphans, name)
			}
		}
		if m := p.plan.merge; m != nil {
			prune.Segments = m.replaced
			if len(m.packs) > 0 {
				e.Segments = []journal.SegmentAdded{journal.SegmentAdded(m.info)}
			}
		}
		changes := !prune.Drop.IsEmpty() || len(prune.Orphans)+len(prune.Segments) > 0
		if !changes && s.Next < s.Checkpoint.Next+p.repo.limits.Checkpoint/checkpointShare {
			return e, nil
		}
		if checkpoint == nil { // else it was stored before a race was lost, and serves as well
			checkpoint, unstored = p.repo.storeCheckpoint(ctx, s)
		}
		if !changes && checkpoint == nil {
			return e, nil
		}
		e.Prune, e.Checkpoint = prune, checkpoint
		return e, nil
	})
	if unstored != nil {
		p.report.warn("no checkpoint is made", unstored)
	}
	return err
}

// sweep deletes the objects that the journal has given up. What is not deleted because of an error or a
// crash is given up all the same, and a later sweep finds it.
func (p *pruning) sweep(ctx context.Context) error {
	doomed := append(p.givenUp(), p.oldCheckpoints()...)
	slices.SortFunc(doomed, func(a, b storage.Info) int { return cmp.Compare(a.Name, b.Name) })
	var mu sync.Mutex // guards the report, the count and the first failure
	var first error
	deleted := 0
	var group errgroup.Group
	group.SetLimit(deletions)
	for _, info := range doomed {
		group.Go(func() error {
			err := p.repo.bucket.Delete(ctx, info.Name)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				p.report.Deleted.add(info.Size)
				deleted++
				p.options.Progress(PruneProgress{Step: PruneDeleting, Done: int64(deleted), Total: int64(len(doomed))})
			} else if first == nil {
				first = err
			}
			return nil // one that fails does not keep the others
		})
	}
	if err := errors.Join(group.Wait(), first); err != nil {
		return fmt.Errorf("delete %d of %d objects that were given up (the next prune will): %w", len(doomed)-deleted, len(doomed), err)
	}
	return nil
}

// givenUp are the objects in the bucket whose names no longer count: dropped packs, orphans, and segments that were
// replaced longer ago than the grace period, since who reads an older state may still want them.
func (p *pruning) givenUp() (gone []storage.Info) {
	p.repo.journal.View(func(s *journal.State) {
		for name, info := range p.bucket.packs {
			number, known := s.Number(name)
			if s.IsGivenUp(name) || (known && s.Packs[number].Status == journal.DroppedPack) {
				gone = append(gone, info)
			}
		}
		for name, info := range p.bucket.segments {
			at, ok := s.GivenUpAt(name)
			if ok && (p.graceOver(at) || slices.Contains(p.plan.orphans, name)) {
				gone = append(gone, info)
			}
		}
	})
	return gone
}

// oldCheckpoints are those with which nobody begins any more. The two newest that an entry vouches for stay: one
// may turn out to be unreadable.
func (p *pruning) oldCheckpoints() []storage.Info {
	var vouched journal.Vouched
	p.repo.journal.View(func(s *journal.State) { vouched = s.Checkpoint })
	newest := journal.CheckpointName(vouched.Next)
	old := slices.DeleteFunc(slices.Clone(p.bucket.checkpoints), func(info storage.Info) bool { return info.Name >= newest })
	return old[:max(0, len(old)-keptCheckpoints+1)]
}
