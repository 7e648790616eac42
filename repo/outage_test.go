package repo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/dial"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/retry"
)

// small makes a small backup ask for much: many packs, deposits and segments.
var small = Limits{Pack: 64 << 10, Inline: 1 << 10, Deposit: 4, Loose: 8}

// contentsOf returns what the n-th backup of a test stores.
func contentsOf(n uint64) (contents [][]byte) {
	for i := range uint64(40) {
		contents = append(contents, noise(1000*n+i, 20<<10))
	}
	return contents
}

// through opens the repository in a store by a line that fails as told, with a new cache.
func through(t *testing.T, store *mem.Bucket, faults mem.Interceptor) (*dial.Line, *Repository, error) {
	line := dial.NewLine(store.View(faults), dial.LineOptions{})
	r, err := Open(t.Context(), line, OpenOptions{Password: password, Limits: small})
	return line, r, err
}

// mustHold fails unless the repository in a store is whole and the snapshot in it has these contents.
func mustHold(t *testing.T, store *mem.Bucket, refs []blob.Ref, contents [][]byte) {
	t.Helper()
	r := reopen(t, store, "")
	for i, ref := range refs {
		got, err := r.Read(t.Context(), ref)
		if diff := cmp.Diff(contents[i], got); err != nil || diff != "" {
			t.Fatalf("content %d: %v", i, err)
		}
	}
	mustBeClean(t, r)
}

// requestsWithoutFaults counts what opening a repository and a backup into it take.
func requestsWithoutFaults(t *testing.T, store *mem.Bucket) int64 {
	line, r, err := through(t, store.Clone(), nil)
	if err != nil {
		t.Fatal(err)
	}
	backup(t, r, contentsOf(2)...)
	return line.Counts().Requests()
}

// begunStore is a store with a repository in which there is a snapshot. What is made once for all, such as the pool of a
// compressor, must not belong to a bubble, so each test makes it before.
func begunStore(t *testing.T) *mem.Bucket {
	store := mem.New()
	initialise(t, store)
	_, r, err := through(t, store, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, refs := backup(t, r, contentsOf(1)...)
	mustHold(t, store, refs, contentsOf(1))
	return store
}

func TestBackupBesideAThirdOfFailuresTakesFewMoreRequests(t *testing.T) {
	begun := begunStore(t)
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			store := begun.Clone()
			faultless := requestsWithoutFaults(t, store)
			rng := rand.New(rand.NewPCG(seed, 0))
			var mu sync.Mutex // requests come from many goroutines
			line, r, err := through(t, store, func(context.Context, mem.Op) mem.Fault {
				mu.Lock()
				defer mu.Unlock()
				if rng.IntN(100) >= 30 {
					return mem.Fault{}
				}
				return mem.Fault{AfterEffect: rng.IntN(2) == 0, Keep: rng.IntN(30), Err: []error{
					mem.ErrNoAnswer, mem.ErrThrottled, &storage.Error{Class: storage.ErrThrottled, After: 5 * time.Second, Err: errors.New("429")},
				}[rng.IntN(3)]}
			})
			if err != nil {
				t.Fatal(err)
			}
			_, refs := backup(t, r, contentsOf(2)...)
			if asked := line.Counts().Requests(); asked > 3*faultless || asked <= faultless {
				t.Errorf("%d requests, without failures %d", asked, faultless)
			}
			mustHold(t, store, refs, contentsOf(2))
		})
	}
}

// blackout fails all requests from the n-th on, for a time.
func blackout(n int64, length time.Duration) mem.Interceptor {
	began := make(chan time.Time, 1)
	return func(_ context.Context, op mem.Op) mem.Fault {
		if op.Number < n {
			return mem.Fault{}
		}
		if op.Number == n {
			began <- time.Now()
		}
		start := <-began
		began <- start
		if time.Since(start) < length {
			return mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: op.Number%2 == 0}
		}
		return mem.Fault{}
	}
}

func TestBackupOutlivesABlackout(t *testing.T) {
	begun := begunStore(t)
	for _, at := range []int64{10, 20, 30} {
		t.Run(fmt.Sprint("at request ", at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := begun.Clone()
				faultless := requestsWithoutFaults(t, store)
				if at >= faultless {
					t.Fatalf("there are only %d requests", faultless)
				}
				started := time.Now()
				line, r, err := through(t, store, blackout(at, 2*time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				_, refs := backup(t, r, contentsOf(2)...)
				if took := time.Since(started); took < 2*time.Minute || took > 3*time.Minute {
					t.Errorf("it took %v", took)
				}
				if asked := line.Counts().Requests(); asked > 3*faultless {
					t.Errorf("%d requests, without the blackout %d", asked, faultless)
				}
				mustHold(t, store, refs, contentsOf(2))
			})
		})
	}
}

func TestBackupIntoALongerBlackoutFailsWithItsCauseAndTheNextGoesOn(t *testing.T) {
	begun := begunStore(t)
	for _, at := range []int64{20, 30} {
		t.Run(fmt.Sprint("at request ", at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := begun.Clone()
				faultless := requestsWithoutFaults(t, store)
				_, r, err := through(t, store, blackout(at, time.Hour))
				if err != nil {
					t.Fatal(err)
				}
				started := time.Now()
				_, _, err = tryBackup(r, Commit{}, contentsOf(2)...)
				if !errors.Is(err, retry.ErrGaveUp) || !errors.Is(err, mem.ErrNoAnswer) {
					t.Errorf("it failed by %v", err)
				}
				// An upload, and the deposit at the end of a session that fails, which has its own bound.
				if took := time.Since(started); took < 5*time.Minute || took > 6*time.Minute {
					t.Errorf("it failed after %v", took)
				}
				line, r, err := through(t, store, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, refs := backup(t, r, contentsOf(2)...)
				if asked := line.Counts().Requests(); asked > faultless+10 {
					t.Errorf("the next backup took %d requests, a first one %d", asked, faultless)
				}
				mustHold(t, store, refs, contentsOf(2))
				if n := len(reopen(t, store, "").Snapshots()); n != 2 {
					t.Errorf("there are %d snapshots", n)
				}
			})
		})
	}
}
