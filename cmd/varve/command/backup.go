package command

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/backup"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/files"
)

func (a *app) backup() *cobra.Command {
	return noun("backup", "Backups: make one, list and describe them",
		"A backup takes objects of a cluster and files of volumes into the repository, as one snapshot.",
		a.backupCreate(), a.backupGet(), a.backupDescribe())
}

// backupFlags are what backup create is told.
type backupFlags struct {
	clusterFlags
	volumes   volumeFlags
	detection choice
	ttl       lifetime
	empty     bool
}

// defaultTTL is Ark's.
const defaultTTL = 720 * time.Hour

func (a *app) backupCreate() *cobra.Command {
	f := backupFlags{ttl: lifetime(defaultTTL), detection: choice{words: []string{"strict", "mtime", "content"}}}
	c := &cobra.Command{
		Use:   "create [NAME]",
		Short: "Back up a cluster, and folders",
		Long: `Back up the objects of the cluster that the kubeconfig names, all or those that the filters select, and
any number of folders as volumes. What did not change since the last backup is not read or stored again.

NAME is how the backup is asked for later, and need not be new. Without one it is backup- with the time.

Left out are Events and Leases, unless --include-resources names them, tokens of service accounts, and what
has the label varve.dev/exclude-from-backup=true. Of a PersistentVolumeClaim the object is backed up, and its
data only if its folder is given as a volume.

The backup is one entry in the repository's journal: before it nothing has happened, after it everything
has. A backup that is interrupted has not happened and needs no cleaning up.

Exit code 3 means that the backup was made, but something selected is missing from it; the output and
varve backup describe name each.`,
		Example: `  varve backup create
  varve backup create monday --include-namespaces shop,blog
  varve backup create -l tier=db --exclude-resources secrets
  varve backup create files --objects none --volume data=/srv/data`,
		Args: arguments(0, 1, "at most one name"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.resolve(c); err != nil {
				return err
			}
			if f.withoutObjects() && len(f.volumes) == 0 {
				return failure{err: errors.New("nothing is to be backed up: --objects none leaves out Kubernetes, and no --volume is given"), code: exitUsage,
					hint: "give --volume NAME=FOLDER, such as --volume data=/srv/data"}
			}
			return a.withRepository(c.Context(), func(s *session) error {
				return a.runBackup(c.Context(), s, f.plan(append(args, "")[0]), f.access)
			})
		},
	}
	f.add(c)
	flags := c.Flags()
	flags.Var(&f.volumes, "volume", "back up a folder as a volume (repeatable)")
	flags.Var(&f.detection, "change-detection", "when a file counts as unchanged: strict compares size, mtime, ctime and inode;\nmtime leaves out ctime and inode; content reads every file")
	flags.Var(&f.ttl, "ttl", "how long the backup is meant to be kept: 720h, 30d, 1y, never;\nvarve snapshot forget --expired forgets what is older")
	flags.BoolVar(&f.empty, "allow-empty", false, "let a selection of no objects be no error")
	return c
}

func (f *backupFlags) plan(name string) backup.Plan {
	p := backup.Plan{Name: name, Keep: time.Duration(f.ttl), WithoutObjects: f.withoutObjects(), Filter: f.filter,
		AllowEmpty:      f.empty,
		ChangeDetection: []files.ChangeDetection{files.Strict, files.ByMtime, files.ByContent}[f.detection.at]}
	for _, v := range f.volumes {
		p.Volumes = append(p.Volumes, backup.Volume{Name: v.name, Path: v.path})
	}
	return p
}

func (a *app) runBackup(ctx context.Context, s *session, plan backup.Plan, access kube.Access) (err error) {
	d := backup.Deps{Repository: s.Repository}
	if !plan.WithoutObjects {
		if d.Cluster, err = connect(access); err != nil {
			return err
		}
	}
	p := a.progress("backup")
	defer p.stop()
	d.Progress = p.ofBackup()
	result, err := backup.Run(ctx, d, plan)
	p.stop()
	if err != nil {
		return failure{err: err, hint: hintOf(ctx, err)}
	}
	requests := s.bucket.Counts()
	made, err := snapshot.Find(ctx, s, result.ID.String())
	if err != nil {
		return afterwards("snapshot "+short(result.ID.String())+" was made", err)
	}
	if plan.Name != "" && result.Parent == plan.Name { // a run prefers the parent of its name
		a.warn("there are several backups with the name %s now; their IDs tell them apart", name(plan.Name))
	}
	return a.showBackup(s, made, result, requests)
}

// hintOf tells whoever interrupts a backup what that means.
func hintOf(ctx context.Context, err error) string {
	if ctx.Err() != nil && !errors.Is(err, journal.ErrUnsure) {
		return "no backup was made, and nothing needs cleaning up"
	}
	_, hint := explain(err)
	return hint
}

// ofBackup returns what a backup reports its progress to. A backup counts each stage from zero; what
// is told goes on.
func (p *progress) ofBackup() func(backup.Progress) {
	var last backup.Progress
	var before standing // the stages that are done
	return func(b backup.Progress) {
		p.update(func(s *standing) {
			if b.Stage != last.Stage || b.Volume != last.Volume {
				before = *s
			}
			last = b
			s.what, s.fresh, s.total = "backup", b.Written.NewBytes, 0
			if b.Volume != "" {
				s.what = "backup of volume " + name(b.Volume)
			}
			if b.Stage == "objects" {
				s.objects = before.objects + int64(b.Items)
			} else {
				s.files = before.files + int64(b.Items)
			}
			s.bytes, s.read = before.bytes+int64(b.Bytes), before.read+int64(b.Read)
			if b.ExpectedBytes > b.Bytes {
				s.total = before.bytes + int64(b.ExpectedBytes)
			}
		})
	}
}

func (a *app) backupGet() *cobra.Command {
	return &cobra.Command{
		Use:        "get [NAME]",
		SuggestFor: []string{"list", "ls"},
		Short:      "List backups, oldest first",
		Long: `List the backups in the repository, oldest first, or those with one name. A name may stand for several
backups; the snapshot's ID tells them apart.`,
		Example: `  varve backup get
  varve backup get monday -o yaml`,
		Args:              arguments(0, 1, "at most one name"),
		ValidArgsFunction: a.completeSnapshots(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				found, damaged := snapshot.List(c.Context(), s, snapshot.Filter{})
				if len(args) > 0 {
					var err error
					if found, err = meant(c.Context(), s, found, args[0]); err != nil {
						return err
					}
				}
				if err := a.showBackups(c.Context(), s, found); err != nil {
					return err
				}
				return damaged
			})
		},
	}
}

// meant returns the backups of a name, or else the one that the word finds.
func meant(ctx context.Context, s *session, all []*snapshot.Snapshot, word string) (found []*snapshot.Snapshot, err error) {
	for _, one := range all {
		if one.Name == word {
			found = append(found, one)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	one, err := find(ctx, s, word)
	return []*snapshot.Snapshot{one}, err
}

func (a *app) backupDescribe() *cobra.Command {
	details := false
	c := &cobra.Command{
		Use:   "describe NAME",
		Short: "Tell everything about one backup",
		Long: `Tell how a backup was made, what is in it, what it cost, and what went wrong. NAME may also be the ID of
its snapshot, the first digits of it (at least four), or latest. JSON and YAML always list every error
and warning.`,
		Example: `  varve backup describe monday
  varve backup describe latest --details -o json`,
		Args:              arguments(1, 1, "one name"),
		ValidArgsFunction: a.completeSnapshots(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				found, err := find(c.Context(), s, args[0])
				if err != nil {
					return err
				}
				return a.describe(c.Context(), s, found, details)
			})
		},
	}
	c.Flags().BoolVar(&details, "details", false, "count objects by resource and namespace, and list every error and warning")
	return c
}
