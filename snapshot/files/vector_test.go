package files

import (
	"flag"
	"fmt"
	"testing"

	"github.com/varve-dev/varve/repo/formattest"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// Attributes of every type of file, and keys, are encoded as they were when the format was written down.
func TestVectorsStay(t *testing.T) {
	v := new(formattest.Vectors)
	for i, a := range sampleAttributes() {
		v.Add(fmt.Sprintf("attributes %d", i), a.Encode())
	}
	for _, path := range []string{".", "a", "a/b.c/d"} {
		key, err := Key(path)
		if err != nil {
			t.Fatal(err)
		}
		v.Add("key of "+path, key)
	}
	v.Stay(t, "testdata/v0-attributes.txt", *update)
}
