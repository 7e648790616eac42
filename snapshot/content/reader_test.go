package content

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/formattest"
	"github.com/varve-dev/varve/snapshot/tree"
)

func TestNeighboursCostOneReadTogether(t *testing.T) {
	m := newMemory()
	items := files(1, 1000)
	res := build(t, m, Options{}, items)
	refs := entries(t, m, res.Root)
	r := NewReader(m)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for _, it := range items {
				data, err := r.ReadAll(t.Context(), refs[string(it.Key)][0])
				if err != nil || !bytes.Equal(data, it.Contents[0].Data) {
					t.Errorf("%s: %d bytes, %v", it.Key, len(data), err)
				}
			}
		})
	}
	wg.Wait()
	for ref, n := range m.reads {
		if n != 1 {
			t.Errorf("bundle %s was read %d times", ref, n)
		}
	}
}

func TestReaderKeepsOnlyTheLastBundles(t *testing.T) {
	m := newMemory()
	c := newBundleCache(m)
	var refs []blob.Ref
	for i := range maxCached/maxBundle + 50 {
		ref, err := m.Write(t.Context(), blob.Data, noise(uint64(i), maxBundle))
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
		if _, err := c.get(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		if _, err := c.get(t.Context(), refs[0]); err != nil {
			t.Fatal(err)
		}
		if c.bytes > maxCached || c.order.Len() != len(c.known) || c.bytes != c.order.Len()*maxBundle {
			t.Fatalf("%d bytes in %d bundles are kept, %d known", c.bytes, c.order.Len(), len(c.known))
		}
	}
	if m.reads[refs[0]] != 1 {
		t.Errorf("a bundle in steady use was read %d times", m.reads[refs[0]])
	}
	if _, err := c.get(t.Context(), refs[1]); err != nil || m.reads[refs[1]] != 2 {
		t.Errorf("a bundle out of use was read %d times, %v", m.reads[refs[1]], err)
	}
}

func TestFailedReadIsTriedAgain(t *testing.T) {
	m := newMemory()
	r := NewReader(m)
	data := noise(1, 1000)
	res := build(t, m, Options{}, []Item{item("a", Piece{Class: blob.Data, Data: data})})
	ref := entries(t, m, res.Root)["a"][0]
	delete(m.blobs, ref.bundle.blob)
	if _, err := r.ReadAll(t.Context(), ref); err == nil {
		t.Fatal("a missing bundle was read")
	}
	m.blobs[ref.bundle.blob] = data
	if got, err := r.ReadAll(t.Context(), ref); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestReaderRefusesBlobsOfAnotherLength(t *testing.T) {
	m := newMemory()
	for _, size := range []int{1000, 1 << 20, 6 << 20} {
		res := build(t, m, Options{}, []Item{item("a", Piece{Class: blob.Data, Data: noise(1, size)})})
		ref := entries(t, m, res.Root)["a"][0]
		for name, data := range m.blobs {
			m.blobs[name] = append(data, 0)
		}
		if err := NewReader(m).WriteTo(t.Context(), ref, io.Discard); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", size, err)
		}
		clear(m.blobs)
	}
}

func TestReaderRefusesExtentsThatDoNotAddUp(t *testing.T) {
	m := newMemory()
	chunk1, _ := m.Write(t.Context(), blob.Data, noise(1, 1000))
	for _, tc := range []struct {
		name    string
		extents []tree.Entry
		length  uint64
	}{
		{"gap", []tree.Entry{encodeExtent(0, chunk{chunk1, 1000}), encodeExtent(1001, chunk{chunk1, 1000})}, 2000},
		{"overlap", []tree.Entry{encodeExtent(0, chunk{chunk1, 1000}), encodeExtent(999, chunk{chunk1, 1000})}, 2000},
		{"too long", []tree.Entry{encodeExtent(0, chunk{chunk1, 1000}), encodeExtent(1000, chunk{chunk1, 1000})}, 1999},
		{"too short", []tree.Entry{encodeExtent(0, chunk{chunk1, 1000}), encodeExtent(1000, chunk{chunk1, 1000})}, 2001},
		{"no number", []tree.Entry{{Key: make([]byte, 8), Value: []byte{0x80}, Bytes: 1}}, 1},
	} {
		b := tree.NewBuilder(m, testKey("tree"))
		for _, e := range tc.extents {
			if err := b.Add(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		root, err := b.Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ref := Ref{place: mapped, length: tc.length, extents: root}
		var out bytes.Buffer
		if err := NewReader(m).WriteTo(t.Context(), ref, &out); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if uint64(out.Len()) > tc.length {
			t.Errorf("%s: %d bytes were written of a content of %d", tc.name, out.Len(), tc.length)
		}
	}
}

func TestHolesAreRead(t *testing.T) {
	m := newMemory()
	data := noise(1, 1000)
	stored, err := m.Write(t.Context(), blob.Data, data)
	if err != nil {
		t.Fatal(err)
	}
	chunks := []chunk{{length: 100_000}, {stored, 1000}, {length: 1}}
	want := append(append(make([]byte, 100_000), data...), 0)
	listed := Ref{place: chunked, length: 101_001, chunks: chunks}

	l := extentList{saver: m, cutKey: testKey("tree")}
	for range maxChunks {
		for _, c := range chunks {
			if err := l.add(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	long, err := l.finish(t.Context())
	if err != nil || long.place != mapped {
		t.Fatalf("place %d, %v", long.place, err)
	}
	for ref, times := range map[*Ref]int{&listed: 1, &long: maxChunks} {
		got, err := NewReader(m).ReadAll(t.Context(), *ref)
		if err != nil || !bytes.Equal(got, bytes.Repeat(want, times)) {
			t.Errorf("%d bytes, want %d, %v", len(got), times*len(want), err)
		}
	}
}

func TestReadAllRefusesWhatIsTooLong(t *testing.T) {
	ref := Ref{place: chunked, length: MaxReadAll + 1, chunks: []chunk{{length: MaxReadAll + 1}}}
	if _, err := NewReader(newMemory()).ReadAll(t.Context(), ref); !errors.Is(err, ErrTooLong) {
		t.Errorf("%v", err)
	}
}

// An entry that a writer with ill intent made is read as exactly the bytes that it says, or refused: no place
// in a bundle lies outside of it, and nothing takes more memory than the content has.
func FuzzReader(f *testing.F) {
	m := newMemory()
	items := []Item{item("a", Piece{Class: blob.Data, Data: noise(1, 300)}), item("b", Piece{Class: blob.Data, Data: noise(2, 5000)}),
		item("c", Piece{Class: blob.Data, Data: noise(3, 1<<20)}), item("d", Piece{Class: blob.Data, Data: []byte("x")})}
	root := build(f, m, Options{}, items).Root
	var blobs []blob.Ref
	for e, err := range tree.Open(m, root).Scan(f.Context(), tree.Range{}) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(e.Value, uint8(len(blobs)), uint8(len(e.Refs)))
		blobs = append(blobs, e.Refs...)
	}
	f.Fuzz(func(t *testing.T, value []byte, first, n uint8) {
		var refs []blob.Ref
		for i := range int(n % 5) {
			refs = append(refs, blobs[(int(first)+i)%len(blobs)])
		}
		_, contents, err := DecodeEntry(tree.Entry{Key: []byte("k"), Value: value, Refs: refs})
		if err != nil {
			return
		}
		for _, c := range contents {
			if c.Length() > 1<<20 {
				continue // a hole may be as long as it likes, and is written by who asks for it
			}
			formattest.Bounded(t, 20<<20, func() { // a bundle, a chunk and what grows with them
				if got, err := NewReader(m).ReadAll(t.Context(), c); err == nil && uint64(len(got)) != c.Length() {
					t.Errorf("a content of %d bytes is read as %d", c.Length(), len(got))
				}
			})
		}
	})
}
