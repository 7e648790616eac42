package retry

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

// trial is the history of one request.
type trial struct {
	of    *Bucket
	tries int       // that failed, since the last answer
	began time.Time // when the first of them had failed
	last  error     // what the last of them ended with; nil if none failed
}

// answered forgets the failures: the store is there.
func (t *trial) answered() {
	t.tries, t.last = 0, nil
	t.of.quick.earn()
}

// again takes what a try ended with. It waits and reports true if there is to be another one, or it returns what the
// request ends with.
func (t *trial) again(ctx context.Context, err error) (bool, error) {
	if !errors.Is(err, storage.ErrTemporary) {
		t.of.quick.earn()
		return false, err
	}
	if e := ctx.Err(); e != nil { // no failure of the store, perhaps
		return false, fmt.Errorf("%w: %w", e, err)
	}
	if t.tries++; t.tries == 1 {
		t.began = time.Now()
	}
	t.last = err
	since := time.Since(t.began)
	pause, ok := t.pause(since)
	if !ok {
		return false, fmt.Errorf("%w after %s and %d tries: %w", ErrGaveUp, since.Round(time.Second), t.tries, err)
	}
	if t.of.options.Waiting != nil {
		t.of.options.Waiting(Wait{Cause: err, Since: since, Pause: pause})
	}
	if e := sleep(ctx, pause); e != nil {
		return false, fmt.Errorf("%w; until then it was tried again after: %w", e, err)
	}
	return true, nil
}

// pause returns how long to wait before the next try, unless there is to be none. The last one stands at the end of
// the budget.
func (t *trial) pause(since time.Duration) (pause time.Duration, ok bool) {
	left := t.of.options.Budget - since
	pause = drawn(min(longPause, firstPause<<min(t.tries-1, 10)))
	if !t.of.quick.take() {
		pause = longPause/2 + drawn(longPause/2)
	}
	var e *storage.Error
	if errors.As(t.last, &e) && e.After > 0 {
		if e.After >= left { // it would be no answer to ask before
			return 0, false
		}
		pause += e.After
	}
	return min(pause, left), left > 0
}

// Pause waits for a random part of a time, or until the context ends.
func Pause(ctx context.Context, most time.Duration) error { return sleep(ctx, drawn(most)) }

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drawn returns a random time below the given one. It takes the randomness that everything else takes, so that a
// test which seeds that replays the pauses too.
func drawn(below time.Duration) time.Duration {
	if below <= 0 {
		return 0
	}
	var bytes [8]byte
	_, _ = rand.Read(bytes[:]) // never fails
	return time.Duration(binary.LittleEndian.Uint64(bytes[:]) % uint64(below))
}

// maxQuick is how many quick tries can be in store.
const maxQuick = 32

// ration is the quick tries that a process has.
type ration struct {
	mu   sync.Mutex
	left int
}

func newRation() ration { return ration{left: maxQuick} }

func (r *ration) earn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = min(maxQuick, r.left+1)
}

func (r *ration) take() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return false
	}
	r.left--
	return true
}
