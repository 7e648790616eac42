package repo

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// everyKind returns a bucket with at least one object of every kind, the contents of its snapshots
// and the names they were written under.
func everyKind(t *testing.T) (*mem.Bucket, map[blob.Ref][]byte) {
	t.Helper()
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	want := map[blob.Ref][]byte{}
	note := func(contents ...[]byte) {
		_, refs := backup(t, r, contents...)
		for i, ref := range refs {
			want[ref] = contents[i]
		}
	}
	note(noise(1, 600_000), noise(2, 600_000)) // a pack of its own
	var small [][]byte
	for i := range uint64(maxLoose) { // a segment
		small = append(small, noise(1000+i, 20))
	}
	note(small...)
	note([]byte("an inline pack"))
	return b, want
}

// What is wrong with any object is found, whatever is wrong with it; a reader of the damaged
// repository gets right bytes or an error.
func TestEveryDamageIsFoundAndNoWrongByteIsRead(t *testing.T) {
	b, want := everyKind(t)
	mustBeClean(t, reopen(t, b, ""))
	damages := map[string]func([]byte) []byte{
		"its first byte flipped":   func(d []byte) []byte { d[0] ^= 1; return d },
		"a middle byte flipped":    func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
		"its last byte flipped":    func(d []byte) []byte { d[len(d)-1] ^= 1; return d },
		"it cut to nothing":        func([]byte) []byte { return nil },
		"it cut by half":           func(d []byte) []byte { return d[:len(d)/2] },
		"its last byte cut":        func(d []byte) []byte { return d[:len(d)-1] },
		"zeros behind it":          func(d []byte) []byte { return append(d, make([]byte, 100)...) },
		"zeros in place of itself": func(d []byte) []byte { return make([]byte, len(d)) },
	}
	for name := range names(t, b) {
		for what, damage := range damages {
			torn := b.Clone()
			if err := torn.Damage(name, damage); err != nil {
				t.Fatal(err)
			}
			if harmless(name, what) {
				continue
			}
			mustBeFound(t, torn, fmt.Sprintf("%s with %s", name, what), want)
		}
		torn := b.Clone()
		if err := torn.Delete(context.Background(), name); err != nil {
			t.Fatal(err)
		}
		if name != journal.Name(3) { // the head: only who has seen it before can know, see the test of rollback
			mustBeFound(t, torn, name+" deleted", want)
		}
	}
}

// harmless lists what is no damage: JSON ignores white space, not zeros, and an entry's hash covers
// its operations, to which bytes behind its end do not belong.
func harmless(name, what string) bool {
	return strings.HasPrefix(name, journal.Folder) && what == "zeros behind it"
}

func mustBeFound(t *testing.T, b *mem.Bucket, what string, want map[blob.Ref][]byte) {
	t.Helper()
	ctx := context.Background()
	r, err := Open(ctx, b, OpenOptions{Password: password})
	if err != nil {
		return // found at once
	}
	report, err := r.Check(ctx, CheckOptions{ReadData: true})
	if err != nil {
		t.Errorf("%s: the check ends with %v instead of a finding", what, err)
	} else if len(report.Findings) == 0 {
		t.Errorf("%s: nothing is found", what)
	}
	for ref, content := range want {
		if got, err := r.Read(ctx, ref); err == nil && !bytes.Equal(got, content) {
			t.Fatalf("%s: %v reads as other bytes", what, ref)
		}
	}
}

func TestFindingNamesTheSnapshotsItTouches(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	backup(t, r, []byte("untouched"))
	touched, refs := backup(t, r, noise(1, 2<<20))
	again, _ := backup(t, r, noise(1, 2<<20))
	var pack string
	for name := range names(t, b) {
		if strings.HasPrefix(name, journal.PackFolder) {
			pack = name
		}
	}
	if err := b.Damage(pack, func(d []byte) []byte { d[len(d)/2] ^= 1; return d }); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, b, "")
	if _, err := r.Read(ctx, refs[0]); err == nil {
		t.Fatal("the damaged content was read")
	}
	report, err := r.Check(ctx, CheckOptions{ReadData: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Object == pack && fmt.Sprint(f.Snapshots) == fmt.Sprint([]journal.SnapshotID{touched.ID, again.ID}) {
			return
		}
	}
	t.Errorf("findings %+v, want one of %s that touches %v and %v", report.Findings, pack, touched.ID, again.ID)
}

// A local cache hides a damaged segment from whoever reads, and not from a check.
func TestCheckReadsSegmentsThatTheCacheHas(t *testing.T) {
	b, _ := everyKind(t)
	cache := t.TempDir()
	reopen(t, b, cache)
	var segment string
	for name := range names(t, b) {
		if strings.HasPrefix(name, journal.SegmentFolder) {
			segment = name
		}
	}
	if err := b.Damage(segment, func(d []byte) []byte { d[len(d)/2] ^= 1; return d }); err != nil {
		t.Fatal(err)
	}
	report, err := reopen(t, b, cache).Check(t.Context(), CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 1 || report.Findings[0].Object != segment {
		t.Errorf("findings %+v, want the segment %s", report.Findings, segment)
	}
}
