package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// patient is a prune that waits.
var patient = PruneOptions{MaxDrop: 1, Grace: time.Hour, OrphanAge: time.Hour}

// A prune that marks again because others got in between tells in the end of all that it did, and of nothing
// twice.
func TestPruneReportsWhatAllItsMarkingsDid(t *testing.T) { synctest.Test(t, overtakeReports) }

func overtakeReports(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	open := func(b storage.Bucket) *Repository {
		r, err := Open(t.Context(), b, OpenOptions{Password: password, Limits: Limits{Inline: 1, Pack: 4 << 20}})
		must(t, err)
		return r
	}
	r := open(b)
	dropped, _ := backup(t, r, megabytes(1, 2)...)
	forgetAll(t, r, dropped)
	prune(t, r, patient)
	time.Sleep(2 * time.Hour)
	contents := megabytes(10, 24)
	sparse, _ := backup(t, r, contents...)
	backup(t, r, contents[0], contents[4], contents[8], contents[12], contents[16], contents[20])
	retired, _ := backup(t, r, megabytes(100, 3)...)
	forgetAll(t, r, sparse, retired)
	want := prune(t, open(b.Clone()), patient)
	if want.Retired.Objects == 0 || want.Dropped.Objects == 0 || want.Repacked.Objects == 0 || want.Copies.Objects < 2 {
		t.Fatalf("report: %+v, want something of each", want)
	}
	for entry := 1; entry <= 5; entry++ {
		disturbed := b.Clone()
		pruner := open(beside(disturbed, entry, func() {
			other := open(disturbed)
			appendEntry(t, other, journal.Entry{Damaged: []journal.Copy{{Blob: blob.Ref{Class: blob.Data, ID: blob.ID{1}}}}})
		}))
		got := prune(t, pruner, patient)
		// What was young is its own: a copy whose entry was void.
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(PruneReport{}, "Markings", "Base", "Young")); diff != "" {
			t.Errorf("overtaken at its entry %d, -undisturbed +got\n%s", entry, diff)
		}
		if entry < 5 != (got.Markings == 2) {
			t.Errorf("overtaken at its entry %d it marked %d times", entry, got.Markings)
		}
	}
}

func TestPruneReportsTheOrphansThatItTakes(t *testing.T) {
	b, r := newRepository(t)
	for i := range maxOrphans + 3 {
		var name blob.Hash
		binary.BigEndian.PutUint32(name[:], uint32(i))
		must(t, b.Create(t.Context(), journal.PackName(name), []byte("x")))
	}
	for _, want := range []int{maxOrphans, 3} {
		if report := prune(t, r, atOnce); report.Orphans.Objects != want || report.Deleted.Objects != want {
			t.Errorf("report: %+v, want %d orphans", report, want)
		}
	}
}

func TestPruneSaysThatSegmentsAreNotMerged(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	full := false
	r, err := Open(t.Context(), b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if full && op.Kind == mem.Create && strings.HasPrefix(op.Name, journal.SegmentFolder) {
			return mem.Fault{Err: errors.New("no space left")}
		}
		return mem.Fault{}
	}), OpenOptions{Password: password, Limits: Limits{Loose: 100}})
	must(t, err)
	segmented(t, r, mergeAtOnce)
	full = true
	report := prune(t, r, atOnce)
	if report.MergedSegments != 0 || len(report.Warnings) != 1 || !strings.Contains(report.Warnings[0], "no space left") {
		t.Errorf("report: %+v, want a warning", report)
	}
}

// What was retired by a clock that was ahead waits, for nobody knows whose clock is the wrong one, until a
// prune is told not to wait.
func TestGraceIsNeverCutShortByAWrongClock(t *testing.T) {
	b := mem.New()
	options := OpenOptions{Password: password, Limits: Limits{Loose: 100, Inline: 1}}
	synctest.Test(t, func(t *testing.T) {
		initialise(t, b)
		r, err := Open(t.Context(), b, options)
		must(t, err)
		forgetAll(t, r, segmented(t, r, mergeAtOnce)[0])
		time.Sleep(200 * 365 * 24 * time.Hour)
		if report := prune(t, r, patient); report.Retired.Objects == 0 || report.MergedSegments == 0 {
			t.Fatalf("report: %+v, want packs retired and segments merged", report)
		}
	})
	r, err := Open(t.Context(), b, options)
	must(t, err)
	for range 2 { // the first must not spoil what the second goes by
		if report := prune(t, r, patient); report.Waiting.Objects == 0 || report.Dropped.Objects+report.Retired.Objects+report.Deleted.Objects > 0 {
			t.Errorf("report: %+v, want all waiting", report)
		}
	}
	if report := prune(t, r, atOnce); report.Dropped.Objects == 0 || report.Waiting.Objects > 0 {
		t.Errorf("report without a grace period: %+v, want all dropped", report)
	}
}

func TestGraceEndsBeforeTheNamesOfSnapshotsGo(t *testing.T) {
	_, r := newRepository(t)
	if _, err := r.Prune(t.Context(), PruneOptions{Grace: MaxGrace + 1}); !errors.Is(err, ErrGrace) {
		t.Errorf("prune: %v, want ErrGrace", err)
	}
	prune(t, r, PruneOptions{Grace: MaxGrace})
}
