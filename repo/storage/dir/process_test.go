package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
)

// The variables that turn the test binary into one of the racing processes, and into one that dies.
const (
	racerRoot = "VARVE_TEST_RACE_IN"
	deathRoot = "VARVE_TEST_DIE_IN"
	deathStep = "VARVE_TEST_DIE_AT"
)

const (
	raceProcesses = 6
	raceNames     = 100
)

func TestMain(m *testing.M) {
	if root := os.Getenv(racerRoot); root != "" {
		if err := race(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if root := os.Getenv(deathRoot); root != "" {
		if err := die(root, os.Getenv(deathStep)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// race waits for its standard input to close, then creates all names and prints those it won.
func race(root string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	b, err := Open(root, Options{Create: true})
	if err != nil {
		return err
	}
	for i := range raceNames {
		name := raceName(i)
		switch err := b.Create(context.Background(), name, raceData(os.Getpid())); {
		case err == nil:
			fmt.Println(name)
		case !errors.Is(err, storage.ErrExists):
			return err
		}
	}
	return nil
}

func raceName(i int) string { return fmt.Sprintf("f%d/%04d", i%3, i) }

func raceData(pid int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%08d", pid)), 500) }

// TestProcessesRace lets several processes, not only goroutines, create the same names, beginning
// with the bucket itself.
func TestProcessesRace(t *testing.T) {
	b := newBucket(t)
	if err := os.Remove(b.root); err != nil {
		t.Fatal(err)
	}
	winners := make(map[string]int)
	type racer struct {
		*exec.Cmd
		out, err bytes.Buffer
	}
	racers := make([]*racer, raceProcesses)
	gate, open, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	for i := range racers {
		r := &racer{Cmd: exec.CommandContext(t.Context(), os.Args[0])}
		r.Env = append(os.Environ(), racerRoot+"="+b.root)
		r.Stdin, r.Stdout, r.Stderr = gate, &r.out, &r.err
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		racers[i] = r
	}
	if err := errors.Join(gate.Close(), open.Close()); err != nil {
		t.Fatal(err)
	}
	for _, r := range racers {
		if err := r.Wait(); err != nil {
			t.Errorf("racer: %v: %s", err, r.err.Bytes())
		}
		for name := range strings.FieldsSeq(r.out.String()) {
			if winners[name] != 0 {
				t.Errorf("%s has two winners", name)
			}
			winners[name] = r.Process.Pid
		}
	}
	for i := range raceNames {
		name := raceName(i)
		data, err := b.Get(t.Context(), name, 0, -1)
		if err != nil || !bytes.Equal(data, raceData(winners[name])) {
			t.Errorf("Get(%s) is not what process %d wrote: %.16q, %v", name, winners[name], data, err)
		}
	}
	if got := names(t, b); len(got) != raceNames {
		t.Errorf("%d names are listed, want %d", len(got), raceNames)
	}
	if left := leftovers(t, b); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// mortal is the real disk that kills the process before or after its n-th call.
type mortal struct {
	osDisk
	when  string
	n     int
	calls int
}

func (m *mortal) mkdir(path string) error {
	return m.call(func() error { return m.osDisk.mkdir(path) })
}

func (m *mortal) createTemp(folder string) (f *os.File, err error) {
	err = m.call(func() error { f, err = m.osDisk.createTemp(folder); return err })
	return f, err
}

func (m *mortal) sync(f *os.File) error { return m.call(func() error { return m.osDisk.sync(f) }) }

func (m *mortal) link(from, to string) error {
	return m.call(func() error { return m.osDisk.link(from, to) })
}

func (m *mortal) remove(path string) error {
	return m.call(func() error { return m.osDisk.remove(path) })
}

func (m *mortal) call(do func() error) error {
	m.calls++
	if m.calls == m.n && m.when == "before" {
		kill()
	}
	err := do()
	if m.calls == m.n && m.when == "after" {
		kill()
	}
	return err
}

func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

const deathName = "packs/ab/1"

var deathData = bytes.Repeat([]byte("bytes"), 20_000)

// die creates an object, and with it the bucket, unless it is killed at the step that is given as text.
func die(root, step string) error {
	m := new(mortal)
	if _, err := fmt.Sscanf(step, "%s %d", &m.when, &m.n); err != nil {
		return err
	}
	b := &Bucket{root: root, disk: m, durable: map[string]bool{root: true}}
	if err := b.open(Options{Create: true}); err != nil {
		return err
	}
	return b.Create(context.Background(), deathName, deathData)
}

// A process that is killed at any step of a Create leaves the whole object or none, and nothing that
// another one could stumble over.
func TestCreateKilledAtAnyStepLeavesAllOrNothing(t *testing.T) {
	points := 0
	for _, when := range []string{"before", "after"} {
		for n, outlived := 1, false; !outlived; n++ {
			root := t.TempDir() + "/bucket"
			step := fmt.Sprintf("%s %d", when, n)
			c := exec.CommandContext(t.Context(), os.Args[0])
			c.Env = append(os.Environ(), deathRoot+"="+root, deathStep+"="+step)
			out, err := c.CombinedOutput()
			if outlived = err == nil; outlived {
				break
			}
			if c.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("%s: %v: %s", step, err, out)
			}
			points++
			b, err := Open(root, Options{Create: true})
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
			there := names(t, b)
			err = b.Create(t.Context(), deathName, deathData)
			if taken := errors.Is(err, storage.ErrExists); taken != (len(there) > 0) || err != nil && !taken {
				t.Errorf("%s: there is %q, and another Create returns %v", step, there, err)
			}
			if diff := cmp.Diff([]string{deathName}, names(t, b)); diff != "" {
				t.Errorf("%s: -want +got\n%s", step, diff)
			}
			if data, err := b.Get(t.Context(), deathName, 0, -1); err != nil || !bytes.Equal(data, deathData) {
				t.Errorf("%s: the object reads as %d bytes, %v", step, len(data), err)
			}
		}
	}
	if points < 20 {
		t.Errorf("only %d steps", points)
	}
}
