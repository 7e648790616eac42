package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// treeOf describes everything beneath a folder, and the folder itself: what a backup keeps, by path.
func treeOf(folder string) (map[string]string, error) {
	tree := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		content := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = fmt.Sprintf("%d bytes %x", len(data), sha256.Sum256(data))
		case info.Mode()&fs.ModeSymlink != 0:
			if content, err = os.Readlink(path); err != nil {
				return err
			}
		}
		owner := info.Sys().(*syscall.Stat_t)
		name, err := filepath.Rel(folder, path)
		tree[name] = fmt.Sprintf("%v %d:%d %d %s", info.Mode(), owner.Uid, owner.Gid, info.ModTime().UnixNano(), content)
		return err
	})
	return tree, err
}
