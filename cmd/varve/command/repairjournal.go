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
writes to the repository: backups, prunes, whatever is paused, too. If something writes meanwhile, the repair
fails and is to be run again. Then confirm the number that is shown with --drop-from.

What cannot be brought back is named, and until it is, no prune works: a pack or an entry may be found yet, in a
copy of the bucket perhaps. Put back what you find, and run this again. If there is no hope, say --give-up; what
no snapshot needs then goes with the next prunes.

Clients that have seen the lost entries refuse the repository until they are told to accept it.`,
		Example: `  varve repo repair journal --dry-run
  varve repo repair journal --drop-from 00000000000001f3
  varve repo repair journal --give-up`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if from != "" && o.GiveUp {
				return asUsage(c, errors.New("--give-up is for what an earlier repair has reported: leave out --drop-from"))
			}
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
	c.Flags().BoolVar(&o.GiveUp, "give-up", false, "let prunes work again, although an earlier repair could not bring back everything")
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
	case errors.Is(err, repo.ErrOversized):
		return failure{err: err, code: exitDamaged, hint: "move that object out of the bucket, and run this again"}
	case errors.Is(err, repo.ErrUnconfirmed):
		number := strings.TrimPrefix(journal.Name(report.From), journal.Folder)
		return failure{err: err, code: exitDamaged, hint: "get " + journal.Name(report.From) + " back from a copy of the bucket if you can; else stop all that " +
			"writes to the repository, and say --drop-from " + number + "; --dry-run shows what that does"}
	case err != nil:
		return repairing(err, len(report.Moved))
	}
	return a.showJournalRepair(report, o)
}

func (a *app) showJournalRepair(r repo.JournalRepair, o repo.JournalOptions) error {
	err := a.show(r, func(t *sheet) {
		if r.Problem == "" {
			t.line("the journal can be read; this is about what an earlier repair has moved to %s", repo.LostFolder)
		} else {
			t.line("the journal ends before %s: %s", journal.Name(r.From), escaped(r.Problem))
			t.line("%s to %s: %s", would(o.DryRun, "moved", "to be moved"), repo.LostFolder, counted(len(r.Moved), "object"))
		}
		t.line("%s: %s", would(o.DryRun, "packs added again", "packs to be added again"), count(r.Packs))
		for _, s := range r.Snapshots {
			what := would(o.DryRun, "lost", "will be lost")
			if s.Back {
				what = would(o.DryRun, "back", "will be back")
			}
			t.row(what, "snapshot "+s.ID.String(), "of "+moment(time.UnixMilli(s.Time)), escaped(s.Why))
		}
		for _, name := range r.Unreadable {
			t.row("unreadable", name, "nothing tells what is in it")
		}
		for _, name := range r.Silent {
			t.row("lost", name, "nothing tells what it said, and maybe it made a snapshot")
		}
		for _, id := range r.Damaged {
			t.row("damaged", "snapshot "+id.String(), "packs that it needs are gone")
		}
		if r.Damage > 0 {
			t.line("%s: %s", would(o.DryRun, "packs and copies of blobs recorded as damaged", "packs and copies of blobs to be recorded as damaged"), count(r.Damage))
		}
		if r.Recheck {
			t.line("what is lost may have recorded damage: run varve repo check --read-data before the next backup")
		}
		if r.Waiting {
			t.line("no prune %s until all of this is brought back, or given up", would(o.DryRun, "works", "will work"))
		}
	})
	if err != nil || r.Complete() {
		return err
	}
	if r.Found() {
		return failure{err: errors.New("damaged, since packs are gone: " + counted(len(r.Damaged), "snapshot")), code: exitIncomplete,
			hint: "what was forgotten before can be forgotten again; a pack that is found is put back under its name, and varve repo repair packs is run"}
	}
	if o.GiveUp && !r.Waiting {
		return nil
	}
	hint := "what was found in a copy of the bucket is put back under its name (an entry as " + repo.LostFolder + "journal/<number>-found), and this is run again; "
	if r.Waiting {
		hint += "if there is no hope, say --give-up"
	} else {
		hint += "it was given up, so prunes may have taken what it needs"
	}
	return failure{err: errors.New(notBack(r)), code: exitIncomplete, hint: hint}
}

// notBack says in words what is not brought back.
func notBack(r repo.JournalRepair) string {
	gone := 0
	for _, s := range r.Snapshots {
		if !s.Back {
			gone++
		}
	}
	var all []string
	for _, one := range []struct {
		count int
		what  string
	}{{gone, "snapshot"}, {len(r.Unreadable), "pack"}} {
		if one.count > 0 {
			all = append(all, counted(one.count, one.what))
		}
	}
	switch n := len(r.Silent); n {
	case 0:
	case 1:
		all = append(all, "what 1 lost entry said")
	default:
		all = append(all, "what "+count(n)+" lost entries said")
	}
	return strings.Join(all, " and ") + " cannot be brought back"
}
