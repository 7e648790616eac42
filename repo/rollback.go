package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seen"
)

// ErrSwapped means that another repository stands where one was seen before.
var ErrSwapped = errors.New("another repository is in its place")

// witness is what this client knows of a repository from earlier days, and what its user has decided
// about it. A journal that does not go on from there is an older copy, or a forgery.
type witness struct {
	memory *seen.Memory
	head   seen.Head // the latest that was seen; no entries if none was
	accept bool      // the present is taken as it is
	given  []error   // what accept has overridden

	kept uint64 // entries in the head that is remembered, as far as known
	anew bool   // the head replaces a later one
}

// recall asks the memory about the repository that stands in the bucket now.
func recall(o OpenOptions, place string, id string) (*witness, error) {
	w := &witness{memory: seen.Open(o.StateDir), accept: o.AcceptRollback}
	w.head, _ = w.memory.Recall(id)
	at := w.memory.At(place)
	here := slices.Contains(at, id)
	if here { // else there is something to keep, though no entry is new
		w.kept = w.head.Next
	}
	if len(at) > 0 && !here {
		err := fmt.Errorf("open %s: it is repository %s, and so far %s was there: %w", place, id, strings.Join(at, " or "), ErrSwapped)
		return w, w.object(err)
	}
	return w, nil
}

// object is an error, unless the user takes the present as it is.
func (w *witness) object(err error) error {
	if !w.accept {
		return err
	}
	w.given = append(w.given, err)
	w.anew = true
	return nil
}

// fingerprint is that of the master key, if it is known, empty if not.
func (w *witness) fingerprint(o OpenOptions) string {
	if o.Fingerprint != "" || w.accept {
		return o.Fingerprint
	}
	return w.head.Fingerprint
}

// attest takes the head of a cached state that does not stand in the bucket for a memory, if there is no
// other and the user has not decided. If it returns false, the cached state is of no more use.
func (w *witness) attest(next uint64, hash blob.Hash) bool {
	if w.head.Next > 0 {
		return false
	}
	w.head.Next, w.head.Hash = next, hash
	return !w.accept
}

// compare refuses a journal that does not go on from the head that was seen.
func (w *witness) compare(ctx context.Context, j *journal.Journal) error {
	next, hash := j.Head()
	if w.head.Next == 0 {
		return nil
	}
	const seenBefore = "%d entries were seen before, up to %s; now there are %d, up to %s"
	if next < w.head.Next {
		return w.object(fmt.Errorf(seenBefore+": %w", w.head.Next, w.head.Hash.Short(), next, hash.Short(), journal.ErrRolledBack))
	}
	then := hash
	if next > w.head.Next {
		e, err := j.Verify(ctx, w.head.Next-1)
		if err != nil {
			return err
		}
		then = e.Hash
	}
	if then != w.head.Hash {
		return w.object(fmt.Errorf(seenBefore+", and entry %d is another one: %w", w.head.Next, w.head.Hash.Short(), next, hash.Short(),
			w.head.Next-1, journal.ErrRolledBack))
	}
	return nil
}

// ahead judges checkpoints that have seen so many entries of another or a longer history than the journal
// tells. Those of a history that the user has given up before say nothing.
func (w *witness) ahead(checkpoint, next uint64) error {
	if checkpoint <= w.head.GivenUp {
		return nil
	}
	err := w.object(fmt.Errorf("a checkpoint has seen %d entries, and they do not lead to the %d of the journal: %w",
		checkpoint, next, journal.ErrRolledBack))
	if err == nil {
		w.head.GivenUp = checkpoint
	}
	return err
}

// remember keeps the head that has been reached. It needs what guards refreshing.
func (r *Repository) remember() {
	w := r.witness
	next, hash := r.journal.Head()
	if next == w.kept && !w.anew {
		return
	}
	w.memory.Keep(seen.Seen{Repository: r.header.Repository.String(), Place: r.bucket.String(), Anew: w.anew,
		Head: seen.Head{Fingerprint: r.keys.Fingerprint(), Next: next, Hash: hash, GivenUp: w.head.GivenUp, Time: time.Now().UTC()}})
	w.kept, w.anew = next, false
}

// AcceptedRollback tells what was amiss when the repository was opened and the user has accepted, or nil.
func (r *Repository) AcceptedRollback() error { return errors.Join(r.witness.given...) }

// MemoryDegraded tells why it is not remembered, or was not known, which head was seen last, or nil.
func (r *Repository) MemoryDegraded() error { return r.witness.memory.Degraded() }

// Remembered is the head of the journal that this client remembers from now on.
type Remembered struct {
	Entries uint64 `json:"entries"` // 0: it remembers nothing, and would not notice a rollback
	File    string `json:"file,omitempty"`
}

func (r *Repository) remembered() Remembered {
	h, _ := r.witness.memory.Recall(r.header.Repository.String())
	return Remembered{Entries: h.Next, File: r.witness.memory.Path()}
}
