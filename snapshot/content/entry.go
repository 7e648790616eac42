package content

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Bounds on what is accepted from a stored entry, wider than what is written today.
const (
	maxBlob       = 16 << 20 // a blob's plaintext
	maxHeight     = tree.MaxHeight
	maxListed     = 256     // chunks listed in an entry
	maxInlineRead = 4 << 10 // an inline content
)

// ErrMalformed means that a stored entry does not follow the layout. A repository returns only what
// its writers sealed, so this is a defect of the program that wrote it, or an attack by one who
// holds the keys.
var ErrMalformed = errors.New("malformed entry")

// encodeEntry lays out an entry's value. All numbers are varints in their shortest form:
//
//	value    = len(attrs) │ attrs │ number of contents │ content …
//	content  = 0 │ length │ bytes                                 inline
//	         | 1 │ blob │ offset │ length │ size of bundle        bundle; length > 0
//	         | 2 │ number │ (blob + 1 or 0 for a hole │ length)…  chunks; number, lengths > 0
//	         | 3 │ blob │ count │ length │ height                 extents: the root of a map
//
// A blob is a position in the entry's references, which are listed once each in the order in which
// the contents name them first. An entry has exactly one encoding.
func encodeEntry(p pending) tree.Entry {
	e := encoder{position: make(map[blob.Ref]uint64)}
	e.number(uint64(len(p.attrs)))
	e.b = append(e.b, p.attrs...)
	e.number(uint64(len(p.contents)))
	for _, c := range p.contents {
		e.content(c)
	}
	return tree.Entry{Key: p.key, Value: e.b, Refs: e.refs, Bytes: p.bytes}
}

// DecodeEntry takes apart an entry that an [Assembler] made: the item's attributes and where its
// contents are, in the item's order. The results share the entry's memory. An entry that no
// assembler can have made gives an error wrapping [ErrMalformed].
func DecodeEntry(e tree.Entry) (attrs []byte, contents []Ref, err error) {
	d := decoder{b: e.Value, refs: e.Refs}
	attrs = d.bytes(d.number(), math.MaxUint64)
	n := d.number()
	if n > uint64(len(d.b)) { // a content takes a byte at least
		d.fail("more contents than bytes")
	}
	for i := uint64(0); i < n && d.err == nil; i++ {
		contents = append(contents, d.content())
	}
	if err := d.end(); err != nil {
		return nil, nil, fmt.Errorf("entry %q: %w", e.Key, err)
	}
	return attrs, contents, nil
}

// encodeExtent makes an entry of the map of a large content: key is the offset in 8 bytes, big
// endian; value is the length as a varint; the reference is missing for a hole.
func encodeExtent(offset uint64, c chunk) tree.Entry {
	e := tree.Entry{
		Key:   binary.BigEndian.AppendUint64(nil, offset),
		Value: binary.AppendUvarint(nil, c.length),
		Bytes: c.length,
	}
	if !c.blob.IsZero() {
		e.Refs = []blob.Ref{c.blob}
	}
	return e
}

// decodeExtent takes apart an entry made by encodeExtent that must begin at offset.
func decodeExtent(e tree.Entry, offset uint64) (chunk, error) {
	d := decoder{b: e.Value, refs: e.Refs}
	c := chunk{}
	switch {
	case len(e.Key) != 8 || binary.BigEndian.Uint64(e.Key) != offset:
		d.fail("key is not the offset %d", offset)
	case len(e.Refs) == 0:
		c.length = d.length(math.MaxInt64)
	default:
		c.blob = d.contentBlob(0)
		c.length = d.length(maxBlob)
	}
	if c.length != e.Bytes {
		d.fail("length is not the entry's size")
	}
	if err := d.end(); err != nil {
		return chunk{}, fmt.Errorf("extent at %d: %w", offset, err)
	}
	return c, nil
}

type encoder struct {
	b        []byte
	refs     []blob.Ref
	position map[blob.Ref]uint64
}

func (e *encoder) number(n uint64) { e.b = binary.AppendUvarint(e.b, n) }

func (e *encoder) blob(ref blob.Ref) uint64 {
	n, ok := e.position[ref]
	if !ok {
		n = uint64(len(e.refs))
		e.position[ref] = n
		e.refs = append(e.refs, ref)
	}
	return n
}

func (e *encoder) content(r Ref) {
	e.b = append(e.b, byte(r.place))
	switch r.place {
	case inline:
		e.number(r.length)
		e.b = append(e.b, r.inline...)
	case bundled:
		e.number(e.blob(r.bundle.blob))
		e.number(r.bundle.offset)
		e.number(r.length)
		e.number(r.bundle.size)
	case chunked:
		e.number(uint64(len(r.chunks)))
		for _, c := range r.chunks {
			if c.blob.IsZero() {
				e.number(0)
			} else {
				e.number(e.blob(c.blob) + 1)
			}
			e.number(c.length)
		}
	case mapped:
		e.number(e.blob(r.extents.Ref))
		e.number(r.extents.Count)
		e.number(r.length)
		e.number(uint64(r.extents.Height))
	}
}

// decoder reads what encoder writes and nothing else. After the first error it gives zeros.
type decoder struct {
	b     []byte
	refs  []blob.Ref
	named uint64 // refs named so far
	err   error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	d.b = nil
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 || size > 1 && d.b[size-1] == 0 {
		d.fail("not a number")
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) bytes(n, most uint64) []byte {
	if n > uint64(len(d.b)) || n > most {
		d.fail("%d bytes announced, %d there", n, len(d.b))
		return nil
	}
	taken := d.b[:n:n]
	d.b = d.b[n:]
	return taken
}

// length reads a length between 1 and most.
func (d *decoder) length(most uint64) uint64 {
	n := d.number()
	if n == 0 || n > most {
		d.fail("a length of %d", n)
	}
	return n
}

// blob returns the reference at a position of the list, which must be known or the next new one.
func (d *decoder) blob(position uint64) blob.Ref {
	if position > d.named || position >= uint64(len(d.refs)) {
		d.fail("reference %d of %d out of turn", position, len(d.refs))
		return blob.Ref{}
	}
	if position == d.named {
		d.named++
	}
	return d.refs[position]
}

func (d *decoder) contentBlob(position uint64) blob.Ref {
	ref := d.blob(position)
	if d.err == nil && ref.Class != blob.Data && ref.Class != blob.Secrets {
		d.fail("content in a blob of class %s", ref.Class)
	}
	return ref
}

func (d *decoder) content() (r Ref) {
	switch p := d.bytes(1, 1); {
	case d.err != nil:
	case place(p[0]) == inline:
		r.length = d.number()
		r.inline = d.bytes(r.length, maxInlineRead)
	case place(p[0]) == bundled:
		r.place = bundled
		r.bundle.blob = d.contentBlob(d.number())
		r.bundle.offset = d.number()
		r.length = d.length(maxBlob)
		r.bundle.size = d.length(maxBlob)
		if r.bundle.offset > r.bundle.size || r.length > r.bundle.size-r.bundle.offset {
			d.fail("a content beyond the end of its bundle")
		}
	case place(p[0]) == chunked:
		r.place = chunked
		n := d.length(maxListed)
		for i := uint64(0); i < n && d.err == nil; i++ {
			c := d.chunk()
			if c.length > math.MaxInt64-r.length {
				d.fail("a content of more than %d bytes", int64(math.MaxInt64))
			}
			r.chunks = append(r.chunks, c)
			r.length += c.length
		}
	case place(p[0]) == mapped:
		r.place = mapped
		r.extents.Ref = d.blob(d.number())
		r.extents.Count = d.length(math.MaxInt64)
		r.extents.Bytes = d.length(math.MaxInt64)
		r.extents.Height = int(d.length(maxHeight))
		r.length = r.extents.Bytes
		if d.err == nil && r.extents.Ref.Class != blob.Tree {
			d.fail("extents in a blob of class %s", r.extents.Ref.Class)
		}
	default:
		d.fail("unknown place %d", p[0])
	}
	return r
}

func (d *decoder) chunk() (c chunk) {
	n := d.number()
	if n == 0 {
		c.length = d.length(math.MaxInt64)
		return c
	}
	c.blob = d.contentBlob(n - 1)
	c.length = d.length(maxBlob)
	return c
}

// end checks that everything was read: all bytes, and all references named, each listed once.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	if d.err == nil && d.named != uint64(len(d.refs)) {
		d.fail("%d references, %d named", len(d.refs), d.named)
	}
	if d.err == nil && len(d.refs) > 1 {
		seen := make(map[blob.Ref]bool, len(d.refs))
		for _, ref := range d.refs {
			if seen[ref] {
				d.fail("%s listed twice", ref)
			}
			seen[ref] = true
		}
	}
	return d.err
}
