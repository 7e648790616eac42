package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// A place is a repository, a password and a cache for processes of their own.
type place struct {
	t      *testing.T
	folder string
	env    []string // of its processes, besides what every place has
}

// newPlace has a new repository.
func newPlace(t *testing.T) place {
	t.Helper()
	p := emptyPlace(t)
	p.varve("repo", "init")
	return p
}

// emptyPlace has no repository yet.
func emptyPlace(t *testing.T) place {
	t.Helper()
	p := place{t: t, folder: t.TempDir()}
	if err := os.WriteFile(p.path("password"), []byte("correct horse battery staple\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p place) path(elements ...string) string {
	return filepath.Join(append([]string{p.folder}, elements...)...)
}

// command prepares a run of the program in a process of its own.
func (p place) command(ctx context.Context, args ...string) (c *exec.Cmd, stdout, stderr *bytes.Buffer) {
	c = exec.CommandContext(ctx, "varve", args...)
	// Half the work of a process that lives for an instant would be the collection of its garbage.
	c.Env = append(append(os.Environ(), p.env...), "GOGC=off", "GOMEMLIMIT=256MiB", "VARVE_REPOSITORY=dir://"+p.path("repository"), "VARVE_PASSWORD_FILE="+p.path("password"),
		"XDG_CACHE_HOME="+p.path("cache"), "XDG_STATE_HOME="+p.path("state"))
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	c.Stdout, c.Stderr = stdout, stderr
	return c, stdout, stderr
}

// run starts the program and returns what it printed.
func (p place) run(args ...string) ([]byte, error) {
	c, stdout, stderr := p.command(p.t.Context(), args...)
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("varve %s: %w: %s", strings.Join(args, " "), err, stderr)
	}
	return stdout.Bytes(), nil
}

// varve is run for what must succeed.
func (p place) varve(args ...string) []byte {
	p.t.Helper()
	out, err := p.run(args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// write makes a file of a volume.
func (p place) write(volume, name string, data []byte) {
	p.t.Helper()
	if err := os.MkdirAll(p.path(volume), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(volume, name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// listed is one snapshot in a list.
type listed struct{ ID, Name, Status string }

// snapshots returns all snapshots, oldest first.
func (p place) snapshots() (rows []listed, err error) {
	out, err := p.run("snapshot", "list", "-o", "json")
	if err != nil {
		return nil, err
	}
	return rows, json.Unmarshal(out, &rows)
}

// names returns the names of all snapshots, sorted.
func (p place) names() []string {
	p.t.Helper()
	rows, err := p.snapshots()
	if err != nil {
		p.t.Fatal(err)
	}
	var names []string
	for _, r := range rows {
		if r.Status != "Completed" {
			p.t.Errorf("snapshot %s is %s", r.Name, r.Status)
		}
		names = append(names, r.Name)
	}
	slices.Sort(names)
	return names
}

// checked is what a check found.
type checked struct {
	Findings []any
	Orphans  int
}

// check reads all data of the repository.
func (p place) check() (report checked, err error) {
	out, err := p.run("repo", "check", "--read-data", "-o", "json")
	if err != nil {
		return report, err
	}
	return report, json.Unmarshal(out, &report)
}

// checkAll reads all data of the repository and fails the test if anything is damaged.
func (p place) checkAll() {
	p.t.Helper()
	report, err := p.check()
	if err != nil {
		p.t.Fatal(err)
	}
	if len(report.Findings) > 0 {
		p.t.Errorf("findings: %v", report.Findings)
	}
}

// Of two processes that commit at the same time, both must win, and neither may rely on what the
// other one has not committed.
func TestTwoProcessesBackUpAtTheSameTime(t *testing.T) {
	t.Parallel()
	rounds := 12
	if thorough() {
		rounds = 200
	}
	p := newPlace(t)
	var want []string
	for round := range rounds {
		var both sync.WaitGroup
		for _, who := range []string{"a", "b"} {
			// One file is the same for both and new in each round, so that they race for it as well.
			p.write(who, "shared", bytes.Repeat([]byte(fmt.Sprintf("round %d\n", round)), 2000))
			p.write(who, fmt.Sprintf("own-%d", round), bytes.Repeat([]byte(fmt.Sprintf("%s %d\n", who, round)), 500))
			name := fmt.Sprintf("%s-%02d", who, round)
			want = append(want, name)
			both.Go(func() {
				if _, err := p.run("backup", "create", name, "--objects", "none", "--volume", who+"="+p.path(who)); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}
	slices.Sort(want)
	if got := p.names(); !slices.Equal(got, want) {
		t.Errorf("snapshots are %q, want %q", got, want)
	}
	p.checkAll()
	for _, who := range []string{"a", "b"} {
		p.varve("restore", "create", "--from-backup", fmt.Sprintf("%s-%02d", who, rounds-1), "--volume", who+"="+p.path("back", who))
		sameFiles(t, p.path("back", who), p.path(who))
	}
}

// A backup that is killed has not happened, whenever it is; what was there before stays whole, and
// the next backup needs no repair.
func TestBackupKilledAtAnyMomentLeavesTheOthersIntact(t *testing.T) {
	t.Parallel()
	kills := 8
	if thorough() {
		kills = 128
	}
	const proof = 4 // after so many kills a backup and a check of all
	p := newPlace(t)
	random := rand.NewChaCha8([32]byte{1})
	// change gives the volume 12 MB that the repository does not have.
	change := func() {
		data := make([]byte, 2_000_000)
		for i := range 6 {
			_, _ = random.Read(data) // it returns no error
			p.write("data", fmt.Sprintf("file-%d", i), data)
		}
	}
	create := func(name string) []string {
		return []string{"backup", "create", name, "--objects", "none", "--volume", "data=" + p.path("data")}
	}
	change()
	started := time.Now()
	p.varve(create("first")...)
	whole := time.Since(started)
	if err := os.Rename(p.path("data"), p.path("first")); err != nil {
		t.Fatal(err)
	}
	change()
	want := []string{"first"}
	for killed, n := 0, 0; killed < kills; n++ {
		if n == 8*kills {
			t.Fatalf("only %d of %d backups were killed before they ended", killed, n)
		}
		// Every other moment is one at which something just appeared in the bucket, which is where a
		// wrong order of writing shows. The others are spread over the time that a backup takes.
		moment := afterTime(whole * time.Duration(killed+1) / time.Duration(kills))
		if killed%2 == 1 {
			moment = p.afterNames(1 + n%4)
		}
		name := fmt.Sprintf("victim-%d", n)
		started := time.Now()
		if !p.kill(create(name), moment) {
			want, whole = append(want, name), time.Since(started)
			change()
			continue
		}
		if killed++; killed%proof == 0 {
			name := fmt.Sprintf("after-%d", killed)
			p.varve(create(name)...)
			p.checkAll()
			want = append(want, name)
			change()
		}
	}
	// A process may be killed after its backup was committed and before it could say so.
	got := slices.DeleteFunc(p.names(), func(name string) bool {
		return strings.HasPrefix(name, "victim-") && !slices.Contains(want, name)
	})
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("snapshots are %q, want %q", got, want)
	}
	p.varve(create("last")...)
	p.checkAll()
	for name, folder := range map[string]string{"first": "first", "last": "data"} {
		p.varve("restore", "create", "--from-backup", name, "--volume", "data="+p.path("back", name))
		sameFiles(t, p.path("back", name), p.path(folder))
	}
}

// An interrupt ends a backup in order: it says that nothing was made, and the next one needs nothing.
func TestInterruptedBackupSaysSoAndMakesNothing(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	data := make([]byte, 6_000_000)
	for i := range 10 {
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(data) // it returns no error
		p.write("data", fmt.Sprintf("file-%d", i), data)
	}
	create := []string{"backup", "create", "one", "--objects", "none", "--volume", "data=" + p.path("data")}
	c, stdout, stderr := p.command(t.Context(), create...)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.afterNames(1)(t.Context())
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := c.Wait()
	const want = "varve: interrupted\nhint: no backup was made, and nothing needs cleaning up\n"
	if c.ProcessState.ExitCode() != 130 || stderr.String() != want || stdout.Len() > 0 {
		t.Errorf("%v: standard error is %q, standard output %q", err, stderr, stdout)
	}
	if got := p.names(); len(got) > 0 {
		t.Errorf("snapshots are %q", got)
	}
	p.varve(create...)
	p.checkAll()
}

// A moment waits until it has come or the context ends.
type moment func(ctx context.Context)

func afterTime(d time.Duration) moment {
	return func(ctx context.Context) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

// afterNames is the moment at which the repository's folders have so many names more than now,
// temporary ones included.
func (p place) afterNames(more int) moment {
	count := func() (n int) {
		_ = filepath.WalkDir(p.path("repository"), func(string, os.DirEntry, error) error { n++; return nil }) // names come and go
		return n
	}
	most := count() + more
	return func(ctx context.Context) {
		for ctx.Err() == nil && count() < most {
			time.Sleep(100 * time.Microsecond)
		}
	}
}

// kill starts the program, sends it SIGKILL at a moment, and reports whether that ended it.
func (p place) kill(args []string, at moment) bool {
	p.t.Helper()
	c, _, stderr := p.command(p.t.Context(), args...)
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	ctx, ended := context.WithCancel(p.t.Context())
	var killer sync.WaitGroup
	killer.Go(func() {
		if at(ctx); ctx.Err() == nil {
			_ = c.Process.Kill() // it may have ended just now
		}
	})
	err := c.Wait()
	ended()
	killer.Wait()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
		p.t.Fatalf("varve %s: %v: %s", strings.Join(args, " "), err, stderr)
	}
	return err != nil
}

// sameFiles compares the regular files of two folders.
func sameFiles(t *testing.T, got, want string) {
	t.Helper()
	entries, err := os.ReadDir(want)
	if err != nil {
		t.Fatal(err)
	}
	there, err := os.ReadDir(got)
	if err != nil || len(there) != len(entries) {
		t.Fatalf("%s has %d files (%v), want %d", got, len(there), err, len(entries))
	}
	for _, e := range entries {
		a, err := os.ReadFile(filepath.Join(got, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(want, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs", e.Name())
		}
	}
}
