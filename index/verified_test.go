package index

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
)

func every(blob.Hash) bool { return true }

func at(seconds int64) time.Time { return time.Unix(1_700_000_000+seconds, 0) }

func TestVerifiedIsRememberedBesideTheState(t *testing.T) {
	dir := t.TempDir()
	one, two, three := blob.Hash{1}, blob.Hash{2}, blob.Hash{3}
	first, second := OpenCache(dir, "repository"), OpenCache(dir, "repository")
	first.SetState(7, []byte("state"))
	first.SetVerified(map[blob.Hash]time.Time{one: at(1), two: at(5)}, every)
	second.SetVerified(map[blob.Hash]time.Time{two: at(3), three: at(4)}, every)
	want := map[blob.Hash]time.Time{one: at(1), two: at(5), three: at(4)}
	for name, c := range map[string]*Cache{"the first": first, "the second": second, "a new one": OpenCache(dir, "repository")} {
		if diff := cmp.Diff(want, c.Verified()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if seq, body, ok := second.State(); seq != 7 || string(body) != "state" || !ok {
		t.Errorf("the state is %q after %d, %t", body, seq, ok)
	}
	second.SetVerified(nil, func(pack blob.Hash) bool { return pack != two })
	delete(want, two)
	if diff := cmp.Diff(want, OpenCache(dir, "repository").Verified()); diff != "" {
		t.Errorf("after a pack went (-want +got):\n%s", diff)
	}
	if got := OpenCache(dir, "another").Verified(); len(got) > 0 {
		t.Errorf("another repository has verified %v", got)
	}
}

// What cannot be kept on disk is kept for as long as the Cache lives, and what is damaged is forgotten.
func TestVerifiedFailsNothing(t *testing.T) {
	when := map[blob.Hash]time.Time{{1}: at(1)}
	memory := OpenCache("", "repository")
	memory.SetVerified(when, every)
	if diff := cmp.Diff(when, memory.Verified()); diff != "" {
		t.Errorf("in memory (-want +got):\n%s", diff)
	}
	dir := t.TempDir()
	c := OpenCache(dir, "repository")
	c.SetVerified(when, every)
	if err := os.WriteFile(c.statePath(), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := OpenCache(dir, "repository").Verified(); len(got) > 0 {
		t.Errorf("a damaged file says %v", got)
	}
	again := OpenCache(dir, "repository")
	again.SetVerified(when, every)
	if diff := cmp.Diff(when, OpenCache(dir, "repository").Verified()); diff != "" || again.Degraded() != nil {
		t.Errorf("after damage, %v (-want +got):\n%s", again.Degraded(), diff)
	}
}
