package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

const password = "correct horse battery staple"

// newRepository makes a repository in memory, with a cheap password slot.
func newRepository(t testing.TB) (storage.Bucket, *Repository) {
	t.Helper()
	b := mem.New()
	initialise(t, b)
	return b, reopen(t, b, "")
}

func initialise(t testing.TB, b storage.Bucket) {
	t.Helper()
	if _, err := Init(context.Background(), b, InitOptions{Password: password, PasswordWork: 1}); err != nil {
		t.Fatal(err)
	}
}

func reopen(t testing.TB, b storage.Bucket, cacheDir string) *Repository {
	t.Helper()
	r, err := Open(context.Background(), b, OpenOptions{Password: password, CacheDir: cacheDir})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// backup writes the contents and commits a snapshot whose manifest links to all of them.
func backup(t testing.TB, r *Repository, contents ...[]byte) (journal.Snapshot, []blob.Ref) {
	t.Helper()
	s, refs, err := tryBackup(r, Commit{}, contents...)
	if err != nil {
		t.Fatal(err)
	}
	return s, refs
}

func tryBackup(r *Repository, c Commit, contents ...[]byte) (_ journal.Snapshot, refs []blob.Ref, err error) {
	ctx := context.Background()
	w := r.NewWriter(ctx, WriterOptions{})
	defer func() { err = errors.Join(err, w.Close()) }()
	for _, content := range contents {
		ref, err := w.Write(ctx, blob.Data, content)
		if err != nil {
			return journal.Snapshot{}, nil, err
		}
		refs = append(refs, ref)
	}
	c.ID, c.Started = journal.NewSnapshotID(), time.Now()
	if c.Manifest, err = w.WriteNode(ctx, blob.Manifest, blob.Node{Links: refs, Body: c.ID[:]}); err != nil {
		return journal.Snapshot{}, nil, err
	}
	s, err := w.Commit(ctx, c)
	return s, refs, err
}

// noise returns n bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	out := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(out) // never fails
	return out
}

func mustBeClean(t testing.TB, r *Repository) CheckReport {
	t.Helper()
	report, err := r.Check(context.Background(), CheckOptions{ReadData: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		t.Errorf("check: %s: %s", f.Object, f.Problem)
	}
	return report
}

func TestWhatWasCommittedIsReadAgain(t *testing.T) {
	b, r := newRepository(t)
	contents := [][]byte{{}, []byte("x"), []byte("varve"), bytes.Repeat([]byte("layer "), 50_000), noise(1, 3<<20)}
	for i := range uint64(40) { // more than one pack
		contents = append(contents, noise(100+i, 1<<20))
	}
	snapshot, refs := backup(t, r, contents...)
	for name, r := range map[string]*Repository{"the same": r, "another": reopen(t, b, "")} {
		for i, ref := range refs {
			got, err := r.Read(context.Background(), ref)
			if err != nil || !bytes.Equal(got, contents[i]) {
				t.Fatalf("%s repository reads content %d of %d bytes as %d bytes, %v", name, i, len(contents[i]), len(got), err)
			}
		}
		manifest, err := r.ReadNode(context.Background(), blob.Ref{Class: blob.Manifest, ID: snapshot.Manifest})
		if err != nil || len(manifest.Links) != len(refs) {
			t.Fatalf("%s repository reads a manifest of %d links, %v", name, len(manifest.Links), err)
		}
		report := mustBeClean(t, r)
		if report.Blobs != len(refs)+1 || report.Snapshots != 1 || report.Nodes != 1 {
			t.Errorf("%s repository: check saw %+v", name, report)
		}
	}
}

func TestSecondBackupOfTheSameStoresOneSmallEntry(t *testing.T) {
	b, r := newRepository(t)
	contents := [][]byte{noise(1, 300_000), noise(2, 2<<20)}
	backup(t, r, contents...)
	before := names(t, b)
	r = reopen(t, b, "")
	backup(t, r, contents...)
	var added []string
	for name, size := range names(t, b) {
		if _, there := before[name]; !there {
			added = append(added, fmt.Sprintf("%s of %d bytes", name, size))
			if size > 4096 {
				t.Errorf("%s has %d bytes", name, size)
			}
		}
	}
	if len(added) != 1 {
		t.Errorf("second backup added %q, want one entry", added)
	}
	mustBeClean(t, r)
}

func names(t testing.TB, b storage.Bucket) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for info, err := range b.List(context.Background(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		out[info.Name] = info.Size
	}
	return out
}

func TestBackupOfOneUIDIsCommittedOnce(t *testing.T) {
	b, r := newRepository(t)
	first, _, err := tryBackup(r, Commit{UID: "7f6c"}, noise(1, 100))
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := tryBackup(reopen(t, b, ""), Commit{UID: "7f6c"}, noise(2, 100))
	if err != nil || second.ID != first.ID {
		t.Fatalf("second run of a backup gives snapshot %v, %v; want %v", second.ID, err, first.ID)
	}
	if err := r.Sync(context.Background()); err != nil || len(r.Snapshots()) != 1 {
		t.Errorf("%d snapshots, %v; want 1", len(r.Snapshots()), err)
	}
}

func TestInterruptedBackupLeavesNothingBehindThatMatters(t *testing.T) {
	b, r := newRepository(t)
	backup(t, r, noise(1, 1000))
	w := r.NewWriter(context.Background(), WriterOptions{})
	for i := range uint64(40) {
		if _, err := w.Write(context.Background(), blob.Data, noise(i+10, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(context.Background(), blob.Data, []byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("write after the end of the session: %v, want ErrClosed", err)
	}
	r = reopen(t, b, "")
	if report := mustBeClean(t, r); report.Orphans != 0 || report.Snapshots != 1 {
		t.Errorf("check sees %d orphans and %d snapshots, want 0 and 1", report.Orphans, report.Snapshots)
	}
	backup(t, r, noise(10, 1<<20))
	mustBeClean(t, r)
}

func TestManyBlobsMoveIntoASegment(t *testing.T) {
	b, r := newRepository(t)
	var contents [][]byte
	for i := range uint64(maxLoose + 10) {
		contents = append(contents, noise(i, 40))
	}
	_, refs := backup(t, r, contents...)
	backup(t, r, []byte("one more"))
	for _, cache := range []string{"", t.TempDir()} {
		for range 2 { // the second time from the cache
			r = reopen(t, b, cache)
			if i := r.Info(); i.Segments != 1 {
				t.Fatalf("%d segments, want 1", i.Segments)
			}
			if got, err := r.Read(context.Background(), refs[77]); err != nil || !bytes.Equal(got, contents[77]) {
				t.Fatalf("read through the segment: %d bytes, %v", len(got), err)
			}
		}
	}
	before := r.Info().PackBytes
	backup(t, r, contents...)
	if grown := r.Info().PackBytes - before; grown > 600_000 { // the manifest's links
		t.Errorf("a backup of known blobs added %d bytes", grown)
	}
	mustBeClean(t, r)
}

func TestCheckpointShortensTheWayToTheHead(t *testing.T) {
	b, r := newRepository(t)
	for i := range uint64(checkpointEvery + 3) {
		backup(t, r, noise(i, 10))
	}
	if got := r.Info().Checkpoint; got != checkpointEvery {
		t.Fatalf("checkpoint after %d entries, want %d", got, checkpointEvery)
	}
	fresh := reopen(t, b, "")
	if got, want := fresh.Info(), r.Info(); got != want {
		t.Errorf("opened from a checkpoint: %+v, want %+v", got, want)
	}
	mustBeClean(t, fresh)
}

func TestOpenRefusesWithTheRightError(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	damaged := mem.New()
	if err := damaged.Create(ctx, headerName, []byte(`{"format":"varve","ver`)); err != nil {
		t.Fatal(err)
	}
	newer := mem.New()
	if err := newer.Create(ctx, headerName, []byte(`{"format":"varve","version":7,"repository":"00112233445566778899aabbccddeeff"}`)); err != nil {
		t.Fatal(err)
	}
	beheaded := mem.New()
	if err := beheaded.Create(ctx, journal.Name(0), []byte("entry")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		bucket  storage.Bucket
		options OpenOptions
		want    error
	}{
		"no header":         {beheaded, OpenOptions{Password: password}, ErrDamaged},
		"wrong password":    {b, OpenOptions{Password: "wrong"}, ErrWrongKey},
		"no password":       {b, OpenOptions{}, ErrWrongKey},
		"no repository":     {mem.New(), OpenOptions{Password: password}, ErrNoRepository},
		"damaged header":    {damaged, OpenOptions{Password: password}, ErrDamaged},
		"newer version":     {newer, OpenOptions{Password: password}, ErrVersion},
		"other fingerprint": {b, OpenOptions{Password: password, Fingerprint: "00000000-"}, ErrFingerprint},
	} {
		if _, err := Open(ctx, c.bucket, c.options); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password, Fingerprint: r.Fingerprint()}); err != nil {
		t.Errorf("right fingerprint: %v", err)
	}
}

func TestInitRefusesAnOccupiedBucket(t *testing.T) {
	ctx := context.Background()
	b, _ := newRepository(t)
	foreign := mem.New()
	if err := foreign.Create(ctx, "photos/cat", []byte("miaow")); err != nil {
		t.Fatal(err)
	}
	for name, bucket := range map[string]storage.Bucket{"a repository": b, "something else": foreign} {
		if _, err := Init(ctx, bucket, InitOptions{Password: password, PasswordWork: 1}); !errors.Is(err, ErrExists) {
			t.Errorf("init on %s: %v, want ErrExists", name, err)
		}
	}
}

// A crash of Init after any of its objects leaves a bucket that opens or in which Init succeeds.
func TestInterruptedInitNeedsNoHand(t *testing.T) {
	ctx := context.Background()
	b, _ := newRepository(t)
	whole := map[string][]byte{}
	for name := range names(t, b) {
		data, err := b.Get(ctx, name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		whole[name] = data
	}
	for name, missing := range map[string]func(string) bool{
		"after the key slot": func(n string) bool { return n == headerName || n == journal.Name(0) },
		"after the header":   func(n string) bool { return n == journal.Name(0) },
	} {
		torn := mem.New()
		for n, data := range whole {
			if !missing(n) {
				if err := torn.Create(ctx, n, data); err != nil {
					t.Fatal(err)
				}
			}
		}
		if missing(headerName) {
			initialise(t, torn)
		}
		r := reopen(t, torn, "")
		backup(t, r, []byte(name))
		mustBeClean(t, r)
	}
}

func TestRolledBackBucketIsRefused(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	backup(t, r, []byte("one"))
	cache := t.TempDir()
	reopen(t, b, cache)
	if err := b.Delete(ctx, journal.Name(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password, CacheDir: cache}); !errors.Is(err, journal.ErrRolledBack) {
		t.Errorf("open of a bucket that lost its head: %v, want ErrRolledBack", err)
	}
}

func TestGapInTheJournalIsNeverTheHead(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	backup(t, r, []byte("one"))
	backup(t, r, []byte("two"))
	if err := b.Delete(ctx, journal.Name(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password}); !errors.Is(err, journal.ErrGap) {
		t.Errorf("open of a journal with a gap: %v, want ErrGap", err)
	}
}
