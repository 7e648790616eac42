package formats_test

import (
	"bytes"
	"encoding/binary"
)

// Blobs.

// blob returns links and body of a blob, after comparing them with its name.
func (r *reader) blob(n name) (links []name, body []byte) {
	r.t.Helper()
	at, ok := r.blobs[n]
	r.want(ok, "no pack has %s %x", classes[n.class], n.id)
	sealed, key := at.pack.data[at.offset:at.offset+at.stored], at.pack.keys[at.key]
	if n.class == 1 || n.class == 3 {
		body = r.part(key, n, 0, sealed)
		r.want(bytes.Equal(n.id[:], keyed(r.ids[n.class], body)), "ID of a blob")
		return nil, body
	}
	encoded := r.part(r.catalog, n, 1, sealed[:at.links])
	body = r.part(key, n, 2, sealed[at.links:])
	length := binary.LittleEndian.AppendUint64(nil, uint64(len(encoded)))
	r.want(bytes.Equal(n.id[:], keyed(r.ids[n.class], length, encoded, body)), "ID of a node")
	f := fields{r, encoded}
	for range f.number() {
		links = append(links, name{f.take(1)[0], [32]byte(f.take(32))})
	}
	return links, body
}

// part opens and decodes one part of a blob.
func (r *reader) part(key []byte, n name, part byte, sealed []byte) []byte {
	r.t.Helper()
	associated := bytes.Join([][]byte{r.repository, {n.class, part}, n.id[:]}, nil)
	encoded := r.unseal(keyed(key, associated), associated, sealed)
	plain := encoded[5:]
	if encoded[0] == 1 {
		var err error
		plain, err = r.zstd.DecodeAll(plain, nil)
		r.check(err)
	}
	r.want(encoded[0] <= 1 && len(plain) == int(binary.LittleEndian.Uint32(encoded[1:])), "codec and length of a blob")
	return plain
}

// fields takes numbers and texts off the front of bytes.
type fields struct {
	r    *reader
	rest []byte
}

func (f *fields) number() uint64 {
	n, size := binary.Uvarint(f.rest)
	f.r.want(size > 0, "a number at %x", f.rest[:min(len(f.rest), 8)])
	f.rest = f.rest[size:]
	return n
}

func (f *fields) take(n uint64) []byte {
	f.r.want(n <= uint64(len(f.rest)), "%d bytes of %d", n, len(f.rest))
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) text() []byte { return f.take(f.number()) }

// Trees.

// An entry is one of a map.
type entry struct {
	key, value []byte
	refs       []name
}

// scan returns all entries of a map, in order, and the sum of their bytes.
func (r *reader) scan(root name, height int) (all []entry, total uint64) {
	links, body := r.blob(root)
	r.want(int(body[0]) == height-1, "level of a node")
	f := fields{r, body[1:]}
	var key []byte
	for i := 0; len(f.rest) > 0; i++ {
		key = append(bytes.Clone(key[:f.number()]), f.text()...)
		if height > 1 {
			count, size := f.number(), f.number()
			beneath, sum := r.scan(links[i], height-1)
			r.want(uint64(len(beneath)) == count && sum == size, "sums of a node")
			r.want(bytes.Equal(beneath[0].key, key), "first key of a node")
			all, total = append(all, beneath...), total+size
			continue
		}
		e := entry{key: key, value: f.text()}
		total += f.number()
		for range f.number() {
			e.refs = append(e.refs, links[f.number()])
		}
		all = append(all, e)
	}
	return all, total
}

// Contents.

// split takes an entry with contents apart.
func (r *reader) split(e entry) (attributes []byte, contents [][]byte) {
	f := &fields{r, e.value}
	attributes = f.text()
	for range f.number() {
		contents = append(contents, r.content(f, e.refs))
	}
	return attributes, contents
}

func (r *reader) content(f *fields, refs []name) (content []byte) {
	switch kind := f.number(); kind {
	case 0:
		return f.text()
	case 1:
		_, bundle := r.blob(refs[f.number()])
		offset, length, size := f.number(), f.number(), f.number()
		r.want(size == uint64(len(bundle)), "size of a bundle")
		return bundle[offset : offset+length]
	case 2:
		for range f.number() {
			at := f.number()
			if at == 0 {
				content = append(content, make([]byte, f.number())...)
				continue
			}
			_, chunk := r.blob(refs[at-1])
			r.want(f.number() == uint64(len(chunk)), "length of a chunk")
			content = append(content, chunk...)
		}
		return content
	case 3:
		root := refs[f.number()]
		count, length, height := f.number(), f.number(), f.number()
		extents, _ := r.scan(root, int(height))
		r.want(count == uint64(len(extents)), "number of extents")
		for _, e := range extents {
			r.want(binary.BigEndian.Uint64(e.key) == uint64(len(content)), "offset of an extent")
			chunk := make([]byte, (&fields{r, e.value}).number())
			if len(e.refs) > 0 {
				_, chunk = r.blob(e.refs[0])
			}
			content = append(content, chunk...)
		}
		r.want(length == uint64(len(content)), "length of extents")
		return content
	default:
		r.want(false, "content of kind %d", kind)
		return nil
	}
}
