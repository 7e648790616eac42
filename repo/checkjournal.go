package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// header compares varve.json with what the journal begins with, as opening did, since a repository may
// have been open for long.
func (c *checker) header(ctx context.Context) error {
	_, _, err := c.look(ctx, headerName, func() error {
		raw, err := c.repo.bucket.Get(ctx, headerName, 0, maxHeader+1)
		if errors.Is(err, storage.ErrNotFound) {
			return flawed("it is missing")
		}
		if err == nil && !c.now(func(s *journal.State) bool { return s.Header == seal.HashOf(raw) }) {
			return flawed("it is not the one that the journal begins with")
		}
		return err
	})
	return err
}

// keySlots looks at the slots as far as that is possible without what opens them: each is named by the
// hash of its bytes. Slots are added and removed without a word in the journal, so of one that is gone it is
// missed only if it is the one that opened the repository here, or none is left.
func (c *checker) keySlots(ctx context.Context) error {
	slots, _, err := c.repo.Slots(ctx)
	if err != nil {
		return err
	}
	for _, s := range slots {
		c.report.KeySlots = append(c.report.KeySlots, s.object)
		if s.Problem == "" {
			continue
		}
		if _, _, err := c.look(ctx, s.object, func() error { return c.slotFlaw(ctx, s.object) }); err != nil {
			return err
		}
	}
	own := func(s Slot) bool { return s.Own }
	switch {
	case len(slots) == 0:
		c.find(keyFolder, "no key slot is left: nobody can open the repository again")
	case !slices.ContainsFunc(slots, own):
		c.find(keyFolder, "the key slot %s, which opened the repository just now, is gone: what opened it does so no longer", c.repo.slot.Short())
	}
	return nil
}

// slotFlaw reads the slots again and reports what is wrong with one.
func (c *checker) slotFlaw(ctx context.Context, object string) error {
	slots, _, err := c.repo.Slots(ctx)
	for _, s := range slots {
		if s.object == object && s.Problem != "" {
			return flaw(s.Problem)
		}
	}
	return err
}

// steady is how often a check that is overtaken by commits folds on before it does without comparing
// states, which have to be of the same number of entries.
const steady = 5

// journal folds all entries from the first, whatever cache or checkpoint the repository was opened
// from, and compares the result. The repository itself is then as far or further.
func (c *checker) journal(ctx context.Context) error {
	fresh := journal.Watch(c.repo.bucket, c.repo.keys, c.note)
	defer func() { c.report.Entries, c.report.GivenUp = c.state.Next, len(c.state.Damaged) }()
	for range steady {
		before, _ := fresh.Head()
		err := fresh.Sync(ctx)
		if breaks(err) {
			err = fresh.Sync(ctx) // it goes on where it broke off
		}
		fresh.View(func(s *journal.State) { c.state = s })
		if breaks(err) {
			return c.broken(ctx, err)
		}
		if err != nil {
			return err
		}
		if known, _ := c.repo.journal.Head(); known > c.state.Next && before == c.state.Next {
			return c.broken(ctx, fmt.Errorf("entry %d is absent, %d were seen: %w", before, known, journal.ErrGap))
		}
		if err := c.repo.Sync(ctx); err != nil {
			return err
		}
		if same, err := c.compareState(); err != nil || same {
			return err
		}
	}
	return nil
}

// breaks tells a journal that cannot be followed from a store that does not answer.
func breaks(err error) bool {
	return slices.ContainsFunc([]error{journal.ErrDamaged, journal.ErrGap, journal.ErrRolledBack, journal.ErrVersion},
		func(why error) bool { return errors.Is(err, why) })
}

// note keeps what of an entry the state does not.
func (c *checker) note(e *journal.Stored) {
	for uint64(len(c.sizes)) <= e.Seq {
		c.sizes = append(c.sizes, 0)
	}
	c.sizes[e.Seq] = e.Size()
	if v := e.Checkpoint; v != nil {
		c.vouched[v.Next] = *v
	}
}

// compareState reports whether both states are of the same number of entries and so can be compared.
func (c *checker) compareState() (compared bool, err error) {
	folded, err := c.state.Encode()
	if err != nil {
		return false, err
	}
	c.repo.journal.View(func(s *journal.State) {
		if compared = s.Next == c.state.Next; !compared {
			return
		}
		var known []byte
		if known, err = s.Encode(); err == nil && !bytes.Equal(known, folded) {
			c.find(journal.Folder, "the local cache or a checkpoint tells another state than the entries")
		}
	})
	return compared, err
}

// broken goes on behind an entry that cannot be followed: the repository was opened from a cache or a
// checkpoint that knows what came after. Each entry there is proven by itself and by the one before it.
func (c *checker) broken(ctx context.Context, why error) error {
	at := c.state.Next
	c.find(journal.Name(at), "%v", why)
	var known []byte
	var err error
	c.repo.journal.View(func(s *journal.State) { known, err = s.Encode() })
	if err != nil {
		return err
	}
	if c.state, err = journal.DecodeState(known); err != nil {
		return err
	}
	var before *journal.Stored
	for n := at + 1; n < c.state.Next; n++ {
		e, err := c.repo.journal.Verify(ctx, n)
		switch {
		case breaks(err):
			c.find(journal.Name(n), "%v", err)
			e = nil
		case err != nil:
			return err
		case before != nil && e.Prev != before.Hash:
			c.find(journal.Name(n), "entry %d does not follow entry %d", n, n-1)
		}
		if e != nil {
			c.note(e)
		}
		before = e
	}
	if before != nil && before.Hash != c.state.Head {
		c.find(journal.Name(before.Seq), "entry %d is another one than was seen before", before.Seq)
	}
	return nil
}

// readCheckpoints reads the newest checkpoint that is vouched for, which must be there. Older ones are
// needed by nobody and may be gone; those that are there must be what they were.
func (c *checker) readCheckpoints(ctx context.Context) error {
	newest, listed := c.state.Checkpoint, false
	for _, info := range c.checkpoints {
		next, _ := journal.ParseCheckpointName(info.Name)
		v, known := c.vouched[next]
		if next == newest.Next {
			v, known, listed = newest, true, true
		}
		if known && info.Size != v.Size {
			c.find(info.Name, "it has %d bytes instead of %d", info.Size, v.Size)
		} else if c.data || next == newest.Next {
			if err := c.checkpoint(ctx, next, v, known); err != nil {
				return err
			}
		}
	}
	if newest.Next > 0 && !listed {
		return c.checkpoint(ctx, newest.Next, newest, true)
	}
	return nil
}

// checkpoint reads one checkpoint, which is v if that is known.
func (c *checker) checkpoint(ctx context.Context, next uint64, v journal.Vouched, known bool) error {
	_, _, err := c.look(ctx, journal.CheckpointName(next), func() error {
		got, err := journal.ProveCheckpoint(ctx, c.repo.bucket, c.repo.keys, next)
		switch {
		case errors.Is(err, storage.ErrNotFound) && c.now(func(s *journal.State) bool { return s.Checkpoint.Next > next }):
			return nil // a newer one took its place meanwhile
		case errors.Is(err, storage.ErrNotFound):
			return flawed("it is missing")
		case errors.Is(err, journal.ErrDamaged):
			return flawed("%v", err)
		case err == nil && known && got != v:
			return flawed("it is not the checkpoint that an entry vouches for")
		}
		return err
	})
	return err
}
