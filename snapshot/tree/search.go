package tree

import (
	"context"
	"iter"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
)

// Wanted says of a blob whether it, or anything beneath it, is looked for, and whether it is lost, so that
// nothing beneath it can be read.
type Wanted func(ref blob.Ref) (within, lost bool)

// Found is an entry that a search has come to, or a stretch of entries of which nobody knows the rest.
type Found struct {
	Entry Entry      // of a stretch only the key of the first one, empty if not even that is known
	Refs  []blob.Ref // of those that are wanted: of the entry, or the lost node
	Lost  uint64     // number of entries in the stretch; 0: it is an entry
}

// Search yields the entries that rely on blobs which are wanted, in order. It loads only nodes with such
// a blob beneath them, and none that is lost. An error ends it.
func (m *Map) Search(ctx context.Context, wanted Wanted) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		if !m.root.Empty() {
			m.search(ctx, m.top(), wanted, yield)
		}
	}
}

// search goes through a subtree and reports whether to go on.
func (m *Map) search(ctx context.Context, s subtree, wanted Wanted, yield func(Found, error) bool) bool {
	within, lost := wanted(s.ref)
	if lost {
		return yield(Found{Entry: Entry{Key: s.first}, Refs: []blob.Ref{s.ref}, Lost: s.count}, nil)
	}
	if !within {
		return true
	}
	n, err := m.load(ctx, s)
	if err != nil {
		yield(Found{}, err)
		return false
	}
	for _, e := range n.entries {
		refs := slices.DeleteFunc(slices.Clone(e.Refs), func(ref blob.Ref) bool { within, lost := wanted(ref); return !within && !lost })
		if len(refs) > 0 && !yield(Found{Entry: e, Refs: refs}, nil) {
			return false
		}
	}
	for i := range n.children {
		if !m.search(ctx, s.under(n, i), wanted, yield) {
			return false
		}
	}
	return true
}
