package repo

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// A long session does not keep its packs to itself until it commits. Now and then it adds those that are
// stored to the journal: from then on they are packs like any other, on which the session's snapshot
// will rely as on any other. So a run that is interrupted has not worked in vain, an entry stays small
// however much a session writes, and so does an index segment.

// depositTime bounds the last deposit of a session that ends without a snapshot.
const depositTime = 5 * time.Second

// ownPack is a pack of a session that the journal does not know yet.
type ownPack struct {
	journal.Added
	stored atomic.Bool // its upload has ended well
}

// deposit adds the stored packs to the journal, if there are at least so many and no other call is at it.
func (w *Writer) deposit(ctx context.Context, atLeast int) error {
	if !w.depositing.TryLock() {
		return nil
	}
	defer w.depositing.Unlock()
	ready := w.storedPacks()
	if len(ready) < atLeast {
		return nil
	}
	if err := w.addPacks(ctx, ready, nil, nil); err != nil {
		return err
	}
	if err := w.repo.refresh(ctx); err != nil {
		return err
	}
	return w.disown(ready)
}

// leavePacks is the last deposit of a session without a snapshot. What it cannot add is left as by a
// crash, and costs space until a prune.
func (w *Writer) leavePacks() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), depositTime)
	defer cancel()
	if !w.depositing.TryLock() {
		return
	}
	defer w.depositing.Unlock()
	if w.leave(ctx, w.storedPacks(), nil, nil) == nil {
		_ = w.repo.refresh(ctx)
	}
}

// leave adds packs of a session that has failed to the journal, for later sessions, but for those of them
// that are given up or in it.
func (w *Writer) leave(ctx context.Context, packs []journal.Added, inline []byte, segment *gathered) error {
	if len(packs) == 0 {
		return nil
	}
	if err := w.repo.journal.Sync(ctx); err != nil {
		return err
	}
	var left []journal.Added
	w.repo.journal.View(func(s *journal.State) {
		for _, a := range packs {
			if _, known := s.Number(a.Name); !known && !s.IsGivenUp(a.Name) {
				left = append(left, a)
			}
		}
	})
	if len(left) == 0 {
		return nil
	}
	if len(left) < len(packs) {
		segment = nil // it has the tables of all of them
	}
	if !slices.ContainsFunc(left, func(a journal.Added) bool { return a.Inline }) {
		inline = nil
	}
	return w.addPacks(ctx, left, inline, segment)
}

// addPacks commits an entry that makes packs known and nothing else.
func (w *Writer) addPacks(ctx context.Context, packs []journal.Added, inline []byte, segment *gathered) (err error) {
	if segment == nil {
		var stored int64
		if segment, stored, err = w.repo.storeSegment(ctx, packs); err != nil {
			return err
		}
		w.count(WriterStats{StoredBytes: stored})
	}
	reliance := w.reliance() // now, since a draft keeps the journal from others and must not wait for an upload
	committed, err := w.repo.journal.Commit(ctx, func(s *journal.State) (journal.Draft, error) {
		e, err := additions(s, packs, segment)
		if retired := retired(s, reliance); err == nil && !retired.IsEmpty() {
			e.Revive = retired
		}
		return journal.Draft{Entry: e, Inline: inline}, err
	})
	w.count(WriterStats{StoredBytes: committed.Stored})
	return err
}

// retired are those of the packs that a session builds on which a prune has retired meanwhile, since no snapshot
// needs them yet. Taken back with every deposit, they outlive the grace period however long a session is.
func retired(s *journal.State, reliance *journal.Packs) *journal.Packs {
	retired := journal.NewPacks()
	for number := range journal.Members(reliance) {
		if s.Packs[number].Status == journal.RetiredPack {
			retired.Add(number)
		}
	}
	return retired
}

func (w *Writer) storedPacks() (stored []journal.Added) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.own {
		if p.stored.Load() {
			stored = append(stored, p.Added)
		}
	}
	return stored
}

// disown turns own packs into packs that the session relies on. Their blobs are found in the index from
// now on, so that what a session holds in memory does not grow with what it writes.
func (w *Writer) disown(packs []journal.Added) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range packs {
		rows, err := blob.DecodeRows(a.Rows)
		if err != nil {
			return fmt.Errorf("table of pack %s: %w", a.Name.Short(), err)
		}
		for _, row := range rows {
			delete(w.mine, row.ID)
		}
		w.own = slices.DeleteFunc(w.own, func(p *ownPack) bool { return p.Name == a.Name })
	}
	w.repo.journal.View(func(s *journal.State) {
		for _, a := range packs {
			number, _ := s.Number(a.Name) // just added
			w.deposited.Add(number)
		}
	})
	return nil
}

// ownAdded is what the entry of a snapshot adds.
func (w *Writer) ownAdded() []journal.Added {
	added := make([]journal.Added, len(w.own))
	for i, p := range w.own {
		added[i] = p.Added
	}
	return added
}
