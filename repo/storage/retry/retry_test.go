package retry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

func TestStorage(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return New(mem.New(), Options{}) })
}

// failing is a store that fails each request with a probability, in every way a request can fail.
func failing(store *mem.Bucket, share float64, requests *int) storage.Bucket {
	rng := rand.New(rand.NewPCG(1, 2))
	return store.View(func(_ context.Context, op mem.Op) mem.Fault {
		*requests++
		if rng.Float64() >= share {
			return mem.Fault{}
		}
		causes := []error{mem.ErrNoAnswer, mem.ErrThrottled, &storage.Error{Class: storage.ErrThrottled, After: time.Second, Err: errors.New("429")}}
		return mem.Fault{Err: causes[rng.IntN(len(causes))], AfterEffect: rng.IntN(2) == 0, Keep: rng.IntN(10)}
	})
}

func TestAThirdOfFailuresIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests, faultless := 0, 0
		store := mem.New()
		b := New(failing(store, 0.3, &requests), Options{})
		want := []string{}
		for i := range 300 {
			name := fmt.Sprintf("a/%03d", i)
			want = append(want, name)
			data := []byte(fmt.Sprint(rand.Uint64()))
			if err := b.Create(t.Context(), name, data); err != nil {
				t.Fatal(err)
			}
			if got, err := b.Get(t.Context(), name, 0, -1); err != nil || string(got) != string(data) {
				t.Fatalf("Get = %q, %v, want %q", got, err, data)
			}
			if info, err := b.Stat(t.Context(), name); err != nil || info.Size != int64(len(data)) {
				t.Fatalf("Stat = %v, %v", info, err)
			}
			faultless += 3
		}
		for range 50 {
			got := []string{}
			for info, err := range b.List(t.Context(), "a/", "") {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, info.Name)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("List -want +got\n%s", diff)
			}
			faultless++
		}
		for _, name := range want {
			if err := b.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			faultless++
		}
		if requests > 3*faultless || requests < faultless*5/4 {
			t.Errorf("%d requests, where a store without failures sees %d", requests, faultless)
		}
	})
}

// blackout fails every request for a time from now on, and counts what it is asked meanwhile.
func blackout(store *mem.Bucket, length time.Duration, asked *int) storage.Bucket {
	over := time.Now().Add(length)
	var mu sync.Mutex
	return store.View(func(context.Context, mem.Op) mem.Fault {
		mu.Lock()
		defer mu.Unlock()
		if !time.Now().Before(over) {
			return mem.Fault{}
		}
		*asked++
		return mem.Fault{Err: mem.ErrNoAnswer}
	})
}

func TestABlackoutWithinTheBudgetIsSurvived(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			b := New(blackout(mem.New(), 2*time.Minute, &asked), Options{})
			started := time.Now()
			if err := b.Create(t.Context(), "a", nil); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(started); took < 2*time.Minute || took > 2*time.Minute+longPause {
				t.Errorf("it took %v, want at most one pause longer than the blackout", took)
			}
			if asked > 40 {
				t.Errorf("it was asked %d times", asked)
			}
		})
	}
}

func TestAfterTheBudgetTheErrorSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		b := New(blackout(mem.New(), time.Hour, &asked), Options{Budget: 3 * time.Minute})
		started := time.Now()
		_, err := b.Get(t.Context(), "a", 0, -1)
		if !errors.Is(err, ErrGaveUp) || !errors.Is(err, mem.ErrNoAnswer) || !strings.Contains(err.Error(), fmt.Sprintf("gave up after 3m0s and %d tries: get a: ", asked)) {
			t.Errorf("after %d tries: %v", asked, err)
		}
		if took := time.Since(started); took != 3*time.Minute {
			t.Errorf("tried for %v", took)
		}
	})
}

// A list that ends early must never look like one that is complete.
func TestAListThatCannotGoOnEndsWithItsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New()
		for i := range 5 {
			if err := store.Create(t.Context(), fmt.Sprint(i), nil); err != nil {
				t.Fatal(err)
			}
		}
		b := New(store.View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Number == 1 {
				return mem.Fault{Err: mem.ErrNoAnswer, Keep: 3}
			}
			return mem.Fault{Err: mem.ErrNoAnswer}
		}), Options{})
		names, last := 0, error(nil)
		for _, err := range b.List(t.Context(), "", "") {
			if last = err; err == nil {
				names++
			}
		}
		if names != 3 || !errors.Is(last, ErrGaveUp) {
			t.Errorf("%d names, and then %v; want 3 and ErrGaveUp", names, last)
		}
	})
}

func TestAnOutageIsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 64
		asked := 0
		b := New(blackout(mem.New(), 2*time.Minute, &asked), Options{})
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				if err := b.Create(t.Context(), fmt.Sprint("a/", i), nil); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		// Each asks once, the quick tries are there once for all, and then each asks every ten seconds at most.
		if most := clients + maxQuick + clients*12; asked > most {
			t.Errorf("%d requests in two minutes, want at most %d", asked, most)
		}
	})
}

func TestAnswersAreNotRepeated(t *testing.T) {
	for _, answer := range []error{
		storage.ErrExists, storage.ErrNotFound, storage.ErrNoBucket, storage.ErrBadRange, storage.ErrForbidden, storage.ErrCredentials,
		storage.ErrClock, storage.ErrRegion, storage.ErrUntrusted, storage.ErrUnsupported, errors.New("what nobody foresaw"),
	} {
		asked := 0
		b := New(mem.New().View(func(context.Context, mem.Op) mem.Fault {
			asked++
			return mem.Fault{Err: answer}
		}), Options{Waiting: func(w Wait) { t.Errorf("%v: waits for %v", answer, w.Pause) }})
		_, getErr := b.Get(t.Context(), "a", 0, -1)
		_, statErr := b.Stat(t.Context(), "a")
		var listErr error
		for _, listErr = range b.List(t.Context(), "", "") {
		}
		for _, err := range []error{getErr, statErr, listErr, b.Create(t.Context(), "a", nil), b.Delete(t.Context(), "a")} {
			if !errors.Is(err, answer) {
				t.Errorf("%v became %v", answer, err)
			}
		}
		if asked != 5 {
			t.Errorf("%v: asked %d times for 5 answers", answer, asked)
		}
	}
}

func TestCreateWhoseAnswerWasLost(t *testing.T) {
	large := make([]byte, maxReadBack+1)
	for _, test := range []struct {
		name  string
		data  []byte
		fault mem.Fault // of the first try
		there []byte    // under the name, from somebody else
		want  error
	}{
		{"was done", []byte("ours"), mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: true}, nil, nil},
		{"was not done", []byte("ours"), mem.Fault{Err: mem.ErrNoAnswer}, nil, nil},
		{"came too late", []byte("ours"), mem.Fault{Err: mem.ErrNoAnswer}, []byte("another's"), storage.ErrExists},
		{"another's is longer", []byte("ours"), mem.Fault{Err: mem.ErrNoAnswer}, []byte("ours and more"), storage.ErrExists},
		{"another's is shorter", []byte("ours"), mem.Fault{Err: mem.ErrNoAnswer}, []byte("our"), storage.ErrExists},
		{"the same came before", []byte("ours"), mem.Fault{}, []byte("ours"), storage.ErrExists},
		{"was done and is large", large, mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: true}, nil, storage.ErrExists},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := mem.New()
				if test.there != nil {
					if err := store.Create(t.Context(), "a", test.there); err != nil {
						t.Fatal(err)
					}
				}
				b := New(store.View(func(_ context.Context, op mem.Op) mem.Fault {
					if op.Number == 1 {
						return test.fault
					}
					return mem.Fault{}
				}), Options{})
				if err := b.Create(t.Context(), "a", test.data); !errors.Is(err, test.want) {
					t.Errorf("Create = %v, want %v", err, test.want)
				}
			})
		})
	}
}

func TestCreateThatIsRefusedAfterAnUnclearTryStaysUnclear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(mem.New().View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Number == 1 {
				return mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: true}
			}
			return mem.Fault{Err: storage.ErrForbidden}
		}), Options{})
		if err := b.Create(t.Context(), "a", nil); !errors.Is(err, storage.ErrForbidden) || !errors.Is(err, storage.ErrTemporary) {
			t.Errorf("Create = %v, want that it is forbidden, and unclear", err)
		}
	})
}

func TestRetryAfterIsHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		after := 30 * time.Second
		b := New(mem.New().View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Number == 1 {
				return mem.Fault{Err: &storage.Error{Class: storage.ErrThrottled, After: after, Err: errors.New("503")}}
			}
			return mem.Fault{}
		}), Options{})
		started := time.Now()
		if err := b.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < after || took > after+firstPause {
			t.Errorf("asked again after %v", took)
		}
	})
}

func TestRetryAfterBeyondTheBudgetEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(mem.New().View(func(context.Context, mem.Op) mem.Fault {
			return mem.Fault{Err: &storage.Error{Class: storage.ErrThrottled, After: time.Hour, Err: errors.New("503")}}
		}), Options{})
		started := time.Now()
		if err := b.Delete(t.Context(), "a"); !errors.Is(err, ErrGaveUp) || time.Since(started) > 0 {
			t.Errorf("Delete = %v after %v", err, time.Since(started))
		}
	})
}

func TestAContextEndsThePause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		asked := 0
		b := New(blackout(mem.New(), time.Hour, &asked), Options{})
		started := time.Now()
		_, err := b.Stat(ctx, "a")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, mem.ErrNoAnswer) || time.Since(started) != time.Minute {
			t.Errorf("Stat = %v after %v", err, time.Since(started))
		}
	})
}

func TestWhoWaitsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, told := 0, 0
		last := time.Duration(-1)
		b := New(blackout(mem.New(), time.Minute, &asked), Options{Waiting: func(w Wait) {
			told++
			if !errors.Is(w.Cause, mem.ErrNoAnswer) || w.Since < last || w.Pause < 0 {
				t.Errorf("told of %+v after %v", w, last)
			}
			last = w.Since
		}})
		if err := b.Create(t.Context(), "a", nil); err != nil || told != asked {
			t.Errorf("told of %d pauses after %d failures; %v", told, asked, err)
		}
	})
}
