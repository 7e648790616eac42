package files

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// entry is one of a map that no walk would make.
type entry struct {
	key   string // with slashes for zero bytes, which are the only ones a key should not have
	attrs Attributes
	data  string
	raw   bool // the key is meant as it is
}

func fileEntry(key, data string) entry {
	return entry{key: key, attrs: Attributes{Type: Regular, Mode: 0o644, Size: int64(len(data)), Links: 1}, data: data}
}

func dirEntry(key string) entry {
	return entry{key: key, attrs: Attributes{Type: Directory, Mode: 0o755}}
}

func linkEntry(key, target string) entry {
	return entry{key: key, attrs: Attributes{Type: Symlink, Target: target, Links: 1}}
}

// mapOf commits a map of entries, in the order of their keys.
func (s *store) mapOf(t testing.TB, entries ...entry) tree.Root {
	t.Helper()
	for i := range entries {
		if !entries[i].raw {
			entries[i].key = strings.ReplaceAll(entries[i].key, "/", "\x00")
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return s.build(t, func(asm *content.Assembler) error {
		for _, e := range entries {
			it := content.Item{Key: []byte(e.key), Attrs: e.attrs.Encode(), Bytes: uint64(len(e.data))}
			if e.attrs.Type == Regular && e.attrs.Link == "" {
				it.Contents = []content.Piece{{Stream: stream, Class: blob.Data, Data: []byte(e.data)}}
			}
			if err := asm.Add(context.Background(), it); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestRestoreStaysBeneathTheTarget(t *testing.T) {
	s := newStore(t)
	evil := func(key string) entry { e := fileEntry(key, "evil"); e.raw = true; return e }
	hard := func(key, to string) entry {
		e := fileEntry(key, "evil")
		e.attrs.Link, e.attrs.Links = to, 2
		return e
	}
	for _, tc := range []struct {
		name    string
		entries []entry
	}{
		{"the directory above", []entry{evil("..")}},
		{"a file above", []entry{evil("..\x00evil")}},
		{"a file above, by way of a directory", []entry{dirEntry("d"), evil("d\x00..\x00..\x00evil")}},
		{"a slash in a name", []entry{evil("../evil")}},
		{"an absolute path", []entry{evil("TOP/evil")}},
		{"an absolute path in components", []entry{evil("TOP\x00evil")}},
		{"no name", []entry{evil("d\x00")}},
		{"a dot", []entry{evil(".")}},
		{"a sibling with the target's name as prefix", []entry{evil("..\x00target-evil\x00evil")}},
		{"a name that is too long", []entry{evil(strings.Repeat("n", 256))}},
		{"a file through a symbolic link", []entry{linkEntry("d", ".."), evil("d\x00evil")}},
		{"a file through an absolute symbolic link", []entry{linkEntry("d", "TOP"), evil("d\x00evil")}},
		{"a directory through a symbolic link", []entry{linkEntry("d", ".."), {key: "d\x00e", raw: true, attrs: Attributes{Type: Directory}}}},
		{"a file through links to links", []entry{linkEntry("a", ".."), linkEntry("b", "a"), evil("b\x00evil")}},
		{"a link through a link", []entry{linkEntry("d", ".."), linkEntry("d/e", "..")}},
		{"a file in a file", []entry{fileEntry("d", "d"), evil("d\x00evil")}},
		{"a file in no directory", []entry{evil("d\x00evil")}},
		{"a hard link to a file outside", []entry{hard("d", "../outside/file")}},
		{"a hard link through a symbolic link", []entry{linkEntry("a", "../outside"), hard("d", "a/file")}},
		{"a hard link to a symbolic link", []entry{linkEntry("a", "../outside/file"), hard("d", "a")}},
		{"a hard link to nothing", []entry{hard("d", "nothing")}},
		{"a hard link to itself", []entry{hard("d", "d")}},
	} {
		for _, policy := range []Policy{RefuseNonEmpty, Overwrite, KeepExisting} {
			top := scratch(t)
			write(t, filepath.Join(top, "outside/file"), []byte("sentinel"))
			target := filepath.Join(top, "target")
			must(t, os.Mkdir(target, 0o755))
			before := look(t, top)
			entries := append(slices.Clone(tc.entries), fileEntry("good", "good"))
			for i := range entries {
				entries[i].key = strings.Replace(entries[i].key, "TOP", top, 1)
				entries[i].attrs.Target = strings.Replace(entries[i].attrs.Target, "TOP", top, 1)
			}
			report := s.restore(t, s.mapOf(t, entries...), target, RestoreOptions{Policy: policy})

			after := look(t, top)
			for path := range after {
				if strings.HasPrefix(path, "target") && path != "target-evil" {
					delete(after, path)
					delete(before, path)
				}
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("%s: outside of the target (-before +after):\n%s", tc.name, diff)
			}
			if report.Failed.Count != 1 {
				t.Errorf("%s: %v", tc.name, report.Failed)
			}
			if data, err := os.ReadFile(filepath.Join(target, "good")); string(data) != "good" {
				t.Errorf("%s: the good file is %q, %v", tc.name, data, err)
			}
		}
	}
}

// TestRandomHostileMaps restores maps of names that mean something to a file system, over and over
// into the same target, so that links and directories of one map are in the way of the next.
func TestRandomHostileMaps(t *testing.T) {
	s := newStore(t)
	top := scratch(t)
	target := filepath.Join(top, "target")
	write(t, filepath.Join(top, "outside/file"), []byte("sentinel"))
	before := look(t, filepath.Join(top, "outside"))
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "outside", "file", "file", "a", "..", ".", "", "../outside", "a/b", "/", top, "target"}
	targets := []string{"..", ".", "/", "../outside", "../outside/file", "a", "b", top + "/outside", "../target"}
	restored := int64(0)
	for i := range 150 {
		if i%5 == 0 {
			must(t, os.RemoveAll(target))
		}
		entries := make(map[string]entry)
		for range 20 {
			key := names[r.IntN(4)]
			for range r.IntN(3) {
				key += "\x00" + names[r.IntN(len(names))]
			}
			e := []entry{dirEntry(key), dirEntry(key), fileEntry(key, "evil"), linkEntry(key, targets[r.IntN(len(targets))])}[r.IntN(4)]
			if e.attrs.Type == Regular && r.IntN(3) == 0 {
				e.attrs.Links, e.attrs.Link = 2, names[r.IntN(4)]+"/file"
			}
			e.raw = true
			entries[key] = e
		}
		policy := []Policy{Overwrite, KeepExisting}[r.IntN(2)]
		report := s.restore(t, s.mapOf(t, slices.Collect(maps.Values(entries))...), target, RestoreOptions{Policy: policy})
		restored += report.Files + report.Symlinks + report.Links
		if diff := cmp.Diff(before, look(t, filepath.Join(top, "outside"))); diff != "" {
			t.Fatalf("outside of the target (-before +after):\n%s", diff)
		}
		if names, err := os.ReadDir(top); err != nil || len(names) != 2 {
			t.Fatalf("beside the target: %v, %v", names, err)
		}
	}
	if restored < 100 {
		t.Errorf("only %d entries were restored", restored)
	}
}

// TestRestoreIsNotLedAwayBySwappedPaths lets somebody who may write to the target exchange a
// directory with a symbolic link to one outside, all the time.
func TestRestoreIsNotLedAwayBySwappedPaths(t *testing.T) {
	s := newStore(t)
	top := scratch(t)
	target, outside := filepath.Join(top, "target"), filepath.Join(top, "outside")
	write(t, filepath.Join(outside, "file"), []byte("sentinel"))
	write(t, filepath.Join(target, "d/file"), []byte("old"))
	must(t, os.Symlink(outside, filepath.Join(top, "link")))
	var entries []entry
	for i := range 5 {
		entries = append(entries, dirEntry(fmt.Sprint("d", strings.Repeat("/e", i))),
			fileEntry(fmt.Sprint("d", strings.Repeat("/e", i), "/file"), fmt.Sprint("new", i)))
	}
	entries = append(entries, entry{key: "d/fifo", attrs: Attributes{Type: FIFO, Mode: 0o644}}, linkEntry("d/symlink", "x"))
	root := s.mapOf(t, entries...)
	before := look(t, outside)

	stop, flipped := make(chan bool), make(chan bool)
	go func() {
		defer close(flipped)
		for {
			select {
			case <-stop:
				return
			default:
				exchange(filepath.Join(top, "link"), filepath.Join(target, "d"))
			}
		}
	}()
	failures, successes := int64(0), 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		report := s.restore(t, root, target, RestoreOptions{Policy: Overwrite})
		failures += report.Failed.Count
		if report.Files > 0 {
			successes++
		}
	}
	close(stop)
	<-flipped
	if diff := cmp.Diff(before, look(t, outside)); diff != "" {
		t.Errorf("outside of the target (-before +after):\n%s", diff)
	}
	if successes == 0 {
		t.Error("nothing was restored")
	}
	t.Logf("%d restores wrote files, %d entries failed", successes, failures)
}

// The names and targets of which the fuzzer makes maps: those that mean something to a file system.
var (
	fuzzNames   = []string{"a", "b", "c", "outside", "file", "..", ".", "", "../outside", "a/b", "/", "target"}
	fuzzTargets = []string{"..", ".", "/", "../outside", "../outside/file", "a", "b", "a/b", "../target", ""}
)

// Whatever a map says and in whatever order maps are restored into one target, nothing outside of it changes.
func FuzzRestore(f *testing.F) {
	f.Add([]byte{3, 0, 4, 0, 2, 0x11, 4, 0}, uint8(0))
	f.Add([]byte{3, 0, 0, 0, 0, 1, 1, 0}, uint8(1))
	f.Add([]byte{2, 5, 4, 0, 6, 0x10, 1, 2}, uint8(2))
	f.Fuzz(func(t *testing.T, script []byte, policy uint8) {
		s := newStore(t)
		top := scratch(t)
		target := filepath.Join(top, "target")
		write(t, filepath.Join(top, "outside/file"), []byte("sentinel"))
		before := look(t, filepath.Join(top, "outside"))
		const perEntry = 4 // kind, first name, second name and where a link leads
		for part := range slices.Chunk(script[:min(len(script), 30*perEntry)], 10*perEntry) {
			entries := map[string]entry{}
			for b := range slices.Chunk(part, perEntry) {
				if len(b) < perEntry {
					break
				}
				key := fuzzNames[int(b[1]&15)%len(fuzzNames)]
				if b[0]&16 != 0 {
					key += "\x00" + fuzzNames[int(b[2])%len(fuzzNames)]
				}
				e := []entry{dirEntry(key), fileEntry(key, "evil"), linkEntry(key, fuzzTargets[int(b[3])%len(fuzzTargets)])}[b[0]%3]
				if e.attrs.Type == Regular && b[0]&32 != 0 {
					e.attrs.Links, e.attrs.Link = 2, fuzzTargets[int(b[3])%len(fuzzTargets)]
				}
				if e.attrs.Type == Regular {
					e.attrs.Mode |= uint32(b[0]&64) << 5 // with set-user-ID
				}
				e.raw = true
				entries[key] = e
			}
			delete(entries, "")
			if _, err := Restore(t.Context(), tree.Open(s, s.mapOf(t, slices.Collect(maps.Values(entries))...)), content.NewReader(s), target,
				RestoreOptions{Policy: []Policy{RefuseNonEmpty, Overwrite, KeepExisting}[policy%3]}); err != nil {
				break // the target is not empty, say
			}
		}
		if diff := cmp.Diff(before, look(t, filepath.Join(top, "outside"))); diff != "" {
			t.Errorf("outside of the target (-before +after):\n%s", diff)
		}
		if beside, err := os.ReadDir(top); err != nil || len(beside) > 2 {
			t.Errorf("beside the target: %v, %v", beside, err)
		}
	})
}
