// Package retry asks a store again that could not answer, and keeps calm while it does.
//
// A store behind a network is overloaded now and then, throttles who asks too much, breaks connections, and
// is out of reach for minutes. What such an answer is, the driver says: an error of the class
// [storage.ErrTemporary]. [Bucket] repeats a request after one, and after nothing else. Any other error would come
// again, or is an answer.
//
// # How often
//
// Between two tries it waits a random time, of up to a fifth of a second at first and of twice as much after each
// failure, up to twenty seconds. That the time is drawn from zero on, and not around its middle, is what brings
// many clients apart that failed at the same moment. What a store says in Retry-After is waited for in addition.
//
// A request is given up when its [Options.Budget] has passed since its first failure. The error says so
// ([ErrGaveUp]), for how long it was tried, and the last cause.
//
// The quick tries at the beginning of a pause are what makes an outage a storm: they multiply the requests of all clients
// at the very moment when the store cannot serve them. So they are rationed. Each answer of the store earns one quick
// try, a few are there from the start, and who has none waits ten to twenty seconds from the first failure on.
//
// # The unclear Create
//
// When the answer to a Create is lost, the object may be there. The next try then finds the name taken, by itself.
// Nobody can tell that from another's object but by reading it: so the object is read back, and if it is the very
// same bytes the Create has succeeded. That is right for whoever made these bytes: entries hold a random number, and
// everything else either does too or is the same for all. Objects too large to be read for that are
// named by the hash of their bytes, and [storage.ErrExists], which is true in any case, is a success to whoever creates
// those.
package retry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

// ErrGaveUp means that a store did not answer for as long as was waited for it. There is no use in asking again
// at once.
var ErrGaveUp = errors.New("gave up")

const (
	defaultBudget = 5 * time.Minute
	firstPause    = 200 * time.Millisecond
	longPause     = 20 * time.Second

	maxReadBack = 4 << 20
)

// Options say how long to insist. The zero value suits every store.
type Options struct {
	// Budget is how long a request is repeated after its first failure. Zero stands for five minutes.
	Budget time.Duration

	// Waiting is told of each pause before it begins, from many goroutines at once. It may be nil.
	Waiting func(Wait)
}

// Wait is a pause before a request is repeated.
type Wait struct {
	Cause error         // what the last try ended with
	Since time.Duration // from the first failure on
	Pause time.Duration // from now on
}

// Bucket repeats the requests to another bucket. It is safe for concurrent use.
type Bucket struct {
	bucket  storage.Bucket
	options Options
	quick   ration
}

// New returns a bucket that asks b, again if need be.
func New(b storage.Bucket, o Options) *Bucket {
	if o.Budget <= 0 {
		o.Budget = defaultBudget
	}
	return &Bucket{bucket: b, options: o, quick: newRation()}
}

// Create implements [storage.Bucket]. If a try was not answered, its error wraps [storage.ErrTemporary], whatever else it is.
func (b *Bucket) Create(ctx context.Context, name string, data []byte) error {
	t := trial{of: b}
	for {
		err := b.bucket.Create(ctx, name, data)
		if t.last != nil && errors.Is(err, storage.ErrExists) {
			return b.own(ctx, name, data, err)
		}
		again, err := t.again(ctx, err)
		switch {
		case again:
		case err != nil && t.last != nil && !errors.Is(err, storage.ErrTemporary):
			return fmt.Errorf("%w; before, and so it is not certain that nothing was done: %w", err, t.last)
		default:
			return err
		}
	}
}

// own decides whether the object that took the name of a Create is that of one of its earlier tries.
func (b *Bucket) own(ctx context.Context, name string, data []byte, taken error) error {
	if len(data) > maxReadBack {
		return taken
	}
	there, err := b.Get(ctx, name, 0, int64(len(data))+1)
	switch {
	case errors.Is(err, storage.ErrNotFound): // an answer to the Get, and none to the Create
		return fmt.Errorf("create %s: %w: the name is taken and yet absent", name, storage.ErrTemporary)
	case err != nil:
		return fmt.Errorf("look whether an unanswered create was done: %w: %w", storage.ErrTemporary, err)
	case !bytes.Equal(there, data):
		return taken
	}
	return nil
}

// Get implements [storage.Bucket]. An answer that broke off is asked for from its beginning, because what a store
// says about the right bytes of an answer is about the whole.
func (b *Bucket) Get(ctx context.Context, name string, offset, length int64) (data []byte, err error) {
	err = b.insist(ctx, func() error {
		data, err = b.bucket.Get(ctx, name, offset, length)
		return err
	})
	return data, err
}

// Stat implements [storage.Bucket].
func (b *Bucket) Stat(ctx context.Context, name string) (info storage.Info, err error) {
	err = b.insist(ctx, func() error {
		info, err = b.bucket.Stat(ctx, name)
		return err
	})
	return info, err
}

// Delete implements [storage.Bucket].
func (b *Bucket) Delete(ctx context.Context, name string) error {
	return b.insist(ctx, func() error { return b.bucket.Delete(ctx, name) })
}

// List implements [storage.Bucket]. A list that broke off goes on after the last name that was given.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		t, after := trial{of: b}, startAfter
		for {
			var failed error
			for info, err := range b.bucket.List(ctx, prefix, after) {
				if err != nil {
					failed = err
					break
				}
				t.answered()
				after = info.Name
				if !yield(info, nil) {
					return
				}
			}
			again, err := t.again(ctx, failed)
			if err != nil {
				yield(storage.Info{}, err)
			}
			if !again {
				return
			}
		}
	}
}

// String implements [storage.Bucket].
func (b *Bucket) String() string { return b.bucket.String() }

// Close implements [storage.Bucket].
func (b *Bucket) Close() error { return b.bucket.Close() }

// insist makes a request until it is answered.
func (b *Bucket) insist(ctx context.Context, request func() error) error {
	t := trial{of: b}
	for {
		if again, err := t.again(ctx, request()); !again {
			return err
		}
	}
}
