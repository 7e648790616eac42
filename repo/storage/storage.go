// Package storage is the repository's one seam to the outside: a [Bucket] of named, immutable
// objects.
//
// A repository needs very little of a store. Objects are written once and never changed, so there
// is no update; the commit protocol rests on a single promise, that of several writers who create
// the same name exactly one succeeds. Whatever keeps that promise and the ones written beside the
// methods of [Bucket] can hold a repository; package storagetest checks them one by one.
//
// The drivers live beside this package: dir keeps objects as files of a folder, mem keeps them in
// memory for tests and can be told to fail in every way a real store does, and cloud keeps them in S3,
// Google Cloud Storage or Azure. Package retry repeats what failed for the moment, meter counts
// requests, and package dial picks a driver by URL.
//
// # Errors
//
// [ErrExists], [ErrNotFound], [ErrNoBucket] and [ErrBadName] are certain answers. After any other
// error of Create or Delete the caller knows nothing: the request may have had its effect, may have
// it later, or never. What a store behind a network says besides is sorted into classes, see [Error].
package storage

import (
	"context"
	"iter"
	"time"
)

// Bucket holds immutable objects under names for which [CheckName] finds nothing to say. Its methods
// may be called from many goroutines and by many processes at once.
type Bucket interface {
	// Create stores an object under a name that is free, else it returns an error that wraps
	// [ErrExists] and changes nothing. Of several creators of one name exactly one succeeds. The
	// object appears whole or not at all, is readable and listed from the moment Create returns,
	// and outlives a power cut from then on. The data is not kept and not changed.
	Create(ctx context.Context, name string, data []byte) error

	// Get returns length bytes of an object from offset on; a negative length means to the end. As
	// with ranges in HTTP, what lies past the end is left out, so the answer may be shorter or
	// empty. An absent object is [ErrNotFound]. The caller owns the slice.
	Get(ctx context.Context, name string, offset, length int64) ([]byte, error)

	// Stat returns what List would say about one object, or [ErrNotFound].
	Stat(ctx context.Context, name string) (Info, error)

	// List returns the objects whose names begin with prefix and come after startAfter, in
	// ascending order of the bytes of their names. An error ends the sequence: a list that ended
	// without one is complete, and one that could not be read is never an empty list. Objects
	// created or deleted meanwhile may be in it or not.
	List(ctx context.Context, prefix, startAfter string) iter.Seq2[Info, error]

	// Delete removes an object. That there is none is no error. A power cut may bring the object
	// back.
	Delete(ctx context.Context, name string) error

	// String returns the URL of the bucket, without secrets.
	String() string

	// Close lets go of connections; the bucket must not be used afterwards.
	Close() error
}

// Info describes one object.
type Info struct {
	Name    string
	Size    int64     // in bytes
	ModTime time.Time // when it was created, by the clock of the store
}
