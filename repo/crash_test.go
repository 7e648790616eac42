package repo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// dying returns a view of a bucket for a machine that crashes at its n-th request, before or after the
// request took effect.
func dying(b *mem.Bucket, n int64, after bool) *mem.Bucket {
	return b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Number < n {
			return mem.Fault{}
		}
		return mem.Fault{Err: mem.ErrCrashed, AfterEffect: after && op.Number == n}
	})
}

// A crash at any request of a backup leaves the earlier snapshots readable, nothing damaged, and the
// next backup works without a hand.
func TestCrashAtAnyPointOfABackupHarmsNothing(t *testing.T) {
	ctx := context.Background()
	base := mem.New()
	initialise(t, base)
	old := [][]byte{[]byte("kept"), noise(1, 3<<19)}
	_, refs := backup(t, reopen(t, base, ""), old...)
	added := noise(2, 3<<19)
	work := func(b storage.Bucket) error {
		r, err := Open(ctx, b, OpenOptions{Password: password})
		if err != nil {
			return err
		}
		_, _, err = tryBackup(r, Commit{UID: "backup"}, old[1], added, []byte("new"))
		return err
	}
	points := 0
	for _, after := range []bool{false, true} {
		for n, outlived := int64(1), false; !outlived; n++ {
			synctest.Test(t, func(t *testing.T) { // retries wait, but not in real time
				b := base.Clone()
				err := work(dying(b, n, after))
				if err != nil && !errors.Is(err, mem.ErrCrashed) {
					t.Fatalf("crash at request %d: %v", n, err)
				}
				outlived = err == nil
				r := reopen(t, b, "")
				for i, ref := range refs {
					if got, err := r.Read(ctx, ref); err != nil || !bytes.Equal(got, old[i]) {
						t.Fatalf("crash at request %d: earlier content reads as %d bytes, %v", n, len(got), err)
					}
				}
				if err := work(b); err != nil {
					t.Fatalf("crash at request %d: next backup: %v", n, err)
				}
				r = reopen(t, b, "")
				mustBeClean(t, r)
				if got := len(r.Snapshots()); got != 2 {
					t.Fatalf("crash at request %d: %d snapshots, want the earlier one and one of this backup", n, got)
				}
			})
			points++
		}
	}
	if points < 20 {
		t.Errorf("only %d crash points", points)
	}
}

// All that a bucket shows is sizes: no name, no content, and no size that is not padded.
func TestBucketShowsNothingButPaddedSizes(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	const word = "wellington-boots"
	for i := range uint64(checkpointEvery + 2) {
		w := r.NewWriter(ctx, WriterOptions{})
		var links []blob.Ref
		for n := range i % 5 {
			for _, class := range []blob.Class{blob.Data, blob.Secrets} {
				plain := append([]byte(word), noise(i*10+n, 100)...)
				ref, err := w.Write(ctx, class, plain)
				if err != nil {
					t.Fatal(err)
				}
				links = append(links, ref)
			}
		}
		if i == 1 {
			for n := range uint64(maxLoose) {
				if _, err := w.Write(ctx, blob.Data, noise(1_000_000+n, 200)); err != nil {
					t.Fatal(err)
				}
			}
		}
		manifest, err := w.WriteNode(ctx, blob.Manifest, blob.Node{Links: links, Body: append([]byte(word), byte(i), byte(i>>8))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(ctx, Commit{ID: journal.NewSnapshotID(), Manifest: manifest, UID: word + string(rune('a'+i))}); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[string]int{}
	for name, size := range names(t, b) {
		folder, _, _ := strings.Cut(name, "/")
		kinds[folder]++
		data, err := b.Get(ctx, name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(word)) || strings.Contains(name, word) {
			t.Errorf("%s shows a planted word", name)
		}
		if folder != headerName && folder+"/" != keyFolder && int(size) != seal.Padded(int(size)) {
			t.Errorf("%s has %d bytes, which is no padded size", name, size)
		}
	}
	for _, folder := range []string{journal.Folder, journal.PackFolder, journal.SegmentFolder, journal.CheckpointFolder} {
		if kinds[strings.TrimSuffix(folder, "/")] == 0 {
			t.Errorf("the test made no %s", folder)
		}
	}
}
