package formats_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/zeebo/blake3"
)

// segment reads an index segment. It tells nothing that the tables of the packs have not told, so
// every row is compared with them, and must be found by fan-out and filter.
func (r *reader) segment(id []byte, size int) {
	stored := r.file(fmt.Sprintf("index/%x", id))
	hash := blake3.Sum256(stored)
	r.want(bytes.Equal(id, hash[:]) && size == len(stored) && padded(size), "segment %x of %d bytes", id, len(stored))
	opened := r.unsealCatalog("segment", hex.EncodeToString(stored[:16]), stored[16:])
	r.want(bytes.Equal(stored[:16], keyed(r.catalog, []byte("segment label"), opened)[:16]), "label of a segment")
	data := opened[4 : 4+binary.LittleEndian.Uint32(opened)]

	number := func(b []byte) int { return int(binary.BigEndian.Uint32(b)) }
	short := func(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
	r.want(string(data[:8]) == "varveidx" && number(data[8:]) == 0, "start of a segment")
	packs, rows, fanBits, sliceBits := number(data[12:]), number(data[16:]), data[20], data[21]
	names, rest := data[24:24+32*packs], data[24+32*packs:]
	table, rest := rest[:36*rows], rest[36*rows:]
	fan, rest := rest[:4<<fanBits], rest[4<<fanBits:]
	slices, fingerprints := rest[:16<<sliceBits], rest[16<<sliceBits:]
	filters := make([][]byte, 1<<sliceBits)
	for i := range filters {
		n := 0
		if count := number(slices[16*i+8:]); count > 0 {
			n = (count + 2) << slices[16*i+12]
		}
		filters[i], fingerprints = fingerprints[:n], fingerprints[n:]
	}
	r.want(len(fingerprints) == 0, "%d bytes behind the filters", len(fingerprints))

	known := r.byPrefix()
	for i := range rows {
		row := table[36*i : 36*(i+1)]
		at, ok := known[[16]byte(row)]
		r.want(ok && int(at.offset) == number(row[19:]) && int(at.stored) == number(row[23:]) &&
			int(at.plain) == number(row[27:]) && int(at.links) == short(row[31:]) && at.key == row[35], "row %d of a segment", i)
		r.want(bytes.Equal(at.pack.hash[:], names[32*short(row[16:]):][:32]), "pack of row %d", i)
		lead := binary.BigEndian.Uint64(row)
		r.want(number(fan[4*(lead>>(64-fanBits)):]) > i, "fan-out at row %d", i)
		slice := lead >> (64 - sliceBits)
		r.want(mayContain(slices[16*slice:], filters[slice], lead), "filter at row %d", i)
	}
	r.segments++
}

// byPrefix returns the places of all blobs by the first 16 bytes of their IDs.
func (r *reader) byPrefix() map[[16]byte]place {
	known := make(map[[16]byte]place, len(r.blobs))
	for n, at := range r.blobs {
		known[[16]byte(n.id[:])] = at
	}
	return known
}

// mayContain asks a binary fuse filter.
func mayContain(slice, f []byte, k uint64) bool {
	seed, c, l := binary.BigEndian.Uint64(slice), uint64(binary.BigEndian.Uint32(slice[8:])), uint64(1)<<slice[12]
	h := murmur64(k + seed)
	i, _ := bits.Mul64(h, c*l)
	return byte(h^h>>32) == f[i]^f[(i+l)^(h>>18%l)]^f[(i+2*l)^(h%l)]
}

// murmur64 is the finisher of MurmurHash3.
func murmur64(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
