package repo

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/meter"
)

// listings is somebody who lists snapshots now and then, each time by a new process, from a bucket in which each
// snapshot came with a pack of its own.
type listings struct {
	bucket *mem.Bucket
	cache  string
	live   []journal.Snapshot
	made   uint64 // snapshots
}

// damaged returns the numbers of the snapshots that have lost something, and how many requests it took beyond
// opening the repository.
func (l *listings) damaged(t *testing.T) (numbers []int, requests int64) {
	t.Helper()
	counted := meter.New(l.bucket)
	r := reopen(t, counted, l.cache)
	var manifests []blob.Ref
	for _, s := range l.live {
		manifests = append(manifests, blob.Ref{Class: blob.Manifest, ID: s.Manifest})
	}
	before := counted.Counts()
	lost, err := r.Damaged(t.Context(), manifests...)
	must(t, err)
	for i, ref := range manifests {
		if lost[ref] {
			numbers = append(numbers, i)
		}
	}
	return numbers, counted.Counts().Sub(before).Requests()
}

// backup adds a snapshot of its own content and some others.
func (l *listings) backup(t *testing.T, contents ...[]byte) (own blob.Ref) {
	t.Helper()
	l.made++
	s, refs := backup(t, reopen(t, l.bucket, ""), append(contents, noise(100+l.made, 500))...)
	l.live = append(l.live, s)
	return refs[len(contents)]
}

func (l *listings) lose(t *testing.T, ref blob.Ref) {
	t.Helper()
	r := reopen(t, l.bucket, "")
	must(t, r.MarkDamaged(t.Context(), []journal.Copy{{Blob: ref, Pack: r.copies(ref)[0].number}}))
}

func (l *listings) expect(t *testing.T, when string, want []int, requests int64) {
	t.Helper()
	got, asked := l.damaged(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: damaged snapshots (-want +got)\n%s", when, diff)
	}
	if asked != requests {
		t.Errorf("%s: %d requests, want %d", when, asked, requests)
	}
}

// What is lost is found once. As long as nothing happens it costs nothing to know it, and then as much as there are
// snapshots that it may be news of.
func TestDamagedSnapshotsAreLookedForOnce(t *testing.T) {
	l := &listings{bucket: mem.New(), cache: t.TempDir()}
	initialise(t, l.bucket)
	var own []blob.Ref
	shared := noise(1, 500)
	for range 10 {
		own = append(own, l.backup(t))
	}
	for range 10 {
		own = append(own, l.backup(t, shared))
	}
	l.expect(t, "without damage", nil, 0)

	l.lose(t, own[3])
	l.expect(t, "with a loss in snapshot 3", []int{3}, 20)
	l.expect(t, "and again", []int{3}, 0)
	l.backup(t, shared)
	l.expect(t, "after a backup", []int{3}, 1)
	l.expect(t, "and again", []int{3}, 0)

	r := reopen(t, l.bucket, "")
	lost := r.keys.BlobID(blob.Data, shared)
	l.lose(t, blob.Ref{Class: blob.Data, ID: lost})
	all := []int{3, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}
	l.expect(t, "with another loss in snapshots 10 to 20", all, 20) // all but 3
	l.expect(t, "and again", all, 0)

	l.backup(t, shared)
	l.expect(t, "when that is healed", []int{3}, 12) // 10 to 20, and the new one
	l.expect(t, "and again", []int{3}, 0)

	mustForget(t, r, l.live[0].ID, l.live[1].ID)
	l.live = l.live[2:]
	l.backup(t)
	l.expect(t, "after two were forgotten", []int{1}, 1)
	if verdicts := decodeVerdicts(reopen(t, l.bucket, l.cache).cache.Note(verdictsNote)); len(verdicts) != len(l.live) {
		t.Errorf("%d verdicts are kept of %d snapshots", len(verdicts), len(l.live))
	}
}

// A snapshot that is known to have lost one thing may lose another; when the first is back, it is still damaged.
func TestAHealedLossDoesNotHideAnother(t *testing.T) {
	l := &listings{bucket: mem.New(), cache: t.TempDir()}
	initialise(t, l.bucket)
	contents := [][]byte{noise(1, 500), noise(2, 500)}
	l.backup(t, contents...)
	var refs []blob.Ref
	r := reopen(t, l.bucket, "")
	for _, c := range contents {
		refs = append(refs, blob.Ref{Class: blob.Data, ID: r.keys.BlobID(blob.Data, c)})
	}
	for i := range contents {
		l.lose(t, refs[i])
		l.expect(t, "with a loss", []int{0}, int64(1-i))
	}
	l.backup(t, contents[0])
	l.expect(t, "with one of two losses healed", []int{0}, 2)
	l.backup(t, contents[1])
	l.expect(t, "with both healed", nil, 2)
	l.lose(t, refs[0]) // the copy that healed it
	l.expect(t, "lost once more", []int{0, 1}, 3)
}

// What a prune takes from a snapshot that was forgotten while somebody looked for losses is none.
func TestForgottenSnapshotIsNotCalledDamaged(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	damaged, refs := backup(t, notInline(t, b), noise(1, 3000))
	forgotten, _ := backup(t, notInline(t, b), noise(2, 3000))
	r := notInline(t, b)
	must(t, r.MarkDamaged(t.Context(), []journal.Copy{{Blob: refs[0], Pack: r.copies(refs[0])[0].number}}))
	other := notInline(t, b)
	mustForget(t, other, forgotten.ID)
	prune(t, other, atOnce)
	prune(t, other, atOnce)
	of := func(s journal.Snapshot) blob.Ref { return blob.Ref{Class: blob.Manifest, ID: s.Manifest} }
	lost, err := r.Damaged(t.Context(), of(damaged), of(forgotten))
	must(t, err)
	if diff := cmp.Diff(map[blob.Ref]bool{of(damaged): true}, lost); diff != "" {
		t.Errorf("damaged snapshots (-want +got)\n%s", diff)
	}
}
