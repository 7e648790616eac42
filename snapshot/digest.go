package snapshot

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"slices"

	"github.com/zeebo/blake3"

	"github.com/varve-dev/varve/snapshot/tree"
)

// Digest is a number modulo 2^256, little endian: the sum of the keyed BLAKE3 hashes of some contents.
// Sums do not depend on the order in which they were made, and a content can be taken out again. As
// the hash has a secret key of the repository, nobody without it can find contents with equal sums.
type Digest [32]byte

// String returns 64 hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes the digest as [Digest.String] does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Equal reports whether the digests are the same.
func (d Digest) Equal(o Digest) bool { return d == o }

func (d Digest) plus(o Digest) (sum Digest) {
	var carry uint64
	for i := 0; i < len(d); i += 8 {
		var s uint64
		s, carry = bits.Add64(binary.LittleEndian.Uint64(d[i:]), binary.LittleEndian.Uint64(o[i:]), carry)
		binary.LittleEndian.PutUint64(sum[i:], s)
	}
	return sum
}

func (d Digest) minus(o Digest) (difference Digest) {
	var borrow uint64
	for i := 0; i < len(d); i += 8 {
		var s uint64
		s, borrow = bits.Sub64(binary.LittleEndian.Uint64(d[i:]), binary.LittleEndian.Uint64(o[i:]), borrow)
		binary.LittleEndian.PutUint64(difference[i:], s)
	}
	return difference
}

// Sum digests a set of objects: what people wrote apart from what moves by itself.
type Sum struct {
	Body    Digest `cbor:"1,keyasint" json:"body"`
	State   Digest `cbor:"2,keyasint" json:"state"`
	Objects uint64 `cbor:"3,keyasint" json:"objects"` // how many
}

// Hasher digests single objects. It is not safe for concurrent use.
type Hasher struct{ hash *blake3.Hasher }

// NewHasher returns a hasher with a secret key of the repository, that for "digest".
func NewHasher(key [32]byte) *Hasher {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("blake3 refuses a key of 32 bytes: " + err.Error()) // its length is all it looks at
	}
	return &Hasher{hash: h}
}

// Object returns the sum of one object, from its key in the map, its body and its state.
func (h *Hasher) Object(key, body, state []byte) Sum {
	return Sum{Body: h.one('b', key, body), State: h.one('s', key, state), Objects: 1}
}

// one hashes what (1) │ length of the key (4) │ key │ content.
func (h *Hasher) one(what byte, key, content []byte) (d Digest) {
	h.hash.Reset()
	h.hash.Write(binary.LittleEndian.AppendUint32([]byte{what}, uint32(len(key)))) // a hash's Write returns no error
	h.hash.Write(key)
	h.hash.Write(content)
	h.hash.Sum(d[:0])
	return d
}

// Digests are the sums of a snapshot's objects, of all and of each scope: a resource in a namespace.
// A run takes those of its parent and adds and removes what changed. The zero value is that of no
// objects. They take about 200 bytes of memory for a scope.
//
// Of the digests of a scope only the lower half is kept, so they are sums modulo 2^128 in the lower 16
// bytes. A cluster has thousands of scopes, digests do not compress, and with whole ones their table
// was the largest part of what a run with a few changes stores.
type Digests struct {
	whole  Sum
	scopes map[string]Sum
}

// errNotCounted means that something was removed that was never added, so that the digests would no
// longer say what is there.
var errNotCounted = errors.New("digest of an object that is not counted")

// Add counts objects of a scope, which is named by the beginning of their keys.
func (d *Digests) Add(scope string, s Sum) {
	if d.scopes == nil {
		d.scopes = map[string]Sum{}
	}
	d.whole = d.whole.plus(s)
	d.scopes[scope] = d.scopes[scope].plus(s).low()
}

// Remove takes objects out again, with the sum that they were added with.
func (d *Digests) Remove(scope string, s Sum) error {
	left := d.scopes[scope]
	if left.Objects < s.Objects {
		return fmt.Errorf("remove from %q: %w", scope, errNotCounted)
	}
	left = left.minus(s).low()
	if left.Objects == 0 && left != (Sum{}) {
		return fmt.Errorf("remove the last of %q: %w", scope, errNotCounted)
	}
	d.whole = d.whole.minus(s)
	d.scopes[scope] = left
	if left.Objects == 0 {
		delete(d.scopes, scope) // or digests would tell that there once was one
	}
	return nil
}

// Whole returns the sum of all objects.
func (d *Digests) Whole() Sum { return d.whole }

// Scope returns the sum of one scope.
func (d *Digests) Scope(scope string) Sum { return d.scopes[scope] }

// All yields the scopes that have objects, in order.
func (d *Digests) All() iter.Seq2[string, Sum] {
	return func(yield func(string, Sum) bool) {
		for _, scope := range slices.Sorted(maps.Keys(d.scopes)) {
			if !yield(scope, d.scopes[scope]) {
				return
			}
		}
	}
}

func (s Sum) plus(o Sum) Sum {
	return Sum{Body: s.Body.plus(o.Body), State: s.State.plus(o.State), Objects: s.Objects + o.Objects}
}

func (s Sum) minus(o Sum) Sum {
	return Sum{Body: s.Body.minus(o.Body), State: s.State.minus(o.State), Objects: s.Objects - o.Objects}
}

// low is the sum with the lower halves of its digests, which are sums of their own.
func (s Sum) low() Sum {
	clear(s.Body[half:])
	clear(s.State[half:])
	return s
}

// half is how many bytes of the digests of a scope are kept.
const half = len(Digest{}) / 2

// store writes the table of the scopes as a map, so that a run stores only the nodes whose sums moved.
// Its keys are the scopes; its values body (16) │ state (16) │ objects, a uvarint.
func (d *Digests) store(ctx context.Context, saver tree.Saver, treeKey [32]byte) (tree.Root, error) {
	b := tree.NewBuilder(saver, treeKey)
	for scope, s := range d.All() {
		value := slices.Concat(s.Body[:half], s.State[:half], binary.AppendUvarint(nil, s.Objects))
		if err := b.Add(ctx, tree.Entry{Key: []byte(scope), Value: value}); err != nil {
			return tree.Root{}, fmt.Errorf("store digests: %w", err)
		}
	}
	root, err := b.Finish(ctx)
	if err != nil {
		return tree.Root{}, fmt.Errorf("store digests: %w", err)
	}
	return root, nil
}

// Digests reads the sums of all scopes, and checks that they make up that of the whole.
func (s *Snapshot) Digests(ctx context.Context) (*Digests, error) {
	d, total := &Digests{whole: s.Digest, scopes: map[string]Sum{}}, Sum{}
	for e, err := range tree.Open(s.repo, s.DigestTable).Scan(ctx, tree.Range{}) {
		if err != nil {
			return nil, fmt.Errorf("digests of snapshot %s: %w", s.ID, err)
		}
		sum, err := decodeSum(e)
		if err != nil {
			return nil, fmt.Errorf("digests of snapshot %s: %q: %w: %w", s.ID, e.Key, ErrMalformed, err)
		}
		d.scopes[string(e.Key)] = sum
		total = total.plus(sum)
	}
	if total.low() != s.Digest.low() {
		return nil, fmt.Errorf("digests of snapshot %s: %w: they do not add up", s.ID, ErrMalformed)
	}
	return d, nil
}

func decodeSum(e tree.Entry) (s Sum, err error) {
	const fixed = 2 * half
	if len(e.Value) <= fixed {
		return s, errors.New("cut short")
	}
	n, size := binary.Uvarint(e.Value[fixed:])
	if size != len(e.Value)-fixed || n == 0 || (size > 1 && e.Value[len(e.Value)-1] == 0) {
		return s, errors.New("no number of objects")
	}
	copy(s.Body[:], e.Value[:half])
	copy(s.State[:], e.Value[half:fixed])
	s.Objects = n
	return s, nil
}
