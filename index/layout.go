package index

import (
	"encoding/binary"
	"math/bits"

	"github.com/varve-dev/varve/repo/blob"
)

// A segment is one run of bytes. Integers are big-endian, so that rows are ordered as their bytes
// are.
//
//	header    24          magic "varveidx" | version 4 | packs P 4 | rows N 4 | fan-out bits F 1 | slice bits S 1 | zero 2
//	packs     32 × P      hashes of the packs, ascending; a row names its pack by its place here
//	rows      36 × N      ascending bytewise, no two alike in their first 23 bytes
//	fan-out    4 × 2^F    how many rows begin with F bits up to and including this place's number
//	slices    16 × 2^S    the filters of the rows that begin with the S bits of this place's number:
//	                      seed 8 | segments C 4 | length L of a segment as its logarithm 1 | zero 3
//	filters   Σ (C+2)×L   fingerprints of one byte, slice after slice; a slice without rows has C = L = 0
//
// A row:
//
//	| ID, first 16 bytes | pack 3 | offset 4 | stored 4 | plain 4 | links 3 | class 1 | key 1 |
//
// A filter is a binary fuse filter (Graf and Lemire, "Binary Fuse Filters", 2022) of the first 8
// bytes k of the IDs, as a number. With h = murmur64(k + seed), i = h×(C×L) >> 64,
// f = byte(h ^ h>>32), where murmur64 is MurmurHash3's 64-bit finisher, k may be in the set if
//
//	f = F[i] ^ F[(i+L) ^ (h>>18 mod L)] ^ F[(i+2L) ^ (h mod L)]
//
// It tells a stranger from a member in 255 of 256 cases. It is cut into slices so that building one
// takes some megabytes whatever the size of the segment.
const (
	magic   = "varveidx"
	version = 0

	headerSize = 24
	hashSize   = 32
	rowSize    = 36
	fanSize    = 4
	sliceSize  = 16

	prefixSize = 16             // bytes of an ID that a row keeps
	placeSize  = prefixSize + 7 // bytes of a row that say which blob lies where

	maxPacks    = 1<<24 - 1
	maxLinks    = 1<<24 - 1
	maxFanBits  = 28
	maxCutBits  = 16
	rowsPerFan  = 32      // at most, on average
	rowsPerCut  = 1 << 18 // at most, on average
	fuseMaxBits = 18      // the longest segment of a filter, as a logarithm
)

// row is one row of a segment as it is stored.
type row [rowSize]byte

func makeRow(e Entry, pack uint32) (r row) {
	copy(r[:prefixSize], e.ID[:])
	r.setPack(pack)
	binary.BigEndian.PutUint32(r[19:], e.Offset)
	binary.BigEndian.PutUint32(r[23:], e.Stored)
	binary.BigEndian.PutUint32(r[27:], e.Plain)
	put24(r[31:], e.Links)
	r[34] = uint8(e.Class)
	r[35] = e.Key
	return r
}

// entry returns the row with what it keeps of the ID.
func (r *row) entry() Entry {
	e := Entry{
		Class:  blob.Class(r[34]),
		Key:    r[35],
		Offset: binary.BigEndian.Uint32(r[19:]),
		Stored: binary.BigEndian.Uint32(r[23:]),
		Plain:  binary.BigEndian.Uint32(r[27:]),
		Links:  get24(r[31:]),
	}
	copy(e.ID[:], r[:prefixSize])
	return e
}

func (r *row) prefix() []byte      { return r[:prefixSize] }
func (r *row) place() []byte       { return r[:placeSize] }
func (r *row) lead() uint64        { return binary.BigEndian.Uint64(r[:]) }
func (r *row) pack() uint32        { return get24(r[prefixSize:]) }
func (r *row) setPack(pack uint32) { put24(r[prefixSize:], pack) }

func put24(b []byte, v uint32) { b[0], b[1], b[2] = byte(v>>16), byte(v>>8), byte(v) }
func get24(b []byte) uint32    { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }

// bitsFor returns how many leading bits of an ID split n rows into parts of at most each rows on
// average.
func bitsFor(n, each int) uint8 {
	if n <= each {
		return 0
	}
	return uint8(bits.Len(uint((n - 1) / each)))
}

// part returns the number that the leading bits of an ID form. Shifting by 64, for no bits at all,
// gives 0.
func part(lead uint64, bits uint8) int { return int(lead >> (64 - bits)) }
