package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the long forms of the tests ask for, see the Makefile.
var (
	every = flag.Int("every", 40, "try one of so many crash points; 1 tries all, and more rounds of all that is drawn")
	pairs = flag.Int("pairs", 1, "how often a command crashes twice in a row, at random points")
	seed  = flag.Uint64("seed", 1, "of what is drawn: crash points, pairs, the soak")
)

// thorough reports whether this is the long form.
func thorough() bool { return *every == 1 }

// A scenario is one command in a repository with a history. It is played many times, each time from the
// same beginning and with another fault.
type scenario struct {
	name    string
	history func(p place)                      // what came before; snapshots are named like the folders they hold
	command func(p place) []string             // the command under test
	makes   []string                           // snapshots that it makes
	takes   []string                           // snapshots that it forgets
	again   func(p place, failure error) error // what of a run that fails without a fault is no failure; may be nil
	shows   func(p place) error                // what else holds when the command is done; may be nil
	damaged bool                               // the history leaves a damaged repository
	between func(p place)                      // what another process does before the command is run again, when nobody can look at what is there; may be nil
	harmed  []string                           // snapshots that are not whole then
	heals   func(p place) []string             // a command that makes all whole after the one under test; may be nil
}

// scenarios are the commands that write.
func scenarios() []scenario {
	return []scenario{{
		name:    "init",
		history: func(p place) { p.fill("one", 1) },
		command: func(place) []string { return []string{"repo", "init"} },
	}, {
		name:    "first backup",
		history: func(p place) { p.fill("one", 1); p.varve("repo", "init") },
		command: func(p place) []string { return p.backupOf("one") },
		makes:   []string{"one"},
	}, {
		name:    "incremental backup",
		history: twoBackups,
		command: func(p place) []string { return p.backupOf("three") },
		makes:   []string{"three"},
	}, {
		name:    "forget",
		history: twoBackups,
		command: func(place) []string { return []string{"snapshot", "forget", "one"} },
		takes:   []string{"one"},
	}, {
		name: "prune",
		history: func(p place) { // that leaves packs of nobody, after one prune that only found them
			twoBackups(p)
			p.varve("snapshot", "forget", "two")
			p.varve(prune...)
		},
		command: func(place) []string { return prune },
	}, {
		name: "prune that copies",
		history: func(p place) { // half of each pack is needed by the second backup
			twoBackups(p)
			p.varve("snapshot", "forget", "one")
			p.leftOver()
		},
		command: func(place) []string { return prune },
	}, {
		name: "key add",
		history: func(p place) {
			twoBackups(p)
			p.write("keys", "new", []byte("another horse and a stapler\n"))
		},
		command: func(p place) []string { return []string{"key", "add", "--new-password-file", p.path("keys", "new")} },
		shows: func(p place) error {
			_, err := p.run("repo", "info", "--password-file", p.path("keys", "new"))
			return err
		},
	}, {
		name: "copy",
		history: func(p place) {
			twoBackups(p)
			p.varve("repo", "init", "--repo", p.path("source"))
			p.varve(append(p.backupOf("three"), "--repo", p.path("source"))...)
		},
		command: func(p place) []string { return []string{"repo", "copy", "--all", "--from", p.path("source")} },
		makes:   []string{"three"},
	}, {
		name: "repair of the index",
		history: func(p place) {
			twoBackups(p)
			p.spoil("index/*", os.Remove)
		},
		damaged: true,
		command: func(place) []string { return []string{"repo", "repair", "index"} },
	}, {
		name: "repair of packs",
		history: func(p place) {
			p.varve("repo", "init")
			p.write("zero", "alone", []byte("what nobody else has"))
			p.fill("one", 0)
			p.fill("two", 1)
			p.varve(p.backupOf("zero")...)
			p.varve(p.backupOf("two")...)
			p.spoil("packs/*/*", flip)
			p.varve(p.backupOf("one")...)
		},
		damaged: true, harmed: []string{"one", "two"},
		command: func(place) []string { return []string{"repo", "repair", "packs", "--read-data"} },
		again:   isIncomplete,
		heals:   func(p place) []string { return p.backupOf("two") },
	}, {
		name: "repair of the journal, with a prune in between",
		history: func(p place) {
			twoBackups(p)
			p.varve(p.backupOf("three")...)
			p.varve("snapshot", "hold", "one")
			p.varve("snapshot", "release", "one")
			p.spoil("journal/0000000000000002", flipStart)
			p.spoil("checkpoints", os.RemoveAll) // else they do without the entry
		},
		command: func(place) []string {
			return []string{"repo", "repair", "journal", "--no-cache", "--drop-from", "0000000000000002"}
		},
		between: func(p place) { // it may fail, but take nothing away that the repair is to bring back
			elsewhere := p.path("elsewhere")
			if err := os.RemoveAll(elsewhere); err != nil {
				p.t.Fatal(err)
			}
			_, _ = p.run(append([]string{"--no-cache", "--state-dir", elsewhere}, prune...)...)
		},
	}}
}

// spoil does something to the first of the repository's files of a pattern.
func (p place) spoil(names string, do func(name string) error) {
	p.t.Helper()
	found, err := filepath.Glob(p.path("repository", names))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("there is no %s", names)
	}
	if err == nil {
		err = do(found[0])
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// flip turns over one bit in the middle of a file.
func flip(name string) error {
	return spoiled(name, func(data []byte) { data[len(data)/2] ^= 1 })
}

// flipStart turns over one bit in the operations of a journal entry, and not in the pack behind them.
func flipStart(name string) error {
	return spoiled(name, func(data []byte) { data[40] ^= 1 })
}

func spoiled(name string, do func(data []byte)) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	do(data)
	return os.WriteFile(name, data, 0o600)
}

// prune takes away at once all that it can.
var prune = []string{"repo", "prune", "--grace", "0", "--orphan-age", "0", "--max-drop", "100%"}

// isIncomplete takes the answer of a repair that it did what it could.
func isIncomplete(_ place, failure error) error {
	if strings.Contains(failure.Error(), "cannot be read any more") {
		return nil
	}
	return failure
}

func twoBackups(p place) {
	p.varve("repo", "init")
	for seed, name := range []string{"one", "two", "three"} {
		p.fill(name, byte(seed))
		if name != "three" {
			p.varve(p.backupOf(name)...)
		}
	}
}

// fill makes a folder for a backup. Folders of different seeds have much in common and enough of their
// own to fill a pack.
func (p place) fill(name string, seed byte) {
	p.t.Helper()
	for i := range byte(24) {
		data := make([]byte, 50_000)
		_, _ = rand.NewChaCha8([32]byte{i, seed * (i % 2)}).Read(data) // it returns no error
		p.write(name, fmt.Sprintf("file-%d", i), data)
	}
	for i := range 20 {
		p.write(name, fmt.Sprintf("small-%d", i), fmt.Appendf(nil, "%s %d", name[:i%2], i))
	}
}

func (p place) backupOf(folder string) []string {
	return []string{"backup", "create", folder, "--objects", "none", "--volume", "data=" + p.path(folder)}
}

// leftOver leaves packs of a backup that was killed before anybody knew of them.
func (p place) leftOver() {
	p.t.Helper()
	c, _, stderr := p.command(p.t.Context(), p.backupOf("three")...)
	c.Env = append(c.Env, faultVariable+"="+(&fault{phase: halfway, n: 3, log: p.path("requests")}).String())
	if err := c.Run(); err == nil {
		p.t.Fatalf("the backup was not killed: %s", stderr)
	}
}

// A stage is where a scenario is played: a place, what its parts are at the beginning,
// and the snapshots there are.
type stage struct {
	place
	scenario
	old []string // snapshots
}

// parts are the folders of a place that a command changes.
var parts = []string{"repository", "cache", "state"}

func newStage(t *testing.T, s scenario) stage {
	p := emptyPlace(t)
	p.env = append(p.env, limitsVariable+"=small")
	s.history(p)
	st := stage{place: p, scenario: s}
	if _, err := os.Stat(p.path("repository")); err == nil {
		there, err := p.snapshots()
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range there {
			st.old = append(st.old, one.Name)
		}
	}
	for _, part := range parts {
		if err := os.CopyFS(p.path("beginning", part), os.DirFS(p.path(part))); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	return st
}

// reset goes back to the beginning. The folders of the parts stay, since a file system may be mounted there.
func (s stage) reset() error {
	for _, part := range parts {
		inside, err := filepath.Glob(s.path(part, "*"))
		if err != nil {
			return err
		}
		for _, name := range inside {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
		}
		if err := os.CopyFS(s.path(part), os.DirFS(s.path("beginning", part))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// suffer runs the command under a fault. It returns the request that met it, or nothing if the command was
// done before, and whether the command said that all was done. If it could say anything and failed, that
// must be a sentence.
func (s stage) suffer(at phase, n int) (met string, done bool, err error) {
	f := &fault{phase: at, n: n, log: s.path("requests")}
	if err := os.RemoveAll(f.log); err != nil {
		return "", false, err
	}
	c, _, stderr := s.place.command(s.t.Context(), s.scenario.command(s.place)...)
	c.Env = append(c.Env, faultVariable+"="+f.String())
	err = c.Run()
	log, _ := os.ReadFile(f.log) // there is none if nothing was requested
	if lines := strings.Split(strings.TrimSpace(string(log)), "\n"); n <= len(lines) && at != never {
		met = lines[n-1]
	}
	killed := c.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	switch {
	case err == nil && (met == "" || at == full || at == stuck):
		return met, true, nil
	case met != "" && killed && at != full:
		return met, false, nil
	case met != "" && at == full && isClear(stderr.String(), s.path("repository")):
		return met, false, nil
	case err != nil && !killed && s.repeated(fmt.Errorf("%w: %s", err, stderr)) == nil:
		return met, true, nil
	}
	return met, false, fmt.Errorf("ended with %v: %s", err, stderr)
}

// repeated returns the error of a command that had been run before, unless it may end so.
func (s stage) repeated(err error) error {
	if err != nil && s.again != nil {
		return s.again(s.place, err)
	}
	return err
}

// isClear reports whether the message of a full disk says so and where it is full.
func isClear(message, where string) bool {
	return strings.Contains(message, "varve: ") && strings.Contains(message, "no space left on device") &&
		strings.Contains(message, where) && !strings.Contains(message, "goroutine")
}

// requests plays the scenario without a fault and returns its requests, each as its kind and what it names.
func (s stage) requests() []string {
	s.t.Helper()
	if err := s.reset(); err != nil {
		s.t.Fatal(err)
	}
	if _, _, err := s.suffer(never, 0); err != nil {
		s.t.Fatalf("%s without a fault: %v", s.name, err)
	}
	log, err := os.ReadFile(s.path("requests"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(log)), "\n")
}

// count returns how many of some requests have this phase.
func (m phase) count(requests []string) (n int) {
	for _, request := range requests {
		if kind, _, _ := strings.Cut(request, " "); m.counts(kind) {
			n++
		}
	}
	return n
}

// recover shows that nothing was lost, nor what the command has done if it said so, and that nothing has to
// be done by hand.
func (s stage) recover(done bool) error {
	look := s.intact
	if s.damaged {
		look = s.there
	}
	if s.between != nil {
		look = func(bool) error { s.between(s.place); return nil }
	}
	if err := look(done); err != nil {
		return fmt.Errorf("at once: %w", err)
	}
	_, err := s.run(s.scenario.command(s.place)...)
	if err := s.repeated(err); err != nil {
		return fmt.Errorf("the same command again: %w", err)
	}
	if s.heals != nil {
		if _, err := s.run(s.heals(s.place)...); err != nil {
			return err
		}
		s.harmed = nil
	}
	if _, err := s.clean(); err != nil { // what is restored is compared below: no prune makes whole what is not
		return fmt.Errorf("after the same command again: %w", err)
	}
	for range 2 {
		if _, err := s.run(prune...); err != nil {
			return err
		}
	}
	orphans, err := s.clean()
	if err == nil {
		err = s.there(true)
	}
	if err != nil || orphans > 0 {
		return fmt.Errorf("after two prunes: %d objects are left over (%w)", orphans, err)
	}
	return nil
}

// intact checks all data and restores all snapshots.
func (s stage) intact(done bool) error {
	if len(s.old) == 0 && !done {
		return nil // there may be no repository
	}
	if _, err := s.clean(); err != nil {
		return err
	}
	return s.there(done)
}

// clean checks all data and returns how many objects are left over.
func (s stage) clean() (orphans int, err error) {
	report, err := s.check()
	if err == nil && len(report.Findings) > 0 {
		err = fmt.Errorf("findings: %v", report.Findings)
	}
	return report.Orphans, err
}

// there restores all snapshots but those that are harmed, which must be what was backed up: those that were there
// before the command, and if the command is done, those that it makes and not those that it takes.
func (s stage) there(done bool) error {
	all, err := s.snapshots()
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, one := range all {
		there[one.Name] = true
		if slices.Contains(s.harmed, one.Name) {
			continue
		}
		if err := s.restores(one.ID, one.Name); err != nil {
			return err
		}
	}
	for _, name := range slices.Concat(s.old, s.makes) {
		taken, made := slices.Contains(s.takes, name), slices.Contains(s.makes, name)
		if there[name] && taken && done || !there[name] && !taken && (!made || done) {
			return fmt.Errorf("done %v, and snapshot %s is there %v", done, name, there[name])
		}
	}
	if done && s.shows != nil {
		return s.shows(s.place)
	}
	return nil
}

// restores compares a restored snapshot with the folder of which it was made.
func (p place) restores(snapshot, folder string) error {
	back := p.path("back")
	if err := os.RemoveAll(back); err != nil {
		return err
	}
	if _, err := p.run("restore", "create", "--from-backup", snapshot, "--volume", "data="+back); err != nil {
		return err
	}
	got, err := treeOf(back)
	if err != nil {
		return err
	}
	want, err := treeOf(p.path(folder))
	if err != nil {
		return err
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("snapshot %s of %s is restored otherwise: -want +got\n%s", snapshot, folder, diff)
	}
	return nil
}

// A command that is killed before, in or after any of its requests, or once more when it is run again, has done
// all of its work or none. What was there stays whole, and the same command succeeds when it is run again. The
// same holds for a disk that becomes full at any write, which is told in a sentence.
func TestCommandsUnderFaultsHarmNothing(t *testing.T) {
	for _, scenario := range scenarios() {
		t.Run(scenario.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, scenario)
			random := rand.New(rand.NewPCG(*seed, uint64(len(scenario.name))))
			requests := s.requests()
			s.failAtAny(random, requests, before, halfway, after, stuck)
			s.failAtAny(random, requests, full)
			for range *pairs {
				s.failTwice(random, requests)
			}
		})
	}
}

// failAtAny plays the scenario with a fault at every n-th of its requests, those of all phases laid end to end.
// Where it begins is drawn, so that there is one fault at least.
func (s stage) failAtAny(random *rand.Rand, requests []string, phases ...phase) {
	all := 0
	for _, m := range phases {
		all += m.count(requests)
	}
	n := 1 + random.IntN(min(*every, all))
	for _, m := range phases {
		points, most := 0, m.count(requests)
		for met := ""; n <= most || thorough() && met != ""; n += *every { // a run may take more requests than the counted one
			var done bool
			err := s.reset()
			if err == nil {
				met, done, err = s.suffer(m, n)
			}
			if err == nil && met != "" {
				err = s.recover(done)
			}
			if err != nil {
				s.t.Errorf("%s request %d (%s): %v", m, n, met, err)
			}
			points++
		}
		s.t.Logf("%s: %d points %s a request", s.name, points, m)
		if n -= most; thorough() {
			n = 1
		}
	}
}

// failTwice plays the scenario with two faults at drawn requests, since whoever crashes may crash again when trying
// once more.
func (s stage) failTwice(random *rand.Rand, requests []string) {
	err := s.reset()
	var trace bytes.Buffer
	done := false
	for range 2 {
		m := []phase{before, halfway, after, stuck, full}[random.IntN(5)]
		n, met, now := 1+random.IntN(len(requests)), "", false
		if err == nil {
			met, now, err = s.suffer(m, n)
		}
		done = done || now
		fmt.Fprintf(&trace, "%s request %d (%s), then ", m, n, met)
	}
	if err == nil {
		err = s.recover(done)
	}
	if err != nil {
		s.t.Errorf("%s: %v", &trace, err)
	}
}
