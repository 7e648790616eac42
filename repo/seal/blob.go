package seal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
)

// ErrMismatch means that a blob opened, but its plaintext does not hash to its name.
var ErrMismatch = errors.New("content does not match its name")

// The parts of a blob, as they stand in associated data.
const (
	partWhole = 0
	partLinks = 1
	partBody  = 2
)

// MaxLinks is how many links a node has at most: their part stays far below [MaxBlob], and so within
// what a row of an index segment can say.
const MaxLinks = 1 << 18

// linkSize is the size of one encoded link: class (1 byte) and ID.
const linkSize = 1 + len(blob.ID{})

// Sealed is a blob as it lies in a pack.
type Sealed struct {
	Ref   blob.Ref
	Bytes []byte // a one-part blob, or links and body end to end
	Links int    // size of the sealed links; 0 for one-part blobs
	Plain int    // size of the plaintext; for two-part blobs of the body
}

// Seal compresses and seals a one-part blob whose name is known.
func (s *Session) Seal(ref blob.Ref, plain []byte) Sealed {
	key, ad := blobKey((*[32]byte)(&s.session[ref.Class]), s.keys.repository, ref, partWhole)
	return Sealed{Ref: ref, Bytes: sealUnder(&key, ad, encode(ref.Class, plain)), Plain: len(plain)}
}

// SealNode compresses and seals a two-part blob whose name is known.
func (s *Session) SealNode(ref blob.Ref, n blob.Node) Sealed {
	linksKey, linksAD := blobKey(&s.keys.catalog, s.keys.repository, ref, partLinks)
	links := sealUnder(&linksKey, linksAD, encode(ref.Class, encodeLinks(n.Links)))
	bodyKey, bodyAD := blobKey((*[32]byte)(&s.session[ref.Class]), s.keys.repository, ref, partBody)
	body := sealUnder(&bodyKey, bodyAD, encode(ref.Class, n.Body))
	return Sealed{Ref: ref, Bytes: append(links, body...), Links: len(links), Plain: len(n.Body)}
}

// Open opens a one-part blob and verifies it against its name: it returns the bytes that were
// sealed, or an error, never other bytes.
func (k *Keys) Open(key SessionKey, ref blob.Ref, sealed []byte) ([]byte, error) {
	plain, err := k.openPart((*[32]byte)(&key), ref, partWhole, sealed)
	if err != nil {
		return nil, err
	}
	if k.BlobID(ref.Class, plain) != ref.ID {
		return nil, fmt.Errorf("open blob %v: %w", ref, ErrMismatch)
	}
	return plain, nil
}

// OpenNode opens a two-part blob, of which the first links bytes are its sealed links, and verifies
// it against its name.
func (k *Keys) OpenNode(key SessionKey, ref blob.Ref, sealed []byte, links int) (blob.Node, error) {
	if links < 0 || links > len(sealed) {
		return blob.Node{}, fmt.Errorf("open blob %v: links end beyond the blob: %w", ref, ErrOpen)
	}
	encoded, err := k.openPart(&k.catalog, ref, partLinks, sealed[:links])
	if err != nil {
		return blob.Node{}, err
	}
	body, err := k.openPart((*[32]byte)(&key), ref, partBody, sealed[links:])
	if err != nil {
		return blob.Node{}, err
	}
	if k.nodeID(ref.Class, encoded, body) != ref.ID {
		return blob.Node{}, fmt.Errorf("open blob %v: %w", ref, ErrMismatch)
	}
	refs, err := decodeLinks(encoded)
	if err != nil {
		return blob.Node{}, fmt.Errorf("open blob %v: %w", ref, err)
	}
	return blob.Node{Links: refs, Body: body}, nil
}

// OpenLinks opens only the links of a two-part blob, for which the catalog key is enough. Without
// the body the name cannot be verified; that the links belong to it is authenticated all the same.
func (k *Keys) OpenLinks(ref blob.Ref, sealedLinks []byte) ([]blob.Ref, error) {
	encoded, err := k.openPart(&k.catalog, ref, partLinks, sealedLinks)
	if err != nil {
		return nil, err
	}
	links, err := decodeLinks(encoded)
	if err != nil {
		return nil, fmt.Errorf("open links of %v: %w", ref, err)
	}
	return links, nil
}

func (k *Keys) openPart(key *[32]byte, ref blob.Ref, part byte, sealed []byte) ([]byte, error) {
	partKey, ad := blobKey(key, k.repository, ref, part)
	encoded, err := openUnder(&partKey, ad, sealed)
	if err != nil {
		return nil, fmt.Errorf("open blob %v: %w", ref, err)
	}
	plain, err := decode(encoded)
	if err != nil {
		return nil, fmt.Errorf("open blob %v: %w", ref, err)
	}
	return plain, nil
}

func encodeLinks(links []blob.Ref) []byte {
	out := make([]byte, 0, binary.MaxVarintLen32+len(links)*linkSize)
	out = binary.AppendUvarint(out, uint64(len(links)))
	for _, l := range links {
		out = append(out, byte(l.Class))
		out = append(out, l.ID[:]...)
	}
	return out
}

func decodeLinks(encoded []byte) ([]blob.Ref, error) {
	count, n := binary.Uvarint(encoded)
	longer := n > 1 && encoded[n-1] == 0 // than the count needs; a list of links has one encoding
	if n <= 0 || longer || count > uint64(len(encoded)/linkSize) || uint64(len(encoded)-n) != count*uint64(linkSize) {
		return nil, fmt.Errorf("links do not fill their part: %w", ErrOpen)
	}
	encoded = encoded[n:]
	links := make([]blob.Ref, count)
	for i := range links {
		links[i] = blob.Ref{Class: blob.Class(encoded[0]), ID: blob.ID(encoded[1:linkSize])}
		if !links[i].Class.Valid() {
			return nil, fmt.Errorf("link of class %d: %w", encoded[0], ErrOpen)
		}
		encoded = encoded[linkSize:]
	}
	return links, nil
}
