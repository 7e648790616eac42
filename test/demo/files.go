package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// A file is all that a restore has to bring back of a file, folder or link.
type file struct {
	mode     fs.FileMode // with its type
	uid, gid uint32
	modified time.Time
	size     int64    // of a regular file
	sum      [32]byte // of a regular file's content
	target   string   // of a link
}

// readFiles reads all that is beneath a folder, each byte of it. The folder itself is not among it.
func readFiles(dir string) (map[string]file, error) {
	all := map[string]file{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[name], err = readFile(path)
		return err
	})
	return all, err
}

func readFile(path string) (file, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return file{}, err
	}
	owner := info.Sys().(*syscall.Stat_t)
	f := file{mode: info.Mode(), uid: owner.Uid, gid: owner.Gid, modified: info.ModTime()}
	switch info.Mode().Type() {
	case fs.ModeSymlink:
		f.target, err = os.Readlink(path)
	case 0:
		f.size = info.Size()
		f.sum, err = sum(path)
	}
	return f, err
}

func sum(path string) (result [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return result, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return result, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// compareFiles compares what should be beneath a folder with what is.
func compareFiles(want, got map[string]file) comparison {
	var c comparison
	both := maps.Clone(want)
	maps.Copy(both, got)
	for _, name := range slices.Sorted(maps.Keys(both)) {
		wanted, isWanted := want[name]
		gotten, isThere := got[name]
		switch {
		case !isThere:
			c.differences = append(c.differences, fmt.Sprintf("%q: missing", name))
		case !isWanted:
			c.differences = append(c.differences, fmt.Sprintf("%q: was not there before", name))
		default:
			c.compared++
			for _, d := range differFiles(wanted, gotten) {
				c.differences = append(c.differences, fmt.Sprintf("%q: %s", name, d))
			}
		}
	}
	return c
}

func differFiles(want, got file) []string {
	var all []string
	note := func(what string, want, got any) {
		all = append(all, fmt.Sprintf("%s was %v and is %v", what, want, got))
	}
	if want.mode != got.mode {
		note("mode", want.mode, got.mode)
	}
	if want.uid != got.uid || want.gid != got.gid {
		note("owner", fmt.Sprintf("%d:%d", want.uid, want.gid), fmt.Sprintf("%d:%d", got.uid, got.gid))
	}
	if !want.modified.Equal(got.modified) {
		note("time", want.modified.UTC().Format(time.RFC3339Nano), got.modified.UTC().Format(time.RFC3339Nano))
	}
	if want.target != got.target {
		note("target", want.target, got.target)
	}
	if want.size != got.size {
		note("size", want.size, got.size)
	} else if want.sum != got.sum {
		all = append(all, "content differs")
	}
	return all
}
