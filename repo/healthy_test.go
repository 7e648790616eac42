package repo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// Whatever clients of any limits have done to a repository, in whatever order and however they died, a
// check finds nothing and every live snapshot reads as it was written.
func TestNoAlarmInAHealthyRepository(t *testing.T) {
	histories := 40
	if *everyDamage {
		histories = 1000
	}
	newSpecimen(t, 1) // whatever is made once for all, the compressor's pool of workers, must not belong to a bubble
	for seed := range uint64(histories) {
		synctest.Test(t, func(t *testing.T) { // who dies tries for a while, but not in real time
			s := newHistory(t, seed)
			r, err := s.open(s.bucket)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
			if err != nil || len(report.Findings) > 0 {
				t.Errorf("seed %d: %v, %v", seed, report.Findings, err)
			}
			unreadable, err := s.look(r)
			if err != nil || len(unreadable) > 0 || len(r.Snapshots()) != len(s.live) {
				t.Errorf("seed %d: %d of %d snapshots are live, %v do not read, %v", seed, len(r.Snapshots()), len(s.live), unreadable, err)
			}
		})
	}
}

// history is a repository and what may be done to it next.
type history struct {
	*specimen
	rng   *rand.Rand
	order []journal.SnapshotID        // live ones
	held  map[journal.SnapshotID]bool // of these
	contents
}

// contents are what the snapshots of a history share, so that they rely on each other's packs.
type contents [][]byte

// newHistory lets a handful of clients do what they like.
func newHistory(t testing.TB, seed uint64) *specimen {
	t.Helper()
	s := &specimen{bucket: mem.New(), live: map[journal.SnapshotID][]written{}, gone: map[journal.SnapshotID][]written{}}
	s.init(t)
	h := &history{specimen: s, rng: rand.New(rand.NewPCG(seed, 0)), held: map[journal.SnapshotID]bool{}}
	for i := range 8 {
		h.contents = append(h.contents, noise(seed*100+uint64(i), h.rng.IntN(2000)))
	}
	h.backup(t)
	steps := []func(testing.TB){h.backup, h.backup, h.backup, h.interrupted, h.forgets, h.unforgets, h.holds, h.prunes}
	for range 4 + h.rng.IntN(12) {
		steps[h.rng.IntN(len(steps))](t)
	}
	return s
}

func (h *history) pick() share {
	limits := []Limits{{}, apart, gathers, checkpoints, {Loose: 12, Checkpoint: 5, Pack: 2000, Deposit: 1}}
	what := share{limits: limits[h.rng.IntN(len(limits))]}
	for range 1 + h.rng.IntN(4) {
		what.contents = append(what.contents, h.contents[h.rng.IntN(len(h.contents))])
	}
	if h.rng.IntN(3) == 0 {
		what.secret = fmt.Appendf(nil, "secret %d", h.rng.IntN(3))
	}
	if len(h.order) > 0 && h.rng.IntN(2) == 0 {
		what.inherits = []journal.SnapshotID{h.any()}
	}
	return what
}

func (h *history) any() journal.SnapshotID { return h.order[h.rng.IntN(len(h.order))] }

func (h *history) backup(t testing.TB) {
	t.Helper()
	h.order = append(h.order, h.snapshot(t, h.pick()))
}

// interrupted is a backup whose machine dies at some request. Its last one may have been the commit.
func (h *history) interrupted(t testing.TB) {
	t.Helper()
	dead := *h.specimen
	dead.bucket = dying(h.bucket, 1+h.rng.Int64N(40), h.rng.IntN(2) == 0)
	id, all, err := dead.write(h.pick(), nil)
	if err != nil && !errors.Is(err, mem.ErrCrashed) {
		t.Fatal(err)
	}
	r, err := h.open(h.bucket)
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(r.Snapshots(), func(l journal.Live) bool { return l.ID == id }) {
		h.live[id], h.order = all, append(h.order, id)
	}
}

func (h *history) forgets(t testing.TB) {
	t.Helper()
	if id := h.any(); len(h.order) > 1 && !h.held[id] {
		h.forget(t, id)
		h.order = slices.DeleteFunc(h.order, func(o journal.SnapshotID) bool { return o == id })
	}
}

func (h *history) unforgets(t testing.TB) {
	t.Helper()
	for id := range h.gone {
		err := h.repo.Unforget(t.Context(), id)
		if err == nil {
			h.live[id], h.order = h.gone[id], append(h.order, id)
		} else if !errors.Is(err, ErrGone) {
			t.Fatal(err)
		}
		delete(h.gone, id)
		return
	}
}

func (h *history) holds(t testing.TB) {
	t.Helper()
	id := h.any()
	if h.held[id] {
		h.release(t, id)
	} else {
		h.hold(t, id)
	}
	h.held[id] = !h.held[id]
}

// prunes retires, copies and drops, perhaps what an interrupted backup has just left, and time goes by.
func (h *history) prunes(t testing.TB) {
	t.Helper()
	some := []time.Duration{0, time.Hour, DefaultOrphanAge}
	h.prune(t, PruneOptions{Grace: some[h.rng.IntN(3)], OrphanAge: some[h.rng.IntN(3)], MinLive: []float64{0, 1}[h.rng.IntN(2)]})
	time.Sleep(some[h.rng.IntN(3)]) // of the bubble that the history is in
}
