package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// TestMain lets the test binary play the other process: asked by the environment, it holds the lock
// of a cache or writes to it until it is killed.
func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv("VARVE_INDEX_TEST"), ":")
	switch role {
	case "":
		os.Exit(m.Run())
	case "hold":
		db, err := bbolt.Open(OpenCache(dir, "r1").statePath(), 0o600, nil)
		fmt.Println("started", db, err)
		time.Sleep(time.Hour)
	case "write":
		c := OpenCache(dir, "r1")
		seq, _, _ := c.State()
		fmt.Println("started")
		for {
			seq++
			s := newSample(seq)
			if _, err := c.PutSegment(s.hash, s.plain); err != nil || c.Degraded() != nil {
				fmt.Println(err, c.Degraded())
				os.Exit(1)
			}
			c.SetState(seq, stateOf(seq))
		}
	}
}

// otherProcess starts one in a role and returns when it is at work. Killing it is the caller's.
func otherProcess(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "VARVE_INDEX_TEST="+role+":"+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		t.Fatalf("the other process had ended by itself: %v", err)
	}
}

func TestLockOfAnotherProcessFailsNothing(t *testing.T) {
	dir := t.TempDir()
	OpenCache(dir, "r1").SetState(1, stateOf(1))
	other := otherProcess(t, "hold", dir)
	c := OpenCache(dir, "r1")
	c.lockWait = 100 * time.Millisecond
	if _, _, ok := c.State(); ok {
		t.Error("read a state that another process has locked")
	}
	c.SetState(2, stateOf(2))
	wantState(t, c, 2)
	put(t, c, newSample(12)) // needs no lock
	if err := c.Degraded(); !errors.Is(err, bolterrors.ErrTimeout) {
		t.Errorf("degraded: %v, want it to say that the lock was not got", err)
	}
	kill(t, other)
	wantState(t, OpenCache(dir, "r1"), 1)
	c.SetState(3, stateOf(3))
	wantState(t, c, 3)
	wantState(t, OpenCache(dir, "r1"), 3)
}

func TestKilledWriterLeavesAWholeCache(t *testing.T) {
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(31, 32))
	var last uint64
	for range 8 {
		other := otherProcess(t, "write", dir)
		time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
		kill(t, other)
		c := OpenCache(dir, "r1")
		seq, body, ok := c.State()
		if !ok && last > 0 || ok && !bytes.Equal(body, stateOf(seq)) || seq < last {
			t.Fatalf("state %d of %d bytes after %d (there: %v)", seq, len(body), last, ok)
		}
		last = seq
		for i := uint64(1); i <= seq; i++ {
			s := newSample(i)
			segment, ok := c.Segment(s.hash)
			if !ok {
				t.Fatalf("segment %d, put before state %d was set, is not whole", i, seq)
			}
			s.serves(t, segment)
		}
		wantHealthy(t, c)
	}
	if last == 0 {
		t.Error("no writer got to write")
	}
	t.Logf("killed after states up to %d", last)
}

func TestManyUsersOfOneCache(t *testing.T) {
	dir := t.TempDir()
	var users sync.WaitGroup
	for user := range uint64(4) {
		users.Go(func() {
			c := OpenCache(dir, "r1")
			c.lockWait = 20 * time.Second
			s := newSample(20)
			var last uint64
			for i := range uint64(10) {
				c.SetState(10*i+user, stateOf(10*i+user))
				seq, body, ok := c.State()
				if !ok || seq < last || seq < 10*i+user || !bytes.Equal(body, stateOf(seq)) {
					t.Errorf("user %d: state %d of %d bytes after %d", user, seq, len(body), last)
				}
				last = seq
				segment, err := c.PutSegment(s.hash, s.plain)
				if err != nil {
					t.Error(err)
					return
				}
				s.serves(t, segment)
				if i%3 == 0 {
					c.Retain(nil)
				}
			}
			if err := c.Degraded(); err != nil {
				t.Errorf("user %d: degraded: %v", user, err)
			}
		})
	}
	users.Wait()
	wantState(t, OpenCache(dir, "r1"), 93)
}

// TestDamagedStateFileIsNeverBelieved flips, cuts and overwrites the bbolt file. Whatever comes of
// it, a state that is returned is one that was set, and setting one works again.
func TestDamagedStateFileIsNeverBelieved(t *testing.T) {
	dir := t.TempDir()
	c := OpenCache(dir, "r1")
	for seq := uint64(1); seq <= 4; seq++ {
		c.SetState(seq, stateOf(seq))
	}
	wantHealthy(t, c)
	good, err := os.ReadFile(c.statePath())
	if err != nil {
		t.Fatal(err)
	}
	openFiles := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Logf("open files cannot be counted: %v", err)
		}
		return len(files)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would close forgotten files
	before := openFiles()
	outcomes := map[string]int{}
	try := func(name string, data []byte) {
		t.Helper()
		dir := t.TempDir()
		c := OpenCache(dir, "r1")
		if err := os.WriteFile(c.statePath(), data, 0o600); err != nil {
			t.Fatal(err)
		}
		seq, body, ok := c.State()
		if ok && (seq < 1 || seq > 4 || !bytes.Equal(body, stateOf(seq))) {
			t.Fatalf("%s: believed state %d of %d bytes", name, seq, len(body))
		}
		c.SetState(5, stateOf(5))
		if seq, body, ok := OpenCache(dir, "r1").State(); !ok || seq != 5 || !bytes.Equal(body, stateOf(5)) {
			t.Errorf("%s: after setting state 5: %d, %d bytes, %v", name, seq, len(body), ok)
		}
		if err := c.Degraded(); err != nil {
			t.Errorf("%s: degraded: %v", name, err)
		}
		outcomes[fmt.Sprint("there: ", ok)]++
	}

	page := os.Getpagesize()
	// The heads of pages and of their elements, densely; the rest by sample.
	for i := range good {
		if i%page < 96 && i%5 == 0 || i%997 == 0 {
			flipped := bytes.Clone(good)
			flipped[i] ^= 0xff
			try(fmt.Sprintf("byte %d flipped", i), flipped)
		}
	}
	for _, n := range []int{0, 1, 100, page, page + 1, 2 * page, 3 * page, 4 * page, len(good) - page, len(good) - 1} {
		try(fmt.Sprintf("cut to %d", n), good[:n])
	}
	try("zeros", make([]byte, len(good)))
	try("text", bytes.Repeat([]byte("not a database\n"), 1000))
	for i := range len(good) / page {
		other := bytes.Clone(good)
		copy(other[i*page:(i+1)*page], good[(i+1)%(len(good)/page)*page:])
		try(fmt.Sprintf("page %d overwritten by the next", i), other)
		zero := bytes.Clone(good)
		clear(zero[i*page : (i+1)*page])
		try(fmt.Sprintf("page %d zero", i), zero)
	}
	t.Log(outcomes)
	if after := openFiles(); after > before+2 {
		t.Errorf("%d files are open, %d were: damage leaves files open", after, before)
	}
	if len(outcomes) < 2 {
		t.Errorf("the damage did not reach different outcomes: %v", outcomes)
	}
}

func TestStateIsBoundToItsRepositoryAndNumber(t *testing.T) {
	value := encodeState("r1", &state{seq: 7, body: []byte("body")})
	if s := decodeState("r1", value); s == nil || s.seq != 7 || string(s.body) != "body" {
		t.Fatalf("read back as %v", s)
	}
	if decodeState("r2", value) != nil {
		t.Error("believed for another repository")
	}
	older := bytes.Clone(value)
	binary.BigEndian.PutUint64(older, 6)
	for name, bad := range map[string][]byte{"another number": older, "cut": value[:len(value)-1], "nothing": nil, "a checksum alone": value[8+4:]} {
		if decodeState("r1", bad) != nil {
			t.Errorf("%s: believed", name)
		}
	}
	if s := decodeState("r1", encodeState("r1", &state{})); s == nil || s.seq != 0 || len(s.body) != 0 {
		t.Errorf("the empty state is read as %v", s)
	}
}
