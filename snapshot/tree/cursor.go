package tree

import (
	"bytes"
	"context"
)

// Cursor walks a map in order beside another sorted stream. It keeps the nodes on the way to where
// it stands and loads a node when an entry of it is asked for. It lives as long as the context that
// it was made with and is not safe for concurrent use.
type Cursor struct {
	ctx    context.Context
	m      *Map
	path   []frame // from the root down
	target []byte  // key sought last; empty: the beginning
	failed error
}

// frame is a loaded node and the position of its next entry.
type frame struct {
	at   subtree
	node *node
	next int
}

// Cursor returns a cursor that stands before the first entry.
func (m *Map) Cursor(ctx context.Context) *Cursor { return &Cursor{ctx: ctx, m: m} }

// Next returns the entry at the cursor and moves past it; false at the end of the map. After an
// error the cursor only repeats it.
func (c *Cursor) Next() (Entry, bool, error) {
	if c.failed != nil {
		return Entry{}, false, c.failed
	}
	if len(c.path) == 0 {
		if c.m.root.Empty() {
			return Entry{}, false, nil
		}
		c.descend(c.m.top())
	}
	for c.failed == nil {
		f := &c.path[len(c.path)-1]
		switch {
		case f.next < len(f.node.entries):
			f.next++
			return f.node.entries[f.next-1], true, nil
		case f.next < len(f.node.children):
			f.next++
			c.descend(f.at.under(f.node, f.next-1))
		case len(c.path) == 1:
			return Entry{}, false, nil
		default:
			c.path = c.path[:len(c.path)-1]
		}
	}
	return Entry{}, false, c.failed
}

// Seek moves the cursor, forward or back, before the first entry whose key does not come before the
// given one. What lies between is skipped without being loaded.
func (c *Cursor) Seek(key []byte) {
	for len(c.path) > 1 && !c.path[len(c.path)-1].at.spans(key) {
		c.path = c.path[:len(c.path)-1]
	}
	if len(c.path) > 0 {
		f := &c.path[len(c.path)-1]
		f.next = f.node.seek(key)
	}
	c.target = append(c.target[:0], key...)
}

// spans reports whether the key, if it is in the map, is beneath the subtree.
func (s subtree) spans(key []byte) bool {
	return bytes.Compare(s.first, key) <= 0 && (s.upper == nil || bytes.Compare(key, s.upper) < 0)
}

// descend loads a node onto the path. Its position is at what was sought, or at its beginning if the
// walk is past that.
func (c *Cursor) descend(s subtree) {
	n, err := c.m.load(c.ctx, s)
	if err != nil {
		c.failed = err
		return
	}
	c.path = append(c.path, frame{at: s, node: n, next: n.seek(c.target)})
}
