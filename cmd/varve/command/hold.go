package command

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
)

func (a *app) snapshotHold() *cobra.Command {
	return &cobra.Command{
		Use:   "hold SNAPSHOT...",
		Short: "Keep snapshots from being forgotten",
		Long: `Keep snapshots from being forgotten, by a rule, by their expiration or by name, until varve snapshot release
lets them go. To hold what is held changes nothing.`,
		Example:           "  varve snapshot hold before-the-upgrade",
		Args:              arguments(1, manySnapshots, "the snapshots to hold"),
		ValidArgsFunction: a.completeSnapshots(manySnapshots),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withRepository(c.Context(), func(s *session) error { return a.holdOrRelease(c.Context(), s, args, s.Hold) })
		},
	}
}

func (a *app) snapshotRelease() *cobra.Command {
	return &cobra.Command{
		Use:               "release SNAPSHOT...",
		Short:             "Let snapshots that are held be forgotten again",
		Long:              "Let snapshots that are held be forgotten again. To release what is not held changes nothing.",
		Example:           "  varve snapshot release before-the-upgrade",
		Args:              arguments(1, manySnapshots, "the snapshots to release"),
		ValidArgsFunction: a.completeSnapshots(manySnapshots),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withRepository(c.Context(), func(s *session) error { return a.holdOrRelease(c.Context(), s, args, s.Release) })
		},
	}
}

// manySnapshots bounds how many are named at once.
const manySnapshots = 1000

func (a *app) holdOrRelease(ctx context.Context, s *session, words []string, act func(context.Context, ...journal.SnapshotID) error) error {
	ids, err := allMeant(words, func(word string) (journal.Live, error) { return locateLive(ctx, s, word) })
	if err != nil {
		return err
	}
	if err := act(ctx, ids...); err != nil {
		return changing(err)
	}
	return a.showChanged(ctx, s, ids)
}

// allMeant returns the snapshots that words mean, each once: two words may mean the same one.
func allMeant(words []string, locate func(word string) (journal.Live, error)) (ids []snapshot.ID, err error) {
	for _, word := range words {
		l, err := locate(word)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, l.ID) {
			ids = append(ids, l.ID)
		}
	}
	return ids, nil
}

// showChanged lists live snapshots whose standing was changed.
func (a *app) showChanged(ctx context.Context, s *session, ids []snapshot.ID) error {
	rows := []snapshotRow{}
	for _, id := range ids {
		l, _ := s.Snapshot(id)
		row := snapshotRow{ID: id.String(), Started: time.UnixMilli(l.Time).UTC(), Held: l.Held, Status: "unreadable"}
		if one, err := snapshot.Load(ctx, s, l); err == nil { // what cannot be read can be held
			row = rowOf(s, one)
		}
		rows = append(rows, row)
	}
	return afterwards("it was done", a.show(rows, func(t *sheet) { writeSnapshots(t, rows) }))
}
