package files

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

func TestRoundTrip(t *testing.T) {
	s := newStore(t)
	for seed := range uint64(12) {
		src, dst := scratch(t), filepath.Join(scratch(t), "restored")
		if seed < 2 { // on a disk, too
			src, dst = t.TempDir(), filepath.Join(t.TempDir(), "restored")
		}
		generate(t, src, seed, 100)
		root, report := s.backup(t, src, tree.Root{}, Options{})
		if len(report.Changed.List)+len(report.Vanished.List)+len(report.Unreadable.List)+len(report.Skipped.List) > 0 {
			t.Errorf("seed %d: %+v", seed, report)
		}
		mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{}))
		mustEqual(t, src, dst)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestRoundTripOfLimits(t *testing.T) {
	s := newStore(t)
	src, dst := t.TempDir(), t.TempDir()
	deep := src
	for range 60 { // longer than any path that a system call takes
		deep = filepath.Join(deep, strings.Repeat("d", 60))
	}
	write(t, filepath.Join(deep, "file"), []byte("deep"))
	write(t, filepath.Join(src, strings.Repeat("n", 255)), []byte("long"))
	must(t, os.MkdirAll(filepath.Join(src, "empty/in/empty"), 0o755))
	for _, size := range []int{0, content.MaxInline, content.MaxInline + 1, SmallFile - 1, SmallFile, SmallFile + 1,
		256 << 10, 9 << 20} {
		write(t, filepath.Join(src, fmt.Sprintf("size-%d", size)), noise(uint64(size), size))
	}
	for i := range 1200 {
		write(t, filepath.Join(src, "many", fmt.Sprint(i)), []byte(fmt.Sprint(i)))
	}
	root, report := s.backup(t, src, tree.Root{}, Options{})
	if report.Files != 1210 || report.Bytes == 0 || root.Bytes != uint64(report.Bytes) {
		t.Errorf("%d files of %d bytes; the map says %d", report.Files, report.Bytes, root.Bytes)
	}
	mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{}))
	mustEqual(t, src, dst)
}

func TestUnchangedFilesAreNotOpened(t *testing.T) {
	s := newStore(t)
	src := scratch(t)
	generate(t, src, 1, 400)
	first, report := s.backup(t, src, tree.Root{}, Options{})
	if report.Read == 0 {
		t.Fatal("the first backup read nothing")
	}
	var opened atomic.Int64
	events := Events{Open: func(string) { opened.Add(1) }}
	second, report := s.backup(t, src, first, Options{Events: events})
	if second != first {
		t.Error("the map of the same files has another root")
	}
	if opened.Load() != 0 || report.Read != 0 || report.ReadBytes != 0 {
		t.Errorf("%d files were opened, %d bytes read", opened.Load(), report.ReadBytes)
	}
	if s.wrote.NewBlobs != 0 || s.wrote.Packs != 0 {
		t.Errorf("%d new blobs in %d packs", s.wrote.NewBlobs, s.wrote.Packs)
	}
}

func TestMapDoesNotDependOnTheRun(t *testing.T) {
	s := newStore(t)
	src := scratch(t)
	generate(t, src, 2, 400)
	want, _ := s.backup(t, src, tree.Root{}, Options{Parallel: 1})
	for range 3 {
		if got, _ := s.backup(t, src, tree.Root{}, Options{Parallel: 16}); got != want {
			t.Error("another run gives another root")
		}
	}
	if got, _ := s.backup(t, src, want, Options{ChangeDetection: ByContent}); got != want {
		t.Error("a run that reads all gives another root")
	}
}

// TestMapDoesNotDependOnTheHistory leaves out small files: those keep their places in bundles, which
// is what history there is.
func TestMapDoesNotDependOnTheHistory(t *testing.T) {
	s := newStore(t)
	src := scratch(t)
	for i := range 50 {
		write(t, filepath.Join(src, fmt.Sprint(i%7), fmt.Sprint(i)), noise(uint64(i), []int{40, 100_000, 2 << 20}[i%3]))
	}
	root, _ := s.backup(t, src, tree.Root{}, Options{})
	for i := range 5 {
		write(t, filepath.Join(src, "3", fmt.Sprint("new", i)), noise(uint64(100+i), 50_000))
		must(t, os.Remove(filepath.Join(src, fmt.Sprint(i), fmt.Sprint(i))))
		root, _ = s.backup(t, src, root, Options{})
	}
	if fresh, _ := s.backup(t, src, tree.Root{}, Options{}); fresh != root {
		t.Error("the same files give another root after another history")
	}
}

func TestChangesAreFound(t *testing.T) {
	old := time.Unix(1_600_000_000, 123)
	for _, tc := range []struct {
		name   string
		change func(path string) error
		found  map[ChangeDetection]bool // the content is read
	}{
		{"nothing", func(string) error { return nil },
			map[ChangeDetection]bool{ByContent: true}},
		{"content", func(p string) error { return os.WriteFile(p, []byte("other content"), 0o644) },
			map[ChangeDetection]bool{Strict: true, ByMtime: true, ByContent: true}},
		{"content of the same size", func(p string) error { return os.WriteFile(p, []byte("CONTENT"), 0o644) },
			map[ChangeDetection]bool{Strict: true, ByMtime: true, ByContent: true}},
		{"content of the same size and mtime", func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("CONTENT"), 0o644), os.Chtimes(p, old, old))
		}, map[ChangeDetection]bool{Strict: true, ByContent: true}},
		{"replaced by a copy of the same mtime", func(p string) error {
			return errors.Join(os.WriteFile(p+"2", []byte("content"), 0o644), os.Chtimes(p+"2", old, old), os.Rename(p+"2", p))
		}, map[ChangeDetection]bool{Strict: true, ByContent: true}},
		{"mode", func(p string) error { return os.Chmod(p, 0o600) },
			map[ChangeDetection]bool{Strict: true, ByContent: true}},
		{"another name", func(p string) error { return os.Link(p, p+".link") },
			map[ChangeDetection]bool{Strict: true, ByContent: true}},
	} {
		for _, way := range []ChangeDetection{Strict, ByMtime, ByContent} {
			s := newStore(t)
			src, dst := scratch(t), scratch(t)
			path := filepath.Join(src, "file")
			write(t, path, []byte("content"))
			must(t, os.Chtimes(path, old, old))
			first, _ := s.backup(t, src, tree.Root{}, Options{})
			must(t, tc.change(path))
			second, report := s.backup(t, src, first, Options{ChangeDetection: way})
			if got := report.Read > 0; got != tc.found[way] {
				t.Errorf("%s, %s: file read: %v", tc.name, way, got)
			}
			mustBeComplete(t, s.restore(t, second, dst, RestoreOptions{}))
			if tc.found[way] || !tc.found[Strict] || tc.name == "mode" || tc.name == "another name" {
				mustEqual(t, src, dst)
			}
		}
	}
}

// TestFilesAreReadWhenTheirTicksHavePassed: a change in the same tick as the one before leaves no trace
// in any attribute, so the content must not be read before that is over.
func TestFilesAreReadWhenTheirTicksHavePassed(t *testing.T) {
	s := newStore(t)
	src := scratch(t)
	for i := range 20 {
		write(t, filepath.Join(src, fmt.Sprint(i)), []byte("just written"))
	}
	_, report := s.backup(t, src, tree.Root{}, Options{Parallel: 1, Events: Events{Open: func(path string) {
		var st syscall.Stat_t
		must(t, syscall.Stat(filepath.Join(src, path), &st))
		if age := time.Since(time.Unix(st.Ctim.Unix())); age < tick {
			t.Errorf("%s is read %v after it changed", path, age)
		}
	}}})
	if report.Read != 20 || report.Changed.Count != 0 {
		t.Errorf("%d files read, %d changed", report.Read, report.Changed.Count)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := outlast(ctx, time.Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled wait: %v", err)
	}
}

func TestFilesThatChangeUnderTheBackup(t *testing.T) {
	data := noise(1, 100_000)
	for _, tc := range []struct {
		name  string
		size  int
		event func(path string) error // when the file is open
		want  string                  // in the map
	}{
		{"large grows", 100_000, func(p string) error { return appendTo(p, data) }, "file 200000"},
		{"large shrinks", 100_000, func(p string) error { return os.Truncate(p, 50_000) }, "file 50000"},
		{"large shrinks to nothing", 100_000, func(p string) error { return os.Truncate(p, 0) }, "file 0"},
		{"small grows", 1000, func(p string) error { return appendTo(p, data[:1000]) }, "file 2000"},
		{"small grows large", 1000, func(p string) error { return appendTo(p, data) }, "file 101000"},
		{"small shrinks", 1000, func(p string) error { return os.Truncate(p, 10) }, "file 10"},
		{"empty grows", 0, func(p string) error { return appendTo(p, data) }, "file 100000"},
		{"is overwritten", 1000, func(p string) error { return os.WriteFile(p, data[5000:6000], 0o644) }, "file 1000"},
		{"is removed", 1000, os.Remove, "file 1000"},
	} {
		s := newStore(t)
		src, dst := scratch(t), scratch(t)
		path := filepath.Join(src, "m")
		write(t, path, data[:tc.size])
		write(t, filepath.Join(src, "a"), data)
		write(t, filepath.Join(src, "z"), data[:77])
		var failed error
		root, report := s.backup(t, src, tree.Root{}, Options{Events: Events{Open: func(p string) {
			if p == "m" {
				failed = tc.event(path)
			}
		}}})
		must(t, failed)
		want := map[string]string{".": "directory 0", "a": "file 100000", "m": tc.want, "z": "file 77"}
		if diff := cmp.Diff(want, s.contents(t, root)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if report.Changed.Count != 1 || report.Changed.List[0].Path != "m" || !report.Complete() {
			t.Errorf("%s: changed %v, unreadable %v", tc.name, report.Changed, report.Unreadable)
		}
		mustBeComplete(t, s.restore(t, root, dst, RestoreOptions{}))

		// The next backup reads it again.
		if tc.name == "is removed" {
			continue
		}
		again, report := s.backup(t, src, root, Options{})
		if report.Read != 1 {
			t.Errorf("%s: the next backup read %d files", tc.name, report.Read)
		}
		must(t, os.RemoveAll(dst))
		mustBeComplete(t, s.restore(t, again, dst, RestoreOptions{}))
		mustEqual(t, src, dst)
	}
}

func appendTo(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func TestWhatVanishesIsCounted(t *testing.T) {
	for _, tc := range []struct {
		name   string
		vanish func(path string) error
	}{
		{"removed", os.Remove},
		{"became a symbolic link", func(p string) error { return errors.Join(os.Remove(p), os.Symlink("a", p)) }},
		{"became a FIFO", func(p string) error { return errors.Join(os.Remove(p), syscall.Mkfifo(p, 0o600)) }},
		{"became a directory", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }},
	} {
		s := newStore(t)
		src := scratch(t)
		for _, name := range []string{"a", "m", "z"} {
			write(t, filepath.Join(src, name), []byte(name))
		}
		f, err := openRoot(src)
		must(t, err)
		b := &backup{}
		j := &job{path: "m", folder: f, name: "m"}
		must(t, tc.vanish(filepath.Join(src, "m")))
		must(t, b.read(context.Background(), j))
		f.release()
		if !j.lost || b.report.Vanished.Count != 1 || b.report.Unreadable.Count != 0 {
			t.Errorf("%s: %+v", tc.name, b.report)
		}

		// And through the front door: all that was listed and is gone is counted, the rest is stored.
		src = scratch(t)
		write(t, filepath.Join(src, "a"), []byte("a"))
		for i := range 1200 {
			write(t, filepath.Join(src, "b", fmt.Sprint(i)), []byte("b"))
		}
		write(t, filepath.Join(src, "c"), []byte("c"))
		root, report := s.backup(t, src, tree.Root{}, Options{Parallel: 1, Events: Events{Open: func(p string) {
			if p == "a" {
				must(t, tc.vanish(filepath.Join(src, "c")))
			}
		}}})
		if got := report.Vanished.Count; got > 1 || got == 0 && tc.name == "removed" {
			t.Errorf("%s: %d vanished", tc.name, got)
		}
		if report.Files < 1201 || root.Count < 1203 || !report.Complete() {
			t.Errorf("%s: %d files in a map of %d, unreadable %v", tc.name, report.Files, root.Count, report.Unreadable)
		}
	}
}

func TestUnreadableContentIsCounted(t *testing.T) {
	f, err := openRoot("/proc/self")
	must(t, err)
	defer f.release()
	b := &backup{}
	j := &job{path: "mem", folder: f, name: "mem"} // a regular file whose first byte cannot be read
	if err := b.read(context.Background(), j); err != nil {
		t.Errorf("a file that cannot be read fails the backup: %v", err)
	}
	if !j.lost || b.report.Unreadable.Count != 1 || b.report.Complete() {
		t.Errorf("lost %v, %+v", j.lost, b.report)
	}
}

func TestSpecialFilesAreNotOpened(t *testing.T) {
	s := newStore(t)
	src, dst := scratch(t), scratch(t)
	must(t, syscall.Mkfifo(filepath.Join(src, "fifo"), 0o600))
	l, err := net.Listen("unix", filepath.Join(src, "socket"))
	must(t, err)
	defer l.Close()
	want := map[string]string{".": "directory 0", "fifo": "FIFO 0"}
	devices := unix.Mknod(filepath.Join(src, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil
	if devices { // needs a privilege
		want["null"] = "character device 0"
	}
	done := make(chan bool)
	var root tree.Root
	var report Report
	go func() {
		root, report = s.backup(t, src, tree.Root{}, Options{})
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("the backup hangs")
	}
	if diff := cmp.Diff(want, s.contents(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if report.Skipped.Count != 1 || report.Skipped.List[0].Path != "socket" {
		t.Errorf("skipped %v", report.Skipped)
	}
	restored := s.restore(t, root, dst, RestoreOptions{})
	if restored.Specials != 1 || devices && restored.Skipped.Count != 1 {
		t.Errorf("%d special files restored, skipped %v", restored.Specials, restored.Skipped)
	}
}

func TestOtherFileSystemsAreNotEntered(t *testing.T) {
	s := newStore(t)
	src := scratch(t)
	mount := filepath.Join(src, "mnt")
	must(t, os.Mkdir(mount, 0o755))
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("mounting needs a privilege: ", err)
	}
	defer unix.Unmount(mount, unix.MNT_DETACH)
	write(t, filepath.Join(mount, "foreign"), []byte("foreign"))
	write(t, filepath.Join(src, "own"), []byte("own"))
	root, report := s.backup(t, src, tree.Root{}, Options{})
	want := map[string]string{".": "directory 0", "mnt": "directory 0", "own": "file 3"}
	if diff := cmp.Diff(want, s.contents(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if report.Skipped.Count != 1 || !report.Complete() {
		t.Errorf("skipped %v, unreadable %v", report.Skipped, report.Unreadable)
	}
}

// TestSwappedPathsAreNotFollowed lets somebody who may write to the source exchange a directory, and
// a file, with symbolic links to a secret outside, all the time.
func TestSwappedPathsAreNotFollowed(t *testing.T) {
	s := newStore(t)
	top := scratch(t)
	src, outside := filepath.Join(top, "src"), filepath.Join(top, "outside")
	secret := []byte("a secret of somebody else, longer than what stands inline in an entry of a map")
	write(t, filepath.Join(outside, "name"), secret)
	write(t, filepath.Join(src, "dir/name"), []byte("harmless"))
	write(t, filepath.Join(src, "file"), []byte("harmless"))
	must(t, os.Symlink(outside, filepath.Join(top, "dir-link")))
	must(t, os.Symlink(filepath.Join(outside, "name"), filepath.Join(top, "file-link")))

	stop, flipped := make(chan bool), make(chan bool)
	go func() {
		defer close(flipped)
		for {
			select {
			case <-stop:
				return
			default:
				exchange(filepath.Join(top, "dir-link"), filepath.Join(src, "dir"))
				exchange(filepath.Join(top, "file-link"), filepath.Join(src, "file"))
			}
		}
	}()
	runs, directories, links := 0, 0, 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); runs++ {
		root, _ := s.backup(t, src, tree.Root{}, Options{})
		for e, err := range tree.Open(s, root).Scan(context.Background(), tree.Range{}) {
			must(t, err)
			a, refs, err := decodeEntry(e)
			must(t, err)
			switch a.Type {
			case Directory:
				directories++
			case Symlink:
				links++
			case Regular:
				data, err := content.NewReader(s).ReadAll(context.Background(), refs[0])
				must(t, err)
				if string(data) != "harmless" {
					t.Fatalf("%q has foreign content", e.Key)
				}
			}
		}
	}
	close(stop)
	<-flipped
	if directories <= runs || links == 0 {
		t.Errorf("in %d runs there were %d directories and %d links: nothing raced", runs, directories, links)
	}
}

func exchange(a, b string) {
	_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

func TestBackupFailsAsAWhole(t *testing.T) {
	s := newStore(t)
	_, err := s.tryBuild(func(asm *content.Assembler) error {
		_, err := Backup(context.Background(), Source{Root: filepath.Join(t.TempDir(), "missing")}, asm, nil, Options{})
		return err
	})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such folder: %v", err)
	}
	src := t.TempDir()
	generate(t, src, 3, 300)
	ctx, cancel := context.WithCancel(context.Background())
	_, err = s.tryBuild(func(asm *content.Assembler) error {
		_, err := Backup(ctx, Source{Root: src}, asm, nil, Options{Events: Events{Open: func(string) { cancel() }}})
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if n := openFolders(t); n > 0 {
		t.Errorf("%d folders of the source are still open", n)
	}
}

// openFolders counts the descriptors of this process that are directories below a temporary one.
func openFolders(t *testing.T) (n int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		path, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if info, statErr := os.Stat(path); err == nil && statErr == nil && info.IsDir() && strings.HasPrefix(path, os.TempDir()+"/Test") {
			n++
		}
	}
	return n
}
