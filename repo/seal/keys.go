// Package seal keeps the keys and turns plaintext into what may lie in a bucket, and back. It is the
// only room that encrypts, decrypts, compresses or names a blob.
//
// Everything hangs on one [Master] key of 32 random bytes, which exists outside memory only inside
// key slots (see [SealSlot]). [Keys] derives from it, with BLAKE3's key derivation, the repository
// ID and an epoch:
//
//	master
//	 ├─ ID keys       one per class; a blob's ID is the keyed BLAKE3-256 of its plaintext
//	 ├─ content keys  one per class; they wrap the session keys that seal blobs
//	 ├─ catalog key   journal, checkpoints, segments, pack tables, key tables, links of nodes
//	 └─ cut key       where chunks, bundles and tree nodes end, and digests
//
// Nothing depends on randomness that a cloned machine could repeat: the key of a sealed thing is
// derived from its name, the nonce from the bytes that are sealed. The same name with the same bytes
// gives the same ciphertext; the same name with other bytes gives another nonce. The cipher is
// AES-256-GCM; its associated data holds the repository ID, the type and the name, so that nothing
// sealed can stand in another's place.
package seal

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/zeebo/blake3"

	"github.com/varve-dev/varve/repo/blob"
)

// Master is the root of all keys of one repository.
type Master [32]byte

// RepositoryID is the random name of a repository, made at its creation.
type RepositoryID [16]byte

// Keys holds the derived keys of one repository for a holder of the master key.
type Keys struct {
	master      Master // for further slots
	repository  RepositoryID
	fingerprint string
	ids         [len(blob.Classes) + 1][32]byte // by class
	contents    [len(blob.Classes) + 1][32]byte // by class
	catalog     [32]byte
	cut         [32]byte
}

// epoch is the generation of derived keys. It is part of every derivation and stands in every key
// table, so that a later version can move on without a change of format.
const epoch = 0

// NewMaster makes a master key from the system's randomness.
func NewMaster() (m Master) {
	_, _ = rand.Read(m[:]) // never fails: crypto/rand stops the program instead
	return m
}

// NewRepositoryID makes the random name of a new repository.
func NewRepositoryID() (id RepositoryID) {
	_, _ = rand.Read(id[:])
	return id
}

// Fingerprint identifies the master key without revealing it: 32 hexadecimal digits in groups of
// eight, to be written down and compared at every opening.
func (m Master) Fingerprint() string {
	var sum [16]byte
	blake3.DeriveKey("varve.dev 0 master fingerprint", m[:], sum[:])
	text := hex.EncodeToString(sum[:])
	return text[:8] + "-" + text[8:16] + "-" + text[16:24] + "-" + text[24:]
}

// ParseFingerprint returns a fingerprint as [Master.Fingerprint] writes it, whatever the case of its digits.
func ParseFingerprint(s string) (string, error) {
	groups := strings.Split(strings.ToLower(s), "-")
	raw, err := hex.DecodeString(strings.Join(groups, ""))
	shaped := len(groups) == 4 && !slices.ContainsFunc(groups, func(g string) bool { return len(g) != 8 })
	if err != nil || len(raw) != 16 || !shaped {
		return "", fmt.Errorf("%q is no fingerprint: that has four groups of eight hexadecimal digits, such as 0123abcd-4567cdef-89ab0123-cdef4567", s)
	}
	return strings.Join(groups, "-"), nil
}

// String hides the key from logs and messages.
func (m Master) String() string { return "master(" + m.Fingerprint()[:8] + "…)" }

// Equal compares in constant time.
func (m Master) Equal(o Master) bool { return subtle.ConstantTimeCompare(m[:], o[:]) == 1 }

// String returns 32 hexadecimal digits.
func (id RepositoryID) String() string { return hex.EncodeToString(id[:]) }

// ParseRepositoryID reads what [RepositoryID.String] wrote.
func ParseRepositoryID(s string) (id RepositoryID, err error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(id) || hex.EncodeToString(raw) != s {
		return id, fmt.Errorf("repository ID %q is not 32 hexadecimal digits", s)
	}
	return RepositoryID(raw), nil
}

// Derive computes every key of a repository from its master key.
func Derive(m Master, id RepositoryID) *Keys {
	k := &Keys{master: m, repository: id, fingerprint: m.Fingerprint()}
	material := append(append([]byte{}, m[:]...), id[:]...)
	material = binary.LittleEndian.AppendUint32(material, epoch)
	derive := func(purpose string) (key [32]byte) {
		blake3.DeriveKey("varve.dev 0 "+purpose, material, key[:])
		return key
	}
	for _, c := range blob.Classes {
		k.ids[c] = derive("id " + c.String())
		k.contents[c] = derive("content " + c.String())
	}
	k.catalog = derive("catalog")
	k.cut = derive("cut")
	return k
}

// Repository returns the ID of the repository that the keys belong to.
func (k *Keys) Repository() RepositoryID { return k.repository }

// Fingerprint returns the fingerprint of the master key.
func (k *Keys) Fingerprint() string { return k.fingerprint }

// SealSlot returns a slot file for one more recipient, see [SealSlot].
func (k *Keys) SealSlot(to age.Recipient) ([]byte, error) {
	return SealSlot(k.master, k.repository, to)
}

// SealSlotBy returns a slot file for a keeper, see [SealSlotBy].
func (k *Keys) SealSlotBy(ctx context.Context, keeper Keeper) ([]byte, error) {
	return SealSlotBy(ctx, k.master, k.repository, keeper)
}

// Purpose derives the key for a use above the repository: where chunks or nodes end, digests. Equal
// purposes give equal keys in one repository and unrelated keys in any other.
func (k *Keys) Purpose(purpose string) (key [32]byte) {
	blake3.DeriveKey("varve.dev 0 cut "+purpose, k.cut[:], key[:])
	return key
}

// BlobID names a one-part plaintext of the class.
func (k *Keys) BlobID(class blob.Class, plain []byte) blob.ID {
	return blob.ID(keyedHash(&k.ids[class], plain))
}

// NodeID names a two-part plaintext of the class.
func (k *Keys) NodeID(class blob.Class, n blob.Node) blob.ID {
	return k.nodeID(class, encodeLinks(n.Links), n.Body)
}

// nodeID hashes both parts, the first with its length before it, so that no byte can move from one
// to the other under the same name.
func (k *Keys) nodeID(class blob.Class, links, body []byte) blob.ID {
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(links)))
	return blob.ID(keyedHash(&k.ids[class], length[:], links, body))
}

// HashOf returns the plain BLAKE3-256 of stored bytes.
func HashOf(parts ...[]byte) (h blob.Hash) {
	hasher := blake3.New()
	for _, p := range parts {
		_, _ = hasher.Write(p) // a hash in memory cannot fail
	}
	hasher.Sum(h[:0])
	return h
}

// keyedHash is the keyed BLAKE3-256 of the parts laid end to end.
func keyedHash(key *[32]byte, parts ...[]byte) (sum [32]byte) {
	hasher, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("blake3 refuses a key of 32 bytes: " + err.Error()) // the type rules it out
	}
	for _, p := range parts {
		_, _ = hasher.Write(p)
	}
	hasher.Sum(sum[:0])
	return sum
}
