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

// tailSize is how many bytes from the end of a pack hold its trailer and, as a rule, its table.
const tailSize = 64 << 10

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
	return r.RowsBy(int64(len(data)), func(offset, length int64) ([]byte, error) { return data[offset:][:length], nil })
}

// RowsBy is Rows for a pack of the given size of which only the start and the end are fetched. What read
// returns may be shorter than what it was asked for.
func (r Reader) RowsBy(size int64, read func(offset, length int64) ([]byte, error)) ([]blob.Row, error) {
	exactly := func(offset, length int64) ([]byte, error) {
		if offset < 0 || length < 0 || offset+length > size {
			return nil, fmt.Errorf("%d bytes are too few: %w", size, ErrDamaged)
		}
		data, err := read(offset, length)
		if err == nil && int64(len(data)) != length {
			err = fmt.Errorf("it ends early, %d bytes at %d are not there: %w", length, offset, ErrDamaged)
		}
		return data, err
	}
	head, err := exactly(0, min(HeadSize, size))
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(head)
	if err != nil {
		return nil, err
	}
	before := int64(headerSize + h.keyTable)
	if before > int64(len(head)) {
		if head, err = exactly(0, before); err != nil {
			return nil, err
		}
	}
	start, table, err := r.table(h, size, exactly)
	if err != nil {
		return nil, err
	}
	keyTable, err := r.Keys.OpenCatalog(seal.PackKeys, h.name(), head[headerSize:before])
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
		if int64(row.Offset) < before || int64(row.Offset)+int64(row.Stored) > start {
			return nil, fmt.Errorf("blob %v lies outside the pack: %w", row.Ref(), ErrDamaged)
		}
	}
	return rows, nil
}

// table opens the table of a pack and tells where it begins, which is where the blobs end.
func (r Reader) table(h header, size int64, read func(offset, length int64) ([]byte, error)) (start int64, table []byte, err error) {
	from := max(0, size-tailSize)
	tail, err := read(from, size-from)
	if err != nil {
		return 0, nil, err
	}
	if len(tail) < trailerSize {
		return 0, nil, fmt.Errorf("%d bytes are too few: %w", size, ErrDamaged)
	}
	trailer, err := r.Keys.OpenCatalog(seal.PackTrailer, h.name(), tail[len(tail)-trailerSize:])
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	start, length := int64(binary.LittleEndian.Uint32(trailer)), int64(binary.LittleEndian.Uint32(trailer[4:]))
	if start < int64(headerSize+h.keyTable) || start+length != size-trailerSize {
		return 0, nil, fmt.Errorf("table lies outside the pack: %w", ErrDamaged)
	}
	var sealed []byte
	if start >= from {
		sealed = tail[start-from:][:length]
	} else if sealed, err = read(start, length); err != nil {
		return 0, nil, err
	}
	if table, err = r.Keys.OpenCatalog(seal.PackTable, h.name(), sealed); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return start, table, nil
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
