package formats_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// A rootRecord is the root of a map in a manifest or a volume.
type rootRecord struct {
	Height int    `cbor:"1,keyasint"`
	Count  int    `cbor:"2,keyasint"`
	Bytes  uint64 `cbor:"3,keyasint"`
}

// mapOf returns the entries of the map that a root record and the next link name.
func (r *reader) mapOf(root rootRecord, links *[]name) []entry {
	if root.Height == 0 {
		return nil
	}
	top := (*links)[0]
	*links = (*links)[1:]
	all, total := r.scan(top, root.Height)
	r.want(len(all) == root.Count && total == root.Bytes, "a map of %d entries, %d bytes", len(all), total)
	return all
}

// A snapshot is what a manifest leads to.
type snapshot struct {
	name    string
	objects map[string]object          // by their keys, with a slash for each zero
	volumes map[string]map[string]file // by name and path
}

type object struct {
	uid, revision, version string
	body, state            []byte
	class                  byte // of the blob with the body; 0 if it stands in the entry
}

type file struct {
	kind    uint64
	mode    uint64
	content []byte
	target  string // of a symbolic link
	link    string // another name of the same file
}

// load reads everything that a snapshot holds.
func (r *reader) load(record snapshotRecord) snapshot {
	links, body := r.blob(name{4, [32]byte(record.Manifest)})
	var m struct {
		ID      []byte     `cbor:"1,keyasint"`
		Name    string     `cbor:"2,keyasint"`
		Objects rootRecord `cbor:"10,keyasint"`
		Volumes rootRecord `cbor:"11,keyasint"`
		Digests rootRecord `cbor:"12,keyasint"`
		Digest  struct {
			Body    []byte `cbor:"1,keyasint"`
			State   []byte `cbor:"2,keyasint"`
			Objects int    `cbor:"3,keyasint"`
		} `cbor:"13,keyasint"`
	}
	r.decode(body, &m)
	r.want(bytes.Equal(m.ID, record.ID), "ID of a manifest")
	s := snapshot{name: m.Name, objects: map[string]object{}, volumes: map[string]map[string]file{}}

	key := derived("varve.dev 0 cut digest", r.cut)
	sums := map[string]*[3][]byte{} // bodies, states and, as its length, number of the objects of a scope
	whole := &[3][]byte{make([]byte, 32), make([]byte, 32), {}}
	for _, e := range r.mapOf(m.Objects, &links) {
		o := r.object(e)
		s.objects[strings.ReplaceAll(string(e.key), "\x00", "/")] = o
		scope := string(e.key[:bytes.LastIndexByte(e.key, 0)+1])
		if sums[scope] == nil {
			sums[scope] = &[3][]byte{make([]byte, 16), make([]byte, 16), {}}
		}
		length := binary.LittleEndian.AppendUint32(nil, uint32(len(e.key)))
		for _, sum := range []*[3][]byte{whole, sums[scope]} {
			add(sum[0], keyed(key, []byte("b"), length, e.key, o.body))
			add(sum[1], keyed(key, []byte("s"), length, e.key, o.state))
			sum[2] = append(sum[2], 0)
		}
	}
	r.want(bytes.Equal(m.Digest.Body, whole[0]) && bytes.Equal(m.Digest.State, whole[1]) && m.Digest.Objects == len(whole[2]), "digest of all objects")
	for _, e := range r.mapOf(m.Volumes, &links) {
		s.volumes[string(e.key)] = r.volume(e)
	}
	for _, e := range r.mapOf(m.Digests, &links) {
		sum := sums[string(e.key)]
		r.want(sum != nil, "digests of the scope %q", e.key)
		want := slices.Concat(sum[0], sum[1], binary.AppendUvarint(nil, uint64(len(sum[2]))))
		r.want(bytes.Equal(e.value, want), "digests of the scope %q", e.key)
		delete(sums, string(e.key))
	}
	r.want(len(sums) == 0, "%d scopes without digests", len(sums))
	return s
}

// add adds a number to sum, modulo what sum has room for.
func add(sum, number []byte) {
	carry := 0
	for i := range sum {
		carry += int(sum[i]) + int(number[i])
		sum[i] = byte(carry)
		carry >>= 8
	}
}

func (r *reader) object(e entry) (o object) {
	attributes, contents := r.split(e)
	r.want(len(contents) == 2, "%d contents of an object", len(contents))
	o.body, o.state = contents[0], contents[1]
	if len(e.refs) > 0 {
		o.class = e.refs[0].class
	}
	f := fields{r, attributes}
	flags := f.take(1)[0]
	if flags&1 != 0 {
		h := hex.EncodeToString(f.take(16))
		o.uid = strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
	} else {
		o.uid = string(f.text())
	}
	if flags&2 != 0 {
		o.revision = strconv.FormatUint(f.number(), 10)
	} else {
		o.revision = string(f.text())
	}
	o.version = string(f.text())
	r.want(len(f.rest) == 0, "bytes behind the attributes of an object")
	return o
}

func (r *reader) volume(e entry) map[string]file {
	var v struct {
		Root rootRecord `cbor:"6,keyasint"`
	}
	r.decode(e.value, &v)
	found := map[string]file{}
	for _, e := range r.mapOf(v.Root, &e.refs) {
		path := strings.ReplaceAll(string(e.key), "\x00", "/")
		if path == "/" {
			path = "."
		}
		found[path] = r.fileOf(e)
	}
	return found
}

func (r *reader) fileOf(e entry) (found file) {
	attributes, contents := r.split(e)
	f := fields{r, attributes}
	found.kind, found.mode = uint64(f.take(1)[0]), f.number()
	for range 8 { // uid, gid, mtime and ctime of two numbers each, inode, links
		f.number()
	}
	switch found.kind {
	case 1:
		size := f.number()
		found.link = strings.ReplaceAll(string(f.text()), "\x00", "/")
		if found.link == "" {
			r.want(len(contents) == 1 && uint64(len(contents[0])) == size, "size of %q", e.key)
			found.content = contents[0]
		}
	case 3:
		found.target = string(f.text())
	}
	for range f.number() {
		f.text()
		f.text()
	}
	r.want(len(f.rest) == 0, "bytes behind the attributes of %q", e.key)
	return found
}
