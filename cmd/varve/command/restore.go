package command

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/restore"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/files"
)

func (a *app) restore() *cobra.Command {
	return noun("restore", "Restores: bring back objects and files",
		"A restore brings objects of a backup back into a cluster, and files of its volumes into folders.",
		a.restoreCreate())
}

// restoreFlags are what restore create is told.
type restoreFlags struct {
	clusterFlags
	backup   string
	mappings []string
	volumes  volumeFlags
	existing choice
	files    choice
	jobs     choice
	dryRun   bool
	plan     restore.Plan
}

func (a *app) restoreCreate() *cobra.Command {
	f := restoreFlags{
		existing: choice{words: []string{"none", "update"}},
		files:    choice{words: []string{"refuse", "overwrite", "keep"}},
		jobs:     choice{words: []string{"run", "suspend", "skip"}},
	}
	c := &cobra.Command{
		Use:   "create [NAME]",
		Short: "Restore objects and files from a backup",
		Long: `Restore objects of a backup into the cluster that the kubeconfig names, and files of its volumes into
folders. Nothing is ever deleted. An object that is there already is left as it is, and reported if it
differs, unless --existing-resource-policy says update.

What is restored comes back without its status, which controllers write anew, and with the labels
varve-restore, varve.dev/restore-name and varve.dev/backup-name, which tell where it came from.

NAME is what the restore is called in its report and in these labels; without one it is the backup's, with the time.

With --dry-run nothing is changed: it shows what would be done with each object, and why.

Exit codes: 3 when something selected was not restored; 8 when the restore broke off after it may have
changed something. Running it again goes on where it was.`,
		Example: `  varve restore create --from-backup monday --dry-run
  varve restore create --from-backup monday --include-namespaces shop
  varve restore create --from-backup latest --include-namespaces shop --namespace-mappings shop:shop-copy
  varve restore create --from-backup monday --objects none --volume data=/srv/restored`,
		Args: arguments(0, 1, "at most one name"),
		RunE: func(c *cobra.Command, args []string) error {
			if f.backup == "" {
				return failure{err: errors.New("no backup is named"), code: exitUsage, hint: "give --from-backup NAME; varve backup get lists the backups"}
			}
			if f.withoutObjects() && len(f.volumes) == 0 {
				return failure{err: errors.New("nothing is to be restored: --objects none leaves out Kubernetes, and no --volume is given"), code: exitUsage,
					hint: "give --volume NAME=FOLDER; varve snapshot ls " + f.backup + " volumes lists the volumes of the backup"}
			}
			if err := f.resolve(c, append(args, "")[0]); err != nil {
				return err
			}
			return a.withRepository(c.Context(), func(s *session) error { return a.runRestore(c.Context(), s, &f) })
		},
	}
	f.add(c)
	flags := c.Flags()
	flags.StringVar(&f.backup, "from-backup", "", "the `NAME` of a backup, the ID of its snapshot, or latest")
	// It fails only for a flag that is not there.
	_ = c.RegisterFlagCompletionFunc("from-backup", a.completeSnapshots(math.MaxInt))
	flags.StringSliceVar(&f.mappings, "namespace-mappings", nil, "restore namespaces under other names, in pairs `OLD:NEW`")
	flags.Var(&f.existing, "existing-resource-policy", "what to do with objects that are there and differ: none or update")
	flags.Var(&f.jobs, "jobs", "what to do with Jobs that had not finished: run, suspend or skip")
	flags.BoolVar(&f.plan.Completed, "completed", false, "restore Pods and Jobs that had finished, too")
	flags.BoolVar(&f.plan.PreserveNodePorts, "preserve-nodeports", false, "keep the node ports of Services")
	flags.BoolVar(&f.plan.AllowEmpty, "allow-empty", false, "let a selection of nothing be no error")
	flags.Var(&f.volumes, "volume", "write the files of a volume to a folder (repeatable)")
	flags.Var(&f.files, "files-policy", "for a folder that is not empty: refuse, overwrite or keep what is there")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show what would be done and change nothing")
	return c
}

func (f *restoreFlags) resolve(c *cobra.Command, name string) error {
	if err := f.clusterFlags.resolve(c); err != nil {
		return err
	}
	f.plan.Name, f.plan.Filter, f.plan.WithoutObjects = name, f.filter, f.withoutObjects()
	f.plan.Existing = []restore.Existing{restore.ExistingKeep, restore.ExistingUpdate}[f.existing.at]
	f.plan.Jobs = []restore.Jobs{restore.JobsRun, restore.JobsSuspend, restore.JobsSkip}[f.jobs.at]
	f.plan.ExistingFiles = []files.Policy{files.RefuseNonEmpty, files.Overwrite, files.KeepExisting}[f.files.at]
	for _, v := range f.volumes {
		f.plan.Volumes = append(f.plan.Volumes, restore.Volume{Name: v.name, Path: v.path})
	}
	mapping, err := parseMappings(f.mappings)
	f.plan.NamespaceMapping = mapping
	return err
}

// parseMappings reads pairs OLD:NEW. Two old names may not become one, since their objects might meet.
func parseMappings(pairs []string) (map[string]string, error) {
	mapping, sources := map[string]string{}, map[string]string{}
	for _, pair := range pairs {
		from, to, ok := cutPair(pair)
		if !ok {
			return nil, usage("--namespace-mappings: %q is not OLD:NEW", pair)
		}
		if _, twice := mapping[from]; twice {
			return nil, usage("--namespace-mappings: %s is mapped twice", from)
		}
		if other, twice := sources[to]; twice {
			return nil, usage("--namespace-mappings: both %s and %s would become %s", other, from, to)
		}
		mapping[from], sources[to] = to, from
	}
	return mapping, nil
}

func (a *app) runRestore(ctx context.Context, s *session, f *restoreFlags) error {
	started := time.Now()
	w := &witness{Repository: s.Repository}
	l, err := locateLive(ctx, s, f.backup)
	if err != nil {
		return err
	}
	from, err := snapshot.Load(ctx, w, l)
	if err != nil {
		return err
	}
	w.reads = from.ID
	d := restore.Deps{Repository: w, Snapshot: from}
	if !f.plan.WithoutObjects && !from.Manifest.Objects.Empty() {
		if d.Cluster, err = connect(f.access); err != nil {
			return err
		}
	}
	p := a.progress("restore")
	defer p.stop()
	d.Progress = func(restore.Outcome) { p.update(func(s *standing) { s.objects++ }) }
	d.Waiting = func(what string) { p.update(func(s *standing) { s.waiting = what }) }
	d.Files = files.Events{
		Entry: func(string, files.Attributes) { p.update(func(s *standing) { s.files++ }) },
		Bytes: func(n int64) { p.update(func(s *standing) { s.bytes += n }) },
	}
	prepared, err := restore.Prepare(ctx, d, f.plan)
	if err != nil {
		return inBackup(err, from)
	}
	r := restored{Name: prepared.Name, Backup: from.Name, Snapshot: from.ID.String(), DryRun: f.dryRun, Warnings: prepared.Warnings}
	if f.dryRun {
		r.plan(prepared, f.plan.Volumes)
	} else {
		report, err := prepared.Apply(ctx)
		if err != nil {
			return brokenOff(ctx, report, err)
		}
		r.outcomes(report)
	}
	p.stop()
	r.damaged = w.damaged.Load()
	r.Seconds = time.Since(started).Seconds()
	return a.showRestored(r)
}

// witness is the repository, and remembers whether damage was met: a restore goes on without what is
// damaged.
type witness struct {
	*repo.Repository
	reads   snapshot.ID // from which the restore is
	damaged atomic.Bool
}

// Read implements [content.Loader].
func (w *witness) Read(ctx context.Context, ref blob.Ref) ([]byte, error) {
	data, err := w.Repository.Read(ctx, ref)
	return data, w.see(ctx, err)
}

// ReadNode implements [content.Loader].
func (w *witness) ReadNode(ctx context.Context, ref blob.Ref) (blob.Node, error) {
	n, err := w.Repository.ReadNode(ctx, ref)
	return n, w.see(ctx, err)
}

func (w *witness) see(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if w.reads != (snapshot.ID{}) {
		err = w.Blame(ctx, w.reads, err)
	}
	if code, _ := explain(err); code == exitDamaged {
		w.damaged.Store(true)
	}
	return err
}

// hasChanged reports whether a restore made or changed anything that its report knows of. That of a
// volume's root folder is all that it may not know.
func hasChanged(report restore.Report) bool {
	for _, v := range report.Volumes {
		if r := v.Files; r.Files+r.Directories+r.Symlinks+r.Specials+r.Links > 0 {
			return true
		}
	}
	return report.Count(restore.Created, restore.Updated, restore.Failed) > 0
}

// inBackup tells what the backup has where a plan names what it has not.
func inBackup(err error, from *snapshot.Snapshot) error {
	if unknown, ok := errors.AsType[*kube.UnknownResourceError](err); ok {
		text := fmt.Sprintf("the backup has no resource %q", unknown.Name)
		if len(unknown.Near) > 0 {
			text += "; did you mean " + strings.Join(unknown.Near, " or ") + "?"
		}
		return failure{err: errors.New(text), code: exitUsage, hint: "varve backup describe " + short(from.ID.String()) + " --details lists what the backup has"}
	}
	return err
}

// brokenOff marks an error that ended a restore which had changed something. A cause that has an exit
// code of its own keeps it.
func brokenOff(ctx context.Context, report restore.Report, err error) error {
	if !hasChanged(report) {
		return err
	}
	code := exitChanged
	if known, _ := explain(err); known != exitFailed || ctx.Err() != nil {
		code = 0
	}
	return failure{err: err, code: code, hint: "what was restored stays; running it again goes on where it was"}
}
