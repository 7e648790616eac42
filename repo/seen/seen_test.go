package seen

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/varve-dev/varve/repo/blob"
)

func at(next uint64) Seen {
	return Seen{Repository: "r", Place: "dir:///b", Head: Head{Fingerprint: "f", Next: next, Hash: blob.Hash{byte(next)}, Time: time.Unix(1, 0).UTC()}}
}

// mustRecall wants the head to be remembered, also by who comes later.
func mustRecall(t *testing.T, dir string, want Head) {
	t.Helper()
	m := Open(dir)
	got, ok := m.Recall("r")
	if err := m.Degraded(); err != nil || !ok || got != want {
		t.Errorf("recalls %+v, %v, %v; want %+v", got, ok, err, want)
	}
}

func TestLaterHeadIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "down")
	if _, ok := Open(dir).Recall("r"); ok {
		t.Error("something is recalled where nothing was seen")
	}
	m := Open(dir)
	for _, next := range []uint64{3, 7, 5} {
		m.Keep(at(next))
	}
	mustRecall(t, dir, at(7).Head)
	fork := at(7)
	fork.Head.Hash = blob.Hash{99}
	m.Keep(fork)
	mustRecall(t, dir, at(7).Head)
	back := at(2)
	back.Anew, back.Head.GivenUp = true, 6
	m.Keep(back)
	mustRecall(t, dir, back.Head)
	m.Keep(at(4))
	later := at(4).Head
	later.GivenUp = 6
	mustRecall(t, dir, later)
	if _, ok := m.Recall("another"); ok {
		t.Error("one repository is taken for another")
	}
	if info, err := os.Stat(m.Path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v; want 0600", info.Mode(), err)
	}
}

func TestPlacesKnowTheirRepositories(t *testing.T) {
	m := Open(t.TempDir())
	for _, id := range []string{"a", "b", "a"} {
		s := at(1)
		s.Repository = id
		m.Keep(s)
	}
	if got := fmt.Sprint(m.At("dir:///b")); got != "[a b]" || m.At("dir:///c") != nil {
		t.Errorf("at the place were %s", got)
	}
}

// Many processes write at once, each what it has seen; the lock is one of open files, so goroutines with
// a Memory of their own are as good.
func TestNobodyMakesAnotherForget(t *testing.T) {
	dir := t.TempDir()
	var writers sync.WaitGroup
	for next := range uint64(20) {
		writers.Go(func() {
			m := Open(dir)
			m.tries = math.MaxInt // a slow disk is no failure here
			m.Keep(at(next))
			mine := at(1)
			mine.Repository, mine.Place = fmt.Sprint(next), fmt.Sprint(next)
			m.Keep(mine)
			if err := m.Degraded(); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	mustRecall(t, dir, at(19).Head)
	m := Open(dir)
	for next := range uint64(20) {
		if _, ok := m.Recall(fmt.Sprint(next)); !ok || len(m.At(fmt.Sprint(next))) != 1 {
			t.Errorf("what writer %d has seen is forgotten", next)
		}
	}
}

// A process that is killed leaves a temporary file, half written or whole, and the lock's file.
func TestKilledWriterLeavesTheOldOrTheNew(t *testing.T) {
	dir := t.TempDir()
	Open(dir).Keep(at(3))
	for name, content := range map[string]string{tempPrefix + "1": `{"version": 0, "repo`, tempPrefix + "2": `{"version": 0}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustRecall(t, dir, at(3).Head)
	Open(dir).Keep(at(4))
	mustRecall(t, dir, at(4).Head)
	left, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
}

func TestTroubleIsToldAndDestroysNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	instead := Open(file)
	if instead.Keep(at(1)); instead.Degraded() == nil {
		t.Error("a file in place of the folder is not told of")
	}
	for name, content := range map[string]string{"cut short": `{"version": 0, "repo`, "of a later version": `{"version": 1}`, "empty": ""} {
		dir := t.TempDir()
		path := filepath.Join(dir, fileName)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		m := Open(dir)
		if _, ok := m.Recall("r"); ok || m.Degraded() == nil {
			t.Errorf("a file %s is not told of", name)
		}
		m.Keep(at(1))
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("a file %s was replaced by %q, %v", name, got, err)
		}
	}
	nothing := Open("")
	if nothing.Keep(at(1)); nothing.Degraded() != nil || nothing.Path() != "" {
		t.Error("a memory that is not wanted complains")
	}
}

func TestWriterThatIsStuckHoldsUpNobodyForLong(t *testing.T) {
	dir := t.TempDir()
	Open(dir).Keep(at(1))
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	m := Open(dir)
	m.tries = 2
	if m.Keep(at(2)); m.Degraded() == nil {
		t.Error("the lock of another is not respected")
	}
	mustRecall(t, dir, at(1).Head)
}
