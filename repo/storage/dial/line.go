package dial

import (
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/limit"
	"github.com/varve-dev/varve/repo/storage/meter"
	"github.com/varve-dev/varve/repo/storage/retry"
)

// Line is a bucket with all that belongs between a repository and a driver, in the one order that is right:
//
//	repository → retry → limit → meter → driver
//
// The meter counts what really goes out, since that is what a store sends a bill for. A request takes a place among
// those under way only while it is; one that waits to be repeated takes none. And the bound on these sees each
// answer by which the store asks to slow down.
type Line struct {
	storage.Bucket
	meter  *meter.Bucket
	driver storage.Bucket
}

// LineOptions say how a store is asked. The zero value suits every store.
type LineOptions struct {
	Retry retry.Options
	Limit limit.Options
}

// NewLine returns a line to a bucket, and takes that over: Close closes it.
func NewLine(b storage.Bucket, o LineOptions) *Line {
	m := meter.New(b)
	return &Line{Bucket: retry.New(limit.New(m, o.Limit), o.Retry), meter: m, driver: b}
}

// Unwrap returns the driver, for what only some of them can do. What is asked of it is neither repeated nor counted.
func (l *Line) Unwrap() storage.Bucket { return l.driver }

// Counts returns what has gone out so far, repeated requests included.
func (l *Line) Counts() meter.Counts { return l.meter.Counts() }
