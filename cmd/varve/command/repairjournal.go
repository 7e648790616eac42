package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/dial"
	"github.com/varve-dev/varve/snapshot"
)

func (a *app) repairJournal() *cobra.Command {
	o := repo.JournalOptions{Identify: snapshot.Identify}
	from := ""
	c := &cobra.Command{
		Use:   "journal",
		Short: "Go on before a journal entry that cannot be read",
		Long: `An entry of the journal that cannot be read hides all entries after it, and every command ends with that. This
one goes on from the entry before: it moves the unreadable one and all that follow to lost/ in the bucket,
adds the packs again that they had added, and makes snapshots again of what they had made, where all of it is
there. What they had forgotten or held is live and not held again.

Get the entry back from a copy of the bucket if you can: then nothing has to be repaired. Stop everything that
writes to the repository. Then confirm the number that is shown with --drop-from.

Clients that have seen the lost entries refuse the repository until they are told to accept it.`,
		Example: `  varve repo repair journal --dry-run
  varve repo repair journal --drop-from 00000000000001f3`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if o.Confirmed = from != ""; o.Confirmed {
				if o.DropFrom, err = entryNumber(from); err != nil {
					return asUsage(c, err)
				}
			}
			return a.withBucket(c.Context(), func(b *dial.Line, open repo.OpenOptions) error {
				return a.mendJournal(c.Context(), b, open, o)
			})
		},
	}
	c.Flags().StringVar(&from, "drop-from", "", "the number of the first `ENTRY` that cannot be read, 16 digits, as a confirmation")
	return dryRun(c, &o.DryRun)
}

// entryNumber reads the number of a journal entry as its object is named.
func entryNumber(word string) (uint64, error) {
	digits := strings.TrimPrefix(word, journal.Folder)
	n, err := strconv.ParseUint(digits, 16, 64)
	if err != nil || len(digits) != 16 {
		return 0, fmt.Errorf("--drop-from %q: a number of 16 hexadecimal digits is needed, as journal entries are named", word)
	}
	return n, nil
}

func (a *app) mendJournal(ctx context.Context, b *dial.Line, open repo.OpenOptions, o repo.JournalOptions) error {
	report, err := repo.RepairJournal(ctx, b, a.withFlags(open), o)
	switch {
	case errors.Is(err, repo.ErrReadable) && o.Confirmed:
		return failure{err: err, code: exitPrecondition, hint: "varve repo check tells what is wrong with the repository"}
	case errors.Is(err, repo.ErrReadable):
		return a.show(report, func(t *sheet) { t.line("the journal can be read to its end: there is nothing to repair") })
	case errors.Is(err, repo.ErrUnconfirmed):
		number := strings.TrimPrefix(journal.Name(report.From), journal.Folder)
		return failure{err: err, code: exitDamaged, hint: "get " + journal.Name(report.From) + " back from a copy of the bucket if you can; else stop all that " +
			"writes to the repository, and say --drop-from " + number + "; --dry-run shows what that does"}
	case err != nil:
		return repairing(err, len(report.Moved))
	}
	return a.showJournalRepair(report, o.DryRun)
}

func (a *app) showJournalRepair(r repo.JournalRepair, dry bool) error {
	gone := 0
	err := a.show(r, func(t *sheet) {
		t.line("the journal ends before %s: %s", journal.Name(r.From), escaped(r.Problem))
		t.line("%s to %s: %s", would(dry, "moved", "to be moved"), repo.LostFolder, counted(len(r.Moved), "object"))
		if !dry {
			t.line("packs added again: %s", count(r.Packs))
		}
		for _, s := range r.Snapshots {
			what := would(dry, "lost", "affected")
			if s.Back {
				what = "back"
			}
			t.row(what, "snapshot "+s.ID.String(), "of "+moment(time.UnixMilli(s.Time)), escaped(s.Why))
		}
	})
	for _, s := range r.Snapshots {
		if !s.Back && !dry {
			gone++
		}
	}
	if err != nil || gone == 0 {
		return err
	}
	return failure{err: fmt.Errorf("%s cannot be brought back", counted(gone, "snapshot")), code: exitIncomplete,
		hint: "the objects that were moved stay in " + repo.LostFolder}
}
