package copies

import (
	"bytes"
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// maxAhead is how many entries may be read ahead of the one that is added next. Each may hold the small
// contents of one file or object.
const maxAhead = 128

// job is one key on its way into the copy.
type job struct {
	old, next, kept *tree.Entry // in the parent, in the snapshot, in the parent's copy; nil: not there
	ready           chan struct{}

	contents []content.Piece
	read     uint64
	sum      change
}

func (j *job) key() []byte {
	for _, e := range []*tree.Entry{j.next, j.old} {
		if e != nil {
			return e.Key
		}
	}
	return j.kept.Key
}

// merging copies one map. One goroutine lines the entries up, several read contents, one adds.
type merging struct {
	*copying
	mapCopy
	assembler *content.Assembler
	ordered   chan *job // all, in order
	toRead    chan *job // those of them that are not as in the parent
}

// copyMap copies a map. Entries that are as in the parent are taken from the parent's copy.
func (c *copying) copyMap(ctx context.Context, m mapCopy) (snapshot.Contents, error) {
	asm := content.NewAssembler(c.writer, content.Options{Key: c.To.DeriveKey, Chunks: c.To.Chunker(), Loader: c.to, GiveUp: m.giveUp})
	defer asm.Close()
	x := &merging{copying: c, mapCopy: m, assembler: asm, ordered: make(chan *job, maxAhead), toRead: make(chan *job, maxAhead)}
	g, inner := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(x.ordered)
		defer close(x.toRead)
		return x.lineUp(inner)
	})
	for range 2 * runtime.GOMAXPROCS(0) {
		g.Go(func() error { return x.readAll(inner) })
	}
	g.Go(func() error { return x.addAll(inner) })
	if err := g.Wait(); err != nil {
		return snapshot.Contents{}, err
	}
	made, err := asm.Finish(ctx)
	if err != nil {
		return snapshot.Contents{}, err
	}
	want, got := m.next.Root(), made.Root
	if got.Count != want.Count || got.Bytes != want.Bytes || (m.sums != nil && m.sums.digests.Whole().Objects != want.Count) {
		return snapshot.Contents{}, &parentDamage{fmt.Errorf("the copy of its parent, %s, is another one than the parent: %w", c.out.Parent, snapshot.ErrMalformed)}
	}
	return snapshot.Contents{Root: got, Sparse: made.Sparse}, nil
}

// lineUp makes jobs of the differences between parent and snapshot, and of all that lies between them in
// the parent's copy, in order.
func (x *merging) lineUp(ctx context.Context) error {
	kept := ahead{cursor: x.kept.Cursor(ctx)}
	for c, err := range tree.Diff(ctx, x.last, x.next, tree.Range{}) {
		if err != nil {
			return err
		}
		if err := x.keepBefore(ctx, &kept, c.Key); err != nil {
			return err
		}
		j := &job{old: c.Old, next: c.New, ready: make(chan struct{})}
		if e, err := kept.peek(); err != nil {
			return err
		} else if e != nil && bytes.Equal(e.Key, c.Key) {
			j.kept = kept.take()
		}
		if err := send(ctx, x.ordered, j); err != nil {
			return err
		}
		if err := send(ctx, x.toRead, j); err != nil {
			return err
		}
	}
	return x.keepBefore(ctx, &kept, nil)
}

// keepBefore makes jobs of the entries of the parent's copy before a key, or of all that are left.
func (x *merging) keepBefore(ctx context.Context, kept *ahead, key []byte) error {
	for {
		e, err := kept.peek()
		if err != nil || e == nil || (key != nil && bytes.Compare(e.Key, key) >= 0) {
			return err
		}
		if err := send(ctx, x.ordered, &job{kept: kept.take()}); err != nil {
			return err
		}
	}
}

func send(ctx context.Context, to chan<- *job, j *job) error {
	select {
	case to <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *merging) readAll(ctx context.Context) error {
	for j := range x.toRead {
		if err := x.read(ctx, j); err != nil {
			return fmt.Errorf("entry %q: %w", j.key(), err)
		}
		close(j.ready)
	}
	return ctx.Err()
}

// read brings the contents of an entry that are not in the parent's copy.
func (x *merging) read(ctx context.Context, j *job) error {
	next, old, err := decodeBoth(j.next, j.old)
	if err != nil {
		return err
	}
	if x.sums != nil {
		if j.sum, err = x.sums.of(ctx, j.key(), next.contents, old.contents); err != nil {
			return err
		}
	}
	kept, err := decode(j.kept)
	if err != nil {
		return err
	}
	for i, ref := range next.contents {
		stream := x.stream(i)
		if i < min(len(old.contents), len(kept.contents)) {
			same, err := x.same(ctx, ref, old.contents[i])
			if err != nil {
				return err
			}
			if same {
				j.contents = append(j.contents, kept.contents[i].Keep(stream))
				continue
			}
		}
		piece, err := x.assembler.Bring(ctx, x.reader, ref, stream)
		if err != nil {
			return err
		}
		j.contents = append(j.contents, piece)
		if !ref.Inline() {
			j.read += ref.Length()
		}
	}
	return nil
}

// same reports whether two contents of the source are equal. Small ones may be and yet lie in two
// bundles: the source moves them now and then.
func (x *merging) same(ctx context.Context, a, b content.Ref) (bool, error) {
	if a.Equal(b) || a.Length() != b.Length() || a.Length() > content.MaxSmall {
		return a.Equal(b), nil
	}
	one, err := x.reader.ReadAll(ctx, a)
	if err != nil {
		return false, err
	}
	other, err := x.reader.ReadAll(ctx, b)
	return bytes.Equal(one, other), err
}

// addAll adds the entries in order.
func (x *merging) addAll(ctx context.Context) error {
	for j := range x.ordered {
		if j.ready != nil {
			select {
			case <-j.ready:
			case <-ctx.Done():
				return ctx.Err()
			}
			x.out.Entries++
			x.out.Read += j.read
		}
		if err := x.add(ctx, j); err != nil {
			return err
		}
		x.tell(func(p *Progress) { p.Entries, p.Read, p.Written = p.Entries+1, p.Read+j.read, x.writer.Stats() })
	}
	return ctx.Err()
}

func (x *merging) add(ctx context.Context, j *job) error {
	if j.ready == nil { // as in the parent
		kept, err := decode(j.kept)
		if err != nil {
			return err
		}
		for i, ref := range kept.contents {
			j.contents = append(j.contents, ref.Keep(x.stream(i)))
		}
		return x.assembler.Add(ctx, content.Item{Key: j.kept.Key, Attrs: kept.attrs, Bytes: j.kept.Bytes, Contents: j.contents})
	}
	if x.sums != nil {
		if err := x.sums.take(j.sum); err != nil {
			return err
		}
	}
	if j.next == nil { // removed
		return nil
	}
	next, err := decode(j.next)
	if err != nil {
		return err
	}
	return x.assembler.Add(ctx, content.Item{Key: j.next.Key, Attrs: next.attrs, Bytes: j.next.Bytes, Contents: j.contents})
}

// ahead is a cursor that tells what comes next.
type ahead struct {
	cursor *tree.Cursor
	next   *tree.Entry
	ended  bool
}

// peek returns the next entry without taking it; nil at the end.
func (a *ahead) peek() (*tree.Entry, error) {
	if a.next == nil && !a.ended {
		e, ok, err := a.cursor.Next()
		if err != nil {
			return nil, err
		}
		if a.ended = !ok; ok {
			a.next = &e
		}
	}
	return a.next, nil
}

// take takes what peek has shown.
func (a *ahead) take() *tree.Entry {
	e := a.next
	a.next = nil
	return e
}
