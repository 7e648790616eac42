package main

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A tree is everything beneath a folder, and the folder itself, by path.
type tree map[string]node

// A node is what a backup keeps of a file of any kind.
type node struct {
	Mode     fs.FileMode
	UID, GID uint32
	Modified int64 // nanoseconds
	Size     int64 // of a regular file
	Hash     [32]byte
	Target   string // of a symbolic link
}

func treeOf(folder string) (tree, error) {
	t := tree{}
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		n := node{Mode: info.Mode(), UID: owner.Uid, GID: owner.Gid, Modified: info.ModTime().UnixNano()}
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			n.Size, n.Hash = int64(len(data)), sha256.Sum256(data)
		case info.Mode()&fs.ModeSymlink != 0:
			if n.Target, err = os.Readlink(path); err != nil {
				return err
			}
		}
		name, err := filepath.Rel(folder, path)
		t[name] = n
		return err
	})
	return t, err
}
