package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
)

// Kind is the type of a catalog object: what is sealed under the catalog key by its name.
type Kind string

// The kinds of catalog objects. Their spelling is part of the format.
const (
	Entry       Kind = "journal entry" // named by its number, 16 hexadecimal digits
	Checkpoint  Kind = "checkpoint"    // named by the number of the entry it stands after
	Segment     Kind = "segment"       // named by its label
	PackKeys    Kind = "pack keys"     // the key table of a pack, named by the pack's label
	PackTable   Kind = "pack table"    // named by the pack's label
	PackTrailer Kind = "pack trailer"  // named by the pack's label
	SlotLabel   Kind = "key slot"      // what a key slot is called, named by the slot's hash
)

// ErrOpen means that sealed bytes are not what was sealed under this key, type and name: damaged,
// swapped, or sealed under another key.
var ErrOpen = errors.New("sealed bytes are damaged or belong elsewhere")

const (
	nonceSize = 12
	tagSize   = 16

	// Overhead is what sealing adds to the bytes it seals: a nonce before and a tag behind them.
	Overhead = nonceSize + tagSize
)

// SealCatalog seals bytes under the catalog key as the object of that kind and name.
func (k *Keys) SealCatalog(kind Kind, name string, plain []byte) []byte {
	key, ad := k.catalogKey(kind, name)
	return sealUnder(&key, ad, plain)
}

// OpenCatalog opens what SealCatalog made for the same kind and name; else it fails with [ErrOpen].
func (k *Keys) OpenCatalog(kind Kind, name string, sealed []byte) ([]byte, error) {
	key, ad := k.catalogKey(kind, name)
	plain, err := openUnder(&key, ad, sealed)
	if err != nil {
		return nil, fmt.Errorf("open %s %s: %w", kind, name, err)
	}
	return plain, nil
}

func (k *Keys) catalogKey(kind Kind, name string) (key [32]byte, ad []byte) {
	ad = append(ad, k.repository[:]...)
	ad = append(ad, byte(len(kind)))
	ad = append(ad, kind...)
	ad = append(ad, name...)
	return keyedHash(&k.catalog, ad), ad
}

// SegmentLabel names an index segment before the hash of its stored form exists: a keyed hash of its
// plaintext.
func (k *Keys) SegmentLabel(plain []byte) (label [16]byte) {
	sum := keyedHash(&k.catalog, []byte("segment label"), plain)
	copy(label[:], sum[:])
	return label
}

// PackLabel names a pack before its hash exists: a keyed hash of its sealed key table and its table.
// The label stands in the pack's header and binds keys, table and trailer together.
func (k *Keys) PackLabel(keyTable, table []byte) (label [16]byte) {
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(keyTable)))
	sum := keyedHash(&k.catalog, []byte("pack label"), length[:], keyTable, table)
	copy(label[:], sum[:])
	return label
}

// blobKey derives the key and the associated data of one part of one blob. After the repository ID
// its associated data goes on with the class, that of a catalog object with the length of its kind.
// So classes stay below 7, the shortest kind's, and no blob is ever taken for a catalog object.
func blobKey(session *[32]byte, repository RepositoryID, ref blob.Ref, part byte) (key [32]byte, ad []byte) {
	ad = make([]byte, 0, len(repository)+2+len(ref.ID))
	ad = append(ad, repository[:]...)
	ad = append(ad, byte(ref.Class), part)
	ad = append(ad, ref.ID[:]...)
	return keyedHash(session, ad), ad
}

// sealUnder returns nonce ‖ ciphertext ‖ tag. The nonce is a keyed hash of the plaintext.
func sealUnder(key *[32]byte, ad, plain []byte) []byte {
	sum := keyedHash(key, []byte("nonce"), plain)
	out := make([]byte, nonceSize, nonceSize+len(plain)+tagSize)
	copy(out, sum[:nonceSize])
	return newAEAD(key).Seal(out, out[:nonceSize], plain, ad)
}

func openUnder(key *[32]byte, ad, sealed []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, fmt.Errorf("%d bytes are too few: %w", len(sealed), ErrOpen)
	}
	plain, err := newAEAD(key).Open(nil, sealed[:nonceSize], sealed[nonceSize:], ad)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

func newAEAD(key *[32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("aes refuses a key of 32 bytes: " + err.Error()) // the type rules it out
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("gcm refuses aes: " + err.Error())
	}
	return aead
}
