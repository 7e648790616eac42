package repo

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// eager starts a session that deposits each pack as soon as it is stored.
func eager(r *Repository) *Writer {
	w := r.NewWriter(context.Background(), WriterOptions{})
	w.depositEvery = 1
	return w
}

func writeAll(t *testing.T, w *Writer, contents ...[]byte) (refs []blob.Ref) {
	t.Helper()
	for _, content := range contents {
		ref, err := w.Write(context.Background(), blob.Data, content)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, ref)
	}
	return refs
}

// large returns contents of several packs.
func large() (contents [][]byte) {
	for i := range uint64(50) {
		contents = append(contents, noise(500+i, 2<<20))
	}
	return contents
}

func commitManifest(t *testing.T, w *Writer, refs []blob.Ref) error {
	t.Helper()
	ctx := context.Background()
	c := Commit{ID: journal.NewSnapshotID(), Started: time.Now()}
	var err error
	if c.Manifest, err = w.WriteNode(ctx, blob.Manifest, blob.Node{Links: refs, Body: c.ID[:]}); err != nil {
		t.Fatal(err)
	}
	_, err = w.Commit(ctx, c)
	return errors.Join(err, w.Close())
}

func TestLongSessionDepositsItsPacksAndCommits(t *testing.T) {
	b, r := newRepository(t)
	w := eager(r)
	contents := large()
	refs := writeAll(t, w, contents...)
	if deposited := w.deposited.GetCardinality(); deposited == 0 || len(w.mine) > 35 {
		t.Errorf("%d packs deposited, %d blobs held in memory; want some, and those of the open pack", deposited, len(w.mine))
	}
	writeAll(t, w, contents[0], contents[1]) // now from the index
	if err := commitManifest(t, w, refs); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Repository{r, reopen(t, b, "")} {
		for i, ref := range refs {
			if got, err := r.Read(context.Background(), ref); err != nil || !bytes.Equal(got, contents[i]) {
				t.Fatalf("content %d reads as %d bytes, %v", i, len(got), err)
			}
		}
		if report := mustBeClean(t, r); report.Orphans != 0 || report.Snapshots != 1 {
			t.Errorf("check saw %+v", report)
		}
	}
	r.journal.View(func(s *journal.State) {
		refs := s.Snapshots[0].Refs
		if refs == nil || refs.GetCardinality() != w.deposited.GetCardinality() {
			t.Errorf("the snapshot relies on packs %v, want all deposited ones", refs)
		}
	})
}

// What an interrupted session has stored is not stored again, whether it could say goodbye or not.
func TestNextSessionUsesWhatAnInterruptedOneStored(t *testing.T) {
	for name, c := range map[string]struct {
		every    int
		goodbye  bool
		expected int64 // blobs stored again, at most
	}{
		"killed after deposits":   {1, false, 34},
		"ended before its first":  {depositEvery, true, 18},
		"killed before its first": {depositEvery, false, 50},
		"ended after deposits":    {1, true, 18},
	} {
		b := mem.New()
		initialise(t, b)
		w := reopen(t, b, "").NewWriter(t.Context(), WriterOptions{})
		w.depositEvery = c.every
		writeAll(t, w, large()...)
		if c.goodbye {
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		} else if err := w.uploads.Wait(); err != nil {
			t.Fatal(err)
		}
		r := reopen(t, b, "")
		next := r.NewWriter(t.Context(), WriterOptions{})
		refs := writeAll(t, next, large()...)
		if got := next.Stats().NewBlobs; got > c.expected {
			t.Errorf("%s: %d blobs are stored again, want at most %d", name, got, c.expected)
		}
		if err := commitManifest(t, next, refs); err != nil {
			t.Fatal(err)
		}
		mustBeClean(t, r)
	}
}

// A prune may take away what a session has deposited and no snapshot needs yet. Retired packs come
// back with the snapshot; dropped ones make the session begin again.
func TestDepositedPacksArePrunedAway(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		drop bool
		want error
	}{{false, nil}, {true, ErrSuperseded}} {
		b := mem.New()
		initialise(t, b)
		r := reopen(t, b, "")
		w := eager(r)
		refs := writeAll(t, w, large()...)
		prune := func(id byte, p journal.Prune) {
			p.ID = journal.TxID{id}
			if _, err := r.journal.Commit(ctx, func(s *journal.State) (journal.Draft, error) {
				p.Base = s.Next
				return journal.Draft{Entry: journal.Entry{Prune: &p}}, nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		prune(1, journal.Prune{Retire: w.deposited.Clone()})
		if c.drop {
			prune(2, journal.Prune{Drop: w.deposited.Clone()})
		}
		if err := commitManifest(t, w, refs); !errors.Is(err, c.want) {
			t.Errorf("commit after a prune, dropped %v: %v, want %v", c.drop, err, c.want)
		}
		mustBeClean(t, reopen(t, b, ""))
	}
}

// What a session finds there costs it a bit a pack, however many blobs it comes across.
func TestSessionRemembersPacksAndNotBlobsOfWhatWasThere(t *testing.T) {
	b, r := newRepository(t)
	contents := manyBlobs(7)
	backup(t, r, contents...)
	w := reopen(t, b, "").NewWriter(t.Context(), WriterOptions{})
	refs := writeAll(t, w, contents...)
	if w.Stats().NewBlobs != 0 || len(w.mine) > 0 || w.relied.IsEmpty() {
		t.Errorf("%d blobs are new, %d remembered, packs %v relied on; want none, none and some", w.Stats().NewBlobs, len(w.mine), w.relied)
	}
	if err := commitManifest(t, w, refs); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, reopen(t, b, ""))
}

// A session may build on what is good in a pack of which it is known what is bad. Damage that is found there
// while it runs may be in what it builds on, so it begins again.
func TestSessionBuildsOnPacksWhoseDamageIsKnown(t *testing.T) {
	good, bad := []byte("good"), []byte("bad")
	for _, c := range []struct {
		meanwhile bool
		want      error
	}{{false, nil}, {true, ErrSuperseded}} {
		b, r := newRepository(t)
		first, refs := backup(t, r, good, bad)
		harm := func() {
			must(t, r.MarkDamaged(t.Context(), []journal.Copy{{Blob: refs[1], Pack: packsOf(r, first).Minimum()}}))
		}
		if !c.meanwhile {
			harm()
		}
		w := reopen(t, b, "").NewWriter(t.Context(), WriterOptions{})
		again := writeAll(t, w, good)
		if w.Stats().NewBlobs != 0 {
			t.Error("what is good is stored again")
		}
		if c.meanwhile {
			harm()
		}
		if err := commitManifest(t, w, again); !errors.Is(err, c.want) {
			t.Errorf("commit with damage, found meanwhile %t: %v, want %v", c.meanwhile, err, c.want)
		}
		if err := commitManifest(t, reopen(t, b, "").NewWriter(t.Context(), WriterOptions{}), nil); err != nil {
			t.Errorf("the next session: %v", err)
		}
	}
}

// A session of which one pack was given up as an orphan has failed. Its other packs stay for the next.
func TestOnePackGivenUpCostsNotTheOthers(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *Writer, []blob.Ref) error{
		"commit": commitManifest,
		"close":  func(_ *testing.T, w *Writer, _ []blob.Ref) error { return w.Close() },
	} {
		b, r := newRepository(t)
		contents := large()
		w := reopen(t, b, "").NewWriter(t.Context(), WriterOptions{})
		refs := writeAll(t, w, contents...)
		orphan := w.own[0].Name
		pruneEntry(t, r, journal.Prune{Orphans: []blob.Hash{orphan}})
		if err := end(t, w, refs); name == "commit" && !errors.Is(err, ErrSuperseded) {
			t.Errorf("%s: %v", name, err)
		}
		want := int64(len(contents))
		for _, own := range w.own {
			rows, err := blob.DecodeRows(own.Rows)
			must(t, err)
			if own.Name != orphan {
				want -= int64(len(slices.DeleteFunc(rows, func(row blob.Row) bool { return row.Class != blob.Data })))
			}
		}
		next := reopen(t, b, "").NewWriter(t.Context(), WriterOptions{})
		again := writeAll(t, next, contents...)
		if got := next.Stats().NewBlobs; got != want {
			t.Errorf("%s: the next session stores %d blobs, want %d: all but those of the other packs", name, got, want)
		}
		must(t, commitManifest(t, next, again))
		mustBeClean(t, reopen(t, b, ""))
	}
}

// What a client could not read its sessions store again, though no entry says yet that it is damaged. What was only
// spoiled on its way they do not.
func TestSessionStoresAgainWhatCouldNotBeRead(t *testing.T) {
	lost, spoiled := noise(1, 2<<20), noise(2, 100)
	b := mem.New()
	initialise(t, b)
	_, refs := backup(t, reopen(t, b, ""), lost, spoiled)
	rotten := objects(t, b, journal.PackFolder)[0]
	must(t, b.Damage(rotten, func(data []byte) []byte { data[1<<20]++; return data }))
	once := true
	r := reopen(t, b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if once && op.Name == rotten {
			once = false
			return mem.Fault{Short: 10}
		}
		return mem.Fault{}
	}), "")
	if _, err := r.Read(t.Context(), refs[1]); err != nil || once {
		t.Fatalf("read what was spoiled once: %v", err)
	}
	if _, err := r.Read(t.Context(), refs[0]); !errors.Is(err, ErrDamaged) {
		t.Fatalf("read what is lost: %v, want ErrDamaged", err)
	}
	w := r.NewWriter(t.Context(), WriterOptions{})
	again := writeAll(t, w, lost, spoiled)
	if n := w.Stats().NewBlobs; n != 1 {
		t.Errorf("%d blobs are stored again, want the lost one", n)
	}
	must(t, commitManifest(t, w, again))
	mustReadAll(t, reopen(t, b, ""), refs, [][]byte{lost, spoiled})
}
