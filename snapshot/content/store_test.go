package content

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

// memory keeps blobs by their SHA-256: a repository without a bucket.
type memory struct {
	mu    sync.Mutex
	blobs map[blob.Ref][]byte
	nodes map[blob.Ref]blob.Node
	wrote []blob.Ref // blobs that were new, in order
	reads map[blob.Ref]int
	fail  error // what Write returns, if set
}

func newMemory() *memory {
	return &memory{
		blobs: make(map[blob.Ref][]byte),
		nodes: make(map[blob.Ref]blob.Node),
		reads: make(map[blob.Ref]int),
	}
}

func (m *memory) Write(_ context.Context, class blob.Class, data []byte) (blob.Ref, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return blob.Ref{}, m.fail
	}
	ref := blob.Ref{Class: class, ID: sha256.Sum256(append([]byte{byte(class)}, data...))}
	if _, ok := m.blobs[ref]; !ok {
		m.blobs[ref] = append([]byte(nil), data...)
		m.wrote = append(m.wrote, ref)
	}
	return ref, nil
}

func (m *memory) WriteNode(_ context.Context, class blob.Class, n blob.Node) (blob.Ref, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := sha256.New()
	for _, l := range n.Links {
		h.Write([]byte{byte(l.Class)})
		h.Write(l.ID[:])
	}
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(n.Links))))
	h.Write(n.Body)
	ref := blob.Ref{Class: class, ID: blob.ID(h.Sum(nil))}
	m.nodes[ref] = blob.Node{Links: append([]blob.Ref(nil), n.Links...), Body: append([]byte(nil), n.Body...)}
	return ref, nil
}

func (m *memory) Read(_ context.Context, ref blob.Ref) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads[ref]++
	data, ok := m.blobs[ref]
	if !ok {
		return nil, fmt.Errorf("no blob %s", ref)
	}
	return data, nil
}

func (m *memory) ReadNode(_ context.Context, ref blob.Ref) (blob.Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.nodes[ref]
	if !ok {
		return blob.Node{}, fmt.Errorf("no node %s", ref)
	}
	return n, nil
}

func testKey(purpose string) [32]byte { return sha256.Sum256([]byte(purpose)) }

// build makes a map of items and fails the test if that fails.
func build(t testing.TB, m *memory, opt Options, items []Item) Result {
	t.Helper()
	opt.Key = testKey
	a := NewAssembler(m, opt)
	defer a.Close()
	for _, it := range items {
		if err := a.Add(t.Context(), it); err != nil {
			t.Fatal(err)
		}
	}
	res, err := a.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// entries returns the contents of each entry of a map by key.
func entries(t testing.TB, m *memory, root tree.Root) map[string][]Ref {
	t.Helper()
	all := make(map[string][]Ref)
	for e, err := range tree.Open(m, root).Scan(t.Context(), tree.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		_, refs, err := DecodeEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		all[string(e.Key)] = refs
	}
	return all
}

// noise returns n bytes that depend on seed only.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	src := rand.NewChaCha8(sha256.Sum256(binary.BigEndian.AppendUint64(nil, seed)))
	src.Read(b)
	return b
}

// files returns n items with contents of some KiB, all different; the seed decides the contents.
func files(seed uint64, n int) []Item {
	items := make([]Item, n)
	for i := range items {
		s := seed*1_000_000 + uint64(i)
		size := 100 + int(rand.New(rand.NewPCG(s, 0)).Int32N(8000))
		items[i] = item(fmt.Sprintf("%06d", i), Piece{Stream: "file", Class: blob.Data, Data: noise(s, size)})
	}
	return items
}

func item(key string, pieces ...Piece) Item {
	it := Item{Key: []byte(key), Attrs: []byte("attributes of " + key), Contents: pieces}
	for _, p := range pieces {
		it.Bytes += uint64(len(p.Data))
	}
	return it
}

// keep returns items that refer to the contents in old, but for the keys in changed, which get a new
// content.
func keep(items []Item, old map[string][]Ref, changed func(i int) bool, seed uint64) []Item {
	next := make([]Item, len(items))
	for i, it := range items {
		next[i] = it
		p := it.Contents[0]
		if changed(i) {
			p.Data = noise(seed*1_000_000+uint64(i), len(p.Data))
		} else {
			p.Data, p.Kept = nil, &old[string(it.Key)][0]
		}
		next[i].Contents = []Piece{p}
	}
	return next
}
