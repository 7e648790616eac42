package repo

import (
	"errors"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// When a segment is lost together with the packs that it covered, nothing says any more what they held. What
// snapshots lack is recorded blob by blob then, so that a prune can go on.
func TestLossOfWhichNothingIsLeftIsRecorded(t *testing.T) {
	b, snapshot, _ := manyPacks(t)
	manifest := blob.Ref{Class: blob.Manifest, ID: snapshot.Manifest}
	for _, name := range objectsIn(t, b, journal.SegmentFolder) {
		must(t, b.Delete(t.Context(), name))
	}
	must(t, b.Delete(t.Context(), firstPack(t, b)))
	r := openSmall(t, b)
	losses, err := r.Losses(t.Context(), manifest)
	must(t, err)
	if _, err := r.RecordLosses(t.Context(), losses); losses.None() || !errors.Is(err, ErrDamaged) {
		t.Errorf("a loss of %d blobs that nothing explains: %v", len(losses.Blobs()), err)
	}
	mustRepairIndex(t, r, RepairOptions{})
	mustRepairPacks(t, r, PacksOptions{})
	if _, err := openSmall(t, b).Prune(t.Context(), atOnce); !errors.Is(err, ErrDamaged) {
		t.Errorf("a prune before the loss is recorded: %v", err)
	}
	for i := range 2 {
		losses, err := r.Losses(t.Context(), manifest)
		must(t, err)
		n, err := r.RecordLosses(t.Context(), losses)
		must(t, err)
		if i == 0 && n != len(losses.Blobs()) || i == 1 && n != 0 {
			t.Errorf("run %d records %d of %d", i, n, len(losses.Blobs()))
		}
	}
	for range 3 {
		if report := prune(t, openSmall(t, b), atOnce); report.Lost != len(losses.Blobs()) {
			t.Errorf("the prune knows of %d lost blobs, want %d", report.Lost, len(losses.Blobs()))
		}
	}
}
