package dir

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDiskIsAnError fills a real file system.
func TestFullDiskIsAnError(t *testing.T) {
	b := newBucket(t)
	if err := unix.Mount("none", b.root, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	defer func() {
		if err := unix.Unmount(b.root, 0); err != nil {
			t.Error(err)
		}
	}()
	if err := b.Create(t.Context(), "packs/small", make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	err := b.Create(t.Context(), "packs/large", make([]byte, 1<<20))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), b.root) {
		t.Errorf("Create on a full disk = %v, want ENOSPC with the path", err)
	}
	if left := leftovers(t, b); len(left) > 0 {
		t.Errorf("what was written stays and takes space: %v", left)
	}
	if err := b.Create(t.Context(), "packs/large", make([]byte, 10_000)); err != nil {
		t.Errorf("Create of less: %v", err)
	}

	if err := unix.Mount("none", b.root, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("needs the right to mount: %v", err)
	}
	err = b.Create(t.Context(), "packs/more", nil)
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), b.root) {
		t.Errorf("Create on a read-only disk = %v, want EROFS with the path", err)
	}
	if err := b.Delete(t.Context(), "packs/small"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("Delete on a read-only disk = %v, want EROFS", err)
	}
}

func TestForbiddenFolderIsAnError(t *testing.T) {
	t.Setenv("TMPDIR", "/var/tmp") // which every user can enter
	b := newBucket(t)
	for _, name := range []string{"journal/0", "packs/ab/1"} {
		if err := b.Create(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(b.path("packs"), 0); err != nil {
		t.Fatal(err)
	}
	unprivileged(t, b, func() {
		fresh, err := Open(b.root, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		_, getErr := fresh.Get(t.Context(), "packs/ab/1", 0, -1)
		_, statErr := fresh.Stat(t.Context(), "packs/ab/1")
		for method, err := range map[string]error{
			"Get":    getErr,
			"Stat":   statErr,
			"List":   listError(t, fresh, ""),
			"List /": listError(t, fresh, "packs/ab/"),
			"Delete": fresh.Delete(t.Context(), "packs/ab/1"),
			"Create": fresh.Create(t.Context(), "packs/ab/2", nil),
		} {
			if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), filepath.Join(b.root, "packs")) {
				t.Errorf("%s in a forbidden folder = %v, want EACCES with the path", method, err)
			}
		}
		if err := listError(t, fresh, "journal/"); err != nil {
			t.Errorf("List of another folder = %v", err)
		}
	})
}

// unprivileged runs do without the powers of root, to whom nothing is forbidden, by giving a thread
// another identity for file systems and letting the thread go. The bucket's files become that one's.
func unprivileged(t *testing.T, b *Bucket, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		do()
		return
	}
	const nobody = 65534
	err := filepath.Walk(b.root, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, nobody, nobody))
	})
	if err != nil {
		t.Fatal(err)
	}
	for folder := filepath.Dir(b.root); strings.HasPrefix(folder, filepath.Clean(os.TempDir())+"/"); folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with this goroutine
		if _, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
			t.Error(errno)
			return
		}
		do()
	}()
	<-done
}
