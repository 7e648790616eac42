package snapshot

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/varve-dev/varve/snapshot/tree"
)

// Change is a place at which two snapshots differ: an object, or a file of a volume.
type Change struct {
	Address Address
	Old     *tree.Entry // nil: it is not in the first snapshot
	New     *tree.Entry // nil: it is not in the second
}

// Diff yields where b differs from a beneath an address: the objects first, then the volumes in the
// order of their names; a volume that only one of them has differs in all its files. An entry differs
// if it says anything else, which includes contents that were stored twice; who wants less compares
// them. Parts that are equal are not loaded. An error ends it.
func Diff(ctx context.Context, a, b *Snapshot, within Address) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		pairs, err := pair(ctx, a, b, within)
		if err != nil {
			yield(Change{}, err)
			return
		}
		for _, p := range pairs {
			for c, err := range tree.Diff(ctx, p.old, p.new, p.keys) {
				if err != nil {
					yield(Change{}, fmt.Errorf("compare snapshots %s and %s: %w", a.ID, b.ID, err))
					return
				}
				if !yield(Change{Address: p.address(c.Key), Old: c.Old, New: c.New}, nil) {
					return
				}
			}
		}
	}
}

// mapPair are two maps to compare, and how a key of theirs becomes an address.
type mapPair struct {
	old, new *tree.Map
	keys     tree.Range
	address  func(key []byte) Address
}

func pair(ctx context.Context, a, b *Snapshot, within Address) (pairs []mapPair, err error) {
	whole := len(within.words) == 0
	if whole || within.InObjects() {
		pairs = append(pairs, mapPair{a.Objects(), b.Objects(), within.at(), ObjectAddress})
		if !whole {
			return pairs, nil
		}
	}
	old, err := a.roots(ctx)
	if err != nil {
		return nil, err
	}
	new, err := b.roots(ctx)
	if err != nil {
		return nil, err
	}
	names := maps.Clone(old)
	maps.Copy(names, new)
	if only := within.Volume(); only != "" {
		_, ok := names[only]
		if !ok {
			return nil, fmt.Errorf("volume %q is neither in snapshot %s nor in %s: %w", only, a.ID, b.ID, ErrNotFound)
		}
		names = map[string]tree.Root{only: {}}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		pairs = append(pairs, mapPair{tree.Open(a.repo, old[name]), tree.Open(b.repo, new[name]), within.at(),
			func(key []byte) Address { return FileAddress(name, key) }})
	}
	return pairs, nil
}

// roots returns the roots of the volumes by name.
func (s *Snapshot) roots(ctx context.Context) (map[string]tree.Root, error) {
	volumes, err := s.Volumes(ctx)
	roots := make(map[string]tree.Root, len(volumes))
	for _, v := range volumes {
		roots[v.Name] = v.Root
	}
	return roots, err
}

// at returns the keys at the address and beneath it.
func (a Address) at() tree.Range {
	r := a.Range()
	if a.depth() > 0 {
		r.From = a.Key()
	}
	return r
}
