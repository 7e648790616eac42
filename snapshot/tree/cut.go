package tree

import (
	"encoding/binary"
	"math"

	"github.com/zeebo/blake3"
)

// targetWeight is the mean weight of a node. It is part of the format: another target gives other
// roots. Why this one: docs/design/merkle-map.md.
const targetWeight = 2 << 10

// cutter decides where nodes end. After an entry of weight w, a node that then weighs W ends with
// probability
//
//	2.136 · w · W² / target³        never if W < target/4, always if W ≥ 4 target
//
// so that the chance to end grows with the node: the weight of a node has a Weibull distribution of
// shape 3, 2.136 = 3 Γ(4/3)³ makes the target its mean. A random change then hits a node of 1.13
// times the mean. If the chance did not grow, it would be twice the mean, and so would be what is
// stored again. The coin is a keyed hash of (level, key): it falls the same way in every history,
// and who chooses the names of objects cannot tell how.
//
// Two maps that differ in an entry soon cut at the same keys again, because a key with a low hash
// ends its node at nearly any weight. An entry that grows by a few bytes moves the chances by little
// and so hardly ever a boundary.
type cutter struct {
	hash   *blake3.Hasher
	target uint64
	scale  uint64 // w·W² at which the probability is one
	sum    [32]byte
}

func newCutter(key [32]byte, target uint64) *cutter {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("blake3 refuses a key of 32 bytes: " + err.Error()) // its length is all it looks at
	}
	return &cutter{hash: h, target: target, scale: target * target * target * 468 / 1000}
}

// ends reports whether a node ends after an entry of the given weight that makes it weigh total.
func (c *cutter) ends(level int, key []byte, weight, total uint64) bool {
	if total < c.target/4 {
		return false
	}
	x := weight * total * total
	if total >= c.target*4 || x >= c.scale {
		return true
	}
	c.hash.Reset()
	c.hash.Write([]byte{byte(level)}) // a hash's Write returns no error
	c.hash.Write(key)
	coin := binary.LittleEndian.Uint64(c.hash.Sum(c.sum[:0]))
	return coin < x*(math.MaxUint64/c.scale)
}

// entryWeight is the rough size of an entry of a leaf. It takes the key as a whole and a reference
// at a few bytes, although neighbours share most of both: what an entry weighs must not depend on
// its neighbours.
func entryWeight(e Entry) uint64 { return uint64(len(e.Key) + len(e.Value) + 4*len(e.Refs) + 8) }

// childWeight is the rough size of an entry of an interior node.
func childWeight(c child) uint64 { return uint64(len(c.first) + len(c.ref.ID) + 8) }
