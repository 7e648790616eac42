package content

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
)

// history is a map of 1,000 files of equal sizes, so that tenths of files are tenths of bytes, and what
// became of it over several runs.
type history struct {
	*memory
	items []Item
	last  Result
}

func newHistory(t *testing.T) *history {
	h := &history{memory: newMemory()}
	for i := range 1000 {
		h.items = append(h.items, item(fmt.Sprintf("%03d", i),
			Piece{Stream: "file", Class: blob.Data, Data: noise(uint64(i), 2000)}))
	}
	h.last = build(t, h.memory, Options{Parallel: 1}, h.items) // so the last bundle written is the short one
	return h
}

// run changes some files, and gives up what the run before says.
func (h *history) run(t *testing.T, seed uint64, changed func(i int) bool) {
	t.Helper()
	next := keep(h.items, entries(t, h.memory, h.last.Root), changed, seed)
	h.last = build(t, h.memory, Options{GiveUp: h.last.Sparse, Loader: h.memory}, next)
}

func nothing(int) bool { return false }

// mustHold fails the test if a file that has never been changed does not have its first content.
func (h *history) mustHold(t *testing.T, changed func(i int) bool) {
	t.Helper()
	r, refs := NewReader(h.memory), entries(t, h.memory, h.last.Root)
	for i, it := range h.items {
		if changed(i) {
			continue
		}
		data, err := r.ReadAll(t.Context(), refs[string(it.Key)][0])
		if err != nil || !bytes.Equal(data, it.Contents[0].Data) {
			t.Fatalf("file %d has other %d bytes, %v", i, len(data), err)
		}
	}
	if len(refs) != len(h.items) {
		t.Errorf("%d files, want %d", len(refs), len(h.items))
	}
}

// TestBundleIsGivenUpWhenLessThanHalfIsUsed changes the same files again and again. A bundle may be used
// for as long as half of it is; else, after some runs, none may refer to it.
func TestBundleIsGivenUpWhenLessThanHalfIsUsed(t *testing.T) {
	for _, tc := range []struct {
		tenths int // changed in every run
		gone   bool
	}{{1, false}, {4, false}, {6, true}, {9, true}} {
		t.Run(fmt.Sprintf("%d tenths", tc.tenths), func(t *testing.T) {
			h := newHistory(t)
			old := make(map[blob.Ref]bool)
			for _, ref := range h.wrote[:len(h.wrote)-1] { // the last one is short
				old[ref] = true
			}
			changed := func(i int) bool { return i%10 < tc.tenths }
			moved := int64(0)
			for run := range uint64(10) {
				h.run(t, run+1, changed)
				moved += h.last.Stats.Moved
			}
			h.mustHold(t, changed)
			used := make(map[blob.Ref]bool)
			for _, refs := range entries(t, h.memory, h.last.Root) {
				used[refs[0].bundle.blob] = true
			}
			for ref := range old {
				if used[ref] == tc.gone {
					t.Errorf("old bundle %s is used: %v", ref, used[ref])
				}
			}
			if tc.gone != (moved > 0) {
				t.Errorf("%d contents moved", moved)
			}
		})
	}
}

func TestUnchangedRunMovesNothing(t *testing.T) {
	h := newHistory(t)
	changed := func(i int) bool { return i%10 < 8 }
	h.run(t, 1, changed)
	if len(h.last.Sparse) == 0 {
		t.Fatal("no bundle is to be given up")
	}
	before, blobs := h.last, len(h.wrote)
	h.run(t, 0, nothing)
	if diff := cmp.Diff(before.Sparse, h.last.Sparse); diff != "" {
		t.Errorf("to be given up (-before +after):\n%s", diff)
	}
	if h.last.Root != before.Root || len(h.wrote) != blobs || h.last.Stats.Kept != 1000 || h.last.Stats.Moved != 0 {
		t.Errorf("%d blobs written, root the same: %v, %+v", len(h.wrote)-blobs, h.last.Root == before.Root, h.last.Stats)
	}

	// The next run with a change does it, also of what comes before the change.
	h.run(t, 2, func(i int) bool { return i == 999 })
	if h.last.Stats.Moved == 0 || h.last.Stats.Moved+h.last.Stats.Kept != 999 {
		t.Errorf("%+v", h.last.Stats)
	}
	given := make(map[blob.Ref]bool)
	for _, ref := range before.Sparse {
		given[ref] = true
	}
	for key, refs := range entries(t, h.memory, h.last.Root) {
		if given[refs[0].bundle.blob] {
			t.Errorf("%s is in a bundle that was given up", key)
		}
	}
	h.mustHold(t, func(i int) bool { return changed(i) || i == 999 })
}

// TestLeavingContentsDoNotWaitForEver has more entries before the first change than may wait.
func TestLeavingContentsDoNotWaitForEver(t *testing.T) {
	m := newMemory()
	var items []Item
	for i := range maxWaiting + 500 {
		items = append(items, item(fmt.Sprintf("%06d", i), Piece{Stream: "file", Class: blob.Data, Data: noise(uint64(i), 100)}))
	}
	first := build(t, m, Options{}, items)
	old := entries(t, m, first.Root)
	var giveUp []blob.Ref
	seen := make(map[blob.Ref]bool)
	for _, refs := range old {
		if ref := refs[0].bundle.blob; !seen[ref] {
			seen[ref] = true
			giveUp = append(giveUp, ref)
		}
	}
	last := len(items) - 1
	second := build(t, m, Options{GiveUp: giveUp, Loader: m}, keep(items, old, func(i int) bool { return i == last }, 2))
	if second.Stats.Moved != maxWaiting || second.Stats.Kept != int64(last-maxWaiting) {
		t.Errorf("%+v", second.Stats)
	}
	r := NewReader(m)
	for key, refs := range entries(t, m, second.Root) {
		got, err := r.ReadAll(t.Context(), refs[0])
		want, _ := r.ReadAll(t.Context(), old[key][0])
		if err != nil || bytes.Equal(got, want) != (key != string(items[last].Key)) {
			t.Fatalf("%s has %d bytes, %v", key, len(got), err)
		}
	}
}

func TestOutworn(t *testing.T) {
	type bundle struct{ size, used uint64 }
	for _, tc := range []struct {
		name    string
		bundles []bundle
		written uint64
		want    []int
	}{
		{"nothing", nil, 0, nil},
		{"half is enough", []bundle{{1000, 500}, {1001, 500}}, 0, []int{1}},
		{"the emptiest first", []bundle{{150_000, 20_000}, {150_000, 10_000}, {150_000, 15_000}}, 0, []int{1}},
		{"what fits beside them", []bundle{{150_000, 20_000}, {150_000, 10_000}, {40_000, 14_000}}, 0, []int{1, 2}},
		{"none that is too full for a small run", []bundle{{150_000, 70_000}}, 100_000, nil},
		{"more when more is new", []bundle{{150_000, 70_000}, {150_000, 60_000}, {150_000, 50_000}}, 400_000, []int{1, 2}},
		{"more of a large map", []bundle{{150_000, 70_000}, {1 << 30, 1 << 30}}, 0, []int{0}},
	} {
		all := make(map[blob.Ref]*usage)
		name := func(i int) blob.Ref { return blob.Ref{Class: blob.Data, ID: blob.ID{byte(i)}} }
		for i, b := range tc.bundles {
			all[name(i)] = &usage{blob: name(i), size: b.size, used: b.used}
		}
		var want []blob.Ref
		for _, i := range tc.want {
			want = append(want, name(i))
		}
		if diff := cmp.Diff(want, outworn(all, tc.written)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}
