package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/varve-dev/varve/repo/blob"
)

// Keep returns a stored content as a piece that stays where it is.
func (r Ref) Keep(stream string) Piece {
	p := Piece{Stream: stream, Class: blob.Data, Kept: &r}
	if r.place == bundled {
		p.Class = r.bundle.blob.Class // it may have to leave its bundle
	}
	return p
}

// Bring returns a content of another repository as a piece for Add. What that repository keeps as
// chunks is cut and stored at once; all else is read into memory. A content stays in its class. It may be
// called by many goroutines.
func (a *Assembler) Bring(ctx context.Context, from *Reader, ref Ref, stream string) (Piece, error) {
	class, err := from.class(ctx, ref)
	if err != nil {
		return Piece{}, err
	}
	if ref.place == inline || ref.place == bundled {
		data, err := from.ReadAll(ctx, ref)
		if data == nil {
			data = []byte{} // empty, but not nil
		}
		return Piece{Stream: stream, Class: class, Data: data}, err
	}
	kept, err := a.pour(ctx, from, ref, class)
	return Piece{Stream: stream, Class: class, Kept: &kept}, err
}

// pour reads chunks in one goroutine while they are cut anew and stored in this one.
func (a *Assembler) pour(ctx context.Context, from *Reader, ref Ref, class blob.Class) (Ref, error) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.CloseWithError(from.WriteTo(ctx, ref, w)) // never fails
	}()
	kept, _, err := a.storeStream(ctx, class, r)
	cancel()
	_ = r.CloseWithError(errors.New("the content is no longer wanted")) // never fails
	<-done
	if err == nil && kept.length != ref.length {
		err = fmt.Errorf("content of %d bytes was stored with %d", ref.length, kept.length)
	}
	return kept, err
}

// class returns the class of the blobs that a content lies in. A content without blobs is data.
func (r *Reader) class(ctx context.Context, ref Ref) (blob.Class, error) {
	if ref.place == bundled {
		return ref.bundle.blob.Class, nil
	}
	for c, err := range r.pieces(ctx, ref) {
		if err != nil {
			return 0, err
		}
		if !c.blob.IsZero() {
			return c.blob.Class, nil
		}
	}
	return blob.Data, nil
}
