package index

import (
	"os"
	"testing"
)

func TestNotesStandBesideTheStateUntilItIsDropped(t *testing.T) {
	dir := t.TempDir()
	c := OpenCache(dir, "repository")
	c.SetNote("one", []byte("first"))
	c.SetState(7, []byte("state"))
	c.SetNote("two", []byte("second"))
	c.SetNote("one", []byte("third"))
	for name, c := range map[string]*Cache{"the same": c, "a new one": OpenCache(dir, "repository")} {
		if one, two, none := c.Note("one"), c.Note("two"), c.Note("three"); string(one) != "third" || string(two) != "second" || none != nil {
			t.Errorf("%s says %q, %q, %q", name, one, two, none)
		}
		if seq, body, ok := c.State(); seq != 7 || string(body) != "state" || !ok {
			t.Errorf("%s has state %q after %d, %t", name, body, seq, ok)
		}
	}
	if got := OpenCache(dir, "another").Note("one"); got != nil {
		t.Errorf("another repository has noted %q", got)
	}
	c.DropState()
	if got := c.Note("one"); got != nil {
		t.Errorf("after the state went it says %q", got)
	}
}

// What cannot be kept on disk is kept for as long as the Cache lives, and what is damaged is forgotten.
func TestNotesFailNothing(t *testing.T) {
	memory := OpenCache("", "repository")
	memory.SetNote("one", []byte("first"))
	if got := memory.Note("one"); string(got) != "first" {
		t.Errorf("in memory it says %q", got)
	}
	memory.DropState()
	if got := memory.Note("one"); got != nil {
		t.Errorf("in memory, after the state went, it says %q", got)
	}
	dir := t.TempDir()
	c := OpenCache(dir, "repository")
	c.SetNote("one", []byte("first"))
	if err := os.WriteFile(c.statePath(), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.Note("one"); got != nil {
		t.Errorf("a damaged file says %q", got)
	}
	c.SetNote("one", []byte("second"))
	if got := OpenCache(dir, "repository").Note("one"); string(got) != "second" || c.Degraded() != nil {
		t.Errorf("after damage it says %q, %v", got, c.Degraded())
	}
}
