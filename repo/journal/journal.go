// Package journal is the history of a repository: numbered entries, each created once and never
// changed, whose fold is the repository's state.
//
// Every change is one object, journal/<n>, that is created only if it is absent. So two writers can
// never both believe that they wrote entry n, and nothing else is needed to order them: no lock, no
// lease, no clock. An entry is valid by its position, because its writer validated it against exactly
// the entries before it; if another entry took the place meanwhile, the writer looks again at what has
// changed and tries the next number ([Journal.Commit]).
//
// [Entry] is what an entry may say, [State] what all entries up to one number say together, and
// [State.Apply] the fold. Every reader applies the same preconditions, so an entry that breaks one is
// void for all. A [State] can be stored as a checkpoint, from which readers fold on.
//
// Each entry holds the hash of the one before it, so history cannot be altered in the middle without
// the keys. The layout of an entry is in entry.go.
package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// Errors that a caller decides on.
var (
	// ErrDamaged means that an entry or a checkpoint cannot be opened or breaks the chain.
	ErrDamaged = errors.New("journal is damaged")
	// ErrVersion means that an entry says what only a newer version of varve knows.
	ErrVersion = errors.New("repository needs another version of varve")
	// ErrGap means that an entry is absent although a later one exists: a torn copy of a bucket.
	ErrGap = errors.New("journal has a gap")
	// ErrRolledBack means that the journal ends before an entry that this client has already seen, or
	// tells another history.
	ErrRolledBack = errors.New("journal is older than what was seen before")
	// ErrRules means that a stored state was folded by another version's rules: it says nothing, and
	// the entries are folded again.
	ErrRules = errors.New("state follows other rules")
	// ErrInvalid means that an entry breaks a precondition of the fold.
	ErrInvalid = errors.New("entry is not valid here")
	// ErrUnsure means that a commit did not get the store's answer: the entry may stand or not. Who
	// commits again under the same Backup UID commits once.
	ErrUnsure = errors.New("the entry may stand or not")
	// ErrLost means that a store let two creations of one entry win and ours was the one to vanish.
	ErrLost = errors.New("the store lost an entry that it had accepted")
)

// Journal reads and extends the journal of one repository. It is safe for concurrent use; commits of
// one process take turns.
type Journal struct {
	bucket storage.Bucket
	keys   *seal.Keys

	turn  sync.Mutex   // one at a time reads forward or commits
	mu    sync.RWMutex // guards state
	state *State

	seen func(*Stored) // is told of every entry that Sync folds; may be nil
}

// New returns the journal of a bucket whose fold so far is the state: that of a cache or a checkpoint,
// or an empty one. Nothing is read before [Journal.Sync].
func New(bucket storage.Bucket, keys *seal.Keys, from *State) *Journal {
	return &Journal{bucket: bucket, keys: keys, state: from}
}

// Watch returns the journal of a bucket from its first entry on, and tells of every entry that it folds:
// who checks a history sees more of it than the state keeps.
func Watch(bucket storage.Bucket, keys *seal.Keys, seen func(*Stored)) *Journal {
	return &Journal{bucket: bucket, keys: keys, state: new(State), seen: seen}
}

// View calls f with the current state, which must not be changed or kept.
func (j *Journal) View(f func(*State)) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	f(j.state)
}

// Sync reads all entries that came since and folds them. The head is proven by the absence of the
// next entry, never by a listing.
func (j *Journal) Sync(ctx context.Context) error {
	j.turn.Lock()
	defer j.turn.Unlock()
	return j.sync(ctx)
}

// maxAhead is how many entries are asked for at once by who has far to go. Of each only the first bytes
// are held, see firstRead.
const maxAhead = 64

// sync needs the turn. It asks for as many entries at once as it has found so far, so that who is up to
// date asks for one and nobody asks for more absent entries than were there.
func (j *Journal) sync(ctx context.Context) error {
	for found := 0; ; {
		starts, err := j.starts(ctx, j.state.Next, min(max(found, 1), maxAhead))
		if err != nil {
			return err
		}
		for i, s := range starts {
			if !s.there && !slices.ContainsFunc(starts[i:], func(later start) bool { return later.there }) {
				return nil
			}
			if err := j.take(ctx, s); err != nil {
				return err
			}
			found++
		}
	}
}

// start is the beginning of the next entry, as it was read ahead.
type start struct {
	there bool
	data  []byte
}

// starts reads the first bytes of some entries from number n on, all at once.
func (j *Journal) starts(ctx context.Context, n uint64, count int) ([]start, error) {
	all := make([]start, count)
	group, ctx := errgroup.WithContext(ctx)
	for i := range all {
		group.Go(func() error {
			data, err := readStart(ctx, j.bucket, n+uint64(i))
			if errors.Is(err, storage.ErrNotFound) {
				return nil
			}
			all[i] = start{there: err == nil, data: data}
			return err
		})
	}
	return all, group.Wait()
}

// take folds the next entry, whose beginning was read. One that was absent while a later one was there
// has been created since, because entries are created in order; else it is lost.
func (j *Journal) take(ctx context.Context, s start) (err error) {
	n := j.state.Next
	if !s.there {
		s.data, err = readStart(ctx, j.bucket, n)
		if errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("entry %d is absent, but a later one exists: %w", n, ErrGap)
		}
	}
	if err == nil {
		s.data, err = readRest(ctx, j.bucket, n, s.data)
	}
	if err != nil {
		return err
	}
	e, err := open(j.keys, n, s.data)
	if errors.Is(err, ErrDamaged) { // on its way, perhaps
		e, err = j.read(ctx, n)
	}
	if err != nil {
		return err
	}
	if err := j.apply(e); err != nil {
		return err
	}
	if j.seen != nil {
		j.seen(e)
	}
	return nil
}

// apply folds one entry. It needs the turn.
func (j *Journal) apply(e *Stored) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.Apply(e)
}

// read fetches and opens entry n; an absent one is storage.ErrNotFound.
func (j *Journal) read(ctx context.Context, n uint64) (*Stored, error) {
	data, err := readOperations(ctx, j.bucket, n)
	if err != nil {
		return nil, err
	}
	return open(j.keys, n, data)
}

// Verify reads entry n again, opens and checks it. An absent one is [ErrGap].
func (j *Journal) Verify(ctx context.Context, n uint64) (*Stored, error) {
	e, err := j.read(ctx, n)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, fmt.Errorf("read entry %d: %w", n, ErrGap)
	}
	return e, err
}

// EntriesBeyond looks by listing for entries that the fold has not reached although they exist. The
// answer to a non-empty list is [ErrGap]: a missing entry hides them.
func EntriesBeyond(ctx context.Context, bucket storage.Bucket, next uint64) error {
	for info, err := range bucket.List(ctx, Folder, Name(next)) {
		if err != nil {
			return fmt.Errorf("list journal: %w", err)
		}
		if _, ok := ParseName(info.Name); !ok {
			continue
		}
		_, err := bucket.Stat(ctx, Name(next))
		if errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("entry %d is absent, but %s exists: %w", next, info.Name, ErrGap)
		}
		if err != nil {
			return fmt.Errorf("look for entry %d: %w", next, err)
		}
		return nil // both have been created since, in their order
	}
	return nil
}

// Head returns the number of the next entry and the hash of the last one.
func (j *Journal) Head() (next uint64, last blob.Hash) {
	j.View(func(s *State) { next, last = s.Next, s.Head })
	return next, last
}
