// Package mem is a bucket in memory, for tests.
//
// Left alone it behaves as a perfect store. A [View] with an interceptor shares the objects of a
// bucket but asks the interceptor about every request first, and does to it what the returned
// [Fault] says: fail it before or after its effect, hold its effect back until the test releases it,
// let it happen twice, answer with an old or a broken-off list, with flipped bits or too few bytes.
// Nothing is random here, so a test that decides by a seed replays exactly.
//
//	store := mem.New()                       // what is really stored
//	laptop := store.View(func(ctx context.Context, op mem.Op) mem.Fault {
//		if op.Kind == mem.Create && op.Number == 3 {
//			return mem.Fault{Late: true, Err: mem.ErrNoAnswer}
//		}
//		return mem.Fault{}
//	})
//	… use laptop: its third create fails …
//	store.Release(0)                         // … and takes effect only now
//
// A crashed machine is a view whose interceptor fails every request from some moment on; a machine
// that was suspended is one whose interceptor waits. [Bucket.Clone] copies everything, as a torn-off
// mirror or a restored image of the store would; [Bucket.Put] and [Bucket.Damage] change objects
// behind everybody's back.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

// Bucket is one way of access to objects in memory. Views of one bucket share the objects, the
// requests held back and the history; each has its own interceptor.
type Bucket struct {
	*store
	intercept Interceptor  // nil: no faults
	asked     atomic.Int64 // requests made through this view
}

// store is what the views of a bucket share.
type store struct {
	now func() time.Time

	mu      sync.Mutex
	objects map[string]object
	history []change  // every effect so far, for lists of old times
	held    []*effect // requests whose effect is still to come
}

type object struct {
	data    []byte // never written to: readers and clones share it
	created time.Time
}

func (o object) info(name string) storage.Info {
	return storage.Info{Name: name, Size: int64(len(o.data)), ModTime: o.created}
}

// change is the inverse of one effect: what stood under the name before.
type change struct {
	name   string
	before object
	stood  bool
}

// New returns an empty bucket.
func New() *Bucket { return NewWithClock(time.Now) }

// NewWithClock returns an empty bucket that takes the creation times of its objects from now.
func NewWithClock(now func() time.Time) *Bucket {
	return &Bucket{store: &store{now: now, objects: map[string]object{}}}
}

// View returns another way to the same objects, with its own interceptor and its own count of
// requests. A nil interceptor lets everything through.
func (b *Bucket) View(intercept Interceptor) *Bucket {
	return &Bucket{store: b.store, intercept: intercept}
}

// Clone returns a bucket with the same objects that shares no further fate: requests held back stay
// with the original, and so do interceptors.
func (b *Bucket) Clone() *Bucket {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Bucket{store: &store{now: b.now, objects: maps.Clone(b.objects)}}
}

// Put stores an object under any valid name, whether it is free or not, as nobody may through the
// interface.
func (b *Bucket) Put(name string, data []byte) error {
	if err := storage.CheckName(name); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set(name, data)
	return nil
}

// Damage replaces an object by what spoil makes of a copy of it: shorter, longer, with flipped bits.
// Its creation time stays, as it does when a disk rots.
func (b *Bucket) Damage(name string, spoil func([]byte) []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.objects[name]
	if !ok {
		return fmt.Errorf("damage %s: %w", name, storage.ErrNotFound)
	}
	o.data = spoil(bytes.Clone(o.data))
	b.objects[name] = o
	return nil
}

// Create implements [storage.Bucket].
func (b *Bucket) Create(ctx context.Context, name string, data []byte) error {
	return b.change(ctx, Op{Kind: Create, Name: name, Data: data})
}

// Delete implements [storage.Bucket].
func (b *Bucket) Delete(ctx context.Context, name string) error {
	return b.change(ctx, Op{Kind: Delete, Name: name})
}

// Get implements [storage.Bucket].
func (b *Bucket) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	op := Op{Kind: Get, Name: name, Offset: offset, Length: length}
	fault, err := b.begin(ctx, &op)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, op.failed(fmt.Errorf("%w: offset %d", storage.ErrBadRange, offset))
	}
	o, ok := b.object(name)
	switch {
	case fault.Err != nil:
		return nil, op.failed(fault.Err)
	case !ok:
		return nil, op.failed(storage.ErrNotFound)
	}
	size := int64(len(o.data))
	from := min(offset, size)
	to := size
	if length >= 0 && length < size-from {
		to = from + length
	}
	return fault.spoil(append([]byte{}, o.data[from:to]...)), nil
}

// Stat implements [storage.Bucket].
func (b *Bucket) Stat(ctx context.Context, name string) (storage.Info, error) {
	op := Op{Kind: Stat, Name: name}
	fault, err := b.begin(ctx, &op)
	if err != nil {
		return storage.Info{}, err
	}
	o, ok := b.object(name)
	switch {
	case fault.Err != nil:
		return storage.Info{}, op.failed(fault.Err)
	case !ok:
		return storage.Info{}, op.failed(storage.ErrNotFound)
	}
	return o.info(name), nil
}

// List implements [storage.Bucket]. It shows the objects as they were when the iteration began.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		op := Op{Kind: List, Name: prefix, StartAfter: startAfter}
		fault, err := b.begin(ctx, &op)
		if err != nil {
			yield(storage.Info{}, err)
			return
		}
		infos := b.list(prefix, startAfter, fault.Stale)
		if fault.Err != nil {
			infos = infos[:min(max(fault.Keep, 0), len(infos))]
		}
		for _, info := range infos {
			if err := ctx.Err(); err != nil {
				yield(storage.Info{}, op.failed(err))
				return
			}
			if !yield(info, nil) {
				return
			}
		}
		if fault.Err != nil {
			yield(storage.Info{}, op.failed(fault.Err))
		}
	}
}

// String implements [storage.Bucket].
func (b *Bucket) String() string { return "mem://" }

// Close implements [storage.Bucket]. The objects stay, for other views and for a later look.
func (b *Bucket) Close() error { return nil }

func (s *store) object(name string) (object, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[name]
	return o, ok
}

// list returns the matching objects as they were before the last stale effects.
func (s *store) list(prefix, startAfter string, stale int) []storage.Info {
	s.mu.Lock()
	objects := maps.Clone(s.objects)
	for _, c := range slices.Backward(s.history[max(0, len(s.history)-stale):]) {
		if c.stood {
			objects[c.name] = c.before
		} else {
			delete(objects, c.name)
		}
	}
	s.mu.Unlock()

	infos := []storage.Info{}
	for name, o := range objects {
		if strings.HasPrefix(name, prefix) && name > startAfter {
			infos = append(infos, o.info(name))
		}
	}
	slices.SortFunc(infos, func(x, y storage.Info) int { return strings.Compare(x.Name, y.Name) })
	return infos
}

// set puts an object in place; the caller holds the lock.
func (s *store) set(name string, data []byte) {
	before, stood := s.objects[name]
	s.history = append(s.history, change{name, before, stood})
	s.objects[name] = object{data: bytes.Clone(data), created: s.now()}
}
