package index

import (
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"

	"github.com/varve-dev/varve/repo/blob"
)

// Set answers for one state of a repository: where are the copies of a blob? It looks in segments
// and in loose tables, those of packs that are in no segment yet. Its zero value is empty; it is
// safe for concurrent use.
//
// Each row has a number, in the order in which rows came: who has something to say of every blob can
// keep a bit for each.
//
// Memory is four bytes per pack of each segment, and some hundred bytes per row of a loose table:
// loose rows are to stay in the ten thousands, beyond which they belong into a segment.
type Set struct {
	mu       sync.RWMutex
	segments []numbered
	loose    map[prefix][]looseRow
	rows     int
}

// prefix is what of an ID a segment keeps, and so all that a set goes by.
type prefix [prefixSize]byte

// numbered is a segment with the numbers of its packs in the fold.
type numbered struct {
	segment *Segment
	numbers []uint32 // by the pack's number in the segment; noPack for a pack to skip
	first   int      // number of its first row
}

type looseRow struct {
	Location
	number int
}

// AddSegment makes the rows of a segment known. It asks once for the number of each of its packs in
// the fold; rows of packs that have none (unknown, dropped) are skipped.
func (s *Set) AddSegment(segment *Segment, number func(pack blob.Hash) (uint32, bool)) {
	packs := segment.Packs()
	n := numbered{segment: segment, numbers: make([]uint32, len(packs))}
	for i, p := range packs {
		n.numbers[i] = noPack
		if fold, ok := number(p); ok {
			n.numbers[i] = fold
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n.first = s.rows
	s.segments = append(s.segments, n)
	s.rows += segment.Len()
}

// AddLoose makes the table of one pack known, by the pack's number in the fold.
func (s *Set) AddLoose(pack uint32, entries []Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loose == nil {
		s.loose = make(map[prefix][]looseRow, len(entries))
	}
	for _, e := range entries {
		p := prefix(e.ID[:prefixSize])
		s.loose[p] = append(s.loose[p], looseRow{locate(e, pack), s.rows})
		s.rows++
	}
}

// Lookup returns all known copies of a blob, each once, or nil if there is none. A copy may belong
// to another blob whose ID has the same first 16 bytes: reading it tells.
func (s *Set) Lookup(id blob.ID) (found []Location) {
	for _, l := range s.Find(id) {
		if !slices.Contains(found, l) {
			found = append(found, l)
		}
	}
	return found
}

// Find yields all rows of a blob with their numbers. A pack may stand in a loose table and in segments
// at once while one takes the place of the other, so the same copy may have several rows.
func (s *Set) Find(id blob.ID) iter.Seq2[int, Location] {
	return func(yield func(int, Location) bool) {
		s.mu.RLock()
		loose, segments := s.loose[prefix(id[:prefixSize])], s.segments // both only ever grow
		s.mu.RUnlock()
		for _, r := range loose {
			if !yield(r.number, r.Location) {
				return
			}
		}
		defer runtime.KeepAlive(s)
		for _, n := range segments {
			from, to := n.segment.find(id)
			for i := from; i < to; i++ {
				r := n.segment.row(i)
				if number := n.numbers[r.pack()]; number != noPack && !yield(n.first+i, locate(r.entry(), number)) {
					return
				}
			}
		}
	}
}

// Row is one copy of a blob: the first 16 bytes of its ID, and where it lies.
type Row struct {
	ID blob.ID
	Location
}

// All yields all rows with their numbers, in no order. Skipped packs are left out.
func (s *Set) All() iter.Seq2[int, Row] {
	return func(yield func(int, Row) bool) {
		s.mu.RLock()
		loose, segments := maps.Clone(s.loose), s.segments
		s.mu.RUnlock()
		for p, rows := range loose {
			for _, r := range rows {
				var id blob.ID
				copy(id[:], p[:])
				if !yield(r.number, Row{id, r.Location}) {
					return
				}
			}
		}
		defer runtime.KeepAlive(s)
		for _, n := range segments {
			for i := range n.segment.Len() {
				r := n.segment.row(i)
				e := r.entry()
				if number := n.numbers[r.pack()]; number != noPack && !yield(n.first+i, Row{e.ID, locate(e, number)}) {
					return
				}
			}
		}
	}
}

// Len returns the number of rows, those of skipped packs included.
func (s *Set) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rows
}
