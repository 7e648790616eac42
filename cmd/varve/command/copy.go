package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/meter"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/copies"
)

// copyFlags say what to copy and from where.
type copyFlags struct {
	from      repositoryFlags
	all       bool
	latestPer choice
	dryRun    bool
}

func (a *app) repoCopy() *cobra.Command {
	f := copyFlags{latestPer: choice{words: []string{"none", "cluster", "schedule", "name"}}}
	c := &cobra.Command{
		Use:   "copy --from URL [SNAPSHOT...]",
		Short: "Copy snapshots from another repository into this one",
		Long: `Copy snapshots from the repository of --from into that of --repo, which must be there: varve repo init
makes one. Both keep their own keys, passwords and retention, and either may be backed up to, copied and
pruned meanwhile.

Only what is missing is read and stored. A copy has the ID of its original, so what was copied before is
passed over, and so is what was copied and forgotten here since. A copy is a snapshot like any other:
backups build on it, and it is restored without the original.

A snapshot that is damaged in the source is not copied, and is named; all others are. The command then
ends with 4.`,
		Example: `  varve repo copy --from dir:///srv/backups --repo /mnt/usb/copies --all
  varve repo copy --from dir:///srv/backups --from-password-file ~/.source-password --all --dry-run
  varve repo copy --from dir:///srv/backups --latest-per schedule -o json
  varve repo copy --from dir:///srv/backups monday 3f2a`,
		Args: func(*cobra.Command, []string) error { return nil },
		RunE: func(c *cobra.Command, args []string) error {
			selection := copies.Selection{Snapshots: args, All: f.all}
			if f.latestPer.at > 0 {
				selection.LatestPer = copies.Group(f.latestPer.String())
			}
			if f.from.url == "" {
				return asUsage(c, errors.New("give --from URL, the repository to copy from"))
			}
			if len(args) == 0 && !f.all && f.latestPer.at == 0 {
				return failure{err: copies.ErrSelection, code: exitUsage, hint: "name snapshots of the source, or give --all, or --latest-per with cluster, schedule or name"}
			}
			if err := selection.Validate(); err != nil {
				return asUsage(c, err)
			}
			return a.withSource(c.Context(), f.from, func(from *session) error {
				return a.withRepository(c.Context(), func(to *session) error {
					return a.runCopy(c.Context(), from, to, copies.Plan{Selection: selection, DryRun: f.dryRun})
				})
			})
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.from.url, "from", "", "the `URL` of the repository to copy from")
	flags.StringVar(&f.from.credentials.passwordFile, "from-password-file", "", "the `FILE` that holds its password (default $"+passwordVariable+", else ask)")
	flags.StringVar(&f.from.credentials.identityFile, "from-identity-file", "", "the `FILE` that holds age identities which open it (default $"+identityVariable+")")
	flags.StringVar(&f.from.credentials.kms, "from-kms", "", "the `URL` of the KMS key that opens it (default $"+keeperVariable+")")
	flags.Var(&f.from.fingerprint, "from-fingerprint", "its master key's `FINGERPRINT`; another key is refused")
	flags.BoolVar(&f.all, "all", false, "copy every snapshot")
	flags.Var(&f.latestPer, "latest-per", "copy the newest snapshot of each: cluster, schedule or name")
	flags.BoolVar(&f.dryRun, "dry-run", false, "find out what is missing, and read and store no contents")
	return c
}

// withSource opens the repository to copy from, hands it to use, and closes it.
func (a *app) withSource(ctx context.Context, from repositoryFlags, use func(*session) error) error {
	source := *a
	from.cacheDir, from.noCache, from.stateDir = a.repository.cacheDir, a.repository.noCache, a.repository.stateDir
	from.line = a.repository.line
	source.repository = from
	if from.named() == (credentials{}) {
		a.note("The first password is that of the source, " + name(from.url) + ".")
	}
	opened := false
	err := source.withRepository(ctx, func(s *session) error {
		opened = true
		return use(s)
	})
	if err == nil || opened {
		return err
	}
	_, hint := explain(err)
	switch {
	case errors.Is(err, repo.ErrNoRepository), errors.Is(err, storage.ErrNoBucket):
		hint = "--from names the repository to copy from, --repo the one to copy into"
	case errors.Is(err, repo.ErrWrongKey):
		hint = "check --from-password-file, --from-identity-file or --from-kms, and that this is the repository you mean"
	case errors.Is(err, journal.ErrRolledBack), errors.Is(err, repo.ErrSwapped):
		hint = "if that was meant, varve repo info --repo " + name(from.url) + " --accept-rollback takes the source as it is; " + lookHint
	}
	return failure{err: fmt.Errorf("the source: %w", err), hint: hint}
}

func (a *app) runCopy(ctx context.Context, from, to *session, plan copies.Plan) error {
	started := time.Now()
	p := a.progress("copy")
	defer p.stop()
	report, err := copies.Run(ctx, copies.Deps{From: from.Repository, To: to.Repository, Progress: p.ofCopy()}, plan)
	p.stop()
	if errors.Is(err, snapshot.ErrNotFound) {
		return notInSource(ctx, from, plan.Selection.Snapshots, err)
	}
	if err != nil {
		return failure{err: err, hint: copyHint(ctx, report, err)}
	}
	asked := to.bucket.Counts()
	return a.showCopy(copyAccount{From: from.URL(), To: to.URL(), DryRun: plan.DryRun, Report: report, Seconds: time.Since(started).Seconds(),
		Requests: twoSides{kindsOf(from.bucket.Counts()), kindsOf(asked)}, Cost: to.costOf(&asked, report.Written.StoredBytes)})
}

// notInSource says of a snapshot that the source has not whether it was forgotten there, and how to see which ones
// it has.
func notInSource(ctx context.Context, from *session, words []string, err error) error {
	hint := "varve snapshot list --repo " + name(from.URL()) + " shows the snapshots of the source"
	for _, word := range words {
		if _, e := locateLive(ctx, from, word); errors.Is(e, repo.ErrForgotten) {
			err, hint = e, "varve snapshot unforget --repo "+name(from.URL())+" "+word+" brings it back"
		}
	}
	return failure{err: fmt.Errorf("the source: %w", err), hint: hint}
}

// copyHint tells whoever interrupts a copy, or sees one fail, what of it stands.
func copyHint(ctx context.Context, r copies.Report, err error) string {
	_, hint := explain(err)
	if ctx.Err() != nil {
		hint = "run it again: it goes on where it was"
	}
	if r.Copied > 0 {
		hint = fmt.Sprintf("%s copied before, which stands; %s", were(r.Copied), hint)
	}
	return hint
}

// were counts snapshots with their verb.
func were(n int) string {
	if n == 1 {
		return "1 snapshot was"
	}
	return counted(n, "snapshot") + " were"
}

// ofCopy returns what a copy reports its progress to.
func (p *progress) ofCopy() func(copies.Progress) {
	return func(c copies.Progress) {
		p.update(func(s *standing) {
			s.what = fmt.Sprintf("copy of snapshot %d of %d", c.Number, c.Of)
			s.files, s.bytes, s.fresh = int64(c.Entries), int64(c.Read), c.Written.NewBytes
		})
	}
}

// copyAccount is what a copy did and what it cost.
type copyAccount struct {
	From   string `json:"from"`
	To     string `json:"to"`
	DryRun bool   `json:"dryRun,omitempty"`
	copies.Report
	Seconds  float64  `json:"seconds"`
	Requests twoSides `json:"requests"`
	Cost     *cost    `json:"cost,omitempty"` // of the destination
}

type twoSides struct {
	Source      requestCounts `json:"source"`
	Destination requestCounts `json:"destination"`
}

func kindsOf(c meter.Counts) requestCounts {
	return requestCounts{c.Create, c.Get, c.Stat, c.List, c.Delete}
}

// showCopy shows the account of a copy, and fails if a snapshot is missing.
func (a *app) showCopy(x copyAccount) error {
	err := a.show(x, func(t *sheet) { writeCopy(t, x) })
	if err != nil {
		return afterwards(were(x.Copied)+" copied", err)
	}
	if x.Failed == 0 {
		return nil
	}
	f := failure{err: fmt.Errorf("%d of %s could not be copied", x.Failed, counted(len(x.Snapshots), "snapshot")), code: exitIncomplete,
		hint: "the output says why; those that are copied stand"}
	for _, o := range x.Snapshots {
		if o.Err != nil && !errors.Is(o.Err, copies.ErrVanished) {
			f.code, f.hint = exitDamaged, "varve repo check --read-data on the repository that is named says what is damaged in it; the copies made before stay whole"
		}
	}
	return f
}

func writeCopy(t *sheet, x copyAccount) {
	listed := x.Copied + x.Missing + x.Failed
	if listed > 0 {
		t.row("STATUS", "SNAPSHOT", "NAME", "STARTED", "ENTRIES", "READ", "STORED")
	}
	for _, o := range x.Snapshots {
		if o.Status == copies.Copied || o.Status == copies.Missing || o.Status == copies.Failed {
			t.row(string(o.Status), short(o.ID.String()), title(o.Name), moment(o.Started), count(o.Entries), size(int64(o.Read)), size(o.Written.StoredBytes))
		}
	}
	for _, o := range x.Snapshots {
		if o.Err == nil && o.Warning != "" {
			t.line("without its parent: snapshot %s: %s", short(o.ID.String()), escaped(o.Warning))
		}
		if o.Err != nil {
			t.line("failed: snapshot %s: %s", short(o.ID.String()), escaped(o.Message))
		}
	}
	if listed > 0 {
		t.line("")
	}
	if x.DryRun {
		t.row("Would copy:", fmt.Sprintf("%s, and read %s", counted(x.Missing, "snapshot"), size(int64(x.Read))))
	} else {
		t.row("Copied:", counted(x.Copied, "snapshot"))
	}
	t.row("There before:", counted(x.Present, "snapshot"))
	if x.Forgotten > 0 {
		t.row("Forgotten here:", counted(x.Forgotten, "snapshot"))
	}
	if !x.DryRun {
		t.row("Read:", size(int64(x.Read)))
		t.row("New:", size(x.Written.NewBytes))
		t.row("Stored:", fmt.Sprintf("%s, %s", size(x.Written.StoredBytes), counted(x.Written.Packs, "pack")))
	}
	t.row("Requests:", "source: "+x.Requests.Source.String()+"; destination: "+x.Requests.Destination.String())
	x.Cost.row(t)
}
