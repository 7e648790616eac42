package tree

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/zeebo/blake3"
)

// targetWeight is the mean weight of a node. It is part of the format: another target gives other
// roots. Why this one: docs/design/merkle-map.md.
const targetWeight = 2 << 10

// cutter decides where nodes end. After an entry of weight w, a node that then weighs W ends with
// probability
//
//	π/2 · w · W / target²        never if W < target/4, always if W ≥ 4 target
//
// so that the chance to end grows with the node. Its weight is then Rayleigh distributed with the
// target as mean, and a random change hits a node of 1.27 times the mean; with a chance that does
// not grow it would be twice the mean, and all that is stored again grows with it. The coin is a
// keyed hash of (level, key), so it falls the same way in every history, and who chooses the keys
// of a cluster's objects cannot tell how.
//
// Boundaries of two maps that differ in an entry meet again soon after it: a key with a low hash
// ends its node at whatever weight it finds.
type cutter struct {
	hash   *blake3.Hasher
	target uint64
	scale  uint64 // w·W at which the probability is one
	sum    [32]byte
}

func newCutter(key [32]byte, target uint64) *cutter {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("blake3 refuses a key of 32 bytes: " + err.Error()) // its length is all it looks at
	}
	return &cutter{hash: h, target: target, scale: target * target * 226 / 355} // 2/π = 226/355
}

// ends reports whether a node ends after an entry of the given weight that makes it weigh total.
func (c *cutter) ends(level int, key []byte, weight, total uint64) bool {
	if total < c.target/4 {
		return false
	}
	x := weight * total
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
func entryWeight(e Entry) uint64 { return round(len(e.Key) + len(e.Value) + 4*len(e.Refs) + 8) }

// childWeight is the rough size of an entry of an interior node.
func childWeight(c child) uint64 { return round(len(c.first) + len(c.ref.ID) + 8) }

// round goes up to the next of four steps for each doubling, so that an entry whose value becomes a
// little longer nearly always keeps its weight and moves no boundary.
func round(n int) uint64 {
	step := uint64(1) << max(bits.Len(uint(n))-3, 0)
	return (uint64(n) + step - 1) &^ (step - 1)
}
