package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
)

// unfinished is there while a repair is at work or has broken off, from before it deletes anything until it has
// brought back what it can. Till then nothing but lost/ tells what the packs of lost entries are for, and a
// prune would take them for leftovers.
const unfinished = LostFolder + "unfinished"

// ErrUnfinished means that a repair of the journal has not come to its end.
var ErrUnfinished = errors.New("a repair of the journal is at work or broke off")

// begin keeps prunes away before anything is deleted.
func (x *journalRepair) begin(ctx context.Context) error {
	if len(x.beyond) == 0 {
		return nil
	}
	err := x.repo.bucket.Create(ctx, unfinished, []byte(journal.Name(x.report.From)))
	if err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("store %s: %w", unfinished, err)
	}
	return nil
}

// finish lets prunes work again.
func (x *journalRepair) finish(ctx context.Context) error {
	if x.DryRun {
		return nil
	}
	if err := x.repo.bucket.Delete(ctx, unfinished); err != nil {
		return fmt.Errorf("delete %s: %w", unfinished, err)
	}
	return nil
}

// refuseUnfinished keeps prunes away from a repair that has not come to its end.
func (r *Repository) refuseUnfinished(ctx context.Context) error {
	_, err := r.bucket.Stat(ctx, unfinished)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for %s: %w", unfinished, err)
	}
	return fmt.Errorf("%s is there: %w", unfinished, ErrUnfinished)
}
