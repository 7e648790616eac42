package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
)

// node names a node by a number, anywhere among the others.
func node(n int) blob.Ref {
	ref := blob.Ref{Class: blob.Tree}
	binary.BigEndian.PutUint64(ref.ID[:], uint64(n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(ref.ID[8:], uint64(n))
	return ref
}

func number(ref blob.Ref) int { return int(binary.BigEndian.Uint64(ref.ID[8:])) }

// links are those of nodes, by number.
type links map[int][]int

// enter looks links up.
func (l links) enter(_ context.Context, ref blob.Ref, _ []index.Location) (beneath []blob.Ref, err error) {
	for _, n := range l[number(ref)] {
		beneath = append(beneath, node(n))
	}
	return beneath, nil
}

// indexOf knows nodes 0 to n-1 of a pack, and some of them of a second pack as well.
func indexOf(t testing.TB, n int) *index.Set {
	t.Helper()
	rows := make([]index.Entry, n)
	for i := range rows {
		rows[i] = blob.Row{ID: node(i).ID, Class: blob.Tree, Offset: uint32(i), Stored: 1, Links: 1}
	}
	plain, err := index.EncodeSegment([]index.Table{{Pack: blob.Hash{1}, Entries: rows}, {Pack: blob.Hash{2}, Entries: rows[:n/2]}})
	must(t, err)
	segment, err := index.ParseSegment(plain)
	must(t, err)
	s := new(index.Set)
	s.AddSegment(segment, func(pack blob.Hash) (uint32, bool) { return uint32(pack[0]), true })
	return s
}

// Blobs of two copies, of one, and those that are in no index any more or not yet are all the same to a walk.
func TestAWalkMeetsEachBlobOnceAndLeavesWhatIsBeneathFirst(t *testing.T) {
	for _, indexed := range []int{0, 3, 6, 8} {
		of := links{0: {1, 2, 1}, 1: {3, 4}, 2: {4, 1, 5}, 4: {5}, 6: {2, 7}}
		var entered, left []int
		w := walk{met: newMarks(indexOf(t, indexed)), enter: func(ctx context.Context, ref blob.Ref, copies []index.Location) ([]blob.Ref, error) {
			want := 0
			if number(ref) < indexed {
				want++
			}
			if number(ref) < indexed/2 {
				want++
			}
			if len(copies) != want {
				t.Errorf("%d indexed: node %d comes with %d copies, want %d", indexed, number(ref), len(copies), want)
			}
			entered = append(entered, number(ref))
			return of.enter(ctx, ref, copies)
		}, leave: func(ref blob.Ref, _ []blob.Ref) { left = append(left, number(ref)) }}
		for _, root := range []int{0, 6, 0} {
			must(t, w.from(t.Context(), node(root)))
		}
		if diff := cmp.Diff([]int{0, 1, 3, 4, 5, 2, 6, 7}, entered); diff != "" {
			t.Errorf("%d indexed: entered (-want +got)\n%s", indexed, diff)
		}
		if diff := cmp.Diff([]int{3, 5, 4, 1, 2, 0, 7, 6}, left); diff != "" {
			t.Errorf("%d indexed: left (-want +got)\n%s", indexed, diff)
		}
	}
}

// A node is met for one snapshot and the walk ends on the way beneath it. For the next snapshot that shares
// it, what was not seen is not taken for seen.
func TestWhatAnAbandonedWalkDidNotSeeIsMetAgain(t *testing.T) {
	gone := errors.New("gone")
	for _, indexed := range []int{0, 3, 6} {
		of := links{0: {1}, 1: {2, 3}, 3: {4}, 5: {1}}
		abandon := true
		var entered []int
		w := walk{met: newMarks(indexOf(t, indexed)), enter: func(ctx context.Context, ref blob.Ref, copies []index.Location) ([]blob.Ref, error) {
			if number(ref) == 4 && abandon {
				return nil, gone
			}
			entered = append(entered, number(ref))
			return of.enter(ctx, ref, copies)
		}}
		if err := w.from(t.Context(), node(0)); !errors.Is(err, gone) {
			t.Fatal(err)
		}
		abandon, entered = false, nil
		must(t, w.from(t.Context(), node(5)))
		if diff := cmp.Diff([]int{5, 1, 3, 4}, entered); diff != "" {
			t.Errorf("%d indexed: the second walk enters (-want +got)\n%s", indexed, diff)
		}
	}
}

func TestAWalkEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	entered := 0
	w := walk{met: newMarks(indexOf(t, 0)), enter: func(_ context.Context, ref blob.Ref, _ []index.Location) ([]blob.Ref, error) {
		entered++
		cancel()
		return []blob.Ref{node((number(ref) + 1) % 3)}, nil
	}}
	if err := w.from(ctx, node(0)); !errors.Is(err, context.Canceled) || entered != 1 {
		t.Errorf("entered %d nodes, then %v", entered, err)
	}
}

// Nobody writes a tree that is as deep as it has nodes, but whoever has the keys could.
func TestDepthCostsNoStack(t *testing.T) {
	const depth = 1 << 18
	left := 0
	w := walk{met: newMarks(indexOf(t, 0)), enter: func(_ context.Context, ref blob.Ref, _ []index.Location) ([]blob.Ref, error) {
		var callers [64]uintptr
		if runtime.Callers(0, callers[:]) == len(callers) {
			return nil, errors.New("deep on the stack")
		}
		if number(ref) == depth {
			return []blob.Ref{node(0)}, nil // and in a circle
		}
		return []blob.Ref{node(number(ref) + 1)}, nil
	}, leave: func(blob.Ref, []blob.Ref) { left++ }}
	if err := w.from(t.Context(), node(0)); err != nil || left != depth+1 {
		t.Errorf("left %d nodes of %d, %v", left, depth+1, err)
	}
}

// A row takes a bit. With the names of nodes in memory a walk would take more than 32 bytes for each.
func TestMemoryOfAWalkIsABitForEachRow(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what finalizers let go of as well
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	grown := map[int]int64{}
	for _, nodes := range []int{50_000, 200_000} {
		set := indexOf(t, nodes)
		before := heap()
		w := walk{met: newMarks(set), enter: func(_ context.Context, ref blob.Ref, _ []index.Location) (beneath []blob.Ref, err error) {
			for n := 10*number(ref) + 1; n <= 10*number(ref)+10 && n < nodes; n++ {
				beneath = append(beneath, node(n))
			}
			return beneath, nil
		}}
		must(t, w.from(t.Context(), node(0)))
		grown[nodes] = heap() - before
		if met := len(w.met.others); met > 0 {
			t.Errorf("%d of %d nodes are held by name", met, nodes)
		}
		runtime.KeepAlive(set)
	}
	if more := grown[200_000] - grown[50_000]; more > 150_000 {
		t.Errorf("a walk holds %d bytes for 50,000 nodes and %d for 200,000", grown[50_000], grown[200_000])
	}
}
