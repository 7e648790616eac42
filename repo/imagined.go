package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/dir"
)

// imagined shows a bucket as it would be after changes that are not made: what is created lies in a temporary
// folder, what is deleted is only out of sight. So a dry run takes the steps of a real one, and finds what that
// would find.
type imagined struct {
	storage.Bucket
	made *dir.Bucket
	temp string

	mu   sync.Mutex
	gone map[string]bool // deleted from the real bucket
}

func imagine(b storage.Bucket) (*imagined, error) {
	temp, err := os.MkdirTemp("", "varve-")
	if err != nil {
		return nil, fmt.Errorf("room for a dry run: %w", err)
	}
	made, err := dir.Open(temp, dir.Options{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("room for a dry run: %w", err), os.RemoveAll(temp))
	}
	return &imagined{Bucket: b, made: made, temp: temp, gone: map[string]bool{}}, nil
}

// discard removes the temporary folder. The real bucket stays with its owner.
func (i *imagined) discard() error {
	return errors.Join(i.made.Close(), os.RemoveAll(i.temp))
}

func (i *imagined) isGone(name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.gone[name]
}

// Create implements [storage.Bucket].
func (i *imagined) Create(ctx context.Context, name string, data []byte) error {
	if !i.isGone(name) {
		_, err := i.Bucket.Stat(ctx, name)
		if err == nil {
			return fmt.Errorf("create %s: %w", name, storage.ErrExists)
		}
		if !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
	return i.made.Create(ctx, name, data)
}

// Get implements [storage.Bucket].
func (i *imagined) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	data, err := i.made.Get(ctx, name, offset, length)
	if errors.Is(err, storage.ErrNotFound) && !i.isGone(name) {
		return i.Bucket.Get(ctx, name, offset, length)
	}
	return data, err
}

// Stat implements [storage.Bucket].
func (i *imagined) Stat(ctx context.Context, name string) (storage.Info, error) {
	info, err := i.made.Stat(ctx, name)
	if errors.Is(err, storage.ErrNotFound) && !i.isGone(name) {
		return i.Bucket.Stat(ctx, name)
	}
	return info, err
}

// List implements [storage.Bucket].
func (i *imagined) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		var made []storage.Info
		for info, err := range i.made.List(ctx, prefix, startAfter) {
			if err != nil {
				yield(info, err)
				return
			}
			made = append(made, info)
		}
		for info, err := range i.Bucket.List(ctx, prefix, startAfter) {
			if err != nil {
				yield(info, err)
				return
			}
			before, equal := slices.BinarySearchFunc(made, info.Name, func(m storage.Info, name string) int { return strings.Compare(m.Name, name) })
			for _, m := range made[:before] {
				if !yield(m, nil) {
					return
				}
			}
			if made = made[before:]; !equal && !i.isGone(info.Name) && !yield(info, nil) {
				return
			}
		}
		for _, m := range made {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// Delete implements [storage.Bucket].
func (i *imagined) Delete(ctx context.Context, name string) error {
	if err := i.made.Delete(ctx, name); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gone[name] = true
	return nil
}
