package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/dial"
	"github.com/varve-dev/varve/repo/storage/probe"
)

func (a *app) repo() *cobra.Command {
	return noun("repo", "The repository: probe a store, make one, look at it, check it, repair it, prune it, copy it",
		`A repository is a folder or bucket that holds backups: deduplicated, compressed, encrypted. Nobody
reads it without a password, and there is no way around a lost one.`,
		a.repoProbe(), a.repoInit(), a.repoInfo(), a.repoCheck(), a.repoRepair(), a.repoPrune(), a.repoCopy())
}

func (a *app) repoInit() *cobra.Command {
	options := repo.InitOptions{PasswordWork: a.PasswordWork}
	c := &cobra.Command{
		Use:   "init",
		Short: "Make a repository",
		Long: `Make a repository in an empty folder or bucket. The password comes from --password-file or is asked
for twice. Weak passwords are refused. Where there is a repository already that the password opens, nothing is
changed and the same is shown, so that the command can be repeated.

A store that lets two writers create the same object is refused, since of two backups at the same time one would be
lost. With --single-writer it is taken, and then it is up to you that only one command at a time ever writes to
it: backup, forget, prune, any. varve repo probe tries more of what a repository needs of its store.

What is printed is worth keeping where the backups are not: the fingerprint identifies the master key.
Given as --fingerprint, it shows that nobody has put another repository in the place of yours.`,
		Example: `  varve repo init --repo dir:///srv/backups
  varve repo init --repo ./backups --password-file ~/.varve-password
  varve repo init --repo 's3://backups/cluster-a?region=eu-central-1'`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			url, err := a.repository.location()
			if err != nil {
				return err
			}
			options.Password, err = a.newPassword(c.Context(), a.repository.named().passwordFile, thePassword)
			if err != nil {
				return err
			}
			b, err := a.dial(c.Context(), url, dial.Options{Create: true})
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, b.Close()) }()
			_, err = repo.Init(c.Context(), b, options)
			switch {
			case errors.Is(err, repo.ErrExists):
				return a.showPresent(c.Context(), b, options.Password, err)
			case errors.Is(err, probe.ErrUnfit) && !errors.Is(err, storage.ErrUnsupported):
				return failure{err: err, hint: "varve repo probe tells more; --single-writer takes it for one writer at a time"}
			case err != nil:
				return err
			}
			// What was here before is gone, and the new one is meant.
			s, err := a.open(c.Context(), b, repo.OpenOptions{Password: options.Password, AcceptRollback: true}) // shows that what was just made opens
			if err != nil {
				return err
			}
			return afterwards("the repository was made", a.showCreated(s, false))
		},
	}
	c.Flags().BoolVar(&options.SingleWriter, "single-writer", false, "take a store that does not decide between writers: only one command at a time may write")
	return c
}

// created is what the operator of a new repository has to keep.
type created struct {
	URL         string `json:"url"`
	Repository  string `json:"repository"`
	Fingerprint string `json:"fingerprint"`
	Already     bool   `json:"already"` // it was there before
}

// showPresent shows the repository that is there already, if the password opens it: an earlier run has made
// it, and could not say so perhaps. Otherwise the refusal to make one stands.
func (a *app) showPresent(ctx context.Context, b *dial.Line, password string, refusal error) error {
	s, err := a.open(ctx, b, repo.OpenOptions{Password: password})
	if errors.Is(err, repo.ErrNoRepository) || errors.Is(err, repo.ErrWrongKey) {
		return refusal
	}
	if err != nil {
		return fmt.Errorf("there is a repository already: %w", err)
	}
	return a.showCreated(s, true)
}

func (a *app) showCreated(s *session, already bool) error {
	r := created{URL: s.URL(), Repository: s.ID().String(), Fingerprint: s.Fingerprint(), Already: already}
	err := a.show(r, func(t *sheet) {
		t.row("Repository:", r.Repository)
		t.row("Location:", name(r.URL))
		t.row("Fingerprint:", r.Fingerprint)
	})
	switch {
	case err != nil || a.output != asTable:
	case already:
		a.note("\nIt is there already, and the password opens it. Nothing was changed.")
	default:
		fmt.Fprintln(a.Stderr, "\nKeep the password and the fingerprint where the backups are not.\n"+
			"Without the password nobody reads them, not even you.")
	}
	return err
}

func (a *app) repoInfo() *cobra.Command {
	return &cobra.Command{
		Use:     "info",
		Short:   "Show what a repository holds, without reading data",
		Long:    "Show a repository's name, size and shape. Only the journal is read, no data.",
		Example: "  varve repo info --repo dir:///srv/backups",
		Args:    arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				i := repositoryInfo{s.Info(), nil}
				i.Cost = s.costOf(nil, i.PackBytes)
				return a.show(i, func(t *sheet) { writeInfo(t, i) })
			})
		},
	}
}

// repositoryInfo is what a repository says of itself, and what it costs.
type repositoryInfo struct {
	repo.Info
	Cost *cost `json:"cost,omitempty"`
}

func writeInfo(t *sheet, i repositoryInfo) {
	checkpoint := "none yet"
	if i.Checkpoint > 0 {
		checkpoint = "after entry " + count(i.Checkpoint-1)
	}
	t.row("Repository:", i.Repository)
	t.row("Location:", name(i.URL))
	t.row("Fingerprint:", i.Fingerprint)
	t.row("Format:", fmt.Sprintf("version %d, chunks of %s on average", i.Version, size(int64(i.Chunker.Avg))))
	t.row("Snapshots:", count(i.Snapshots))
	t.row("Stored:", fmt.Sprintf("%s in %s, of it %s inside the journal", size(i.PackBytes), counted(i.Packs, "pack"), size(i.InlineBytes)))
	i.Cost.row(t)
	t.row("Journal:", fmt.Sprintf("%s, checkpoint %s", entries(i.Entries), checkpoint))
	remembered := "nothing, so a rollback would go unnoticed"
	if i.Remembered.Entries > 0 {
		remembered = entries(i.Remembered.Entries) + ", in " + name(i.Remembered.File)
	}
	t.row("Remembered:", remembered)
	t.row("Index:", counted(i.Segments, "segment"))
}

func entries(n uint64) string {
	if n == 1 {
		return "1 entry"
	}
	return count(n) + " entries"
}
