package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/varve-dev/varve/snapshot/tree"
)

// MaxReadAll is the longest content that [Reader.ReadAll] holds in memory.
const MaxReadAll = 64 << 20

// ErrTooLong means that a content is too long to be held in memory; WriteTo reads it.
var ErrTooLong = errors.New("content too long to be read into memory")

// Reader brings back contents. It keeps the bundles that it read last, so contents of neighbours
// cost one read together, and may be used by many goroutines.
type Reader struct {
	loader  Loader
	bundles *bundleCache
}

// NewReader reads contents through l.
func NewReader(l Loader) *Reader {
	return &Reader{loader: l, bundles: newBundleCache(l)}
}

// ReadAll returns a content of at most [MaxReadAll] bytes. The caller must not change it.
func (r *Reader) ReadAll(ctx context.Context, ref Ref) ([]byte, error) {
	switch {
	case ref.place == inline:
		return ref.inline[:len(ref.inline):len(ref.inline)], nil
	case ref.place == bundled:
		return r.bundled(ctx, ref)
	case ref.length > MaxReadAll:
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLong, ref.length)
	}
	var b bytes.Buffer
	if err := r.WriteTo(ctx, ref, &b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// WriteTo writes a content of any length to w, holding one chunk at a time. Exactly ref.Length()
// bytes have been written when it returns no error.
func (r *Reader) WriteTo(ctx context.Context, ref Ref, w io.Writer) error {
	if ref.place == inline || ref.place == bundled {
		data, err := r.ReadAll(ctx, ref)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	var written uint64
	for c, err := range r.pieces(ctx, ref) {
		if err == nil {
			err = r.writeChunk(ctx, c, w)
		}
		if err != nil {
			return fmt.Errorf("at offset %d: %w", written, err)
		}
		written += c.length
	}
	if written != ref.length {
		return fmt.Errorf("%w: content of %d bytes is %d long", ErrMalformed, ref.length, written)
	}
	return nil
}

func (r *Reader) bundled(ctx context.Context, ref Ref) ([]byte, error) {
	data, err := r.bundles.get(ctx, ref.bundle.blob)
	if err != nil {
		return nil, fmt.Errorf("read bundle %s: %w", ref.bundle.blob, err)
	}
	if uint64(len(data)) != ref.bundle.size {
		return nil, fmt.Errorf("%w: bundle %s has %d bytes, %d expected",
			ErrMalformed, ref.bundle.blob, len(data), ref.bundle.size)
	}
	end := ref.bundle.offset + ref.length
	return data[ref.bundle.offset:end:end], nil
}

// pieces yields the chunks of a content in order. The lengths of an extent map are checked against
// the offsets, so a map cannot make a content longer than the number in its entry.
func (r *Reader) pieces(ctx context.Context, ref Ref) iter.Seq2[chunk, error] {
	return func(yield func(chunk, error) bool) {
		for _, c := range ref.chunks {
			if !yield(c, nil) {
				return
			}
		}
		if ref.place != mapped {
			return
		}
		var offset uint64
		for e, err := range tree.Open(r.loader, ref.extents).Scan(ctx, tree.Range{}) {
			var c chunk
			if err == nil {
				c, err = decodeExtent(e, offset)
			}
			if err == nil && c.length > ref.length-offset {
				err = fmt.Errorf("%w: extents beyond the length of %d", ErrMalformed, ref.length)
			}
			if !yield(c, err) || err != nil {
				return
			}
			offset += c.length
		}
	}
}

var zeros [32 << 10]byte

func (r *Reader) writeChunk(ctx context.Context, c chunk, w io.Writer) error {
	if !c.blob.IsZero() {
		data, err := r.loader.Read(ctx, c.blob)
		if err != nil {
			return fmt.Errorf("read chunk %s: %w", c.blob, err)
		}
		if uint64(len(data)) != c.length {
			return fmt.Errorf("%w: chunk %s has %d bytes, %d expected", ErrMalformed, c.blob, len(data), c.length)
		}
		_, err = w.Write(data)
		return err
	}
	for left := c.length; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(left, uint64(len(zeros)))
		if _, err := w.Write(zeros[:n]); err != nil {
			return err
		}
		left -= n
	}
	return nil
}
