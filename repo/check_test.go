package repo

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// shared makes a repository of two snapshots, each with contents of its own in the packs of both, and a
// checkpoint.
func shared(t testing.TB) (b *mem.Bucket, first, second journal.Snapshot) {
	t.Helper()
	b = mem.New()
	initialise(t, b)
	r, err := Open(t.Context(), b, OpenOptions{Password: password, Limits: Limits{Pack: 4 << 10, Inline: 1 << 10, Loose: 8, Checkpoint: 2}})
	if err != nil {
		t.Fatal(err)
	}
	var contents [][]byte
	for i := range uint64(12) {
		contents = append(contents, noise(1+i, 900))
	}
	first, _ = backup(t, r, contents...)
	var kept [][]byte // every other one, so that a prune copies them
	for i := 0; i < len(contents); i += 2 {
		kept = append(kept, contents[i])
	}
	second, _ = backup(t, r, append(kept, noise(100, 3000))...)
	return b, first, second
}

// requests counts what a check asks of a bucket.
func requests(t testing.TB, b *mem.Bucket) (n int64) {
	t.Helper()
	r := openSmall(t, b.View(func(context.Context, mem.Op) mem.Fault { n++; return mem.Fault{} }))
	n = 0
	mustBeClean(t, r)
	return n
}

// Whenever a prune comes along while a check is at work, whatever it copies, merges, drops and deletes, the
// check raises no alarm.
func TestCheckBesideAPruneRaisesNoAlarm(t *testing.T) {
	whole, _, _ := shared(t)
	last := requests(t, whole)
	for nth := range last {
		b, first, second := shared(t)
		acted := false
		after := int64(-1)
		r := openSmall(t, b.View(func(_ context.Context, op mem.Op) mem.Fault {
			if after < 0 {
				return mem.Fault{}
			}
			if after++; after == nth+1 && !acted {
				acted = true
				other := openSmall(t, b)
				gone := first
				if nth%3 == 0 {
					gone = second
				}
				mustForget(t, other, gone.ID)
				for i := range uint64(3) {
					prune(t, other, atOnce)
					backup(t, other, noise(200+i, 2000), noise(300+i, 500))
				}
			}
			return mem.Fault{}
		}))
		after = 0
		report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
		if err != nil || len(report.Findings) > 0 || !acted {
			t.Errorf("a prune before request %d of %d of the check (%t): %+v, %v", nth+1, last, acted, report.Findings, err)
		}
	}
}

// A bit that flips on its way, or an answer that is cut short, is asked for again.
func TestAnswerSpoiledOnceRaisesNoAlarm(t *testing.T) {
	b, _, _ := shared(t)
	last := requests(t, b)
	for name, fault := range map[string]mem.Fault{"flipped": {Flip: 1234}, "cut short": {Short: 30}} {
		for nth := range last {
			after := int64(-1)
			r := openSmall(t, b.View(func(_ context.Context, op mem.Op) mem.Fault {
				if after < 0 {
					return mem.Fault{}
				}
				if after++; after == nth+1 {
					return fault
				}
				return mem.Fault{}
			}))
			after = 0
			report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
			if err != nil || len(report.Findings) > 0 {
				t.Errorf("answer %d of %d %s: %+v, %v", nth+1, last, name, report.Findings, err)
			}
		}
	}
}

func TestSharesComeToEveryPack(t *testing.T) {
	b, _, _ := shared(t)
	cache := t.TempDir()
	check := func(subset Subset) CheckReport {
		t.Helper()
		report, err := reopen(t, b, cache).Check(t.Context(), CheckOptions{ReadData: true, Subset: subset})
		if err != nil || len(report.Findings) > 0 || subset.Of == 0 && report.PacksRead == 0 {
			t.Fatalf("check of %+v: %+v, %v", subset, report, err)
		}
		return report
	}
	runs := 1
	for report := check(Subset{Share: 0.2}); report.NeverRead > 0; runs++ {
		before := report
		report = check(Subset{Share: 0.2})
		if report.NeverRead != max(0, before.NeverRead-report.PacksRead) {
			t.Errorf("%d packs were never read, and %d after %d were", before.NeverRead, report.NeverRead, report.PacksRead)
		}
	}
	if runs < 2 || runs > 5 {
		t.Errorf("a fifth at a time took %d runs", runs)
	}
	whole := check(Subset{})
	parts, bytes := 0, int64(0)
	for part := range 3 {
		report := check(Subset{Part: part + 1, Of: 3})
		parts, bytes = parts+report.PacksRead, bytes+report.BytesRead
	}
	if parts != whole.PacksRead || bytes != whole.BytesRead || parts != whole.Packs {
		t.Errorf("three parts have %d packs of %d bytes, the whole %d of %d", parts, bytes, whole.PacksRead, whole.BytesRead)
	}
	cache = t.TempDir() // the cache was lost
	if report := check(Subset{Share: 0.2}); report.NeverRead != report.Packs-report.PacksRead {
		t.Errorf("without its cache a check reports %+v", report)
	}
}

// A pack that was found damaged is not verified, so the next run begins with it again.
func TestDamagedPackIsReadAgainFirst(t *testing.T) {
	b, _, _ := shared(t)
	cache := t.TempDir()
	name := objects(t, b, journal.PackFolder)[0]
	if err := b.Damage(name, func(d []byte) []byte { d[len(d)/2] ^= 1; return d }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := reopen(t, b, cache).Check(t.Context(), CheckOptions{ReadData: true}); err != nil {
			t.Fatal(err)
		}
	}
	report, err := reopen(t, b, cache).Check(t.Context(), CheckOptions{ReadData: true, Subset: Subset{Share: 0.01}})
	if err != nil || len(report.Findings) != 1 || report.Findings[0].Object != name || report.PacksRead != 1 || report.NeverRead != 1 {
		t.Errorf("the smallest share gives %+v, %v; want %s", report, err, name)
	}
}

func TestSubsetIsReadAsItIsWritten(t *testing.T) {
	for text, want := range map[string]Subset{
		"5%": {Share: 0.05}, "0.5%": {Share: 0.005}, "100%": {Share: 1}, "2/30": {Part: 2, Of: 30}, "1/1": {Part: 1, Of: 1},
	} {
		if got, err := ParseSubset(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "%", "0%", "-1%", "101%", "NaN%", "0/3", "4/3", "1/0", "a/b", "1/", "/2", "1/2/3", "1/2%"} {
		if got, err := ParseSubset(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

// A finding tells exactly what it touches: a snapshot that has nothing in the damaged part of a pack is
// whole.
func TestDamageTouchesOnlyWhatItCosts(t *testing.T) {
	ctx := t.Context()
	for what, damage := range map[string]func(b *mem.Bucket, pack string, row blob.Row) error{
		"a blob flipped": func(b *mem.Bucket, pack string, row blob.Row) error {
			return b.Damage(pack, func(d []byte) []byte { d[row.Offset+row.Stored/2] ^= 1; return d })
		},
		"its table flipped": func(b *mem.Bucket, pack string, _ blob.Row) error {
			return b.Damage(pack, func(d []byte) []byte { d[len(d)-1] ^= 1; return d })
		},
		"a zero behind it": func(b *mem.Bucket, pack string, _ blob.Row) error {
			return b.Damage(pack, func(d []byte) []byte { return append(d, 0) })
		},
		"cut before a blob": func(b *mem.Bucket, pack string, row blob.Row) error {
			return b.Damage(pack, func(d []byte) []byte { return d[:row.Offset] })
		},
		"gone": func(b *mem.Bucket, pack string, _ blob.Row) error { return b.Delete(ctx, pack) },
	} {
		b := mem.New()
		initialise(t, b)
		r := openSmall(t, b)
		one, oneRefs := backup(t, r, noise(1, 900), noise(2, 900))
		two, twoRefs := backup(t, r, noise(2, 900), noise(3, 900))
		victim := r.copies(oneRefs[0])[0] // a blob of the one, in a pack that both use
		pack, row := journal.PackName(victim.pack.Name), victim.row
		if err := damage(b, pack, row); err != nil {
			t.Fatal(err)
		}
		report, err := openSmall(t, b).Check(ctx, CheckOptions{ReadData: true})
		if err != nil || len(report.Findings) != 1 || report.Findings[0].Object != pack {
			t.Errorf("%s: %+v, %v", what, report.Findings, err)
			continue
		}
		fresh := openSmall(t, b)
		for _, s := range []struct {
			journal.Snapshot
			refs []blob.Ref
		}{{one, oneRefs}, {two, twoRefs}} {
			whole := true
			for _, ref := range s.refs {
				_, err := fresh.Read(ctx, ref)
				findings, lost := report.Touching(ref)
				if (err != nil) != lost || lost != slices.Equal(findings, []int{0}) {
					t.Errorf("%s: %v reads with %v, and is touched by %v, %t", what, ref, err, findings, lost)
				}
				whole = whole && err == nil
			}
			if _, err := fresh.ReadNode(ctx, blob.Ref{Class: blob.Manifest, ID: s.Manifest}); err != nil {
				whole = false
			}
			if touched := slices.Contains(report.Findings[0].Snapshots, s.ID); touched == whole {
				t.Errorf("%s: snapshot is whole: %t; touched: %t", what, whole, touched)
			}
		}
	}
}

// What the journal knows to be damaged is a finding only where a snapshot has nothing else.
func TestDamageThatIsKnownAndHealedIsNoFinding(t *testing.T) {
	ctx := t.Context()
	b := mem.New()
	initialise(t, b)
	r := openSmall(t, b)
	content := noise(1, 3000)
	s, refs := backup(t, r, content)
	pack := r.copies(refs[0])[0].number
	name := objects(t, b, journal.PackFolder)[0]
	if err := b.Delete(ctx, name); err != nil {
		t.Fatal(err)
	}
	appendEntry(t, r, journal.Entry{Damaged: []journal.Copy{{Pack: pack}}})
	for _, data := range []bool{false, true} {
		report, err := openSmall(t, b).Check(ctx, CheckOptions{ReadData: data})
		if err != nil || len(report.Findings) != 1 || report.Findings[0].Object != name || fmt.Sprint(report.Findings[0].Snapshots) != fmt.Sprint([]journal.SnapshotID{s.ID}) ||
			report.GivenUp != 1 || !strings.Contains(report.Findings[0].Problem, "known to be damaged") {
			t.Errorf("not healed, data %t: %+v, %v", data, report, err)
		}
	}
	r = openSmall(t, b)
	w := r.NewWriter(ctx, WriterOptions{}) // heals both the content and the first snapshot's manifest
	writeAll(t, w, content)
	if _, err := w.WriteNode(ctx, blob.Manifest, blob.Node{Links: refs, Body: s.ID[:]}); err != nil {
		t.Fatal(err)
	}
	if err := commitManifest(t, w, refs); err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, openSmall(t, b))
}

func TestLossOfTheSlotThatOpenedTheRepositoryIsFound(t *testing.T) {
	ctx := t.Context()
	b, r := newRepository(t)
	own := objects(t, b, keyFolder)[0]
	if _, err := r.AddSlot(ctx, SlotOptions{Password: "another correct horse", PasswordWork: 1}); err != nil {
		t.Fatal(err)
	}
	if report := mustBeClean(t, r); len(report.KeySlots) != 2 || !slices.Contains(report.KeySlots, own) {
		t.Errorf("key slots %v, want %s and another", report.KeySlots, own)
	}
	if err := b.Delete(ctx, own); err != nil {
		t.Fatal(err)
	}
	report, err := r.Check(ctx, CheckOptions{})
	if err != nil || len(report.Findings) != 1 || report.Findings[0].Object != keyFolder {
		t.Errorf("without its slot: %+v, %v", report.Findings, err)
	}
}
