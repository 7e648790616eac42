package files

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A file is made under a temporary name of this form in its own directory. One that a crash left
// behind is removed when a later restore with Overwrite comes by. It is never a directory.
const temporaryPrefix = ".varve-restore-"

func temporaryName() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return temporaryPrefix + hex.EncodeToString(b[:])
}

func isTemporary(name string) bool {
	random, ok := strings.CutPrefix(name, temporaryPrefix)
	b, err := hex.DecodeString(random)
	return ok && err == nil && len(b) == 16
}

func removeLeftovers(f *folder) error {
	names, err := f.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !isTemporary(name) {
			continue
		}
		if have, err := f.stat(name); err == nil && have.Type == Directory {
			continue
		}
		if err := f.remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// restoredGroup is a file with several names, of which this restore makes some. The first one it
// makes has the content; it is what the others are linked to, once done is closed.
type restoredGroup struct {
	path string // of the first name made
	left uint64 // names that may still come
	done chan struct{}
	file fileID // zero if the first name is not the file of the snapshot
}

// join finds the group of a file with several names. It is called in the order of the map, so the
// first of a group is on its way before the others, and who waits for it does not wait in vain.
func (s *restore) join(j *restoreJob) {
	if j.attrs.Links < 2 {
		return
	}
	first := j.attrs.Link
	if first == "" {
		first = j.path
	}
	g := s.groups[first]
	if g == nil {
		g = &restoredGroup{path: j.path, left: j.attrs.Links, done: make(chan struct{})}
		s.groups[first] = g
	}
	if g.left--; g.left == 0 {
		delete(s.groups, first)
	}
	j.group = g
}

// process makes one file that is no directory.
func (s *restore) process(ctx context.Context, j *restoreJob) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	switch j.attrs.Type {
	case Symlink:
		return s.special(j, &s.report.Symlinks, func(name string) error {
			return j.folder.makeSymlink(name, j.attrs.Target)
		})
	case FIFO:
		return s.special(j, &s.report.Specials, j.folder.makeFIFO)
	}
	g := j.group
	if g == nil {
		_, err := s.file(ctx, j)
		return err
	}
	if g.path != j.path {
		select {
		case <-g.done:
		case <-ctx.Done(): // who makes the first name may have seen that before us, and makes nothing
			return ctx.Err()
		}
		if linked, err := s.link(j, g); linked || err != nil {
			return err
		}
		_, err := s.file(ctx, j)
		return err
	}
	defer close(g.done)
	done, err := s.file(ctx, j)
	if err == nil && (done == made || done == right) {
		var now seen
		if now, err = j.folder.stat(j.name); err == nil {
			g.file = now.id()
		}
	}
	return err
}

// file makes a regular file with its content.
func (s *restore) file(ctx context.Context, j *restoreJob) (outcome, error) {
	if j.attrs.Link != "" {
		if err := s.borrow(ctx, j); err != nil {
			return failed, err
		}
	}
	done, err := s.put(j, func(name string) error { return s.write(ctx, j, name) })
	if done == made {
		s.count(&s.report.Files, 1)
		s.count(&s.report.Bytes, j.attrs.Size)
		s.opt.Events.entry(j.path, j.attrs)
	}
	return done, err
}

// borrow takes the content from the entry of the file's first name, for a file that cannot be linked
// to it.
func (s *restore) borrow(ctx context.Context, j *restoreJob) error {
	key, err := Key(j.attrs.Link)
	if err != nil {
		return err
	}
	e, ok, err := s.m.Get(ctx, key)
	if err == nil && !ok {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("content at %q: %w", j.attrs.Link, err)
	}
	a, refs, err := decodeEntry(e)
	if err == nil && (a.Type != Regular || a.Link != "" || a.Size != j.attrs.Size) {
		err = fmt.Errorf("%w: a link to what is no such file", ErrMalformed)
	}
	if err != nil {
		return fmt.Errorf("content at %q: %w", j.attrs.Link, err)
	}
	j.refs = refs
	return nil
}

// link gives the group's file another name. It reports false if there is nothing to link to or the
// file system refuses; the file then gets a content of its own.
func (s *restore) link(j *restoreJob, g *restoredGroup) (linked bool, err error) {
	if g.file == (fileID{}) {
		return false, nil
	}
	if have, err := j.folder.stat(j.name); err == nil && have.id() == g.file {
		s.count(&s.report.Right, 1)
		return true, nil
	}
	j.relink = true
	defer func() { j.relink = false }()
	var refused error
	done, err := s.put(j, func(name string) error {
		if refused = j.folder.link(s.root, g.path, name); refused != nil {
			return refused
		}
		// The name may stand for another file by now, if somebody else works in the target.
		if now, err := j.folder.stat(name); err != nil || now.id() != g.file {
			refused = errors.Join(err, errGone)
		}
		return refused
	})
	if refused != nil {
		return false, nil
	}
	if done == made {
		s.count(&s.report.Links, 1)
		s.opt.Events.entry(j.path, j.attrs)
	}
	return true, err
}

// special makes a link or a FIFO, which have attributes but cannot be opened.
func (s *restore) special(j *restoreJob, count *int64, create func(name string) error) error {
	done, err := s.put(j, func(name string) error {
		if err := create(name); err != nil {
			return err
		}
		if err := j.folder.setOwnerOf(name, j.attrs); err != nil {
			s.warn(j.path, err)
		}
		if j.attrs.Type == FIFO {
			if err := j.folder.setModeOf(name, j.attrs); err != nil {
				return err
			}
		}
		return j.folder.setTimesOf(name, j.attrs.Mtime)
	})
	if done == made {
		s.count(count, 1)
		s.opt.Events.entry(j.path, j.attrs)
	}
	return err
}

// outcome is what became of one file.
type outcome uint8

const (
	failed outcome = iota
	made
	right // it was there already
	kept  // something else was there, and the policy keeps it
)

// put makes a file under a temporary name and then gives it its own, if the policy allows that for
// what may be there already.
func (s *restore) put(j *restoreJob, create func(name string) error) (outcome, error) {
	replace := false
	if !j.fresh {
		have, err := j.folder.stat(j.name)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return failed, err
		case s.opt.Policy == KeepExisting:
			s.count(&s.report.Kept, 1)
			return kept, nil
		case s.opt.Policy == RefuseNonEmpty || have.Type == Directory:
			return failed, fmt.Errorf("a %s is in the way", have.Type)
		case s.isRight(j, have):
			s.count(&s.report.Right, 1)
			return right, nil
		default:
			replace = true
		}
	}
	name := temporaryName()
	err := create(name)
	if err == nil {
		err = j.folder.rename(name, j.name, replace)
	}
	if err != nil {
		if rest := j.folder.remove(name); rest != nil && !errors.Is(rest, os.ErrNotExist) {
			err = errors.Join(err, rest)
		}
		return failed, err
	}
	return made, nil
}

// isRight reports whether what is there looks like what is to be restored.
func (s *restore) isRight(j *restoreJob, have seen) bool {
	want := j.attrs
	if have.Type != want.Type || j.relink {
		return false
	}
	if want.Type == Symlink {
		target, err := j.folder.readlink(j.name)
		return err == nil && target == want.Target
	}
	ours := have.UID == want.UID && have.GID == want.GID || os.Geteuid() != 0 // who could not set it
	return ours && have.Size == want.Size && have.Mtime.Equal(want.Mtime) && have.Mode == want.Mode
}

// write makes a regular file with content and attributes.
func (s *restore) write(ctx context.Context, j *restoreJob, name string) (err error) {
	f, err := j.folder.createFile(name)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	if err := s.content.WriteTo(ctx, j.refs[0], &sink{f, s.opt.Events}); err != nil {
		return err
	}
	return s.setAttributes(int(f.Fd()), j.path, j.attrs)
}

// sink writes a file and counts.
type sink struct {
	file   *os.File
	events Events
}

func (w *sink) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.events.bytes(int64(n))
	return n, err
}

// setAttributes sets an open file's owner, extended attributes, mode and times, in the order in which
// none undoes what another did. What only root may set, and owners and extended attributes that the
// file system does not know, are warnings.
func (s *restore) setAttributes(fd int, path string, a Attributes) error {
	now, err := statOpen(fd)
	if err != nil {
		return err
	}
	mode := a.Mode
	if now.UID != a.UID || now.GID != a.GID {
		if err := unix.Fchown(fd, int(a.UID), int(a.GID)); err != nil {
			s.warn(path, wrap("set owner", err))
			mode &^= unix.S_ISUID | unix.S_ISGID // they would lend somebody else's rights
		}
	}
	for _, x := range a.Xattrs {
		if err := unix.Fsetxattr(fd, x.Name, x.Value, 0); err != nil {
			s.warn(path, wrap("set extended attribute "+x.Name, err))
		}
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return wrap("set mode", err)
	}
	return setTimes(fd, a.Mtime)
}
