package repo

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

func mustRepairPacks(t testing.TB, r *Repository, o PacksOptions) PacksRepair {
	t.Helper()
	report, err := r.RepairPacks(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// manyPacks returns a repository of small packs in which one snapshot has several, with what it holds.
func manyPacks(t testing.TB) (*mem.Bucket, journal.Snapshot, map[blob.Ref][]byte) {
	t.Helper()
	b := mem.New()
	initialise(t, b)
	var contents [][]byte
	for i := range uint64(12) {
		contents = append(contents, noise(i, 900))
	}
	s, refs := backup(t, openSmall(t, b), contents...)
	want := map[blob.Ref][]byte{}
	for i, ref := range refs {
		want[ref] = contents[i]
	}
	if packs := objectsIn(t, b, journal.PackFolder); len(packs) < 3 {
		t.Fatalf("there are %d packs, want several", len(packs))
	}
	return b, s, want
}

// firstPack returns the object of the pack that a session completed first. It holds contents only.
func firstPack(t testing.TB, b *mem.Bucket) (name string) {
	t.Helper()
	openSmall(t, b).journal.View(func(s *journal.State) { name, _ = s.Packs[0].Object() })
	return name
}

// lost returns what of the contents cannot be read; the others must be right.
func lost(t testing.TB, r *Repository, want map[blob.Ref][]byte) (refs []blob.Ref) {
	t.Helper()
	for ref, content := range want {
		got, err := r.Read(t.Context(), ref)
		switch {
		case errors.Is(err, ErrDamaged):
			refs = append(refs, ref)
		case err != nil || !slices.Equal(got, content):
			t.Fatalf("%v reads as %d other bytes, %v", ref, len(got), err)
		}
	}
	slices.SortFunc(refs, blob.Ref.Compare)
	return refs
}

// Whatever is wrong with a pack, a repair loses what does not open and nothing else; it tells the truth
// about it, a second one has nothing to do, and a backup that still has the content brings all back, to
// the old snapshot as well.
func TestRepairOfAPackKeepsAllThatOpens(t *testing.T) {
	whole, snapshot, want := manyPacks(t)
	packs := objectsIn(t, whole, journal.PackFolder)
	flip := func(at func(int) int) func([]byte) []byte {
		return func(d []byte) []byte { d[at(len(d))] ^= 1; return d }
	}
	for what, damage := range map[string]func([]byte) []byte{
		"missing":                    nil,
		"empty":                      func([]byte) []byte { return nil },
		"cut by half":                func(d []byte) []byte { return d[:len(d)/2] },
		"its last byte cut":          func(d []byte) []byte { return d[:len(d)-1] },
		"flipped in its header":      flip(func(int) int { return 9 }),
		"flipped in its keys":        flip(func(int) int { return 60 }),
		"flipped in its middle":      flip(func(n int) int { return n / 2 }),
		"flipped in its last byte":   flip(func(n int) int { return n - 1 }),
		"zeros in place of its half": func(d []byte) []byte { clear(d[len(d)/2:]); return d },
	} {
		for _, name := range packs {
			t.Run(what+" "+name[len(name)-4:], func(t *testing.T) {
				b := whole.Clone()
				if damage == nil {
					must(t, b.Delete(t.Context(), name))
				} else {
					must(t, b.Damage(name, damage))
				}
				r := openSmall(t, b)
				before := lost(t, r, want)
				dry := mustRepairPacks(t, r, PacksOptions{ReadData: true, RepairOptions: RepairOptions{DryRun: true}})
				report := mustRepairPacks(t, r, PacksOptions{ReadData: true})
				if len(report.Packs) != 1 || report.Packs[0].Object != name || len(dry.Packs) != 1 || dry.Packs[0].Saved != report.Packs[0].Saved {
					t.Fatalf("repaired %+v, and a dry run %+v, want %s", report.Packs, dry.Packs, name)
				}
				r = openSmall(t, b)
				after := lost(t, r, want)
				if len(after) > len(before) || damage != nil && len(after) == len(want) {
					t.Errorf("%d contents were lost before the repair, %d are after", len(before), len(after))
				}
				if slices.Contains([]string{"its last byte cut", "flipped in its header", "flipped in its keys", "flipped in its last byte"}, what) &&
					len(after) > 0 {
					t.Errorf("%v is lost, which lies beside the damage", after)
				}
				losses, err := r.Losses(t.Context(), blob.Ref{Class: blob.Manifest, ID: snapshot.Manifest})
				must(t, err)
				if !losses.Breaks(blob.Ref{Class: blob.Manifest, ID: snapshot.Manifest}) && fmt.Sprint(losses.Blobs()) != fmt.Sprint(after) {
					t.Errorf("the journal says that %v is lost, reading says %v", losses.Blobs(), after)
				}
				if again := mustRepairPacks(t, r, PacksOptions{ReadData: true}); len(again.Packs) > 0 {
					t.Errorf("a second repair does %+v", again.Packs)
				}
				heal(t, b, want)
				r = openSmall(t, b)
				if left := lost(t, r, want); len(left) > 0 {
					t.Errorf("a backup of the same has not brought back %v", left)
				}
			})
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// heal backs up the contents once more.
func heal(t testing.TB, b *mem.Bucket, want map[blob.Ref][]byte) {
	t.Helper()
	var contents [][]byte
	for _, c := range want {
		contents = append(contents, c)
	}
	backup(t, openSmall(t, b), contents...)
}

// With one byte wrong, one blob is lost.
// What is spoiled on its way, each time otherwise, says nothing of the pack.
func TestRepairBelievesADamageThatItReadsTwice(t *testing.T) {
	b, _, want := manyPacks(t)
	name := firstPack(t, b)
	for flips, ok := range map[int64]bool{1: true, 2: true, readings: false} {
		read := int64(0)
		_, err := openSmall(t, mangled(b, func(op mem.Op) (f mem.Fault) {
			if op.Kind == mem.Get && op.Name == name && read < flips {
				read++
				f.Flip = 8 * 100 * read
			}
			return f
		})).RepairPacks(t.Context(), PacksOptions{ReadData: true})
		if (err == nil) != ok {
			t.Errorf("a pack that is spoiled on its way %d times: %v", flips, err)
		}
		r := openSmall(t, b)
		if refs := lost(t, r, want); len(refs) > 0 || r.KnowsDamage() {
			t.Errorf("a pack that is spoiled on its way %d times is recorded as damaged, %d blobs are lost", flips, len(refs))
		}
	}
}

func TestFlippedByteCostsOneBlob(t *testing.T) {
	b, _, want := manyPacks(t)
	r := openSmall(t, b)
	var victim blob.Ref
	for ref := range want {
		victim = ref
		break
	}
	at := r.copies(victim)[0]
	name, _ := at.pack.Object()
	must(t, b.Damage(name, func(d []byte) []byte { d[at.row.Offset+at.row.Stored/2] ^= 1; return d }))
	if report := mustRepairPacks(t, openSmall(t, b), PacksOptions{}); len(report.Packs) > 0 {
		t.Errorf("without reading data, %+v is repaired", report.Packs)
	}
	report := mustRepairPacks(t, openSmall(t, b), PacksOptions{Packs: []string{name}})
	if len(report.Packs) != 1 || report.Packs[0].Lost != 1 || report.Packs[0].Saved == 0 {
		t.Errorf("repaired %+v, want one pack with one blob lost", report.Packs)
	}
	if left := lost(t, openSmall(t, b), want); len(left) != 1 || left[0] != victim {
		t.Errorf("%v is lost, want %v", left, victim)
	}
}

// A pack that was lost and is put back from a copy of the bucket is good again.
func TestPackThatIsPutBackIsTakenUp(t *testing.T) {
	b, _, want := manyPacks(t)
	name := firstPack(t, b)
	data, err := b.Get(t.Context(), name, 0, -1)
	must(t, err)
	must(t, b.Delete(t.Context(), name))
	mustRepairPacks(t, openSmall(t, b), PacksOptions{})
	if len(lost(t, openSmall(t, b), want)) == 0 {
		t.Fatal("nothing is lost")
	}
	must(t, b.Put(name, data))
	mustRepairPacks(t, openSmall(t, b), PacksOptions{})
	if left := lost(t, openSmall(t, b), want); len(left) > 0 {
		t.Errorf("%v is still lost", left)
	}
	if again := mustRepairPacks(t, openSmall(t, b), PacksOptions{}); len(again.Packs) > 0 {
		t.Errorf("another repair does %+v", again.Packs)
	}
}

// A segment and the packs that it covered may be lost together. What is left is an index that knows
// nothing of them, and a repository that opens.
func TestSegmentIsLostWithAllItsPacks(t *testing.T) {
	b, _, want := manyPacks(t)
	for _, folder := range []string{journal.SegmentFolder, journal.PackFolder} {
		for _, name := range objectsIn(t, b, folder) {
			must(t, b.Delete(t.Context(), name))
		}
	}
	r := openSmall(t, b)
	mustRepairPacks(t, r, PacksOptions{})
	mustRepairIndex(t, r, RepairOptions{})
	r = openSmall(t, b)
	if err := r.IndexDegraded(); err != nil {
		t.Error(err)
	}
	if left := lost(t, r, want); len(left) != len(want) {
		t.Errorf("of %d contents %d are lost", len(want), len(left))
	}
	heal(t, b, want)
	if left := lost(t, openSmall(t, b), want); len(left) > 0 {
		t.Errorf("%v is still lost", left)
	}
}

// What a backup takes over unread was good when it looked. If some of it is found damaged before the
// backup commits, it has to look again.
func TestDamageThatIsFoundDuringABackupIsNotTakenOver(t *testing.T) {
	b, parent, _ := manyPacks(t)
	r := openSmall(t, b)
	w := r.NewWriter(t.Context(), WriterOptions{})
	if err := openSmall(t, b).MarkDamaged(t.Context(), []journal.Copy{{Pack: 0}}); err != nil {
		t.Fatal(err)
	}
	c := Commit{ID: journal.NewSnapshotID(), Inherits: []journal.SnapshotID{parent.ID}}
	var err error
	c.Manifest, err = w.WriteNode(t.Context(), blob.Manifest, blob.Node{Body: c.ID[:]})
	must(t, err)
	if _, err := w.Commit(t.Context(), c); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the backup ends with %v, want one that says to run it again", err)
	}
	if _, _, err := tryBackup(r, Commit{Inherits: []journal.SnapshotID{parent.ID}}, []byte("again")); err != nil {
		t.Errorf("the next backup: %v", err)
	}
}

// A copy that is recorded as damaged is as good as absent, for whoever stores and for whoever reads.
func TestBlobWithDamagedCopiesOnlyIsStoredAgain(t *testing.T) {
	b, _, want := manyPacks(t)
	r := openSmall(t, b)
	var victim blob.Ref
	for victim = range want {
		break
	}
	at := r.copies(victim)[0]
	copied := journal.Copy{Blob: victim, Pack: at.number}
	must(t, r.MarkDamaged(t.Context(), []journal.Copy{copied}))
	entries, _ := r.journal.Head()
	must(t, r.MarkDamaged(t.Context(), []journal.Copy{copied}))
	if again, _ := r.journal.Head(); again != entries {
		t.Error("what is recorded already is recorded again")
	}
	if left := lost(t, r, want); len(left) != 1 || !r.KnowsDamage() {
		t.Errorf("%v is lost, want %v", left, victim)
	}
	heal(t, b, want)
	r = openSmall(t, b)
	if copies := r.copies(victim); len(copies) != 1 || copies[0].number == at.number {
		t.Errorf("good copies are %+v, want one in another pack", copies)
	}
	mustRead(t, r, want)
}

// A loss stays known for as long as a snapshot needs what is lost: however often prunes come, they neither
// refuse nor take it for something else. When a backup has healed it, what was damaged goes.
func TestLossStaysKnownThroughPrunes(t *testing.T) {
	b, _, want := manyPacks(t)
	name := firstPack(t, b)
	must(t, b.Damage(name, func(d []byte) []byte { return d[:100] }))
	mustRepairPacks(t, openSmall(t, b), PacksOptions{})
	for range 3 {
		if report := prune(t, openSmall(t, b), atOnce); report.Lost == 0 {
			t.Error("the prune knows of no loss")
		}
	}
	left := lost(t, openSmall(t, b), want)
	if len(left) == 0 || len(left) == len(want) {
		t.Fatalf("%d of %d contents are lost", len(left), len(want))
	}
	heal(t, b, want)
	for range 2 {
		if report := prune(t, openSmall(t, b), atOnce); report.Lost > 0 {
			t.Errorf("after the backup %d blobs are lost", report.Lost)
		}
	}
	if slices.Contains(objectsIn(t, b, journal.PackFolder), name) {
		t.Error("the damaged pack is still there")
	}
	r := openSmall(t, b)
	mustRead(t, r, want)
	mustBeClean(t, r)
	if r.KnowsDamage() {
		t.Error("the journal still knows of damage")
	}
}

// A blob of which a retired pack has a good copy is not lost: the next prune takes that back.
func TestRepairCallsNothingLostThatARetiredPackHas(t *testing.T) {
	b, want, copies := twoCopies(t)
	r := openSmall(t, b)
	base, _ := r.journal.Head()
	appendEntry(t, r, journal.Entry{Prune: &journal.Prune{ID: journal.NewTxID(), Base: base, Retire: journal.NewPacks(copies[1].number)}})
	name, offset := copies[0].pack.Object()
	must(t, b.Damage(name, func(d []byte) []byte { d[offset+int64(copies[0].row.Offset)+20] ^= 1; return d }))
	report := mustRepairPacks(t, openSmall(t, b), PacksOptions{Packs: []string{name}})
	if len(report.Packs) != 1 || report.Packs[0].Lost > 0 {
		t.Errorf("the repair says %+v, want one pack with nothing lost", report.Packs)
	}
	prune(t, openSmall(t, b), atOnce)
	prune(t, openSmall(t, b), atOnce)
	mustRead(t, openSmall(t, b), want)
}
