package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
)

// EncodeSegment writes the segment of the given tables. The same tables give the same bytes in
// whatever order they and their entries come; several tables of one pack are united. An entry that
// stands twice is kept once; two different entries at one place of a pack are an error.
func EncodeSegment(tables []Table) ([]byte, error) {
	n := 0
	packs := make([]blob.Hash, len(tables))
	for i, t := range tables {
		packs[i] = t.Pack
		n += len(t.Entries)
	}
	packs = union(packs)
	b, err := newBuilder(packs, n)
	if err != nil {
		return nil, err
	}
	rows := make([]row, 0, n)
	for _, t := range tables {
		number, _ := slices.BinarySearchFunc(packs, t.Pack, compareHashes)
		for _, e := range t.Entries {
			if err := checkEntry(e); err != nil {
				return nil, fmt.Errorf("index blob %s of pack %s: %w", e.ID.Short(), t.Pack.Short(), err)
			}
			rows = append(rows, makeRow(e, uint32(number)))
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return bytes.Compare(a[:], b[:]) })
	for i := range rows {
		if err := b.add(&rows[i]); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

// MergeSegments writes the segment of all rows of the given ones whose pack is to be kept; a nil
// keep keeps all. The result has the bytes that [EncodeSegment] makes of the same tables. Beyond
// the result it needs some megabytes of memory, however large the segments are.
func MergeSegments(segments []*Segment, keep func(pack blob.Hash) bool) ([]byte, error) {
	n := 0
	var packs []blob.Hash
	for _, s := range segments {
		n += s.Len()
		packs = append(packs, s.Packs()...)
	}
	packs = union(packs)
	if keep != nil {
		packs = slices.DeleteFunc(packs, func(p blob.Hash) bool { return !keep(p) })
	}
	b, err := newBuilder(packs, n)
	if err != nil {
		return nil, err
	}
	inputs := make([]*input, 0, len(segments))
	for _, s := range segments {
		in := &input{seg: s, numbers: numbersIn(s.Packs(), packs)}
		if in.next() {
			inputs = append(inputs, in)
		}
	}
	for len(inputs) > 0 {
		first := 0
		for i := range inputs {
			if bytes.Compare(inputs[i].row[:], inputs[first].row[:]) < 0 {
				first = i
			}
		}
		if err := b.add(&inputs[first].row); err != nil {
			return nil, err
		}
		if !inputs[first].next() {
			inputs = slices.Delete(inputs, first, first+1)
		}
	}
	return b.finish()
}

// input is one segment on its way into a merge. Its packs keep their order under their new numbers,
// so its rows stay sorted.
type input struct {
	seg     *Segment
	numbers []uint32 // by the pack's number in the segment: its number in the result, or noPack
	at      int
	row     row
}

// next brings the next row to keep, under the pack's new number, or reports that there is none.
func (in *input) next() bool {
	for ; in.at < in.seg.Len(); in.at++ {
		in.row = *in.seg.row(in.at)
		if number := in.numbers[in.row.pack()]; number != noPack {
			in.row.setPack(number)
			in.at++
			return true
		}
	}
	return false
}

// noPack stands for a pack that is not wanted.
const noPack = math.MaxUint32

// numbersIn gives for each of the packs its place in all, or noPack.
func numbersIn(packs, all []blob.Hash) []uint32 {
	numbers := make([]uint32, len(packs))
	for i, p := range packs {
		numbers[i] = noPack
		if at, ok := slices.BinarySearchFunc(all, p, compareHashes); ok {
			numbers[i] = uint32(at)
		}
	}
	return numbers
}

func compareHashes(a, b blob.Hash) int { return bytes.Compare(a[:], b[:]) }

func union(packs []blob.Hash) []blob.Hash {
	slices.SortFunc(packs, compareHashes)
	return slices.Compact(packs)
}

// builder writes a segment from rows in ascending order.
type builder struct {
	out   []byte
	rows  int    // where the rows begin in out
	packs uint32 // how many packs there are
	last  row
}

func newBuilder(packs []blob.Hash, rows int) (*builder, error) {
	if len(packs) > maxPacks {
		return nil, fmt.Errorf("encode index segment: %d packs, at most %d fit", len(packs), maxPacks)
	}
	if uint64(rows) > math.MaxUint32 {
		return nil, fmt.Errorf("encode index segment: %d rows, at most %d fit", rows, uint32(math.MaxUint32))
	}
	b := &builder{packs: uint32(len(packs)), rows: headerSize + hashSize*len(packs)}
	b.out = make([]byte, headerSize, b.rows+rows*(rowSize+2)+4096)
	for _, p := range packs {
		b.out = append(b.out, p[:]...)
	}
	return b, nil
}

func (b *builder) len() int { return (len(b.out) - b.rows) / rowSize }

func (b *builder) add(r *row) error {
	if b.len() > 0 && bytes.Equal(r.place(), b.last.place()) {
		if *r == b.last {
			return nil
		}
		pack := blob.Hash(b.out[headerSize+hashSize*int(r.pack()):])
		return fmt.Errorf("encode index segment: two different entries for blob %x in pack %s", r.prefix(), pack.Short())
	}
	b.out = append(b.out, r[:]...)
	b.last = *r
	return nil
}

// finish adds what speeds up the search, and the header.
func (b *builder) finish() ([]byte, error) {
	n := b.len()
	s := Segment{n: n, rows: b.out[b.rows:], fanBits: bitsFor(n, rowsPerFan), cutBits: bitsFor(n, rowsPerCut)}
	b.out = appendFanOut(b.out, &s)
	out, err := appendFilter(b.out, &s)
	if err != nil {
		return nil, fmt.Errorf("encode index segment: %w", err)
	}
	copy(out, magic)
	binary.BigEndian.PutUint32(out[8:], version)
	binary.BigEndian.PutUint32(out[12:], b.packs)
	binary.BigEndian.PutUint32(out[16:], uint32(n))
	out[20] = s.fanBits
	out[21] = s.cutBits
	return out, nil
}

func appendFanOut(out []byte, s *Segment) []byte {
	i := 0
	for p := range 1 << s.fanBits {
		for i < s.n && part(s.row(i).lead(), s.fanBits) == p {
			i++
		}
		out = binary.BigEndian.AppendUint32(out, uint32(i))
	}
	return out
}
