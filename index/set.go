package index

import (
	"runtime"
	"slices"
	"sync"

	"github.com/varve-dev/varve/repo/blob"
)

// Set answers for one state of a repository: where are the copies of a blob? It looks in segments
// and in loose tables, those of packs that are in no segment yet. Its zero value is empty; it is
// safe for concurrent use.
//
// Memory is four bytes per pack of each segment, and some hundred bytes per row of a loose table:
// loose rows are to stay in the ten thousands, beyond which they belong into a segment.
type Set struct {
	mu       sync.RWMutex
	segments []numbered
	loose    map[blob.ID][]Location
	rows     int
}

// numbered is a segment with the numbers of its packs in the fold.
type numbered struct {
	segment *Segment
	numbers []uint32 // by the pack's number in the segment; noPack for a pack to skip
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
	s.segments = append(s.segments, n)
	s.rows += segment.Len()
}

// AddLoose makes the table of one pack known, by the pack's number in the fold.
func (s *Set) AddLoose(pack uint32, entries []Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loose == nil {
		s.loose = make(map[blob.ID][]Location, len(entries))
	}
	for _, e := range entries {
		s.loose[e.ID] = appendNew(s.loose[e.ID], locate(e, pack))
	}
	s.rows += len(entries)
}

// Lookup returns all known copies of a blob, each once, or nil if there is none. A copy may belong
// to another blob whose ID has the same first 16 bytes: reading it tells.
func (s *Set) Lookup(id blob.ID) []Location {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := slices.Clone(s.loose[id])
	for _, n := range s.segments {
		from, to := n.segment.find(id)
		for i := from; i < to; i++ {
			r := n.segment.row(i)
			if number := n.numbers[r.pack()]; number != noPack {
				found = appendNew(found, locate(r.entry(), number))
			}
		}
	}
	runtime.KeepAlive(s)
	return found
}

// Len returns the number of rows, those of skipped packs included.
func (s *Set) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rows
}

// appendNew keeps each copy once: a pack may stand in a loose table and in segments at once while
// one takes the place of the other.
func appendNew(found []Location, l Location) []Location {
	if slices.Contains(found, l) {
		return found
	}
	return append(found, l)
}
