// Package meter counts what a bucket is asked: requests by kind, and bytes in both directions. These
// are what a store sends a bill for, and what a backup's account and the tests of its cost are made
// of.
package meter

import (
	"context"
	"iter"
	"sync/atomic"

	"github.com/varve-dev/varve/repo/storage"
)

// pageSize is how many names a store gives in one answer to a LIST.
const pageSize = 1000

// Bucket passes every request on and counts it. It is safe for concurrent use.
type Bucket struct {
	bucket                          storage.Bucket
	create, get, stat, list, delete atomic.Int64
	bytesUp, bytesDown              atomic.Int64
}

// Counts are requests by kind, failed ones included, and bytes of objects, without headers and names.
type Counts struct {
	Create int64
	Get    int64
	Stat   int64
	List   int64 // pages of up to 1,000 names, as object stores count them
	Delete int64

	BytesUp   int64 // offered to Create, which sends them even if the name is taken
	BytesDown int64 // returned by Get
}

// New returns a meter in front of b, with all counts zero.
func New(b storage.Bucket) *Bucket { return &Bucket{bucket: b} }

// Counts returns what was counted so far. Taken while requests are running, it may count a request
// and not yet its bytes.
func (b *Bucket) Counts() Counts {
	return Counts{
		Create: b.create.Load(), Get: b.get.Load(), Stat: b.stat.Load(), List: b.list.Load(), Delete: b.delete.Load(),
		BytesUp: b.bytesUp.Load(), BytesDown: b.bytesDown.Load(),
	}
}

// Requests returns the number of requests of all kinds.
func (c Counts) Requests() int64 { return c.Create + c.Get + c.Stat + c.List + c.Delete }

// Sub returns what was counted between earlier and c.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{
		Create: c.Create - earlier.Create, Get: c.Get - earlier.Get, Stat: c.Stat - earlier.Stat,
		List: c.List - earlier.List, Delete: c.Delete - earlier.Delete,
		BytesUp: c.BytesUp - earlier.BytesUp, BytesDown: c.BytesDown - earlier.BytesDown,
	}
}

// Create implements [storage.Bucket].
func (b *Bucket) Create(ctx context.Context, name string, data []byte) error {
	b.create.Add(1)
	b.bytesUp.Add(int64(len(data)))
	return b.bucket.Create(ctx, name, data)
}

// Get implements [storage.Bucket].
func (b *Bucket) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	b.get.Add(1)
	data, err := b.bucket.Get(ctx, name, offset, length)
	b.bytesDown.Add(int64(len(data)))
	return data, err
}

// Stat implements [storage.Bucket].
func (b *Bucket) Stat(ctx context.Context, name string) (storage.Info, error) {
	b.stat.Add(1)
	return b.bucket.Stat(ctx, name)
}

// List implements [storage.Bucket]. The first page counts when the iteration begins, each further one
// with its first name.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		b.list.Add(1)
		names := 0
		for info, err := range b.bucket.List(ctx, prefix, startAfter) {
			if names > 0 && names%pageSize == 0 {
				b.list.Add(1)
			}
			names++
			if !yield(info, err) {
				return
			}
		}
	}
}

// Delete implements [storage.Bucket].
func (b *Bucket) Delete(ctx context.Context, name string) error {
	b.delete.Add(1)
	return b.bucket.Delete(ctx, name)
}

// String implements [storage.Bucket].
func (b *Bucket) String() string { return b.bucket.String() }

// Close implements [storage.Bucket]. The counts stay.
func (b *Bucket) Close() error { return b.bucket.Close() }
