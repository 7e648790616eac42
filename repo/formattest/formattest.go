// Package formattest holds what the tests of several packages ask of a stored format besides the right
// result: that a decoder takes no more memory than its input explains, however large the numbers in it
// are, and that an encoder gives today the bytes that it gave when they were written down.
package formattest

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// slack is what a decoder may take besides, in bytes: pools and tables that are made once.
const slack = 1 << 20

// Bounded runs f and fails the test when it allocates more than most bytes in all, whether they are freed
// again or not.
func Bounded(t testing.TB, most int, f func()) {
	t.Helper()
	before := allocated()
	f()
	if took := allocated() - before; took > uint64(most)+slack {
		t.Errorf("%d bytes were allocated, at most %d are explained by the input", took, most)
	}
}

// allocated returns how many bytes the process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Vectors are bytes under names, in the order in which they were added. As text, each is a line: its name, a
// tab and its bytes in hexadecimal.
type Vectors struct{ text strings.Builder }

// Add adds bytes.
func (v *Vectors) Add(name string, data []byte) { v.Say(name, hex.EncodeToString(data)) }

// Say adds what is text by itself.
func (v *Vectors) Say(name, value string) { v.text.WriteString(name + "\t" + value + "\n") }

// Stay fails the test when the vectors are not those of a file. With update it writes the file, which is right
// only while the format is free to change.
func (v *Vectors) Stay(t testing.TB, file string, update bool) {
	t.Helper()
	if update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(v.text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), v.text.String()); diff != "" {
		t.Errorf("the format has changed (-%s +now); see docs/formats/README.md:\n%s", file, diff)
	}
}
