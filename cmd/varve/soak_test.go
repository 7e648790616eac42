package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// soakTime is short for a test among others; make soak takes ten minutes.
var soakTime = flag.Duration("soak", 3*time.Second, "how long processes work on one repository while others kill them")

const (
	soakWriters = 8
	soakPruners = 2
	soakReaders = 1

	// soakKept is how many acknowledged snapshots stay before the oldest are forgotten.
	soakKept = 24

	// soakFiles are in a writer's folder, out of soakContents contents that all writers share. So what one
	// has forgotten, and a prune takes away, another one writes at the same time.
	soakFiles, soakContents = 12, 60
)

// A soak is one repository with all who work on it.
type soak struct {
	place
	ledger ledger
	herd   herd

	once sync.Once
	stop context.CancelFunc
	err  error // the first that ended it
}

// Writers, prunes and forgetters work on one repository at once, as processes that are killed and paused
// at random. What a writer was told to be stored restores bit-exact for as long as it is not forgotten,
// and what nothing needs is gone after two prunes.
func TestNothingAcknowledgedIsLostInALongRun(t *testing.T) {
	t.Parallel()
	s := &soak{place: newPlace(t)}
	ctx, stop := context.WithTimeout(t.Context(), *soakTime)
	defer stop()
	s.stop = stop
	var all sync.WaitGroup
	start := func(n int, name string, step func(ctx context.Context, name string, r *rand.Rand) error) {
		for i := range n {
			name := fmt.Sprintf("%s-%d", name, i)
			r := rand.New(rand.NewPCG(*seed, uint64(len(name))<<32|uint64(name[0])<<16|uint64(i)))
			all.Go(func() {
				for ctx.Err() == nil {
					if err := step(ctx, name, r); err != nil {
						s.fail(fmt.Errorf("%s: %w", name, err))
					}
				}
			})
		}
	}
	start(soakWriters, "writer", s.write)
	start(soakPruners, "prune", s.prune)
	start(1, "forgetter", s.forget)
	start(soakReaders, "reader", s.read)
	start(3, "disturber", s.disturb)
	all.Wait()
	if s.err == nil {
		s.err = s.finish()
	}
	verdict := "nothing was lost"
	if s.err != nil {
		verdict = "FAILED"
	}
	t.Logf("seed %d, %v: %v; %v: %s", *seed, *soakTime, &s.ledger, &s.herd, verdict)
	if s.err != nil {
		t.Error(s.err)
	}
}

// fail ends the soak with its first error.
func (s *soak) fail(err error) {
	s.once.Do(func() { s.err = err; s.stop() })
}

// write changes the writer's folder and backs it up.
func (s *soak) write(_ context.Context, name string, r *rand.Rand) error {
	for range 1 + r.IntN(3) {
		content := r.IntN(soakContents)
		if r.IntN(4) == 0 {
			content = soakContents + r.IntN(1<<20) // nobody else has it
		}
		data := make([]byte, 500+content*7919%40_000)
		_, _ = rand.NewChaCha8([32]byte{byte(content), byte(content >> 8), byte(content >> 16)}).Read(data) // it returns no error
		s.place.write(name, fmt.Sprintf("file-%02d", r.IntN(soakFiles)), data)
	}
	tree, err := treeOf(s.path(name))
	if err != nil {
		return err
	}
	backup := s.ledger.attempt(name, tree)
	out, ended, err := s.play(r, "backup", "create", backup, "--objects", "none", "--volume", "data="+s.path(name), "-o", "json")
	if err != nil || ended != done {
		return err
	}
	var made listed
	if err := json.Unmarshal(out, &made); err != nil || made.Status != "Completed" {
		return fmt.Errorf("backup %s is %q (%w)", backup, made.Status, err)
	}
	s.ledger.acknowledge(backup, made.ID)
	return nil
}

// prune takes away what no snapshot needs, at once or after a moment.
func (s *soak) prune(_ context.Context, _ string, r *rand.Rand) error {
	moments := []string{"0", "100ms", "1s", "5s"}
	_, _, err := s.play(r, "repo", "prune", "--max-drop", "100%",
		"--grace", moments[r.IntN(len(moments))], "--orphan-age", moments[r.IntN(len(moments))])
	return err
}

// forget forgets acknowledged snapshots of which there are too many, any of them.
func (s *soak) forget(ctx context.Context, _ string, r *rand.Rand) error {
	pause(ctx, r, 200*time.Millisecond)
	ids := s.ledger.release(r, soakKept)
	if len(ids) == 0 {
		return nil
	}
	_, ended, err := s.play(r, append([]string{"snapshot", "forget"}, ids...)...)
	if err == nil && ended == done {
		s.ledger.forgotten(ids)
	}
	return err
}

// read restores any acknowledged snapshot.
func (s *soak) read(ctx context.Context, name string, r *rand.Rand) error {
	pause(ctx, r, 200*time.Millisecond)
	one, ok := s.ledger.any(r)
	if !ok {
		return nil
	}
	back := s.path("back", name)
	if err := os.RemoveAll(back); err != nil {
		return err
	}
	_, ended, err := s.play(r, "restore", "create", "--from-backup", one.id, "--volume", "data="+back)
	switch {
	case s.ledger.isReleased(one): // it may be gone
		return nil
	case err != nil || ended != done:
		return err
	}
	return one.sameAs(back)
}

// disturb kills or stops one of the processes. What was stopped goes on later, or is killed.
func (s *soak) disturb(ctx context.Context, _ string, r *rand.Rand) error {
	pause(ctx, r, 200*time.Millisecond)
	c := s.herd.pick(r)
	if c == nil {
		return nil
	}
	if r.IntN(2) == 0 {
		s.herd.signal(c, syscall.SIGSTOP)
		pause(ctx, r, 2*time.Second)
		s.herd.signal(c, syscall.SIGCONT)
		if r.IntN(2) == 0 {
			return nil
		}
	}
	s.herd.signal(c, syscall.SIGKILL)
	return nil
}

// pause waits for a random time, or until the soak ends.
func pause(ctx context.Context, r *rand.Rand, most time.Duration) {
	afterTime(time.Duration(r.Int64N(int64(most))))(ctx)
}

// How a process of the soak ended.
type ending int

const (
	done      ending = iota
	killed           // by the soak
	overtaken        // exit code 7: others were faster, and it must be run again
)

// play runs the program, one time out of two with small limits, with the cache of one of three machines
// or with none.
func (s *soak) play(r *rand.Rand, args ...string) (stdout []byte, how ending, err error) {
	machine := r.IntN(4)
	if machine == 0 {
		args = append(args, "--no-cache")
	}
	c, out, stderr := s.place.command(s.t.Context(), args...)
	c.Env = append(c.Env, "XDG_CACHE_HOME="+s.path(fmt.Sprintf("cache-%d", machine)))
	if r.IntN(2) == 0 {
		c.Env = append(c.Env, limitsVariable+"=small")
	}
	err = s.herd.run(c)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out.Bytes(), done, nil
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		return nil, killed, nil
	case errors.As(err, &exit) && exit.ExitCode() == 7 && bytes.Contains(stderr.Bytes(), []byte("run it again")):
		s.herd.count(overtaken)
		return nil, overtaken, nil
	}
	return nil, done, fmt.Errorf("varve %q: %w: %s", args, err, stderr)
}

// finish looks at what is left when all have ended.
func (s *soak) finish() error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"at the end", s.whole},
		{"first prune", s.pruneNow}, {"second prune", s.pruneNow},
		{"after two prunes", s.whole}, {"after two prunes", s.tidy},
		{"forget all", s.forgetAll}, {"first prune of all", s.pruneNow}, {"second prune of all", s.pruneNow},
		{"with nothing left", s.isEmpty("packs/*/*")},
		// A segment goes when the packs that it tells of have gone before.
		{"third prune of all", s.pruneNow}, {"fourth prune of all", s.pruneNow},
		{"with nothing left", s.isEmpty("index/*")},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// whole restores all snapshots there are, those included that nobody was told of, and compares them. Those
// that were acknowledged and not forgotten must be there, those that were forgotten must not.
func (s *soak) whole() error {
	there, err := s.snapshots()
	if err != nil {
		return err
	}
	if err := s.ledger.compare(there); err != nil {
		return err
	}
	for _, one := range there {
		back := s.path("back")
		if err := os.RemoveAll(back); err != nil {
			return err
		}
		if _, err := s.run("restore", "create", "--from-backup", one.ID, "--volume", "data="+back); err != nil {
			return err
		}
		if err := s.ledger.named(one.Name).sameAs(back); err != nil {
			return err
		}
	}
	report, err := s.check()
	if err != nil || len(report.Findings) > 0 {
		return fmt.Errorf("findings: %v (%w)", report.Findings, err)
	}
	return nil
}

func (s *soak) pruneNow() error {
	_, err := s.run(prune...)
	return err
}

// tidy looks for objects that nothing needs, and compares what is stored with what a new repository takes that
// has the same snapshots and no past.
func (s *soak) tidy() error {
	report, err := s.check()
	if err != nil || report.Orphans > 0 {
		return fmt.Errorf("%d objects are left over (%w)", report.Orphans, err)
	}
	if _, err := s.run("repo", "init", "--repo", s.path("new")); err != nil {
		return err
	}
	if _, err := s.run("repo", "copy", "--all", "--repo", s.path("new"), "--from", s.path("repository")); err != nil {
		return err
	}
	var bytes [2]int64
	for i, repository := range []string{"repository", "new"} {
		var info struct{ PackBytes int64 }
		out, err := s.run("repo", "info", "-o", "json", "--repo", s.path(repository))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(out, &info); err != nil {
			return err
		}
		bytes[i] = info.PackBytes
	}
	s.t.Logf("after two prunes %d bytes are stored, in a new repository %d", bytes[0], bytes[1])
	// A pack of which seven tenths are needed stays as it is; small ones may wait for company.
	if bytes[0] > 2*bytes[1]+1<<20 {
		return fmt.Errorf("%d bytes are stored, a new repository takes %d", bytes[0], bytes[1])
	}
	return nil
}

func (s *soak) forgetAll() error {
	there, err := s.snapshots()
	if err != nil || len(there) == 0 {
		return err
	}
	args := []string{"snapshot", "forget"}
	for _, one := range there {
		args = append(args, one.ID)
	}
	_, err = s.run(args...)
	return err
}

// isEmpty looks for objects in a part of the repository where nothing is left.
func (s *soak) isEmpty(names string) func() error {
	return func() error {
		left, err := filepath.Glob(s.path("repository", names))
		// What was killed while it wrote has left a temporary file, which a later process removes in a day.
		left = slices.DeleteFunc(left, func(name string) bool { return strings.HasPrefix(filepath.Base(name), ".tmp-") })
		if err != nil || len(left) > 0 {
			return fmt.Errorf("left over: %q (%w)", left, err)
		}
		return nil
	}
}

// A herd is the running processes.
type herd struct {
	mu      sync.Mutex
	running []*exec.Cmd

	runs, kills, stops, overtaken int
}

func (h *herd) String() string {
	return fmt.Sprintf("%d processes, %d killed, %d paused, %d overtaken", h.runs, h.kills, h.stops, h.overtaken)
}

// run starts a process and waits for its end.
func (h *herd) run(c *exec.Cmd) error {
	if err := c.Start(); err != nil {
		return err
	}
	h.mu.Lock()
	h.running = append(h.running, c)
	h.runs++
	h.mu.Unlock()
	err := c.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = slices.DeleteFunc(h.running, func(other *exec.Cmd) bool { return other == c })
	return err
}

// pick returns one of the running processes, or nil.
func (h *herd) pick(r *rand.Rand) *exec.Cmd {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.running) == 0 {
		return nil
	}
	return h.running[r.IntN(len(h.running))]
}

// signal sends a signal to a process, which may have ended.
func (h *herd) signal(c *exec.Cmd, signal syscall.Signal) {
	if c.Process.Signal(signal) != nil {
		return
	}
	switch signal {
	case syscall.SIGKILL:
		h.count(killed)
	case syscall.SIGSTOP:
		h.mu.Lock()
		h.stops++
		h.mu.Unlock()
	}
}

func (h *herd) count(how ending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch how {
	case killed:
		h.kills++
	case overtaken:
		h.overtaken++
	}
}
