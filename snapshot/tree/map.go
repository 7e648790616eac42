package tree

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sort"

	"github.com/varve-dev/varve/repo/blob"
)

// Map reads a stored map. It holds no nodes, so it is cheap to make, and it is safe for concurrent
// use if its loader is.
type Map struct {
	loader Loader
	root   Root
}

// Open returns the map with root r. Nothing is read until something is asked of it.
func Open(l Loader, r Root) *Map { return &Map{loader: l, root: r} }

// Root returns the root that the map was opened with.
func (m *Map) Root() Root { return m.root }

// Get returns the entry with the given key and whether there is one. It loads one node per level.
// Entries read from a map share memory with its nodes and must not be changed.
func (m *Map) Get(ctx context.Context, key []byte) (Entry, bool, error) {
	if m.root.Empty() {
		return Entry{}, false, nil
	}
	for s := m.top(); ; {
		n, err := m.load(ctx, s)
		if err != nil {
			return Entry{}, false, err
		}
		if n.level == 0 {
			if i := n.seek(key); i < len(n.entries) && bytes.Equal(n.entries[i].Key, key) {
				return n.entries[i], true, nil
			}
			return Entry{}, false, nil
		}
		i := n.seek(key)
		if bytes.Compare(key, n.children[i].first) < 0 {
			return Entry{}, false, nil // before the first key of all
		}
		s = s.under(n, i)
	}
}

// Scan yields the entries of a range in order. It loads the nodes that hold them and the way there,
// and at most one node more. An error ends it.
func (m *Map) Scan(ctx context.Context, r Range) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		c := m.Cursor(ctx)
		c.Seek(r.From)
		for {
			e, ok, err := c.Next()
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !ok || r.before(e.Key) || !yield(e, nil) {
				return
			}
		}
	}
}

// before reports whether the range ends before the key.
func (r Range) before(key []byte) bool { return len(r.To) > 0 && bytes.Compare(key, r.To) >= 0 }

// subtree is a node yet to be loaded and what is known of it, which loading verifies.
type subtree struct {
	child
	level int
	root  bool   // nothing is known of its first key
	upper []byte // all keys beneath come before it; nil: no bound
}

// top returns the root as a subtree.
func (m *Map) top() subtree {
	r := m.root
	return subtree{child: child{ref: r.Ref, count: r.Count, bytes: r.Bytes}, level: r.Height - 1, root: true}
}

// under returns the i-th child of n, the node of s.
func (s subtree) under(n *node, i int) subtree {
	out := subtree{child: n.children[i], level: s.level - 1, upper: s.upper}
	if i+1 < len(n.children) {
		out.upper = n.children[i+1].first
	}
	return out
}

// load fetches a node and checks that it is what its parent, or the root, says.
func (m *Map) load(ctx context.Context, s subtree) (*node, error) {
	raw, err := m.loader.ReadNode(ctx, s.ref)
	if err != nil {
		return nil, fmt.Errorf("load tree node %s: %w", s.ref, err)
	}
	n, err := decode(raw)
	if err == nil {
		err = s.verify(n)
	}
	if err != nil {
		return nil, fmt.Errorf("load tree node %s: %w: %w", s.ref, ErrMalformed, err)
	}
	return n, nil
}

// verify bounds what a hostile node can do: levels fall from parent to child, so no way is longer
// than the height, and keys stay between those of the parent, so a scan ascends and ends.
func (s subtree) verify(n *node) error {
	count, total, err := n.sums()
	switch {
	case err != nil:
		return err
	case s.ref.Class != blob.Tree:
		return fmt.Errorf("it is a blob of class %s", s.ref.Class)
	case n.level != s.level:
		return fmt.Errorf("level %d where level %d belongs", n.level, s.level)
	case count != s.count || total != s.bytes:
		return fmt.Errorf("%d entries of %d bytes where %d of %d belong", count, total, s.count, s.bytes)
	case s.root && n.level > 0 && n.size() < 2:
		return fmt.Errorf("root of level %d with one child", n.level)
	case !s.root && !bytes.Equal(n.first(), s.first):
		return fmt.Errorf("first key %q where %q belongs", n.first(), s.first)
	case s.upper != nil && bytes.Compare(n.key(n.size()-1), s.upper) >= 0:
		return fmt.Errorf("last key %q, but %q is the first of the next node", n.key(n.size()-1), s.upper)
	}
	return nil
}

// seek returns where to look for the key: in a leaf the first entry that does not come before it,
// maybe none; else the last child that does not begin after it, or the first one.
func (n *node) seek(key []byte) int {
	if n.level == 0 {
		return sort.Search(len(n.entries), func(i int) bool { return bytes.Compare(n.entries[i].Key, key) >= 0 })
	}
	i := sort.Search(len(n.children), func(i int) bool { return bytes.Compare(n.children[i].first, key) > 0 })
	return max(i-1, 0)
}
