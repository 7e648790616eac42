package repo

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// rot spoils a blob in the bucket and returns which copy it was.
func rot(t testing.TB, b *mem.Bucket, ref blob.Ref) journal.Copy {
	t.Helper()
	at := notInline(t, b).copies(ref)[0]
	must(t, b.Damage(journal.PackName(at.pack.Name), func(d []byte) []byte { d[at.row.Offset+100] ^= 1; return d }))
	return journal.Copy{Blob: ref, Pack: at.number}
}

// A copy that was known to be bad is known to be bad after a repair of the journal, although the entry that said so
// is lost: no backup may rely on it. That holds for packs of which the number is another one by then, too.
func TestRepairOfTheJournalKeepsTheKnowledgeOfDamage(t *testing.T) {
	for what, of := range map[string]struct {
		lost  func(t *testing.T, b *mem.Bucket, s journal.Snapshot) // the entry that does not open, before the backup or after
		later bool
	}{
		"in a pack from before": {func(t *testing.T, b *mem.Bucket, s journal.Snapshot) {
			must(t, notInline(t, b).Hold(t.Context(), s.ID))
		}, false},
		"in a pack of a lost entry": {func(t *testing.T, b *mem.Bucket, _ journal.Snapshot) { backup(t, notInline(t, b), noise(5, 3000)) }, true},
	} {
		for _, whole := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, whole %v", what, whole), func(t *testing.T) {
				b := mem.New()
				initialise(t, b)
				snapshot, _ := backup(t, notInline(t, b), noise(4, 3000))
				var refs []blob.Ref
				store := func() { snapshot, refs = backup(t, notInline(t, b), noise(1, 3000)) }
				if !of.later {
					store()
				}
				from := head(notInline(t, b))
				of.lost(t, b, snapshot)
				if of.later {
					store()
				}
				bad := rot(t, b, refs[0])
				if whole {
					bad.Blob = blob.Ref{}
				}
				must(t, notInline(t, b).MarkDamaged(t.Context(), []journal.Copy{bad}))
				flipEntry(t, b, from)

				report := mustRepairJournal(t, b, told(from))
				if report.Damage != 1 || !report.Recheck || !report.Complete() {
					t.Errorf("the repair says %+v", report)
				}
				r := notInline(t, b)
				if !r.KnowsDamage() || !slices.Contains(live(r), snapshot.ID) {
					t.Errorf("damage is known: %v; live: %v", r.KnowsDamage(), live(r))
				}
				_, refs, err := tryBackup(r, Commit{}, noise(1, 3000))
				must(t, err)
				if _, err := notInline(t, b).Read(t.Context(), refs[0]); err != nil {
					t.Errorf("what the next backup has stored: %v", err)
				}
				if again := mustRepairJournal(t, b, told(from)); again.Damage != 0 {
					t.Errorf("a second repair says %+v", again)
				}
			})
		}
	}
}

// What a prune has dropped by an entry that is lost is part of the repository again, without its objects. Where no
// snapshot needs it, that is no damage.
func TestRepairOfTheJournalRaisesNoAlarmOverWhatWasPruned(t *testing.T) {
	b, snapshots, _ := sixSnapshots(t)
	mustForget(t, openSmall(t, b), snapshots[1].ID)
	prune(t, openSmall(t, b), atOnce)
	from := head(openSmall(t, b))
	prune(t, openSmall(t, b), atOnce)
	flipEntry(t, b, from)
	report := mustRepairJournal(t, b, told(from))
	if !report.Complete() || report.Waiting || report.Damage == 0 {
		t.Errorf("the repair says %+v", report)
	}
	mustAllBeBack(t, b, slices.Delete(snapshots, 1, 2))
}

// When the entry is lost that had forgotten a snapshot, it is live again; if it has been pruned since, it is damaged. The
// repair says so, and prunes work.
func TestRepairOfTheJournalNamesASnapshotThatWasPruned(t *testing.T) {
	b, snapshots, _ := sixSnapshots(t)
	from := head(openSmall(t, b))
	mustForget(t, openSmall(t, b), snapshots[1].ID)
	prune(t, openSmall(t, b), atOnce)
	prune(t, openSmall(t, b), atOnce)
	for _, name := range objects(t, b, journal.CheckpointFolder) {
		must(t, b.Delete(t.Context(), name))
	}
	flipEntry(t, b, from)
	dry := told(from)
	dry.DryRun = true
	for _, o := range []JournalOptions{dry, told(from)} {
		report := mustRepairJournal(t, b, o)
		if diff := cmp.Diff([]journal.SnapshotID{snapshots[1].ID}, report.Damaged); diff != "" {
			t.Errorf("damaged snapshots (-want +got)\n%s", diff)
		}
		if report.Complete() || report.Waiting {
			t.Errorf("the repair says %+v", report)
		}
	}
	report, err := openSmall(t, b).Check(t.Context(), CheckOptions{})
	must(t, err)
	for _, f := range report.Findings {
		if !slices.Equal(f.Snapshots, []journal.SnapshotID{snapshots[1].ID}) {
			t.Errorf("check: %+v", f)
		}
	}
	prune(t, openSmall(t, b), atOnce)
	mustForget(t, openSmall(t, b), snapshots[1].ID)
	mustAllBeBack(t, b, slices.Delete(snapshots, 1, 2))
}
