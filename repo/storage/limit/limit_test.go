package limit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

func TestStorage(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return New(mem.New(), Options{Requests: 1}) })
}

// server is a store that takes a second for each request, and throttles when it is asked more than it serves at once.
type server struct {
	serves int

	mu               sync.Mutex
	now, most, total int
	throttled        int
}

func (s *server) bucket() storage.Bucket {
	return mem.New().View(func(ctx context.Context, _ mem.Op) mem.Fault {
		s.mu.Lock()
		s.total++
		s.now++
		s.most = max(s.most, s.now)
		over := s.now > s.serves
		if over {
			s.throttled++
		}
		s.mu.Unlock()
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
		if over {
			return mem.Fault{Err: mem.ErrThrottled}
		}
		return mem.Fault{}
	})
}

// ask makes requests from many goroutines and returns how many were answered.
func ask(t *testing.T, b storage.Bucket, clients, each int) (answered int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for range clients {
		all.Go(func() {
			for range each {
				_, err := b.Get(t.Context(), "a", 0, -1)
				mu.Lock()
				if errors.Is(err, storage.ErrNotFound) {
					answered++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return answered
}

func TestNoMoreRequestsThanAllowedAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server{serves: 1000}
		if answered := ask(t, New(s.bucket(), Options{Requests: 7}), 50, 4); answered != 200 || s.most != 7 {
			t.Errorf("%d of 200 answered, %d under way at once, want 7", answered, s.most)
		}
	})
}

func TestTheBoundFollowsWhatTheStoreTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 100
		s := server{serves: 10}
		b := New(s.bucket(), Options{Requests: 64})
		started := time.Now()
		ask(t, b, 64, each)
		// Sixty-four at once would be throttled five times out of six for ever.
		if share := float64(s.throttled) / float64(s.total); share > 0.2 {
			t.Errorf("%.0f %% of %d requests were throttled", 100*share, s.total)
		}
		// Two thirds of what the store can do are what halving leaves on the average.
		if best := time.Duration(s.total-s.throttled) * time.Second / 10; time.Since(started) > best*3/2 {
			t.Errorf("it took %v, where %v are possible", time.Since(started), best)
		}
	})
}

func TestOneMomentOfTooMuchHalvesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server{serves: 0}
		b := New(s.bucket(), Options{Requests: 16})
		ask(t, b, 16, 1)
		if b.places.bound != 8 {
			t.Errorf("the bound is %v after sixteen requests of one moment were throttled, want 8", b.places.bound)
		}
		ask(t, b, 16, 1)
		ask(t, b, 16, 10)
		if b.places.bound != 1 {
			t.Errorf("the bound is %v, want 1 and never less", b.places.bound)
		}
		s.serves = 100
		ask(t, b, 16, 100)
		if b.places.bound != 16 {
			t.Errorf("the bound is %v after many answers, want 16 again", b.places.bound)
		}
	})
}

func TestABrokenLineIsNoReasonToAskLess(t *testing.T) {
	b := New(mem.New().View(func(context.Context, mem.Op) mem.Fault { return mem.Fault{Err: mem.ErrNoAnswer} }), Options{Requests: 16})
	ask(t, b, 16, 4)
	if b.places.bound != 16 {
		t.Errorf("the bound is %v, want 16", b.places.bound)
	}
}

func TestWhoNoLongerWaitsTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server{serves: 100}
		b := New(s.bucket(), Options{Requests: 1})
		var all sync.WaitGroup
		for i := range 40 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*500*time.Millisecond)
			defer cancel()
			all.Go(func() {
				if _, err := b.Stat(ctx, "a"); !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if b.places.taken != 0 || b.places.waiting.Len() != 0 || s.most != 1 {
			t.Errorf("%d places are taken, %d wait, %d were under way at once", b.places.taken, b.places.waiting.Len(), s.most)
		}
	})
}

func TestRequestsInsideAListDoNotWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(mem.New(), Options{Requests: 1})
		for i := range 3 {
			if err := b.Create(t.Context(), fmt.Sprint(i), nil); err != nil {
				t.Fatal(err)
			}
		}
		for info, err := range b.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Delete(t.Context(), info.Name); err != nil {
				t.Fatal(err)
			}
		}
		if b.places.taken != 0 {
			t.Errorf("%d places are still taken", b.places.taken)
		}
	})
}

func TestBandwidth(t *testing.T) {
	const bytes = 10 << 20
	for _, test := range []struct {
		name     string
		up, down int64
		want     time.Duration
	}{
		{"of what goes up", 1 << 20, 0, 10 * time.Second},
		{"of what comes down", 0, 2 << 20, 5 * time.Second},
		{"of the slower one", 1 << 20, 512 << 10, 20 * time.Second},
		{"of a very slow line", 0, 10_000, 1048 * time.Second},
		{"of none", 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				b := NewBandwidth(test.up, test.down)
				from, to := b.Conn(here), b.Conn(there)
				started := time.Now()
				sent := make(chan error)
				go func() {
					_, err := from.Write(make([]byte, bytes))
					sent <- errors.Join(err, from.Close())
				}()
				n, err := io.Copy(io.Discard, to)
				if err := errors.Join(err, <-sent, to.Close()); err != nil || n != bytes {
					t.Fatalf("%d of %d bytes came, %v", n, bytes, err)
				}
				if took := time.Since(started); took < test.want*95/100 || took > test.want*105/100 {
					t.Errorf("%d bytes took %v, want %v", bytes, took, test.want)
				}
			})
		})
	}
}

func TestCloseEndsAPacedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, there) }()
		c := NewBandwidth(1, 0).Conn(here)
		sent := make(chan error)
		go func() {
			_, err := c.Write(make([]byte, 1<<20))
			sent <- err
		}()
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-sent; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write = %v, want net.ErrClosed", err)
		}
		_ = there.Close()
	})
}
