package dir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/varve-dev/varve/repo/storage"
)

// tempPrefix begins the names of files being written. No object's name has a dot there.
const tempPrefix = ".tmp-"

// disk is the file system calls on which durability rests. Tests put a recorder in its place, to
// prove the order of the calls and to make each of them fail.
type disk interface {
	mkdir(path string) error
	createTemp(folder string) (*os.File, error)
	sync(f *os.File) error // of a file or a folder
	close(f *os.File) error
	link(from, to string) error
	remove(path string) error
}

type osDisk struct{}

func (osDisk) mkdir(path string) error                    { return os.Mkdir(path, 0o700) }
func (osDisk) createTemp(folder string) (*os.File, error) { return os.CreateTemp(folder, tempPrefix) }
func (osDisk) sync(f *os.File) error                      { return f.Sync() }
func (osDisk) close(f *os.File) error                     { return f.Close() }
func (osDisk) link(from, to string) error                 { return os.Link(from, to) }
func (osDisk) remove(path string) error                   { return os.Remove(path) }

// Create implements [storage.Bucket].
func (b *Bucket) Create(ctx context.Context, name string, data []byte) error {
	if err := storage.CheckName(name); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	b.removeStale()
	err := b.create(ctx, b.path(name), data)
	if errors.Is(err, fs.ErrNotExist) {
		// A folder went away under our hands: empty ones are made again at the next try, a bucket
		// is not.
		b.mu.Lock()
		b.durable = map[string]bool{b.root: true}
		b.mu.Unlock()
		if why := b.explain(name, err); !errors.Is(why, storage.ErrNotFound) {
			err = why
		}
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	return nil
}

func (b *Bucket) create(ctx context.Context, path string, data []byte) error {
	folder := filepath.Dir(path)
	if err := b.makeFolder(folder); err != nil {
		return err
	}
	temp, err := b.writeTemp(folder, data)
	if err != nil {
		return err
	}
	if err = ctx.Err(); err == nil {
		err = b.publish(temp, path)
	}
	// A temporary name that cannot be removed is hidden, and stale in a day: no reason to fail.
	_ = b.disk.remove(temp)
	if err != nil && !errors.Is(err, storage.ErrExists) {
		return err
	}
	// Also for an object that exists already: its creator may not have come to this line, and the
	// caller is going to rely on it.
	if err := b.syncFolder(folder); err != nil {
		return err
	}
	return err
}

// writeTemp returns the path of a hidden file with the data, safe on the disk.
func (b *Bucket) writeTemp(folder string, data []byte) (path string, err error) {
	f, err := b.disk.createTemp(folder)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = b.disk.sync(f)
	}
	// Some network file systems report a full disk only when the file is closed.
	if closeErr := b.disk.close(f); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = b.disk.remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// publish gives the file at temp the name path too, if that is free.
func (b *Bucket) publish(temp, path string) error {
	err := b.disk.link(temp, path)
	if err == nil || sameFile(temp, path) {
		// Over NFS a repeated request can fail because of its own first try; the name tells.
		return nil
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return &fs.PathError{Op: "link", Path: path, Err: syscall.EISDIR}
		}
		return storage.ErrExists
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.ENOTSUP), errors.Is(err, syscall.EMLINK):
		return fmt.Errorf("this file system has no hard links, which a bucket needs: %w", err)
	}
	return err
}

func sameFile(x, y string) bool {
	xInfo, err := os.Lstat(x)
	if err != nil {
		return false
	}
	yInfo, err := os.Lstat(y)
	return err == nil && os.SameFile(xInfo, yInfo)
}

// makeFolder makes a folder inside the bucket if it is missing and makes its name durable. Another
// process may have made it and not yet have synced, so seeing it is not enough: the first use of a
// folder by this Bucket syncs its parent in any case.
func (b *Bucket) makeFolder(folder string) error {
	b.mu.Lock()
	done := b.durable[folder]
	b.mu.Unlock()
	if done {
		return nil
	}
	parent := filepath.Dir(folder)
	if err := b.makeFolder(parent); err != nil {
		return err
	}
	if err := b.disk.mkdir(folder); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := b.syncFolder(parent); err != nil {
		return err
	}
	b.mu.Lock()
	b.durable[folder] = true
	b.mu.Unlock()
	return nil
}

// makeRoot makes the folder of the bucket and those above it that are missing.
func (b *Bucket) makeRoot(folder string) error {
	err := b.disk.mkdir(folder)
	parent := filepath.Dir(folder)
	if errors.Is(err, fs.ErrNotExist) && parent != folder {
		if err := b.makeRoot(parent); err != nil {
			return err
		}
		err = b.disk.mkdir(folder)
	}
	if errors.Is(err, fs.ErrExist) {
		// Made by somebody else just now, or no folder at all.
		if info, statErr := os.Stat(folder); statErr != nil || !info.IsDir() {
			return err
		}
	} else if err != nil {
		return err
	}
	return b.syncFolder(parent)
}

func (b *Bucket) syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	err = b.disk.sync(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
