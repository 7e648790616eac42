package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sort"

	"github.com/varve-dev/varve/repo/blob"
)

// Segment is a parsed segment. It is searched where its bytes lie and safe for concurrent use.
//
// There is nothing to close: the mapping behind a segment of a [Cache] goes when the segment is
// garbage, so it can never go under a running search. All that methods return is copied.
type Segment struct {
	n       int
	packs   []byte
	rows    []byte
	fan     []byte
	fanBits uint8
	cutBits uint8
	filter  filter
}

// ParseSegment checks bytes written by [EncodeSegment] or [MergeSegments] and makes them
// searchable. The segment keeps data, which must not change any more; beyond it, memory is some
// bytes per thousand rows. An error that is [ErrMalformed] means that data is no segment or a
// damaged one.
func ParseSegment(data []byte) (*Segment, error) {
	s, err := parseLayout(data)
	if err != nil {
		return nil, fmt.Errorf("parse index segment: %w", err)
	}
	if err := s.checkRows(); err != nil {
		return nil, fmt.Errorf("parse index segment: %w", err)
	}
	return s, nil
}

// parseLayout finds the parts of a segment and checks all but its rows.
func parseLayout(data []byte) (*Segment, error) {
	if len(data) < headerSize || string(data[:len(magic)]) != magic {
		return nil, fmt.Errorf("no header: %w", ErrMalformed)
	}
	if v := binary.BigEndian.Uint32(data[8:]); v != version {
		return nil, fmt.Errorf("format version %d, this program reads version %d", v, version)
	}
	packs, n := binary.BigEndian.Uint32(data[12:]), binary.BigEndian.Uint32(data[16:])
	s := &Segment{fanBits: data[20], cutBits: data[21]}
	if s.fanBits > maxFanBits || s.cutBits > maxCutBits || packs > maxPacks || data[22]|data[23] != 0 {
		return nil, fmt.Errorf("header out of range: %w", ErrMalformed)
	}
	rest := data[headerSize:]
	sizes := [...]uint64{hashSize * uint64(packs), rowSize * uint64(n), fanSize << s.fanBits, sliceSize << s.cutBits}
	var parts [len(sizes)][]byte
	for i, size := range sizes {
		if size > uint64(len(rest)) {
			return nil, fmt.Errorf("%d packs and %d rows do not fit into %d bytes: %w", packs, n, len(data), ErrMalformed)
		}
		parts[i], rest = rest[:size], rest[size:]
	}
	s.n, s.packs, s.rows, s.fan = int(n), parts[0], parts[1], parts[2]
	var err error
	s.filter, err = parseFilter(s.cutBits, parts[3], rest)
	return s, err
}

// checkRows proves that whatever stands in the rows can be found and points into a pack of the list.
func (s *Segment) checkRows() error {
	packs := len(s.packs) / hashSize
	for i := 1; i < packs; i++ {
		if bytes.Compare(s.packs[hashSize*(i-1):hashSize*i], s.packs[hashSize*i:hashSize*(i+1)]) >= 0 {
			return fmt.Errorf("packs %d and %d out of order: %w", i-1, i, ErrMalformed)
		}
	}
	p := 0 // the place of the fan-out table that the rows have come to
	for i := range s.n {
		r := s.row(i)
		if i > 0 && bytes.Compare(s.row(i-1).place(), r.place()) >= 0 {
			return fmt.Errorf("rows %d and %d out of order: %w", i-1, i, ErrMalformed)
		}
		if int(r.pack()) >= packs {
			return fmt.Errorf("row %d in pack %d of %d: %w", i, r.pack(), packs, ErrMalformed)
		}
		if err := checkEntry(r.entry()); err != nil {
			return fmt.Errorf("row %d: %w: %w", i, err, ErrMalformed)
		}
		if !s.filter.mayContain(r.lead()) {
			return fmt.Errorf("row %d hidden by the filter: %w", i, ErrMalformed)
		}
		for ; p < part(r.lead(), s.fanBits); p++ {
			if s.fanAt(p) != i {
				return fmt.Errorf("fan-out wrong at row %d: %w", i, ErrMalformed)
			}
		}
	}
	for ; p < 1<<s.fanBits; p++ {
		if s.fanAt(p) != s.n {
			return fmt.Errorf("fan-out wrong at its end: %w", ErrMalformed)
		}
	}
	return nil
}

// Len returns the number of rows: copies of blobs, not blobs.
func (s *Segment) Len() int { return s.n }

// Packs returns the hashes of the packs whose tables are in the segment, ascending.
func (s *Segment) Packs() []blob.Hash {
	packs := make([]blob.Hash, len(s.packs)/hashSize)
	for i := range packs {
		packs[i] = s.packHash(i)
	}
	runtime.KeepAlive(s)
	return packs
}

// Lookup yields the pack and the place of every copy of the blob that the segment knows. Blobs of
// equal first 16 bytes are not told apart: it yields the copies of both, under the ID asked for.
func (s *Segment) Lookup(id blob.ID) iter.Seq2[blob.Hash, Entry] {
	return func(yield func(blob.Hash, Entry) bool) {
		defer runtime.KeepAlive(s)
		from, to := s.find(id)
		for i := from; i < to; i++ {
			r := s.row(i)
			e := r.entry()
			e.ID = id
			if !yield(s.packHash(int(r.pack())), e) {
				return
			}
		}
	}
}

// All yields every row with its pack, ordered by the first 16 bytes of the ID, which are all that is
// known of it here.
func (s *Segment) All() iter.Seq2[blob.Hash, Entry] {
	return func(yield func(blob.Hash, Entry) bool) {
		defer runtime.KeepAlive(s)
		for i := range s.n {
			r := s.row(i)
			if !yield(s.packHash(int(r.pack())), r.entry()) {
				return
			}
		}
	}
}

// Tables returns all rows by pack. It takes memory for all of them: it is for small segments and
// for tests; [Segment.All] and [MergeSegments] do without.
func (s *Segment) Tables() []Table {
	tables := make([]Table, 0, len(s.packs)/hashSize)
	for _, p := range s.Packs() {
		tables = append(tables, Table{Pack: p})
	}
	for pack, e := range s.All() {
		at, _ := slices.BinarySearchFunc(tables, pack, func(t Table, p blob.Hash) int { return compareHashes(t.Pack, p) })
		tables[at].Entries = append(tables[at].Entries, e)
	}
	return tables
}

// find returns the range of rows that begin as the ID does.
func (s *Segment) find(id blob.ID) (from, to int) {
	lead := binary.BigEndian.Uint64(id[:])
	if !s.filter.mayContain(lead) {
		return 0, 0
	}
	p := part(lead, s.fanBits)
	if p > 0 {
		from = s.fanAt(p - 1)
	}
	end := s.fanAt(p)
	from += sort.Search(end-from, func(i int) bool { return bytes.Compare(s.row(from+i).prefix(), id[:prefixSize]) >= 0 })
	for to = from; to < end && bytes.Equal(s.row(to).prefix(), id[:prefixSize]); to++ {
	}
	return from, to
}

func (s *Segment) row(i int) *row                { return (*row)(s.rows[rowSize*i:]) }
func (s *Segment) fanAt(p int) int               { return int(binary.BigEndian.Uint32(s.fan[fanSize*p:])) }
func (s *Segment) packHash(number int) blob.Hash { return blob.Hash(s.packs[hashSize*number:]) }
