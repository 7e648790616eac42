package dir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

const (
	// staleAge is when a temporary file counts as left by a crash. No write takes so long.
	staleAge = 24 * time.Hour
	// maxStale bounds how many leftovers are remembered, and so removed, at a time.
	maxStale = 64
	// readBatch is how many names of a folder are read at a time.
	readBatch = 1024
)

// List implements [storage.Bucket]. It holds the names of one folder and of those above it in
// memory, some 50 bytes each.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Info{}, fmt.Errorf("list: %w", err))
			return
		}
		l := &listing{Bucket: b, ctx: ctx, prefix: prefix, startAfter: startAfter, yield: yield}
		top := prefix[:strings.LastIndexByte(prefix, '/')+1]
		// Only the folder that the prefix names may be absent, if the bucket is there. Whatever is
		// missing further down is an error.
		if _, err := os.Stat(b.path(top)); err != nil {
			if err = b.explain(top, err); !errors.Is(err, storage.ErrNotFound) {
				l.fail(err)
			}
			return
		}
		l.folder(top)
	}
}

// listing is one walk through the folders of a bucket, in the order of the names of its objects.
type listing struct {
	*Bucket
	ctx        context.Context
	prefix     string
	startAfter string
	yield      func(storage.Info, error) bool
}

// folder yields what is below the folder of that name, which is empty or ends with a slash, and
// reports whether to go on.
func (l *listing) folder(name string) bool {
	entries, err := l.read(name)
	if err != nil {
		return l.fail(err)
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry, "/") {
			if !l.folder(name + entry) {
				return false
			}
			continue
		}
		if err := l.ctx.Err(); err != nil {
			return l.fail(err)
		}
		info, err := os.Stat(l.path(name + entry))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted since the folder was read
		}
		if err != nil {
			return l.fail(err)
		}
		if !l.yield(storage.Info{Name: name + entry, Size: info.Size(), ModTime: info.ModTime()}, nil) {
			return false
		}
	}
	return true
}

// read returns the wanted entries of a folder in the order of the names below them: folders end with
// a slash and are sorted as if it were part of their name.
func (l *listing) read(name string) (entries []string, err error) {
	if err := l.ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(l.path(name))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		batch, err := f.ReadDir(readBatch)
		for _, e := range batch {
			entry, err := l.entry(name, e)
			if err != nil {
				return nil, err
			}
			if entry != "" {
				entries = append(entries, entry)
			}
		}
		if err == io.EOF {
			slices.Sort(entries)
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// entry returns the name of a directory entry, with a slash if it is a folder, or "" if nothing about
// it is wanted.
func (l *listing) entry(folder string, e fs.DirEntry) (string, error) {
	name := e.Name()
	if strings.HasPrefix(name, tempPrefix) {
		l.noteStale(folder, e)
		return "", nil
	}
	if ours := storage.CheckName(name) == nil; !ours {
		return "", nil
	}
	mode := e.Type()
	if mode&fs.ModeSymlink != 0 {
		// A folder moved to another disk, say. One that leads nowhere is an error, since what it
		// should lead to is missing from the list.
		info, err := os.Stat(l.path(folder + name))
		if err != nil {
			return "", fmt.Errorf("follow link: %w", err)
		}
		mode = info.Mode().Type()
	}
	full := folder + name
	switch {
	case mode.IsDir():
		full += "/"
		if !strings.HasPrefix(full, l.prefix) && !strings.HasPrefix(l.prefix, full) {
			return "", nil
		}
		// Nothing below can come after startAfter if even its own beginning does not.
		if full < l.startAfter && !strings.HasPrefix(l.startAfter, full) {
			return "", nil
		}
		return name + "/", nil
	case !mode.IsRegular():
		return "", &fs.PathError{Op: "list", Path: l.path(full), Err: errNotRegular}
	case strings.HasPrefix(full, l.prefix) && full > l.startAfter:
		return name, nil
	}
	return "", nil
}

func (l *listing) fail(err error) bool {
	l.yield(storage.Info{}, fmt.Errorf("list %s: %w", cmp.Or(l.prefix, l.String()), err))
	return false
}

// noteStale remembers a temporary file if it is old enough to be a crash's leftover.
func (b *Bucket) noteStale(folder string, e fs.DirEntry) {
	b.mu.Lock()
	full := len(b.stale) >= maxStale
	b.mu.Unlock()
	if full {
		return
	}
	info, err := e.Info()
	if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < staleAge {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stale = append(b.stale, filepath.Join(b.root, folder, e.Name()))
}

// removeStale removes the leftovers that a List passed. A creator that really was a day late finds
// its file gone and fails without having created anything.
func (b *Bucket) removeStale() {
	b.mu.Lock()
	stale := b.stale
	b.stale = nil
	b.mu.Unlock()
	for _, path := range stale {
		// One that stays is noted again by the next List.
		_ = b.disk.remove(path)
	}
}
