package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage/dial"
	"github.com/varve-dev/varve/repo/storage/meter"
)

// repositoryVariable names the repository if --repo does not.
const repositoryVariable = "VARVE_REPOSITORY"

// repositoryFlags say which repository is meant and how it is opened.
type repositoryFlags struct {
	url, cacheDir, stateDir string
	fingerprint             fingerprint
	credentials             credentials
	noCache, acceptRollback bool
	line                    lineFlags
	prices                  prices
}

func (f *repositoryFlags) add(c *cobra.Command) {
	flags := c.PersistentFlags()
	flags.StringVar(&f.url, "repo", "", "the `URL` of the repository: dir:///path, /path or ./path, s3://BUCKET/PREFIX, gs://… or azblob://… (default $"+repositoryVariable+")")
	flags.StringVar(&f.credentials.passwordFile, "password-file", "", "the `FILE` that holds the password (default $"+passwordVariable+", else ask)")
	flags.StringVar(&f.credentials.identityFile, "identity-file", "", "the `FILE` that holds age identities, in place of a password (default $"+identityVariable+")")
	flags.StringVar(&f.credentials.kms, "kms", "", "the `URL` of the KMS key, in place of a password, as given to key add (default $"+keeperVariable+")")
	flags.Var(&f.fingerprint, "fingerprint", "the master key's `FINGERPRINT` as init showed it; another key is refused")
	flags.StringVar(&f.cacheDir, "cache-dir", "", "the `FOLDER` of the local cache (default varve in the user's cache folder)")
	flags.BoolVar(&f.noCache, "no-cache", false, "keep no local cache: the index is read each time")
	flags.StringVar(&f.stateDir, "state-dir", "", "the `FOLDER` that remembers what was seen of each repository (default varve in the user's state folder)")
	flags.BoolVar(&f.acceptRollback, "accept-rollback", false, "take the repository as it is now, though it is older than, or another one than, what was seen before")
	f.line.add(c)
	flags.Var(&f.prices, "prices", "what the store takes, to estimate costs by: "+strings.Join(f.prices.choices(), ", ")+",\nor a file (default as the URL tells)")
}

// location returns the repository's URL.
func (f *repositoryFlags) location() (string, error) {
	if f.url != "" {
		return f.url, nil
	}
	if url := os.Getenv(repositoryVariable); url != "" {
		return url, nil
	}
	return "", failure{err: errors.New("no repository is named"), code: exitUsage, hint: "give --repo URL, or set " + repositoryVariable}
}

// cache returns the folder of the local cache, or nothing for none.
func (a *app) cache() string {
	f := &a.repository
	switch {
	case f.noCache:
		return ""
	case f.cacheDir != "":
		return f.cacheDir
	}
	folder, err := os.UserCacheDir()
	if err != nil {
		a.warn("there is no local cache: %v", err)
		return ""
	}
	return filepath.Join(folder, "varve")
}

// stateHome names the folder of users' programs for what must outlive a cache, if it is not the default.
const stateHome = "XDG_STATE_HOME"

// state returns the folder of what was seen, or nothing where there is none.
func (a *app) state() string {
	if a.repository.stateDir != "" {
		return a.repository.stateDir
	}
	if folder := os.Getenv(stateHome); filepath.IsAbs(folder) {
		return filepath.Join(folder, "varve")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		a.warn("what is seen of the repository is not remembered, so a rollback goes unnoticed: %v", err)
		return ""
	}
	return filepath.Join(home, ".local", "state", "varve")
}

// session is an open repository and the meter of what it costs.
type session struct {
	*repo.Repository
	bucket *dial.Line
	prices meter.Prices
	priced bool // there are prices
	warned bool // that the cache is not used

	forgetful bool // warned that nothing is remembered
}

// withRepository opens the repository, hands it to use, and closes it.
func (a *app) withRepository(ctx context.Context, use func(*session) error) error {
	return a.withBucket(ctx, func(b *dial.Line, o repo.OpenOptions) error {
		s, err := a.open(ctx, b, o)
		if err != nil {
			return err
		}
		err = use(s)
		a.warnOfCache(s) // whose disk may have become full meanwhile
		return err
	})
}

// withBucket opens the bucket of the repository, hands it to use with what opens that, and closes it.
func (a *app) withBucket(ctx context.Context, use func(*dial.Line, repo.OpenOptions) error) (err error) {
	url, err := a.repository.location()
	if err != nil {
		return err
	}
	bucket, err := a.dial(ctx, url, dial.Options{})
	if err != nil {
		return err
	}
	defer func() {
		if e := bucket.Close(); e != nil && err == nil {
			err = fmt.Errorf("close %s: %w", bucket, e)
		}
	}()
	return a.withCredentials(ctx, func(o repo.OpenOptions) error { return use(bucket, o) })
}

// misnamed helps with a folder that was given without a dot in front. What may hold a secret is not shown.
func misnamed(url string, err error) error {
	if errors.Is(err, dial.ErrBadURL) && url != "" && !strings.ContainsAny(url, ":@") {
		return failure{err: err, hint: "for the folder " + name(url) + " here, say ./" + url}
	}
	return err
}

// refused tells a repository that the system keeps from this user from one that is not there.
func refused(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return failure{err: err, code: exitUnreachable, hint: "this user may not read the repository"}
	}
	return err
}

// open opens the repository by credentials and the flags.
func (a *app) open(ctx context.Context, bucket *dial.Line, o repo.OpenOptions) (*session, error) {
	r, err := repo.Open(ctx, bucket, a.withFlags(o))
	if err != nil {
		return nil, refused(err)
	}
	s := &session{Repository: r, bucket: bucket}
	if url, err := a.repository.location(); err == nil {
		s.prices, s.priced = a.repository.prices.at(url)
	}
	a.warnOfCache(s)
	if err := r.AcceptedRollback(); err != nil && a.repository.acceptRollback {
		a.warn("accepted: %v", err)
	}
	if err := r.IndexDegraded(); err != nil {
		a.warn("the tables of packs are read instead of an index segment, until varve repo repair index has made it anew: %v", err)
	}
	return s, nil
}

// withFlags adds to credentials what the flags say.
func (a *app) withFlags(o repo.OpenOptions) repo.OpenOptions {
	o.Fingerprint, o.CacheDir, o.StateDir, o.Limits = string(a.repository.fingerprint), a.cache(), a.state(), a.Limits
	o.AcceptRollback = o.AcceptRollback || a.repository.acceptRollback
	return o
}

// warnOfCache says once that the cache or the memory could not do its work.
func (a *app) warnOfCache(s *session) {
	if err := s.CacheDegraded(); err != nil && !s.warned {
		s.warned = true
		a.warn("the local cache is not used: %v", err)
	}
	if err := s.MemoryDegraded(); err != nil && !s.forgetful {
		s.forgetful = true
		a.warn("what is seen of the repository is not remembered, so a rollback may go unnoticed: %v", err)
	}
}
