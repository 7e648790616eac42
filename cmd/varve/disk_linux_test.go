package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mountsVariable is set in a process that may mount file systems where nobody else sees them.
const mountsVariable = "VARVE_TEST_MOUNTS"

// withMounts runs the test in a process that may mount, as whoever runs the tests, and reports whether this
// is that process. Where that is not allowed the test is skipped.
func withMounts(t *testing.T) bool {
	if os.Getenv(mountsVariable) != "" {
		return true
	}
	t.Parallel()
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", fmt.Sprintf("-every=%d", *every), fmt.Sprintf("-seed=%d", *seed))
	c.Env = append(os.Environ(), mountsVariable+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Skipf("no mounts for tests here: %v", err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	t.Log(out.String())
	return false
}

// A disk that is full, not one that is said to be. A backup that needs room in the repository fails with
// a sentence and works when there is room again. A cache without room is none, and the backup is made.
func TestBackupOnAFullDisk(t *testing.T) {
	if !withMounts(t) {
		return
	}
	for _, part := range parts {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, scenario{name: part, makes: []string{"three"},
				command: func(p place) []string { return p.backupOf("three") },
				history: func(p place) {
					twoBackups(p)
					if err := os.RemoveAll(p.path("cache")); err != nil { // an old one may have room inside
						t.Fatal(err)
					}
				}})
			s.mount(part)
			failures := 0
			for room := int64(0); ; room += int64(*every) * 8 << 10 {
				full, err := s.withRoom(part, room)
				if err != nil {
					t.Fatalf("%d bytes of room: %v", room, err)
				}
				if !full {
					break
				}
				failures++
			}
			if t.Logf("%s: full %d times", part, failures); failures == 0 {
				t.Error("the disk was never full")
			}
		})
	}
}

// A prune is what makes room on a full disk, so it gives room back before it takes any for copies: what is left
// for an entry of the journal is enough.
func TestPruneMakesRoomOnAFullDisk(t *testing.T) {
	if !withMounts(t) {
		return
	}
	s := newStage(t, scenario{name: "prune", command: func(place) []string { return prune }, history: func(p place) {
		twoBackups(p)
		p.varve(p.backupOf("three")...)
		p.varve("snapshot", "forget", "two")
		p.varve("repo", "prune") // gives notice of what only that one needed
		p.varve("snapshot", "forget", "one")
	}})
	s.mount("repository")
	if err := s.reset(); err != nil {
		t.Fatal(err)
	}
	filler := s.path("repository", "filler")
	if err := fillDisk(filler, 32<<10); err != nil {
		t.Fatal(err)
	}
	if _, err := s.run(prune...); err != nil && !isClear(err.Error(), s.path("repository")) {
		t.Error(err)
	}
	if _, err := s.run(prune...); err != nil {
		t.Errorf("the first prune has made no room for the second: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := s.recover(true); err != nil {
		t.Error(err)
	}
}

// mount puts a small disk in the place of a part.
func (s stage) mount(part string) {
	s.t.Helper()
	if err := os.MkdirAll(s.path(part), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", s.path(part), "tmpfs", 0, "size=8m"); err != nil {
		s.t.Skipf("no mounts for tests here: %v", err)
	}
	s.t.Cleanup(func() { _ = syscall.Unmount(s.path(part), syscall.MNT_DETACH) })
}

// withRoom runs the command with so many bytes of room on the disk of a part, and reports whether they
// were too few.
func (s stage) withRoom(part string, room int64) (full bool, err error) {
	if err := s.reset(); err != nil {
		return false, err
	}
	filler := s.path(part, "filler")
	if err := fillDisk(filler, room); err != nil {
		return false, err
	}
	c, _, stderr := s.place.command(s.t.Context(), s.scenario.command(s.place)...)
	err = c.Run()
	told := isClear(stderr.String(), s.path(part))
	if (err != nil) != (told && part == "repository") {
		return false, fmt.Errorf("ended with %v: %s", err, stderr)
	}
	if err := os.Remove(filler); err != nil {
		return false, err
	}
	return told, s.recover(err == nil)
}

// fillDisk makes a file that leaves so many bytes of its file system free.
func fillDisk(path string, room int64) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &disk); err != nil {
		return err
	}
	return os.WriteFile(path, make([]byte, max(0, int64(disk.Bavail)*disk.Bsize-room)), 0o600)
}
