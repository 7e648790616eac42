// Package blob names things. A blob is a unit of plaintext (a chunk, a bundle, a page of a tree, a
// manifest) after compression and encryption; this package holds its identity and nothing else, so
// that every other room can speak of blobs without knowing how they are stored.
//
// There are two kinds of names:
//
//   - [ID] names a plaintext: a keyed BLAKE3-256 of its bytes, with one key per [Class]. Only who
//     holds the key of the class can compute it, so an ID confirms no guess about a content.
//   - [Hash] names a stored object: a plain BLAKE3-256 of the stored bytes, which anyone can verify.
package blob

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
)

// ID names a blob by the keyed BLAKE3-256 of its plaintext.
type ID [32]byte

// Hash is the BLAKE3-256 of stored bytes: the name of a pack, the link of the journal's chain.
type Hash [32]byte

// Class says what a blob holds and so which keys it lives under. Blobs of different classes never
// share a name, even with equal contents.
type Class uint8

// The classes. Their numbers are part of the format.
const (
	Data     Class = 1 // chunks and bundles of files and objects
	Tree     Class = 2 // nodes of a Merkle map; two-part
	Secrets  Class = 3 // bodies of Kubernetes Secrets, readable only with a key of their own
	Manifest Class = 4 // snapshot manifests; two-part
)

// Classes lists every class in the order of its number.
var Classes = [...]Class{Data, Tree, Secrets, Manifest}

// Ref points at one blob.
type Ref struct {
	Class Class
	ID    ID
}

// Node is the plaintext of a two-part blob. Links are the blobs it relies on, in the order its body
// refers to them; they are sealed apart, so that a maintainer can follow them without the key of
// the contents.
type Node struct {
	Links []Ref
	Body  []byte
}

// ErrBadName means that a text is not the name of a blob or an object.
var ErrBadName = errors.New("not a name of 64 hexadecimal digits")

// Valid reports whether c is a class this program knows.
func (c Class) Valid() bool { return c >= Data && c <= Manifest }

// HasLinks reports whether blobs of the class are two-part: links and body.
func (c Class) HasLinks() bool { return c == Tree || c == Manifest }

// String returns the class's word, as it stands in messages and in the contexts of derived keys.
func (c Class) String() string {
	switch c {
	case Data:
		return "data"
	case Tree:
		return "tree"
	case Secrets:
		return "secrets"
	case Manifest:
		return "manifest"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// IsZero reports whether the reference points at nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// String returns the class and the first digits of the ID, enough for a message.
func (r Ref) String() string { return r.Class.String() + ":" + r.ID.Short() }

// Compare orders references by class, then by ID.
func (r Ref) Compare(o Ref) int {
	if r.Class != o.Class {
		return int(r.Class) - int(o.Class)
	}
	return r.ID.Compare(o.ID)
}

// ParseID reads an ID written by [ID.String].
func ParseID(s string) (ID, error) { return parse[ID](s) }

// String returns the 64 hexadecimal digits of the ID.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first twelve digits, for messages.
func (id ID) Short() string { return hex.EncodeToString(id[:6]) }

// IsZero reports whether the ID is unset.
func (id ID) IsZero() bool { return id == ID{} }

// Compare orders IDs bytewise.
func (id ID) Compare(o ID) int { return bytes.Compare(id[:], o[:]) }

// MarshalText writes the ID as [ID.String] does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// ParseHash reads a hash written by [Hash.String].
func ParseHash(s string) (Hash, error) { return parse[Hash](s) }

// String returns the 64 hexadecimal digits of the hash.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Short returns the first twelve digits, for messages.
func (h Hash) Short() string { return hex.EncodeToString(h[:6]) }

// IsZero reports whether the hash is unset.
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText writes the hash as [Hash.String] does.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHash(string(text))
	return err
}

// parse accepts exactly one spelling, lower case, so that a name and its text are one to one.
func parse[T ~[32]byte](s string) (T, error) {
	var raw [32]byte
	if len(s) != hex.EncodedLen(len(raw)) {
		return T{}, fmt.Errorf("%q: %w", s, ErrBadName)
	}
	if _, err := hex.Decode(raw[:], []byte(s)); err != nil || hex.EncodeToString(raw[:]) != s {
		return T{}, fmt.Errorf("%q: %w", s, ErrBadName)
	}
	return T(raw), nil
}
