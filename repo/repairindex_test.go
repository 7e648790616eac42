package repo

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// objectsIn returns the names of the objects in a folder.
func objectsIn(t testing.TB, b *mem.Bucket, folder string) (found []string) {
	t.Helper()
	for name := range names(t, b) {
		if strings.HasPrefix(name, folder) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

func mustRead(t testing.TB, r *Repository, want map[blob.Ref][]byte) {
	t.Helper()
	for ref, content := range want {
		if got, err := r.Read(t.Context(), ref); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%v reads as %d bytes, %v", ref, len(got), err)
		}
	}
}

func mustRepairIndex(t testing.TB, r *Repository, o RepairOptions) IndexRepair {
	t.Helper()
	report, err := r.RepairIndex(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// An index segment costs time and nothing else: without it everything is read by the tables of the packs,
// and a repair makes it anew.
func TestLostSegmentCostsNothing(t *testing.T) {
	whole, want := everyKind(t)
	for what, damage := range map[string]func(*mem.Bucket, string) error{
		"missing": func(b *mem.Bucket, name string) error { return b.Delete(t.Context(), name) },
		"flipped": func(b *mem.Bucket, name string) error {
			return b.Damage(name, func(d []byte) []byte { d[len(d)/2] ^= 1; return d })
		},
		"empty": func(b *mem.Bucket, name string) error { return b.Damage(name, func([]byte) []byte { return nil }) },
	} {
		t.Run(what, func(t *testing.T) {
			b := whole.Clone()
			segment := objectsIn(t, b, journal.SegmentFolder)[0]
			if err := damage(b, segment); err != nil {
				t.Fatal(err)
			}
			r := reopen(t, b, "")
			if r.IndexDegraded() == nil {
				t.Error("the repository does not say that its index is damaged")
			}
			mustRead(t, r, want)
			if report := mustRepairIndex(t, r, RepairOptions{DryRun: true}); len(report.Segments) != 1 || report.Segments[0].Object != segment {
				t.Errorf("a dry run would repair %+v, want %s", report.Segments, segment)
			}
			if report := mustRepairIndex(t, r, RepairOptions{}); len(report.Segments) != 1 || report.Segments[0].Blobs < maxLoose {
				t.Errorf("repaired %+v, want %s with all its rows", report.Segments, segment)
			}
			if err := r.IndexDegraded(); err != nil {
				t.Errorf("after the repair: %v", err)
			}
			r = reopen(t, b, "")
			mustBeClean(t, r)
			mustRead(t, r, want)
			if report := mustRepairIndex(t, r, RepairOptions{}); len(report.Segments)+len(report.Unreadable) != 0 {
				t.Errorf("a second repair does %+v", report)
			}
		})
	}
}

// A segment that is whole and wrong is found by comparing it with what the packs say.
// A segment whose bytes are spoiled on their way once is read again, and one that comes back later takes
// its place again: what stands in for it knows nothing of packs whose own tables are bad.
func TestSegmentThatWasReadBadlyIsUsedWhenItIsThere(t *testing.T) {
	b, want := everyKind(t)
	for what, bad := range map[string]int{"once": 1, "twice": 2} {
		t.Run(what, func(t *testing.T) {
			left := bad
			r := reopen(t, mangled(b, func(op mem.Op) (f mem.Fault) {
				if left > 0 && op.Kind == mem.Get && strings.HasPrefix(op.Name, journal.SegmentFolder) {
					left, f.Flip = left-1, 99
				}
				return f
			}), "")
			if degraded := r.IndexDegraded() != nil; degraded != (bad > 1) {
				t.Errorf("the index stands on the tables of packs: %v", r.IndexDegraded())
			}
			if err := r.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if r.IndexDegraded() != nil || r.mended {
				t.Errorf("the index still stands on the tables of packs: %v", r.IndexDegraded())
			}
			mustRead(t, r, want)
		})
	}
}

// mangled is a view of a bucket whose answers a function spoils.
func mangled(b *mem.Bucket, spoil func(mem.Op) mem.Fault) *mem.Bucket {
	return b.View(func(_ context.Context, op mem.Op) mem.Fault { return spoil(op) })
}

func TestIndexThatSaysSomethingElseThanAPackIsMadeAnew(t *testing.T) {
	whole, want := everyKind(t)
	r := reopen(t, whole, "")
	good := r.segments[0]
	plain, err := r.fetchSegment(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	segment, err := index.ParseSegment(plain)
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func([]index.Entry) []index.Entry{
		"lacks a blob":     func(e []index.Entry) []index.Entry { return e[1:] },
		"misplaces one":    func(e []index.Entry) []index.Entry { e[0].Offset++; return e },
		"has one too many": func(e []index.Entry) []index.Entry { return append(e, index.Entry{ID: blob.ID{1}, Class: blob.Data}) },
	} {
		t.Run(what, func(t *testing.T) {
			b := whole.Clone()
			tables := segment.Tables()
			tables[0].Entries = spoil(tables[0].Entries)
			plain, err := index.EncodeSegment(tables)
			if err != nil {
				t.Fatal(err)
			}
			sealed := sealSegment(r.keys, plain)
			bad := journal.SegmentAdded{Name: seal.HashOf(sealed), Size: int64(len(sealed)), Packs: good.Packs}
			if err := b.Create(t.Context(), journal.SegmentName(bad.Name), sealed); err != nil {
				t.Fatal(err)
			}
			appendEntry(t, reopen(t, b, ""), journal.Entry{Segments: []journal.SegmentAdded{bad},
				Prune: &journal.Prune{ID: journal.NewTxID(), Base: 1, Segments: []blob.Hash{good.Name}}})
			if report := mustRepairIndex(t, reopen(t, b, ""), RepairOptions{}); len(report.Segments) != 1 {
				t.Errorf("repaired %+v, want one segment", report.Segments)
			}
			r := reopen(t, b, "")
			mustBeClean(t, r)
			mustRead(t, r, want)
		})
	}
}
