package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/varve-dev/varve/chunker"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

// maxChunks is the length of the longest list of chunks that stands in an entry.
const maxChunks = 16

// store writes blobs, several at a time.
type store struct {
	saver   Saver
	slots   chan struct{} // one token per blob being written
	running sync.WaitGroup
	buffers sync.Pool // of *[]byte, for chunks
	cutters sync.Pool // of *chunker.Chunker

	chunks, chunkBytes atomic.Int64
}

func newStore(s Saver, parallel int) *store {
	return &store{saver: s, slots: make(chan struct{}, parallel)}
}

// wait returns when nothing is being written.
func (s *store) wait() { s.running.Wait() }

// bundle writes a full bundle and announces it by closing b.stored. It waits while too many blobs
// are under way. The write outlives the call of Add that began it, and so does not end with the
// context of that call.
func (s *store) bundle(ctx context.Context, b *bundle) {
	ctx = context.WithoutCancel(ctx)
	b.size = len(b.data)
	s.start(func() {
		defer close(b.stored)
		if b.ref, b.err = s.saver.Write(ctx, b.class, b.data); b.err != nil {
			b.err = fmt.Errorf("store bundle: %w", b.err)
		}
		b.data, b.known = nil, nil
	})
}

func (s *store) start(write func()) {
	s.slots <- struct{}{}
	s.running.Go(func() {
		defer func() { <-s.slots }()
		write()
	})
}

// StoreStream reads r to its end and stores it as chunks of class Data. It returns where they are,
// to be added as a [Piece.Kept], and how many bytes there were. An error of r is returned wrapped,
// so that the caller can tell it from one of the store by errors.Is on its own sentinel.
func (a *Assembler) StoreStream(ctx context.Context, r io.Reader) (Ref, int64, error) {
	return a.storeStream(ctx, blob.Data, r)
}

// storeStream cuts r into chunks in one goroutine, stores them in several, and collects their names
// in order in this one.
func (a *Assembler) storeStream(ctx context.Context, class blob.Class, r io.Reader) (Ref, int64, error) {
	cuts, err := a.cutter(r)
	if err != nil {
		return Ref{}, 0, fmt.Errorf("cut into chunks: %w", err)
	}
	defer a.store.cutters.Put(cuts)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	queue := make(chan *storedChunk, a.opt.Parallel)
	var cutErr error // read after queue is closed
	go func() {
		defer close(queue)
		cutErr = a.store.cut(ctx, class, cuts, queue)
	}()

	list := extentList{saver: a.saver, cutKey: a.nodeKey}
	for c := range queue { // to its end in any case: it closes when the goroutine above is done
		<-c.stored
		if err == nil && c.err != nil {
			err = fmt.Errorf("store chunk: %w", c.err)
		}
		if err == nil {
			err = list.add(ctx, c.chunk)
		}
		if err != nil {
			cancel()
		}
	}
	if err == nil {
		err = cutErr
	}
	if err != nil {
		return Ref{}, 0, err
	}
	ref, err := list.finish(ctx)
	return ref, int64(ref.length), err
}

// cutter returns a chunker of r; making one costs as much as cutting a small file.
func (a *Assembler) cutter(r io.Reader) (*chunker.Chunker, error) {
	if c, ok := a.store.cutters.Get().(*chunker.Chunker); ok {
		c.Reset(r)
		return c, nil
	}
	return chunker.New(r, a.cutKey, a.opt.Chunks)
}

// storedChunk is a chunk under way; its fields are set when stored is closed.
type storedChunk struct {
	chunk
	err    error
	stored chan struct{}
}

// cut sends every chunk of a content to the queue as its write begins.
func (s *store) cut(ctx context.Context, class blob.Class, cuts *chunker.Chunker, queue chan<- *storedChunk) error {
	for ctx.Err() == nil {
		data, err := cuts.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read content: %w", err)
		}
		buf, _ := s.buffers.Get().(*[]byte)
		if buf == nil {
			buf = new([]byte)
		}
		*buf = append((*buf)[:0], data...)
		c := &storedChunk{chunk: chunk{length: uint64(len(data))}, stored: make(chan struct{})}
		s.start(func() {
			defer close(c.stored)
			c.blob, c.err = s.saver.Write(ctx, class, *buf)
			s.buffers.Put(buf)
		})
		s.chunks.Add(1)
		s.chunkBytes.Add(int64(len(data)))
		queue <- c
	}
	return ctx.Err()
}

// extentList collects the chunks of one content: in a list while they are few, else in a map from
// offset (8 bytes, big endian) to chunk.
type extentList struct {
	saver  Saver
	cutKey [32]byte
	chunks []chunk
	tree   *tree.Builder // nil while the chunks are few
	length uint64        // of all chunks
	offset uint64        // of the next chunk to go to the tree
}

func (l *extentList) add(ctx context.Context, c chunk) error {
	l.chunks = append(l.chunks, c)
	l.length += c.length
	if l.tree == nil {
		if len(l.chunks) <= maxChunks {
			return nil
		}
		l.tree = tree.NewBuilder(l.saver, l.cutKey)
	}
	for _, c := range l.chunks {
		if err := l.tree.Add(ctx, encodeExtent(l.offset, c)); err != nil {
			return fmt.Errorf("list chunks: %w", err)
		}
		l.offset += c.length
	}
	l.chunks = l.chunks[:0]
	return nil
}

func (l *extentList) finish(ctx context.Context) (Ref, error) {
	if l.tree == nil {
		if l.length == 0 {
			return Ref{}, nil
		}
		return Ref{place: chunked, length: l.length, chunks: l.chunks}, nil
	}
	root, err := l.tree.Finish(ctx)
	if err != nil {
		return Ref{}, fmt.Errorf("list chunks: %w", err)
	}
	return Ref{place: mapped, length: l.length, extents: root}, nil
}
