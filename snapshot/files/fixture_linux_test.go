package files

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

const password = "correct horse battery staple"

// store is a repository and what the last backup into it wrote.
type store struct {
	*repo.Repository
	wrote  repo.WriterStats
	sparse []blob.Ref
}

func newStore(t testing.TB) *store { return newStoreIn(t, mem.New()) }

func newStoreIn(t testing.TB, b storage.Bucket) *store {
	t.Helper()
	if _, err := repo.Init(context.Background(), b, repo.InitOptions{Password: password, PasswordWork: 1}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(context.Background(), b, repo.OpenOptions{Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return &store{Repository: r}
}

// build commits the map that fill puts together.
func (s *store) build(t testing.TB, fill func(*content.Assembler) error) tree.Root {
	t.Helper()
	root, err := s.tryBuild(fill)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func (s *store) tryBuild(fill func(*content.Assembler) error) (_ tree.Root, err error) {
	ctx := context.Background()
	w := s.NewWriter(ctx, repo.WriterOptions{})
	defer func() { err = errors.Join(err, w.Close()) }()
	asm := content.NewAssembler(w, content.Options{Key: s.DeriveKey, GiveUp: s.sparse, Loader: s})
	defer asm.Close()
	if err := fill(asm); err != nil {
		return tree.Root{}, err
	}
	res, err := asm.Finish(ctx)
	if err != nil {
		return tree.Root{}, err
	}
	s.wrote, s.sparse = w.Stats(), res.Sparse
	c := repo.Commit{ID: journal.NewSnapshotID(), Started: time.Now()}
	var links []blob.Ref
	if !res.Root.Empty() {
		links = append(links, res.Root.Ref)
	}
	if c.Manifest, err = w.WriteNode(ctx, blob.Manifest, blob.Node{Links: links, Body: c.ID[:]}); err != nil {
		return tree.Root{}, err
	}
	for _, live := range s.Snapshots() {
		c.Inherits = append(c.Inherits, live.ID)
	}
	_, err = w.Commit(ctx, c)
	return res.Root, err
}

// backup backs up a folder against a parent, which may be the empty map.
func (s *store) backup(t testing.TB, dir string, parent tree.Root, opt Options) (root tree.Root, report Report) {
	t.Helper()
	var old *tree.Map
	if !parent.Empty() {
		old = tree.Open(s, parent)
	}
	root = s.build(t, func(asm *content.Assembler) (err error) {
		report, err = Backup(context.Background(), Source{Root: dir}, asm, old, opt)
		return err
	})
	return root, report
}

func (s *store) restore(t testing.TB, root tree.Root, target string, opt RestoreOptions) RestoreReport {
	t.Helper()
	report, err := Restore(context.Background(), tree.Open(s, root), content.NewReader(s), target, opt)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// mustBeComplete fails the test if anything was not restored as it was.
func mustBeComplete(t testing.TB, r RestoreReport) {
	t.Helper()
	if !r.Complete() || len(r.Warnings) > 0 {
		t.Errorf("restore: failed %v, warnings %v", r.Failed, r.Warnings)
	}
}

// look describes a folder by path, independently of the code under test: everything that a restore
// has to bring back.
func look(t testing.TB, root string) map[string]string {
	t.Helper()
	names := make(map[uint64][]string) // of files with several
	all := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		d := fmt.Sprintf("%v %d:%d %s", info.Mode(), st.Uid, st.Gid, info.ModTime().UTC().Format(time.RFC3339Nano))
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			d += fmt.Sprintf(" %d bytes %x", len(data), sha256.Sum256(data))
			if st.Nlink > 1 {
				names[st.Ino] = append(names[st.Ino], rel)
				d += " also " + names[st.Ino][0]
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			d += " -> " + target
		}
		for _, name := range xattrNames(path) {
			buf := make([]byte, 1<<16)
			n, err := syscall.Getxattr(path, name, buf)
			if err != nil {
				return err
			}
			d += fmt.Sprintf(" %s=%x", name, buf[:n])
		}
		all[rel] = d
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func xattrNames(path string) []string {
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	buf := make([]byte, 1<<16)
	n, err := syscall.Listxattr(path, buf)
	if err != nil || n == 0 {
		return nil
	}
	names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
	slices.Sort(names)
	return names
}

// mustEqual fails the test if the folders differ.
func mustEqual(t testing.TB, want, got string) {
	t.Helper()
	if diff := cmp.Diff(look(t, want), look(t, got)); diff != "" {
		t.Errorf("restored folder differs (-source +restored):\n%s", diff)
	}
}

// contents lists a map's paths with their types and sizes.
func (s *store) contents(t testing.TB, root tree.Root) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for e, err := range tree.Open(s, root).Scan(context.Background(), tree.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		path, err := Path(e.Key)
		if err != nil {
			t.Fatal(err)
		}
		a, _, err := decodeEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		all[path] = fmt.Sprintf("%s %d", a.Type, a.Size)
	}
	return all
}

func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8(sha256.Sum256([]byte(fmt.Sprint(seed)))).Read(b)
	return b
}

// write makes a file with its directories.
func write(t testing.TB, path string, data []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, data, 0o644))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scratch returns a folder in memory where that is possible: every restore ends with a sync of its
// file system, which on a disk waits for what everybody else has written.
func scratch(t testing.TB) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "varve-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

// setTime gives a name itself a time of modification.
func setTime(t testing.TB, path string, at time.Time) {
	t.Helper()
	f, err := openRoot(filepath.Dir(path))
	must(t, err)
	defer f.release()
	must(t, f.setTimesOf(filepath.Base(path), at))
}

// generate fills a folder with files of all kinds that need no privileges, different for each seed.
func generate(t testing.TB, root string, seed uint64, count int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	dirs, files := []string{root}, []string(nil)
	for i := range count {
		dir := dirs[r.IntN(len(dirs))]
		path := filepath.Join(dir, oddName(r, i))
		switch kind := r.IntN(20); {
		case kind < 4 && strings.Count(path, "/") < 40:
			must(t, os.Mkdir(path, 0o755))
			dirs = append(dirs, path)
		case kind == 4:
			must(t, os.Symlink([]string{"nowhere", "/etc/passwd", "..", ".", path}[r.IntN(5)], path))
		case kind == 5 && len(files) > 0:
			must(t, os.Link(files[r.IntN(len(files))], path))
		case kind == 6:
			must(t, syscall.Mkfifo(path, 0o640))
		default:
			size := []int{0, 1, 63, 64, 65, 1000, SmallFile - 1, SmallFile, SmallFile + 1, 200_000, 3 << 20}[min(r.IntN(13), r.IntN(13), 10)]
			write(t, path, noise(r.Uint64(), size))
			must(t, os.Chmod(path, []fs.FileMode{0o644, 0o600, 0o755 | fs.ModeSetuid, 0o444, 0o640 | fs.ModeSticky}[r.IntN(5)]))
			files = append(files, path)
		}
		at := time.Unix(r.Int64N(1<<33)-1<<31, r.Int64N(1e9))
		setTime(t, path, at)
	}
	for i, dir := range dirs[1:] {
		setTime(t, dir, time.Unix(int64(i)*1000, int64(i)))
		must(t, os.Chmod(dir, []fs.FileMode{0o755, 0o700, 0o555, 0o777 | fs.ModeSticky, 0o750 | fs.ModeSetgid}[i%5]))
	}
	t.Cleanup(func() { // read-only directories cannot be removed by all
		for _, dir := range dirs {
			os.Chmod(dir, 0o700)
		}
	})
}

// oddName returns a name of any kind, not used before for another i.
func oddName(r *rand.Rand, i int) string {
	kinds := []string{"plain-%d.txt", "with space %d", "-%d", ".hidden%d", "new\nline%d", "\x1b[31m%d", "ünïcödé-%d",
		"\xff\xfe%d", "back\\slash%d", "..%d", "%d" + strings.Repeat("x", 240), "a.%d", "!%d"}
	return fmt.Sprintf(kinds[r.IntN(len(kinds))], i)
}
