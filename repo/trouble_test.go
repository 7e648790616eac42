package repo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// manyBlobs are enough for an index segment.
func manyBlobs(seed uint64) (contents [][]byte) {
	for i := range uint64(maxLoose + 10) {
		contents = append(contents, noise(seed+i, 40))
	}
	return contents
}

// appendEntry commits an entry past all checks of the repository.
func appendEntry(t testing.TB, r *Repository, e journal.Entry) {
	t.Helper()
	_, err := r.journal.Commit(context.Background(), func(*journal.State) (journal.Draft, error) {
		return journal.Draft{Entry: e}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Who is told that a commit failed makes the backup again. So whatever happens after the entry stands,
// the snapshot is acknowledged.
func TestSnapshotThatStandsIsAcknowledgedThoughTheIndexCannotFollow(t *testing.T) {
	store := mem.New()
	initialise(t, store)
	var broken atomic.Bool
	r := reopen(t, store.View(func(_ context.Context, op mem.Op) mem.Fault {
		if broken.Load() && op.Kind == mem.Get && strings.HasPrefix(op.Name, journal.SegmentFolder) {
			return mem.Fault{Err: mem.ErrNoAnswer}
		}
		return mem.Fault{}
	}), "")
	contents := manyBlobs(0)
	_, refs := backup(t, reopen(t, store, ""), contents...) // brings a segment
	broken.Store(true)
	s, mine, err := tryBackup(r, Commit{}, []byte("mine"))
	if err != nil {
		t.Fatalf("commit of a snapshot that stands: %v", err)
	}
	if got := r.Snapshots(); len(got) != 2 || got[1].ID != s.ID {
		t.Errorf("%d snapshots, want the other's and ours", len(got))
	}
	broken.Store(false)
	for i, want := range map[blob.Ref][]byte{mine[0]: []byte("mine"), refs[0]: contents[0]} {
		if got, err := r.Read(context.Background(), i); err != nil || !bytes.Equal(got, want) {
			t.Errorf("afterwards %v reads as %q, %v", i, got, err)
		}
	}
}

// Of two goroutines that bring the index in step, the slower must not put back the older index.
func TestSlowRefreshKeepsTheNewerIndex(t *testing.T) {
	store := mem.New()
	initialise(t, store)
	var slow atomic.Bool
	done := make(chan struct{})
	r := reopen(t, store.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Get && strings.HasPrefix(op.Name, journal.SegmentFolder) && slow.CompareAndSwap(true, false) {
			select {
			case <-done: // the other one was not held up
			case <-time.After(200 * time.Millisecond):
			}
		}
		return mem.Fault{}
	}), "")
	backup(t, reopen(t, store, ""), manyBlobs(0)...)
	slow.Store(true)
	synced := make(chan error)
	go func() { synced <- r.Sync(context.Background()) }()
	for slow.Load() {
		time.Sleep(time.Millisecond)
	}
	_, refs := backup(t, r, manyBlobs(1_000_000)...)
	close(done)
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		if len(r.copies(ref)) == 0 {
			t.Fatalf("the index does not know %v any more", ref)
		}
	}
}

func TestBytesSpoiledOnTheirWayAreReadAgain(t *testing.T) {
	store := mem.New()
	initialise(t, store)
	want := noise(1, 3<<20)
	_, refs := backup(t, reopen(t, store, ""), want)
	for name, fault := range map[string]mem.Fault{"flipped": {Flip: 99}, "cut short": {Short: 1000}} {
		for _, nth := range []int64{1, 2} { // the pack's keys, the blob
			asked := int64(0)
			r := reopen(t, store.View(func(_ context.Context, op mem.Op) mem.Fault {
				if strings.HasPrefix(op.Name, journal.PackFolder) {
					if asked++; asked == nth {
						return fault
					}
				}
				return mem.Fault{}
			}), "")
			if got, err := r.Read(context.Background(), refs[0]); err != nil || !bytes.Equal(got, want) || asked <= nth {
				t.Errorf("answer %d %s: %d bytes after %d requests, %v", nth, name, len(got), asked, err)
			}
		}
	}
}

// Without a cache nobody remembers the head, but a checkpoint that is ahead of the journal tells.
func TestRolledBackJournalIsToldByACheckpoint(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	backup(t, r, []byte("one"))
	backup(t, r, []byte("two"))
	r.journal.View(func(s *journal.State) {
		if _, err := journal.WriteCheckpoint(ctx, b, r.keys, s); err != nil {
			t.Fatal(err)
		}
	})
	reopen(t, b, "") // one that nobody vouched for yet does no harm
	if err := b.Delete(ctx, journal.Name(2)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password}); !errors.Is(err, journal.ErrRolledBack) {
		t.Errorf("open of a journal behind its checkpoint: %v, want ErrRolledBack", err)
	}
}

// A gap right behind what the cache knows must not be filled: what lies beyond would be lost.
func TestGapBehindTheCacheIsNeverTheHead(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	cache := t.TempDir()
	reopen(t, b, cache)
	backup(t, r, []byte("one"))
	backup(t, r, []byte("two"))
	if err := b.Delete(ctx, journal.Name(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password, CacheDir: cache}); !errors.Is(err, journal.ErrGap) {
		t.Errorf("open behind a gap: %v, want ErrGap", err)
	}
}

func TestUnknownFeatureRefusesTheWorkThatItForbids(t *testing.T) {
	for required, want := range map[string]struct{ open, write bool }{
		"read": {false, false}, "write": {true, false}, "prune": {true, true}, "what nobody knows": {false, false},
	} {
		b, before := newRepository(t)
		appendEntry(t, reopen(t, b, ""), journal.Entry{Features: []journal.Feature{{Name: "later", Required: required}}})
		r, err := Open(context.Background(), b, OpenOptions{Password: password})
		if (err == nil) != want.open || (err != nil && !errors.Is(err, ErrVersion)) {
			t.Errorf("feature that %q needs: open gives %v", required, err)
		}
		for _, r := range []*Repository{r, before} { // one opened it before
			if r == nil {
				continue
			}
			if _, _, err := tryBackup(r, Commit{}, []byte("x")); (err == nil) != want.write || (err != nil && !errors.Is(err, ErrVersion)) {
				t.Errorf("feature that %q needs: backup gives %v", required, err)
			}
		}
	}
}

// A checkpoint saves time and nothing else, so a store that refuses it fails no backup.
func TestCheckpointThatCannotBeStoredFailsNoBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New()
		initialise(t, store)
		r := reopen(t, store.View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Kind == mem.Create && strings.HasPrefix(op.Name, journal.CheckpointFolder) {
				return mem.Fault{Err: mem.ErrThrottled}
			}
			return mem.Fault{}
		}), "")
		for range checkpointEvery {
			appendEntry(t, r, journal.Entry{})
		}
		backup(t, r, []byte("x"))
		if got := r.Info().Checkpoint; got != 0 {
			t.Errorf("checkpoint of %d entries, which was refused", got)
		}
		r = reopen(t, store, "")
		backup(t, r, []byte("y"))
		if got := r.Info().Checkpoint; got != checkpointEvery+2 {
			t.Errorf("the next backup makes a checkpoint of %d entries, want %d", got, checkpointEvery+2)
		}
	})
}

// A backup whose ground was taken away while it ran is made again, and stores then only what is missing.
func TestSupersededBackupIsNotStoredTwice(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	_, refs := backup(t, r, noise(1, 1000))
	attempt := func(during func()) (WriterStats, error) {
		w := r.NewWriter(ctx, WriterOptions{})
		var links []blob.Ref
		for i := range uint64(2) { // one that is there, one that is new
			ref, err := w.Write(ctx, blob.Data, noise(1+i, 1000))
			if err != nil {
				t.Fatal(err)
			}
			links = append(links, ref)
		}
		manifest, err := w.WriteNode(ctx, blob.Manifest, blob.Node{Links: links})
		if err != nil {
			t.Fatal(err)
		}
		during()
		_, err = w.Commit(ctx, Commit{ID: journal.NewSnapshotID(), Manifest: manifest})
		return w.Stats(), err
	}
	_, err := attempt(func() {
		appendEntry(t, reopen(t, b, ""), journal.Entry{Damaged: []journal.Copy{{Blob: refs[0], Pack: 0}}})
	})
	if !errors.Is(err, ErrSuperseded) {
		t.Fatalf("commit on a copy that turned out bad: %v, want ErrSuperseded", err)
	}
	if err := r.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := attempt(func() {})
	if err != nil || again.NewBlobs != 1 {
		t.Errorf("the next attempt stores %d blobs, %v; want the bad one alone", again.NewBlobs, err)
	}
	mustBeClean(t, r)
}

// Progress is shown from the counts, most of all while the store is slow.
func TestStatsAreToldWhileUploadsAreWaitedFor(t *testing.T) {
	store := mem.New()
	initialise(t, store)
	var waiting atomic.Int64
	release := make(chan struct{})
	r := reopen(t, store.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Create {
			waiting.Add(1)
			<-release
		}
		return mem.Fault{}
	}), "")
	w := r.NewWriter(context.Background(), WriterOptions{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		w.mu.Lock()
		defer w.mu.Unlock()
		for i := range byte(maxUploads + 1) {
			w.send(pack.Pack{Name: blob.Hash{i}, Data: []byte{i}})
		}
	}()
	for waiting.Load() < maxUploads {
		time.Sleep(time.Millisecond)
	}
	told := make(chan WriterStats)
	go func() { told <- w.Stats() }()
	select {
	case s := <-told:
		if s.Packs < maxUploads {
			t.Errorf("%d packs are counted, at least %d are on their way", s.Packs, maxUploads)
		}
	case <-time.After(10 * time.Second):
		t.Error("the counts are not told before the uploads are done")
	}
	close(release)
	<-sent
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestNodeOfTooManyLinksIsRefused(t *testing.T) {
	b, _ := newRepository(t)
	r, err := Open(context.Background(), b, OpenOptions{Password: password, SkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	w := r.NewWriter(context.Background(), WriterOptions{})
	links := make([]blob.Ref, 1<<19)
	for i := range links {
		links[i].Class = blob.Data
	}
	if _, err := w.WriteNode(context.Background(), blob.Tree, blob.Node{Links: links}); err == nil {
		t.Error("a node was taken that nobody could read again")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
