package tree

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/zeebo/blake3"
)

var (
	targetWeight = uint64(4 << 10)
	minWeight    = targetWeight / 4
	maxWeight    = targetWeight * 4
	hazardPower  = 1
)

type cutter struct {
	hash *blake3.Hasher
	sum  [8]byte
}

func newCutter(key [32]byte) *cutter {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic("blake3 refuses a key of 32 bytes: " + err.Error()) // it checks the length only
	}
	return &cutter{hash: h}
}

func gamma(k int) float64 { return math.Gamma(1 + 1/float64(k)) }

// ends reports whether a node that weighs total ends after an entry.
func (c *cutter) ends(level int, key []byte, weight, total uint64) bool {
	if total < minWeight {
		return false
	}
	if total >= maxWeight {
		return true
	}
	k := hazardPower
	t := float64(targetWeight)
	g := math.Pow(gamma(k), float64(k))
	p := float64(weight) * float64(k) * math.Pow(float64(total), float64(k-1)) * g / math.Pow(t, float64(k))
	if k == 1 {
		p = float64(weight) / (t - float64(minWeight))
	}
	c.hash.Reset()
	c.hash.Write([]byte{byte(level)})
	c.hash.Write(key)
	c.hash.Sum(c.sum[:0])
	return float64(binary.LittleEndian.Uint64(c.sum[:])) < p*math.Exp2(64)
}

// entryWeight is the rough size of an entry of a leaf.
func entryWeight(e Entry) uint64 {
	return roundUp(uint64(len(e.Key) + len(e.Value) + 4*len(e.Refs) + 8))
}

func childWeight(c child) uint64 {
	return roundUp(uint64(len(c.first) + 32 + 8))
}

// roundUp rounds to four steps for each doubling, so that an entry whose value becomes a few bytes
// longer nearly always keeps its weight and moves no boundary.
func roundUp(n uint64) uint64 {
	step := uint64(1) << max(bits.Len64(n)-3, 0)
	return (n + step - 1) &^ (step - 1)
}
