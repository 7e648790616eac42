package tree

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/varve-dev/varve/repo/blob"
)

// storedSize is what nodes cost in a repository: bodies compressed, links as they are, and for each
// node 45 bytes of sealing and 55 in the tables.
func storedSize(t testing.TB, s *memory, nodes []blob.Ref) (size int) {
	t.Helper()
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range nodes {
		n := s.nodes[r]
		size += len(z.EncodeAll(n.Body, nil)) + 33*len(n.Links) + 45 + 55
	}
	return size
}

// rerun returns entries of which some, at random, have got new contents, all bundled together.
func rerun(seed uint64, entries []Entry, changes int) []Entry {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := slices.Clone(entries)
	for i, at := range rng.Perm(len(out))[:changes] {
		setContent(rng, &out[at], int(seed)+1, i)
	}
	return out
}

// stored builds a map and its rerun in a new store and returns what either adds.
func stored(t testing.TB, seed, target uint64, entries []Entry, changes int) (first, again, nodes int) {
	s := newMemory()
	build(t, s, target, entries)
	before := len(s.added)
	build(t, s, target, rerun(seed, entries, changes))
	return storedSize(t, s, s.added[:before]), storedSize(t, s, s.added[before:]), len(s.added) - before
}

func TestSmallChangesOfManyObjectsStoreLittle(t *testing.T) {
	entries := cluster(9, 10000)
	for _, tc := range []struct{ changes, limit int }{{100, 150_000}, {5, 15_000}} {
		const rounds = 5
		sum := 0
		for seed := range uint64(rounds) {
			_, again, _ := stored(t, seed, targetWeight, entries, tc.changes)
			sum += again
		}
		if mean := sum / rounds; mean > tc.limit {
			t.Errorf("%d changed of %d: %d bytes of nodes on average, want at most %d", tc.changes, len(entries), mean, tc.limit)
		}
	}
}

// The figures in docs/design/merkle-map.md: go test -bench Target ./snapshot/tree
func BenchmarkTarget(b *testing.B) {
	entries := cluster(9, 10000)
	for _, target := range []uint64{1 << 10, 2 << 10, 4 << 10, 8 << 10} {
		for _, changes := range []int{100, 5} {
			b.Run(fmt.Sprintf("target=%d/changes=%d", target, changes), func(b *testing.B) {
				var first, again, nodes, runs int
				for b.Loop() {
					f, a, n := stored(b, uint64(runs), target, entries, changes)
					first, again, nodes, runs = first+f, again+a, nodes+n, runs+1
				}
				b.ReportMetric(float64(first)/float64(runs)/1000, "first-KB")
				b.ReportMetric(float64(again)/float64(runs)/1000, "again-KB")
				b.ReportMetric(float64(nodes)/float64(runs), "new-nodes")
			})
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	entries := cluster(9, 10000)
	for b.Loop() {
		build(b, newMemory(), targetWeight, entries)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/entry")
}
