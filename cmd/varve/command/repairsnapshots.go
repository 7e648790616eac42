package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
)

// How many lost items of a snapshot are named: to a person some, in JSON many.
const (
	fewLost  = 20
	manyLost = 10_000
)

func (a *app) repairSnapshots() *cobra.Command {
	dry := false
	c := &cobra.Command{
		Use:   "snapshots",
		Short: "Name what snapshots have lost, and record the loss",
		Long: `Look through all snapshots for what has no good copy left, and name the objects and files that it was. The loss is
recorded, so that a prune can go on and a backup stores again what it still has. No snapshot is changed: one that
has lost something is listed as Damaged for as long as that is so, and a restore of it restores all else.

Run varve repo repair index and packs before. Contents are not read: what is not known to be damaged yet,
varve repo check --read-data finds and varve repo repair packs --read-data records.`,
		Example: `  varve repo repair snapshots
  varve repo repair snapshots --dry-run -o json`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				losses, err := s.losses(c.Context())
				if err != nil {
					return err
				}
				r := lossReport{DryRun: dry, Snapshots: []lossRow{}}
				if !dry {
					if r.Recorded, err = s.RecordLosses(c.Context(), losses); err != nil {
						return changing(err)
					}
				}
				if err := r.look(c.Context(), s, losses); err != nil {
					return err
				}
				return a.showLosses(r)
			})
		},
	}
	return dryRun(c, &dry)
}

// lossReport is what snapshots have lost.
type lossReport struct {
	DryRun    bool      `json:"dryRun"`
	Recorded  int       `json:"recorded"` // lost blobs that were not known to be
	Snapshots []lossRow `json:"snapshots"`
}

// lossRow is what one snapshot has lost.
type lossRow struct {
	ID         string    `json:"id"`
	Name       string    `json:"name,omitempty"` // empty if the manifest is lost
	Started    time.Time `json:"started"`
	Namespaces []string  `json:"namespaces,omitempty"` // in which something is lost
	Lost       []wild    `json:"lost"`                 // addresses, the first of them
	Count      uint64    `json:"count"`                // of all that is lost
}

// losses finds what snapshots have lost as far as the journal knows, each distinct node once.
func (s *session) losses(ctx context.Context) (*repo.Losses, error) {
	var roots []blob.Ref
	for _, l := range s.Snapshots() {
		roots = append(roots, manifestOf(l))
	}
	return s.Losses(ctx, roots...)
}

func manifestOf(l journal.Live) blob.Ref { return blob.Ref{Class: blob.Manifest, ID: l.Manifest} }

// one is a repository as if it had one snapshot only.
type one struct {
	*repo.Repository
	live journal.Live
}

// Snapshots implements [snapshot.Repository].
func (o one) Snapshots() []journal.Live { return []journal.Live{o.live} }

// look finds what the lost blobs are to each snapshot.
func (r *lossReport) look(ctx context.Context, s *session, losses *repo.Losses) error {
	for _, live := range s.Snapshots() {
		if !losses.Touches(manifestOf(live)) {
			continue
		}
		row := lossRow{ID: live.ID.String(), Started: time.UnixMilli(live.Time).UTC(), Lost: []wild{}}
		if loaded, err := snapshot.Load(ctx, s, live); err == nil {
			row.Name = loaded.Name
		}
		harms, err := snapshot.Harms(ctx, one{s.Repository, live}, losses, manyLost)
		if err != nil {
			return err
		}
		if h := harms[0]; h != nil {
			row.Namespaces, row.Count = h.Namespaces, h.Count
			for _, item := range h.Items {
				row.Lost = append(row.Lost, wild(harmedText(item)))
			}
		}
		r.Snapshots = append(r.Snapshots, row)
	}
	return nil
}

// harmedText names an item, and how many follow it whose names are lost as well.
func harmedText(h snapshot.Harmed) string {
	if h.More == 0 {
		return h.Name
	}
	return fmt.Sprintf("%s and %s after it", h.Name, entries(h.More))
}

func (a *app) showLosses(r lossReport) error {
	err := a.show(r, func(t *sheet) {
		if len(r.Snapshots) == 0 {
			t.line("no snapshot has lost anything, as far as is known")
			return
		}
		for _, s := range r.Snapshots {
			title := "snapshot " + short(s.ID)
			if s.Name != "" {
				title += ", " + name(s.Name)
			}
			t.line("%s: %s lost", title, counted(s.Count, "item"))
			if len(s.Namespaces) > 0 {
				t.line("   in %s", escaped(strings.Join(s.Namespaces, ", ")))
			}
			for i, item := range s.Lost {
				if i == fewLost {
					t.line("   and more; -o json has them")
					break
				}
				t.line("   %s", name(item))
			}
		}
	})
	if err != nil || len(r.Snapshots) == 0 {
		return err
	}
	return failure{err: fmt.Errorf("%s lost something", counted(len(r.Snapshots), "snapshot")+has(len(r.Snapshots))), code: exitDamaged,
		hint: "a backup of the same source brings back what it still has; a restore restores all else"}
}

func has(n int) string {
	if n == 1 {
		return " has"
	}
	return " have"
}
