package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// maxAhead is how many entries the walk may be ahead of the map; each holds at most SmallFile bytes.
const maxAhead = 512

// Backup adds the files beneath src.Root to asm, which the caller then finishes. Parent is the map
// of an earlier backup of the same folder, or nil. The folder may change meanwhile: what that does to
// single files is in the report and no error. An error means that the backup as a whole failed.
func Backup(ctx context.Context, src Source, asm *content.Assembler, parent *tree.Map, opt Options) (Report, error) {
	root, err := openRoot(src.Root)
	if err != nil {
		return Report{}, fmt.Errorf("back up files: %w", err)
	}
	if opt.Parallel <= 0 {
		opt.Parallel = 2 * runtime.GOMAXPROCS(0)
	}
	b := &backup{asm: asm, opt: opt, ordered: make(chan *job, maxAhead), toRead: make(chan *job, maxAhead)}
	w := &walk{backup: b, groups: make(map[fileID]*group)}

	g, ctx := errgroup.WithContext(ctx)
	if parent != nil {
		w.parent = newBeside(parent.Cursor(ctx))
	}
	g.Go(func() error {
		defer close(b.ordered)
		defer close(b.toRead)
		defer root.release()
		return w.root(ctx, root)
	})
	for range opt.Parallel {
		g.Go(func() error {
			for j := range b.toRead {
				if err := b.readAhead(ctx, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error { return b.addAll(ctx) })
	err = g.Wait()
	b.letGo()
	for _, f := range []*Findings{&b.report.Changed, &b.report.Vanished, &b.report.Unreadable, &b.report.Skipped} {
		f.sort()
	}
	if err != nil {
		return b.report, fmt.Errorf("back up %s: %w", src.Root, err)
	}
	return b.report, nil
}

// backup is one run. The walk makes a job of each entry, in order, and sends it to ordered; one that
// must be read goes to toRead as well, and is ready when a reader has done that.
type backup struct {
	asm     *content.Assembler
	opt     Options
	ordered chan *job
	toRead  chan *job
	found   recorder
	report  Report // counts belong to addAll, lists to found
}

// job is an entry on its way into the map.
type job struct {
	path    string
	key     []byte
	attrs   seen
	encoded []byte // the attributes as the parent has them, if they are the same
	pieces  []content.Piece
	lost    bool // nothing can be stored

	folder *folder       // held, of files to be read and of further names of a file
	name   string        // in the folder
	ready  chan struct{} // closed when a file to be read has been
	opened bool
	read   int64 // bytes
	first  *job  // the first name of the same file, if this is another one
}

// addAll adds the jobs to the map in order.
func (b *backup) addAll(ctx context.Context) error {
	for j := range b.ordered {
		if j.ready != nil {
			select {
			case <-j.ready:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := b.add(ctx, j); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b *backup) add(ctx context.Context, j *job) error {
	if j.first != nil {
		defer j.folder.release()
		if err := b.settle(ctx, j); err != nil {
			return err
		}
	}
	if j.lost {
		return nil
	}
	item := content.Item{Key: j.key, Attrs: j.encoded, Contents: j.pieces}
	if item.Attrs == nil {
		item.Attrs = j.attrs.Encode()
	}
	switch j.attrs.Type {
	case Regular:
		b.report.Files++
		if j.attrs.Link == "" {
			item.Bytes = uint64(j.attrs.Size)
			b.report.Bytes += j.attrs.Size
		}
	case Directory:
		b.report.Directories++
	case Symlink:
		b.report.Symlinks++
	default:
		b.report.Specials++
	}
	if j.opened {
		b.report.Read++
		b.report.ReadBytes += j.read
	}
	if err := b.asm.Add(ctx, item); err != nil {
		return err
	}
	j.pieces = nil // a later name of the file may hold the job
	b.opt.Events.entry(j.path, j.attrs.Attributes)
	return nil
}

// settle decides what a further name of a file says: that it is a link to the first one, or, if the
// first one turned out to be another file by now, the file's content.
func (b *backup) settle(ctx context.Context, j *job) error {
	if first := j.first; !first.lost && first.attrs.id() == j.attrs.id() {
		link := j.attrs.Link
		j.attrs = first.attrs
		j.attrs.Link = link
		return nil
	}
	j.encoded = nil
	return b.read(ctx, j)
}

// readAhead reads a job's file and lets go of what the walk gave with it.
func (b *backup) readAhead(ctx context.Context, j *job) error {
	defer j.folder.release()
	if err := b.read(ctx, j); err != nil {
		return err
	}
	close(j.ready)
	return nil
}

// letGo releases the folders of jobs that a failure left lying.
func (b *backup) letGo() {
	for j := range b.toRead {
		j.folder.release()
	}
	for j := range b.ordered {
		if j.first != nil {
			j.folder.release()
		}
	}
}

// read fills in a file's content and the attributes that it had when it was opened, so that a change
// while it is read shows as a change in the next backup. An error is one of the repository.
func (b *backup) read(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, a, err := j.folder.openFile(j.name)
	if err != nil {
		b.lose(j, err)
		return nil
	}
	defer func() { _ = f.Close() }() // nothing is written through it
	if err := outlast(ctx, a.Ctime); err != nil {
		return err
	}
	j.opened = true
	b.opt.Events.open(j.path)
	if a.Xattrs, err = xattrsOf(int(f.Fd())); err != nil {
		b.found.add(&b.report.Unreadable, j.path, err)
	}
	src := &source{file: f, events: b.opt.Events}
	piece, err := b.store(ctx, src, a.Size)
	j.read = src.read
	if src.err != nil {
		b.lose(j, fmt.Errorf("read: %w", src.err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("store %q: %w", j.path, err)
	}
	now, err := statOpen(int(f.Fd()))
	if err != nil || a.Size != src.read || !now.Mtime.Equal(a.Mtime) || !now.Ctime.Equal(a.Ctime) {
		b.found.add(&b.report.Changed, j.path, "changed while it was read")
	}
	a.Size = src.read
	j.attrs, j.pieces = a, []content.Piece{piece}
	return nil
}

// The clock that gives files their times moves in ticks: of 10 ms at most, before Linux 6.13, and of a
// second where a file system keeps no fractions of one.
const (
	tick       = 20 * time.Millisecond
	coarseTick = time.Second + tick
)

// outlast returns when any further change of a file will give it another ctime. If the file were read
// before, one could follow that nothing ever tells of.
func outlast(ctx context.Context, ctime time.Time) error {
	most := tick
	if ctime.Nanosecond() == 0 {
		most = coarseTick
	}
	rest := most - time.Since(ctime)
	if rest <= 0 || rest > most { // long ago, or by a clock that is ahead of ours
		return ctx.Err()
	}
	select {
	case <-time.After(rest):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// store hands a file's content over: all at once if it is small, else as a stream.
func (b *backup) store(ctx context.Context, src *source, size int64) (content.Piece, error) {
	piece := content.Piece{Stream: stream, Class: blob.Data}
	head := make([]byte, min(size, SmallFile)+1)
	n, err := io.ReadFull(src, head)
	if err == nil && len(head) <= SmallFile { // it grew
		head = append(head, make([]byte, SmallFile+1-len(head))...)
		var more int
		more, err = io.ReadFull(src, head[n:])
		n += more
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		piece.Data = head[:n]
		return piece, nil
	case err != nil:
		return piece, err
	}
	ref, _, err := b.asm.StoreStream(ctx, io.MultiReader(bytes.NewReader(head), src))
	piece.Kept = &ref
	return piece, err
}

// lose records why a file is not in the map.
func (b *backup) lose(j *job, err error) {
	j.lost = true
	b.found.add(b.listFor(err), j.path, err)
}

// listFor returns the list that a failure to open or read belongs to.
func (b *backup) listFor(err error) *Findings {
	switch {
	case errors.Is(err, errMount):
		return &b.report.Skipped
	case errors.Is(err, errGone):
		return &b.report.Vanished
	}
	return &b.report.Unreadable
}

// source reads a file, counts, and remembers its failure, which must not be taken for one of the
// repository.
type source struct {
	file   *os.File
	events Events
	read   int64
	err    error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.file.Read(p)
	s.read += int64(n)
	s.events.bytes(int64(n))
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
