package blob

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Row is one line of a pack's table: a blob and where it lies in that pack.
type Row struct {
	ID     ID
	Class  Class
	Key    uint8  // number of the session key in the pack's key table
	Offset uint32 // bytes from the start of the pack
	Stored uint32 // sealed length in bytes
	Plain  uint32 // plaintext length in bytes; of two-part blobs the body's
	Links  uint32 // sealed length of the links part; 0 for one-part blobs
}

// RowSize is the length of an encoded row:
//
//	ID (32) │ class (1) │ key (1) │ offset (4) │ stored (4) │ plain (4) │ links (4)
//
// with little-endian numbers.
const RowSize = 32 + 1 + 1 + 4 + 4 + 4 + 4

// ErrBadRows means that bytes are not a list of rows.
var ErrBadRows = errors.New("not a list of rows")

// Ref returns the name of the row's blob.
func (r Row) Ref() Ref { return Ref{Class: r.Class, ID: r.ID} }

// AppendRows encodes rows end to end.
func AppendRows(to []byte, rows []Row) []byte {
	for _, r := range rows {
		to = append(to, r.ID[:]...)
		to = append(to, byte(r.Class), r.Key)
		for _, n := range []uint32{r.Offset, r.Stored, r.Plain, r.Links} {
			to = binary.LittleEndian.AppendUint32(to, n)
		}
	}
	return to
}

// DecodeRows reads what AppendRows wrote. A row of an unknown class, or one whose links are longer
// than the blob, is refused.
func DecodeRows(encoded []byte) ([]Row, error) {
	if len(encoded)%RowSize != 0 {
		return nil, fmt.Errorf("%d bytes are no multiple of %d: %w", len(encoded), RowSize, ErrBadRows)
	}
	rows := make([]Row, 0, len(encoded)/RowSize)
	for ; len(encoded) > 0; encoded = encoded[RowSize:] {
		r := Row{ID: ID(encoded[:32]), Class: Class(encoded[32]), Key: encoded[33],
			Offset: binary.LittleEndian.Uint32(encoded[34:]), Stored: binary.LittleEndian.Uint32(encoded[38:]),
			Plain: binary.LittleEndian.Uint32(encoded[42:]), Links: binary.LittleEndian.Uint32(encoded[46:])}
		if !r.Class.Valid() || r.Links > r.Stored || (r.Links > 0) != r.Class.HasLinks() {
			return nil, fmt.Errorf("row %d does not describe a blob: %w", len(rows), ErrBadRows)
		}
		rows = append(rows, r)
	}
	return rows, nil
}
