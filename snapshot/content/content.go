// Package content decides where the contents of a snapshot's entries live, and finds them again.
//
// A Merkle map (package tree) holds small entries: a key, some attributes, references. What the
// entries are about, the JSON of an object or the bytes of a file, is too big for a node, too small
// to be a blob of its own, or too big for one blob. Each content therefore stands in one of four
// places, by its size alone:
//
//	length        place     what the entry holds
//	0 … 64 B      inline    the bytes themselves (never for Secrets)
//	… 128 KiB     bundle    blob, offset, length: many contents laid end to end in one blob
//	more          chunks    up to 16 blobs, cut by the chunker, in order
//	much more     extents   the root of a nested map: offset -> chunk
//
// An [Assembler] takes the items of one map in the order of their keys, places their contents and
// builds the map. A [Reader] brings the contents back, verified by their lengths and, through the
// [Loader], by their names.
//
// # Bundles
//
// Contents of one stream (all bodies, all small files) are laid end to end in the order of their
// keys: neighbours look alike, so a bundle compresses as well as an archive would, and one index
// entry serves some fifty contents. A bundle ends where a keyed hash of the content just added says
// so, between 128 and 256 KiB; the decision does not look further back, so equal runs of small
// files in two volumes fall into equal bundles after a while and are stored once.
//
// Only what is new or changed is bundled. What did not change is handed over as [Piece.Kept] and
// keeps its place in an older bundle, so a run that changed five objects writes five objects. An
// old bundle thus loses contents over time. When a map uses less than half of one, the assembler names
// it in [Result.Sparse], the emptiest first and not too many at a time; the next run gets them back as
// [Options.GiveUp] and, if it writes a bundle anyway, bundles again what it still needs of them, after
// which nothing refers to the old ones and prune can drop them. So a run stores in proportion to what
// changed, and nothing if nothing did.
package content

import (
	"bytes"
	"context"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Sizes that decide where a content lives, in bytes of plaintext. Readers accept up to the bounds
// in entry.go, so these may change without a change of the format.
const (
	MaxInline = 64        // longest content that stands in its entry
	MaxSmall  = 128 << 10 // longest content that goes to a bundle
	minBundle = 128 << 10 // a bundle may end from here on
	maxBundle = 256 << 10 // and does before it grows beyond this
)

// Saver stores blobs. *repo.Writer is one. It is used by several goroutines at once. The context of a
// Write may never end; the saver's own session must.
type Saver interface {
	Write(ctx context.Context, class blob.Class, data []byte) (blob.Ref, error)
	tree.Saver
}

// Loader reads blobs and verifies them against their names. *repo.Repository is one. It is used by
// several goroutines at once.
type Loader interface {
	Read(ctx context.Context, ref blob.Ref) ([]byte, error)
	tree.Loader
}

// Ref says where one content is. The zero Ref is the empty content. A Ref is never changed after
// it was made, so copies may share it.
type Ref struct {
	place   place
	length  uint64
	inline  []byte    // inline: the content itself
	bundle  span      // bundle
	chunks  []chunk   // chunks
	extents tree.Root // extents
}

// place is where a content lives. The numbers are part of the format.
type place uint8

const (
	inline  place = 0
	bundled place = 1
	chunked place = 2
	mapped  place = 3
)

// span is a content's place in a bundle. The bundle's own size stands beside it, so that a writer
// learns how much of a bundle is in use without reading it.
type span struct {
	blob   blob.Ref
	offset uint64
	size   uint64 // of the whole bundle
}

// chunk is one piece of a large content. One without a blob is a hole: length zero bytes.
type chunk struct {
	blob   blob.Ref
	length uint64
}

// Length returns the content's length in bytes.
func (r Ref) Length() uint64 { return r.length }

// Inline reports whether the content stands in the entry itself, so that reading it costs nothing.
func (r Ref) Inline() bool { return r.place == inline }

// Uses reports whether the content relies on a blob that a function tells: the bundle it is in, one of its
// chunks, or the root of the map of them.
func (r Ref) Uses(told func(blob.Ref) bool) bool {
	switch r.place {
	case bundled:
		return told(r.bundle.blob)
	case chunked:
		return slices.ContainsFunc(r.chunks, func(c chunk) bool { return !c.blob.IsZero() && told(c.blob) })
	case mapped:
		return told(r.extents.Ref)
	}
	return false
}

// Equal reports whether both name the same place. Equal references have equal contents; unequal
// ones may have equal contents too, in different bundles.
func (r Ref) Equal(o Ref) bool {
	return r.place == o.place && r.length == o.length && bytes.Equal(r.inline, o.inline) &&
		r.bundle == o.bundle && slices.Equal(r.chunks, o.chunks) && r.extents == o.extents
}
