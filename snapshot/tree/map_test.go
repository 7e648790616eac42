package tree

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestGetLoadsOneNodePerLevel(t *testing.T) {
	entries := cluster(3, 5000)
	s := newMemory()
	root := build(t, s, targetWeight, entries)
	m := Open(s, root)
	for _, e := range entries {
		s.loads = 0
		got, ok, err := m.Get(t.Context(), e.Key)
		if err != nil || !ok || !got.Equal(e) {
			t.Fatalf("Get(%q) gives %+v, %v, %v", e.Key, got, ok, err)
		}
		if s.loads != root.Height {
			t.Fatalf("Get(%q) loads %d nodes of %d levels", e.Key, s.loads, root.Height)
		}
		for _, absent := range [][]byte{append(bytes.Clone(e.Key), 0), e.Key[:len(e.Key)-1]} {
			if _, ok, err := m.Get(t.Context(), absent); ok || err != nil {
				t.Fatalf("Get(%q) gives %v, %v, want nothing", absent, ok, err)
			}
		}
	}
	for _, absent := range []string{"", "\x00", "\xff"} {
		if _, ok, err := m.Get(t.Context(), []byte(absent)); ok || err != nil {
			t.Errorf("Get(%q) gives %v, %v, want nothing", absent, ok, err)
		}
	}
}

func TestEmptyMapAnswersWithoutLoading(t *testing.T) {
	m := Open(newMemory(), Root{})
	if _, ok, err := m.Get(t.Context(), []byte("a")); ok || err != nil {
		t.Errorf("Get gives %v, %v", ok, err)
	}
	c := m.Cursor(t.Context())
	c.Seek([]byte("a"))
	if _, ok, err := c.Next(); ok || err != nil {
		t.Errorf("Next gives %v, %v", ok, err)
	}
	if got := collect(t, Diff(t.Context(), m, m, Range{})); got != nil {
		t.Errorf("Diff gives %v", got)
	}
}

// inRange is what a scan of entries must give.
func inRange(entries []Entry, r Range) (out []Entry) {
	for _, e := range entries {
		if bytes.Compare(e.Key, r.From) >= 0 && (len(r.To) == 0 || bytes.Compare(e.Key, r.To) < 0) {
			out = append(out, e)
		}
	}
	return out
}

func TestScanGivesTheRange(t *testing.T) {
	entries := cluster(4, 3000)
	s := newMemory()
	m := Open(s, build(t, s, targetWeight, entries))
	ranges := []Range{
		{}, Prefix(nil), Prefix([]byte("pods/")), Prefix([]byte("pods/ns-1")), Prefix([]byte("a")), Prefix([]byte("zz")),
		{From: []byte("s")}, {To: []byte("b")}, {From: []byte("x"), To: []byte("c")},
		{From: entries[100].Key, To: entries[101].Key}, {From: entries[100].Key, To: entries[100].Key},
	}
	for _, r := range ranges {
		if got, want := collect(t, m.Scan(t.Context(), r)), inRange(entries, r); !slices.EqualFunc(got, want, Entry.Equal) {
			t.Errorf("scan from %q to %q gives %d entries, want %d", r.From, r.To, len(got), len(want))
		}
	}
	s.loads = 0
	collect(t, m.Scan(t.Context(), Range{From: entries[1000].Key, To: entries[1001].Key}))
	if s.loads > m.Root().Height+1 {
		t.Errorf("a scan of one entry loads %d nodes of %d levels", s.loads, m.Root().Height)
	}
}

func TestPrefixEndsAfterTheLastKeyWithIt(t *testing.T) {
	for _, tc := range []struct{ prefix, to string }{
		{"a", "b"}, {"a\xff", "b"}, {"a\xff\xff", "b"}, {"a\x00", "a\x01"}, {"\xff", ""}, {"", ""},
	} {
		if r := Prefix([]byte(tc.prefix)); string(r.From) != tc.prefix || string(r.To) != tc.to {
			t.Errorf("Prefix(%q) = %q to %q, want to %q", tc.prefix, r.From, r.To, tc.to)
		}
	}
}

func TestScanStopsWhenTold(t *testing.T) {
	s := newMemory()
	m := Open(s, build(t, s, targetWeight, plain(1000)))
	for range m.Scan(t.Context(), Range{}) {
		break
	}
	if s.loads != m.Root().Height {
		t.Errorf("%d nodes loaded for the first entry, want one per level", s.loads)
	}
}

func TestCursorSeeksAnywhere(t *testing.T) {
	entries := cluster(5, 3000)
	s := newMemory()
	c := Open(s, build(t, s, 512, entries)).Cursor(t.Context())
	rng := rand.New(rand.NewPCG(5, 5))
	for range 5000 {
		at := rng.IntN(len(entries) + 1)
		key := []byte("~") // after all
		if at < len(entries) {
			key = bytes.Clone(entries[at].Key)
			if rng.IntN(2) == 0 {
				key = append(key, 0) // between this one and the next
				at++
			}
		}
		c.Seek(key)
		clear(key) // the cursor must not rely on it
		for range rng.IntN(30) {
			e, ok, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			if ok != (at < len(entries)) || (ok && !e.Equal(entries[at])) {
				t.Fatalf("Next gives %q, %v, want entry %d of %d", e.Key, ok, at, len(entries))
			}
			if !ok {
				break
			}
			at++
		}
	}
}

func TestCursorSkipsWhatItPasses(t *testing.T) {
	entries := plain(100000)
	s := newMemory()
	root := build(t, s, targetWeight, entries)
	c := Open(s, root).Cursor(t.Context())
	const steps = 10
	for i := range steps {
		c.Seek(entries[i*len(entries)/steps].Key)
		if _, ok, err := c.Next(); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	if s.loads > steps*root.Height {
		t.Errorf("%d loads for %d seeks in %d levels", s.loads, steps, root.Height)
	}
	s.loads = 0
	c.Seek(entries[90001].Key)
	if e, _, err := c.Next(); err != nil || !e.Equal(entries[90001]) {
		t.Fatal(err)
	}
	if s.loads != 0 {
		t.Errorf("%d loads for a seek in the leaf where the cursor stands", s.loads)
	}
}

func TestReadingNamesTheNodeItCannotLoad(t *testing.T) {
	s := newMemory()
	root := build(t, s, targetWeight, plain(2000))
	lost := s.added[7]
	delete(s.nodes, lost)
	m := Open(s, root)
	var read int
	var failed error
	for _, err := range m.Scan(t.Context(), Range{}) {
		if failed != nil {
			t.Fatal("the scan goes on after an error")
		}
		if failed = err; err == nil {
			read++
		}
	}
	if !errors.Is(failed, errAbsent) || !strings.Contains(failed.Error(), lost.String()) {
		t.Errorf("scan ends with %v, want one that names %s", failed, lost)
	}
	if read == 0 {
		t.Error("the leaves before it were not read")
	}
	c := m.Cursor(t.Context())
	for failed = nil; failed == nil; {
		_, _, failed = c.Next()
	}
	if _, ok, err := c.Next(); ok || !errors.Is(err, errAbsent) {
		t.Errorf("after its error the cursor gives %v, %v", ok, err)
	}
}

func TestWrongRootIsRefused(t *testing.T) {
	s := newMemory()
	root := build(t, s, targetWeight, plain(2000))
	tests := map[string]func(r *Root){
		"count":  func(r *Root) { r.Count++ },
		"bytes":  func(r *Root) { r.Bytes-- },
		"height": func(r *Root) { r.Height++ },
		"class":  func(r *Root) { r.Ref.Class++; s.nodes[r.Ref] = s.nodes[root.Ref] },
	}
	for name, change := range tests {
		wrong := root
		change(&wrong)
		if _, _, err := Open(s, wrong).Get(t.Context(), []byte("key-00000001")); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: Get gives %v, want %v", name, err, ErrMalformed)
		}
	}
}

func ExamplePrefix() {
	r := Prefix([]byte("pods/"))
	fmt.Printf("%s %s\n", r.From, r.To)
	// Output: pods/ pods0
}
