package index

import (
	"encoding/binary"
	"fmt"

	"github.com/FastFilter/xorfilter"
)

// filter tells for most strangers, without looking at the rows, that they are not there.
type filter struct {
	bits   uint8
	slices []xorfilter.BinaryFuse[uint8]
}

func (f *filter) mayContain(lead uint64) bool {
	s := &f.slices[part(lead, f.bits)]
	return len(s.Fingerprints) > 0 && s.Contains(lead)
}

// appendFilter writes the table of slices and their fingerprints for the rows of s.
func appendFilter(out []byte, s *Segment) ([]byte, error) {
	table := len(out)
	out = append(out, make([]byte, sliceSize<<s.cutBits)...)
	var builder xorfilter.BinaryFuseBuilder
	var leads []uint64
	i := 0
	for p := range 1 << s.cutBits {
		leads = leads[:0]
		for ; i < s.n; i++ {
			lead := s.row(i).lead()
			if part(lead, s.cutBits) != p {
				break
			}
			if k := len(leads); k == 0 || leads[k-1] != lead {
				leads = append(leads, lead)
			}
		}
		if len(leads) == 0 {
			continue
		}
		fuse, err := xorfilter.BuildBinaryFuse[uint8](&builder, leads)
		if err != nil {
			return nil, fmt.Errorf("build filter of %d blobs: %w", len(leads), err)
		}
		putSlice(out[table+sliceSize*p:], &fuse)
		out = append(out, fuse.Fingerprints...)
	}
	return out, nil
}

func putSlice(b []byte, fuse *xorfilter.BinaryFuse[uint8]) {
	binary.BigEndian.PutUint64(b, fuse.Seed)
	binary.BigEndian.PutUint32(b[8:], fuse.SegmentCount)
	for 1<<b[12] < fuse.SegmentLength {
		b[12]++
	}
}

// parseFilter reads the slices of a filter. The fingerprints are not copied.
func parseFilter(bits uint8, table, fingerprints []byte) (filter, error) {
	f := filter{bits: bits, slices: make([]xorfilter.BinaryFuse[uint8], 1<<bits)}
	for p := range f.slices {
		b := table[sliceSize*p:][:sliceSize]
		count, log := binary.BigEndian.Uint32(b[8:]), b[12]
		if b[13]|b[14]|b[15] != 0 {
			return filter{}, fmt.Errorf("filter slice %d: unknown flags: %w", p, ErrMalformed)
		}
		if count == 0 {
			if log != 0 || binary.BigEndian.Uint64(b) != 0 {
				return filter{}, fmt.Errorf("filter slice %d: parameters without fingerprints: %w", p, ErrMalformed)
			}
			continue
		}
		size := (uint64(count) + 2) << min(log, fuseMaxBits)
		if log > fuseMaxBits || size > uint64(len(fingerprints)) {
			return filter{}, fmt.Errorf("filter slice %d: %d segments of 2^%d do not fit: %w", p, count, log, ErrMalformed)
		}
		// Contains stays within the fingerprints: it adds at most two lengths to a place below
		// count × length, and flips only bits below the length, a power of two.
		f.slices[p] = xorfilter.BinaryFuse[uint8]{
			Seed:               binary.BigEndian.Uint64(b),
			SegmentLength:      1 << log,
			SegmentLengthMask:  1<<log - 1,
			SegmentCount:       count,
			SegmentCountLength: count << log,
			Fingerprints:       fingerprints[:size],
		}
		fingerprints = fingerprints[size:]
	}
	if len(fingerprints) > 0 {
		return filter{}, fmt.Errorf("%d bytes behind the last filter: %w", len(fingerprints), ErrMalformed)
	}
	return f, nil
}
