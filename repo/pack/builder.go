package pack

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
)

// Builder collects sealed blobs of one session until they are a pack. It is not safe for concurrent
// use.
type Builder struct {
	layout
	keys    *seal.Keys
	session *seal.Session
}

// layout is blobs on their way into a pack.
type layout struct {
	blobs [][]byte   // joined only at the end: a growing slice would copy each of them twice over
	size  int        // of all blobs
	rows  []blob.Row // beside blobs; offsets from the start of the first, until it is known what stands before them
}

// lay appends a blob. Of the row everything is given but where it lies.
func (l *layout) lay(r blob.Row, sealed []byte) {
	r.Offset, r.Stored = uint32(l.size), uint32(len(sealed))
	l.rows = append(l.rows, r)
	l.blobs = append(l.blobs, sealed)
	l.size += len(sealed)
}

// Len returns the number of blobs so far.
func (l *layout) Len() int { return len(l.rows) }

// Size returns about how many bytes the pack has so far: all but keys and padding.
func (l *layout) Size() int { return l.size + len(l.rows)*blob.RowSize }

// Pack is a finished pack: the bytes to store and what the index needs to know of them.
type Pack struct {
	Name blob.Hash
	Data []byte
	Rows []blob.Row
}

// NewBuilder starts an empty pack.
func NewBuilder(keys *seal.Keys, session *seal.Session) *Builder {
	return &Builder{keys: keys, session: session}
}

// Add appends a blob that the builder's session has sealed, and keeps its bytes.
func (b *Builder) Add(s seal.Sealed) {
	b.lay(blob.Row{ID: s.Ref.ID, Class: s.Ref.Class, Key: uint8(slices.Index(blob.Classes[:], s.Ref.Class)),
		Plain: uint32(s.Plain), Links: uint32(s.Links)}, s.Bytes)
}

// Absorb appends the blobs of another builder of the same session, which must not be used afterwards.
func (b *Builder) Absorb(o *Builder) {
	for i, r := range o.rows {
		b.Add(seal.Sealed{Ref: r.Ref(), Bytes: o.blobs[i], Links: int(r.Links), Plain: int(r.Plain)})
	}
}

// Finish makes the pack. The builder must not be used afterwards.
func (b *Builder) Finish() (Pack, error) {
	// All keys, needed or not: the length of the table must not tell whether there is a Secret in the pack.
	keyTable, err := b.session.KeyTable(blob.Classes[:])
	if err != nil {
		return Pack{}, fmt.Errorf("finish pack: %w", err)
	}
	return b.finish(b.keys, keyTable, nil), nil
}

// finish puts everything around the blobs. The salt stands behind the rows.
func (l *layout) finish(keys *seal.Keys, keyTable, salt []byte) Pack {
	before := headerSize + len(keyTable) + seal.Overhead
	for i := range l.rows {
		l.rows[i].Offset += uint32(before)
	}
	bare := before + l.size + countSize + len(l.rows)*blob.RowSize + len(salt) + seal.Overhead + trailerSize
	table := tableOf(l.rows, salt, countSize+len(l.rows)*blob.RowSize+len(salt)+seal.Padded(bare)-bare)

	h := header{label: keys.PackLabel(keyTable, table), keyTable: len(keyTable) + seal.Overhead}
	data := make([]byte, 0, seal.Padded(bare))
	data = h.append(data)
	data = append(data, keys.SealCatalog(seal.PackKeys, h.name(), keyTable)...)
	for _, sealed := range l.blobs {
		data = append(data, sealed...)
	}
	var trailer []byte
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(data)))
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(table)+seal.Overhead))
	data = append(data, keys.SealCatalog(seal.PackTable, h.name(), table)...)
	data = append(data, keys.SealCatalog(seal.PackTrailer, h.name(), trailer)...)
	return Pack{Name: seal.HashOf(data), Data: data, Rows: l.rows}
}
