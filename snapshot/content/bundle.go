package content

import (
	"encoding/binary"
	"math"

	"github.com/zeebo/blake3"

	"github.com/varve-dev/varve/repo/blob"
)

// meanTail is how far, on average, a bundle grows beyond minBundle before a content ends it.
const meanTail = 48 << 10

// bundle is one blob in the making: contents laid end to end.
type bundle struct {
	class blob.Class
	data  []byte
	// known holds what the bundle contains already, so that equal contents in it share a place.
	known map[contentSum]uint64

	// Set before stored is closed, and not read before.
	stored chan struct{}
	size   int
	ref    blob.Ref
	err    error
}

func newBundle(class blob.Class) *bundle {
	return &bundle{class: class, data: make([]byte, 0, maxBundle), known: make(map[contentSum]uint64), stored: make(chan struct{})}
}

// fits reports whether a content of n bytes can be added without growing too large.
func (b *bundle) fits(sum contentSum, n int) bool {
	_, known := b.known[sum]
	return known || len(b.data)+n <= maxBundle
}

// add lays down a content, or finds an equal one, and returns its offset.
func (b *bundle) add(sum contentSum, data []byte) (offset uint64, added bool) {
	if offset, ok := b.known[sum]; ok {
		return offset, false
	}
	offset = uint64(len(b.data))
	b.known[sum] = offset
	b.data = append(b.data, data...)
	return offset, true
}

// ends reports whether the bundle ends after the content of n bytes that was just added. Longer
// contents end it more often, so that the length of bundles does not depend on that of contents.
func (b *bundle) ends(sum contentSum, n int) bool {
	if len(b.data) < minBundle {
		return false
	}
	return n >= meanTail || binary.BigEndian.Uint64(sum[:]) < uint64(n)*(math.MaxUint64/meanTail)
}

func (b *bundle) isStored() bool { return isClosed(b.stored) }

// contentSum is a keyed hash of a content. It decides where bundles end and finds equal contents;
// being keyed, it gives nobody without the key a way to arrange for either.
type contentSum [32]byte

type contentHash struct{ h *blake3.Hasher }

func newContentHash(key [32]byte) *contentHash {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic(err) // only a key of another length can fail
	}
	return &contentHash{h}
}

func (c *contentHash) sum(data []byte) (s contentSum) {
	c.h.Reset()
	c.h.Write(data) // never fails
	c.h.Sum(s[:0])
	return s
}
