// Package cloud is a bucket in an object store, through gocloud.dev/blob. It turns that library's
// portable bucket into a [storage.Bucket]: conditional creates, ranges, and the few certain answers
// that callers decide on. Which store it is, its region and its credentials are settled by whoever
// opens the portable bucket.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/varve-dev/varve/repo/storage"
)

// Bucket is a [storage.Bucket] in an object store.
type Bucket struct {
	bucket *blob.Bucket
	url    string
}

// New returns the bucket whose portable form is given, and takes it over: Close closes it. The URL is
// what String returns; it must hold no secret.
func New(bucket *blob.Bucket, url string) *Bucket { return &Bucket{bucket: bucket, url: url} }

// Create stores an object under a free name by a conditional write.
func (b *Bucket) Create(ctx context.Context, name string, data []byte) error {
	if err := begin(ctx, "create", name); err != nil {
		return err
	}
	// The content type is given, since the library would else guess one from sealed bytes.
	err := b.bucket.WriteAll(ctx, name, data, &blob.WriterOptions{IfNotExist: true, ContentType: "application/octet-stream"})
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return fmt.Errorf("create %s: %w", name, storage.ErrExists)
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return nil
}

// Get returns a range of an object. An empty range asks only whether the object is there, since not
// every store takes one.
func (b *Bucket) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := begin(ctx, "get", name); err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("get %s from %d: %w", name, offset, storage.ErrBadRange)
	}
	if length == 0 {
		_, err := b.Stat(ctx, name)
		return nil, err
	}
	data, err := b.read(ctx, name, offset, length)
	if err == nil || offset == 0 {
		return data, b.describe("get", name, err)
	}
	// A range that begins at or past the end is an error to most stores and empty to us.
	if info, statErr := b.Stat(ctx, name); statErr == nil && offset >= info.Size {
		return nil, nil
	}
	return nil, b.describe("get", name, err)
}

func (b *Bucket) read(ctx context.Context, name string, offset, length int64) (_ []byte, err error) {
	r, err := b.bucket.NewRangeReader(ctx, name, offset, length, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

// Stat returns size and time of an object.
func (b *Bucket) Stat(ctx context.Context, name string) (storage.Info, error) {
	if err := begin(ctx, "stat", name); err != nil {
		return storage.Info{}, err
	}
	a, err := b.bucket.Attributes(ctx, name)
	if err != nil {
		return storage.Info{}, b.describe("stat", name, err)
	}
	return storage.Info{Name: name, Size: a.Size, ModTime: a.ModTime}, nil
}

// List returns the objects of a prefix in order.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Info{}, fmt.Errorf("list: %w", err))
			return
		}
		objects := b.bucket.List(&blob.ListOptions{Prefix: prefix})
		for {
			o, err := objects.Next(ctx)
			if errors.Is(err, io.EOF) && ctx.Err() == nil {
				return
			}
			if ctx.Err() != nil { // the end of a list that nobody waits for is no end
				err = ctx.Err()
			}
			if err != nil {
				yield(storage.Info{}, fmt.Errorf("list %q: %w", prefix, err))
				return
			}
			// What others put here under names that are none of ours is not ours to see.
			if o.Key <= startAfter || storage.CheckName(o.Key) != nil {
				continue
			}
			if !yield(storage.Info{Name: o.Key, Size: o.Size, ModTime: o.ModTime}, nil) {
				return
			}
		}
	}
}

// Delete removes an object, if there is one.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := begin(ctx, "delete", name); err != nil {
		return err
	}
	err := b.bucket.Delete(ctx, name)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	return b.describe("delete", name, err)
}

// String returns the URL of the bucket.
func (b *Bucket) String() string { return b.url }

// Close closes the portable bucket.
func (b *Bucket) Close() error {
	if err := b.bucket.Close(); err != nil {
		return fmt.Errorf("close %s: %w", b.url, err)
	}
	return nil
}

// begin refuses what must not reach the store: a bad name, and a request that nobody waits for.
func begin(ctx context.Context, attempt, name string) error {
	if err := storage.CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", attempt, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", attempt, name, err)
	}
	return nil
}

// describe names the attempt and maps the one answer of a read that callers decide on.
func (b *Bucket) describe(attempt, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case gcerrors.Code(err) == gcerrors.NotFound:
		return fmt.Errorf("%s %s: %w", attempt, name, storage.ErrNotFound)
	}
	return fmt.Errorf("%s %s: %w", attempt, name, err)
}
