package command

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
)

func (a *app) repoPrune() *cobra.Command {
	grace, orphanAge, maxDrop := span(repo.DefaultGrace), span(repo.DefaultOrphanAge), percent(repo.DefaultMaxDrop)
	dryRun := false
	c := &cobra.Command{
		Use:   "prune",
		Short: "Take back the space that no snapshot needs",
		Long: `Take back the space that no live snapshot needs. It takes several prunes until something is gone: one retires
packs that hold nothing needed, and copies what is needed out of packs that hold little else; one after the
grace period drops them. Until then a forgotten snapshot can come back, and a backup can take a pack back.

Backups, restores and other prunes may run at the same time, and a prune that is interrupted has harmed
nothing: the next one goes on.

A prune changes nothing if something that a snapshot needs is missing (exit code 4), or if it would drop more of
what is stored than --max-drop allows at once (exit code 7). The prune that retires so much says so already.
--dry-run shows the plan.`,
		Example: `  varve repo prune --dry-run
  varve repo prune
  varve repo prune --grace 0 --max-drop 100%`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				p := a.progress("prune")
				report, err := s.Prune(c.Context(), repo.PruneOptions{Grace: time.Duration(grace), OrphanAge: time.Duration(orphanAge),
					MaxDrop: max(float64(maxDrop), math.SmallestNonzeroFloat64), DryRun: dryRun, Progress: p.ofPrune()})
				p.stop()
				if err != nil && !errors.Is(err, repo.ErrMassDrop) {
					return unpruned(err, dryRun)
				}
				report.DryRun = dryRun || err != nil // what was refused is a plan, too
				for _, warning := range report.Warnings {
					a.warn("%s; the next prune tries again", warning)
				}
				return errors.Join(a.showPrune(report, pruned{time.Duration(grace), float64(maxDrop), err == nil && !dryRun}), stopped(err))
			})
		},
	}
	flags := c.Flags()
	flags.Var(&grace, "grace", "how long a pack that nothing needs can be taken back, before it is dropped; at most 30 days, after\nwhich the names of forgotten snapshots go. With 0 it is dropped by the next prune, whatever clocks say")
	flags.Var(&orphanAge, "orphan-age", "how old what interrupted runs have left must be, by the store's clock, before it is deleted;\nlonger than any backup takes")
	flags.Var(&maxDrop, "max-drop", "the largest share of what is stored that may be dropped at once")
	flags.BoolVar(&dryRun, "dry-run", false, "show what would be done, in bytes, and change nothing")
	return c
}

// unpruned says what a prune leaves behind that did not come to its end.
func unpruned(err error, dryRun bool) error {
	switch {
	case dryRun || errors.Is(err, repo.ErrDamaged):
		return err
	case errors.Is(err, journal.ErrUnsure):
		return failure{err: err, hint: "running it again does no harm: it goes on where this one was"}
	}
	_, hint := explain(err)
	if hint == "" {
		hint = "what was pruned is pruned, and the next prune goes on"
	}
	return failure{err: err, hint: hint}
}

// stopped tells in sizes that a person reads what a prune would have dropped.
func stopped(err error) error {
	if mass, ok := errors.AsType[*repo.MassDropError](err); ok {
		return failure{err: fmt.Errorf("the prune is stopped: %s", tooMuch(mass.Drop, mass.Max)), code: exitPrecondition,
			hint: "if nothing was forgotten by mistake, say --max-drop 100%; varve snapshot list --forgotten shows what was, varve snapshot unforget brings it back"}
	}
	return err
}

func tooMuch(d repo.Drop, most float64) string {
	share := percent(most)
	return fmt.Sprintf("it would drop %s of %s, more than the %s that --max-drop allows at once", size(d.Bytes), size(d.Stored), &share)
}

// ofPrune returns what a prune reports its progress to.
func (p *progress) ofPrune() func(repo.PruneProgress) {
	return func(now repo.PruneProgress) {
		p.update(func(s *standing) {
			*s = standing{what: "prune"}
			switch now.Step {
			case repo.PruneMarking:
				s.what = fmt.Sprintf("prune: %s of %s marked", count(now.Done), counted(now.Total, "snapshot"))
			case repo.PruneRepacking:
				s.what, s.bytes, s.total = "prune: copying", now.Done, now.Total
			case repo.PruneDeleting:
				s.what = fmt.Sprintf("prune: %s of %s deleted", count(now.Done), counted(now.Total, "object"))
			}
		})
	}
}

// pruned says how a prune was asked for, and whether it is done.
type pruned struct {
	grace   time.Duration
	maxDrop float64
	done    bool
}

// showPrune shows what was done, or else the plan, and warns of what will stop a later prune.
func (a *app) showPrune(r repo.PruneReport, p pruned) error {
	err := a.show(r, func(t *sheet) {
		writePrune(t, r, p.grace)
		if !p.done {
			t.line("\nnothing was changed: this is the plan")
		}
	})
	if err != nil && p.done {
		return afterwards("the repository was pruned", err)
	}
	if err != nil {
		return err
	}
	if p.done && a.output == asTable && r.Retired.Objects+r.Repacked.Objects > 0 {
		next := "the next prune"
		if p.grace > 0 {
			next = "a prune that runs in " + took(p.grace) + " or later"
		}
		a.note(next + " drops what was retired, unless something needs it by then")
	}
	if r.Stopped {
		a.warn("the prune that is to drop what is retired will be stopped: %s", tooMuch(r.Next, p.maxDrop))
	}
	return nil
}

func writePrune(t *sheet, r repo.PruneReport, grace time.Duration) {
	packs := func(label string, a repo.Amount, more string) {
		if a.Objects > 0 {
			t.row(label, fmt.Sprintf("%s, %s%s", counted(a.Objects, "pack"), size(a.Bytes), more))
		}
	}
	objects := func(label string, a repo.Amount, more string) {
		if a.Objects > 0 {
			t.row(label, fmt.Sprintf("%s, %s%s", counted(a.Objects, "object"), size(a.Bytes), more))
		}
	}
	t.row("Snapshots:", fmt.Sprintf("%s of %s", count(r.Snapshots), counted(r.Nodes, "node")))
	packs("Kept:", r.Kept, "")
	packs("Taken back:", r.Revived, "; retired before, and needed after all")
	packs("Retired:", r.Retired, "; nothing needs them")
	if r.Repacked.Objects > 0 {
		into := ""
		if r.Copies.Objects > 0 {
			into = fmt.Sprintf("; what is needed of them copied into %s, %s", counted(r.Copies.Objects, "pack"), size(r.Copies.Bytes))
		}
		packs("Copied:", r.Repacked, into)
	}
	packs("Waiting:", r.Waiting, fmt.Sprintf("; retired less than %s ago", took(grace)))
	packs("Dropped:", r.Dropped, "")
	objects("Left over:", r.Orphans, " of interrupted runs, given up")
	objects("Left alone:", r.Young, " that no entry names, perhaps of a backup that runs")
	if r.MergedSegments > 0 {
		t.row("Index:", fmt.Sprintf("%s merged into %s", counted(r.MergedSegments, "segment"), count(r.MergedInto)))
	}
	objects("Deleted:", r.Deleted, "")
	if r.Blind {
		t.line("\nnothing is dropped: a node of a snapshot is lost, so what lies beneath it is not known; a backup may bring it back, or forget the snapshot")
	}
	if r.Lost > 0 {
		t.line("\nlost: %s that snapshots need, every copy damaged; varve repo check names what that touches", counted(r.Lost, "blob"))
	}
}
