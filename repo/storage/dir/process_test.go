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
	"testing"

	"github.com/varve-dev/varve/repo/storage"
)

// racerRoot names the variable that turns the test binary into one of the racing processes.
const racerRoot = "VARVE_TEST_RACE_IN"

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
