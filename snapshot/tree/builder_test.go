package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
)

func TestEmptyMapIsTheZeroRoot(t *testing.T) {
	s := newMemory()
	if root := build(t, s, targetWeight, nil); root != (Root{}) || len(s.nodes) != 0 {
		t.Errorf("root %+v and %d nodes, want none", root, len(s.nodes))
	}
}

func TestRootSumsUpTheMap(t *testing.T) {
	for _, n := range []int{1, 2, 10, 100, 1000, 20000} {
		s := newMemory()
		root := build(t, s, targetWeight, plain(n))
		want := Root{Ref: root.Ref, Count: uint64(n), Bytes: uint64(n) * uint64(n-1) / 2, Height: root.Height}
		if root != want {
			t.Errorf("%d entries: root %+v, want %+v", n, root, want)
		}
		if (root.Height == 1) != (len(s.nodes) == 1) {
			t.Errorf("%d entries: height %d with %d nodes", n, root.Height, len(s.nodes))
		}
		if got := collect(t, Open(s, root).Scan(t.Context(), Range{})); !slices.EqualFunc(got, plain(n), Entry.Equal) {
			t.Errorf("%d entries do not come back", n)
		}
	}
}

// Every map with up to 1000 entries, so every way in which levels can be full or have one child.
func TestNoRootHasOneChild(t *testing.T) {
	for n := 1; n <= 1000; n++ {
		s := newMemory()
		root := build(t, s, 256, plain(n))
		top, err := decode(s.nodes[root.Ref])
		if err != nil {
			t.Fatal(err)
		}
		if top.level != root.Height-1 || (top.level > 0 && top.size() < 2) {
			t.Fatalf("%d entries: the root has level %d and %d children, height %d", n, top.level, top.size(), root.Height)
		}
		if last := s.added[len(s.added)-1]; last != root.Ref {
			t.Fatalf("%d entries: a node was stored after the root", n)
		}
	}
}

func TestChangedValueRewritesItsPathAlone(t *testing.T) {
	entries := cluster(1, 10000)
	s := newMemory()
	root := build(t, s, targetWeight, entries)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		changed := slices.Clone(entries)
		setContent(rng, &changed[rng.IntN(len(changed))], 1, 0)
		before := len(s.added)
		after := build(t, s, targetWeight, changed)
		if got := len(s.added) - before; got != root.Height || after.Ref == root.Ref {
			t.Errorf("%d new nodes, want one of each of the %d levels", got, root.Height)
		}
		if back := build(t, s, targetWeight, entries); back != root {
			t.Errorf("changed back, the root is %+v, want %+v", back, root)
		}
	}
}

// A resourceVersion or a path grows by a digit now and then; its neighbours must not pay for it.
func TestSlightlyLongerValueMovesNoBoundary(t *testing.T) {
	entries := cluster(3, 10000)
	s := newMemory()
	root := build(t, s, targetWeight, entries)
	const rounds = 50
	total := 0
	for i := range rounds {
		changed := slices.Clone(entries)
		e := &changed[i*len(changed)/rounds]
		e.Value = append(bytes.Clone(e.Value), "12"...)
		before := len(s.added)
		build(t, s, targetWeight, changed)
		total += len(s.added) - before
	}
	if mean := float64(total) / rounds; mean > float64(root.Height)*1.05 {
		t.Errorf("%.2f new nodes on average, in a map of height %d", mean, root.Height)
	}
}

func TestInsertedOrRemovedEntryRewritesFewNodes(t *testing.T) {
	entries := cluster(2, 10000)
	s := newMemory()
	root := build(t, s, targetWeight, entries)
	rng := rand.New(rand.NewPCG(2, 2))
	const rounds = 100
	total, worst := 0, 0
	for i := range rounds {
		at := rng.IntN(len(entries))
		changed := slices.Clone(entries)
		if i%2 == 0 {
			changed = slices.Delete(changed, at, at+1)
		} else {
			e := changed[at]
			e.Key = append(bytes.Clone(e.Key), "-copy"...)
			changed = slices.Insert(changed, at+1, e)
		}
		before := len(s.added)
		build(t, s, targetWeight, changed)
		total += len(s.added) - before
		worst = max(worst, len(s.added)-before)
	}
	if mean := float64(total) / rounds; mean > float64(root.Height)*1.5 || worst > 6*root.Height {
		t.Errorf("%.1f new nodes on average and at most %d, in a map of height %d", mean, worst, root.Height)
	}
}

func TestNodesWeighTheTargetWhateverTheEntries(t *testing.T) {
	for _, size := range []int{1, 20, 100, 400} {
		entries := plain(200 * targetWeight / (size + 20))
		for i := range entries {
			entries[i].Value = bytes.Repeat([]byte{byte(i)}, size)
		}
		s := newMemory()
		build(t, s, targetWeight, entries)
		var weights []uint64
		for _, ref := range s.added {
			n, err := decode(s.nodes[ref])
			if err != nil {
				t.Fatal(err)
			}
			var w uint64
			for _, e := range n.entries {
				w += entryWeight(e)
			}
			if n.level == 0 {
				weights = append(weights, w)
			}
		}
		var sum uint64
		for i, w := range weights {
			if sum += w; (w < targetWeight/4 && i < len(weights)-1) || w > 5*targetWeight {
				t.Errorf("values of %d bytes: node %d weighs %d", size, i, w)
			}
		}
		if mean := float64(sum) / float64(len(weights)); math.Abs(mean/targetWeight-1) > 0.2 {
			t.Errorf("values of %d bytes: nodes weigh %.0f on average, want about %d", size, mean, targetWeight)
		}
	}
}

func TestLargestEntriesStillGiveATree(t *testing.T) {
	var entries []Entry
	for i := range 40 {
		e := Entry{Key: bytes.Repeat([]byte{'k'}, MaxKey), Value: make([]byte, MaxValue)}
		copy(e.Key[MaxKey-2:], fmt.Sprintf("%02d", i))
		for j := range MaxRefs {
			e.Refs = append(e.Refs, bundle("large", i, j))
		}
		entries = append(entries, e)
	}
	s := newMemory()
	root := build(t, s, targetWeight, entries)
	if root.Height != 7 { // 40 leaves, 20, 10, 5, 3, 2, 1
		t.Errorf("height %d, want 7", root.Height)
	}
	if got := collect(t, Open(s, root).Scan(t.Context(), Range{})); !slices.EqualFunc(got, entries, Entry.Equal) {
		t.Error("the entries do not come back")
	}
}

func TestBuilderRefuses(t *testing.T) {
	ok := Entry{Key: []byte("m")}
	tests := []struct {
		name  string
		entry Entry
		want  error
	}{
		{"a key out of order", Entry{Key: []byte("a")}, ErrOrder},
		{"a key twice", Entry{Key: []byte("m")}, ErrOrder},
		{"no key", Entry{}, ErrLimit},
		{"a long key", Entry{Key: bytes.Repeat([]byte("x"), MaxKey+1)}, ErrLimit},
		{"a long value", Entry{Key: []byte("x"), Value: make([]byte, MaxValue+1)}, ErrLimit},
		{"many references", Entry{Key: []byte("x"), Refs: make([]blob.Ref, MaxRefs+1)}, ErrLimit},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			b := NewBuilder(newMemory(), testKey)
			if err := b.Add(t.Context(), ok); err != nil {
				t.Fatal(err)
			}
			if err := b.Add(t.Context(), tc.entry); !errors.Is(err, tc.want) {
				t.Errorf("Add gives %v, want %v", err, tc.want)
			}
			if err := b.Add(t.Context(), Entry{Key: []byte("z")}); !errors.Is(err, tc.want) {
				t.Errorf("the next Add gives %v, want %v again", err, tc.want)
			}
			if root, err := b.Finish(t.Context()); !errors.Is(err, tc.want) {
				t.Errorf("Finish gives %+v and %v, want %v", root, err, tc.want)
			}
		})
	}
	b := NewBuilder(newMemory(), testKey)
	for i, bytes := range []uint64{math.MaxUint64, 1} {
		if err := b.Add(t.Context(), Entry{Key: []byte{'a' + byte(i)}, Bytes: bytes}); (err != nil) != (i == 1) {
			t.Errorf("entry %d that makes the sum overflow: %v", i, err)
		}
	}
}

// full is a store that takes some nodes and then no more.
type full struct {
	*memory
	left int
}

var errFull = errors.New("no space left")

func (s *full) WriteNode(ctx context.Context, class blob.Class, n blob.Node) (blob.Ref, error) {
	if s.left--; s.left < 0 {
		return blob.Ref{}, errFull
	}
	return s.memory.WriteNode(ctx, class, n)
}

func TestBuilderReportsWhatItCannotStore(t *testing.T) {
	for _, left := range []int{0, 5, 40} {
		b := NewBuilder(&full{newMemory(), left}, testKey)
		for _, e := range plain(3000) {
			if b.Add(t.Context(), e) != nil {
				break
			}
		}
		_, err := b.Finish(t.Context())
		if !errors.Is(err, errFull) || !strings.Contains(err.Error(), "key-0000") {
			t.Errorf("after %d nodes: %v, want one that names the place and the cause", left, err)
		}
	}
}

func TestNodesEndWithinTheirBoundsWhateverTheHash(t *testing.T) {
	c := newCutter(testKey, targetWeight)
	for i := range 1000 {
		key := fmt.Append(nil, i)
		if c.ends(0, key, 500, targetWeight/4-1) {
			t.Fatalf("a node below the minimum ends after %s", key)
		}
		if !c.ends(0, key, 1, targetWeight*4) {
			t.Fatalf("a node of the maximum does not end after %s", key)
		}
	}
}
