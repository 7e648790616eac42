package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// Errors about snapshots that a caller decides on.
var (
	// ErrHeld means that a snapshot is held and so cannot be forgotten.
	ErrHeld = errors.New("the snapshot is held")
	// ErrForgotten means that a snapshot is forgotten already.
	ErrForgotten = errors.New("the snapshot is forgotten")
	// ErrNoSnapshot means that the journal knows no snapshot of an ID, or not any more.
	ErrNoSnapshot = errors.New("there is no such snapshot")
	// ErrGone means that a forgotten snapshot cannot come back.
	ErrGone = errors.New("the snapshot is gone for good")
)

// errSettled means that all stands already as it was asked for.
var errSettled = errors.New("nothing to change")

const (
	// maxForgets bounds what one entry says of forgotten snapshots, in bytes; beyond it another entry
	// follows.
	maxForgets = journal.MaxEntry / 2

	// forgetSize is what one of them takes at most, without its texts.
	forgetSize = 40

	// maxWhy bounds each of the texts that say who forgets a snapshot and why, in bytes.
	maxWhy = 500
)

// Forget lets snapshots be live no longer, and returns those that it has forgotten. Nothing is deleted:
// that is for a prune, and until one drops what they need they can come back, see [Repository.Unforget].
//
// Which snapshots, decide says, given those that are live. It is asked again whenever another writer
// was faster, so that it always decides over the very snapshots that the entry stands behind. It must
// not use the repository. If it names one that is held the error is [ErrHeld], if one is not live
// [ErrForgotten] or [ErrNoSnapshot]; then none of that entry is forgotten. If it names none, no entry is
// written. All stand in one entry, unless they are more than some ten thousand.
func (r *Repository) Forget(ctx context.Context, decide func(live []journal.Live) []journal.Forget) (forgotten []journal.Live, err error) {
	done := map[journal.SnapshotID]bool{}
	for more := true; more; {
		var step []journal.Live
		err := r.change(ctx, func(s *journal.State) (e journal.Entry, err error) {
			which := slices.DeleteFunc(decide(slices.Clone(s.Snapshots)), func(f journal.Forget) bool { return done[f.ID] })
			e.Forget, step, err = forgettable(s, which)
			more = len(step) > 0 && len(step) < len(which)
			return e, err
		})
		if err != nil {
			return forgotten, fmt.Errorf("forget snapshots: %w", err)
		}
		for _, l := range step {
			done[l.ID] = true
		}
		forgotten = append(forgotten, step...)
	}
	return forgotten, nil
}

// forgettable returns as many of the snapshots as fit into one entry, each once, if all can be forgotten
// at this state.
func forgettable(s *journal.State, which []journal.Forget) (fit []journal.Forget, live []journal.Live, err error) {
	size := 0
	seen := map[journal.SnapshotID]bool{}
	for _, f := range which {
		l, err := liveSnapshot(s, f.ID)
		if err != nil {
			return nil, nil, err
		}
		if l.Held {
			return nil, nil, fmt.Errorf("snapshot %v: %w", f.ID, ErrHeld)
		}
		f.Who, f.Why = clip(f.Who), clip(f.Why)
		size += forgetSize + len(f.Who) + len(f.Why)
		if size <= maxForgets && !seen[f.ID] {
			fit, live = append(fit, f), append(live, l)
		}
		seen[f.ID] = true
	}
	if len(fit) == 0 {
		return nil, nil, errSettled
	}
	return fit, live, nil
}

// clip makes a text valid and short.
func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxWhy)], "") }

// Hold keeps live snapshots from being forgotten until [Repository.Release]. One that is held already
// stays so. The error is [ErrForgotten] or [ErrNoSnapshot] if one is not live; then none is held.
func (r *Repository) Hold(ctx context.Context, ids ...journal.SnapshotID) error {
	err := r.change(ctx, func(s *journal.State) (e journal.Entry, err error) {
		e.Hold, err = withHold(s, ids, false)
		return e, err
	})
	if err != nil {
		return fmt.Errorf("hold snapshots: %w", err)
	}
	return nil
}

// Release lets snapshots that are held be forgotten again. One that is not held stays so. The error is
// as that of [Repository.Hold].
func (r *Repository) Release(ctx context.Context, ids ...journal.SnapshotID) error {
	err := r.change(ctx, func(s *journal.State) (e journal.Entry, err error) {
		e.Release, err = withHold(s, ids, true)
		return e, err
	})
	if err != nil {
		return fmt.Errorf("release snapshots: %w", err)
	}
	return nil
}

// withHold returns those of the snapshots that are held, or those that are not.
func withHold(s *journal.State, ids []journal.SnapshotID, held bool) (some []journal.SnapshotID, err error) {
	for _, id := range distinct(ids) {
		l, err := liveSnapshot(s, id)
		if err != nil {
			return nil, err
		}
		if l.Held == held {
			some = append(some, id)
		}
	}
	if len(some) == 0 {
		return nil, errSettled
	}
	return some, nil
}

func distinct(ids []journal.SnapshotID) []journal.SnapshotID {
	sorted := slices.SortedFunc(slices.Values(ids), func(a, b journal.SnapshotID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(sorted)
}

// liveSnapshot returns a live snapshot, or why there is none.
func liveSnapshot(s *journal.State, id journal.SnapshotID) (journal.Live, error) {
	if l, ok := s.Snapshot(id); ok {
		return l, nil
	}
	f, ok := forgottenSnapshot(s, id)
	if !ok {
		return journal.Live{}, fmt.Errorf("snapshot %v: %w", id, ErrNoSnapshot)
	}
	return journal.Live{}, fmt.Errorf("snapshot %v: %w since %s, by %s: %s", id, ErrForgotten,
		time.UnixMilli(f.Time).UTC().Format(time.RFC3339), cmp.Or(f.Forget.Who, "nobody named"), cmp.Or(f.Forget.Why, "no reason given"))
}

func forgottenSnapshot(s *journal.State, id journal.SnapshotID) (journal.Forgotten, bool) {
	i := slices.IndexFunc(s.Forgotten, func(f journal.Forgotten) bool { return f.ID == id })
	if i < 0 {
		return journal.Forgotten{}, false
	}
	return s.Forgotten[i], true
}

// change commits one entry that brings no packs, unless the draft says that all is settled.
func (r *Repository) change(ctx context.Context, draft func(*journal.State) (journal.Entry, error)) error {
	_, err := r.journal.Commit(ctx, func(s *journal.State) (journal.Draft, error) {
		if err := refuse(s, true); err != nil {
			return journal.Draft{}, err
		}
		e, err := draft(s)
		return journal.Draft{Entry: e}, err
	})
	if err != nil && !errors.Is(err, errSettled) {
		return err
	}
	_ = r.refresh(ctx) // what stands is not undone by an index that cannot follow; it does at the next Sync
	return nil
}

// Snapshot returns a live snapshot.
func (r *Repository) Snapshot(id journal.SnapshotID) (live journal.Live, ok bool) {
	r.journal.View(func(s *journal.State) { live, ok = s.Snapshot(id) })
	return live, ok
}

// Blame looks into an error of someone who reads a live snapshot. Damage that he met in one which was
// forgotten meanwhile is none: a prune may have taken what only that snapshot needed. Then the error
// becomes [ErrForgotten]; any other stays as it is.
func (r *Repository) Blame(ctx context.Context, id journal.SnapshotID, err error) error {
	if !errors.Is(err, ErrDamaged) || r.Sync(ctx) != nil {
		return err
	}
	if _, live := r.Snapshot(id); live {
		return err
	}
	return fmt.Errorf("read snapshot %v: meanwhile, %w", id, ErrForgotten)
}

// Forgotten is a snapshot that was forgotten: by whom, why and when.
type Forgotten struct {
	journal.Forgotten
	// Unpruned tells that no prune has marked without it: it can come back for sure. Otherwise it can as
	// long as no prune has dropped what it needs.
	Unpruned bool
	// Gone tells that its manifest is in no pack any more: it cannot come back.
	Gone bool
}

// Forgotten returns the snapshots that were forgotten, in that order. Of those that a prune has marked
// without, the journal forgets the names after 30 days.
func (r *Repository) Forgotten() (all []Forgotten) {
	r.journal.View(func(s *journal.State) {
		for _, f := range s.Forgotten {
			all = append(all, Forgotten{Forgotten: f, Unpruned: s.CanAdopt(f.ID)})
		}
	})
	for i, f := range all {
		all[i].Gone = len(r.copies(blob.Ref{Class: blob.Manifest, ID: f.Manifest})) == 0
	}
	return all
}
