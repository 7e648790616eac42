package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// compare is what a diff of two sorted lists must give.
func compare(a, b []Entry) (out []Change) {
	for len(a) > 0 || len(b) > 0 {
		order := 0
		switch {
		case len(a) == 0:
			order = 1
		case len(b) == 0:
			order = -1
		default:
			order = bytes.Compare(a[0].Key, b[0].Key)
		}
		var c Change
		if order <= 0 {
			c.Key, c.Old, a = a[0].Key, &a[0], a[1:]
		}
		if order >= 0 {
			c.Key, c.New, b = b[0].Key, &b[0], b[1:]
		}
		if order != 0 || !c.Old.Equal(*c.New) {
			out = append(out, c)
		}
	}
	return out
}

func sameChanges(t *testing.T, what string, got, want []Change) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || !cmp.Equal(got[i], want[i]) {
			t.Fatalf("%s: %d changes, want %d; they differ from the one at %d on", what, len(got), len(want), i)
		}
	}
}

// mutate changes, removes and adds some entries, and cuts off an end now and then.
func mutate(rng *rand.Rand, entries []Entry, changes int) []Entry {
	out := slices.Clone(entries)
	for range changes {
		if len(out) == 0 {
			break
		}
		i := rng.IntN(len(out))
		switch rng.IntN(4) {
		case 0:
			out = slices.Delete(out, i, i+1)
		case 1:
			e := out[i]
			e.Key = append(bytes.Clone(e.Key), 1)
			if i+1 == len(out) || bytes.Compare(e.Key, out[i+1].Key) < 0 {
				out = slices.Insert(out, i+1, e)
			}
		case 2:
			out[i].Value = fmt.Appendf(nil, "new %d", rng.Int())
		case 3:
			if rng.IntN(10) == 0 {
				out = slices.Delete(out, i, min(len(out), i+rng.IntN(500)))
			}
		}
	}
	return out
}

func TestDiffFindsExactlyWhatDiffers(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	s := newMemory()
	for round := range 300 {
		a := cluster(uint64(round%7), rng.IntN(400))
		b := mutate(rng, a, rng.IntN(20))
		if round%5 == 0 && len(b) > 0 { // maps of very different height
			b = b[:rng.IntN(len(b))]
		}
		if round%7 == 0 && len(a) > 0 {
			a = a[rng.IntN(len(a)):]
		}
		ma, mb := Open(s, build(t, s, 256, a)), Open(s, build(t, s, 256, b))
		sameChanges(t, "all keys", collect(t, Diff(t.Context(), ma, mb, Range{})), compare(a, b))

		r := Range{From: fmt.Appendf(nil, "%c", 'a'+rng.IntN(20)), To: fmt.Appendf(nil, "%c", 'a'+rng.IntN(20))}
		sameChanges(t, fmt.Sprintf("%q to %q", r.From, r.To),
			collect(t, Diff(t.Context(), ma, mb, r)), compare(inRange(a, r), inRange(b, r)))
	}
}

func TestDiffOfOneChangeLoadsOnlyTheWayThere(t *testing.T) {
	entries := plain(100000)
	s := newMemory()
	root := build(t, s, targetWeight, entries)
	tests := map[string]func(e []Entry) []Entry{
		"changed":         func(e []Entry) []Entry { e[54321].Value = []byte("value 55555"); return e },
		"removed":         func(e []Entry) []Entry { return slices.Delete(e, 54321, 54322) },
		"first removed":   func(e []Entry) []Entry { return e[1:] },
		"last removed":    func(e []Entry) []Entry { return e[:len(e)-1] },
		"inserted":        func(e []Entry) []Entry { return slices.Insert(e, 54321, Entry{Key: []byte("key-00054320x")}) },
		"added in front":  func(e []Entry) []Entry { return slices.Insert(e, 0, Entry{Key: []byte("k")}) },
		"added at end":    func(e []Entry) []Entry { return append(e, Entry{Key: []byte("l")}) },
		"changed to same": func(e []Entry) []Entry { return e },
	}
	for name, change := range tests {
		changed := change(slices.Clone(entries))
		other := build(t, s, targetWeight, changed)
		for _, pair := range [][2]Root{{root, other}, {other, root}} {
			s.loads = 0
			got := collect(t, Diff(t.Context(), Open(s, pair[0]), Open(s, pair[1]), Range{}))
			if want := name != "changed to same"; (len(got) == 1) != want {
				t.Errorf("%s: %d changes", name, len(got))
			}
			if limit := 5 * root.Height; s.loads > limit {
				t.Errorf("%s: %d nodes loaded of maps of height %d, want at most %d", name, s.loads, root.Height, limit)
			}
		}
	}
}

// Every node that both maps hold must stay unloaded; the root of the lower map is the one exception,
// since where it begins cannot be known before.
func TestDiffNeverLoadsASharedNode(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for round := range 40 {
		a := cluster(uint64(round), 2000)
		b := mutate(rng, a, 1+rng.IntN(10))
		if round%4 == 0 {
			b = b[:len(b)/(1+rng.IntN(30))]
		}
		s := newMemory()
		ra := build(t, s, 256, a)
		inA := len(s.added)
		rb := build(t, s, 256, b)
		onlyB := len(s.added) - inA
		sb := newMemory()
		build(t, sb, 256, b)
		onlyA := 0
		for _, ref := range s.added[:inA] {
			if _, shared := sb.nodes[ref]; !shared {
				onlyA++
			}
		}
		s.loads = 0
		collect(t, Diff(t.Context(), Open(s, ra), Open(s, rb), Range{}))
		if s.loads > onlyA+onlyB+1 {
			t.Errorf("round %d: %d loads, but only %d and %d nodes are not shared", round, s.loads, onlyA, onlyB)
		}
	}
}

func TestDiffOfARangeLoadsNothingOutside(t *testing.T) {
	a := plain(50000)
	b := slices.Clone(a)
	for i := range b {
		b[i].Bytes++
	}
	s := newMemory()
	ma, mb := Open(s, build(t, s, targetWeight, a)), Open(s, build(t, s, targetWeight, b))
	got := collect(t, Diff(t.Context(), ma, mb, Range{From: a[25000].Key, To: a[25003].Key}))
	if limit := 4 * ma.Root().Height; len(got) != 3 || s.loads > limit {
		t.Errorf("%d changes with %d loads, want 3 with at most %d", len(got), s.loads, limit)
	}
}

func TestDiffEndsWithTheErrorOfALoad(t *testing.T) {
	s := newMemory()
	a := build(t, s, targetWeight, plain(2000))
	delete(s.nodes, s.added[3])
	var failed error
	for _, err := range Diff(t.Context(), Open(s, a), Open(s, Root{}), Range{}) {
		if failed != nil {
			t.Fatal("the diff goes on after an error")
		}
		failed = err
	}
	if !errors.Is(failed, errAbsent) {
		t.Errorf("diff ends with %v, want %v", failed, errAbsent)
	}
}

func TestDiffStopsWhenTold(t *testing.T) {
	s := newMemory()
	a := build(t, s, targetWeight, plain(2000))
	for range Diff(t.Context(), Open(s, a), Open(s, Root{}), Range{}) {
		break
	}
	if s.loads > a.Height {
		t.Errorf("%d nodes loaded for the first change", s.loads)
	}
}
