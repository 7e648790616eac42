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

// Head is the start of a pack, opened with the catalog key. Packs of one session may stand in for each other
// with theirs.
type Head struct {
	header
	table []byte // plain: session keys, each of them wrapped
}

// Head opens the start of a whole pack, or of what is left of one.
func (r Reader) Head(data []byte) (Head, error) { return r.HeadBy(int64(len(data)), within(data)) }

// HeadBy is Head for a pack of the given size of which only the start is fetched. What read returns may be
// shorter than what it was asked for.
func (r Reader) HeadBy(size int64, read func(offset, length int64) ([]byte, error)) (Head, error) {
	data, err := exactly(size, read, 0, min(HeadSize, size))
	if err != nil {
		return Head{}, err
	}
	h, err := parseHeader(data)
	if err != nil {
		return Head{}, err
	}
	end := int64(headerSize + h.keyTable)
	if end > int64(len(data)) {
		if data, err = exactly(size, read, 0, end); err != nil {
			return Head{}, err
		}
	}
	table, err := r.Keys.OpenCatalog(seal.PackKeys, h.name(), data[headerSize:end])
	if err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return Head{h, table}, nil
}

// SessionKeys unwraps the keys of a pack, for which the catalog key is not enough.
func (r Reader) SessionKeys(h Head) ([]seal.SessionKey, error) {
	return r.Keys.OpenKeyTable(h.table, r.Recovery)
}

// within reads from bytes in memory.
func within(data []byte) func(offset, length int64) ([]byte, error) {
	return func(offset, length int64) ([]byte, error) { return data[offset:][:length], nil }
}

// exactly fetches bytes of a pack of the given size; what is too short is damaged.
func exactly(size int64, read func(offset, length int64) ([]byte, error), offset, length int64) ([]byte, error) {
	if offset < 0 || length < 0 || offset+length > size {
		return nil, fmt.Errorf("%d bytes are too few: %w", size, ErrDamaged)
	}
	data, err := read(offset, length)
	if err == nil && int64(len(data)) != length {
		err = fmt.Errorf("it ends early, %d bytes at %d are not there: %w", length, offset, ErrDamaged)
	}
	return data, err
}

// Rows reads and checks the table of a whole pack: the label binds it to the key table, and every row
// lies within the blobs.
func (r Reader) Rows(data []byte) ([]blob.Row, error) {
	return r.RowsBy(int64(len(data)), within(data))
}

// RowsBy is Rows for a pack of the given size of which only the start and the end are fetched. What read
// returns may be shorter than what it was asked for.
func (r Reader) RowsBy(size int64, read func(offset, length int64) ([]byte, error)) ([]blob.Row, error) {
	h, err := r.HeadBy(size, read)
	if err != nil {
		return nil, err
	}
	start, table, err := r.table(h.header, size, read)
	if err != nil {
		return nil, err
	}
	if r.Keys.PackLabel(h.table, table) != h.label {
		return nil, fmt.Errorf("table and key table are of different packs: %w", ErrDamaged)
	}
	rows, err := parseTable(table)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if int64(row.Offset) < int64(headerSize+h.keyTable) || int64(row.Offset)+int64(row.Stored) > start {
			return nil, fmt.Errorf("blob %v lies outside the pack: %w", row.Ref(), ErrDamaged)
		}
	}
	return rows, nil
}

// table opens the table of a pack and tells where it begins, which is where the blobs end.
func (r Reader) table(h header, size int64, read func(offset, length int64) ([]byte, error)) (start int64, table []byte, err error) {
	from := max(0, size-tailSize)
	tail, err := exactly(size, read, from, size-from)
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
	} else if sealed, err = exactly(size, read, start, length); err != nil {
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
