package pack

import (
	"crypto/rand"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
)

// Joiner makes a pack of blobs that lie in other packs, by copying ciphertext: it needs the catalog key
// and neither reads nor can read a content. The session keys come along, wrapped as they are. It is not
// safe for concurrent use.
type Joiner struct {
	layout
	keys    *seal.Keys
	wrapped seal.WrappedKeys
}

// Source is a whole pack from which blobs are copied.
type Source struct {
	Rows []blob.Row
	data []byte
	keys seal.WrappedKeys
}

// saltSize is the length of the salt in the table of a joined pack, in bytes.
const saltSize = 16

// NewJoiner starts an empty pack.
func NewJoiner(keys *seal.Keys) *Joiner { return &Joiner{keys: keys} }

// Source reads the tables of a whole pack, whose bytes it keeps. That they hash to the pack's name is for
// the caller to see.
func (r Reader) Source(data []byte) (Source, error) {
	rows, err := r.Rows(data)
	if err != nil {
		return Source{}, err
	}
	head, err := r.Head(data)
	if err != nil {
		return Source{}, err
	}
	return Remains(data, rows, head)
}

// Remains is what is left of a pack of which not all opens any more. Rows are known from elsewhere, and the
// head is that of the pack itself, or of one of the same session. That the rows lie within the data, and that
// blobs open, is for the caller to see.
func Remains(data []byte, rows []blob.Row, head Head) (Source, error) {
	keys, err := seal.ParseKeyTable(head.table)
	if err != nil {
		return Source{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	for _, row := range rows {
		if int(row.Key) >= keys.Len() {
			return Source{}, fmt.Errorf("blob %v names key %d of %d: %w", row.Ref(), row.Key, keys.Len(), ErrDamaged)
		}
	}
	return Source{Rows: rows, data: data, keys: keys}, nil
}

// Fits reports whether a source's keys fit beside those that are there.
func (j *Joiner) Fits(s Source) bool {
	wrapped := j.wrapped
	_, ok := wrapped.Join(s.keys, maxKeyTable-seal.Overhead)
	return ok
}

// Take copies some rows of a source. It reports false, and takes nothing, when the source's keys do not fit
// beside those that are there: the pack is full.
func (j *Joiner) Take(s Source, rows []blob.Row) bool {
	numbers, ok := j.wrapped.Join(s.keys, maxKeyTable-seal.Overhead)
	if !ok {
		return false
	}
	for _, row := range rows {
		sealed := s.data[row.Offset:][:row.Stored]
		row.Key = numbers[row.Key]
		j.lay(row, sealed)
	}
	return true
}

// Finish makes the pack. The joiner must not be used afterwards.
func (j *Joiner) Finish() (Pack, error) {
	keyTable, err := j.wrapped.Encode()
	if err != nil {
		return Pack{}, fmt.Errorf("finish pack: %w", err)
	}
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt)
	return j.finish(j.keys, keyTable, salt), nil
}
