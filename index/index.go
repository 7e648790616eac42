// Package index finds blobs: given a blob's name it says in which packs a copy lies, and where.
//
// The rows come from the tables of packs. They are gathered in [Segment]s: immutable, sorted, of
// fixed width, searched where they lie, so that a repository of a hundred million blobs needs a
// mapped file and not memory. A backup writes a small segment, a prune merges small ones into
// larger ones ([MergeSegments]). Tables of packs too new or too small for a segment are held as
// they are. A [Set] puts both together and answers for one state of the repository.
//
// A segment keeps the first 16 bytes of a blob's name. That is enough to find it; that it is the
// right blob is proven whenever it is read, when its plaintext is hashed and compared with the
// whole name. So an index that is wrong costs an error and never gives wrong bytes.
//
// A [Cache] keeps segments and the folded state of the journal on the local disk. It is disposable:
// what it holds can be read from the bucket again, whatever of it is damaged is dropped unread, and
// where there is no disk to use the work goes on in memory.
package index

import (
	"errors"
	"fmt"
	"math"

	"github.com/varve-dev/varve/repo/blob"
)

// Location says where one copy of a blob lies. All lengths are in bytes.
type Location struct {
	Pack   uint32     // number of the pack in the fold of the journal
	Offset uint32     // position of the sealed blob in the pack
	Stored uint32     // sealed length
	Plain  uint32     // length of the plaintext
	Links  uint32     // sealed length of the links, the first part of a two-part blob; else 0
	Class  blob.Class // what the blob holds
	Key    uint8      // number of the session key in the pack's key table
}

// Entry is one row of a pack's table: a blob, and where it lies in that pack. One that comes out of
// a segment has only the first 16 bytes of its ID, the others are zero.
type Entry = blob.Row

// Table is the rows of one pack, in any order.
type Table struct {
	Pack    blob.Hash
	Entries []Entry
}

// ErrMalformed means that bytes are not an index segment, or that one contradicts itself.
var ErrMalformed = errors.New("malformed index segment")

// locate returns an entry as a location in the pack with the given number.
func locate(e Entry, pack uint32) Location {
	return Location{Pack: pack, Offset: e.Offset, Stored: e.Stored, Plain: e.Plain, Links: e.Links, Class: e.Class, Key: e.Key}
}

// checkEntry refuses an entry that no pack can hold.
func checkEntry(e Entry) error {
	switch {
	case !e.Class.Valid():
		return fmt.Errorf("unknown %s", e.Class)
	case e.Stored > math.MaxUint32-e.Offset:
		return fmt.Errorf("%d bytes at %d end beyond 4 GiB", e.Stored, e.Offset)
	case e.Links > e.Stored || e.Links > maxLinks || (e.Links > 0) != e.Class.HasLinks():
		return fmt.Errorf("links of %d bytes in %d stored bytes of class %s", e.Links, e.Stored, e.Class)
	}
	return nil
}
