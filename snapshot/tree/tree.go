// Package tree is the Merkle map: an ordered map from keys to small entries, kept as nodes that are
// named by their content. A snapshot is such a map, of files or of Kubernetes objects, and whatever
// is asked of a snapshot is asked of this structure: one key, a range, all that differs between two.
//
// The entries, in the order of their keys, are cut into leaves; the leaves, each by its first key,
// are the entries of the level above, which is cut likewise, until one node is left, the root:
//
//	level 1            [ apps/…/ns-1/a │ apps/…/ns-7/web ]              the root
//	                          │                │
//	level 0   [ ns-1/a  ns-1/b  ns-5/c ]  [ ns-7/web  ns-9/db ]         leaves
//
// Where a node ends depends on a keyed hash of its last key and on the rough sizes of its entries,
// on nothing else. So the same entries give the same nodes and the same root, whatever their history;
// a changed entry changes its leaf and the leaf's ancestors; and two maps share all nodes in which
// they agree, which is what makes a small change cheap to store and a [Diff] cheap to find.
//
// A map without entries has no node: its root is the zero [Root]. A map of one node is a leaf.
//
// # Layout of a node
//
// A node is a two-part blob of class tree. Its links are the blobs that it refers to: the children
// of an interior node, one for each entry and in their order; or what the entries of a leaf refer
// to, each blob once, in the order of first use, so that a reference costs a byte or two. Its body:
//
//	┌───────┬─────────┬─────────┬─────┐
//	│ level │ entry 0 │ entry 1 │ …   │    level: 1 byte, 0 is a leaf; entries until the body ends
//	└───────┴─────────┴─────────┴─────┘
//
//	entry of a leaf      key │ length │ value │ bytes │ number of references │ position in links …
//	entry above          key │ count │ bytes
//	key                  shared │ length │ rest
//
// All numbers are unsigned varints in their shortest form. A key is the first shared bytes of the
// key before it, as many as it can share, and then the rest. Above the leaves the key is the first
// one of the child, count and bytes are sums over all that lies beneath. A node has exactly one
// encoding, and the decoder refuses any other.
package tree

import (
	"bytes"
	"context"
	"errors"

	"github.com/varve-dev/varve/repo/blob"
)

// Limits of an entry and of a map. They bound what a hostile node can make a reader allocate.
const (
	MaxKey    = 64 << 10  // bytes of a key
	MaxValue  = 256 << 10 // bytes of a value
	MaxRefs   = 4096      // references of an entry
	MaxHeight = 32        // levels of a map
)

var (
	// ErrOrder means that a key was added that does not come after the one before it.
	ErrOrder = errors.New("keys are not in ascending order")
	// ErrLimit means that an entry is larger than a map can hold.
	ErrLimit = errors.New("entry exceeds the limits of a map")
	// ErrMalformed means that a node is not what a [Builder] writes: its bytes are no encoding of a
	// node, or it does not fit its parent.
	ErrMalformed = errors.New("malformed tree node")
)

// Entry is one key of a map and what it says.
type Entry struct {
	Key   []byte     // 1 to MaxKey bytes; keys are ordered bytewise
	Value []byte     // opaque to the map; may name references by their position in Refs
	Refs  []blob.Ref // blobs that the value relies on, which marking finds through the node's links
	Bytes uint64     // logical bytes that the entry stands for, summed up towards the root
}

// Equal reports whether both entries have the same key and say the same.
func (e Entry) Equal(o Entry) bool {
	if !bytes.Equal(e.Key, o.Key) || !bytes.Equal(e.Value, o.Value) ||
		e.Bytes != o.Bytes || len(e.Refs) != len(o.Refs) {
		return false
	}
	for i, r := range e.Refs {
		if r != o.Refs[i] {
			return false
		}
	}
	return true
}

// Root names a map and sums it up. The zero Root is the empty map. Maps built with one cut key are
// equal if and only if their roots are.
type Root struct {
	Ref    blob.Ref // the topmost node
	Count  uint64   // number of entries
	Bytes  uint64   // sum of Entry.Bytes
	Height int      // number of levels; 1 if the root is a leaf
}

// Empty reports whether the map has no entries.
func (r Root) Empty() bool { return r.Height == 0 }

// Range is a half-open interval of keys. Its zero value is all keys.
type Range struct {
	From []byte // the first key that belongs to it; nil: from the beginning
	To   []byte // the first key after it; nil: to the end
}

// Prefix returns the range of all keys that start with p.
func Prefix(p []byte) Range {
	to := bytes.Clone(p)
	for len(to) > 0 && to[len(to)-1] == 0xff {
		to = to[:len(to)-1]
	}
	if len(to) == 0 {
		return Range{From: p}
	}
	to[len(to)-1]++
	return Range{From: p, To: to}
}

// Saver stores nodes; a repository's writer is one.
type Saver interface {
	WriteNode(ctx context.Context, class blob.Class, n blob.Node) (blob.Ref, error)
}

// Loader fetches nodes; a repository is one. What it returns must not change afterwards. Nodes are
// asked for again whenever they are needed, so a loader over a network should keep some.
type Loader interface {
	ReadNode(ctx context.Context, ref blob.Ref) (blob.Node, error)
}
