package copies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/snapshot"
)

func blobSum(data []byte) []byte { h := seal.HashOf(data); return h[:8] }

func all() Plan { return Plan{Selection: Selection{All: true}} }

func mustCopy(t testing.TB, from, to place, p Plan) Report {
	t.Helper()
	return must[Report](t)(Run(t.Context(), Deps{From: from.Repository, To: to.Repository}, p))
}

func TestCopiesHoldWhatTheirOriginalsHold(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	made, _ := history(t, from.Repository, 4)
	report := mustCopy(t, from, to, all())
	if report.Copied != 4 || report.Failed+report.Present+report.Forgotten != 0 {
		t.Fatalf("%+v", report)
	}
	for i, o := range report.Snapshots {
		if o.ID != made[i].ID || o.Status != Copied || (i > 0 && o.Parent != made[i-1].ID.String()) {
			t.Errorf("outcome %d: %+v", i, o)
		}
		mustBeCopies(t, from, to, o.ID)
		if live, ok := to.Snapshot(o.ID); !ok || (i > 0 && !slices.Equal(live.Inherits, []snapshot.ID{made[i-1].ID})) {
			t.Errorf("copy %d inherits from %v", i, live.Inherits)
		}
	}
	mustBeWhole(t, to)
}

func TestCopyDoesNotBuildOnWhatOnlyHasTheIDOfTheParent(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	made, _ := history(t, from.Repository, 2)
	other := draft(0)
	other.ID = made[0].ID
	backup(t, to.Repository, other, world{volumes: map[string]map[string][]byte{"data": {"else": []byte("else")}}}, nil, world{})
	if report := mustCopy(t, from, to, all()); report.Copied != 1 || report.Present != 1 {
		t.Errorf("%+v", report)
	}
	mustBeCopies(t, from, to, made[1].ID)
}

func TestSecondCopyReadsTwoJournalsAndWritesNothing(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	history(t, from.Repository, 3)
	mustCopy(t, from, to, all())

	from, to = reopen(t, from.bucket, from.bucket), reopen(t, to.bucket, to.bucket)
	opened := [2]int64{from.meter.Counts().Requests(), to.meter.Counts().Requests()}
	report := mustCopy(t, from, to, all())
	if report.Present != 3 || report.Copied != 0 || report.Written != (repo.WriterStats{}) {
		t.Errorf("%+v", report)
	}
	if again := [2]int64{from.meter.Counts().Requests(), to.meter.Counts().Requests()}; again != opened {
		t.Errorf("requests to source and destination went from %v to %v", opened, again)
	}
}

func TestCopyAfterAChangeMovesTheChange(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	made, last := history(t, from.Repository, 2)
	mustCopy(t, from, to, all())
	next := last.change(77, 50)
	added := backup(t, from.Repository, draft(2), next, made[1], last)

	from, to = reopen(t, from.bucket, from.bucket), reopen(t, to.bucket, to.bucket)
	read, wrote := from.meter.Counts(), to.meter.Counts()
	report := mustCopy(t, from, to, all())
	read, wrote = from.meter.Counts().Sub(read), to.meter.Counts().Sub(wrote)
	mustBeCopies(t, from, to, added.ID)
	if report.Copied != 1 || report.Present != 2 {
		t.Errorf("%+v", report)
	}
	if limit := int64(added.Stats.NewBytes) * 5 / 4; report.Written.NewBytes > limit {
		t.Errorf("the copy has %d new bytes, the backup had %d", report.Written.NewBytes, added.Stats.NewBytes)
	}
	if report.Read > added.Stats.NewBytes {
		t.Errorf("%d bytes of contents were read, and the backup had %d new ones", report.Read, added.Stats.NewBytes)
	}
	if wrote.Create != 1 || read.Create != 0 || read.Get+wrote.Get > 40 {
		t.Errorf("requests to the source %+v, to the destination %+v", read, wrote)
	}
}

func TestWhatOnlyMovedInTheSourceIsNotStoredAgain(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	w := newWorld()
	made := backup(t, from.Repository, draft(0), w, nil, world{})
	mustCopy(t, from, to, all())
	delete(w.volumes["data"], "small/10") // the first in a bundle, so that it is another
	w.volumes["data"]["empty"] = []byte("no longer")
	d := draft(1)
	d.Inherits = []snapshot.ID{made.ID}
	moved := backup(t, from.Repository, d, w, nil, world{}) // bundles everything anew
	report := mustCopy(t, from, to, all())
	if moved.Stats.NewBytes < 128<<10 || report.Written.NewBytes > 32<<10 {
		t.Errorf("the source bundled %d bytes again, the copy has %d new ones", moved.Stats.NewBytes, report.Written.NewBytes)
	}
	mustBeCopies(t, from, to, moved.ID)
}

func TestBackupsBuildOnCopies(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	made, last := history(t, from.Repository, 2)
	mustCopy(t, from, to, all())
	parent := must[*snapshot.Snapshot](t)(snapshot.Parent(t.Context(), to, snapshot.ParentQuery{Cluster: "prod", Schedule: "nightly", Objects: true, Volumes: []string{"data"}}))
	if parent == nil || parent.ID != made[1].ID {
		t.Fatalf("the parent is %v", parent)
	}
	same := backup(t, to.Repository, draft(5), last, parent, last)
	if same.Stats.NewBytes > 10_000 {
		t.Errorf("a backup that builds on a copy has %d new bytes", same.Stats.NewBytes)
	}
	fresh := backup(t, to.Repository, draft(6), last, nil, world{})
	if fresh.Digest != parent.Digest {
		t.Errorf("digest of a copy is %+v, of a backup of the same %+v", parent.Digest, fresh.Digest)
	}
	scopes := [2]string{}
	for i, s := range []*snapshot.Snapshot{parent, fresh} {
		for scope, sum := range must[*snapshot.Digests](t)(s.Digests(t.Context())).All() {
			scopes[i] += fmt.Sprintln([]byte(scope), sum)
		}
	}
	if scopes[0] != scopes[1] {
		t.Error("digests of kinds and namespaces differ between a copy and a backup of the same")
	}
}

func TestCopiesShareContentsWithTheDestinationsOwnBackups(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	w := newWorld()
	backup(t, from.Repository, draft(0), w, nil, world{})
	own := backup(t, to.Repository, draft(1), w, nil, world{})
	report := mustCopy(t, from, to, all())
	if report.Copied != 1 || report.Written.NewBytes > 10_000 || own.Stats.NewBytes < 3<<20 {
		t.Errorf("the destination's own backup had %d new bytes, the copy of the same has %d", own.Stats.NewBytes, report.Written.NewBytes)
	}
}

func TestDryRunTellsWhatARunReads(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	history(t, from.Repository, 3)
	plan := all()
	plan.DryRun = true
	before := to.meter.Counts().Create
	told := mustCopy(t, from, to, plan)
	if told.Missing != 3 || told.Copied != 0 || to.meter.Counts().Create != before || len(to.Snapshots()) != 0 {
		t.Errorf("a dry run: %+v", told)
	}
	done := mustCopy(t, from, to, all())
	for i, o := range done.Snapshots {
		if foretold := told.Snapshots[i]; foretold.Entries != o.Entries || foretold.Read != o.Read || foretold.Parent != o.Parent {
			t.Errorf("foretold %+v, done %+v", foretold, o)
		}
	}
}

func TestSelectionOfSnapshots(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	small := world{volumes: map[string]map[string][]byte{"data": {"a": []byte("x")}}}
	ids := map[string]snapshot.ID{}
	for i, d := range []snapshot.Draft{{Name: "a-1", Schedule: "a"}, {Name: "b-1", Schedule: "b"}, {Name: "a-2", Schedule: "a"}, {Name: "b-1", Schedule: "b", Cluster: "other"}} {
		d.Started = start.Add(time.Duration(i) * time.Minute)
		ids[fmt.Sprint(i)] = backup(t, from.Repository, d, small, nil, world{}).ID
	}
	for _, c := range []struct {
		selection Selection
		want      string // places in the history
	}{
		{Selection{All: true}, "0123"},
		{Selection{LatestPer: PerSchedule}, "123"},
		{Selection{LatestPer: PerCluster}, "23"},
		{Selection{LatestPer: PerName}, "0123"},
		{Selection{Snapshots: []string{"a-2", ids["0"].String()[:12], "latest", "a-2"}}, "023"},
	} {
		report := mustCopy(t, from, to, Plan{Selection: c.selection, DryRun: true})
		got := ""
		for _, o := range report.Snapshots {
			for place, id := range ids {
				if id == o.ID {
					got += place
				}
			}
		}
		if got != c.want {
			t.Errorf("%+v selects %s, want %s", c.selection, got, c.want)
		}
	}
	for _, c := range []struct {
		selection Selection
		want      error
	}{
		{Selection{}, ErrSelection},
		{Selection{All: true, Snapshots: []string{"latest"}}, ErrSelection},
		{Selection{LatestPer: "moon"}, ErrSelection},
		{Selection{Snapshots: []string{"none"}}, snapshot.ErrNotFound},
		{Selection{Snapshots: []string{"b-1"}}, snapshot.ErrAmbiguous},
	} {
		if _, err := Run(t.Context(), Deps{From: from.Repository, To: to.Repository}, Plan{Selection: c.selection}); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.selection, err, c.want)
		}
	}
}

func TestRepositoryIsNotCopiedIntoItself(t *testing.T) {
	from := newPlace(t)
	if _, err := Run(t.Context(), Deps{From: from.Repository, To: reopen(t, from.bucket, from.bucket).Repository}, all()); !errors.Is(err, ErrSame) {
		t.Error(err)
	}
}

func TestForgottenCopyDoesNotComeBack(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	made, _ := history(t, from.Repository, 2)
	mustCopy(t, from, to, all())
	forget(t, to.Repository, made[0].ID)
	if report := mustCopy(t, from, to, all()); report.Forgotten != 1 || report.Present != 1 || report.Copied != 0 {
		t.Errorf("%+v", report)
	}
}

func forget(t testing.TB, r *repo.Repository, id snapshot.ID) {
	t.Helper()
	must[[]journal.Live](t)(r.Forget(t.Context(), func([]journal.Live) []journal.Forget { return []journal.Forget{{ID: id}} }))
}

// detour adds a large file to the second of three snapshots, which has a pack of its own then. It
// returns the name of that pack.
func detour(t testing.TB, from place) (made []*snapshot.Snapshot, pack string) {
	t.Helper()
	w := newWorld()
	made = append(made, backup(t, from.Repository, draft(0), w, nil, world{}))
	with := w.change(1, 50)
	known := map[string]bool{}
	for info := range from.bucket.List(t.Context(), journal.PackFolder, "") {
		known[info.Name] = true
	}
	with.volumes["data"]["detour"] = noise(99, 4<<20)
	made = append(made, backup(t, from.Repository, draft(1), with, made[0], w))
	for info := range from.bucket.List(t.Context(), journal.PackFolder, "") {
		if !known[info.Name] && info.Size > 3<<20 {
			pack = info.Name
		}
	}
	return append(made, backup(t, from.Repository, draft(2), w, made[0], w)), pack
}

func TestDamagedSnapshotIsNamedAndOthersAreCopied(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	made, pack := detour(t, from)
	err := from.bucket.Damage(pack, func(data []byte) []byte {
		for at := 1 << 20; at < 2<<20; at += 50_000 { // in the file's chunks, before whatever else is new
			data[at]++
		}
		return data
	})
	if err != nil {
		t.Fatal(err)
	}
	from = reopen(t, from.bucket, from.bucket)

	report := mustCopy(t, from, to, all())
	if report.Copied != 2 || report.Failed != 1 {
		t.Errorf("%+v", report)
	}
	o := report.Snapshots[1]
	if o.ID != made[1].ID || o.Status != Failed || !errors.Is(o.Err, repo.ErrDamaged) ||
		!strings.Contains(o.Message, `volume "data": entry "detour"`) || !strings.Contains(o.Message, "in the source") {
		t.Errorf("%+v", o)
	}
	mustBeCopies(t, from, to, made[0].ID, made[2].ID)
	if len(to.Snapshots()) != 2 {
		t.Errorf("the destination has %d snapshots", len(to.Snapshots()))
	}
	mustBeWhole(t, to)
}

// What the destination has lost, the source may still have: the next copy brings it and does not lack it.
func TestCopyBringsAgainWhatTheDestinationHasLost(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	made, last := history(t, from.Repository, 2)
	mustCopy(t, from, to, all())
	lost := 0
	for info, err := range to.bucket.List(t.Context(), journal.PackFolder, "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Size > 1<<20 { // contents of files that do not change
			lost++
			if err := to.bucket.Delete(t.Context(), info.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	to = reopen(t, to.bucket, to.bucket)
	if r := must[repo.PacksRepair](t)(to.RepairPacks(t.Context(), repo.PacksOptions{})); lost == 0 || len(r.Packs) != lost {
		t.Fatalf("%d packs are lost, and repair says %+v", lost, r)
	}
	next := backup(t, from.Repository, draft(2), last.change(5, 50), made[1], last)
	from = reopen(t, from.bucket, from.bucket)

	plan := all()
	plan.DryRun = true
	planned := mustCopy(t, from, to, plan)
	report := mustCopy(t, from, to, all())
	if report.Copied != 1 || report.Snapshots[2].Parent != "" || planned.Read != report.Read {
		t.Errorf("%+v, planned was to read %d bytes", report, planned.Read)
	}
	mustBeCopies(t, from, to, next.ID)
	checked := must[repo.CheckReport](t)(to.Check(t.Context(), repo.CheckOptions{ReadData: true}))
	for _, f := range checked.Findings { // of small contents, which the older copies have in other bundles
		if slices.Contains(f.Snapshots, next.ID) {
			t.Errorf("the new copy is touched by %+v", f)
		}
	}
}

// A parent whose copy is damaged, of which nobody knows yet, does not keep the next from being copied.
func TestCopyGoesOnWithoutADamagedParent(t *testing.T) {
	small := func(b *mem.Bucket) place { // one whose snapshots lie in many packs
		r := must[*repo.Repository](t)(repo.Open(t.Context(), b, repo.OpenOptions{Password: "correct horse battery staple",
			Limits: repo.Limits{Inline: 1, Pack: 100 << 10}}))
		return place{r, b, nil}
	}
	from, whole := newPlace(t), small(newPlace(t).bucket)
	made, last := history(t, from.Repository, 2)
	mustCopy(t, from, whole, all())
	next := backup(t, from.Repository, draft(2), last.change(5, 50), made[1], last)
	from = reopen(t, from.bucket, from.bucket)
	without := 0
	for info, err := range whole.bucket.List(t.Context(), journal.PackFolder, "") {
		if err != nil {
			t.Fatal(err)
		}
		b := whole.bucket.Clone()
		if err := b.Delete(t.Context(), info.Name); err != nil {
			t.Fatal(err)
		}
		report := mustCopy(t, from, small(b), all())
		if o := report.Snapshots[2]; o.Status != Copied {
			t.Errorf("without %s: %+v", info.Name, o)
		} else if o.Warning != "" {
			without++
			if o.Parent != "" || !strings.Contains(o.Warning, "in the destination") {
				t.Errorf("without %s: %+v", info.Name, o)
			}
			mustBeCopies(t, from, reopen(t, b, b), next.ID)
		}
	}
	if without == 0 {
		t.Error("no copy met the damage")
	}
}

func TestSnapshotForgottenMeanwhileIsNamed(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	made, pack := detour(t, from)
	from = reopen(t, from.bucket, from.bucket)
	pruned := false
	report, err := Run(t.Context(), Deps{From: from.Repository, To: to.Repository, Progress: func(p Progress) {
		if p.Number == 2 && !pruned {
			pruned = true
			forget(t, reopen(t, from.bucket, from.bucket).Repository, made[1].ID)
			if err := from.bucket.Delete(t.Context(), pack); err != nil {
				t.Error(err)
			}
		}
	}}, all())
	if err != nil || report.Copied != 2 || !errors.Is(report.Snapshots[1].Err, ErrVanished) {
		t.Errorf("%v, %+v", err, report)
	}
}

func TestInterruptedCopyGoesOn(t *testing.T) {
	from, to := newPlace(t), newPlace(t)
	w := world{volumes: map[string]map[string][]byte{"data": {}}}
	for i := range 24 {
		w.volumes["data"][fmt.Sprintf("%02d", i)] = noise(uint64(i), 2<<20)
	}
	made := backup(t, from.Repository, draft(0), w, nil, world{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Run(ctx, Deps{From: from.Repository, To: to.Repository, Progress: func(p Progress) {
		if p.Written.Packs > 0 && p.Entries >= 20 {
			cancel()
		}
	}}, all())
	if !errors.Is(err, context.Canceled) || len(to.Snapshots()) != 0 {
		t.Fatalf("%v, %d snapshots", err, len(to.Snapshots()))
	}
	to = reopen(t, to.bucket, to.bucket)
	report := mustCopy(t, from, to, all())
	if report.Copied != 1 || report.Written.NewBytes > 30<<20 {
		t.Errorf("the second run stores %d bytes of 48 MiB: %+v", report.Written.NewBytes, report)
	}
	mustBeCopies(t, from, to, made.ID)
	mustBeWhole(t, to)
}

func TestTwoRunsAtOnceMakeOneCopyOfEach(t *testing.T) {
	for _, uid := range []string{"", "of a Backup"} {
		from, to := newPlace(t), newPlace(t)
		d := draft(0)
		d.UID = uid
		made := backup(t, from.Repository, d, newWorld(), nil, world{})
		faster := false
		report, err := Run(t.Context(), Deps{From: from.Repository, To: to.Repository, Progress: func(p Progress) {
			if p.Entries > 0 && !faster {
				faster = true
				if other := mustCopy(t, from, reopen(t, to.bucket, to.bucket), all()); other.Copied != 1 {
					t.Errorf("the other run: %+v", other)
				}
			}
		}}, all())
		if err != nil || report.Copied+report.Present != 1 || len(to.Snapshots()) != 1 {
			t.Errorf("uid %q: %v, %+v, %d snapshots", uid, err, report, len(to.Snapshots()))
		}
		mustBeCopies(t, from, to, made.ID)
		mustBeWhole(t, to)
	}
}
