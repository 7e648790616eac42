package index

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/varve-dev/varve/repo/blob"
)

// sample is a segment and its name.
type sample struct {
	hash  blob.Hash
	plain []byte
	ids   []blob.ID
}

func newSample(seed uint64) sample {
	rng := rand.New(rand.NewPCG(seed, 99))
	tables := randomTables(rng, 3, 100)
	plain, err := EncodeSegment(tables)
	if err != nil {
		panic(err)
	}
	s := sample{hash: randomHash(rng), plain: plain}
	for _, table := range tables {
		for _, e := range table.Entries {
			s.ids = append(s.ids, e.ID)
		}
	}
	return s
}

// serves fails the test unless the segment answers for all blobs of the sample.
func (s sample) serves(t *testing.T, segment *Segment) {
	t.Helper()
	for _, id := range s.ids {
		found := false
		for range segment.Lookup(id) {
			found = true
		}
		if !found {
			t.Fatalf("blob %s is lost", id)
		}
	}
}

func put(t *testing.T, c *Cache, s sample) *Segment {
	t.Helper()
	segment, err := c.PutSegment(s.hash, bytes.Clone(s.plain))
	if err != nil {
		t.Fatal(err)
	}
	s.serves(t, segment)
	return segment
}

// stateOf is a state that shows in every byte which number it belongs to.
func stateOf(seq uint64) []byte { return bytes.Repeat([]byte{byte(seq)}, 10_000+int(seq%256)) }

func wantState(t *testing.T, c *Cache, seq uint64) {
	t.Helper()
	got, body, ok := c.State()
	if !ok || got != seq || !bytes.Equal(body, stateOf(seq)) {
		t.Fatalf("state %d (%d bytes, there: %v), want %d", got, len(body), ok, seq)
	}
}

func wantHealthy(t *testing.T, c *Cache) {
	t.Helper()
	if err := c.Degraded(); err != nil {
		t.Fatalf("degraded: %v", err)
	}
}

// wantService fails the test unless the cache does all its work, on disk or in memory.
func wantService(t *testing.T, c *Cache) {
	t.Helper()
	s := newSample(1)
	put(t, c, s)
	segment, ok := c.Segment(s.hash)
	if !ok {
		t.Fatal("the segment put is not there")
	}
	s.serves(t, segment)
	c.SetState(5, stateOf(5))
	wantState(t, c, 5)
	c.SetState(4, stateOf(4))
	wantState(t, c, 5)
	c.SetState(6, stateOf(6))
	wantState(t, c, 6)
	c.DropState()
	if _, _, ok := c.State(); ok {
		t.Fatal("a dropped state is still there")
	}
	c.SetState(2, stateOf(2))
	wantState(t, c, 2)
	c.Retain(nil)
	if _, ok := c.Segment(s.hash); ok {
		t.Fatal("a segment not retained is still there")
	}
}

func TestCacheRemembersAcrossProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := newSample(2)
	first := OpenCache(dir, "r1")
	if _, _, ok := first.State(); ok {
		t.Error("a new cache has a state")
	}
	if _, ok := first.Segment(s.hash); ok {
		t.Error("a new cache has a segment")
	}
	put(t, first, s)
	first.SetState(7, stateOf(7))

	second := OpenCache(dir, "r1")
	wantState(t, second, 7)
	segment, ok := second.Segment(s.hash)
	if !ok {
		t.Fatal("the segment was not kept")
	}
	s.serves(t, segment)
	wantHealthy(t, first)
	wantHealthy(t, second)

	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v: others may read it", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCacheDoesAllItsWork(t *testing.T) {
	t.Run("on disk", func(t *testing.T) {
		c := OpenCache(t.TempDir(), "r1")
		wantService(t, c)
		wantHealthy(t, c)
	})
	t.Run("in memory by choice", func(t *testing.T) {
		c := OpenCache("", "r1")
		wantService(t, c)
		wantHealthy(t, c)
	})
	t.Run("in memory where a file stands in the way", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		c := OpenCache(dir, "r1")
		wantService(t, c)
		if err := c.Degraded(); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("degraded: %v, want it to say that there is a file", err)
		}
	})
	t.Run("where folders stand in the way of files", func(t *testing.T) {
		dir, s := t.TempDir(), newSample(1)
		for _, path := range []string{filepath.Join(dir, "state.db", "x"), filepath.Join(dir, segmentsDir, s.hash.String(), "x")} {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		c := OpenCache(dir, "r1")
		wantService(t, c)
		if c.Degraded() == nil {
			t.Error("not degraded")
		}
	})
}

func TestStateOfAnotherRepositoryIsNotSeen(t *testing.T) {
	dir := t.TempDir()
	OpenCache(dir, "r1").SetState(9, stateOf(9))
	other := OpenCache(dir, "r2")
	if seq, _, ok := other.State(); ok {
		t.Fatalf("saw state %d of another repository", seq)
	}
	other.SetState(1, stateOf(1))
	wantState(t, OpenCache(dir, "r2"), 1)
	wantHealthy(t, other)
}

func TestOlderStateNeverReplacesANewerOne(t *testing.T) {
	dir := t.TempDir()
	slow, fast := OpenCache(dir, "r1"), OpenCache(dir, "r1")
	slow.SetState(1, stateOf(1))
	fast.SetState(3, stateOf(3))
	slow.SetState(2, stateOf(2))
	wantState(t, slow, 3)
	wantState(t, fast, 3)
	slow.SetState(4, stateOf(4))
	wantState(t, fast, 4)
}

func TestPutSegmentRefusesWhatIsNone(t *testing.T) {
	c, s := OpenCache(t.TempDir(), "r1"), newSample(5)
	if _, err := c.PutSegment(s.hash, s.plain[:len(s.plain)-1]); !errors.Is(err, ErrMalformed) {
		t.Errorf("put half a segment: %v", err)
	}
	if _, ok := c.Segment(s.hash); ok {
		t.Error("half a segment was kept")
	}
	wantHealthy(t, c)
}

func TestDamagedSegmentFileIsNeverBelieved(t *testing.T) {
	dir, s, other := t.TempDir(), newSample(6), newSample(7)
	c := OpenCache(dir, "r1")
	put(t, c, s)
	put(t, c, other)
	path := c.segmentPath(s.hash)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := os.ReadFile(c.segmentPath(other.hash))
	if err != nil {
		t.Fatal(err)
	}
	damaged := map[string][]byte{
		"empty": nil, "one byte": {1}, "a checksum's length": make([]byte, checksumSize), "without checksum": s.plain,
		"longer": append(slices.Clip(good), 0), "zeros": make([]byte, len(good)), "another segment": swapped,
		"torn": append(slices.Clone(good[:2048]), make([]byte, len(good)-2048)...),
	}
	for i := range good {
		if i%7 == 0 || i > len(good)-40 {
			flipped := bytes.Clone(good)
			flipped[i] ^= 0x10
			damaged[strings.Repeat("x", i)] = flipped
		}
	}
	for name, data := range damaged {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c := OpenCache(dir, "r1")
		if _, ok := c.Segment(s.hash); ok {
			t.Fatalf("%.40s: a damaged file of %d bytes was believed", name, len(name))
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%.40s: the damaged file is still there (%v)", name, err)
		}
		wantHealthy(t, c)
	}
	c = OpenCache(dir, "r1")
	put(t, c, s)
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, good) {
		t.Errorf("the file put again differs from the first (%v)", err)
	}
}

func TestLeftoversOfCrashesAreIgnoredAndRemoved(t *testing.T) {
	dir, s := t.TempDir(), newSample(8)
	OpenCache(dir, "r1")
	old, young := filepath.Join(dir, segmentsDir, tempPrefix+"1"), filepath.Join(dir, segmentsDir, tempPrefix+"2")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, s.plain, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * tempLife)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	c := OpenCache(dir, "r1")
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leftover of a crash is still there (%v)", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("a file that another process may still write is gone: %v", err)
	}
	if _, ok := c.Segment(s.hash); ok {
		t.Error("a leftover was taken for a segment")
	}
	put(t, c, s)
	wantHealthy(t, c)
}

func TestRetainInMemoryKeepsTheSegmentsOfTheState(t *testing.T) {
	c, keep, drop := OpenCache("", "r1"), newSample(9), newSample(10)
	put(t, c, keep)
	put(t, c, drop)
	c.Retain([]blob.Hash{keep.hash})
	if _, ok := c.Segment(keep.hash); !ok {
		t.Error("a segment of the state is gone")
	}
	if _, ok := c.Segment(drop.hash); ok {
		t.Error("a segment not in the state is still there")
	}
}

func TestRetainRemovesOnlyWhatIsNotInTheState(t *testing.T) {
	dir := t.TempDir()
	c, keep, drop := OpenCache(dir, "r1"), newSample(9), newSample(10)
	put(t, c, keep)
	inUse := put(t, c, drop)
	note := filepath.Join(dir, segmentsDir, "a-file-of-someone")
	if err := os.WriteFile(note, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Retain([]blob.Hash{keep.hash, {1}})
	for range 3 {
		runtime.GC()
	}
	drop.serves(t, inUse)
	for _, c := range []*Cache{c, OpenCache(dir, "r1")} {
		if _, ok := c.Segment(keep.hash); !ok {
			t.Error("a segment of the state is gone")
		}
		if _, ok := c.Segment(drop.hash); ok {
			t.Error("a segment not in the state is still there")
		}
	}
	if _, err := os.Stat(note); err != nil {
		t.Errorf("someone's file is gone: %v", err)
	}
	wantHealthy(t, c)
}

func TestMappingGoesWithItsSegmentAndNotBefore(t *testing.T) {
	mapped := func(path string) bool {
		maps, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Skip(err)
		}
		return bytes.Contains(maps, []byte(path))
	}
	c, s := OpenCache(t.TempDir(), "r1"), newSample(11)
	segment := put(t, c, s)
	path := c.segmentPath(s.hash)
	if !mapped(path) {
		t.Fatal("the segment is not mapped")
	}
	rows := segment.Lookup(s.ids[0]) // alone keeps the mapping
	c, segment = nil, nil
	runtime.GC()
	for pack := range rows {
		if pack.IsZero() {
			t.Error("no pack")
		}
	}
	for deadline := time.Now().Add(10 * time.Second); mapped(path); runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the mapping outlives its segment")
		}
		time.Sleep(time.Millisecond)
	}
}
