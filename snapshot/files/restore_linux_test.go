package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/storage/dir"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

func TestNonEmptyTargets(t *testing.T) {
	s := newStore(t)
	src := scratch(t)
	write(t, filepath.Join(src, "same"), []byte("same"))
	write(t, filepath.Join(src, "differs"), []byte("from the snapshot"))
	write(t, filepath.Join(src, "missing"), []byte("missing"))
	write(t, filepath.Join(src, "dir/file"), []byte("file"))
	must(t, os.Symlink("from-the-snapshot", filepath.Join(src, "link")))
	write(t, filepath.Join(src, "was-a-link/file"), []byte("file"))
	root, _ := s.backup(t, src, tree.Root{}, Options{})

	prepare := func(t *testing.T) string {
		dst := scratch(t)
		mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{}))
		write(t, filepath.Join(dst, "differs"), []byte("in the target"))
		write(t, filepath.Join(dst, "extra"), []byte("extra"))
		must(t, os.Remove(filepath.Join(dst, "missing")))
		must(t, os.Remove(filepath.Join(dst, "link")))
		must(t, os.Symlink("in-the-target", filepath.Join(dst, "link")))
		must(t, os.RemoveAll(filepath.Join(dst, "was-a-link")))
		must(t, os.Symlink("dir", filepath.Join(dst, "was-a-link")))
		write(t, filepath.Join(dst, "dir", temporaryName()), []byte("left behind by a crash"))
		return dst
	}
	t.Run("refused", func(t *testing.T) {
		dst := prepare(t)
		before := look(t, dst)
		_, err := Restore(context.Background(), tree.Open(s, root), content.NewReader(s), dst, RestoreOptions{})
		if !errors.Is(err, ErrNotEmpty) {
			t.Errorf("error %v", err)
		}
		if diff := cmp.Diff(before, look(t, dst)); diff != "" {
			t.Errorf("the target changed (-before +after):\n%s", diff)
		}
	})
	t.Run("lost+found does not count", func(t *testing.T) {
		dst := scratch(t)
		must(t, os.Mkdir(filepath.Join(dst, "lost+found"), 0o700))
		mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{}))
	})
	t.Run("overwritten", func(t *testing.T) {
		dst := prepare(t)
		report := s.restore(t, root, dst, RestoreOptions{Policy: Overwrite})
		mustBeComplete(t, report)
		if report.Files != 3 || report.Symlinks != 1 || report.Right != 2 {
			t.Errorf("%d files and %d links written, %d right", report.Files, report.Symlinks, report.Right)
		}
		must(t, os.Remove(filepath.Join(dst, "extra"))) // nothing else is there
		setTime(t, dst, mtime(t, src))
		mustEqual(t, src, dst)
	})
	t.Run("kept", func(t *testing.T) {
		dst := prepare(t)
		before := look(t, dst)
		report := s.restore(t, root, dst, RestoreOptions{Policy: KeepExisting})
		mustBeComplete(t, report)
		// same, differs, dir/file, link, was-a-link and what would be in it
		if report.Files != 1 || report.Kept != 6 {
			t.Errorf("%d files written, %d kept", report.Files, report.Kept)
		}
		after := look(t, dst)
		if !strings.Contains(after["missing"], " 7 bytes") {
			t.Errorf("missing file: %q", after["missing"])
		}
		delete(after, "missing")
		delete(after, ".")
		delete(before, ".")
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("what was there changed (-before +after):\n%s", diff)
		}
	})
	t.Run("a directory is in the way", func(t *testing.T) {
		dst := scratch(t)
		write(t, filepath.Join(dst, "same/inside"), []byte("precious"))
		report := s.restore(t, root, dst, RestoreOptions{Policy: Overwrite})
		if report.Failed.Count != 1 || report.Failed.List[0].Path != "same" {
			t.Errorf("failed %v", report.Failed)
		}
		if _, err := os.Stat(filepath.Join(dst, "same/inside")); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatAppearsMeanwhileIsNotReplaced(t *testing.T) {
	dst := scratch(t)
	f, err := openRoot(dst)
	must(t, err)
	defer f.release()
	s := &restore{opt: RestoreOptions{Policy: Overwrite}}
	_, err = s.put(&restoreJob{folder: f, name: "file"}, func(name string) error {
		write(t, filepath.Join(dst, name), []byte("restored"))
		write(t, filepath.Join(dst, "file"), []byte("somebody else's"))
		return nil
	})
	if !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v", err)
	}
	if names, err := f.names(); err != nil || !slices.Equal(names, []string{"file"}) {
		t.Errorf("left behind: %q, %v", names, err)
	}
	if data, err := os.ReadFile(filepath.Join(dst, "file")); string(data) != "somebody else's" {
		t.Errorf("the file is %q, %v", data, err)
	}
}

func TestModesAreNotSetThroughLinks(t *testing.T) {
	top := scratch(t)
	write(t, filepath.Join(top, "outside"), nil)
	must(t, os.MkdirAll(filepath.Join(top, "target"), 0o755))
	must(t, os.Symlink("../outside", filepath.Join(top, "target/fifo")))
	f, err := openRoot(filepath.Join(top, "target"))
	must(t, err)
	defer f.release()
	before := look(t, top)
	if err := f.setModeOf("fifo", Attributes{Type: FIFO, Mode: 0o666}); err == nil {
		t.Error("no error")
	}
	if diff := cmp.Diff(before, look(t, top)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func mtime(t *testing.T, path string) time.Time {
	t.Helper()
	info, err := os.Lstat(path)
	must(t, err)
	return info.ModTime()
}

func TestRestoreOfSomePaths(t *testing.T) {
	s := newStore(t)
	src := scratch(t)
	for _, path := range []string{"a/b/c/1", "a/b/c/2", "a/b/d", "a/bb/x", "a.txt", "z/1", "z/2"} {
		write(t, filepath.Join(src, path), []byte(path))
	}
	must(t, os.Chmod(filepath.Join(src, "a"), 0o711))
	setTime(t, filepath.Join(src, "a"), time.Unix(1000, 5))
	root, _ := s.backup(t, src, tree.Root{}, Options{})
	for _, tc := range []struct {
		include []string
		want    []string
		failed  int64
	}{
		{[]string{"a/b"}, []string{".", "a", "a/b", "a/b/c", "a/b/c/1", "a/b/c/2", "a/b/d"}, 0},
		{[]string{"z/2", "/a/b/c/1/"}, []string{".", "a", "a/b", "a/b/c", "a/b/c/1", "z", "z/2"}, 0},
		{[]string{"a/b", "a/b/c", "a/b/d", "a.txt"}, []string{".", "a", "a.txt", "a/b", "a/b/c", "a/b/c/1", "a/b/c/2", "a/b/d"}, 0},
		{[]string{"a/b/c/2", "a/b/d"}, []string{".", "a", "a/b", "a/b/c", "a/b/c/2", "a/b/d"}, 0},
		{[]string{"nothing", "z/1"}, []string{".", "z", "z/1"}, 1},
		{[]string{"."}, []string{".", "a", "a.txt", "a/b", "a/b/c", "a/b/c/1", "a/b/c/2", "a/b/d", "a/bb", "a/bb/x", "z", "z/1", "z/2"}, 0},
	} {
		dst := scratch(t)
		report := s.restore(t, root, dst, RestoreOptions{Include: tc.include})
		if report.Failed.Count != tc.failed {
			t.Errorf("%q: failed %v", tc.include, report.Failed)
		}
		got, all := look(t, dst), look(t, src)
		var paths []string
		for path, d := range got {
			paths = append(paths, path)
			if path != "." && d != all[path] {
				t.Errorf("%q: %s is %s, want %s", tc.include, path, d, all[path])
			}
		}
		slices.Sort(paths)
		if diff := cmp.Diff(tc.want, paths); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tc.include, diff)
		}
	}
	// A directory on the way that is there already is not what was asked for.
	dst := scratch(t)
	must(t, os.Mkdir(filepath.Join(dst, "a"), 0o700))
	mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{Policy: Overwrite, Include: []string{"a/b/d"}}))
	if info, err := os.Stat(filepath.Join(dst, "a")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory on the way has mode %v, %v", info.Mode(), err)
	}
	_, err := Restore(context.Background(), tree.Open(s, root), content.NewReader(s), scratch(t), RestoreOptions{Include: []string{"../x"}})
	if err == nil {
		t.Error("a path out of the snapshot was accepted")
	}
}

func TestHardLinksAreKept(t *testing.T) {
	s := newStore(t)
	src := scratch(t)
	write(t, filepath.Join(src, "b/first"), noise(1, 5000))
	for _, name := range []string{"b/second", "c", "d/e"} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(src, name)), 0o755))
		must(t, os.Link(filepath.Join(src, "b/first"), filepath.Join(src, name)))
	}
	write(t, filepath.Join(scratch(t), "outside"), nil)
	root, report := s.backup(t, src, tree.Root{}, Options{})
	if report.Read != 1 || report.Files != 4 || report.Bytes != 5000 || root.Bytes != 5000 {
		t.Errorf("%d of %d names read, %d bytes", report.Read, report.Files, report.Bytes)
	}
	dst := scratch(t)
	restored := s.restore(t, root, dst, RestoreOptions{})
	mustBeComplete(t, restored)
	mustEqual(t, src, dst)
	if restored.Files != 1 || restored.Links != 3 {
		t.Errorf("%d files, %d links", restored.Files, restored.Links)
	}

	// Only further names asked for: the first of them gets the content.
	part := scratch(t)
	mustBeComplete(t, s.restore(t, root, part, RestoreOptions{Include: []string{"c", "d"}}))
	c, err := os.Stat(filepath.Join(part, "c"))
	must(t, err)
	e, err := os.Stat(filepath.Join(part, "d/e"))
	must(t, err)
	if !os.SameFile(c, e) || c.Size() != 5000 {
		t.Errorf("two names of one file: %v, %d bytes", os.SameFile(c, e), c.Size())
	}

	// A name of its own is made a link again; a right one is left alone.
	must(t, os.Remove(filepath.Join(dst, "c")))
	data, err := os.ReadFile(filepath.Join(dst, "b/first"))
	must(t, err)
	write(t, filepath.Join(dst, "c"), data)
	must(t, os.Chtimes(filepath.Join(dst, "c"), time.Time{}, mtime(t, filepath.Join(dst, "b/first"))))
	again := s.restore(t, root, dst, RestoreOptions{Policy: Overwrite})
	mustEqual(t, src, dst)
	if again.Files != 0 || again.Links != 1 || again.Right != 3 {
		t.Errorf("%d files, %d links, %d right", again.Files, again.Links, again.Right)
	}

	// What the policy keeps is not linked to: it is another file.
	other := scratch(t)
	write(t, filepath.Join(other, "b/first"), []byte("another"))
	mustBeComplete(t, s.restore(t, root, other, RestoreOptions{Policy: KeepExisting}))
	if data, err := os.ReadFile(filepath.Join(other, "c")); err != nil || !bytes.Equal(data, noise(1, 5000)) {
		t.Errorf("a name of the file has %d bytes, %v", len(data), err)
	}
}

// TestFirstNameReplaced backs up a file of two names, the first of which is replaced between being
// seen and being read. The other must not become a link to what is there now.
func TestFirstNameReplaced(t *testing.T) {
	s := newStore(t)
	src, dst := scratch(t), scratch(t)
	write(t, filepath.Join(src, "a"), []byte("a"))
	write(t, filepath.Join(src, "m"), []byte("the file of two names"))
	must(t, os.Link(filepath.Join(src, "m"), filepath.Join(src, "n")))
	for i := range maxAhead + 100 { // so that the walk has seen m and n, and waits, when a is opened
		write(t, filepath.Join(src, "z", fmt.Sprint(i)), nil)
	}
	root, _ := s.backup(t, src, tree.Root{}, Options{Parallel: 1, Events: Events{Open: func(path string) {
		if path == "a" {
			time.Sleep(50 * time.Millisecond) // for the walk
			must(t, os.WriteFile(filepath.Join(src, "new"), []byte("another file"), 0o644))
			must(t, os.Rename(filepath.Join(src, "new"), filepath.Join(src, "m")))
		}
	}}})
	mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{Include: []string{"m", "n"}}))
	for name, want := range map[string]string{"m": "another file", "n": "the file of two names"} {
		if data, err := os.ReadFile(filepath.Join(dst, name)); string(data) != want {
			t.Errorf("%s is %q, %v", name, data, err)
		}
	}
}

func TestExtendedAttributesAreKept(t *testing.T) {
	s := newStore(t)
	src, dst := scratch(t), scratch(t)
	write(t, filepath.Join(src, "dir/file"), []byte("file"))
	for _, path := range []string{"dir", "dir/file"} {
		path = filepath.Join(src, path)
		if err := unix.Setxattr(path, "user.long", noise(1, 1000), 0); err != nil {
			t.Skip("no extended attributes here: ", err)
		}
		must(t, unix.Setxattr(path, "user.empty", nil, 0))
		must(t, unix.Setxattr(path, "user.binary", []byte{0, 1, 255}, 0))
	}
	must(t, os.Chmod(filepath.Join(src, "dir/file"), 0o400))
	root, _ := s.backup(t, src, tree.Root{}, Options{})
	mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{}))
	mustEqual(t, src, dst)
	if got := look(t, dst)["dir/file"]; !strings.Contains(got, "user.binary=0001ff") {
		t.Errorf("restored file: %s", got)
	}
}

// failing is a repository that has lost one blob.
type failing struct {
	*store
	lost func(data []byte) bool
}

var errLost = errors.New("lost")

func (f failing) Read(ctx context.Context, ref blob.Ref) ([]byte, error) {
	data, err := f.store.Read(ctx, ref)
	if err == nil && f.lost(data) {
		return nil, errLost
	}
	return data, err
}

func TestLostContentCostsItsFilesOnly(t *testing.T) {
	s := newStore(t)
	src, dst := scratch(t), scratch(t)
	large := noise(1, 4<<20)
	write(t, filepath.Join(src, "a/large"), large)
	write(t, filepath.Join(src, "b/other"), noise(2, 1<<20))
	write(t, filepath.Join(src, "small"), noise(3, 1000))
	root, _ := s.backup(t, src, tree.Root{}, Options{})
	broken := failing{s, func(data []byte) bool { return bytes.Contains(data, large[3<<20:3<<20+32]) }}
	report, err := Restore(context.Background(), tree.Open(s, root), content.NewReader(broken), dst, RestoreOptions{})
	must(t, err)
	if report.Failed.Count != 1 || report.Failed.List[0].Path != "a/large" || report.Complete() ||
		!strings.Contains(report.Failed.List[0].Reason, "lost") {
		t.Errorf("failed %v", report.Failed)
	}
	want := look(t, src)
	delete(want, "a/large") // not there at all, under any name
	if diff := cmp.Diff(want, look(t, dst)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCancelledRestore(t *testing.T) {
	s := newStore(t)
	src, dst := t.TempDir(), t.TempDir()
	generate(t, src, 5, 200)
	root, _ := s.backup(t, src, tree.Root{}, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	_, err := Restore(ctx, tree.Open(s, root), content.NewReader(s), dst,
		RestoreOptions{Events: Events{Bytes: func(int64) { cancel() }}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if n := openFolders(t); n > 0 {
		t.Errorf("%d folders of the target are still open", n)
	}
	// Again, with what is there: only the rest is written.
	mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{Policy: Overwrite}))
	mustEqual(t, src, dst)
}

// TestCancelledRestoreWaitsForNobody cancels while a further name waits for the first name of its file,
// which nobody is going to make any more.
func TestCancelledRestoreWaitsForNobody(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	j := &restoreJob{path: "b", attrs: Attributes{Type: Regular, Link: "a"},
		group: &restoredGroup{path: "a", done: make(chan struct{})}}
	done := make(chan error)
	go func() { done <- new(restore).process(ctx, j) }()
	time.Sleep(10 * time.Millisecond) // until it waits; if it does not yet, the test passes all the same
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it waits for ever")
	}
}

// TestLeftoversOfACrashAreRemoved also has a directory of somebody else whose name looks like one.
func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	s := newStore(t)
	root := s.mapOf(t, dirEntry("d"), fileEntry("d/file", "file"))
	dst := scratch(t)
	for _, in := range []string{".", "d"} {
		write(t, filepath.Join(dst, in, temporaryName()), []byte("half a fi"))
		write(t, filepath.Join(dst, in, temporaryName(), "kept"), nil)
	}
	mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{Policy: Overwrite}))
	kept := 0
	for path, d := range look(t, dst) {
		if isTemporary(filepath.Base(path)) && strings.HasPrefix(d, "-") {
			t.Errorf("%s is still there", path)
		}
		if filepath.Base(path) == "kept" {
			kept++
		}
	}
	if kept != 2 {
		t.Errorf("%d of 2 files of somebody else are left", kept)
	}
}

func TestWrongOwnersArePutRight(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can set owners")
	}
	s := newStore(t)
	src, dst := scratch(t), scratch(t)
	write(t, filepath.Join(src, "file"), []byte("file"))
	must(t, os.Chown(filepath.Join(src, "file"), 1000, 1001))
	root, _ := s.backup(t, src, tree.Root{}, Options{})
	mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{}))
	must(t, os.Chown(filepath.Join(dst, "file"), 1001, 1001))
	mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{Policy: Overwrite}))
	mustEqual(t, src, dst)
}

// TestRestoreWithoutPrivileges runs in a process of its own if this one is root, because it is the
// process that has the privileges.
func TestRestoreWithoutPrivileges(t *testing.T) {
	const repository, target = "VARVE_TEST_REPOSITORY", "VARVE_TEST_TARGET"
	if os.Getenv(repository) == "" {
		t.Setenv("TMPDIR", "/var/tmp") // which every user can enter
		top := t.TempDir()
		must(t, os.Chmod(filepath.Dir(top), 0o755))
		must(t, os.Chmod(top, 0o755))
		b, err := dir.Open(filepath.Join(top, "repository"), dir.Options{Create: true})
		must(t, err)
		s := newStoreIn(t, b)
		foreign := fileEntry("setuid", "of root")
		foreign.attrs.Mode, foreign.attrs.UID, foreign.attrs.GID = 0o6755, 0, 12345
		sub := dirEntry("dir")
		sub.attrs.Mode, sub.attrs.UID, sub.attrs.GID = 0o555, 0, 12345
		s.mapOf(t, sub, foreign, fileEntry("dir/file", "file"), linkEntry("dir/link", "x"))
		must(t, filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			return errors.Join(err, os.Chmod(path, 0o777))
		}))
		test := filepath.Join(top, "test")
		self, err := os.ReadFile("/proc/self/exe")
		must(t, err)
		must(t, os.WriteFile(test, self, 0o755))
		cmd := exec.Command(test, "-test.run", "^TestRestoreWithoutPrivileges$")
		cmd.Dir = top
		cmd.Env = append(os.Environ(), repository+"="+filepath.Join(top, "repository"), target+"="+filepath.Join(top, "target"))
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	b, err := dir.Open(os.Getenv(repository), dir.Options{})
	must(t, err)
	r, err := repo.Open(context.Background(), b, repo.OpenOptions{Password: password})
	must(t, err)
	s := &store{Repository: r}
	live := s.Snapshots()
	manifest, err := s.ReadNode(context.Background(), blob.Ref{Class: blob.Manifest, ID: live[0].Manifest})
	must(t, err)
	root := tree.Root{Ref: manifest.Links[0], Count: 4, Bytes: uint64(len("of root") + len("file")), Height: 1}
	report := s.restore(t, root, os.Getenv(target), RestoreOptions{})
	if report.Failed.Count != 0 || report.Files != 2 || report.Directories != 1 || report.Symlinks != 1 {
		t.Errorf("%+v", report)
	}
	if len(report.Warnings) != 1 || report.Warnings[0].Count != 4 || !strings.Contains(report.Warnings[0].What, "owner") {
		t.Errorf("warnings %v", report.Warnings)
	}
	info, err := os.Stat(filepath.Join(os.Getenv(target), "setuid"))
	must(t, err)
	if info.Mode() != 0o755 {
		t.Errorf("a program that lent the rights of its owner has mode %v and another owner", info.Mode())
	}

	// Again, with a file missing in a directory that nobody may write to.
	sub := filepath.Join(os.Getenv(target), "dir")
	must(t, os.Chmod(sub, 0o755))
	must(t, os.Remove(filepath.Join(sub, "file")))
	must(t, os.Chmod(sub, 0o555))
	report = s.restore(t, root, os.Getenv(target), RestoreOptions{Policy: Overwrite})
	if info, err = os.Stat(sub); err != nil || info.Mode().Perm() != 0o555 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(filepath.Join(sub, "file")); err != nil || report.Failed.Count != 0 {
		t.Errorf("%v, failed %v", err, report.Failed)
	}
}
