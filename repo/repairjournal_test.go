package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// identify knows the manifests of the tests.
func identify(n blob.Node) (id journal.SnapshotID, begun int64, ok bool) {
	return journal.SnapshotID(n.Body), 7, len(n.Body) == len(id)
}

// told is what must be said to repair the journal of a test from an entry on.
func told(from uint64) JournalOptions {
	return JournalOptions{DropFrom: from, Confirmed: true, Identify: identify}
}

func repairJournal(ctx context.Context, b storage.Bucket, o JournalOptions) (JournalRepair, error) {
	return RepairJournal(ctx, b, OpenOptions{Password: password, Limits: smallLimits}, o)
}

// sixSnapshots returns a repository of some snapshots, of which each has a content of its own and one in common,
// some in packs and some inside of the journal.
func sixSnapshots(t testing.TB) (b *mem.Bucket, snapshots []journal.Snapshot, want map[blob.Ref][]byte) {
	t.Helper()
	b, want = mem.New(), map[blob.Ref][]byte{}
	initialise(t, b)
	for i := range uint64(6) {
		contents := [][]byte{[]byte("common"), noise(i, 100+3000*int(i%2))}
		s, refs := backup(t, openSmall(t, b), contents...)
		snapshots = append(snapshots, s)
		for i, ref := range refs {
			want[ref] = contents[i]
		}
	}
	return b, snapshots, want
}

func live(r *Repository) (ids []journal.SnapshotID) {
	for _, s := range r.Snapshots() {
		ids = append(ids, s.ID)
	}
	return ids
}

// Whatever entry is lost, the repair goes on from the one before it and brings back every snapshot of which
// all is there. When the entry is damaged and not gone, that is all of them.
func TestRepairOfTheJournalLosesOneEntryAtMost(t *testing.T) {
	whole, snapshots, want := sixSnapshots(t)
	for what, damage := range map[string]func(*mem.Bucket, string) error{
		"flipped": func(b *mem.Bucket, name string) error {
			return b.Damage(name, func(d []byte) []byte { d[40] ^= 1; return d })
		},
		"missing": func(b *mem.Bucket, name string) error { return b.Delete(t.Context(), name) },
	} {
		for k := range uint64(len(snapshots)) { // the last one's loss is a shorter journal
			t.Run(fmt.Sprintf("entry %d %s", k, what), func(t *testing.T) {
				b := whole.Clone()
				must(t, damage(b, journal.Name(k)))
				for _, o := range []JournalOptions{{}, told(k + 1), {DropFrom: k}} {
					before := b.Clone()
					if _, err := repairJournal(t.Context(), b, o); !errors.Is(err, ErrUnconfirmed) {
						t.Fatalf("not confirmed: %v", err)
					}
					if fmt.Sprint(names(t, before)) != fmt.Sprint(names(t, b)) {
						t.Fatal("what was not confirmed has changed the bucket")
					}
				}
				report, err := repairJournal(t.Context(), b, told(k))
				must(t, err)
				r := openSmall(t, b)
				mustBeClean(t, r)
				back := live(r)
				for i, s := range snapshots {
					if gone := what == "missing" && (i+1 == int(k) || k == 1); !slices.Contains(back, s.ID) && !gone {
						t.Errorf("snapshot %d of entry %d is gone: %+v", i, i+1, report)
					}
				}
				if len(report.Moved) != len(snapshots)+1-int(k)-len(lostNames(what)) {
					t.Errorf("moved %v", report.Moved)
				}
				for ref, content := range want {
					if got, err := r.Read(t.Context(), ref); err == nil && !bytes.Equal(got, content) {
						t.Errorf("%v reads as other bytes", ref)
					}
				}
				if again, err := repairJournal(t.Context(), b, told(k)); err != nil || again.Packs+len(again.Moved) > 0 {
					t.Errorf("a second repair does %+v, %v", again, err)
				}
				if _, _, err := tryBackup(openSmall(t, b), Commit{}, []byte("next")); err != nil {
					t.Errorf("the next backup: %v", err)
				}
			})
		}
	}
}

// lostNames is the entry that is not there to be moved.
func lostNames(what string) []string {
	if what == "missing" {
		return []string{""}
	}
	return nil
}

func TestJournalThatCanBeReadIsLeftAlone(t *testing.T) {
	b, _, _ := sixSnapshots(t)
	for k := range uint64(8) {
		if _, err := repairJournal(t.Context(), b, told(k)); !errors.Is(err, ErrReadable) {
			t.Errorf("from entry %d: %v", k, err)
		}
	}
	unreachable := errors.New("no answer")
	view := b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Get && op.Name == journal.Name(3) {
			return mem.Fault{Err: unreachable}
		}
		return mem.Fault{}
	})
	if _, err := repairJournal(t.Context(), view, told(3)); !errors.Is(err, unreachable) {
		t.Errorf("an entry that is only out of reach: %v", err)
	}
}

// With entry 0 lost, only who knows the fingerprint can tell a repository's slots from planted ones.
func TestJournalWithoutABeginningIsRepairedByWhoKnowsTheKey(t *testing.T) {
	b, snapshots, _ := sixSnapshots(t)
	r := openSmall(t, b)
	addSlot(t, r, SlotOptions{Password: "another password"})
	must(t, b.Damage(journal.Name(0), func(d []byte) []byte { d[40] ^= 1; return d }))
	if _, err := repairJournal(t.Context(), b, told(0)); !errors.Is(err, ErrUnproven) {
		t.Errorf("without the fingerprint: %v, want ErrUnproven", err)
	}
	open := OpenOptions{Password: password, Limits: smallLimits, Fingerprint: r.Fingerprint()}
	if _, err := RepairJournal(t.Context(), b, open, told(0)); err != nil {
		t.Errorf("with the fingerprint: %v", err)
	}
	if back := live(openSmall(t, b)); len(back) != len(snapshots) {
		t.Errorf("%d of %d snapshots are back", len(back), len(snapshots))
	}
}

// What a repair has left in lost/ is no reason to take a journal for right that was seen longer.
func TestLeftoversOfARepairHideNoRollback(t *testing.T) {
	b, _, _ := sixSnapshots(t)
	must(t, b.Damage(journal.Name(5), func(d []byte) []byte { d[40] ^= 1; return d }))
	open := OpenOptions{Password: password, Limits: smallLimits, StateDir: t.TempDir()}
	if _, err := RepairJournal(t.Context(), b, open, told(5)); err != nil {
		t.Fatal(err)
	}
	older := b.Clone()
	backup(t, visit(t, b, open), []byte("more"))
	if _, err := RepairJournal(t.Context(), b, open, JournalOptions{}); err != nil {
		t.Errorf("repaired again: %v", err)
	}
	visit(t, b, open)
	if _, err := RepairJournal(t.Context(), older, open, JournalOptions{}); !errors.Is(err, journal.ErrRolledBack) {
		t.Errorf("an older copy: %v, want ErrRolledBack", err)
	}
	mustRefuse(t, older, open)
	if _, err := RepairJournal(t.Context(), older, open, told(5)); err != nil {
		t.Errorf("an older copy that is confirmed: %v", err)
	}
	mustGoOn(t, older, open)
}

// A repair that breaks off anywhere is done again, and ends as if it had not.
func TestRepairOfTheJournalCanBreakOffAnywhere(t *testing.T) {
	whole, snapshots, _ := sixSnapshots(t)
	must(t, whole.Damage(journal.Name(3), func(d []byte) []byte { d[40] ^= 1; return d }))
	for _, after := range []bool{false, true} {
		for n, outlived := int64(1), false; !outlived; n++ {
			synctest.Test(t, func(t *testing.T) {
				b := whole.Clone()
				_, err := repairJournal(t.Context(), dying(b, n, after), told(3))
				if outlived = err == nil; !outlived && !errors.Is(err, mem.ErrCrashed) {
					t.Fatalf("crash at request %d: %v", n, err)
				}
				if r, err := Open(t.Context(), b, OpenOptions{Password: password, Limits: smallLimits}); err == nil && !outlived {
					if _, err := r.Prune(t.Context(), atOnce); !errors.Is(err, ErrUnfinished) && !after { // must not take what the repair brings back
						t.Errorf("crash at request %d: a prune before the next repair: %v", n, err)
					}
				}
				if _, err := repairJournal(t.Context(), b, told(3)); err != nil {
					t.Fatalf("crash at request %d: the next repair: %v", n, err)
				}
				r := openSmall(t, b)
				if _, err := r.Prune(t.Context(), PruneOptions{DryRun: true}); errors.Is(err, ErrUnfinished) {
					t.Errorf("crash at request %d: after the repair: %v", n, err)
				}
				mustBeClean(t, r)
				for i, s := range snapshots {
					if !slices.Contains(live(r), s.ID) {
						t.Errorf("crash at request %d: snapshot %d is gone", n, i)
					}
				}
			})
		}
	}
}
