// Package pack lays blobs end to end into packs, the immutable objects that hold almost all bytes of
// a repository, and reads them again.
//
//	┌────────────────────────────────────────────────────────────────┐
//	│ header: magic "VRVP" │ version 0 (1) │ zero (3) │ label (16)   │
//	│         length of the sealed key table (4)                     │  28 bytes, plain
//	├────────────────────────────────────────────────────────────────┤
//	│ key table: the session keys that seal the blobs, wrapped       │  sealed, catalog key
//	├────────────────────────────────────────────────────────────────┤
//	│ blob │ blob │ …                                                │  sealed each on its own
//	├────────────────────────────────────────────────────────────────┤
//	│ table: number of rows (4) │ rows │ salt │ zeros                │  sealed, catalog key
//	├────────────────────────────────────────────────────────────────┤
//	│ trailer: offset of the table (4) │ its sealed length (4)       │  sealed, catalog key
//	└────────────────────────────────────────────────────────────────┘
//
// Numbers are little endian. The zeros behind the rows bring the whole pack to a Padmé size, so that
// its length tells neither how many blobs it holds nor how long they are. A pack of copied blobs has a
// random salt of 16 bytes, others none: what is copied together once more must not become a pack of a name
// that was there before. The pack's name is the
// BLAKE3-256 of all its bytes: anyone can look for rot without a key. The label, a keyed hash of
// table and key table, names the sealed parts before that hash exists.
//
// Blobs do not depend on their position or their pack, so they can be copied into another pack as
// ciphertext, along with their session keys. An index that is lost is rebuilt from the tables.
package pack

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
)

// Target is the size at which a pack is complete, in bytes.
const Target = 32 << 20

// MaxSize bounds a pack, in bytes: a blob of the largest size may come when a pack is almost full.
const MaxSize = Target + 2*seal.MaxBlob

const (
	magic       = "VRVP"
	version     = 0
	headerSize  = 4 + 1 + 3 + 16 + 4
	trailerSize = 4 + 4 + seal.Overhead
	countSize   = 4

	// maxKeyTable bounds the sealed key table: 256 wrapped keys and what describes them.
	maxKeyTable = 64 << 10
)

// ErrDamaged means that bytes are not the pack, or the part of it, that they should be.
var ErrDamaged = errors.New("pack is damaged")

// header is the plain start of a pack.
type header struct {
	label    [16]byte
	keyTable int // sealed length in bytes
}

func (h header) name() string { return hex.EncodeToString(h.label[:]) }

func (h header) append(to []byte) []byte {
	to = append(to, magic...)
	to = append(to, version, 0, 0, 0)
	to = append(to, h.label[:]...)
	return binary.LittleEndian.AppendUint32(to, uint32(h.keyTable))
}

func parseHeader(data []byte) (h header, err error) {
	if len(data) < headerSize || string(data[:4]) != magic {
		return h, fmt.Errorf("no pack header: %w", ErrDamaged)
	}
	if data[4] != version || data[5]|data[6]|data[7] != 0 {
		return h, fmt.Errorf("pack has version %d, this program reads %d: %w", data[4], version, ErrDamaged)
	}
	copy(h.label[:], data[8:24])
	length := binary.LittleEndian.Uint32(data[24:])
	if length < seal.Overhead || length > maxKeyTable {
		return h, fmt.Errorf("key table of %d bytes: %w", length, ErrDamaged)
	}
	h.keyTable = int(length)
	return h, nil
}

// tableOf returns the plaintext of a pack's table: its rows, the salt, and zeros up to the given length.
func tableOf(rows []blob.Row, salt []byte, length int) []byte {
	table := make([]byte, 0, length)
	table = binary.LittleEndian.AppendUint32(table, uint32(len(rows)))
	table = append(blob.AppendRows(table, rows), salt...)
	return append(table, make([]byte, length-len(table))...)
}

func parseTable(table []byte) ([]blob.Row, error) {
	if len(table) < countSize {
		return nil, fmt.Errorf("table of %d bytes: %w", len(table), ErrDamaged)
	}
	count := int64(binary.LittleEndian.Uint32(table))
	if count*blob.RowSize > int64(len(table)-countSize) {
		return nil, fmt.Errorf("table has no room for %d rows: %w", count, ErrDamaged)
	}
	rows, err := blob.DecodeRows(table[countSize : countSize+count*blob.RowSize])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return rows, nil
}
