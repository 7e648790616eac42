package repo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seen"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// visit opens the repository as a client with a memory and no cache, and returns it.
func visit(t testing.TB, b storage.Bucket, o OpenOptions) *Repository {
	t.Helper()
	o.Password = password
	r, err := Open(context.Background(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// mustRefuse opens as visit does, and wants to be refused and told both heads.
func mustRefuse(t testing.TB, b storage.Bucket, o OpenOptions) {
	t.Helper()
	o.Password = password
	_, err := Open(context.Background(), b, o)
	if !errors.Is(err, journal.ErrRolledBack) {
		t.Errorf("%v, want ErrRolledBack", err)
	} else if !strings.Contains(err.Error(), "were seen before") || !strings.Contains(err.Error(), "now there are") {
		t.Errorf("%v: it does not tell both heads", err)
	}
}

// mustGoOn shows that what is there now is the truth from now on: it opens, is written to, and is whole.
func mustGoOn(t testing.TB, b storage.Bucket, o OpenOptions) {
	t.Helper()
	o.AcceptRollback = false
	backup(t, visit(t, b, o), []byte("onward"))
	r := visit(t, b, o)
	if err := r.AcceptedRollback(); err != nil {
		t.Errorf("something is still amiss: %v", err)
	}
	mustBeClean(t, r)
}

func TestRollbackIsRefusedUntilItIsAccepted(t *testing.T) {
	ctx := context.Background()
	for name, change := range map[string]func(t *testing.T, now, older *mem.Bucket) *mem.Bucket{
		"an older copy": func(_ *testing.T, _, older *mem.Bucket) *mem.Bucket { return older },
		"the last entries removed": func(t *testing.T, now, _ *mem.Bucket) *mem.Bucket {
			for n := uint64(2); n < 4; n++ {
				if err := now.Delete(ctx, journal.Name(n)); err != nil {
					t.Fatal(err)
				}
			}
			return now
		},
		"another history of the same length": func(t *testing.T, _, older *mem.Bucket) *mem.Bucket {
			backup(t, reopen(t, older, ""), []byte("two, otherwise"))
			backup(t, reopen(t, older, ""), []byte("three, otherwise"))
			return older
		},
		"another history that is longer": func(t *testing.T, _, older *mem.Bucket) *mem.Bucket {
			for range 5 {
				backup(t, reopen(t, older, ""), noise(99, 50))
			}
			return older
		},
		"all entries removed": func(t *testing.T, now, _ *mem.Bucket) *mem.Bucket {
			for name := range names(t, now) {
				if !strings.HasPrefix(name, keyFolder) && name != headerName {
					if err := now.Delete(ctx, name); err != nil {
						t.Fatal(err)
					}
				}
			}
			return now
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			initialise(t, b)
			options := OpenOptions{StateDir: t.TempDir(), CacheDir: t.TempDir()}
			r := visit(t, b, options)
			backup(t, r, []byte("one"))
			older := b.Clone()
			backup(t, r, []byte("two"))
			backup(t, r, []byte("three"))
			changed := change(t, b.Clone(), older)

			mustRefuse(t, changed, options)
			options.CacheDir = t.TempDir() // as if it had been deleted
			mustRefuse(t, changed, options)
			mustRefuse(t, changed, options) // it is not forgotten by asking again
			options.CacheDir = ""
			mustRefuse(t, changed, options)

			options.AcceptRollback = true
			if r := visit(t, changed, options); !errors.Is(r.AcceptedRollback(), journal.ErrRolledBack) {
				t.Errorf("accepted, and what was amiss is told as %v", r.AcceptedRollback())
			}
			mustGoOn(t, changed, options)
			options.AcceptRollback, options.CacheDir = false, t.TempDir()
			mustRefuse(t, b, options) // which is the other history now
		})
	}
}

// What was seen through the cache alone, by a client that could not remember, still counts.
func TestCachedStateAloneIsEvidence(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	options := OpenOptions{CacheDir: t.TempDir()}
	r := visit(t, b, options)
	older := b.Clone()
	backup(t, r, []byte("one"))
	mustRefuse(t, older, options)
	mustRefuse(t, older, options)
	options.AcceptRollback = true
	if r := visit(t, older, options); !errors.Is(r.AcceptedRollback(), journal.ErrRolledBack) {
		t.Errorf("accepted, and what was amiss is told as %v", r.AcceptedRollback())
	}
	mustGoOn(t, older, options)
}

// A checkpoint of the history that was given up stays in the bucket, and leads nowhere.
func TestCheckpointOfAHistoryThatWasGivenUpIsPassedOver(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	initialise(t, b)
	options := OpenOptions{StateDir: t.TempDir(), Limits: Limits{Checkpoint: 5}}
	r := visit(t, b, options)
	for i := range uint64(8) {
		backup(t, r, noise(i, 10))
	}
	if r.Info().Checkpoint == 0 {
		t.Fatal("there is no checkpoint")
	}
	for n := uint64(3); n < 9; n++ {
		if err := b.Delete(ctx, journal.Name(n)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password, StateDir: options.StateDir}); !errors.Is(err, journal.ErrRolledBack) {
		t.Fatalf("without its last entries: %v, want ErrRolledBack", err)
	}
	options.AcceptRollback = true
	visit(t, b, options)
	options.AcceptRollback = false
	for i := range uint64(8) { // past the checkpoint, which the new history leaves aside, and to one of its own
		r := visit(t, b, options)
		backup(t, r, noise(100+i, 10))
		if err := r.AcceptedRollback(); err != nil {
			t.Errorf("after %d backups something is still amiss: %v", i, err)
		}
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password}); err != nil {
		t.Errorf("a client that has never been here: %v", err)
	}
}

func TestAnotherRepositoryInItsPlaceIsRefused(t *testing.T) {
	ctx := context.Background()
	b, other := mem.New(), mem.New()
	initialise(t, b)
	initialise(t, other)
	if b.String() != other.String() {
		t.Fatal("the two are not at one place")
	}
	options := OpenOptions{Password: password, StateDir: t.TempDir()}
	visit(t, b, options)
	if _, err := Open(ctx, other, options); !errors.Is(err, ErrSwapped) {
		t.Errorf("another repository: %v, want ErrSwapped", err)
	}
	options.AcceptRollback = true
	if r := visit(t, other, options); !errors.Is(r.AcceptedRollback(), ErrSwapped) {
		t.Errorf("accepted, and what was amiss is told as %v", r.AcceptedRollback())
	}
	options.AcceptRollback = false
	visit(t, other, options) // two disks that take turns are both known from now on
	visit(t, b, options)
}

// A repository that has moved is known at its new place at once, though no entry was added there.
func TestPlaceIsRememberedWithoutANewEntry(t *testing.T) {
	b, other := mem.New(), mem.New()
	initialise(t, b)
	initialise(t, other)
	options := OpenOptions{Password: password, StateDir: t.TempDir()}
	visit(t, elsewhere{b}, options)
	visit(t, b, options)
	if _, err := Open(t.Context(), other, options); !errors.Is(err, ErrSwapped) {
		t.Errorf("another repository at the new place: %v, want ErrSwapped", err)
	}
}

// elsewhere is a bucket at another place.
type elsewhere struct{ storage.Bucket }

func (elsewhere) String() string { return "mem://elsewhere" }

// The same repository ID with another master key is a forgery that knows the ID, which is public.
func TestAnotherMasterKeyUnderTheSameIDIsRefused(t *testing.T) {
	ctx := context.Background()
	b, forged := mem.New(), mem.New()
	initialise(t, b)
	initialise(t, forged)
	options := OpenOptions{Password: password, StateDir: t.TempDir()}
	r := visit(t, b, options)
	f := visit(t, forged, OpenOptions{Password: password})
	r.witness.memory.Keep(seenOf(r, f.ID().String()))
	if _, err := Open(ctx, forged, options); !errors.Is(err, ErrFingerprint) {
		t.Errorf("another master key: %v, want ErrFingerprint", err)
	}
	options.AcceptRollback = true
	if r := visit(t, forged, options); !errors.Is(r.AcceptedRollback(), ErrFingerprint) {
		t.Errorf("accepted, and what was amiss is told as %v", r.AcceptedRollback())
	}
	mustGoOn(t, forged, options)
}

func TestUnusableMemoryFailsNothing(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	garbage := t.TempDir()
	if err := os.WriteFile(filepath.Join(garbage, "seen.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{"a file in place of the folder": file, "a file that is not ours": garbage} {
		r := visit(t, b, OpenOptions{StateDir: dir})
		if r.MemoryDegraded() == nil || r.Info().Remembered.Entries != 0 {
			t.Errorf("%s: nobody is told; %+v", name, r.Info().Remembered)
		}
		backup(t, r, []byte(name))
	}
	r := visit(t, b, OpenOptions{StateDir: t.TempDir()})
	if i := r.Info(); r.MemoryDegraded() != nil || i.Remembered.Entries != i.Entries || i.Remembered.File == "" {
		t.Errorf("a good folder: %v, %+v of %d entries", r.MemoryDegraded(), i.Remembered, i.Entries)
	}
}

// seenOf is a memory of a repository's head, told of another ID.
func seenOf(r *Repository, id string) seen.Seen {
	next, hash := r.journal.Head()
	return seen.Seen{Repository: id, Place: r.URL(), Head: seen.Head{Fingerprint: r.Fingerprint(), Next: next, Hash: hash}}
}
