package repo

import (
	"context"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
)

// walk goes through all that lies beneath blobs, manifests as a rule, depth first and in the order of the
// links. It meets each distinct blob once, however many snapshots share it. What a walk is for is up to
// enter and leave: a prune needs links alone and enters in one fixed state, a repair opens the nodes and
// asks the newest state, and who wants to know what is touched by a loss hands it upwards when he leaves.
//
// Memory is a bit for each row of the index, and the links of the nodes between the root and where the walk
// is. The path is kept in a slice: how deep a damaged or hostile repository is costs no stack.
type walk struct {
	met *marks

	// enter is called with a blob that is met the first time and with its copies in the index of the marks.
	// It returns what to walk beneath it. A blob that is lost has nothing beneath it, unless that is to end
	// the walk.
	enter func(ctx context.Context, ref blob.Ref, copies []index.Location) (links []blob.Ref, err error)

	// leave is called with a blob beneath which everything was met, and with its links; may be nil.
	leave func(ref blob.Ref, links []blob.Ref)
}

// step is a blob on the way from the root to where a walk is.
type step struct {
	ref   blob.Ref
	links []blob.Ref
	next  int // of the links
}

// from walks a blob and all beneath it that was not met before. After an error what was not left counts as
// not met, so that another walk by way of it finds what this one did not.
func (w *walk) from(ctx context.Context, root blob.Ref) error {
	var path []step
	for ref := root; ; {
		if copies, first := w.met.add(ref); first {
			path = append(path, step{ref: ref})
			err := ctx.Err()
			if err == nil {
				path[len(path)-1].links, err = w.enter(ctx, ref, copies)
			}
			if err != nil {
				for _, s := range path {
					w.met.remove(s.ref)
				}
				return err
			}
		}
		for len(path) > 0 && path[len(path)-1].next == len(path[len(path)-1].links) {
			s := path[len(path)-1]
			path = path[:len(path)-1]
			if w.leave != nil {
				w.leave(s.ref, s.links)
			}
		}
		if len(path) == 0 {
			return nil
		}
		s := &path[len(path)-1]
		ref = s.links[s.next]
		s.next++
	}
}

// marks are set on blobs: one bit for each row of an index, on all copies of a blob. The index is the one
// that the marks began with, though the repository may have another by now: who was marked stays so
// wherever a prune moves it.
//
// Rows know the first 16 bytes of a blob's ID. Two blobs that share them would be marked together; with keyed
// hashes that takes some 2⁶⁴ blobs.
type marks struct {
	set    *index.Set
	rows   []uint64
	others map[blob.Ref]struct{} // marked, and in no row: lost, or younger than the index
}

func newMarks(set *index.Set) *marks {
	return &marks{set: set, rows: make([]uint64, (set.Len()+63)/64), others: map[blob.Ref]struct{}{}}
}

// newMarks are those of the index as it is now.
func (r *Repository) newMarks() *marks {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return newMarks(r.set)
}

// has reports whether the blob of a row is marked.
func (m *marks) has(row int) bool {
	return row/64 < len(m.rows) && m.rows[row/64]&(1<<(row%64)) != 0
}

// add marks a blob. It returns its copies, if it was not marked before.
func (m *marks) add(ref blob.Ref) (copies []index.Location, first bool) {
	if _, before := m.others[ref]; before {
		return nil, false
	}
	for row, l := range m.set.Find(ref.ID) {
		if l.Class != ref.Class {
			continue
		}
		if m.has(row) {
			return nil, false
		}
		for row/64 >= len(m.rows) {
			m.rows = append(m.rows, 0)
		}
		m.rows[row/64] |= 1 << (row % 64)
		copies = append(copies, l)
	}
	if copies == nil {
		m.others[ref] = struct{}{}
	}
	return copies, true
}

// remove takes the mark of a blob away.
func (m *marks) remove(ref blob.Ref) {
	delete(m.others, ref)
	for row, l := range m.set.Find(ref.ID) {
		if l.Class == ref.Class && m.has(row) {
			m.rows[row/64] &^= 1 << (row % 64)
		}
	}
}
