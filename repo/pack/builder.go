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
	keys    *seal.Keys
	session *seal.Session
	blobs   [][]byte   // joined only by Finish: a growing slice would copy each of them twice over
	size    int        // of all blobs
	rows    []blob.Row // beside blobs; offsets from the start of the first, until Finish knows what stands before them
}

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
	b.rows = append(b.rows, blob.Row{ID: s.Ref.ID, Class: s.Ref.Class, Key: uint8(slices.Index(blob.Classes[:], s.Ref.Class)),
		Offset: uint32(b.size), Stored: uint32(len(s.Bytes)), Plain: uint32(s.Plain), Links: uint32(s.Links)})
	b.blobs = append(b.blobs, s.Bytes)
	b.size += len(s.Bytes)
}

// Absorb appends the blobs of another builder of the same session, which must not be used afterwards.
func (b *Builder) Absorb(o *Builder) {
	for i, r := range o.rows {
		b.Add(seal.Sealed{Ref: r.Ref(), Bytes: o.blobs[i], Links: int(r.Links), Plain: int(r.Plain)})
	}
}

// Len returns the number of blobs so far.
func (b *Builder) Len() int { return len(b.rows) }

// Size returns about how many bytes the pack has so far: all but keys and padding.
func (b *Builder) Size() int { return b.size + len(b.rows)*blob.RowSize }

// Finish makes the pack. The builder must not be used afterwards.
func (b *Builder) Finish() (Pack, error) {
	// All keys, needed or not: the length of the table must not tell whether there is a Secret in the pack.
	keyTable, err := b.session.KeyTable(blob.Classes[:])
	if err != nil {
		return Pack{}, fmt.Errorf("finish pack: %w", err)
	}
	before := headerSize + len(keyTable) + seal.Overhead
	for i := range b.rows {
		b.rows[i].Offset += uint32(before)
	}
	bare := before + b.size + countSize + len(b.rows)*blob.RowSize + seal.Overhead + trailerSize
	table := tableOf(b.rows, countSize+len(b.rows)*blob.RowSize+seal.Padded(bare)-bare)

	h := header{label: b.keys.PackLabel(keyTable, table), keyTable: len(keyTable) + seal.Overhead}
	data := make([]byte, 0, seal.Padded(bare))
	data = h.append(data)
	data = append(data, b.keys.SealCatalog(seal.PackKeys, h.name(), keyTable)...)
	for _, sealed := range b.blobs {
		data = append(data, sealed...)
	}
	var trailer []byte
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(data)))
	trailer = binary.LittleEndian.AppendUint32(trailer, uint32(len(table)+seal.Overhead))
	data = append(data, b.keys.SealCatalog(seal.PackTable, h.name(), table)...)
	data = append(data, b.keys.SealCatalog(seal.PackTrailer, h.name(), trailer)...)
	return Pack{Name: seal.HashOf(data), Data: data, Rows: b.rows}, nil
}
