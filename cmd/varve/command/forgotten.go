package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
)

func (a *app) snapshotUnforget() *cobra.Command {
	return &cobra.Command{
		Use:   "unforget SNAPSHOT...",
		Short: "Bring forgotten snapshots back",
		Long: `Bring forgotten snapshots back, all that are named or none. That works until varve repo prune has dropped what
only they needed, which it does once that was retired for its grace period. A snapshot is named as elsewhere:
varve snapshot list --forgotten shows which there are.`,
		Example: `  varve snapshot list --forgotten
  varve snapshot unforget 3f2a91c0d2e1`,
		Args:              arguments(1, manySnapshots, "the snapshots to bring back"),
		ValidArgsFunction: a.completeForgotten,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				ids, err := allMeant(args, func(word string) (journal.Live, error) { return locateForgotten(c.Context(), s, word) })
				if err != nil {
					return err
				}
				if err := s.Unforget(c.Context(), ids...); err != nil {
					return changing(err)
				}
				return a.showChanged(c.Context(), s, ids)
			})
		},
	}
}

// graveyard is the repository as it would be if the forgotten snapshots were those that live, so that they
// are listed and found in the same way.
type graveyard struct {
	*session
	forgotten []repo.Forgotten
	gone      map[blob.ID]bool // manifests that are in no pack any more
}

func graveyardOf(s *session) graveyard {
	g := graveyard{session: s, forgotten: s.Forgotten(), gone: map[blob.ID]bool{}}
	for _, f := range g.forgotten {
		g.gone[f.Manifest] = f.Gone
	}
	return g
}

// Snapshots implements [snapshot.Repository].
func (g graveyard) Snapshots() (all []journal.Live) {
	for _, f := range g.forgotten {
		all = append(all, f.Live)
	}
	return all
}

// ReadNode implements [snapshot.Repository]. What is known to be gone is not looked for.
func (g graveyard) ReadNode(ctx context.Context, ref blob.Ref) (blob.Node, error) {
	if g.gone[ref.ID] {
		return blob.Node{}, repo.ErrGone
	}
	return g.session.ReadNode(ctx, ref)
}

// locateForgotten returns the forgotten snapshot that a word means, or the live one.
func locateForgotten(ctx context.Context, s *session, word string) (journal.Live, error) {
	g := graveyardOf(s)
	l, err := locate(ctx, g, word)
	if err == nil {
		return l, nil
	}
	if live, e := locate(ctx, s, word); e == nil { // it came back already
		return live, nil
	}
	if errors.Is(err, snapshot.ErrNotFound) && errors.Is(err, repo.ErrGone) && !errors.Is(err, repo.ErrDamaged) { // once, not for each
		err = fmt.Errorf("snapshot %q: %w among those whose names can be read; if it is one of the others: %w", word, snapshot.ErrNotFound, repo.ErrGone)
	}
	if len(g.forgotten) > 0 {
		return l, failure{err: err, hint: "varve snapshot list --forgotten shows those that can be meant"}
	}
	return journal.Live{}, fmt.Errorf("snapshot %q: %w: no snapshot is forgotten", word, snapshot.ErrNotFound)
}

// locateLive returns the live snapshot that a word means. If it means a forgotten one, the error tells who
// has forgotten it.
func locateLive(ctx context.Context, s *session, word string) (journal.Live, error) {
	l, err := locate(ctx, s, word)
	if !errors.Is(err, snapshot.ErrNotFound) {
		return l, err
	}
	g := graveyardOf(s)
	gone, e := locate(ctx, g, word)
	if errors.Is(e, snapshot.ErrAmbiguous) {
		return l, failure{err: err, hint: "several forgotten ones can be meant: varve snapshot list --forgotten shows them, varve snapshot unforget brings one back"}
	}
	for _, f := range g.forgotten {
		if e == nil && f.ID == gone.ID {
			err = fmt.Errorf("snapshot %q: %w since %s, by %s: %s", word, repo.ErrForgotten, moment(time.UnixMilli(f.Forgotten.Time)),
				name(f.Forget.Who), f.Forget.Why)
		}
	}
	return l, err
}

// forgottenRow is a snapshot that was forgotten.
type forgottenRow struct {
	ID        string    `json:"id"`
	Name      string    `json:"name,omitempty"` // while its manifest can be read
	Started   time.Time `json:"started"`
	Forgotten time.Time `json:"forgotten"`
	By        string    `json:"by"`
	Why       string    `json:"why"`
	Returns   string    `json:"returns"` // yes: for sure; perhaps: a prune ran without it; no: its manifest is gone
}

// showForgotten lists the forgotten snapshots in the order in which they were forgotten.
func (a *app) showForgotten(ctx context.Context, s *session) error {
	g := graveyardOf(s)
	names := map[snapshot.ID]string{}
	found, _ := snapshot.List(ctx, g, snapshot.Filter{}) // what cannot be read any more has no name
	for _, one := range found {
		names[one.ID] = one.Name
	}
	rows := []forgottenRow{}
	for _, f := range g.forgotten {
		if f.Part != "" {
			continue
		}
		row := forgottenRow{ID: f.ID.String(), Name: names[f.ID], Started: time.UnixMilli(f.Live.Time).UTC(), Forgotten: time.UnixMilli(f.Forgotten.Time).UTC(),
			By: f.Forget.Who, Why: f.Forget.Why, Returns: "perhaps"}
		switch {
		case f.Unpruned:
			row.Returns = "yes"
		case f.Gone:
			row.Returns = "no"
		}
		rows = append(rows, row)
	}
	err := a.show(rows, func(t *sheet) {
		if len(rows) == 0 {
			return
		}
		t.row("ID", "NAME", "STARTED", "FORGOTTEN", "BY", "COMES BACK", "WHY")
		for _, r := range rows {
			t.row(short(r.ID), title(r.Name), moment(r.Started), moment(r.Forgotten), name(r.By), r.Returns, escaped(r.Why))
		}
	})
	if err != nil || a.output != asTable {
		return err
	}
	if len(rows) == 0 {
		a.note("no snapshot is forgotten")
		return nil
	}
	a.note("varve snapshot unforget brings back for sure what says yes, and what says perhaps unless a prune has dropped what it needs")
	return nil
}
