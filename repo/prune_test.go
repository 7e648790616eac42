package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// atOnce drops everything as soon as it can be.
var atOnce = PruneOptions{MaxDrop: 1}

func forgetAll(t testing.TB, r *Repository, snapshots ...journal.Snapshot) {
	t.Helper()
	for _, s := range snapshots {
		mustForget(t, r, s.ID)
	}
}

func prune(t testing.TB, r *Repository, o PruneOptions) PruneReport {
	t.Helper()
	report, err := r.Prune(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// objects lists a folder of a bucket.
func objects(t testing.TB, b storage.Bucket, folder string) (names []string) {
	t.Helper()
	for info, err := range b.List(t.Context(), folder, "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

// neededObjects are the packs and segments that the state says are there.
func neededObjects(r *Repository) (names []string) {
	r.journal.View(func(s *journal.State) {
		for _, p := range s.Packs {
			if p.Status != journal.DroppedPack && p.Inline == 0 {
				names = append(names, journal.PackName(p.Name))
			}
		}
		for _, g := range s.Segments {
			names = append(names, journal.SegmentName(g.Name))
		}
	})
	slices.Sort(names)
	return names
}

func mustReadAll(t testing.TB, r *Repository, refs []blob.Ref, contents [][]byte) {
	t.Helper()
	for i, ref := range refs {
		got, err := r.Read(t.Context(), ref)
		if err != nil || !bytes.Equal(got, contents[i]) {
			t.Errorf("content %d: %d bytes, %v; want the %d that were written", i, len(got), err, len(contents[i]))
		}
	}
}

// megabytes are n contents of a megabyte each.
func megabytes(seed uint64, n int) (contents [][]byte) {
	for i := range uint64(n) {
		contents = append(contents, noise(seed+i, 1<<20))
	}
	return contents
}

func TestPruneTakesBackWhatNoSnapshotNeeds(t *testing.T) {
	b, r := newRepository(t)
	common, old, young := megabytes(10, 2), megabytes(20, 3), megabytes(30, 2)
	first, _ := backup(t, r, slices.Concat(common, old)...)
	_, refs := backup(t, r, slices.Concat(common, young)...)
	_, only := backup(t, r, old[0])
	forgetAll(t, r, first)

	report := prune(t, r, atOnce)
	if report.Dropped.Objects+report.Deleted.Objects > 0 || report.Repacked.Objects != 1 {
		t.Errorf("the first prune: %+v; want one pack copied and nothing dropped before somebody had a chance to need it", report)
	}
	report = prune(t, r, atOnce)
	if report.Dropped.Objects != 2 || report.Deleted.Objects != 1 {
		t.Errorf("the second prune: %+v; want the copied pack dropped and deleted, and one in the journal dropped", report)
	}
	if diff := cmp.Diff(neededObjects(r), append(objects(t, b, journal.SegmentFolder), objects(t, b, journal.PackFolder)...)); diff != "" {
		t.Errorf("-needed +there\n%s", diff)
	}
	for _, reader := range []*Repository{r, reopen(t, b, "")} {
		mustReadAll(t, reader, refs, slices.Concat(common, young))
		mustReadAll(t, reader, only, old[:1])
		mustBeClean(t, reader)
	}
	if report = prune(t, r, atOnce); report.Retired.Objects+report.Repacked.Objects+report.Dropped.Objects+report.Deleted.Objects > 0 {
		t.Errorf("a third prune still found work: %+v", report)
	}
}

func TestPruneWithoutSnapshotsLeavesNoPack(t *testing.T) {
	b, r := newRepository(t)
	first, _ := backup(t, r, megabytes(1, 3)...)
	second, _ := backup(t, r, megabytes(2, 3)...)
	forgetAll(t, r, first, second)
	prune(t, r, atOnce)
	prune(t, r, atOnce)
	if left := objects(t, b, journal.PackFolder); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	mustBeClean(t, r)
}

func TestPruneWaitsForTheGracePeriod(t *testing.T) {
	b, r := newRepository(t)
	first, _ := backup(t, r, megabytes(1, 2)...)
	forgetAll(t, r, first)
	before := objects(t, b, journal.PackFolder)
	for range 2 {
		prune(t, r, PruneOptions{MaxDrop: 1, Grace: time.Hour})
	}
	if diff := cmp.Diff(before, objects(t, b, journal.PackFolder)); diff != "" {
		t.Errorf("within the grace period -before +after\n%s", diff)
	}
	if report := prune(t, r, PruneOptions{MaxDrop: 1, Grace: time.Hour}); report.Waiting.Objects == 0 {
		t.Errorf("report: %+v, want the pack waiting", report)
	}
}

func TestBackupTakesARetiredPackBack(t *testing.T) {
	b, r := newRepository(t)
	contents := megabytes(1, 2)
	first, refs := backup(t, r, contents...)
	writer := reopen(t, b, "")
	w := writer.NewWriter(t.Context(), WriterOptions{}) // before it is retired
	again := writeAll(t, w, contents...)
	forgetAll(t, r, first)
	prune(t, r, atOnce)
	if err := commitManifest(t, w, again); err != nil {
		t.Fatal(err)
	}
	if w.Stats().NewBlobs > 1 {
		t.Errorf("%d blobs were stored again, want the manifest alone", w.Stats().NewBlobs)
	}
	prune(t, r, atOnce)
	prune(t, r, atOnce)
	mustReadAll(t, reopen(t, b, ""), refs, contents)
	mustBeClean(t, r)
}

func TestSessionOnADroppedPackBeginsAgain(t *testing.T) {
	b, r := newRepository(t)
	contents := megabytes(1, 2)
	first, _ := backup(t, r, contents...)
	w := reopen(t, b, "").NewWriter(t.Context(), WriterOptions{})
	again := writeAll(t, w, contents...)
	forgetAll(t, r, first)
	prune(t, r, atOnce)
	prune(t, r, atOnce)
	if err := commitManifest(t, w, again); !errors.Is(err, ErrSuperseded) {
		t.Errorf("commit: %v, want ErrSuperseded", err)
	}
	_, refs := backup(t, r, contents...)
	mustReadAll(t, reopen(t, b, ""), refs, contents)
	mustBeClean(t, r)
}

// beside lets something happen just before the n-th creation of a journal entry by a client.
func beside(b *mem.Bucket, n int, what func()) storage.Bucket {
	entries := 0
	return b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Create && strings.HasPrefix(op.Name, journal.Folder) {
			if entries++; entries == n {
				what()
			}
		}
		return mem.Fault{}
	})
}

// What comes between the marking of a prune and its entries is seen by it, whatever it is.
func TestPruneSeesWhatCameAfterItMarked(t *testing.T) {
	contents := megabytes(1, 3)
	for name, meanwhile := range map[string]struct {
		do   func(t *testing.T, r *Repository, forgotten journal.Snapshot)
		want int // markings
	}{
		"a backup of the same":   {func(t *testing.T, r *Repository, _ journal.Snapshot) { backup(t, r, contents...) }, 1},
		"a backup that inherits": {adopting, 2},
		"an unforget": {func(t *testing.T, r *Repository, s journal.Snapshot) {
			appendEntry(t, r, journal.Entry{Unforget: []journal.Unforget{{ID: s.ID}}})
		}, 2},
		"another prune": {func(t *testing.T, r *Repository, _ journal.Snapshot) { prune(t, r, atOnce) }, 2},
		"a damage": {func(t *testing.T, r *Repository, _ journal.Snapshot) {
			appendEntry(t, r, journal.Entry{Damaged: []journal.Copy{{Blob: blob.Ref{Class: blob.Data, ID: blob.ID{1}}}}})
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			initialise(t, b)
			r := reopen(t, b, "")
			first, refs := backup(t, r, contents...)
			forgetAll(t, r, first)
			pruner := reopen(t, beside(b, 1, func() { meanwhile.do(t, reopen(t, b, ""), first) }), "")
			if report := prune(t, pruner, atOnce); report.Markings != meanwhile.want {
				t.Errorf("marked %d times, want %d", report.Markings, meanwhile.want)
			}
			prune(t, pruner, atOnce)
			r = reopen(t, b, "")
			if len(r.Snapshots()) > 0 {
				mustReadAll(t, r, refs, contents)
			}
			mustBeClean(t, r)
		})
	}
}

// adopting commits a snapshot that builds on a forgotten one, without a word on its packs.
func adopting(t *testing.T, r *Repository, forgotten journal.Snapshot) {
	t.Helper()
	appendEntry(t, r, journal.Entry{Snapshots: []journal.Snapshot{{ID: journal.NewSnapshotID(), Manifest: forgotten.Manifest,
		Inherits: []journal.SnapshotID{forgotten.ID}, Adopts: []journal.SnapshotID{forgotten.ID}}}})
}

func TestReaderFindsWhatAPruneHasMoved(t *testing.T) {
	b, r := newRepository(t)
	keep, drop := megabytes(1, 1), megabytes(50, 6)
	_, refs := backup(t, r, keep...)
	gone, _ := backup(t, r, slices.Concat(megabytes(2, 1), drop)...)
	kept, moved := backup(t, r, megabytes(2, 1)...)
	reader := reopen(t, b, "")
	forgetAll(t, r, gone)
	prune(t, r, atOnce)
	prune(t, r, atOnce)
	if len(objects(t, b, journal.PackFolder)) == 0 {
		t.Fatalf("snapshot %v has no pack", kept.ID)
	}
	mustReadAll(t, reader, moved, megabytes(2, 1))
	mustReadAll(t, reader, refs, keep)
}

func TestPruneRefusesWhenSomethingNeededIsMissing(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	first, _ := backup(t, r, megabytes(1, 3)...)
	backup(t, r, megabytes(10, 3)...)
	forgetAll(t, r, first)
	packs := objects(t, b, journal.PackFolder)
	for _, name := range packs {
		broken := b.Clone()
		if err := broken.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		needed := slices.Contains(reached(t, b), name)
		before := objects(t, broken, "")
		_, err := reopen(t, broken, "").Prune(t.Context(), atOnce)
		if errors.Is(err, ErrDamaged) != needed {
			t.Errorf("without %s, which is needed: %v, prune says %v", name, needed, err)
		}
		if diff := cmp.Diff(before, objects(t, broken, "")); needed && diff != "" {
			t.Errorf("the refused prune changed something: -before +after\n%s", diff)
		}
	}
}

// reached are the packs that are left in a copy of a bucket after two prunes.
func reached(t *testing.T, b *mem.Bucket) []string {
	t.Helper()
	left := b.Clone()
	r := reopen(t, left, "")
	prune(t, r, atOnce)
	prune(t, r, atOnce)
	return objects(t, left, journal.PackFolder)
}

func TestPruneGoesOnAfterALossThatIsKnown(t *testing.T) {
	b, r := newRepository(t)
	_, refs := backup(t, r, megabytes(1, 2)...)
	gone, _ := backup(t, r, megabytes(10, 2)...)
	for _, name := range objects(t, b, journal.PackFolder)[:] {
		if err := b.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	forgetAll(t, r, gone)
	appendEntry(t, r, journal.Entry{Damaged: []journal.Copy{{Pack: 0}, {Pack: 1}, {Pack: 2}, {Pack: 3}}[:packCount(r)]})
	if report := prune(t, r, atOnce); report.Lost == 0 {
		t.Errorf("report: %+v, want the loss counted", report)
	}
	backup(t, r, megabytes(1, 2)...)
	prune(t, r, atOnce)
	mustReadAll(t, reopen(t, b, ""), refs, megabytes(1, 2))
}

func packCount(r *Repository) (n int) {
	r.journal.View(func(s *journal.State) { n = len(s.Packs) })
	return n
}

func TestPruneStopsBeforeAMassDrop(t *testing.T) {
	b, r := newRepository(t)
	all, _ := backup(t, r, megabytes(1, 3)...)
	forgetAll(t, r, all)
	prune(t, r, PruneOptions{})
	before := objects(t, b, "")
	for _, dry := range []bool{true, false} {
		if plan, err := r.Prune(t.Context(), PruneOptions{DryRun: dry}); !errors.Is(err, ErrMassDrop) || plan.Dropped.Bytes == 0 {
			t.Errorf("prune, dry %t: %+v, %v, want ErrMassDrop and the plan", dry, plan, err)
		}
	}
	if diff := cmp.Diff(before, objects(t, b, "")); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
	prune(t, r, PruneOptions{MaxDrop: 1})
	if left := objects(t, b, journal.PackFolder); len(left) > 0 {
		t.Errorf("left when it was told to: %v", left)
	}
}

func TestDryRunTellsThePlanAndChangesNothing(t *testing.T) {
	b, r := newRepository(t)
	all, _ := backup(t, r, megabytes(1, 3)...)
	backup(t, r, megabytes(1, 1)...)
	forgetAll(t, r, all)
	before := objects(t, b, "")
	planned := prune(t, r, PruneOptions{DryRun: true})
	if diff := cmp.Diff(before, objects(t, b, "")); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
	if done := prune(t, r, PruneOptions{}); done.Retired != planned.Retired || done.Repacked != planned.Repacked || planned.Repacked.Objects == 0 {
		t.Errorf("planned %+v\ndid %+v", planned, done)
	}
}

func TestOrphansAreGivenUpWhenTheyAreOld(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := mem.NewWithClock(func() time.Time { return now })
	initialise(t, b)
	r := reopen(t, b, "")
	w := r.NewWriter(t.Context(), WriterOptions{})
	contents := large()
	writeAll(t, w, contents[:20]...) // one pack is stored, and in no entry
	for len(w.storedPacks()) == 0 {
		runtime.Gosched() // its upload is on its way
	}
	orphans := objects(t, b, journal.PackFolder)
	if len(orphans) != 1 {
		t.Fatalf("%d packs are stored, want 1", len(orphans))
	}
	o := PruneOptions{MaxDrop: 1, OrphanAge: time.Hour}
	now = now.Add(2 * time.Hour) // the local clock does not matter
	if report := prune(t, r, o); report.Young.Objects != 1 || report.Orphans.Objects != 0 {
		t.Errorf("with nothing newer in the store: %+v, want a young orphan", report)
	}
	backup(t, r, megabytes(100, 2)...)
	if report := prune(t, r, o); report.Orphans.Objects != 1 || slices.Contains(objects(t, b, journal.PackFolder), orphans[0]) {
		t.Errorf("with something newer by two hours: %+v, want the orphan gone", report)
	}
	refs := writeAll(t, w, contents[:20]...)
	if err := commitManifest(t, w, refs); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the session whose pack was given up: %v, want ErrSuperseded", err)
	}
	mustBeClean(t, r)
}

func TestLeftoversOfACrashedDeletionGo(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	all, _ := backup(t, r, megabytes(1, 3)...)
	forgetAll(t, r, all)
	prune(t, r, atOnce)
	crashing := reopen(t, b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Delete {
			return mem.Fault{Err: mem.ErrCrashed}
		}
		return mem.Fault{}
	}), "")
	if _, err := crashing.Prune(t.Context(), atOnce); !errors.Is(err, mem.ErrCrashed) {
		t.Errorf("prune: %v, want the crash", err)
	}
	left := objects(t, b, journal.PackFolder)
	if len(left) == 0 {
		t.Fatal("nothing was left by the crash")
	}
	if report := prune(t, reopen(t, b, ""), PruneOptions{OrphanAge: time.Hour}); report.Deleted.Objects != len(left) {
		t.Errorf("%d objects deleted, want the %d leftovers without waiting", report.Deleted.Objects, len(left))
	}
}

func TestFailedListDeletesNothing(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	all, _ := backup(t, r, megabytes(1, 3)...)
	backup(t, r, megabytes(5, 3)...)
	forgetAll(t, r, all)
	prune(t, r, atOnce)
	before := objects(t, b, "")
	for keep := range 3 {
		failing := reopen(t, b, "")
		failing.bucket = b.View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Kind == mem.List {
				return mem.Fault{Err: mem.ErrThrottled, Keep: keep}
			}
			return mem.Fault{}
		})
		if _, err := failing.Prune(t.Context(), atOnce); !errors.Is(err, mem.ErrThrottled) {
			t.Errorf("prune: %v, want the failed list", err)
		}
	}
	if diff := cmp.Diff(before, objects(t, b, "")); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}

func TestPruneTrustsNoOldList(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	first, _ := backup(t, r, megabytes(1, 3)...)
	_, refs := backup(t, r, megabytes(5, 3)...)
	forgetAll(t, r, first)
	stale := reopen(t, b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.List && op.Name != keyFolder {
			return mem.Fault{Stale: 1000}
		}
		return mem.Fault{}
	}), "")
	prune(t, stale, atOnce)
	prune(t, stale, atOnce)
	mustReadAll(t, reopen(t, b, ""), refs, megabytes(5, 3))
	mustBeClean(t, r)
}

func TestManySmallPacksBecomeOne(t *testing.T) {
	b, r := newRepository(t)
	var contents [][]byte
	var refs []blob.Ref
	for i := range enoughSmall {
		content := noise(uint64(1000+i), 3000)
		_, ref := backup(t, r, content)
		contents, refs = append(contents, content), append(refs, ref...)
	}
	report := prune(t, r, atOnce)
	if report.Repacked.Objects != enoughSmall || report.Copies.Objects != 2 {
		t.Errorf("report: %+v, want %d packs in two, contents and nodes", report, enoughSmall)
	}
	prune(t, r, atOnce)
	if n := len(objects(t, b, journal.PackFolder)); n != 2 {
		t.Errorf("%d packs are there, want 2", n)
	}
	mustReadAll(t, reopen(t, b, ""), refs, contents)
	mustBeClean(t, r)
	if report := prune(t, r, atOnce); report.Repacked.Objects > 0 {
		t.Errorf("a prune joins again what was joined: %+v", report)
	}
}

// segmented commits backups of so many blobs that each writes a segment of its own.
func segmented(t *testing.T, r *Repository, n int) (snapshots []journal.Snapshot) {
	t.Helper()
	for i := range n {
		var contents [][]byte
		for j := range r.limits.Loose {
			contents = append(contents, fmt.Appendf(nil, "content %d of backup %d", j, i))
		}
		s, _ := backup(t, r, contents...)
		snapshots = append(snapshots, s)
	}
	return snapshots
}

func TestPruneMergesSegments(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r, err := Open(t.Context(), b, OpenOptions{Password: password, Limits: Limits{Loose: 100}})
	if err != nil {
		t.Fatal(err)
	}
	cached := t.TempDir()
	snapshots := segmented(t, r, mergeAtOnce)
	reopen(t, b, cached)
	report := prune(t, r, atOnce)
	if report.MergedSegments != mergeAtOnce || report.MergedInto != 1 || len(objects(t, b, journal.SegmentFolder)) != 1 {
		t.Errorf("report: %+v, with %d segments left; want %d merged into 1", report, len(objects(t, b, journal.SegmentFolder)), mergeAtOnce)
	}
	mustBeClean(t, r)
	mustBeClean(t, reopen(t, b, cached))
	forgetAll(t, r, snapshots[:3]...)
	prune(t, r, atOnce)
	prune(t, r, atOnce)
	prune(t, r, atOnce) // a segment that speaks mostly of dropped packs
	if report := prune(t, r, atOnce); report.MergedSegments != 0 {
		t.Errorf("segments are merged for ever: %+v", report)
	}
	mustBeClean(t, r)
	mustBeClean(t, reopen(t, b, ""))
}

func TestPruneLeavesTwoCheckpoints(t *testing.T) {
	b, r := newRepository(t)
	for i := range uint64(5) {
		s, _ := backup(t, r, megabytes(i*100, 2)...)
		forgetAll(t, r, s)
		prune(t, r, atOnce)
		prune(t, r, atOnce)
	}
	if n := len(objects(t, b, journal.CheckpointFolder)); n != keptCheckpoints {
		t.Errorf("%d checkpoints, want %d", n, keptCheckpoints)
	}
	mustBeClean(t, reopen(t, b, ""))
}

func TestPackSizesStayWithinTheLimit(t *testing.T) {
	b, r := newRepository(t)
	contents := large()
	all, _ := backup(t, r, contents...)
	var keep [][]byte
	for i, c := range contents {
		if i%3 == 0 {
			keep = append(keep, c)
		}
	}
	_, refs := backup(t, r, keep...)
	forgetAll(t, r, all)
	report := prune(t, r, atOnce)
	if report.Repacked.Objects < 2 || report.Copies.Objects == 0 {
		t.Errorf("report: %+v, want packs that were copied", report)
	}
	for info, err := range b.List(t.Context(), journal.PackFolder, "") {
		if err != nil || info.Size > pack.MaxSize {
			t.Errorf("pack %s has %d bytes, %v", info.Name, info.Size, err)
		}
	}
	prune(t, r, atOnce)
	mustReadAll(t, reopen(t, b, ""), refs, keep)
	mustBeClean(t, r)
}

func TestPartsBecomeOneSnapshot(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	var parts []journal.SnapshotID
	var refs []blob.Ref
	for i := range uint64(2) {
		part, written, err := tryBackup(reopen(t, b, ""), Commit{Part: "owner"}, megabytes(10*i, 2)...)
		if err != nil {
			t.Fatal(err)
		}
		parts, refs = append(parts, part.ID), append(refs, written...)
	}
	r := reopen(t, b, "")
	appendEntry(t, r, journal.Entry{Forget: []journal.Forget{{ID: parts[0]}}}) // somebody was hasty; no prune has marked yet
	w := r.NewWriter(t.Context(), WriterOptions{})
	c := Commit{ID: journal.NewSnapshotID(), Parts: parts, Started: time.Now()}
	var err error
	if c.Manifest, err = w.WriteNode(t.Context(), blob.Manifest, blob.Node{Links: refs, Body: c.ID[:]}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if live := r.Snapshots(); len(live) != 1 || live[0].ID != c.ID {
		t.Errorf("live are %v, want the joined snapshot alone", live)
	}
	prune(t, r, atOnce)
	prune(t, r, atOnce)
	mustReadAll(t, reopen(t, b, ""), refs, slices.Concat(megabytes(0, 2), megabytes(10, 2)))
	mustBeClean(t, r)
}

func TestPartThatWasPrunedSupersedes(t *testing.T) {
	_, r := newRepository(t)
	part, refs, err := tryBackup(r, Commit{Part: "owner"}, megabytes(1, 2)...)
	if err != nil {
		t.Fatal(err)
	}
	forgetAll(t, r, part)
	prune(t, r, atOnce)
	w := r.NewWriter(t.Context(), WriterOptions{})
	c := Commit{ID: journal.NewSnapshotID(), Parts: []journal.SnapshotID{part.ID}, Started: time.Now()}
	if c.Manifest, err = w.WriteNode(t.Context(), blob.Manifest, blob.Node{Links: refs, Body: c.ID[:]}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), c); !errors.Is(err, ErrSuperseded) {
		t.Errorf("commit: %v, want ErrSuperseded", err)
	}
}

func TestMergeThatLostItsEntryIsTakenUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { loseMergeEntry(t, func(data []byte) []byte { return data }) })
}

// What lies under the name of a merge that was interrupted may be anything by now. Then the merge gets another name.
func TestMergeTrustsNothingUnderItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { loseMergeEntry(t, func(data []byte) []byte { return data[:len(data)-1] }) })
}

// loseMergeEntry interrupts a merge before its entry and has the segment that it left replaced.
func loseMergeEntry(t *testing.T, spoil func([]byte) []byte) {
	b := mem.New()
	initialise(t, b)
	options := OpenOptions{Password: password, Limits: Limits{Loose: 100}}
	r, err := Open(t.Context(), b, options)
	if err != nil {
		t.Fatal(err)
	}
	segmented(t, r, mergeAtOnce)
	crashing, err := Open(t.Context(), b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Create && strings.HasPrefix(op.Name, journal.Folder) {
			return mem.Fault{Err: context.Canceled}
		}
		return mem.Fault{}
	}), options)
	if err != nil {
		t.Fatal(err)
	}
	before := objects(t, b, journal.SegmentFolder)
	if _, err := crashing.Prune(t.Context(), atOnce); err == nil {
		t.Fatal("a prune whose entry was not stored has succeeded")
	}
	left := slices.DeleteFunc(objects(t, b, journal.SegmentFolder), func(name string) bool { return slices.Contains(before, name) })
	if len(left) != 1 {
		t.Fatalf("%v lie in the bucket, want one segment", left)
	}
	must(t, b.Damage(left[0], spoil))
	if report := prune(t, r, atOnce); report.MergedInto != 1 {
		t.Errorf("report: %+v, want the segments merged", report)
	}
	mustBeClean(t, reopen(t, b, ""))
}

// notInline opens a repository whose packs are all objects of their own.
func notInline(t testing.TB, b storage.Bucket) *Repository {
	t.Helper()
	r, err := Open(t.Context(), b, OpenOptions{Password: password, Limits: Limits{Inline: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A session that lasts for days deposits packs that no snapshot needs yet, and each deposit takes those back that a
// prune has retired meanwhile.
func TestLongSessionOutlivesNightlyPrunes(t *testing.T) { synctest.Test(t, longSession) }

func longSession(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	w := eager(reopen(t, b, ""))
	var contents [][]byte
	for day := range uint64(4) {
		of := megabytes(100*day, 40)
		contents = append(contents, of...)
		writeAll(t, w, of...)
		synctest.Wait()
		writeAll(t, w, noise(9000+day, 100))
		time.Sleep(DefaultGrace + time.Minute)
		prune(t, reopen(t, b, ""), PruneOptions{Grace: DefaultGrace, OrphanAge: DefaultOrphanAge, MaxDrop: 1})
	}
	refs := writeAll(t, w, contents...)
	if err := commitManifest(t, w, refs); err != nil {
		t.Errorf("commit after four nights: %v", err)
	}
	mustReadAll(t, reopen(t, b, ""), refs[:3], contents[:3])
}

func TestPruneRefusesWhenTheLastUnknownCopyIsOutOfSight(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	writers := []*Writer{notInline(t, b).NewWriter(t.Context(), WriterOptions{}), notInline(t, b).NewWriter(t.Context(), WriterOptions{})}
	var refs []blob.Ref
	for _, w := range writers { // beside each other, so each stores its own copy
		refs = writeAll(t, w, noise(1, 1000))
		if err := commitManifest(t, w, refs); err != nil {
			t.Fatal(err)
		}
	}
	r := notInline(t, b)
	copies := r.copies(refs[0])
	if len(copies) != 2 {
		t.Fatalf("%d copies, want 2", len(copies))
	}
	appendEntry(t, r, journal.Entry{Damaged: []journal.Copy{{Blob: refs[0], Pack: copies[0].number}}})
	hidden, _ := copies[1].pack.Object()
	if err := b.Delete(t.Context(), hidden); err != nil {
		t.Fatal(err)
	}
	if _, err := notInline(t, b).Prune(t.Context(), atOnce); !errors.Is(err, ErrDamaged) {
		t.Errorf("prune: %v, want ErrDamaged", err)
	}
}

func TestPruneDropsNothingWhileItIsBlind(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r := notInline(t, b)
	gone, refs := backup(t, r, megabytes(1, 3)...)
	manifest := r.copies(blob.Ref{Class: blob.Manifest, ID: gone.Manifest})[0]
	name, _ := manifest.pack.Object()
	away, err := b.Get(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if _, err := r.RepairPacks(t.Context(), PacksOptions{}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if report := prune(t, r, atOnce); !report.Blind || report.Dropped.Objects > 0 {
			t.Errorf("report: %+v, want a blind prune that drops nothing", report)
		}
	}
	if err := b.Create(t.Context(), name, away); err != nil { // somebody has found it
		t.Fatal(err)
	}
	if _, err := r.RepairPacks(t.Context(), PacksOptions{}); err != nil {
		t.Fatal(err)
	}
	mustReadAll(t, reopen(t, b, ""), refs, megabytes(1, 3))
	prune(t, r, atOnce)
	mustBeClean(t, r)
	forgetAll(t, r, gone)
	prune(t, r, atOnce)
	if report := prune(t, r, atOnce); report.Blind || len(objects(t, b, journal.PackFolder)) > 0 {
		t.Errorf("without the snapshot: %+v, want everything gone", report)
	}
}

func TestPacksOfManySessionsAreNotJoinedForEver(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r, err := Open(t.Context(), b, OpenOptions{Password: password, SkipVerify: true, Limits: Limits{Pack: 1 << 20, Inline: 1 << 13}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(300) {
		backup(t, r, noise(i, 1000))
	}
	for range 4 {
		prune(t, r, atOnce)
	}
	if report := prune(t, r, atOnce); report.Repacked.Objects > 0 {
		t.Errorf("the fifth prune still joins: %+v", report)
	}
}

func TestGuardCountsOrphans(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r := notInline(t, b)
	backup(t, r, megabytes(1, 1)...)
	head := len(objects(t, b, journal.Folder))
	for i := range uint64(4) {
		backup(t, r, megabytes(100*i+100, 2)...)
	}
	for _, name := range objects(t, b, journal.Folder)[head:] { // the end of the journal is lost
		if err := b.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	before := objects(t, b, journal.PackFolder)
	if _, err := notInline(t, b).Prune(t.Context(), PruneOptions{}); !errors.Is(err, ErrMassDrop) {
		t.Errorf("prune: %v, want ErrMassDrop", err)
	}
	if diff := cmp.Diff(before, objects(t, b, journal.PackFolder)); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}

func TestCheckpointThatCannotBeStoredMakesNoEntry(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r, err := Open(t.Context(), b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Create && strings.HasPrefix(op.Name, journal.CheckpointFolder) {
			return mem.Fault{Err: mem.ErrNoAnswer}
		}
		return mem.Fault{}
	}), OpenOptions{Password: password, Limits: Limits{Checkpoint: 10}})
	if err != nil {
		t.Fatal(err)
	}
	backup(t, r, []byte("one"))
	before := r.Info().Entries
	for range 3 {
		if report := prune(t, r, atOnce); len(report.Warnings) != 1 {
			t.Errorf("warnings: %q, want one", report.Warnings)
		}
	}
	if n := r.Info().Entries - before; n > 0 {
		t.Errorf("%d entries for nothing", n)
	}
}

func TestPruneKeepsTheGoodOneOfTwoCopies(t *testing.T) {
	for bad := range uint32(2) {
		b, r := newRepository(t)
		contents := megabytes(1, 2)
		other := reopen(t, b, "").NewWriter(t.Context(), WriterOptions{})
		refs := writeAll(t, other, contents...) // beside the first session, so both store them
		backup(t, r, contents...)
		if err := commitManifest(t, other, refs); err != nil {
			t.Fatal(err)
		}
		if err := r.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		copies := r.copies(refs[0])
		if len(copies) != 2 {
			t.Fatalf("%d copies, want 2", len(copies))
		}
		appendEntry(t, r, journal.Entry{Damaged: []journal.Copy{{Pack: copies[bad].number}}})
		prune(t, r, atOnce)
		prune(t, r, atOnce)
		mustReadAll(t, reopen(t, b, ""), refs, contents)
	}
}

func TestMergeKeepsTheTablesOfRetiredPacks(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r, err := Open(t.Context(), b, OpenOptions{Password: password, Limits: Limits{Loose: 100}})
	if err != nil {
		t.Fatal(err)
	}
	early := segmented(t, r, mergeAtOnce-1)
	forgetAll(t, r, early[0])
	prune(t, r, patient)
	segmented(t, r, 1)
	if report := prune(t, r, patient); report.MergedSegments != mergeAtOnce || report.Waiting.Objects == 0 {
		t.Fatalf("report: %+v, want all segments merged while a pack waits", report)
	}
	if err := r.Unforget(t.Context(), early[0].ID); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, reopen(t, b, ""))
}

func TestPruneForgetsPartsThatNobodyJoined(t *testing.T) {
	_, r := newRepository(t)
	if _, _, err := tryBackup(r, Commit{Part: "owner"}, megabytes(1, 2)...); err != nil {
		t.Fatal(err)
	}
	backup(t, r, megabytes(10, 2)...)
	prune(t, r, PruneOptions{MaxDrop: 1, OrphanAge: time.Hour})
	if n := len(r.Snapshots()); n != 2 {
		t.Errorf("%d snapshots are live, want the part too while it is young", n)
	}
	prune(t, r, PruneOptions{DryRun: true})
	if n := len(r.Snapshots()); n != 2 {
		t.Errorf("%d snapshots are live after a dry run, want 2", n)
	}
	prune(t, r, atOnce)
	if live := r.Snapshots(); len(live) != 1 || live[0].Part != "" {
		t.Errorf("live: %v, want the part gone", live)
	}
}

func TestPruneCopiesNothingOutOfARottenPack(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	contents := megabytes(1, 3)
	all, _ := backup(t, r, contents...)
	_, refs := backup(t, r, contents[0])
	forgetAll(t, r, all)
	rotten := r.copies(refs[0])[0]
	name, _ := rotten.pack.Object()
	if err := b.Damage(name, func(data []byte) []byte {
		data[rotten.row.Offset+rotten.row.Stored/2] ^= 1
		return data
	}); err != nil {
		t.Fatal(err)
	}
	before := objects(t, b, journal.PackFolder)
	if _, err := reopen(t, b, "").Prune(t.Context(), atOnce); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), name) {
		t.Errorf("prune: %v, want ErrDamaged and %s", err, name)
	}
	if diff := cmp.Diff(before, objects(t, b, journal.PackFolder)); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}

func TestBlobThatDoesNotOpenAgainIsNotStored(t *testing.T) {
	b, r := newRepository(t)
	_, other := newRepository(t)
	before := objects(t, b, "")
	w := r.NewWriter(t.Context(), WriterOptions{})
	w.session = other.keys.NewSession(nil) // what a fault in sealing would do: bytes that open nowhere
	if _, err := w.Write(t.Context(), blob.Data, noise(1, 1000)); err == nil {
		t.Error("a blob that does not open was taken")
	}
	if _, err := w.Commit(t.Context(), Commit{ID: journal.NewSnapshotID()}); err == nil {
		t.Error("and committed")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, objects(t, b, "")); diff != "" {
		t.Errorf("-before +after\n%s", diff)
	}
}
