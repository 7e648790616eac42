package tree

import (
	"bytes"
	"context"
	"iter"
)

// Change is a key in which two maps differ.
type Change struct {
	Key []byte
	Old *Entry // what the first map says; nil: nothing
	New *Entry // what the second map says; nil: nothing
}

// Diff yields, in order, the keys of a range in which b differs from a. A node that stands in both
// maps is not loaded, whatever their heights, so the cost is in proportion to the differences. An
// error ends it.
//
// Both maps are walked side by side. Each walk stands before a subtree or an entry; equal subtrees
// are passed by together, and otherwise that walk steps down whose subtree begins earlier or, if
// both begin with the same key, is the higher one. So neither can step into a subtree that the other
// one has still ahead of it as a whole.
func Diff(ctx context.Context, a, b *Map, r Range) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		old, new := newWalk(a, r), newWalk(b, r)
		for {
			c, ok, err := step(ctx, old, new)
			if err != nil {
				yield(Change{}, err)
				return
			}
			if !ok {
				return
			}
			if (c.Old != nil || c.New != nil) && !yield(c, nil) {
				return
			}
		}
	}
}

// step goes one step; the change is without entries if none was found at it, and ok is false when
// both walks are at their ends.
func step(ctx context.Context, old, new *walk) (Change, bool, error) {
	o, n := old.front(), new.front()
	switch {
	case o == nil && n == nil:
		return Change{}, false, nil
	case o != nil && n != nil && o.entry == nil && n.entry == nil && o.sub.ref == n.sub.ref:
		old.pass()
		new.pass()
		return Change{}, true, nil
	case n == nil || (o != nil && o.earlier(n)):
		if o.entry == nil {
			return Change{}, true, old.expand(ctx)
		}
		old.pass()
		return Change{Key: o.entry.Key, Old: o.entry}, true, nil
	case o == nil || n.earlier(o):
		if n.entry == nil {
			return Change{}, true, new.expand(ctx)
		}
		new.pass()
		return Change{Key: n.entry.Key, New: n.entry}, true, nil
	case o.entry == nil: // two subtrees of one level with one first key
		if err := old.expand(ctx); err != nil {
			return Change{}, false, err
		}
		return Change{}, true, new.expand(ctx)
	}
	old.pass()
	new.pass()
	if o.entry.Equal(*n.entry) {
		return Change{}, true, nil
	}
	return Change{Key: o.entry.Key, Old: o.entry, New: n.entry}, true, nil
}

// walk is a way through a map that steps into subtrees only when told to.
type walk struct {
	m    *Map
	r    Range
	todo []item // last one first; the ends of its subtrees bound its length
}

// item is an entry or, if that is nil, a subtree.
type item struct {
	entry *Entry
	sub   subtree
}

func newWalk(m *Map, r Range) *walk {
	w := &walk{m: m, r: r}
	if !m.root.Empty() {
		w.todo = append(w.todo, item{sub: m.top()})
	}
	return w
}

// front returns the item that the walk stands before, nil at its end.
func (w *walk) front() *item {
	for len(w.todo) > 0 {
		i := &w.todo[len(w.todo)-1]
		if !i.sub.root && w.r.before(i.first()) {
			w.todo = nil
			break
		}
		if !i.over(w.r.From) {
			return i
		}
		w.pass()
	}
	return nil
}

func (w *walk) pass() { w.todo = w.todo[:len(w.todo)-1] }

// expand replaces the subtree in front by what it is made of.
func (w *walk) expand(ctx context.Context) error {
	s := w.todo[len(w.todo)-1].sub
	n, err := w.m.load(ctx, s)
	if err != nil {
		return err
	}
	w.pass()
	for i := n.size() - 1; i >= 0; i-- {
		if n.level == 0 {
			w.todo = append(w.todo, item{entry: &n.entries[i]})
		} else {
			w.todo = append(w.todo, item{sub: s.under(n, i)})
		}
	}
	return nil
}

// earlier reports whether the walk at i must go on before the one at o does. The first key of a root
// is not known before it is loaded; it waits for what is higher.
func (i *item) earlier(o *item) bool {
	if i.sub.root || o.sub.root {
		return i.level() > o.level()
	}
	if c := bytes.Compare(i.first(), o.first()); c != 0 {
		return c < 0
	}
	return i.level() > o.level()
}

func (i *item) first() []byte {
	if i.entry != nil {
		return i.entry.Key
	}
	return i.sub.first
}

// level places entries beneath the leaves.
func (i *item) level() int {
	if i.entry != nil {
		return -1
	}
	return i.sub.level
}

// over reports whether the item lies wholly before the key.
func (i *item) over(key []byte) bool {
	if i.entry != nil {
		return bytes.Compare(i.entry.Key, key) < 0
	}
	return i.sub.upper != nil && bytes.Compare(i.sub.upper, key) <= 0
}
