package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/dial"
)

// storeVariable tells a process of the program that its store behaves in a way of its own.
const storeVariable = "VARVE_TEST_STORE"

// dialOdd opens a bucket that behaves in that way.
func dialOdd(way string) func(context.Context, string, dial.Options) (storage.Bucket, error) {
	return func(ctx context.Context, url string, o dial.Options) (storage.Bucket, error) {
		b, err := dial.Open(ctx, url, o)
		if err != nil {
			return nil, err
		}
		switch way {
		case "overwrites":
			return overwriting{b}, nil
		case "undeletable":
			return undeletable{b}, nil
		case "silent":
			return silent{b}, nil
		}
		return nil, fmt.Errorf("no store %s", way)
	}
}

// overwriting takes every create for an update.
type overwriting struct{ storage.Bucket }

func (b overwriting) Create(ctx context.Context, name string, data []byte) error {
	err := b.Bucket.Create(ctx, name, data)
	for errors.Is(err, storage.ErrExists) {
		if err = b.Delete(ctx, name); err == nil {
			err = b.Bucket.Create(ctx, name, data)
		}
	}
	return err
}

// undeletable keeps what it has.
type undeletable struct{ storage.Bucket }

func (undeletable) Delete(_ context.Context, name string) error {
	return fmt.Errorf("delete %s: %w", name, fs.ErrPermission)
}

// silent does not answer those who read.
type silent struct{ storage.Bucket }

func (silent) Get(_ context.Context, name string, _, _ int64) ([]byte, error) {
	return nil, fmt.Errorf("get %s: i/o timeout", name)
}
