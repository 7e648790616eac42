package index

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// tmpfs mounts a file system of its own, where the test may.
func tmpfs(t *testing.T, options string) string {
	dir := t.TempDir()
	if err := unix.Mount("varve", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDiskFailsNothing(t *testing.T) {
	dir := tmpfs(t, "size=64k")
	c := OpenCache(dir, "r1")
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	wantService(t, c)
	if err := c.Degraded(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("degraded: %v, want it to say that the disk is full", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, segmentsDir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestDiskThatFillsUpKeepsTheOldState(t *testing.T) {
	dir := tmpfs(t, "size=256k")
	c := OpenCache(dir, "r1")
	c.SetState(3, stateOf(3))
	wantHealthy(t, c)
	big := bytes.Repeat([]byte{4}, 1<<20)
	c.SetState(4, big)
	if c.Degraded() == nil {
		t.Error("1 MiB fits into 256 KiB")
	}
	if seq, body, ok := c.State(); !ok || seq != 4 || !bytes.Equal(body, big) {
		t.Errorf("state %d, %d bytes, %v: the state that did not fit is lost", seq, len(body), ok)
	}
	wantState(t, OpenCache(dir, "r1"), 3)
}

func TestReadOnlyCacheIsRead(t *testing.T) {
	dir, s := tmpfs(t, "size=1m"), newSample(3)
	c := OpenCache(dir, "r1")
	put(t, c, s)
	c.SetState(3, stateOf(3))
	wantHealthy(t, c)
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}

	c = OpenCache(dir, "r1")
	wantState(t, c, 3)
	segment, ok := c.Segment(s.hash)
	if !ok {
		t.Fatal("the segment is not read")
	}
	s.serves(t, segment)
	wantHealthy(t, c) // so far nothing was to be written
	c.SetState(4, stateOf(4))
	wantState(t, c, 4)
	put(t, c, newSample(4))
	if err := c.Degraded(); !errors.Is(err, unix.EROFS) {
		t.Errorf("degraded: %v, want it to say that the disk is read-only", err)
	}
}

func TestNetworkFileSystemsAreTold(t *testing.T) {
	if kind, err := networkFileSystem(t.TempDir()); kind != "" || err != nil {
		t.Errorf("the temporary folder is on %q (%v)", kind, err)
	}
	for magic, want := range map[uint32]string{0x6969: "NFS", 0xff534d42: "SMB", 0xfe534d42: "SMB", 0x01021997: "9P", unix.EXT4_SUPER_MAGIC: "", unix.OVERLAYFS_SUPER_MAGIC: ""} {
		if got := networkKinds[magic]; got != want {
			t.Errorf("%#x is %q, want %q", magic, got, want)
		}
	}
}
