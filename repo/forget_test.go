package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// these decides to forget the snapshots, whatever is live.
func these(ids ...journal.SnapshotID) func([]journal.Live) []journal.Forget {
	return func([]journal.Live) (all []journal.Forget) {
		for _, id := range ids {
			all = append(all, journal.Forget{ID: id, Who: "tester", Why: "asked for"})
		}
		return all
	}
}

func mustForget(t testing.TB, r *Repository, ids ...journal.SnapshotID) {
	t.Helper()
	if forgotten, err := r.Forget(t.Context(), these(ids...)); err != nil || len(forgotten) != len(ids) {
		t.Fatalf("%d of %d snapshots are forgotten, %v", len(forgotten), len(ids), err)
	}
}

func liveIDs(r *Repository) (ids []journal.SnapshotID) {
	for _, l := range r.Snapshots() {
		ids = append(ids, l.ID)
	}
	return ids
}

func head(r *Repository) uint64 {
	next, _ := r.journal.Head()
	return next
}

func TestForgottenSnapshotsAreListedAndComeBack(t *testing.T) {
	b, r := newRepository(t)
	one, refs := backup(t, r, []byte("one"))
	two, _ := backup(t, r, []byte("two"))
	before := liveIDs(r)
	mustForget(t, r, one.ID, two.ID)
	for name, r := range map[string]*Repository{"the same": r, "another": reopen(t, b, "")} {
		if live := r.Snapshots(); len(live) != 0 {
			t.Errorf("%s repository: %d snapshots are live", name, len(live))
		}
		all := r.Forgotten()
		if len(all) != 2 || all[0].ID != one.ID || all[0].Forget.Who != "tester" || all[0].Forget.Why != "asked for" ||
			all[0].Forgotten.Time == 0 || !all[0].Unpruned {
			t.Errorf("%s repository: forgotten are %+v", name, all)
		}
	}
	at := head(r)
	for range 2 { // the second time there is nothing to do
		if err := r.Unforget(t.Context(), two.ID, one.ID, two.ID); err != nil {
			t.Fatal(err)
		}
	}
	if got := head(r); got != at+1 {
		t.Errorf("coming back took %d entries, want 1", got-at)
	}
	if diff := cmp.Diff(before, liveIDs(reopen(t, b, ""))); diff != "" || len(r.Forgotten()) != 0 {
		t.Errorf("live again, and %d forgotten: -want +got\n%s", len(r.Forgotten()), diff)
	}
	if got, err := r.Read(t.Context(), refs[0]); err != nil || string(got) != "one" {
		t.Errorf("it reads %q, %v", got, err)
	}
	mustBeClean(t, r)
}

func TestOfWhatCannotBeForgottenNothingIs(t *testing.T) {
	_, r := newRepository(t)
	var ids []journal.SnapshotID
	for i := range 3 {
		s, _ := backup(t, r, []byte{byte(i)})
		ids = append(ids, s.ID)
	}
	if err := r.Hold(t.Context(), ids[0], ids[0]); err != nil {
		t.Fatal(err)
	}
	mustForget(t, r, ids[2])
	at := head(r)
	unknown := journal.NewSnapshotID()
	for name, tc := range map[string]struct {
		err  error
		want error
		says string
	}{
		"forget of a held one":      {second(r.Forget(t.Context(), these(ids[1], ids[0]))), ErrHeld, ids[0].String()},
		"forget of a forgotten one": {second(r.Forget(t.Context(), these(ids[1], ids[2]))), ErrForgotten, "by tester: asked for"},
		"forget of an unknown one":  {second(r.Forget(t.Context(), these(ids[1], unknown))), ErrNoSnapshot, unknown.String()},
		"hold of a forgotten one":   {r.Hold(t.Context(), ids[1], ids[2]), ErrForgotten, ids[2].String()},
		"release of an unknown one": {r.Release(t.Context(), ids[0], unknown), ErrNoSnapshot, unknown.String()},
		"return of an unknown one":  {r.Unforget(t.Context(), ids[2], unknown), ErrNoSnapshot, unknown.String()},
		"forget of nothing":         {second(r.Forget(t.Context(), these())), nil, ""},
		"hold of a held one":        {r.Hold(t.Context(), ids[0]), nil, ""},
		"release of a free one":     {r.Release(t.Context(), ids[1]), nil, ""},
	} {
		if !errors.Is(tc.err, tc.want) || (tc.err != nil && !strings.Contains(tc.err.Error(), tc.says)) {
			t.Errorf("%s: %v, want %v and %q", name, tc.err, tc.want, tc.says)
		}
	}
	if got := head(r); got != at || len(r.Snapshots()) != 2 {
		t.Errorf("they wrote %d entries, and %d snapshots are live", got-at, len(r.Snapshots()))
	}
	if l, ok := r.Snapshot(ids[0]); !ok || !l.Held {
		t.Errorf("the held one is %+v", l)
	}
	if err := r.Release(t.Context(), ids[0]); err != nil {
		t.Fatal(err)
	}
	if forgotten, err := r.Forget(t.Context(), these(ids[0], ids[0])); err != nil || len(forgotten) != 1 {
		t.Errorf("one that is named twice: %d are forgotten, %v", len(forgotten), err)
	}
}

func second(_ []journal.Live, err error) error { return err }

// racing returns a view of a bucket in which somebody else acts once, just before the first entry is
// created.
func racing(b *mem.Bucket, act func()) storage.Bucket {
	acted := false
	return b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Create && strings.HasPrefix(op.Name, journal.Folder) && !acted {
			acted = true
			act()
		}
		return mem.Fault{}
	})
}

// Two that each leave one of two snapshots must not, by leaving different ones, leave none.
func TestRetentionIsDecidedAgainBehindWhoWasFaster(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	first := reopen(t, b, "")
	one, _ := backup(t, first, []byte("one"))
	two, _ := backup(t, first, []byte("two"))
	slow := reopen(t, racing(b, func() { mustForget(t, first, two.ID) }), "")
	asked := 0
	forgotten, err := slow.Forget(t.Context(), func(live []journal.Live) []journal.Forget {
		asked++
		if len(live) < 2 {
			return nil
		}
		return []journal.Forget{{ID: one.ID}}
	})
	if err != nil || len(forgotten) != 0 || asked != 2 {
		t.Errorf("%d are forgotten after %d questions, %v; want none after 2", len(forgotten), asked, err)
	}
	if diff := cmp.Diff([]journal.SnapshotID{one.ID}, liveIDs(slow)); diff != "" {
		t.Errorf("live are -want +got\n%s", diff)
	}
	slow = reopen(t, racing(b, func() {
		if err := first.Hold(t.Context(), one.ID); err != nil {
			t.Error(err)
		}
	}), "")
	if _, err := slow.Forget(t.Context(), these(one.ID)); !errors.Is(err, ErrHeld) {
		t.Errorf("of one that was held meanwhile: %v, want ErrHeld", err)
	}
}

// A crash at any request leaves the change whole or undone, and asking again makes it whole.
func TestCrashWhileForgettingLeavesItDoneOrUndone(t *testing.T) {
	base := mem.New()
	initialise(t, base)
	made := reopen(t, base, "")
	one, _ := backup(t, made, []byte("one"))
	two, _ := backup(t, made, []byte("two"))
	all := func(live []journal.Live) (which []journal.Forget) {
		for _, l := range live {
			which = append(which, journal.Forget{ID: l.ID})
		}
		return which
	}
	work := func(b storage.Bucket) error {
		r, err := Open(context.Background(), b, OpenOptions{Password: password})
		if err == nil {
			_, err = r.Forget(context.Background(), all)
		}
		if err == nil {
			err = r.Unforget(context.Background(), two.ID)
		}
		if err == nil {
			err = r.Hold(context.Background(), two.ID)
		}
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
				if live := len(r.Snapshots()); live+len(r.Forgotten()) != 2 {
					t.Fatalf("crash at request %d: %d live and %d forgotten", n, live, len(r.Forgotten()))
				}
				if err := r.Unforget(context.Background(), one.ID, two.ID); err != nil {
					t.Fatalf("crash at request %d: return: %v", n, err)
				}
				if err := r.Release(context.Background(), two.ID); err != nil {
					t.Fatalf("crash at request %d: release: %v", n, err)
				}
				if err := work(b); err != nil || len(reopen(t, b, "").Snapshots()) != 1 {
					t.Fatalf("crash at request %d: again: %v", n, err)
				}
			})
			points++
		}
	}
	if points < 20 {
		t.Errorf("only %d crash points", points)
	}
}

func TestForgettingMoreThanAnEntryHoldsTakesSeveral(t *testing.T) {
	_, r := newRepository(t)
	const many = 6_000
	var flood journal.Entry
	for i := range many {
		flood.Snapshots = append(flood.Snapshots, journal.Snapshot{ID: journal.SnapshotID{1, byte(i >> 8), byte(i)}})
	}
	appendEntry(t, r, flood)
	at := head(r)
	forgotten, err := r.Forget(t.Context(), func([]journal.Live) (all []journal.Forget) {
		for _, sn := range flood.Snapshots { // whether it is live or was just forgotten
			all = append(all, journal.Forget{ID: sn.ID, Why: strings.Repeat("x", 2*maxWhy)})
		}
		return all
	})
	if err != nil || len(forgotten) != many || len(r.Snapshots()) != 0 {
		t.Fatalf("%d are forgotten, %d live, %v", len(forgotten), len(r.Snapshots()), err)
	}
	if got := head(r) - at; got != 2 {
		t.Errorf("that took %d entries, want 2", got)
	}
	if why := r.Forgotten()[0].Forget.Why; len(why) != maxWhy {
		t.Errorf("a reason of %d bytes is kept", len(why))
	}
}

// prune writes an entry of a prune that has just marked.
func pruneEntry(t testing.TB, r *Repository, p journal.Prune) {
	t.Helper()
	p.ID, p.Base = journal.NewTxID(), head(r)
	appendEntry(t, r, journal.Entry{Prune: &p})
}

// packsOf are the packs that came with a snapshot.
func packsOf(r *Repository, s journal.Snapshot) *journal.Packs {
	packs := journal.NewPacks()
	r.journal.View(func(state *journal.State) {
		for number, p := range state.Packs {
			for _, l := range append(state.Snapshots, journal.Live{}) {
				if l.ID == s.ID && l.Entry == p.Entry {
					packs.Add(uint32(number))
				}
			}
		}
	})
	return packs
}

func TestSnapshotComesBackFromRetiredPacks(t *testing.T) {
	b, r := newRepository(t)
	shared := []byte("shared")
	backup(t, r, shared)
	lost, refs := backup(t, r, shared, []byte("own"))
	own := packsOf(r, lost)
	mustForget(t, r, lost.ID)
	pruneEntry(t, r, journal.Prune{Retire: own})
	if r.Forgotten()[0].Unpruned {
		t.Error("it says that no prune has marked without it")
	}
	other := reopen(t, b, "")
	if err := other.Unforget(t.Context(), lost.ID); err != nil {
		t.Fatal(err)
	}
	r = reopen(t, b, "")
	for i, want := range []string{"shared", "own"} {
		if got, err := r.Read(t.Context(), refs[i]); err != nil || string(got) != want {
			t.Errorf("content %d reads as %q, %v", i, got, err)
		}
	}
	r.journal.View(func(s *journal.State) {
		for _, number := range own.ToArray() {
			if s.Packs[number].Status != journal.LivePack {
				t.Errorf("pack %d is %+v, want it live", number, s.Packs[number])
			}
		}
		if len(s.Snapshots) != 2 {
			t.Errorf("%d snapshots are live", len(s.Snapshots))
		}
	})
	mustBeClean(t, r)
}

// What lies in a live pack as well needs no pack to come back.
func TestSnapshotComesBackOnLivePacksFirst(t *testing.T) {
	b, r := newRepository(t)
	twin := reopen(t, b, "") // knows nothing of what r stores, so it stores the same again
	content := bytes.Repeat([]byte("x"), 1000)
	lost, _ := backup(t, r, content)
	own := packsOf(r, lost)
	copied, _ := blobTwice(t, twin, r, lost, content)
	mustForget(t, r, lost.ID)
	pruneEntry(t, r, journal.Prune{Retire: own})
	if err := r.Unforget(t.Context(), lost.ID); err != nil {
		t.Fatal(err)
	}
	r.journal.View(func(s *journal.State) {
		for _, number := range own.ToArray() {
			if s.Packs[number].Status != journal.RetiredPack {
				t.Errorf("pack %d is live again, though %v has all", number, copied)
			}
		}
	})
	mustBeClean(t, r)
}

// blobTwice stores a content and the manifest of a snapshot a second time, through a repository that does
// not know them yet.
func blobTwice(t *testing.T, twin, r *Repository, of journal.Snapshot, content []byte) (*journal.Packs, journal.Snapshot) {
	t.Helper()
	manifest, err := r.ReadNode(t.Context(), blob.Ref{Class: blob.Manifest, ID: of.Manifest})
	if err != nil {
		t.Fatal(err)
	}
	w := twin.NewWriter(t.Context(), WriterOptions{})
	defer w.Close()
	if _, err := w.Write(t.Context(), blob.Data, content); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteNode(t.Context(), blob.Manifest, manifest); err != nil {
		t.Fatal(err)
	}
	id := journal.NewSnapshotID()
	ref, err := w.WriteNode(t.Context(), blob.Manifest, blob.Node{Links: manifest.Links, Body: id[:]})
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.Commit(t.Context(), Commit{ID: id, Manifest: ref})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return packsOf(r, s), s
}

func TestSnapshotWhosePacksAreDroppedIsGone(t *testing.T) {
	_, r := newRepository(t)
	lost, _ := backup(t, r, []byte("lost"))
	kept, _ := backup(t, r, []byte("kept"))
	own := packsOf(r, lost)
	mustForget(t, r, lost.ID, kept.ID)
	pruneEntry(t, r, journal.Prune{Retire: own})
	pruneEntry(t, r, journal.Prune{Drop: own})
	at := head(r)
	err := r.Unforget(t.Context(), kept.ID, lost.ID)
	manifest := blob.Ref{Class: blob.Manifest, ID: lost.Manifest}
	if !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), lost.ID.String()) || !strings.Contains(err.Error(), manifest.String()) {
		t.Errorf("it comes back: %v, want ErrGone with the names of snapshot and blob", err)
	}
	if head(r) != at {
		t.Error("the other one came back by itself")
	}
	if err := r.Unforget(t.Context(), kept.ID); err != nil {
		t.Errorf("the other one by itself: %v", err)
	}
}

// Between the look for what is needed and the entry, a prune may drop it, or a copy be found damaged.
func TestReturnIsFoundAgainBehindWhoWasFaster(t *testing.T) {
	for _, what := range []string{"dropped", "damaged", "damaged as a whole", "pruned", "nothing"} {
		b := mem.New()
		initialise(t, b)
		first := reopen(t, b, "")
		lost, refs := backup(t, first, []byte("lost"))
		own := packsOf(first, lost)
		mustForget(t, first, lost.ID)
		if what != "pruned" {
			pruneEntry(t, first, journal.Prune{Retire: own})
		}
		slow := reopen(t, racing(b, func() {
			switch what {
			case "dropped":
				pruneEntry(t, first, journal.Prune{Drop: own})
			case "damaged":
				appendEntry(t, first, journal.Entry{Damaged: []journal.Copy{{Blob: refs[0], Pack: own.Minimum()}}})
			case "damaged as a whole":
				appendEntry(t, first, journal.Entry{Damaged: []journal.Copy{{Pack: own.Minimum()}}})
			case "pruned":
				pruneEntry(t, first, journal.Prune{Retire: own})
			case "nothing":
				backup(t, first, []byte("other"))
			}
		}), "")
		err := slow.Unforget(t.Context(), lost.ID)
		if back := what == "pruned" || what == "nothing"; back != (err == nil) || (!back && !errors.Is(err, ErrGone)) {
			t.Errorf("%s: %v", what, err)
		} else if back {
			mustBeClean(t, slow)
		}
	}
}

// A snapshot that comes back keeps, in a race, what a prune that has marked without it wants to retire.
func TestPruneThatMarkedWithoutAReturnedSnapshotIsVoid(t *testing.T) {
	b, r := newRepository(t)
	lost, refs := backup(t, r, []byte("lost"))
	own := packsOf(r, lost)
	mustForget(t, r, lost.ID)
	base := head(r)
	other := reopen(t, b, "")
	if err := other.Unforget(t.Context(), lost.ID); err != nil {
		t.Fatal(err)
	}
	_, err := r.journal.Commit(t.Context(), func(*journal.State) (journal.Draft, error) {
		return journal.Draft{Entry: journal.Entry{Prune: &journal.Prune{ID: journal.TxID{1}, Base: base, Retire: own}}}, nil
	})
	if !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("the prune commits: %v, want ErrInvalid", err)
	}
	if got, err := other.Read(t.Context(), refs[0]); err != nil || string(got) != "lost" {
		t.Errorf("it reads %q, %v", got, err)
	}
}

func TestForgetTellsWhoMayNotWrite(t *testing.T) {
	_, r := newRepository(t)
	s, _ := backup(t, r, []byte("x"))
	appendEntry(t, r, journal.Entry{Features: []journal.Feature{{Name: "later", Required: "write"}}})
	for name, err := range map[string]error{
		"forget": second(r.Forget(t.Context(), these(s.ID))), "hold": r.Hold(t.Context(), s.ID), "unforget": r.Unforget(t.Context(), s.ID),
	} {
		if !errors.Is(err, ErrVersion) || !strings.Contains(fmt.Sprint(err), "later") {
			t.Errorf("%s: %v, want ErrVersion that names the feature", name, err)
		}
	}
}
