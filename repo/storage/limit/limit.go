// Package limit keeps a process from taking more of a store, or of the line to it, than it should.
//
// [Bucket] bounds the requests that are under way at once. How many a store takes nobody knows beforehand: so the
// bound follows what it says. When the store asks to slow down ([storage.ErrThrottled]), the bound is halved; with every
// answer it grows, by one for as many answers as it has places, up to [Options.Requests]. This is how TCP shares a line
// among those who know nothing of each other. Of the many answers to one moment of too much only the first counts:
// requests that began before the last halving say nothing about the bound since.
//
// [Bandwidth] paces the bytes of connections. It does so where bytes leave and arrive, in small pieces, because to hold an
// object back and then to send it at full speed would leave as little of the line to others as before.
package limit

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

// defaultRequests is enough to fill a fast line with small objects.
const defaultRequests = 64

// Options bound what is asked of a store. The zero value suits every store.
type Options struct {
	Requests int // under way at once, at most; zero stands for 64
}

// Bucket passes requests on, not too many at once. It is safe for concurrent use.
type Bucket struct {
	bucket storage.Bucket
	places places
}

// New returns a bucket that bounds the requests to b.
func New(b storage.Bucket, o Options) *Bucket {
	if o.Requests <= 0 {
		o.Requests = defaultRequests
	}
	return &Bucket{bucket: b, places: places{most: o.Requests, bound: float64(o.Requests)}}
}

// Create implements [storage.Bucket].
func (b *Bucket) Create(ctx context.Context, name string, data []byte) error {
	return b.places.during(ctx, func() error { return b.bucket.Create(ctx, name, data) })
}

// Get implements [storage.Bucket].
func (b *Bucket) Get(ctx context.Context, name string, offset, length int64) (data []byte, err error) {
	err = b.places.during(ctx, func() error {
		data, err = b.bucket.Get(ctx, name, offset, length)
		return err
	})
	return data, err
}

// Stat implements [storage.Bucket].
func (b *Bucket) Stat(ctx context.Context, name string) (info storage.Info, err error) {
	err = b.places.during(ctx, func() error {
		info, err = b.bucket.Stat(ctx, name)
		return err
	})
	return info, err
}

// List implements [storage.Bucket]. It takes a place until the first name is there, and none while names are given:
// who takes them may make requests, for which it would else wait itself.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		began, err := b.places.take(ctx)
		if err != nil {
			yield(storage.Info{}, err)
			return
		}
		free := sync.OnceFunc(func() { b.places.free(began, err) })
		defer free()
		var info storage.Info
		for info, err = range b.bucket.List(ctx, prefix, startAfter) {
			free()
			if !yield(info, err) {
				return
			}
		}
	}
}

// Delete implements [storage.Bucket].
func (b *Bucket) Delete(ctx context.Context, name string) error {
	return b.places.during(ctx, func() error { return b.bucket.Delete(ctx, name) })
}

// String implements [storage.Bucket].
func (b *Bucket) String() string { return b.bucket.String() }

// Close implements [storage.Bucket].
func (b *Bucket) Close() error { return b.bucket.Close() }

// places are those of requests under way.
type places struct {
	most int

	mu      sync.Mutex
	bound   float64 // at least one
	taken   int
	waiting list.List // of chan struct{}, each closed when its place is free
	halved  time.Time
}

func (p *places) during(ctx context.Context, request func() error) error {
	began, err := p.take(ctx)
	if err != nil {
		return err
	}
	err = request()
	p.free(began, err)
	return err
}

// take waits for a place, and returns when it got it.
func (p *places) take(ctx context.Context) (time.Time, error) {
	p.mu.Lock()
	if p.taken < int(p.bound) && p.waiting.Len() == 0 {
		p.taken++
		p.mu.Unlock()
		return time.Now(), nil
	}
	mine := make(chan struct{})
	e := p.waiting.PushBack(mine)
	p.mu.Unlock()
	select {
	case <-mine:
		return time.Now(), nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-mine: // at the same moment; the next one gets it
		p.taken--
		p.admit()
	default:
		p.waiting.Remove(e)
	}
	return time.Time{}, fmt.Errorf("wait until fewer requests are under way: %w", ctx.Err())
}

// free gives back the place of a request that began and ended so.
func (p *places) free(began time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	switch {
	case errors.Is(err, storage.ErrThrottled):
		if began.After(p.halved) {
			p.bound, p.halved = max(1, p.bound/2), time.Now()
		}
	case !errors.Is(err, storage.ErrTemporary): // what was not answered says nothing
		p.bound = min(float64(p.most), p.bound+1/p.bound)
	}
	p.admit()
}

// admit needs the lock.
func (p *places) admit() {
	for p.taken < int(p.bound) && p.waiting.Len() > 0 {
		close(p.waiting.Remove(p.waiting.Front()).(chan struct{}))
		p.taken++
	}
}
