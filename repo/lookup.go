package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// refresh brings the index in step with the journal's state and keeps the state in the local cache. One
// goroutine does it at a time, lest one that was slower puts an older index in the place of a newer.
func (r *Repository) refresh(ctx context.Context) error {
	r.refreshing.Lock()
	defer r.refreshing.Unlock()
	for {
		var want []journal.SegmentInfo
		var err error
		r.journal.View(func(s *journal.State) {
			want = slices.Clone(s.Segments)
			err = refuse(s, false)
		})
		if err != nil {
			return err
		}
		segments, replaced, err := r.readSegments(ctx, want)
		if err != nil {
			return err
		}
		if replaced {
			continue
		}
		inStep, err := r.follow(want, segments)
		if err != nil {
			return err
		}
		if inStep {
			r.remember() // first, so that the memory is never behind the cache
			return r.keepState()
		}
	}
}

// readSegments returns the segments of a state, with what stands in for those that are missing or damaged;
// or that the newest state has others.
func (r *Repository) readSegments(ctx context.Context, want []journal.SegmentInfo) (all []*index.Segment, replaced bool, err error) {
	for _, w := range want {
		g, err := r.segment(ctx, w)
		if err == nil {
			if _, stood := r.standIns[w.Name]; stood { // it was only read badly, or somebody put it back
				delete(r.standIns, w.Name)
				r.mended = true
			}
			all = append(all, g)
			continue
		}
		if !errors.Is(err, ErrDamaged) {
			return nil, false, err
		}
		if replaced, err := r.replaced(ctx, want); replaced || err != nil {
			return nil, replaced, err
		}
		made, err := r.standIn(ctx, w, err)
		if err != nil {
			return nil, false, err
		}
		all = append(all, made...)
	}
	return all, false, nil
}

// replaced folds forward and reports whether the state has other segments by now: one that is missing
// was merged with others then, and its object deleted, while this client held an older state.
func (r *Repository) replaced(ctx context.Context, want []journal.SegmentInfo) (yes bool, err error) {
	if err := r.journal.Sync(ctx); err != nil {
		return false, err
	}
	r.journal.View(func(s *journal.State) { yes = !sameSegments(s.Segments, want) })
	return yes, nil
}

// refuse returns an error if the repository has a feature that forbids this work to a program which
// does not know it; this one knows none.
func refuse(s *journal.State, writing bool) error {
	for _, f := range s.Features {
		if f.Required == "prune" || (f.Required == "write" && !writing) {
			continue
		}
		return fmt.Errorf("feature %q: %w", f.Name, ErrVersion)
	}
	return nil
}

// follow puts segments and loose tables of one state into the set. When the state has other segments by
// now, it does nothing: a pack whose table just moved into a segment would be in neither.
func (r *Repository) follow(want []journal.SegmentInfo, segments []*index.Segment) (inStep bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	renewed := false
	r.journal.View(func(s *journal.State) {
		if inStep = sameSegments(s.Segments, want); !inStep {
			return
		}
		if renewed = r.set == nil || r.mended || !sameSegments(want, r.segments); renewed {
			r.set, r.indexed, r.segments, r.mended = new(index.Set), 0, want, false
			for _, g := range segments {
				r.set.AddSegment(g, s.Number)
			}
		}
		err = r.addLoose(s)
	})
	if renewed {
		names := make([]blob.Hash, len(want))
		for i, w := range want {
			names[i] = w.Name
		}
		r.cache.Retain(names)
	}
	return inStep, err
}

func sameSegments(a, b []journal.SegmentInfo) bool {
	return slices.EqualFunc(a, b, func(a, b journal.SegmentInfo) bool { return a.Name == b.Name })
}

// keepState puts the state into the local cache, if it has moved and there is one.
func (r *Repository) keepState() error {
	if r.inMemory {
		return nil
	}
	var state []byte
	var err error
	next := r.kept
	r.journal.View(func(s *journal.State) {
		if s.Next != r.kept {
			next = s.Next
			state, err = s.Encode()
		}
	})
	if err != nil || next == r.kept {
		return err
	}
	r.cache.SetState(next, state)
	r.kept = next
	return nil
}

// addLoose puts the tables that no segment holds into the set.
func (r *Repository) addLoose(s *journal.State) error {
	for ; r.indexed < len(s.Packs); r.indexed++ {
		p := s.Packs[r.indexed]
		rows, err := blob.DecodeRows(p.Rows)
		if err != nil {
			return fmt.Errorf("table of pack %s: %w: %w", p.Name.Short(), ErrDamaged, err)
		}
		if len(rows) > 0 {
			r.set.AddLoose(uint32(r.indexed), rows)
		}
	}
	return nil
}

// segment returns a segment from the cache or else from the bucket.
func (r *Repository) segment(ctx context.Context, info journal.SegmentInfo) (*index.Segment, error) {
	if g, ok := r.cache.Segment(info.Name); ok {
		return g, nil
	}
	plain, err := r.fetchSegment(ctx, info)
	if err != nil {
		return nil, err
	}
	g, err := r.cache.PutSegment(info.Name, plain)
	if err != nil {
		return nil, fmt.Errorf("index segment %s: %w: %w", info.Name.Short(), ErrDamaged, err)
	}
	return g, nil
}

// fetchSegment reads a segment from the bucket. Bytes that were spoiled on their way are not taken for
// damage: what does not hash to its name is read twice.
func (r *Repository) fetchSegment(ctx context.Context, info journal.SegmentInfo) ([]byte, error) {
	name := journal.SegmentName(info.Name)
	for again := true; ; again = false {
		sealed, err := r.bucket.Get(ctx, name, 0, info.Size+1)
		if errors.Is(err, storage.ErrNotFound) {
			return nil, fmt.Errorf("%s is missing: %w", name, ErrDamaged)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		if seal.HashOf(sealed) != info.Name && again {
			continue
		}
		if seal.HashOf(sealed) != info.Name {
			return nil, fmt.Errorf("%s does not hash to its name: %w", name, ErrDamaged)
		}
		plain, err := openSegment(r.keys, sealed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
		}
		return plain, nil
	}
}

// found is one copy of a blob, with the pack it is in.
type found struct {
	number  uint32
	pack    journal.Pack
	row     blob.Row
	damaged bool // as the journal says
}

// copies returns the readable copies of a blob, those in live packs first. Copies that are known to
// be damaged count as absent.
func (r *Repository) copies(ref blob.Ref) []found {
	return slices.DeleteFunc(r.everyCopy(ref), func(f found) bool { return f.damaged })
}

// everyCopy returns the copies of a blob in packs that are not dropped, those in live packs first.
func (r *Repository) everyCopy(ref blob.Ref) (all []found) {
	r.mu.RLock()
	locations := r.set.Lookup(ref.ID)
	r.mu.RUnlock()
	r.journal.View(func(s *journal.State) {
		for _, l := range locations {
			f := found{number: l.Pack, pack: s.Packs[l.Pack], row: blob.Row{ID: ref.ID, Class: l.Class, Key: l.Key,
				Offset: l.Offset, Stored: l.Stored, Plain: l.Plain, Links: l.Links}}
			if l.Class == ref.Class && f.pack.Status != journal.DroppedPack {
				f.damaged = s.IsDamaged(journal.Copy{Blob: ref, Pack: l.Pack})
				all = append(all, f)
			}
		}
	})
	slices.SortStableFunc(all, func(a, b found) int { return int(a.pack.Status) - int(b.pack.Status) })
	return all
}
