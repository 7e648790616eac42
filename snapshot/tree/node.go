package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/varve-dev/varve/repo/blob"
)

const (
	// maxBody bounds the body of a node. The heaviest node a builder makes is one just below the
	// maximum weight and the largest entry after it, which stays well below.
	maxBody = 1 << 20
	// maxKeyBytes bounds the keys of a node when they are written out in full: a key that shares
	// all but a byte with the one before costs a few bytes encoded and 64 KiB decoded.
	maxKeyBytes = 1 << 20
)

// node is a decoded node: entries if it is a leaf, else children.
type node struct {
	level    int
	entries  []Entry
	children []child
}

// child is an entry of an interior node.
type child struct {
	first []byte // first key beneath
	ref   blob.Ref
	count uint64
	bytes uint64
}

// first returns the smallest key beneath the node.
func (n *node) first() []byte {
	if n.level == 0 {
		return n.entries[0].Key
	}
	return n.children[0].first
}

// size returns the number of entries of the node itself.
func (n *node) size() int { return len(n.entries) + len(n.children) }

// key returns the key of the node's i-th entry.
func (n *node) key(i int) []byte {
	if n.level == 0 {
		return n.entries[i].Key
	}
	return n.children[i].first
}

// sums returns count and bytes of all that lies beneath, as the parent must state them.
func (n *node) sums() (count, total uint64, err error) {
	count = uint64(len(n.entries))
	for _, e := range n.entries {
		if total, err = add(total, e.Bytes); err != nil {
			return 0, 0, err
		}
	}
	for _, c := range n.children {
		if count, err = add(count, c.count); err != nil {
			return 0, 0, err
		}
		if total, err = add(total, c.bytes); err != nil {
			return 0, 0, err
		}
	}
	return count, total, nil
}

func add(a, b uint64) (uint64, error) {
	if a > math.MaxUint64-b {
		return 0, errors.New("sum of bytes or counts overflows")
	}
	return a + b, nil
}

// encoder lays out one node, entry by entry.
type encoder struct {
	body  []byte
	links []blob.Ref
	seen  map[blob.Ref]int // position of each link; leaves only
	last  []byte           // the key before
}

func newEncoder(level int) *encoder {
	return &encoder{body: []byte{byte(level)}, seen: map[blob.Ref]int{}}
}

func (enc *encoder) node() blob.Node { return blob.Node{Links: enc.links, Body: enc.body} }

func (enc *encoder) entry(e Entry) {
	enc.key(e.Key)
	enc.number(uint64(len(e.Value)))
	enc.body = append(enc.body, e.Value...)
	enc.number(e.Bytes)
	enc.number(uint64(len(e.Refs)))
	for _, r := range e.Refs {
		at, ok := enc.seen[r]
		if !ok {
			at = len(enc.links)
			enc.seen[r] = at
			enc.links = append(enc.links, r)
		}
		enc.number(uint64(at))
	}
}

func (enc *encoder) child(c child) {
	enc.key(c.first)
	enc.number(c.count)
	enc.number(c.bytes)
	enc.links = append(enc.links, c.ref)
}

func (enc *encoder) key(key []byte) {
	shared := 0
	for shared < len(enc.last) && shared < len(key) && enc.last[shared] == key[shared] {
		shared++
	}
	enc.number(uint64(shared))
	enc.number(uint64(len(key) - shared))
	enc.body = append(enc.body, key[shared:]...)
	enc.last = append(enc.last[:0], key...)
}

func (enc *encoder) number(n uint64) { enc.body = binary.AppendUvarint(enc.body, n) }

// decode reads a node. It accepts exactly what an encoder writes: decoding and encoding again gives
// the same bytes.
func decode(n blob.Node) (*node, error) {
	if len(n.Body) > maxBody {
		return nil, fmt.Errorf("body of %d bytes", len(n.Body))
	}
	if len(n.Body) < 2 {
		return nil, errors.New("no entries")
	}
	if n.Body[0] >= MaxHeight {
		return nil, fmt.Errorf("level %d", n.Body[0])
	}
	d := decoder{rest: n.Body[1:], links: n.Links}
	out := &node{level: int(n.Body[0])}
	var err error
	if out.level == 0 {
		out.entries, err = d.leaf()
	} else {
		out.children, err = d.interior()
	}
	if err != nil {
		return nil, err
	}
	if d.used != len(n.Links) {
		return nil, fmt.Errorf("%d links, of which %d are used", len(n.Links), d.used)
	}
	return out, nil
}

type decoder struct {
	rest  []byte
	links []blob.Ref
	used  int    // links used so far
	keys  []byte // arena of the keys; a slice of it stays good when it grows
	refs  []blob.Ref
	last  []byte
}

func (d *decoder) leaf() (entries []Entry, err error) {
	distinct := make(map[blob.Ref]struct{}, len(d.links))
	for _, l := range d.links {
		if _, again := distinct[l]; again {
			return nil, fmt.Errorf("link %s stands there twice", l)
		}
		distinct[l] = struct{}{}
	}
	for len(d.rest) > 0 {
		var e Entry
		if e.Key, err = d.key(); err != nil {
			return nil, err
		}
		if e.Value, err = d.take(MaxValue); err != nil {
			return nil, fmt.Errorf("value of %q: %w", e.Key, err)
		}
		if e.Bytes, err = d.number(math.MaxUint64); err != nil {
			return nil, fmt.Errorf("bytes of %q: %w", e.Key, err)
		}
		if e.Refs, err = d.references(); err != nil {
			return nil, fmt.Errorf("references of %q: %w", e.Key, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (d *decoder) references() ([]blob.Ref, error) {
	n, err := d.number(MaxRefs)
	if err != nil || n == 0 {
		return nil, err
	}
	from := len(d.refs)
	for range n {
		at, err := d.number(uint64(d.used))
		if err != nil {
			return nil, err
		}
		if int(at) == d.used {
			if d.used == len(d.links) {
				return nil, fmt.Errorf("link %d of %d", at, len(d.links))
			}
			d.used++
		}
		d.refs = append(d.refs, d.links[at])
	}
	return d.refs[from:len(d.refs):len(d.refs)], nil
}

func (d *decoder) interior() (children []child, err error) {
	for len(d.rest) > 0 {
		if d.used == len(d.links) {
			return nil, fmt.Errorf("more children than its %d links", len(d.links))
		}
		c := child{ref: d.links[d.used]}
		d.used++
		if c.ref.Class != blob.Tree {
			return nil, fmt.Errorf("child %s is no tree node", c.ref)
		}
		if c.first, err = d.key(); err != nil {
			return nil, err
		}
		if c.count, err = d.number(math.MaxUint64); err != nil {
			return nil, fmt.Errorf("count at %q: %w", c.first, err)
		}
		if c.bytes, err = d.number(math.MaxUint64); err != nil {
			return nil, fmt.Errorf("bytes at %q: %w", c.first, err)
		}
		children = append(children, c)
	}
	return children, nil
}

// key reads a key that must come after the one before. As it must differ from that upwards in the
// first byte that is not shared, order and longest sharing are one condition.
func (d *decoder) key() ([]byte, error) {
	shared, err := d.number(uint64(len(d.last)))
	if err != nil {
		return nil, fmt.Errorf("key after %q: %w", d.last, err)
	}
	rest, err := d.take(MaxKey - int(shared))
	if err != nil {
		return nil, fmt.Errorf("key after %q: %w", d.last, err)
	}
	if len(rest) == 0 || (int(shared) < len(d.last) && rest[0] <= d.last[shared]) {
		return nil, fmt.Errorf("key after %q does not ascend", d.last)
	}
	if len(d.keys)+int(shared)+len(rest) > maxKeyBytes {
		return nil, fmt.Errorf("keys of more than %d bytes", maxKeyBytes)
	}
	from := len(d.keys)
	d.keys = append(d.keys, d.last[:shared]...)
	d.keys = append(d.keys, rest...)
	d.last = d.keys[from:len(d.keys):len(d.keys)]
	return d.last, nil
}

// take reads a length, at most limit, and as many bytes.
func (d *decoder) take(limit int) ([]byte, error) {
	n, err := d.number(uint64(limit))
	if err != nil {
		return nil, err
	}
	if n > uint64(len(d.rest)) {
		return nil, errors.New("cut short")
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out, nil
}

// number reads a varint of at most limit in its shortest form.
func (d *decoder) number(limit uint64) (uint64, error) {
	n, size := binary.Uvarint(d.rest)
	switch {
	case size <= 0:
		return 0, errors.New("no number")
	case size > 1 && d.rest[size-1] == 0:
		return 0, errors.New("number is not in its shortest form")
	case n > limit:
		return 0, fmt.Errorf("number %d, at most %d is possible", n, limit)
	}
	d.rest = d.rest[size:]
	return n, nil
}
