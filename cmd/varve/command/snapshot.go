package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot"
)

func (a *app) snapshot() *cobra.Command {
	return noun("snapshot", "Snapshots: list them, look into them, compare them, forget them",
		`A snapshot is what a backup leaves in the repository. It is named by its ID, by the first digits of it
(at least four), by its backup's name, or as "latest".

`+addresses,
		a.snapshotList(), a.snapshotLs(), a.snapshotCat(), a.snapshotDiff(),
		a.snapshotForget(), a.snapshotUnforget(), a.snapshotHold(), a.snapshotRelease())
}

// snapshotRow is one snapshot in a list.
type snapshotRow struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Cluster   string     `json:"cluster,omitempty"`
	Started   time.Time  `json:"started"`
	Completed time.Time  `json:"completed"`
	Expires   *time.Time `json:"expires,omitempty"`
	Status    string     `json:"status"` // Completed, PartiallyFailed, or Damaged if something of it is known to be lost
	Held      bool       `json:"held"`
	Objects   uint64     `json:"objects"`
	Volumes   uint64     `json:"volumes"`
	Errors    uint64     `json:"errors"`
	Warnings  uint64     `json:"warnings"`
	Bytes     byteCounts `json:"bytes"`
}

// byteCounts are the sizes of a backup.
type byteCounts struct {
	Total  uint64 `json:"total"`  // of the objects and files in it
	Read   uint64 `json:"read"`   // of these, read from the cluster and the folders
	New    uint64 `json:"new"`    // of these, that the repository did not have
	Stored int64  `json:"stored"` // that the bucket took for it
}

func rowOf(r *session, s *snapshot.Snapshot) snapshotRow {
	row := snapshotRow{ID: s.ID.String(), Name: s.Name, Cluster: s.Cluster, Started: s.Started, Completed: s.Completed,
		Status: "PartiallyFailed", Objects: s.Manifest.Objects.Count, Volumes: s.Manifest.Volumes.Count,
		Errors: s.Errors, Warnings: s.Warnings,
		Bytes: byteCounts{Total: s.Manifest.Objects.Bytes + s.Manifest.Volumes.Bytes, Read: s.Stats.ReadBytes,
			New: s.Stats.NewBytes, Stored: r.Stored(s.ID)}}
	if s.Complete {
		row.Status = "Completed"
	}
	l, _ := r.Snapshot(s.ID)
	row.Held = l.Held
	if !s.Expires.IsZero() {
		row.Expires = &s.Expires
	}
	return row
}

// rowsOf are the rows of snapshots. Where damage is known it is looked up which of them have lost something.
func rowsOf(ctx context.Context, r *session, found []*snapshot.Snapshot) ([]snapshotRow, error) {
	manifests := make([]blob.Ref, len(found))
	for i, s := range found {
		manifests[i] = s.Ref()
	}
	damaged, err := r.Damaged(ctx, manifests...)
	if err != nil {
		return nil, err
	}
	rows := make([]snapshotRow, len(found))
	for i, s := range found {
		rows[i] = rowOf(r, s)
		if damaged[s.Ref()] {
			rows[i].Status = "Damaged"
		}
	}
	return rows, nil
}

// short is as much of an ID as a person wants to see and type.
func short(id string) string { return id[:min(len(id), 12)] }

func (a *app) snapshotList() *cobra.Command {
	var filter snapshot.Filter
	forgotten := false
	c := &cobra.Command{
		Use:        "list",
		SuggestFor: []string{"get"},
		Short:      "List the snapshots of the repository, oldest first",
		Long: `List the snapshots of the repository, oldest first. SIZE is what the snapshot holds, NEW what of it the
repository did not have before, STORED what that took in the bucket.

With --forgotten list those that were forgotten, who did so, when and why, and whether they can come back: for
sure as long as no prune has run without them, and then as long as none has dropped what they need.`,
		Example: `  varve snapshot list
  varve snapshot list --name monday -o json
  varve snapshot list --forgotten`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if forgotten && filter != (snapshot.Filter{}) {
				return asUsage(c, errors.New("--forgotten lists all that are forgotten, without a filter"))
			}
			return a.withRepository(c.Context(), func(s *session) error {
				if forgotten {
					return a.showForgotten(c.Context(), s)
				}
				return a.showSnapshots(c.Context(), s, filter)
			})
		},
	}
	c.Flags().StringVar(&filter.Name, "name", "", "only those of backups with this `NAME`")
	c.Flags().StringVar(&filter.Cluster, "cluster", "", "only those of the cluster with this `UID`")
	c.Flags().StringVar(&filter.Volume, "volume", "", "only those that have the volume with this `NAME`")
	c.Flags().BoolVar(&forgotten, "forgotten", false, "list those that were forgotten instead")
	return c
}

func (a *app) showSnapshots(ctx context.Context, s *session, f snapshot.Filter) error {
	found, damaged := snapshot.List(ctx, s, f)
	rows, err := rowsOf(ctx, s, found)
	if err != nil {
		return err
	}
	err = a.show(rows, func(t *sheet) { writeSnapshots(t, rows) })
	if err == nil && len(rows) == 0 && a.output == asTable {
		if f == (snapshot.Filter{}) {
			a.note("no snapshots")
		} else {
			a.note("no snapshot matches; without a filter varve snapshot list shows all")
		}
	}
	return errors.Join(err, damaged)
}

func writeSnapshots(t *sheet, rows []snapshotRow) {
	if len(rows) == 0 {
		return
	}
	now := time.Now()
	t.row("ID", "NAME", "AGE", "STATUS", "OBJECTS", "VOLUMES", "SIZE", "NEW", "STORED")
	for _, r := range rows {
		status := r.Status
		if r.Held {
			status += ", held"
		}
		t.row(short(r.ID), title(r.Name), age(r.Started, now), status, count(r.Objects), count(r.Volumes), size(int64(r.Bytes.Total)),
			size(int64(r.Bytes.New)), size(r.Bytes.Stored))
	}
}

func (a *app) snapshotLs() *cobra.Command {
	all := false
	c := &cobra.Command{
		Use:   "ls SNAPSHOT [ADDRESS]",
		Short: "List what is in a snapshot",
		Long: `List what lies at an address in a snapshot, or with --recursive everything beneath it. Nothing but the
snapshot's maps is read, no contents.

` + addresses,
		Example: `  varve snapshot ls latest
  varve snapshot ls latest objects/apps/deployments/shop
  varve snapshot ls 3f2a volumes/data/www --recursive`,
		Args:              arguments(1, 2, "a snapshot and, if you like, an address in it"),
		ValidArgsFunction: a.completeSnapshots(1),
		RunE: func(c *cobra.Command, args []string) error {
			where, err := parseAddress(append(args, "")[1])
			if err != nil {
				return err
			}
			return a.withView(c.Context(), args[0], func(v *view) error {
				list := v.list
				if all {
					list = v.listAll
				}
				found, err := list(c.Context(), where)
				if err != nil {
					return err
				}
				err = a.show(found, func(t *sheet) { writeListed(t, found, all) })
				if err == nil && len(found) == 0 && a.output == asTable {
					a.note("nothing is in it")
				}
				return err
			})
		},
	}
	c.Flags().BoolVarP(&all, "recursive", "R", false, "list everything beneath, with full addresses")
	return c
}

func (a *app) snapshotCat() *cobra.Command {
	secrets := false
	c := &cobra.Command{
		Use:   "cat SNAPSHOT ADDRESS",
		Short: "Print an object or a file of a snapshot",
		Long: `Print an object as YAML, or with -o json as JSON, just as the API server returned it; or the bytes of a
file. The values of Secrets are hidden unless --show-secrets is given.

` + addresses,
		Example: `  varve snapshot cat latest objects/apps/deployments/shop/web
  varve snapshot cat latest objects/core/secrets/shop/db --show-secrets -o json
  varve snapshot cat latest volumes/data/www/index.html > index.html`,
		Args:              arguments(2, 2, "a snapshot and an address in it"),
		ValidArgsFunction: a.completeSnapshots(1),
		RunE: func(c *cobra.Command, args []string) error {
			where, err := parseAddress(args[1])
			if err != nil {
				return err
			}
			return a.withView(c.Context(), args[0], func(v *view) error {
				switch {
				case where.Volume() != "":
					return a.catFile(c.Context(), v, where)
				case !where.InObjects():
					return failure{err: fmt.Errorf("%q is neither an object nor a file", where), code: exitUsage,
						hint: "varve snapshot ls " + args[0] + " " + where.String() + " lists what is in it"}
				}
				return a.catObject(c.Context(), v, where, secrets)
			})
		},
	}
	c.Flags().BoolVar(&secrets, "show-secrets", false, "show the values of Secrets")
	return c
}
