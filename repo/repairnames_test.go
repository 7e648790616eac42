package repo

import (
	"slices"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// loseTable damages the table of a pack and nothing else of it.
func loseTable(t testing.TB, b *mem.Bucket, name string) {
	t.Helper()
	must(t, b.Damage(name, func(d []byte) []byte { d[len(d)-1] ^= 1; return d }))
}

// needSegment sees to it that the tables of all packs are in segments, so that only snapshots know names.
func needSegment(t testing.TB, b *mem.Bucket) {
	t.Helper()
	openSmall(t, b).journal.View(func(s *journal.State) {
		for n, p := range s.Packs {
			if len(p.Rows) > 0 {
				t.Errorf("the table of pack %d is in the journal", n)
			}
		}
	})
}

// hiddenPacks returns a repository in which two packs have lost their tables, and the manifest that would name
// what lies in them is called damaged: the numbers of the two packs, and of that of the manifest.
func hiddenPacks(t testing.TB) (b *mem.Bucket, want map[blob.Ref][]byte, bare []uint32, of uint32) {
	t.Helper()
	b, snapshot, want := manyPacks(t)
	needSegment(t, b)
	r := openSmall(t, b)
	of = r.copies(blob.Ref{Class: blob.Manifest, ID: snapshot.Manifest})[0].number
	r.journal.View(func(s *journal.State) {
		for n, p := range s.Packs {
			if name, _ := p.Object(); uint32(n) != of && len(bare) < 2 {
				bare = append(bare, uint32(n))
				loseTable(t, b, name)
			}
		}
	})
	if len(bare) < 2 || bare[1] > of {
		t.Fatalf("there are contents in packs %v, the manifest is in %d", bare, of)
	}
	must(t, r.MarkDamaged(t.Context(), []journal.Copy{{Pack: of}}))
	return b, want, bare, of
}

// lostBeside returns what is lost although it does not lie in this pack.
func lostBeside(t testing.TB, b *mem.Bucket, want map[blob.Ref][]byte, pack uint32) []blob.Ref {
	t.Helper()
	r := openSmall(t, b)
	return slices.DeleteFunc(lost(t, r, want), func(ref blob.Ref) bool {
		return slices.ContainsFunc(r.everyCopy(ref), func(f found) bool { return f.number == pack })
	})
}

// A manifest that is called damaged hides what it reaches. Once it is saved, that is saved as well from
// packs without a table, by the same repair or else by the next.
func TestRepairNamesWhatASavedNodeReaches(t *testing.T) {
	b, want, bare, _ := hiddenPacks(t)
	must(t, openSmall(t, b).MarkDamaged(t.Context(), []journal.Copy{{Pack: bare[0]}})) // so that it is looked at first
	mustRepairPacks(t, openSmall(t, b), PacksOptions{ReadData: true})
	if left := lostBeside(t, b, want, bare[0]); len(left) > 0 {
		t.Errorf("%v is lost, which the repair could name", left)
	}
	mustRepairPacks(t, openSmall(t, b), PacksOptions{ReadData: true})
	if left := lost(t, openSmall(t, b), want); len(left) > 0 {
		t.Errorf("%v is still lost after a second repair", left)
	}
}

// The manifest may be saved by somebody else, just before a repair commits that knows nothing of it.
func TestRepairNamesWhatSomebodyElseHasSaved(t *testing.T) {
	b, want, bare, of := hiddenPacks(t)
	name := func(n uint32) (name string) {
		openSmall(t, b).journal.View(func(s *journal.State) { name = s.Packs[n].Name.String() })
		return name
	}
	view, acted := meddler(b, mem.Create, journal.Folder, func() {
		mustRepairPacks(t, openSmall(t, b), PacksOptions{Packs: []string{name(of)}})
	})
	mustRepairPacks(t, openSmall(t, view), PacksOptions{Packs: []string{name(bare[0])}})
	if !acted() {
		t.Fatal("nobody came in between")
	}
	if left := lostBeside(t, b, want, bare[1]); len(left) > 0 {
		t.Errorf("%v is lost, which the repair could name", left)
	}
}

// twoCopies returns a repository in which two sessions have stored the same contents, with the packs of both.
func twoCopies(t testing.TB) (b *mem.Bucket, want map[blob.Ref][]byte, packs [2]found) {
	t.Helper()
	b = mem.New()
	initialise(t, b)
	ctx, content := t.Context(), noise(1, 900)
	w := openSmall(t, b).NewWriter(ctx, WriterOptions{})
	ref, err := w.Write(ctx, blob.Data, content)
	must(t, err)
	backup(t, openSmall(t, b), content, noise(2, 3000), noise(3, 3000))
	_, err = w.Write(ctx, blob.Data, noise(4, 3000))
	must(t, err)
	id := journal.NewSnapshotID()
	manifest, err := w.WriteNode(ctx, blob.Manifest, blob.Node{Links: []blob.Ref{ref}, Body: id[:]})
	must(t, err)
	_, err = w.Commit(ctx, Commit{ID: id, Manifest: manifest})
	must(t, err)
	must(t, w.Close())
	copies := openSmall(t, b).copies(ref)
	if len(copies) != 2 {
		t.Fatalf("there are %d copies of %v, want 2", len(copies), ref)
	}
	return b, map[blob.Ref][]byte{ref: content}, [2]found{copies[0], copies[1]}
}

// What a repair holds in memory of another copy does not prove that it is still there.
func TestRepairAsksTheBucketForOtherCopies(t *testing.T) {
	b, want, copies := twoCopies(t)
	r := openSmall(t, b)
	_, err := r.packs.open(t.Context(), copies[1])
	must(t, err)
	name, _ := copies[1].pack.Object()
	must(t, b.Delete(t.Context(), name))
	name, _ = copies[0].pack.Object()
	loseTable(t, b, name)
	mustRepairPacks(t, r, PacksOptions{Packs: []string{name}})
	mustRead(t, openSmall(t, b), want)
}

// A copy because of which a repair does not save another may be found damaged before the repair commits.
func TestRepairLooksAgainWhenAnotherCopyIsDamagedMeanwhile(t *testing.T) {
	b, want, copies := twoCopies(t)
	other := openSmall(t, b)
	var ref blob.Ref
	for ref = range want {
		break
	}
	name, _ := copies[0].pack.Object()
	loseTable(t, b, name)
	view, acted := meddler(b, mem.Create, journal.Folder, func() {
		must(t, other.MarkDamaged(t.Context(), []journal.Copy{{Blob: ref, Pack: copies[1].number}}))
	})
	mustRepairPacks(t, openSmall(t, view), PacksOptions{Packs: []string{name}})
	if !acted() {
		t.Fatal("nobody came in between")
	}
	mustRead(t, openSmall(t, b), want)
}

// A snapshot may come to need what none needed when the repair looked for names.
func TestRepairNamesWhatANewSnapshotReaches(t *testing.T) {
	b, snapshot, want := manyPacks(t)
	needSegment(t, b)
	other := openSmall(t, b)
	var contents [][]byte
	for _, c := range want {
		contents = append(contents, c)
	}
	_, err := other.Forget(t.Context(), func([]journal.Live) []journal.Forget { return []journal.Forget{{ID: snapshot.ID}} })
	must(t, err)
	name := firstPack(t, b)
	loseTable(t, b, name)
	r := openSmall(t, b)
	r.journal.View(func(s *journal.State) { s.Forgotten = nil }) // as after 30 days
	names := newNaming(r, []numbered{{number: 0}})
	rows, err := names.rowsOf(t.Context(), 0)
	must(t, err)
	if len(rows) > 0 {
		t.Fatalf("%d blobs are named that no snapshot knows", len(rows))
	}
	backup(t, other, contents...)
	must(t, r.Sync(t.Context()))
	r.journal.View(func(s *journal.State) {
		if !names.overtaken(s) {
			t.Error("what was named counts as all, though there is a new snapshot")
		}
	})
	if rows, err = names.rowsOf(t.Context(), 0); err != nil || len(rows) == 0 {
		t.Errorf("of a new snapshot %d blobs are named, %v", len(rows), err)
	}
}
