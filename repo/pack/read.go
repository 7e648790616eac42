package pack

import (
	"crypto/hpke"
	"encoding/binary"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
)

// HeadSize is how many bytes from the start of a pack hold its header and, as a rule, its key table.
const HeadSize = 1 << 10

// Reader opens the parts of packs for a holder of the keys. It is safe for concurrent use.
type Reader struct {
	Keys     *seal.Keys
	Recovery hpke.PrivateKey // opens packs of write-only repositories; nil without
}

// SessionKeys opens the key table at the start of a pack. When the given bytes do not reach to its
// end, it returns how many are needed (and neither keys nor an error).
func (r Reader) SessionKeys(head []byte) (keys []seal.SessionKey, need int, err error) {
	h, err := parseHeader(head)
	if err != nil {
		return nil, 0, err
	}
	if end := headerSize + h.keyTable; len(head) < end {
		return nil, end, nil
	}
	table, err := r.Keys.OpenCatalog(seal.PackKeys, h.name(), head[headerSize:headerSize+h.keyTable])
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	keys, err = r.Keys.OpenKeyTable(table, r.Recovery)
	return keys, 0, err
}

// Rows reads and checks the table of a whole pack: the label binds it to the key table, and every row
// lies within the blobs.
func (r Reader) Rows(data []byte) ([]blob.Row, error) {
	h, err := parseHeader(data)
	if err != nil {
		return nil, err
	}
	before := headerSize + h.keyTable
	if len(data) < before+seal.Overhead+trailerSize {
		return nil, fmt.Errorf("%d bytes are too few: %w", len(data), ErrDamaged)
	}
	trailer, err := r.Keys.OpenCatalog(seal.PackTrailer, h.name(), data[len(data)-trailerSize:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	start, length := int64(binary.LittleEndian.Uint32(trailer)), int64(binary.LittleEndian.Uint32(trailer[4:]))
	if start < int64(before) || start+length != int64(len(data)-trailerSize) {
		return nil, fmt.Errorf("table lies outside the pack: %w", ErrDamaged)
	}
	table, err := r.Keys.OpenCatalog(seal.PackTable, h.name(), data[start:start+length])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	keyTable, err := r.Keys.OpenCatalog(seal.PackKeys, h.name(), data[headerSize:before])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if r.Keys.PackLabel(keyTable, table) != h.label {
		return nil, fmt.Errorf("table and key table are of different packs: %w", ErrDamaged)
	}
	rows, err := parseTable(table)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if int64(row.Offset) < int64(before) || int64(row.Offset)+int64(row.Stored) > start {
			return nil, fmt.Errorf("blob %v lies outside the pack: %w", row.Ref(), ErrDamaged)
		}
	}
	return rows, nil
}

// OpenBlob opens one blob of a pack from its sealed bytes and verifies it against its name.
func (r Reader) OpenBlob(keys []seal.SessionKey, row blob.Row, sealed []byte) (blob.Node, error) {
	if int(row.Key) >= len(keys) {
		return blob.Node{}, fmt.Errorf("blob %v names key %d of %d: %w", row.Ref(), row.Key, len(keys), ErrDamaged)
	}
	if row.Class.HasLinks() {
		return r.Keys.OpenNode(keys[row.Key], row.Ref(), sealed, int(row.Links))
	}
	body, err := r.Keys.Open(keys[row.Key], row.Ref(), sealed)
	return blob.Node{Body: body}, err
}
