package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
)

func (a *app) repoRepair() *cobra.Command {
	return noun("repair", "Save what damage has left, and record what it has not",
		`Repair what varve repo check has found. Nothing is changed or deleted in place: what can be saved is stored anew,
what cannot is recorded as damaged, and old objects go with a later prune. A backup of the same source then
stores again what is recorded as damaged and what it still has, which heals older backups too.

Go in this order: index, packs, a new backup, snapshots. Each can be repeated, and does nothing where nothing
is left to do. Backups, restores and prunes may run meanwhile, but for journal.`,
		a.repairIndex(), a.repairPacks(), a.repairSnapshots(), a.repairJournal())
}

// dryRun adds the flag of that name.
func dryRun(c *cobra.Command, to *bool) *cobra.Command {
	c.Flags().BoolVar(to, "dry-run", false, "show what would be done, and change nothing")
	return c
}

// would tells a dry run from a real one.
func would(dry bool, done, planned string) string {
	if dry {
		return planned
	}
	return done
}

func (a *app) repairIndex() *cobra.Command {
	var o repo.RepairOptions
	c := &cobra.Command{
		Use:   "index",
		Short: "Make index segments anew that are missing, damaged or wrong",
		Long: `Read the table at the end of every pack, compare them with the index, and make anew what of the index is
missing, damaged, or says something else. Contents are not read.

Without an index segment everything still works, by the tables of the packs; opening takes longer.`,
		Example: `  varve repo repair index --dry-run
  varve repo repair index`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				report, err := s.RepairIndex(c.Context(), o)
				if err != nil {
					return repairing(err, len(report.Segments))
				}
				return a.showIndexRepair(report, o.DryRun)
			})
		},
	}
	return dryRun(c, &o.DryRun)
}

func (a *app) showIndexRepair(r repo.IndexRepair, dry bool) error {
	err := a.show(r, func(t *sheet) {
		t.row("Pack tables read:", count(r.Packs))
		t.row(would(dry, "Segments made anew:", "Segments to be made anew:"), count(len(r.Segments)))
		for _, g := range r.Segments {
			t.line("")
			if g.Object != "" {
				t.line("damaged  %s", g.Object)
			}
			t.line("         %s", escaped(g.Problem))
		}
		if len(r.Segments) == 0 {
			t.line("\nthe index is right")
		}
		for _, pack := range r.Unreadable {
			t.line("\ndamaged  %s", pack.Object)
			t.line("         pack %s has no table that can be read", pack.Pack[:12])
		}
	})
	if err != nil || len(r.Unreadable) == 0 {
		return err
	}
	return failure{err: fmt.Errorf("the tables of %s cannot be read", counted(len(r.Unreadable), "pack")), code: exitIncomplete,
		hint: "varve repo repair packs " + r.Unreadable[0].Pack[:12] + " saves what is in it"}
}

func (a *app) repairPacks() *cobra.Command {
	var o repo.PacksOptions
	c := &cobra.Command{
		Use:   "packs [PACK...]",
		Short: "Save what damaged packs still hold, and record the rest as damaged",
		Long: `Open every blob of packs that are damaged. What opens and hashes to its name is stored in a new pack; what
does not is recorded as damaged, and counts as absent from then on. The old object stays where it is until a
prune has dropped the pack.

Without names, packs are looked at that are missing or have a wrong size, and with --read-data all of them.
A pack is named as varve repo check names it, or by its first digits.

A pack that was lost and has been found, say in a copy of the bucket, is put back under its name: the next run
takes from it what is needed.`,
		Example: `  varve repo repair packs
  varve repo repair packs --read-data --dry-run
  varve repo repair packs 3f2a91c0d2e1`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 && o.ReadData {
				return asUsage(c, errors.New("packs that are named are read anyway: leave out --read-data"))
			}
			o.Packs = args
			return a.withRepository(c.Context(), func(s *session) error {
				p := a.progress("repair")
				o.Progress = func(done, total int64) { p.update(func(s *standing) { s.bytes, s.total = done, total }) }
				report, err := s.RepairPacks(c.Context(), o)
				p.stop()
				if errors.Is(err, repo.ErrNoPack) {
					return failure{err: err, code: exitUsage, hint: "varve repo check names damaged packs"}
				}
				if err != nil {
					return repairing(err, len(report.Packs))
				}
				return a.showPacksRepair(report, o.DryRun)
			})
		},
	}
	c.Flags().BoolVar(&o.ReadData, "read-data", false, "read all packs, not only those that are missing or have a wrong size")
	return dryRun(c, &o.DryRun)
}

func (a *app) showPacksRepair(r repo.PacksRepair, dry bool) error {
	lost := 0
	err := a.show(r, func(t *sheet) {
		t.row("Packs looked at:", count(r.Looked))
		t.row(would(dry, "Repaired:", "To be repaired:"), count(len(r.Packs)))
		for _, p := range r.Packs {
			t.line("")
			t.line("damaged  %s", p.Object)
			t.line("         %s", escaped(p.Problem))
			t.line("         %s: %s, %s; lost: %s", would(dry, "saved", "can be saved"), counted(p.Saved, "blob"), size(p.Bytes), counted(p.Lost, "blob"))
		}
		if len(r.Packs) == 0 {
			t.line("\nnothing to repair")
		}
	})
	for _, p := range r.Packs {
		lost += p.Lost
	}
	if err != nil || lost == 0 {
		return err
	}
	return failure{err: fmt.Errorf("%s cannot be read any more", counted(lost, "blob")), code: exitIncomplete,
		hint: "the next backup of the same source stores again what it still has; varve repo repair snapshots names what is lost"}
}

// repairing is an error in the middle of a repair, of which some may be done.
func repairing(err error, done int) error {
	if done == 0 {
		return changing(err)
	}
	return failure{err: err, code: exitChanged, hint: "what was repaired stays repaired; run it again"}
}
