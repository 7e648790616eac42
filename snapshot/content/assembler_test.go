package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/varve-dev/varve/repo/blob"
)

func TestContentsComeBackWhateverTheirSize(t *testing.T) {
	sizes := []int{0, 1, MaxInline, MaxInline + 1, 5000, MaxSmall, MaxSmall + 1, 1 << 20, 6 << 20}
	for _, class := range []blob.Class{blob.Data, blob.Secrets} {
		m := newMemory()
		var items []Item
		for i, n := range sizes {
			items = append(items, item(fmt.Sprintf("%02d", i),
				Piece{Stream: "body", Class: class, Data: noise(uint64(i), n)},
				Piece{Stream: "state", Class: blob.Data, Data: noise(uint64(100+i), n/2)}))
		}
		res := build(t, m, Options{}, items)
		if res.Root.Count != uint64(len(items)) {
			t.Errorf("%s: %d entries in the map, want %d", class, res.Root.Count, len(items))
		}
		r := NewReader(m)
		got := entries(t, m, res.Root)
		for _, it := range items {
			refs := got[string(it.Key)]
			for i, p := range it.Contents {
				if refs[i].Length() != uint64(len(p.Data)) {
					t.Errorf("%s: %d bytes have length %d", class, len(p.Data), refs[i].Length())
				}
				data, err := r.ReadAll(t.Context(), refs[i])
				if err != nil || !bytes.Equal(data, p.Data) {
					t.Errorf("%s: content of %d bytes came back as %d bytes, %v", class, len(p.Data), len(data), err)
				}
				var b bytes.Buffer
				if err := r.WriteTo(t.Context(), refs[i], &b); err != nil || !bytes.Equal(b.Bytes(), p.Data) {
					t.Errorf("%s: content of %d bytes was written as %d bytes, %v", class, len(p.Data), b.Len(), err)
				}
			}
		}
	}
}

func TestSecretsStandOnlyInBlobsOfTheirClass(t *testing.T) {
	m := newMemory()
	secret := []byte("hunter2")
	long := bytes.Repeat([]byte("correct horse battery staple"), 20_000)
	build(t, m, Options{}, []Item{
		item("a", Piece{Stream: "body", Class: blob.Data, Data: noise(1, 2000)}),
		item("b", Piece{Stream: "body", Class: blob.Secrets, Data: secret}),
		item("c", Piece{Stream: "body", Class: blob.Secrets, Data: long}),
		item("d", Piece{Stream: "body", Class: blob.Data, Data: noise(2, 2000)}),
	})
	found := 0
	for ref, data := range m.blobs {
		holds := bytes.Contains(data, secret) || bytes.Contains(data, []byte("correct horse"))
		if holds != (ref.Class == blob.Secrets) {
			t.Errorf("blob %s: holds a secret: %v", ref, holds)
		}
		if holds {
			found++
		}
	}
	if found < 2 {
		t.Errorf("secrets found in %d blobs", found)
	}
	for ref, n := range m.nodes {
		if bytes.Contains(n.Body, secret) {
			t.Errorf("node %s holds a secret", ref)
		}
	}
}

func TestBundlesKeepToTheirSizes(t *testing.T) {
	m := newMemory()
	res := build(t, m, Options{Parallel: 1}, files(1, 2000))
	small := 0
	for _, ref := range m.wrote {
		n := len(m.blobs[ref])
		if n > maxBundle {
			t.Errorf("a bundle of %d bytes", n)
		}
		if n < minBundle {
			small++
		}
	}
	if small > 1 {
		t.Errorf("%d bundles are smaller than %d bytes; only the last one may be", small, minBundle)
	}
	if n := int64(len(m.wrote)); n != res.Stats.Bundles || n < 30 || n > 60 {
		t.Errorf("8 MB are in %d bundles, %d counted", n, res.Stats.Bundles)
	}
}

func TestEqualRunsFallIntoEqualBundles(t *testing.T) {
	m := newMemory()
	run := files(1, 2000)
	build(t, m, Options{}, run)
	first := len(m.wrote)

	// The same files behind thirty others, and with one in the middle changed.
	other := append(files(2, 30), run...)
	for i := range other {
		other[i].Key = []byte(fmt.Sprintf("%06d", i))
	}
	other[1000] = item("001000", Piece{Stream: "file", Class: blob.Data, Data: noise(77, 3000)})
	build(t, m, Options{}, other)
	if added := len(m.wrote) - first; added > first/4 {
		t.Errorf("%d bundles at first, %d more for the same files shifted", first, added)
	}
}

func TestEqualContentsInOneBundleShareAPlace(t *testing.T) {
	m := newMemory()
	data := noise(1, 5000)
	var items []Item
	for i := range 500 {
		items = append(items, item(fmt.Sprintf("%03d", i), Piece{Stream: "file", Class: blob.Data, Data: data}))
	}
	res := build(t, m, Options{}, items)
	if res.Stats.BundleBytes != 5000 || res.Stats.Bundled != 500 {
		t.Errorf("bundled %d pieces in %d bytes", res.Stats.Bundled, res.Stats.BundleBytes)
	}
	if len(res.Sparse) > 0 {
		t.Error("a bundle in full use counts as sparse")
	}
}

func TestSharedPlaceCountsOnceAsUsed(t *testing.T) {
	m := newMemory()
	shared := noise(1, 5000)
	var items []Item
	for i := range 60 {
		data := shared
		if i%2 == 0 {
			data = noise(uint64(100+i), 2000)
		}
		items = append(items, item(fmt.Sprintf("%03d", i), Piece{Stream: "file", Class: blob.Data, Data: data}))
	}
	first := build(t, m, Options{}, items)
	// What is left is one content of 5,000 bytes in a bundle of 65,000, named thirty times.
	second := build(t, m, Options{}, keep(items, entries(t, m, first.Root), func(i int) bool { return i%2 == 0 }, 2))
	if len(second.Sparse) != 1 {
		t.Errorf("%d sparse bundles, want the first one", len(second.Sparse))
	}
}

func TestUnchangedContentsWriteNothing(t *testing.T) {
	m := newMemory()
	items := files(1, 1000)
	first := build(t, m, Options{}, items)
	blobs, nodes := len(m.wrote), len(m.nodes)
	second := build(t, m, Options{}, keep(items, entries(t, m, first.Root), func(int) bool { return false }, 0))
	if second.Root != first.Root {
		t.Error("the map of the same contents has another root")
	}
	if len(m.wrote) != blobs || len(m.nodes) != nodes {
		t.Errorf("%d blobs and %d nodes were written", len(m.wrote)-blobs, len(m.nodes)-nodes)
	}
	if second.Stats.Kept != 1000 {
		t.Errorf("%d contents kept", second.Stats.Kept)
	}
}

func TestSmallChangeWritesOneSmallBundle(t *testing.T) {
	m := newMemory()
	items := files(1, 1000)
	first := build(t, m, Options{}, items)
	blobs := len(m.wrote)
	build(t, m, Options{}, keep(items, entries(t, m, first.Root), func(i int) bool { return i%200 == 0 }, 2))
	if n := len(m.wrote) - blobs; n != 1 {
		t.Fatalf("%d bundles for five changed contents", n)
	}
	if n := len(m.blobs[m.wrote[blobs]]); n > 5*8100 {
		t.Errorf("a bundle of %d bytes for five changed contents", n)
	}
}

func TestWaitingEntriesAreBounded(t *testing.T) {
	m := newMemory()
	a := NewAssembler(m, Options{Key: testKey})
	defer a.Close()
	const n = 3*maxWaiting + 10
	for i := range n {
		it := item(fmt.Sprintf("%06d", i), Piece{Stream: "body", Class: blob.Data, Data: []byte("small")})
		if i%maxWaiting == 5 { // a stream that never fills a bundle
			it.Contents = append(it.Contents, Piece{Stream: "rare", Class: blob.Secrets, Data: noise(uint64(i), 100)})
		}
		if err := a.Add(t.Context(), it); err != nil {
			t.Fatal(err)
		}
		if len(a.waiting) > maxWaiting {
			t.Fatalf("%d entries wait", len(a.waiting))
		}
	}
	res, err := a.Finish(t.Context())
	if err != nil || res.Root.Count != n {
		t.Errorf("%d entries in the map, want %d, %v", res.Root.Count, n, err)
	}
}

// slow delays writes, so that they end in another order than they began.
type slow struct{ *memory }

func (s slow) Write(ctx context.Context, class blob.Class, data []byte) (blob.Ref, error) {
	time.Sleep(time.Duration(data[0]) * 20 * time.Microsecond)
	return s.memory.Write(ctx, class, data)
}

func TestRootDoesNotDependOnTheOrderOfWrites(t *testing.T) {
	items := files(1, 1000)
	items[500].Contents[0].Data = noise(3, 3<<20)
	want := build(t, newMemory(), Options{Parallel: 1}, items)
	a := NewAssembler(slow{newMemory()}, Options{Key: testKey, Parallel: 8})
	defer a.Close()
	for _, it := range items {
		if err := a.Add(t.Context(), it); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Finish(t.Context())
	if err != nil || got.Root != want.Root {
		t.Errorf("root %v, want %v, %v", got.Root, want.Root, err)
	}
}

func TestAddRefusesWhatIsNoItem(t *testing.T) {
	kept := &Ref{}
	for _, tc := range []struct {
		name string
		it   Item
		want string
	}{
		{"key out of order", item("b"), "not after the key before it"},
		{"key twice", item("m"), "not after the key before it"},
		{"no content", item("x", Piece{Class: blob.Data}), "exactly one"},
		{"two contents", item("x", Piece{Class: blob.Data, Data: []byte{1}, Kept: kept}), "exactly one"},
		{"no class", item("x", Piece{Data: []byte{1}}), "class"},
		{"class of nodes", item("x", Piece{Class: blob.Tree, Data: []byte{1}}), "class"},
	} {
		a := NewAssembler(newMemory(), Options{Key: testKey})
		if err := a.Add(t.Context(), item("m")); err != nil {
			t.Fatal(err)
		}
		err := a.Add(t.Context(), tc.it)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.name, err, tc.want)
		}
		if _, again := a.Finish(t.Context()); again == nil {
			t.Errorf("%s: the map could be finished", tc.name)
		}
	}
}

func TestFailedWriteFailsTheMap(t *testing.T) {
	m := newMemory()
	m.fail = errors.New("bucket is full")
	a := NewAssembler(m, Options{Key: testKey})
	defer a.Close()
	if err := a.Add(t.Context(), item("a", Piece{Class: blob.Data, Data: noise(1, 1000)})); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Finish(t.Context()); !errors.Is(err, m.fail) {
		t.Errorf("Finish: %v", err)
	}
	a = NewAssembler(m, Options{Key: testKey})
	defer a.Close()
	if _, _, err := a.StoreStream(t.Context(), bytes.NewReader(noise(1, 1<<20))); !errors.Is(err, m.fail) {
		t.Errorf("StoreStream: %v", err)
	}
}

func TestStoreStream(t *testing.T) {
	m := newMemory()
	a := NewAssembler(m, Options{Key: testKey})
	defer a.Close()
	for _, tc := range []struct {
		size  int
		place place
	}{{0, inline}, {1, chunked}, {100_000, chunked}, {8 << 20, mapped}} {
		data := noise(9, tc.size)
		ref, n, err := a.StoreStream(t.Context(), bytes.NewReader(data))
		if err != nil || n != int64(tc.size) || ref.place != tc.place {
			t.Errorf("%d bytes: read %d, place %d, %v", tc.size, n, ref.place, err)
		}
		again, _, err := a.StoreStream(t.Context(), iotest.HalfReader(bytes.NewReader(data)))
		if err != nil || !ref.Equal(again) {
			t.Errorf("%d bytes: the same content has another place, %v", tc.size, err)
		}
	}
	broken := errors.New("input/output error")
	_, _, err := a.StoreStream(t.Context(), io.MultiReader(bytes.NewReader(noise(1, 1<<20)), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("error of the reader came back as %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := a.StoreStream(ctx, bytes.NewReader(noise(1, 1<<20))); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
