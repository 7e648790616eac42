package dir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

func TestStorage(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket { return newBucket(t) })
}

func TestStorageBehindSymlink(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		b := newBucket(t)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(b.root, link); err != nil {
			t.Fatal(err)
		}
		linked, err := Open(link, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return linked
	})
}

func TestOpenWantsFolder(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		o    Options
		want error
	}{
		{filepath.Join(base, "absent"), Options{}, storage.ErrNoBucket},
		{filepath.Join(base, "absent/deeper"), Options{}, storage.ErrNoBucket},
		{file, Options{}, syscall.ENOTDIR},
		{file, Options{Create: true}, syscall.ENOTDIR},
		{filepath.Join(file, "below"), Options{Create: true}, syscall.ENOTDIR},
		{base, Options{}, nil},
		{filepath.Join(base, "new/deep/er"), Options{Create: true}, nil},
		{filepath.Join(base, "new/deep/er"), Options{Create: true}, nil},
	} {
		b, err := Open(test.path, test.o)
		if !errors.Is(err, test.want) {
			t.Errorf("Open(%s, %+v) = %v, want %v", test.path, test.o, err, test.want)
		}
		if err != nil && !strings.Contains(err.Error(), test.path) {
			t.Errorf("error does not name %s: %v", test.path, err)
		}
		if err == nil && b.String() != "dir://"+test.path {
			t.Errorf("String = %s", b)
		}
	}
	if _, err := os.Stat(filepath.Join(base, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("Open made a folder without being told to")
	}
}

func TestRelativePathSurvivesChangeOfFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	b, err := Open("bucket", Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := b.Create(t.Context(), "a", nil); err != nil {
		t.Error(err)
	}
}

// TestMissingRootIsNoEmptyBucket plays a disk that is not mounted any more: no answer may look as if
// the bucket were there without the object.
func TestMissingRootIsNoEmptyBucket(t *testing.T) {
	b := newBucket(t)
	if err := b.Create(t.Context(), "journal/0", nil); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		why  string
		do   func() error
		want error
	}{
		{"removed", func() error { return os.Rename(b.root, b.root+".away") }, storage.ErrNoBucket},
		{"replaced by a file", func() error { return os.WriteFile(b.root, nil, 0o600) }, syscall.ENOTDIR},
	} {
		if err := test.do(); err != nil {
			t.Fatal(err)
		}
		_, getErr := b.Get(t.Context(), "journal/1", 0, -1)
		_, statErr := b.Stat(t.Context(), "journal/1")
		errs := map[string]error{
			"Get": getErr, "Stat": statErr, "Delete": b.Delete(t.Context(), "journal/0"),
			"Create in a known folder": b.Create(t.Context(), "journal/1", nil), "Create": b.Create(t.Context(), "packs/1", nil),
		}
		for _, prefix := range []string{"", "journal/", "packs/"} {
			errs["List "+prefix] = listError(t, b, prefix)
		}
		for method, err := range errs {
			if !errors.Is(err, test.want) || errors.Is(err, storage.ErrNotFound) || !strings.Contains(fmt.Sprint(err), b.root) {
				t.Errorf("root %s: %s = %v, want %v with the path", test.why, method, err, test.want)
			}
		}
	}
}

func TestCreateMakesVanishedFoldersAgain(t *testing.T) {
	b := newBucket(t)
	if err := b.Create(t.Context(), "packs/ab/1", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(b.path("packs")); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "packs/ab/1", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in a folder that vanished = %v, want to hear of it", err)
	}
	if err := b.Create(t.Context(), "packs/ab/1", nil); err != nil {
		t.Errorf("second Create = %v, want nil", err)
	}
}

// TestListIsNeverShorter breaks what a list has to go through.
func TestListIsNeverShorter(t *testing.T) {
	for _, test := range []struct {
		why string
		do  func(b *Bucket) error
	}{
		{"a folder that cannot be followed", func(b *Bucket) error { return os.Symlink("loop", b.path("packs/loop")) }},
		{"a link that leads nowhere", func(b *Bucket) error { return os.Symlink("/nowhere", b.path("packs/gone")) }},
		{"a thing that is no file", func(b *Bucket) error { return syscall.Mkfifo(b.path("packs/fifo"), 0o600) }},
	} {
		b := newBucket(t)
		for _, name := range []string{"journal/0", "packs/aa", "packs/zz", "z"} {
			if err := b.Create(t.Context(), name, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := test.do(b); err != nil {
			t.Fatal(err)
		}
		for _, prefix := range []string{"", "packs/"} {
			if err := listError(t, b, prefix); err == nil || !strings.Contains(err.Error(), b.root) {
				t.Errorf("%s: List(%q) = %v, want an error with the path", test.why, prefix, err)
			}
		}
		if err := listError(t, b, "journal/"); err != nil {
			t.Errorf("%s: List of another folder = %v", test.why, err)
		}
	}
}

// TestLinkToMissingDiskIsAnError plays a bucket with a folder on another disk that is not mounted.
func TestLinkToMissingDiskIsAnError(t *testing.T) {
	b := newBucket(t)
	if err := os.Symlink("/nowhere", b.path("journal")); err != nil {
		t.Fatal(err)
	}
	_, getErr := b.Get(t.Context(), "journal/0", 0, -1)
	_, statErr := b.Stat(t.Context(), "journal/a/0")
	for method, err := range map[string]error{
		"Get": getErr, "Stat": statErr, "Create": b.Create(t.Context(), "journal/1", nil),
		"Delete": b.Delete(t.Context(), "journal/0"),
		"List":   listError(t, b, "journal/"), "List deeper": listError(t, b, "journal/a/"),
	} {
		if err == nil || errors.Is(err, storage.ErrNotFound) || !strings.Contains(err.Error(), b.path("journal")) {
			t.Errorf("%s = %v, want an error with the path", method, err)
		}
	}
}

func TestGetOfSpecialFileFailsAtOnce(t *testing.T) {
	b := newBucket(t)
	if err := syscall.Mkfifo(b.path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := b.Get(t.Context(), "fifo", 0, -1)
	_, statErr := b.Stat(t.Context(), "fifo")
	if !errors.Is(err, errNotRegular) || !errors.Is(statErr, errNotRegular) {
		t.Errorf("Get = %v, Stat = %v, want errNotRegular", err, statErr)
	}
}

func TestLinkedFoldersAreListed(t *testing.T) {
	b, other := newBucket(t), newBucket(t)
	if err := os.Symlink(other.root, b.path("packs")); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "packs/ab/1", nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"packs/ab/1"}, names(t, b)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestForeignFilesAreNotSeen(t *testing.T) {
	b := newBucket(t)
	for _, name := range []string{"lost+found", ".snapshot", "System Volume Information"} {
		if err := os.Mkdir(b.path(name), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"README.txt", ".DS_Store", "a b", tempPrefix + "123"} {
		if err := os.WriteFile(b.path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, b); len(got) > 0 {
		t.Errorf("listed %v", got)
	}
}

func TestCreateWhereFolderStands(t *testing.T) {
	b := newBucket(t)
	for _, name := range []string{"a/b", "c"} {
		if err := b.Create(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Create(t.Context(), "a", nil); !errors.Is(err, syscall.EISDIR) || errors.Is(err, storage.ErrExists) {
		t.Errorf("Create over a folder = %v, want EISDIR", err)
	}
	if err := b.Create(t.Context(), "c/d", nil); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Create below an object = %v, want ENOTDIR", err)
	}
}

// TestLeftoversOfCrashes shows that temporary files are removed once they are old, in small portions
// and only by who writes.
func TestLeftoversOfCrashes(t *testing.T) {
	b := newBucket(t)
	if err := b.Create(t.Context(), "packs/ab/1", nil); err != nil {
		t.Fatal(err)
	}
	const old = maxStale + 10
	for i := range old {
		path := b.path(fmt.Sprintf("packs/ab/%s%d", tempPrefix, i))
		if err := os.WriteFile(path, []byte("part"), 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-staleAge - time.Minute)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	young := b.path("packs/ab/" + tempPrefix + "young")
	if err := os.WriteFile(young, []byte("part"), 0o600); err != nil {
		t.Fatal(err)
	}

	for range 3 {
		if diff := cmp.Diff([]string{"packs/ab/1"}, names(t, b)); diff != "" {
			t.Errorf("leftovers are listed: -want +got\n%s", diff)
		}
	}
	if got := len(leftovers(t, b)); got != old+1 {
		t.Errorf("List removed files: %d are left of %d", got, old+1)
	}
	if err := b.Create(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if got, want := len(leftovers(t, b)), old+1-maxStale; got != want {
		t.Errorf("%d leftovers after a Create, want %d", got, want)
	}
	names(t, b)
	if err := b.Delete(t.Context(), "absent"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{young}, leftovers(t, b)); diff != "" {
		t.Errorf("after a second List and a Delete: -want +got\n%s", diff)
	}
}

func newBucket(t *testing.T) *Bucket {
	t.Helper()
	b, err := Open(filepath.Join(t.TempDir(), "bucket"), Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func listError(t *testing.T, b *Bucket, prefix string) error {
	t.Helper()
	for _, err := range b.List(t.Context(), prefix, "") {
		if err != nil {
			return err
		}
	}
	return nil
}

func TestRemoveFolderRemovesNoFile(t *testing.T) {
	root := t.TempDir()
	b, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"probe/a/1", "probe/a/b/2", "probe/3", "other/4"} {
		if err := b.Create(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.RemoveFolder(t.Context(), "probe"); err == nil {
		t.Error("a folder with files was removed")
	}
	for _, name := range []string{"probe/a/1", "probe/a/b/2", "probe/3"} {
		if _, err := b.Stat(t.Context(), name); err != nil {
			t.Error(err)
		}
		if err := b.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is none
		if err := b.RemoveFolder(t.Context(), "probe"); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "probe")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	if _, err := b.Stat(t.Context(), "other/4"); err != nil {
		t.Error(err)
	}
	if err := b.RemoveFolder(t.Context(), "../x"); !errors.Is(err, storage.ErrBadName) {
		t.Errorf("RemoveFolder of a bad name = %v", err)
	}
}
