package dial

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/limit"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/meter"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

func TestLineIsABucket(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return NewLine(mem.New(), LineOptions{}) })
}

func TestLineCountsWhatIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(mem.New().View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Number < 4 {
				return mem.Fault{Err: mem.ErrNoAnswer}
			}
			return mem.Fault{}
		}), LineOptions{})
		if err := l.Create(t.Context(), "a", []byte("abc")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(meter.Counts{Create: 4, BytesUp: 12}, l.Counts()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// While one request waits to be repeated, others have its place.
func TestLineWaitsWithoutAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = time.Minute
		l := NewLine(mem.New().View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Number == 1 {
				return mem.Fault{Err: &storage.Error{Class: storage.ErrThrottled, After: after, Err: errors.New("503")}}
			}
			return mem.Fault{}
		}), LineOptions{Limit: limit.Options{Requests: 1}})
		first := make(chan error)
		started := time.Now()
		go func() { first <- l.Create(t.Context(), "a", nil) }()
		synctest.Wait()
		if err := l.Create(t.Context(), "b", nil); err != nil || time.Since(started) > 0 {
			t.Errorf("the second request ended after %v: %v", time.Since(started), err)
		}
		if err := <-first; err != nil || time.Since(started) < after {
			t.Errorf("the first request ended after %v: %v", time.Since(started), err)
		}
	})
}
