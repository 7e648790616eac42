package files

import (
	"bytes"
	"context"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// walk goes through a folder in the order of keys and makes a job of each file.
type walk struct {
	*backup
	parent *beside           // nil without a parent
	groups map[fileID]*group // files with several names, of which some are to come
}

// group is a file with several names.
type group struct {
	first *job
	left  uint64 // names not seen yet, those outside of the tree included
}

func (w *walk) root(ctx context.Context, root *folder) error {
	a, err := statOpen(root.fd)
	if err != nil {
		return err
	}
	return w.directory(ctx, root, &job{path: ".", key: []byte(rootKey), attrs: a}, 0)
}

// directory sends the entry of an open directory and then all beneath it.
func (w *walk) directory(ctx context.Context, f *folder, j *job, depth int) error {
	var err error
	if j.attrs.Xattrs, err = xattrsOf(f.fd); err != nil {
		w.found.add(&w.report.Unreadable, j.path, err)
	}
	if err := w.send(ctx, j); err != nil {
		return err
	}
	names, err := f.names()
	if err != nil {
		w.found.add(&w.report.Unreadable, j.path, fmt.Errorf("list: %w", err))
	}
	for _, name := range names {
		path, key := name, []byte(name)
		if j.path != "." {
			path = j.path + "/" + name
			key = append(append(bytes.Clone(j.key), 0), name...)
		}
		if len(key) > tree.MaxKey || depth == maxDepth {
			w.found.add(&w.report.Unreadable, path, "the path is too long")
			continue
		}
		if err := w.entry(ctx, f, name, &job{path: path, key: key}, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// entry makes a job of one name in a directory.
func (w *walk) entry(ctx context.Context, f *folder, name string, j *job, depth int) (err error) {
	if j.attrs, err = f.stat(name); err != nil {
		w.lose(j, err)
		return nil
	}
	switch j.attrs.Type {
	case Socket:
		w.found.add(&w.report.Skipped, j.path, "a socket")
		return nil
	case Directory:
		return w.subdirectory(ctx, f, name, j, depth)
	case Regular:
		return w.regular(ctx, f, name, j)
	case Symlink:
		if j.attrs.Target, err = f.readlink(name); err != nil {
			w.lose(j, err)
			return nil
		}
	}
	return w.send(ctx, j)
}

func (w *walk) subdirectory(ctx context.Context, f *folder, name string, j *job, depth int) error {
	sub, a, err := f.openFolder(name)
	if err != nil {
		list := w.listFor(err)
		w.found.add(list, j.path, err)
		if list == &w.report.Vanished {
			return nil
		}
		return w.send(ctx, j) // the directory is there, what is in it is not
	}
	defer sub.release()
	j.attrs = a
	return w.directory(ctx, sub, j, depth)
}

// regular sends a regular file: as another name of one seen before, as unchanged, or to be read.
func (w *walk) regular(ctx context.Context, f *folder, name string, j *job) error {
	if j.attrs.Links > 1 {
		id := j.attrs.id()
		if g := w.groups[id]; g != nil {
			j.first = g.first
			j.attrs.Link = g.first.path
			if g.left--; g.left == 0 {
				delete(w.groups, id)
			}
		} else {
			w.groups[id] = &group{first: j, left: j.attrs.Links - 1}
		}
	}
	unchanged, err := w.unchanged(j)
	if err != nil {
		return err
	}
	if j.first != nil {
		// Should the first name turn out to be another file by now, this one is read after all.
		j.folder, j.name = f.hold(), name
		if err := w.send(ctx, j); err != nil {
			f.release()
			return err
		}
		return nil
	}
	if unchanged {
		return w.send(ctx, j)
	}
	j.folder, j.name, j.ready = f.hold(), name, make(chan struct{})
	if err := w.send(ctx, j); err != nil {
		f.release()
		return err
	}
	select {
	case w.toRead <- j:
		return nil
	case <-ctx.Done():
		f.release()
		return ctx.Err()
	}
}

// unchanged looks the file up in the parent's map. If it is there as it is now, the job takes over
// what is known of it.
func (w *walk) unchanged(j *job) (bool, error) {
	if w.parent == nil || w.opt.ChangeDetection == ByContent {
		return false, nil
	}
	e, ok, err := w.parent.find(j.key)
	if !ok || err != nil {
		return false, err
	}
	encoded, refs, err := content.DecodeEntry(e)
	if err != nil {
		return false, fmt.Errorf("parent: %w", err)
	}
	old, err := DecodeAttributes(encoded)
	if err != nil {
		return false, fmt.Errorf("parent: entry %q: %w", j.path, err)
	}
	now := &j.attrs
	if old.Type != Regular || old.Size != now.Size || !old.Mtime.Equal(now.Mtime) || old.Link != now.Link {
		return false, nil
	}
	strict := w.opt.ChangeDetection == Strict
	if strict && (!old.Ctime.Equal(now.Ctime) || old.Inode != now.Inode) {
		return false, nil
	}
	if now.Link == "" {
		if len(refs) != 1 || refs[0].Length() != uint64(now.Size) || w.opt.Lost != nil && refs[0].Uses(w.opt.Lost) {
			return false, nil
		}
		j.pieces = []content.Piece{{Stream: stream, Class: blob.Data, Kept: &refs[0]}}
	}
	if strict || old.Mode == now.Mode && old.UID == now.UID && old.GID == now.GID && old.Links == now.Links {
		j.encoded = encoded
	}
	now.Xattrs = old.Xattrs
	return true, nil
}

// send puts the job into its place in the order.
func (w *walk) send(ctx context.Context, j *job) error {
	select {
	case w.ordered <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// beside reads a map in step with a walk through the same keys.
type beside struct {
	cursor *tree.Cursor
	at     tree.Entry
	ended  bool
}

func newBeside(c *tree.Cursor) *beside { return &beside{cursor: c} }

// find returns the entry with the key, which must come after the one asked for before.
func (b *beside) find(key []byte) (tree.Entry, bool, error) {
	for tries := 0; !b.ended && bytes.Compare(b.at.Key, key) < 0; tries++ {
		if tries > 0 { // more than one entry behind
			b.cursor.Seek(key)
		}
		e, ok, err := b.cursor.Next()
		if err != nil {
			return tree.Entry{}, false, fmt.Errorf("parent: %w", err)
		}
		b.at, b.ended = e, !ok
	}
	return b.at, !b.ended && bytes.Equal(b.at.Key, key), nil
}
