// Package dir keeps a bucket in a folder of the local file system: an object is a file, a slash in
// its name is a folder.
//
// What a repository needs of a store is harder to get from a file system than it looks: a file must
// appear under its name whole and at once, only if the name is free, and both the file and the name
// must outlive a power cut. [Bucket.Create] gets it like this, and every step is needed:
//
//	mkdir  folder               if it is missing; sync its parent
//	write  folder/.tmp-123      a name that List never shows
//	sync   folder/.tmp-123      the bytes are on the disk before the name exists
//	link   folder/.tmp-123 → folder/name     atomic, and fails if the name is taken
//	remove folder/.tmp-123
//	sync   folder               the name is on the disk
//
// rename(2) would replace what another writer has just created; a lock held in memory or a file that
// is looked for first would not hold between processes. link(2) decides inside the file system, also
// over NFS. A file system without hard links (FAT, some network shares) cannot hold a bucket.
//
// A crash can leave a temporary file behind, never a part of an object. Leftovers older than a day
// that List passes are remembered, and removed by the next Create or Delete: reading alone changes
// nothing in the folder.
//
// Files of other makers in the folder do no harm: whatever has a name no object can have, such as
// lost+found, is not looked at.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/varve-dev/varve/repo/storage"
)

// Bucket is a folder that holds objects. It is safe for concurrent use, by many processes too.
type Bucket struct {
	root string // absolute
	disk disk

	mu      sync.Mutex
	durable map[string]bool // folders whose names are known to outlive a power cut
	stale   []string        // old temporary files that List passed, at most maxStale
}

// Options say how to open a folder.
type Options struct {
	// Create makes the folder, and those above it, if it is missing.
	Create bool
}

// Open returns the bucket in the folder at path. Without [Options.Create] a missing folder is
// [storage.ErrNoBucket].
func Open(path string, o Options) (*Bucket, error) {
	root, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", path, err)
	}
	b := &Bucket{root: root, disk: osDisk{}, durable: map[string]bool{root: true}}
	if err := b.open(o); err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", b, err)
	}
	return b, nil
}

func (b *Bucket) open(o Options) error {
	info, err := os.Stat(b.root)
	switch {
	case err == nil && !info.IsDir():
		return &fs.PathError{Op: "open", Path: b.root, Err: syscall.ENOTDIR}
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !o.Create:
		return storage.ErrNoBucket
	}
	return b.makeRoot(b.root)
}

// Get implements [storage.Bucket].
func (b *Bucket) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := storage.CheckName(name); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if offset < 0 {
		return nil, fmt.Errorf("get %s: %w: offset %d", name, storage.ErrBadRange, offset)
	}
	data, err := b.get(ctx, name, offset, length)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, b.explain(name, err))
	}
	return data, nil
}

// Stat implements [storage.Bucket].
func (b *Bucket) Stat(ctx context.Context, name string) (storage.Info, error) {
	if err := storage.CheckName(name); err != nil {
		return storage.Info{}, fmt.Errorf("stat: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return storage.Info{}, fmt.Errorf("stat %s: %w", name, err)
	}
	info, err := os.Stat(b.path(name))
	if err == nil {
		err = checkFile(b.path(name), info)
	}
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %s: %w", name, b.explain(name, err))
	}
	return storage.Info{Name: name, Size: info.Size(), ModTime: info.ModTime()}, nil
}

// Delete implements [storage.Bucket]. Folders stay, so that no creator loses one under its feet.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := storage.CheckName(name); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	b.removeStale()
	// os.Remove takes away empty folders as well, which are no objects.
	info, err := os.Lstat(b.path(name))
	if err == nil && !info.IsDir() {
		err = b.disk.remove(b.path(name))
	}
	if err == nil {
		return nil
	}
	if err := b.explain(name, err); !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}

// RemoveFolder removes a folder and those in it, if no file is in any of them. It is for a folder into which
// nobody writes any more; an absent one is no error.
func (b *Bucket) RemoveFolder(ctx context.Context, name string) error {
	if err := storage.CheckName(name); err != nil {
		return fmt.Errorf("remove folder: %w", err)
	}
	var folders []string
	err := filepath.WalkDir(b.path(name), func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !e.IsDir():
			return &fs.PathError{Op: "remove", Path: path, Err: syscall.ENOTEMPTY}
		}
		folders = append(folders, path)
		return ctx.Err()
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, path := range slices.Backward(folders) { // the inner ones stand after the outer
		if err == nil {
			err = b.disk.remove(path)
		}
	}
	if err != nil {
		return fmt.Errorf("remove folder %s: %w", name, err)
	}
	return nil
}

// String returns dir:// and the absolute path of the folder, as it is and without any escaping.
func (b *Bucket) String() string { return "dir://" + b.root }

// Close implements [storage.Bucket]; nothing is kept open.
func (b *Bucket) Close() error { return nil }

func (b *Bucket) get(ctx context.Context, name string, offset, length int64) (_ []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Without O_NONBLOCK a FIFO that somebody left here would make open wait for ever.
	f, err := os.OpenFile(b.path(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkFile(f.Name(), info); err != nil {
		return nil, err
	}
	rest := max(0, info.Size()-offset)
	if length < 0 || length > rest {
		length = rest
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(f, offset, length), data); err != nil {
		// Objects never change, so one that ends early was cut under our hands.
		return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
	}
	return data, nil
}

func (b *Bucket) path(name string) string {
	return filepath.Join(b.root, filepath.FromSlash(name))
}

// explain turns what the file system says about an absent file into the answers of a bucket. A disk
// that is not mounted must not look like a bucket without the object.
func (b *Bucket) explain(name string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	for path := b.path(name); len(path) > len(b.root); path = filepath.Dir(path) {
		if _, linkErr := os.Lstat(path); linkErr != nil {
			continue
		}
		if _, statErr := os.Stat(path); statErr != nil {
			return fmt.Errorf("follow link: %w", statErr)
		}
		break
	}
	switch info, rootErr := os.Stat(b.root); {
	case errors.Is(rootErr, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", b, storage.ErrNoBucket)
	case rootErr != nil:
		return rootErr
	case !info.IsDir():
		return &fs.PathError{Op: "open", Path: b.root, Err: syscall.ENOTDIR}
	}
	return storage.ErrNotFound
}

// checkFile returns nil for a regular file. A folder is no object, so there is none of its name.
func checkFile(path string, info fs.FileInfo) error {
	switch {
	case info.Mode().IsRegular():
		return nil
	case info.IsDir():
		return fs.ErrNotExist
	}
	return &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
}

var errNotRegular = errors.New("not a regular file")
