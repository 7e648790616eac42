package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

func flipEntry(t testing.TB, b *mem.Bucket, n uint64) {
	t.Helper()
	must(t, b.Damage(journal.Name(n), func(d []byte) []byte { d[40] ^= 1; return d }))
}

func mustRepairJournal(t testing.TB, b *mem.Bucket, o JournalOptions) JournalRepair {
	t.Helper()
	report, err := repairJournal(t.Context(), b, o)
	must(t, err)
	return report
}

// mustAllBeBack checks that the repository is whole, has these snapshots, and keeps them through prunes.
func mustAllBeBack(t testing.TB, b *mem.Bucket, snapshots []journal.Snapshot) {
	t.Helper()
	for range 3 {
		r := openSmall(t, b)
		mustBeClean(t, r)
		back := live(r)
		for i, s := range snapshots {
			if !slices.Contains(back, s.ID) {
				t.Errorf("snapshot %d is gone", i)
			}
		}
		prune(t, r, atOnce)
	}
}

// packSince returns the object of a pack that an entry from number n on has added.
func packSince(t testing.TB, b *mem.Bucket, n uint64) (name string) {
	t.Helper()
	openSmall(t, b).journal.View(func(s *journal.State) {
		for _, p := range s.Packs {
			if p.Entry >= n && p.Inline == 0 {
				name, _ = p.Object()
			}
		}
	})
	return name
}

// What a repair cannot bring back may be found later. Until then, or until the user has given it up, nothing of it
// is pruned; when it is there again, the same repair takes it up.
func TestRepairOfTheJournalKeepsWhatItCannotBringBack(t *testing.T) {
	whole, snapshots, _ := sixSnapshots(t)
	stray := packSince(t, whole, 3)
	was, err := whole.Get(t.Context(), stray, 0, -1)
	must(t, err)
	first, err := whole.Get(t.Context(), journal.Name(1), 0, -1)
	must(t, err)
	for what, harm := range map[string]struct {
		from   uint64
		damage func(*mem.Bucket)
		tells  func(JournalRepair) bool
		mend   func(*mem.Bucket) // puts back what was found
	}{
		"a pack without a table": {
			3, func(b *mem.Bucket) { flipEntry(t, b, 3); loseTable(t, b, stray) },
			func(r JournalRepair) bool { return slices.Equal(r.Unreadable, []string{stray}) },
			func(b *mem.Bucket) { must(t, b.Put(stray, was)) },
		},
		"a pack that is missing": {
			3, func(b *mem.Bucket) { flipEntry(t, b, 3); must(t, b.Delete(t.Context(), stray)) },
			func(r JournalRepair) bool {
				return slices.ContainsFunc(r.Snapshots, func(s RecoveredHistory) bool { return !s.Back && strings.Contains(s.Why, "no pack has data") })
			},
			func(b *mem.Bucket) { must(t, b.Put(stray, was)) },
		},
		"an entry that is missing": {
			1, func(b *mem.Bucket) { must(t, b.Delete(t.Context(), journal.Name(1))) },
			func(r JournalRepair) bool { return slices.Equal(r.Silent, []string{journal.Name(1)}) },
			func(b *mem.Bucket) { must(t, b.Put(LostFolder+journal.Name(1)+"-found", first)) },
		},
	} {
		t.Run(what, func(t *testing.T) {
			b := whole.Clone()
			harm.damage(b)
			o := told(harm.from)
			o.GiveUp = true // whoever has not seen what is lost cannot give it up
			report := mustRepairJournal(t, b, o)
			if !harm.tells(report) || !report.Waiting || report.Complete() {
				t.Errorf("the repair says %+v", report)
			}
			lost := len(snapshots) - len(live(openSmall(t, b)))
			if lost == 0 {
				t.Error("nothing is lost")
			}
			if _, err := openSmall(t, b).Prune(t.Context(), atOnce); !errors.Is(err, ErrUnfinished) {
				t.Errorf("a prune: %v, want ErrUnfinished", err)
			}
			found := b.Clone()
			harm.mend(found)
			if report := mustRepairJournal(t, found, told(harm.from)); !report.Complete() || report.Waiting {
				t.Errorf("when all is there, the repair says %+v", report)
			}
			mustAllBeBack(t, found, snapshots)

			if report := mustRepairJournal(t, b, JournalOptions{GiveUp: true, Identify: identify}); !harm.tells(report) || report.Waiting {
				t.Errorf("when it is given up, the repair says %+v", report)
			}
			prune(t, openSmall(t, b), atOnce)
			if report := mustRepairJournal(t, b, JournalOptions{Identify: identify}); report.Waiting {
				t.Errorf("what was given up keeps prunes away again: %+v", report)
			}
		})
	}
}

// A dry run tells what the real one finds, and changes nothing.
func TestDryRepairOfTheJournalTellsWhatARealOneFinds(t *testing.T) {
	whole, _, _ := sixSnapshots(t)
	stray := packSince(t, whole, 3)
	for what, damage := range map[string]func(*mem.Bucket){
		"an entry":            func(b *mem.Bucket) { flipEntry(t, b, 3) },
		"entry 0":             func(b *mem.Bucket) { flipEntry(t, b, 0) },
		"an entry and a pack": func(b *mem.Bucket) { flipEntry(t, b, 3); must(t, b.Delete(t.Context(), stray)) },
		"a table":             func(b *mem.Bucket) { flipEntry(t, b, 2); loseTable(t, b, stray) },
		"a gap":               func(b *mem.Bucket) { must(t, b.Delete(t.Context(), journal.Name(1))) },
	} {
		t.Run(what, func(t *testing.T) {
			b := whole.Clone()
			open := OpenOptions{Password: password, Limits: smallLimits, StateDir: t.TempDir(), CacheDir: t.TempDir()}
			visit(t, b, open) // so that the cache tells of lost snapshots
			damage(b)
			before := names(t, b)
			dry, err := RepairJournal(t.Context(), b, open, JournalOptions{DryRun: true, Identify: identify})
			must(t, err)
			if diff := cmp.Diff(before, names(t, b)); diff != "" {
				t.Errorf("the dry run has changed the bucket: %s", diff)
			}
			done, err := RepairJournal(t.Context(), b, open, told(dry.From))
			must(t, err)
			if diff := cmp.Diff(dry, done); diff != "" {
				t.Errorf("-dry +done\n%s", diff)
			}
		})
	}
}

// Lost entries say in their order what is forgotten: what they have brought back in the end is to come back.
func TestSnapshotThatLostEntriesBroughtBackComesBack(t *testing.T) {
	b, snapshots, _ := sixSnapshots(t)
	mustForget(t, openSmall(t, b), snapshots[4].ID, snapshots[5].ID)
	must(t, openSmall(t, b).Unforget(t.Context(), snapshots[5].ID))
	flipEntry(t, b, 3)
	mustRepairJournal(t, b, told(3))
	if back := live(openSmall(t, b)); !slices.Contains(back, snapshots[5].ID) || slices.Contains(back, snapshots[4].ID) {
		t.Errorf("%v are live, want %v and not %v", back, snapshots[5].ID, snapshots[4].ID)
	}
}

// With an entry missing, the packs that it added have the manifest of its snapshot.
func TestSnapshotOfAMissingEntryIsFoundByItsManifest(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r, err := Open(t.Context(), b, OpenOptions{Password: password, Limits: Limits{Inline: 1}}) // all packs are objects
	must(t, err)
	w := r.NewWriter(t.Context(), WriterOptions{})
	ref, err := w.Write(t.Context(), blob.Data, noise(1, 3000))
	must(t, err)
	id := journal.NewSnapshotID()
	manifest, err := w.WriteNode(t.Context(), blob.Manifest, blob.Node{Links: []blob.Ref{ref}, Body: bytes.Clone(id[:])})
	must(t, err)
	_, err = w.Commit(t.Context(), Commit{ID: id, Manifest: manifest})
	must(t, err)
	must(t, w.Close())
	later, _ := backup(t, openSmall(t, b), []byte("later"))
	must(t, b.Delete(t.Context(), journal.Name(1)))
	if report := mustRepairJournal(t, b, told(1)); !report.Complete() {
		t.Errorf("the repair says %+v", report)
	}
	mustAllBeBack(t, b, []journal.Snapshot{{ID: id}, later})
}

// An entry that only adds packs may be unreadable without any loss. It is a reason to wait only if there is a
// pack that nobody needs: with the manifest of a snapshot lost, it may be of that one.
func TestUnreadableEntryIsAReasonToWaitOnlyIfItMayHideSomething(t *testing.T) {
	whole := mem.New()
	initialise(t, whole)
	left := openSmall(t, whole).NewWriter(t.Context(), WriterOptions{})
	for i := range uint64(2) {
		_, err := left.Write(t.Context(), blob.Data, noise(i, 3000))
		must(t, err)
	}
	must(t, left.Close()) // which adds what is stored
	packs := objectsIn(t, whole, journal.PackFolder)
	snapshot, _ := backup(t, openSmall(t, whole), noise(0, 3000), noise(1, 3000))
	flipEntry(t, whole, 1)

	b := whole.Clone()
	if report := mustRepairJournal(t, b, told(1)); !report.Complete() || report.Waiting {
		t.Errorf("with the snapshot back, the repair says %+v", report)
	}
	mustAllBeBack(t, b, []journal.Snapshot{snapshot})
	if again := mustRepairJournal(t, b, told(1)); !again.Complete() {
		t.Errorf("after prunes, the repair says %+v", again)
	}

	b = whole.Clone()
	must(t, b.Delete(t.Context(), journal.Name(2))) // with the manifest in it
	if len(packs) == 0 {
		t.Fatal("the first session has left no pack")
	}
	if report := mustRepairJournal(t, b, told(1)); !slices.Contains(report.Silent, journal.Name(1)) || !report.Waiting {
		t.Errorf("with a pack of nobody, the repair says %+v", report)
	}
}

// A backup that broke off before its entry may have left a manifest. It does not stand for a snapshot that is lost, so
// that prunes leave what that had stored until its entry is found.
func TestManifestWithoutAnEntryStandsForNoLostSnapshot(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	w := notInline(t, b).NewWriter(t.Context(), WriterOptions{})
	ref, err := w.Write(t.Context(), blob.Data, noise(1, 3000))
	must(t, err)
	id := journal.NewSnapshotID()
	_, err = w.WriteNode(t.Context(), blob.Manifest, blob.Node{Links: []blob.Ref{ref}, Body: bytes.Clone(id[:])})
	must(t, err)
	_, err = w.finish() // which stores its packs
	must(t, err)

	snapshot, _ := backup(t, openSmall(t, b), noise(2, 3000)) // with the manifest inside of its entry
	must(t, openSmall(t, b).Hold(t.Context(), snapshot.ID))
	entry, err := b.Get(t.Context(), journal.Name(1), 0, -1)
	must(t, err)
	must(t, b.Delete(t.Context(), journal.Name(1)))
	report := mustRepairJournal(t, b, told(1))
	if !slices.Equal(report.Silent, []string{journal.Name(1)}) || !report.Waiting {
		t.Errorf("the repair says %+v", report)
	}
	if _, err := openSmall(t, b).Prune(t.Context(), atOnce); !errors.Is(err, ErrUnfinished) {
		t.Errorf("a prune: %v, want ErrUnfinished", err)
	}
	must(t, b.Put(LostFolder+journal.Name(1)+"-found", entry))
	if report := mustRepairJournal(t, b, told(1)); !report.Complete() || report.Waiting {
		t.Errorf("when the entry is found, the repair says %+v", report)
	}
	mustAllBeBack(t, b, []journal.Snapshot{snapshot})
}

// What an earlier repair has added again is no riddle any more once a prune has looked at it.
func TestSecondRepairOfTheJournalTrustsThePruneBetween(t *testing.T) {
	b, snapshots, _ := sixSnapshots(t)
	flipEntry(t, b, 3)
	mustRepairJournal(t, b, told(3))
	mustAllBeBack(t, b, snapshots)
	must(t, openSmall(t, b).Hold(t.Context(), snapshots[0].ID))
	last := head(openSmall(t, b)) - 1
	flipEntry(t, b, last)
	if report := mustRepairJournal(t, b, told(last)); !report.Complete() || report.Waiting {
		t.Errorf("the second repair says %+v", report)
	}
	mustAllBeBack(t, b, snapshots)
}

// Long after a repair the state knows no more what has been forgotten since. A second repair finds it in lost/, and asks
// the journal: it is neither lost nor live again, whether or not a prune has left its contents.
func TestSecondRepairOfTheJournalKnowsWhatIsForgottenForLong(t *testing.T) {
	for _, prunes := range []int{1, 3} { // the first only retires
		synctest.Test(t, func(t *testing.T) {
			b, snapshots, _ := sixSnapshots(t)
			flipEntry(t, b, 3)
			if report := mustRepairJournal(t, b, told(3)); !report.Complete() {
				t.Fatalf("the first repair says %+v", report)
			}
			mustForget(t, openSmall(t, b), snapshots[2].ID, snapshots[3].ID)
			time.Sleep(journal.ForgottenFor + time.Hour)
			for range prunes {
				prune(t, openSmall(t, b), atOnce)
			}
			if known := openSmall(t, b).Forgotten(); len(known) > 0 {
				t.Fatalf("the state knows %d forgotten snapshots", len(known))
			}
			last, _ := backup(t, openSmall(t, b), []byte("new"))
			from := head(openSmall(t, b)) - 1
			flipEntry(t, b, from)
			report := mustRepairJournal(t, b, told(from))
			if !report.Complete() || report.Waiting || len(report.Snapshots) != 1 {
				t.Errorf("after %d prunes, the second repair says %+v", prunes, report)
			}
			for i, s := range snapshots[2:4] {
				if slices.Contains(live(openSmall(t, b)), s.ID) {
					t.Errorf("after %d prunes, forgotten snapshot %d is live", prunes, 2+i)
				}
			}
			mustAllBeBack(t, b, append(slices.Delete(snapshots, 2, 4), last))
		})
	}
}

// Nor is the entry a riddle any more that had made such a snapshot and is lost without a trace.
func TestSecondRepairOfTheJournalCountsWhatIsForgottenForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		initialise(t, b)
		first, _ := backup(t, notInline(t, b), noise(1, 3000))
		second, _ := backup(t, notInline(t, b), noise(2, 3000))
		must(t, b.Delete(t.Context(), journal.Name(1)))
		if report := mustRepairJournal(t, b, told(1)); !report.Complete() {
			t.Fatalf("the first repair says %+v", report)
		}
		mustForget(t, openSmall(t, b), first.ID)
		time.Sleep(journal.ForgottenFor + time.Hour)
		for range 3 {
			prune(t, openSmall(t, b), atOnce)
		}
		must(t, openSmall(t, b).Hold(t.Context(), second.ID))
		must(t, openSmall(t, b).Release(t.Context(), second.ID))
		from := head(openSmall(t, b)) - 2
		entry, err := b.Get(t.Context(), journal.Name(from), 0, -1)
		must(t, err)
		must(t, b.Delete(t.Context(), journal.Name(from)))
		must(t, b.Put(LostFolder+journal.Name(from)+"-found", entry)) // of this loss all is known
		if report := mustRepairJournal(t, b, told(from)); !report.Complete() || report.Waiting {
			t.Errorf("the second repair says %+v", report)
		}
		mustAllBeBack(t, b, []journal.Snapshot{second})
	})
}

// Somebody may have planted an object of any size, which must not fill the memory of who repairs.
func TestRepairOfTheJournalReadsNoMoreThanAnEntry(t *testing.T) {
	b, _, _ := sixSnapshots(t)
	flipEntry(t, b, 3)
	must(t, b.Put(journal.Name(9), make([]byte, journal.MaxEntry+1)))
	most := int64(0)
	view := b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Get && strings.HasPrefix(op.Name, journal.Folder) {
			most = max(most, op.Length)
			if op.Length < 0 {
				t.Errorf("all of %s is read, whatever its size", op.Name)
			}
		}
		return mem.Fault{}
	})
	if _, err := repairJournal(t.Context(), view, told(3)); !errors.Is(err, ErrOversized) || !strings.Contains(err.Error(), journal.Name(9)) {
		t.Errorf("a planted object: %v, want ErrOversized with its name", err)
	}
	if most > journal.MaxEntry+1 {
		t.Errorf("%d bytes are read at once", most)
	}
	must(t, b.Delete(t.Context(), journal.Name(9)))
	mustRepairJournal(t, b, told(3))
}

// sleepers returns a client for each length that the journal had, which sleeps since. The last entries make no
// snapshots, so that a repaired journal has fewer.
func sleepers(t testing.TB) (b *mem.Bucket, snapshots []journal.Snapshot, asleep []*Repository) {
	t.Helper()
	b = mem.New()
	initialise(t, b)
	for i := range uint64(6) {
		asleep = append(asleep, openSmall(t, b))
		s, _ := backup(t, openSmall(t, b), []byte("common"), noise(i, 100+3000*int(i%2)))
		snapshots = append(snapshots, s)
	}
	for range 4 {
		asleep = append(asleep, openSmall(t, b))
		must(t, openSmall(t, b).Hold(t.Context(), snapshots[0].ID))
		asleep = append(asleep, openSmall(t, b))
		must(t, openSmall(t, b).Release(t.Context(), snapshots[0].ID))
	}
	return b, snapshots, append(asleep, openSmall(t, b))
}

// A client that sleeps while the journal is repaired holds entries in memory that are no longer there. What it
// then commits must never stand behind a gap, where it would hide the journal from everyone.
func TestSleeperDoesNotWriteBehindARepairedJournal(t *testing.T) {
	for k := range uint64(6) {
		t.Run(fmt.Sprintf("entry %d", k), func(t *testing.T) {
			b, snapshots, asleep := sleepers(t)
			flipEntry(t, b, k)
			mustRepairJournal(t, b, told(k))
			for i, r := range asleep {
				_, _, err := tryBackup(r, Commit{}, []byte("late"))
				if known := uint64(i + 1); known > k && !errors.Is(err, journal.ErrRolledBack) {
					t.Errorf("who knows %d entries: %v, want ErrRolledBack", known, err)
				}
			}
			mustAllBeBack(t, b, snapshots)
		})
	}
}

// Should it awake in the middle, the repair fails, and a next one takes what it wrote for lost like the rest.
func TestSleeperThatAwakesInARepairIsRepairedToo(t *testing.T) {
	for n, over := int64(1), false; !over; n++ {
		synctest.Test(t, func(t *testing.T) {
			b, snapshots, asleep := sleepers(t)
			flipEntry(t, b, 3)
			awake := false
			var late journal.Snapshot
			var lateErr error
			_, err := repairJournal(t.Context(), b.View(func(_ context.Context, op mem.Op) mem.Fault {
				if op.Number == n && !awake {
					awake = true
					late, _, lateErr = tryBackup(asleep[len(asleep)-1], Commit{}, []byte("late"))
				}
				return mem.Fault{}
			}), told(3))
			if over = !awake; over {
				must(t, err)
				return
			}
			if lateErr == nil {
				snapshots = append(snapshots, late)
			}
			for tries := 0; ; tries++ {
				report, again := repairJournal(t.Context(), b, JournalOptions{Identify: identify})
				if errors.Is(again, ErrUnconfirmed) && tries < 3 {
					_, _ = repairJournal(t.Context(), b, told(report.From))
					continue
				}
				if again != nil && !errors.Is(again, ErrReadable) {
					t.Fatalf("awake at request %d (%v): repaired again: %v", n, err, again)
				}
				break
			}
			r := openSmall(t, b)
			mustBeClean(t, r)
			for i, s := range snapshots {
				if !slices.Contains(live(r), s.ID) {
					t.Errorf("awake at request %d: snapshot %d is gone", n, i)
				}
			}
			if _, err := r.Prune(t.Context(), atOnce); err != nil && !errors.Is(err, ErrUnfinished) {
				t.Errorf("awake at request %d: a prune: %v", n, err)
			}
		})
	}
}
