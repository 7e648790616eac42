package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/retry"
)

// Draft is what a writer wants to commit: the operations, and the bytes of the pack that Add marks as
// inline.
type Draft struct {
	Entry  Entry
	Inline []byte
}

// Committed tells where a draft stands.
type Committed struct {
	Seq    uint64
	Stored int64 // bytes of the entry, with the inline pack
}

// How often and how long a commit tries. Each lost race means that somebody else made progress, so
// the first bound is only against a store that lies; the second is against one that fails.
const (
	maxRaces    = 10_000
	maxFailures = 8
	firstPause  = 50 * time.Millisecond
	longPause   = 5 * time.Second
)

// Commit brings the journal up to date, asks the writer for a draft that is valid at this very
// position, and creates the next entry. When another writer takes the place, it starts over. The
// writer validates against the state it is given, which holds everything before the entry.
//
// When Commit returns nil, the entry stands, was read back, and is folded into the state.
func (j *Journal) Commit(ctx context.Context, draft func(*State) (Draft, error)) (Committed, error) {
	j.turn.Lock()
	defer j.turn.Unlock()
	tx := NewTxID()
	for race := range maxRaces {
		if err := j.sync(ctx); err != nil {
			return Committed{}, err
		}
		d, err := draft(j.state)
		if err != nil {
			return Committed{}, err
		}
		e := &d.Entry
		e.Seq, e.Prev, e.Tx, e.Time = j.state.Next, j.state.Head, tx, time.Now().UnixMilli()
		data, stored, err := j.prepare(e, d.Inline)
		if err != nil {
			return Committed{}, err
		}
		won, err := j.create(ctx, e.Seq, data)
		if err != nil {
			return Committed{}, err
		}
		if won {
			return j.settle(ctx, stored, data)
		}
		if err := retry.Pause(ctx, time.Duration(min(race, 10))*firstPause); err != nil {
			return Committed{}, err
		}
	}
	return Committed{}, fmt.Errorf("commit entry: lost %d races in a row", maxRaces)
}

// prepare returns the stored form of an entry and what everybody else will read in it, which alone
// counts: an entry that cannot be opened again, or would be void, must never stand.
func (j *Journal) prepare(e *Entry, inline []byte) ([]byte, *Stored, error) {
	data, err := encode(j.keys, e, inline)
	if err != nil {
		return nil, nil, err
	}
	stored, err := open(j.keys, e.Seq, data)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: it does not open again: %w", ErrInvalid, err)
	}
	return data, stored, j.state.Validate(&stored.Entry)
}

// create tries to put an entry at its place until it is certain whose entry stands there. Repeating
// the same bytes cannot hurt: the place is taken, or they land exactly where they are valid. If each try was
// refused, the entry does not stand; else, without an answer, nobody knows.
func (j *Journal) create(ctx context.Context, n uint64, data []byte) (won bool, err error) {
	unsure := false
	err = insist(ctx, func() error {
		err := j.bucket.Create(ctx, Name(n), data)
		unsure = unsure || !refused(err)
		if errors.Is(err, storage.ErrExists) {
			won, err = j.ours(ctx, n, data)
			return err
		}
		won = err == nil
		return err
	})
	switch {
	case err != nil && unsure:
		return false, fmt.Errorf("create entry %d: %w: %w", n, ErrUnsure, err)
	case err != nil:
		return false, fmt.Errorf("create entry %d: %w", n, err)
	}
	return won, nil
}

// insist repeats a request until its answer is one to go on with, within bounds. A store that does not answer is the
// business of package retry, and what that gave up is not begun again. Here is what only the journal knows to be no
// answer: an entry that is not there although it was created, bytes that are nobody's entry.
func insist(ctx context.Context, request func() error) error {
	for failures := 0; ; failures++ {
		err := request()
		if err == nil || failures == maxFailures || ctx.Err() != nil || errors.Is(err, retry.ErrGaveUp) || refused(err) {
			return err
		}
		if retry.Pause(ctx, min(longPause, firstPause<<failures)) != nil {
			return err
		}
	}
}

// refused reports whether a store has said that it does not do what it was asked, so that nothing was done and asking
// again is of no use. After a try that was not answered no error is of this kind, see package retry.
func refused(err error) bool {
	_, sorted := errors.AsType[*storage.Error](err)
	return sorted && !errors.Is(err, storage.ErrTemporary)
}

// ours reports whether the stored entry n is the one that we tried to create.
func (j *Journal) ours(ctx context.Context, n uint64, data []byte) (bool, error) {
	end, _ := operationsEnd(data) // encoded by ourselves
	stored, err := readOperations(ctx, j.bucket, n)
	if err != nil {
		return false, err
	}
	if len(stored) >= end && bytes.Equal(stored[:end], data[:end]) {
		return true, nil
	}
	if _, err := open(j.keys, n, stored); err != nil {
		return false, err // bytes that are nobody's entry may be better when they are read again
	}
	return false, nil
}

// settle reads a created entry and the one before it back, since some stores let two creates win now
// and then, and folds it.
func (j *Journal) settle(ctx context.Context, e *Stored, data []byte) (Committed, error) {
	mine := false
	err := insist(ctx, func() (err error) {
		mine, err = j.ours(ctx, e.Seq, data)
		return err
	})
	if errors.Is(err, storage.ErrNotFound) || (err == nil && !mine) {
		return Committed{}, fmt.Errorf("read back entry %d: %w", e.Seq, ErrLost)
	}
	var before *Stored
	if err == nil && e.Seq > 0 {
		err = insist(ctx, func() (err error) {
			before, err = j.Verify(ctx, e.Seq-1)
			return err
		})
	}
	if err != nil {
		return Committed{}, fmt.Errorf("read back entry %d: %w: %w", e.Seq, ErrUnsure, err)
	}
	if before != nil && before.Hash != e.Prev {
		return Committed{}, fmt.Errorf("entry %d changed under ours: %w", e.Seq-1, ErrLost)
	}
	if err := j.apply(e); err != nil {
		return Committed{}, err
	}
	return Committed{Seq: e.Seq, Stored: int64(len(data))}, nil
}
