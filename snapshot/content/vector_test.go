package content

import (
	"flag"
	"fmt"
	"testing"

	"github.com/varve-dev/varve/repo/formattest"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// Entries with contents in every place, and the extents of a long one, are encoded as they were when the
// format was written down.
func TestVectorsStay(t *testing.T) {
	v := new(formattest.Vectors)
	for i, p := range sampleEntries() {
		e := encodeEntry(p)
		v.Add(fmt.Sprintf("entry %d", i), e.Value)
		v.Say(fmt.Sprintf("blobs of entry %d", i), fmt.Sprint(e.Refs))
	}
	for _, c := range []chunk{{dataRef, 7}, {length: 1 << 40}} {
		e := encodeExtent(300, c)
		v.Add(fmt.Sprintf("key of an extent of %d", c.length), e.Key)
		v.Add(fmt.Sprintf("extent of %d", c.length), e.Value)
	}
	v.Stay(t, "testdata/v0-entries.txt", *update)
}
