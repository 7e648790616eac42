package corpus

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestVolumeIsLargeAndFull(t *testing.T) {
	count, size := 0, 0
	for _, f := range planFiles(1) {
		count++
		size += f.size
	}
	if count < 20_000 || size < 500<<20 {
		t.Errorf("%d files with %d bytes, want at least 20000 with 500 MiB", count, size)
	}
}

func TestSameSeedSameFiles(t *testing.T) {
	plan := planFiles(1)
	for i := 0; i < len(plan); i += 500 {
		f := plan[i]
		if f.size > 1<<20 {
			continue
		}
		first, again, other := source(1, f.path), source(1, f.path), source(2, f.path)
		content := f.content(first, f.size)
		if len(content) != f.size {
			t.Errorf("%s has %d bytes, want %d", f.path, len(content), f.size)
		}
		if !bytes.Equal(content, f.content(again, f.size)) {
			t.Errorf("%s differs between two calls with one seed", f.path)
		}
		if f.size > 100 && bytes.Equal(content, f.content(other, f.size)) {
			t.Errorf("%s is the same with another seed", f.path)
		}
	}
}

func TestOdditiesAreWhatTheySay(t *testing.T) {
	dir := t.TempDir()
	if err := writeOddities(dir); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{
		"odd/runs-as-owner": 0o755 | fs.ModeSetuid, "odd/shared": 0o777 | fs.ModeSticky | fs.ModeDir,
		"odd/read-only": 0o400, "odd/link to nowhere": 0o777 | fs.ModeSymlink, "odd/empty folder": 0o755 | fs.ModeDir,
	} {
		info, err := os.Lstat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), mode)
		}
	}
}

func TestChangeTouchesOnePercent(t *testing.T) {
	dir := t.TempDir()
	var plan []planned
	for _, f := range planFiles(1) {
		if f.size < 8<<10 && len(plan) < 1000 {
			plan = append(plan, f)
		}
	}
	database := planned{"database/base/16384/24576", 1 << 20, pages, 0o600}
	for _, f := range append(plan, database) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f.path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := write(dir, 1, f); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, database.path))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := ChangeFiles(dir, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	// Ten files are picked; a rename counts as one that went and one that came. The database is extra.
	if touched := changes.Changed + changes.Created + changes.Deleted; touched != 12 {
		t.Errorf("%v, want 12 in all", changes)
	}
	after, err := os.ReadFile(filepath.Join(dir, database.path))
	if err != nil {
		t.Fatal(err)
	}
	differ := 0
	for start := 0; start < len(before); start += pageSize {
		if !bytes.Equal(before[start:start+pageSize], after[start:start+pageSize]) {
			differ++
		}
	}
	if differ != 2 {
		t.Errorf("%d pages of the database differ, want 2 of %d", differ, len(before)/pageSize)
	}
}
