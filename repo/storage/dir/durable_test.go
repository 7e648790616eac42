package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
)

// recorder is the real disk that writes down the calls, and can make one of them fail.
type recorder struct {
	osDisk
	root string

	mu    sync.Mutex
	calls []string
	fail  func(call string) error // instead of the call, if not nil
}

func (r *recorder) mkdir(path string) error {
	return r.call("mkdir "+r.rel(path), func() error { return r.osDisk.mkdir(path) })
}

func (r *recorder) createTemp(folder string) (f *os.File, err error) {
	err = r.call("create "+r.rel(filepath.Join(folder, tempPrefix)), func() error {
		f, err = r.osDisk.createTemp(folder)
		return err
	})
	return f, err
}

// sync records the size of a file, which shows that it was written before.
func (r *recorder) sync(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	call := "sync " + r.rel(f.Name())
	if !info.IsDir() {
		call += fmt.Sprintf(" of %d bytes", info.Size())
	}
	return r.call(call, func() error { return r.osDisk.sync(f) })
}

func (r *recorder) close(f *os.File) error {
	err := r.osDisk.close(f) // a close that fails has closed all the same
	return errors.Join(r.call("close "+r.rel(f.Name()), func() error { return nil }), err)
}

func (r *recorder) link(from, to string) error {
	return r.call("link "+r.rel(from)+" "+r.rel(to), func() error { return r.osDisk.link(from, to) })
}

func (r *recorder) remove(path string) error {
	return r.call("remove "+r.rel(path), func() error { return r.osDisk.remove(path) })
}

func (r *recorder) call(call string, do func() error) error {
	r.mu.Lock()
	r.calls = append(r.calls, call)
	r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(call); err != nil {
			return err
		}
	}
	return do()
}

// rel names a path from above the bucket, without the random part of a temporary name.
func (r *recorder) rel(path string) string {
	rel, err := filepath.Rel(filepath.Dir(r.root), path)
	if err != nil {
		return path
	}
	if i := strings.Index(rel, tempPrefix); i >= 0 {
		rel = rel[:i+len(tempPrefix)]
	}
	return rel
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

// record opens the bucket at root, which may be missing, with a recorder beneath.
func record(t *testing.T, root string) (*Bucket, *recorder) {
	t.Helper()
	r := &recorder{root: root}
	b := &Bucket{root: root, disk: r, durable: map[string]bool{root: true}}
	if err := b.open(Options{Create: true}); err != nil {
		t.Fatal(err)
	}
	return b, r
}

// TestCreateSyncsInOrder is the test that notices a missing or misplaced fsync, which no other test
// can short of cutting the power.
func TestCreateSyncsInOrder(t *testing.T) {
	base := t.TempDir()
	b, r := record(t, filepath.Join(base, "a/b"))
	write := []string{
		"create b/packs/ab/.tmp-", "sync b/packs/ab/.tmp- of 5 bytes", "close b/packs/ab/.tmp-",
		"link b/packs/ab/.tmp- b/packs/ab/1", "remove b/packs/ab/.tmp-", "sync b/packs/ab",
	}
	steps := []struct {
		why  string
		do   func() error
		want []string
	}{
		{"a missing root is made with all above it, each name durable", func() error { return nil },
			[]string{"mkdir b", "mkdir .", "sync ..", "mkdir b", "sync ."}},
		{"missing folders are made durable before anything is in them",
			func() error { return b.Create(t.Context(), "packs/ab/1", []byte("bytes")) },
			slices.Concat([]string{"mkdir b/packs", "sync b", "mkdir b/packs/ab", "sync b/packs"}, write)},
		{"a taken name is made durable by whoever finds it taken",
			func() error {
				if err := b.Create(t.Context(), "packs/ab/1", []byte("bytes")); !errors.Is(err, storage.ErrExists) {
					return fmt.Errorf("Create of a taken name = %w", err)
				}
				return nil
			}, write},
		{"known folders need nothing more", func() error { return b.Create(t.Context(), "varve.json", nil) },
			[]string{"create b/.tmp-", "sync b/.tmp- of 0 bytes", "close b/.tmp-", "link b/.tmp- b/varve.json", "remove b/.tmp-", "sync b"}},
		{"folders that another process made may not be durable yet",
			func() error {
				b, r = record(t, b.root)
				return b.Create(t.Context(), "packs/ab/2", []byte("bytes"))
			},
			slices.Concat([]string{"mkdir b/packs", "sync b", "mkdir b/packs/ab", "sync b/packs"}, write[:3],
				[]string{"link b/packs/ab/.tmp- b/packs/ab/2"}, write[4:])},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.why, err)
		}
		if diff := cmp.Diff(step.want, r.take()); diff != "" {
			t.Errorf("%s: -want +got\n%s", step.why, diff)
		}
	}
}

// TestCreateFailsWithItsSteps makes every call of a Create fail in turn.
func TestCreateFailsWithItsSteps(t *testing.T) {
	for _, test := range []struct {
		call    string
		errno   syscall.Errno
		fails   bool
		visible bool // the name may be there although Create failed
	}{
		{call: "mkdir b/packs", errno: syscall.EROFS, fails: true},
		{call: "sync b", errno: syscall.EIO, fails: true},
		{call: "create b/packs/.tmp-", errno: syscall.ENOSPC, fails: true},
		{call: "sync b/packs/.tmp- of 4 bytes", errno: syscall.ENOSPC, fails: true},
		{call: "link b/packs/.tmp- b/packs/1", errno: syscall.ENOSPC, fails: true},
		{call: "close b/packs/.tmp-", errno: syscall.EDQUOT, fails: true},
		{call: "link b/packs/.tmp- b/packs/1", errno: syscall.EPERM, fails: true},
		{call: "remove b/packs/.tmp-", errno: syscall.EIO, fails: false, visible: true},
		{call: "sync b/packs", errno: syscall.EIO, fails: true, visible: true},
	} {
		t.Run(test.call+" "+test.errno.Error(), func(t *testing.T) {
			b, r := record(t, filepath.Join(t.TempDir(), "b"))
			r.fail = func(call string) error {
				if call == test.call {
					return &fs.PathError{Op: "do", Path: call, Err: test.errno}
				}
				return nil
			}
			err := b.Create(t.Context(), "packs/1", []byte("data"))
			if test.fails != (err != nil) || test.fails && !errors.Is(err, test.errno) {
				t.Errorf("Create = %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "create packs/1: ") {
				t.Errorf("error does not say what was attempted: %v", err)
			}
			if got := names(t, b); (len(got) == 1) != test.visible {
				t.Errorf("listed %v", got)
			}
			if test.visible {
				r.fail = nil
				return
			}
			if left := leftovers(t, b); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			r.fail = nil
			if err := b.Create(t.Context(), "packs/1", []byte("data")); err != nil {
				t.Errorf("Create, once the disk works again: %v", err)
			}
		})
	}
}

// TestCreateTrustsTheLinkOverItsError plays a network file system that repeats a link request whose
// answer was lost, and then reports that the name exists.
func TestCreateTrustsTheLinkOverItsError(t *testing.T) {
	b, r := record(t, filepath.Join(t.TempDir(), "b"))
	b.disk = lostAnswer{r}
	if err := b.Create(t.Context(), "a", []byte("data")); err != nil {
		t.Errorf("Create = %v, want nil: the name is ours", err)
	}
}

type lostAnswer struct{ *recorder }

func (d lostAnswer) link(from, to string) error {
	return errors.Join(d.recorder.link(from, to), &os.LinkError{Op: "link", Old: from, New: to, Err: syscall.EEXIST})
}

// TestCreateIsInvisibleUntilWhole looks at the bucket at every step of a Create.
func TestCreateIsInvisibleUntilWhole(t *testing.T) {
	b, r := record(t, filepath.Join(t.TempDir(), "b"))
	linked := false
	r.fail = func(call string) error {
		if got := names(t, b); (len(got) > 0) != linked {
			t.Errorf("before %q: listed %v", call, got)
		}
		data, err := b.Get(t.Context(), "a/b", 0, -1)
		if linked && string(data) != "data" || !linked && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("before %q: Get = %q, %v", call, data, err)
		}
		linked = linked || strings.HasPrefix(call, "link")
		return nil
	}
	if err := b.Create(t.Context(), "a/b", []byte("data")); err != nil {
		t.Fatal(err)
	}
	if !linked {
		t.Error("no link was made")
	}
}

func TestCancelledCreateStopsBeforeTheName(t *testing.T) {
	b, r := record(t, filepath.Join(t.TempDir(), "b"))
	ctx, cancel := context.WithCancel(t.Context())
	r.fail = func(call string) error {
		if strings.HasPrefix(call, "sync b/a/.tmp-") {
			cancel()
		}
		return nil
	}
	if err := b.Create(ctx, "a/b", []byte("data")); !errors.Is(err, context.Canceled) {
		t.Errorf("Create = %v, want context.Canceled", err)
	}
	if got, left := names(t, b), leftovers(t, b); len(got) > 0 || len(left) > 0 {
		t.Errorf("there is %v, and left behind %v", got, left)
	}
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	b := newBucket(t)
	if err := b.Create(t.Context(), "packs/ab/1", nil); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{"": 0o700, "packs": 0o700, "packs/ab": 0o700, "packs/ab/1": 0o600} {
		info, err := os.Stat(b.path(path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %q is %o, want %o", path, got, want)
		}
	}
}

func names(t *testing.T, b *Bucket) []string {
	t.Helper()
	names := []string{}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

// leftovers returns the temporary files anywhere in the bucket.
func leftovers(t *testing.T, b *Bucket) []string {
	t.Helper()
	left := []string{}
	err := filepath.WalkDir(b.root, func(path string, e fs.DirEntry, err error) error {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			left = append(left, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return left
}
