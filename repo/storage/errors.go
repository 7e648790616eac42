package storage

import (
	"errors"
	"fmt"
	"time"
)

// The answers a caller decides on. Drivers wrap them; test with errors.Is.
var (
	// ErrExists means that an object of the name is there already, and durably so.
	ErrExists = errors.New("object exists already")
	// ErrNotFound means that there is no object of the name in a bucket that does exist.
	ErrNotFound = errors.New("object not found")
	// ErrNoBucket means that the bucket itself is absent: a mistyped path, a disk not mounted.
	ErrNoBucket = errors.New("bucket does not exist")
	// ErrBadName means that a name is not one that every store can hold, see [CheckName].
	ErrBadName = errors.New("bad object name")
	// ErrBadRange means that a range begins before the object.
	ErrBadRange = errors.New("bad range")
)

// The classes of failures of stores behind a network, the Class of an [Error]. They are disjoint: a
// failure that is none of them is one that nobody foresaw, and is not repeated.
var (
	// ErrTemporary means that the same request may succeed later: the store is overloaded, throttles
	// us, or the connection broke.
	ErrTemporary = errors.New("the store did not answer or is busy")
	// ErrThrottled is the kind of ErrTemporary by which a store says that it is asked too much.
	ErrThrottled = fmt.Errorf("%w: it asks to slow down", ErrTemporary)
	// ErrCredentials means that the store does not know who is asking: no credentials were found, or
	// they have expired, were revoked, or are wrong.
	ErrCredentials = errors.New("no valid credentials")
	// ErrForbidden means that the store knows who is asking and does not allow it.
	ErrForbidden = errors.New("permission denied by the store")
	// ErrClock means that the clocks of this machine and of the store differ by too much.
	ErrClock = errors.New("the clock differs from the store's")
	// ErrRegion means that the bucket is in another region than the request was sent to.
	ErrRegion = errors.New("bucket is in another region")
	// ErrUntrusted means that the certificate of the store is not one that this machine trusts.
	ErrUntrusted = errors.New("certificate of the store is not trusted")
	// ErrUnsupported means that the store cannot do what was asked: a clone of S3 without conditional
	// writes, for example.
	ErrUnsupported = errors.New("not supported by the store")
)

// An Error is a failure of a store behind a network, with what is to be known about it.
type Error struct {
	// Class is one of the classes above, or [ErrNoBucket].
	Class error
	// Hint says to a user what to do about it, in a sentence without a period at its end: which
	// permission, which option. It may be empty.
	Hint string
	// After is how long the store wants to be left alone, by its Retry-After; zero if it did not say.
	After time.Duration
	// Err is what the store or the connection said.
	Err error
}

// Error names the class and repeats what the store said.
func (e *Error) Error() string { return e.Class.Error() + ": " + e.Err.Error() }

// Unwrap returns the class and the cause.
func (e *Error) Unwrap() []error { return []error{e.Class, e.Err} }
