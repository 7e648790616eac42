package simulation

import (
	"context"
	cryptorand "crypto/rand"
	"flag"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage/mem"
)

var (
	seeds   = flag.Uint64("seeds", 200, "how many seeds to play")
	from    = flag.Uint64("from", 0, "the first of them")
	without = flag.String("without", "", "roles and faults to leave out, with commas between them")
)

// result is what a run leaves.
type result struct {
	failure string
	sum     uint64
	steps   int
	counts  map[string]int
	trace   []string
}

// detail says what of a run is put down.
type detail int

const (
	none  detail = iota
	brief        // what changes something or goes wrong
	full         // every request
)

// asked is what of a run to put down when nothing goes wrong: of a single one, all.
func asked() detail {
	if *seeds == 1 {
		return full
	}
	return none
}

// longest is how long one run may take by the clock on the wall. It takes some milliseconds, but on a machine
// that is out of memory or has better things to do a process gets no turn for minutes.
const longest = 20 * time.Minute

// play runs one seed, without the roles and faults that are switched off.
func play(t *testing.T, seed uint64, off map[string]bool, how detail) (out result) {
	defer func() {
		if p := recover(); p != nil {
			panic(fmt.Sprintf("seed %d: %v", seed, p))
		}
	}()
	stuck := time.AfterFunc(longest, func() { // synctest does not see who waits for a mutex
		debug.SetTraceback("all")
		panic(fmt.Sprintf("seed %d stands still", seed))
	})
	defer stuck.Stop()
	synctest.Test(t, func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed)
		w := newWorld(seed, off)
		cryptorand.Reader = w // until the end of the test
		defer w.caches.remove()
		w.tracing, w.wordy = how > none, how > brief
		w.begin()
		if w.failure == "" {
			w.end()
		}
		out = result{failure: w.failure, sum: w.sum.Sum64(), steps: w.steps, counts: w.counts, trace: w.trace}
	})
	return out
}

// begin creates the repository, through faults, and then lets all roles loose.
func (w *world) begin() {
	w.start(role{name: "founder", work: founder}, 1)
	w.run()
	if w.failed() {
		return
	}
	if err := w.ghost.unlock(context.Background()); err != nil {
		w.fail("unlock: %v", err)
		return
	}
	w.ghost.observe()
	for i, r := range roles {
		w.start(r, uint64(i+2))
	}
	w.run()
}

// warm lets package-wide pools come to be outside of any run, whose channels belong to it alone.
func warm(t *testing.T) {
	ctx, b := context.Background(), mem.New()
	if _, err := repo.Init(ctx, b, repo.InitOptions{Recipient: slot{}, SingleWriter: true}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(ctx, b, repo.OpenOptions{Identities: []age.Identity{slot{}}})
	if err != nil {
		t.Fatal(err)
	}
	w := r.NewWriter(ctx, repo.WriterOptions{})
	if _, err := writeFolder(ctx, w, 0, 15); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestPromisesHold(t *testing.T) {
	warm(t)
	off := map[string]bool{}
	for _, part := range strings.FieldsFunc(*without, func(r rune) bool { return r == ',' }) {
		if !slices.Contains(parts(), part) {
			t.Fatalf("there is no %q to leave out; there are: %s", part, strings.Join(parts(), ", "))
		}
		off[part] = true
	}
	total := holds(t, off, *seeds)
	for _, what := range append(faultNames, paths...) {
		if total[what] == 0 && *seeds >= enough {
			t.Errorf("in %d seeds there was no %q", *seeds, what)
		}
	}
}

// What the program puts before a store must not make of an unclear answer one that is wrong.
func TestPromisesHoldBehindRepetition(t *testing.T) {
	warm(t)
	holds(t, map[string]bool{impatience: true}, *seeds/10)
}

// holds plays some seeds, fails if one breaks a promise, and returns how often everything occurred.
func holds(t *testing.T, off map[string]bool, seeds uint64) (total map[string]int) {
	t.Helper()
	total, steps := map[string]int{}, 0
	for seed := *from; seed < *from+seeds; seed++ {
		got := play(t, seed, off, asked())
		if got.failure != "" {
			t.Fatal(explain(t, seed, off, got))
		}
		for what, n := range got.counts {
			total[what] += n
		}
		steps += got.steps
		if asked() == full {
			t.Log(strings.Join(got.trace, "\n"))
		}
	}
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(total)) {
		lines = append(lines, fmt.Sprintf("%8d  %s", total[what], what))
	}
	t.Logf("%d seeds, %d steps\n%s", seeds, steps, strings.Join(lines, "\n"))
	return total
}

// enough is how many seeds bring about everything that there is.
const enough = 1000

// explain takes away from a failing run what it does not need in order to fail, and prints the rest.
func explain(t *testing.T, seed uint64, off map[string]bool, got result) string {
	off = maps.Clone(off)
	for _, part := range parts() {
		off[part] = true
		if less := play(t, seed, off, none); less.failure == "" {
			delete(off, part)
		}
	}
	least := play(t, seed, off, brief)
	return fmt.Sprintf("seed %d: %s\n\nleast form, without %s:\n%s\n%s", seed, got.failure,
		strings.Join(slices.Sorted(maps.Keys(off)), ", "), strings.Join(least.trace, "\n"), least.failure)
}

// parts are the names of all that can be switched off.
func parts() (names []string) {
	for _, r := range roles {
		names = append(names, r.name)
	}
	return append(append(names, "caches", "clones", impatience), faultNames...)
}

func TestSameSeedGivesSameTrace(t *testing.T) {
	warm(t)
	for seed := range uint64(20) {
		a, b := play(t, seed, nil, full), play(t, seed, nil, full)
		if a.sum != b.sum || a.steps != b.steps {
			for i := range min(len(a.trace), len(b.trace)) {
				if a.trace[i] != b.trace[i] {
					t.Fatalf("seed %d: runs part at\n%s\n%s", seed, a.trace[i], b.trace[i])
				}
			}
			t.Fatalf("seed %d: %d and %d steps", seed, a.steps, b.steps)
		}
	}
}
