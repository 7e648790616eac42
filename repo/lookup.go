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

// refresh brings the index in step with the journal's state and keeps the state in the local cache.
func (r *Repository) refresh(ctx context.Context) error {
	var want []journal.SegmentInfo
	var state []byte
	var next uint64
	var err error
	r.journal.View(func(s *journal.State) {
		want, next = slices.Clone(s.Segments), s.Next
		state, err = s.Encode()
	})
	if err != nil {
		return err
	}
	segments := make([]*index.Segment, len(want))
	for i, w := range want {
		if segments[i], err = r.segment(ctx, w); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make([]blob.Hash, len(want))
	for i, w := range want {
		names[i] = w.Name
	}
	if r.set == nil || !slices.Equal(names, r.segments) {
		r.set, r.indexed, r.segments = new(index.Set), 0, names
		r.journal.View(func(s *journal.State) {
			for _, g := range segments {
				r.set.AddSegment(g, s.Number)
			}
		})
		r.cache.Retain(names)
	}
	r.journal.View(func(s *journal.State) { err = r.addLoose(s) })
	if err != nil {
		return err
	}
	r.cache.SetState(next, state)
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

func (r *Repository) fetchSegment(ctx context.Context, info journal.SegmentInfo) ([]byte, error) {
	name := journal.SegmentName(info.Name)
	sealed, err := r.bucket.Get(ctx, name, 0, -1)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("%s is missing: %w", name, ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
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

// found is one copy of a blob, with the pack it is in.
type found struct {
	number uint32
	pack   journal.Pack
	row    blob.Row
}

// copies returns the readable copies of a blob, those in live packs first. Copies that are known to
// be damaged count as absent.
func (r *Repository) copies(ref blob.Ref) (all []found) {
	r.mu.RLock()
	locations := r.set.Lookup(ref.ID)
	r.mu.RUnlock()
	r.journal.View(func(s *journal.State) {
		for _, l := range locations {
			f := found{number: l.Pack, pack: s.Packs[l.Pack], row: blob.Row{ID: ref.ID, Class: l.Class, Key: l.Key,
				Offset: l.Offset, Stored: l.Stored, Plain: l.Plain, Links: l.Links}}
			if l.Class == ref.Class && f.pack.Status != journal.DroppedPack &&
				!s.IsDamaged(journal.Copy{Blob: ref, Pack: l.Pack}) {
				all = append(all, f)
			}
		}
	})
	slices.SortStableFunc(all, func(a, b found) int { return int(a.pack.Status) - int(b.pack.Status) })
	return all
}
