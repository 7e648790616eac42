// Package chunker cuts a stream of bytes into chunks at places that the bytes themselves choose, so
// that the same content gives the same chunks wherever it stands and whatever was inserted before it.
// That is what lets a repository store a shifted file again for almost nothing.
//
// # Where a chunk ends
//
// A gear hash runs over the stream: with each byte b it is shifted left by one bit and a number of 64
// bits that stands for b in a table is added. So it depends on the last 64 bytes and on nothing else:
//
//	h(i) = 2·h(i−1) + gear[b(i)]     modulo 2^64
//
// A chunk ends after a byte whose hash falls below a limit. Two limits normalise the lengths: up to
// the average a low one, that makes a cut four times rarer than 1/Avg, and after it a high one, that
// makes it four times more frequent. No chunk but the last is shorter than Min or longer than Max:
//
//	0        Min                Avg                                Max
//	├─ never ─┼─ h < 2^64/(4·Avg) ─┼─ h < 2^64·4/Avg ───────────────┤ always
//
// The limits are computed from 2^64−1, and quotients are rounded down before they are multiplied. On
// random bytes with Min = Avg/4 and Max = 4·Avg the mean length is 1.14·Avg. The rule is that of
// FastCDC (Xia et al., USENIX ATC 2016), with limits where the paper has masks.
//
// The table is made from a key. Without it nobody can tell where a content would be cut, and so not
// recognise a known file by the lengths of its chunks.
//
// The cuts are part of the repository's format: the same key, parameters and content give the same
// chunks for ever, or deduplication against older backups ends. A test holds them fixed.
package chunker

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// window is how many bytes the hash depends on: its width in bits.
	window = 64

	// normalisation is by how much a cut is rarer before the average and more frequent after it.
	normalisation = 4

	// minSize and maxSize bound what a repository may ask for: smaller chunks would drown in their
	// bookkeeping, larger ones in memory.
	minSize = 256
	maxSize = 16 << 20
)

// gearInfo separates the table from whatever else is ever derived from the same key.
const gearInfo = "varve chunker gear table v0"

// ErrBadParams means that parameters are outside of what a chunker works with.
var ErrBadParams = errors.New("bad chunker parameters")

// Params are the lengths of chunks in bytes. They belong to a repository and never change in it.
type Params struct {
	Min int `json:"min"` // no chunk but the last is shorter
	Avg int `json:"avg"` // where cuts become frequent
	Max int `json:"max"` // no chunk is longer
}

// Default returns the parameters of a new repository: 64 KiB on average, a quarter of that at least
// and four times as much at most.
func Default() Params {
	const avg = 64 << 10
	return Params{Min: avg / 4, Avg: avg, Max: avg * 4}
}

// Validate returns nil for parameters that satisfy 256 B ≤ Min ≤ Avg ≤ Max ≤ 16 MiB, else an error
// that wraps [ErrBadParams].
func (p Params) Validate() error {
	switch {
	case p.Min < minSize:
		return fmt.Errorf("%w: minimum of %d bytes is below %d", ErrBadParams, p.Min, minSize)
	case p.Avg < p.Min:
		return fmt.Errorf("%w: average of %d bytes is below the minimum of %d", ErrBadParams, p.Avg, p.Min)
	case p.Max < p.Avg:
		return fmt.Errorf("%w: maximum of %d bytes is below the average of %d", ErrBadParams, p.Max, p.Avg)
	case p.Max > maxSize:
		return fmt.Errorf("%w: maximum of %d bytes is above %d", ErrBadParams, p.Max, maxSize)
	}
	return nil
}

// Chunker cuts one stream at a time. It is not safe for concurrent use. Its memory is one buffer of
// twice the maximum length.
type Chunker struct {
	params     Params
	gear       *[256]uint64
	rare, freq uint64 // limits of the hash up to the average and after it

	r          io.Reader
	buf        []byte
	start, end int   // buf[start:end] is read and not yet cut off
	err        error // what ended the reading; io.EOF at the end of the stream
}

// New returns a chunker of r that cuts by content, with a table made from key.
func New(r io.Reader, key [32]byte, p Params) (*Chunker, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	gear, err := newGear(key)
	if err != nil {
		return nil, fmt.Errorf("make gear table: %w", err)
	}
	avg := uint64(p.Avg)
	return &Chunker{
		params: p,
		gear:   gear,
		rare:   math.MaxUint64 / (normalisation * avg),
		freq:   math.MaxUint64 / avg * normalisation,
		r:      r,
		buf:    make([]byte, 2*p.Max),
	}, nil
}

// NewFixed returns a chunker of r that cuts every size bytes, whatever they are: for content that
// changes in place, such as block devices. The last chunk may be shorter.
func NewFixed(r io.Reader, size int) (*Chunker, error) {
	p := Params{Min: size, Avg: size, Max: size}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return &Chunker{params: p, r: r, buf: make([]byte, 2*size)}, nil
}

// Reset makes the chunker begin anew with another stream, with the same key, parameters and buffer.
func (c *Chunker) Reset(r io.Reader) {
	c.r, c.start, c.end, c.err = r, 0, 0, nil
}

// Next returns the next chunk, which is valid until the next call and may be changed by the caller.
// At the end of the stream it returns io.EOF.
//
// An error of the reader is returned, as it is and from then on, once all chunks are given whose end
// was certain without the bytes that are missing. What is left after them is not given: it would look
// like a last chunk.
func (c *Chunker) Next() ([]byte, error) {
	c.fill()
	data := c.buf[c.start:c.end]
	if len(data) == 0 {
		return nil, c.err
	}
	length := c.cut(data)
	if length == 0 {
		if c.err != io.EOF { //nolint:errorlint // an error that wraps io.EOF is a failure, not the end
			return nil, c.err
		}
		length = len(data)
	}
	c.start += length
	return data[:length:length], nil
}

// fill reads until a whole chunk of any length is in the buffer or the reader has ended.
func (c *Chunker) fill() {
	if c.err != nil || c.end-c.start >= c.params.Max {
		return
	}
	c.end = copy(c.buf, c.buf[c.start:c.end])
	c.start = 0
	for empty := 0; c.end < len(c.buf) && c.err == nil; {
		n, err := c.r.Read(c.buf[c.end:])
		c.end += n
		c.err = err
		if n > 0 {
			empty = 0
		} else if empty++; empty == maxEmptyReads && err == nil {
			c.err = io.ErrNoProgress
		}
	}
}

// maxEmptyReads is how often in a row a reader may return nothing before it counts as broken.
const maxEmptyReads = 100

// cut returns the length of the chunk that data begins with, or 0 if data ends before it does.
func (c *Chunker) cut(data []byte) int {
	p := c.params
	full := len(data) >= p.Max
	if full {
		data = data[:p.Max]
	}
	if c.gear != nil && len(data) >= p.Min {
		if length := c.cutByContent(data); length > 0 {
			return length
		}
	}
	if full {
		return p.Max
	}
	return 0
}

// cutByContent returns the length of the chunk if its content ends it, else 0. The data is between
// Min and Max bytes long.
func (c *Chunker) cutByContent(data []byte) int {
	gear, rare, freq, h := c.gear, c.rare, c.freq, uint64(0)
	// The window before the first byte that may be a chunk's last, so that no hash depends on where
	// the chunk began.
	first := c.params.Min - 1
	for _, b := range data[first-(window-1) : first] {
		h = h<<1 + gear[b]
	}
	middle := min(c.params.Avg, len(data))
	for i, b := range data[first:middle] {
		if h = h<<1 + gear[b]; h < rare {
			return first + i + 1
		}
	}
	for i, b := range data[middle:] {
		if h = h<<1 + gear[b]; h < freq {
			return middle + i + 1
		}
	}
	return 0
}

// newGear expands the key with HKDF-SHA256 to 256 little-endian numbers, one for each value of a byte.
func newGear(key [32]byte) (*[256]uint64, error) {
	var gear [256]uint64
	stream, err := hkdf.Expand(sha256.New, key[:], gearInfo, 8*len(gear))
	if err != nil {
		return nil, err
	}
	for i := range gear {
		gear[i] = binary.LittleEndian.Uint64(stream[8*i:])
	}
	return &gear, nil
}
