// Package fuzztest holds what the fuzz targets of several packages ask of a decoder besides the right
// result: that it takes no more memory than its input explains, however large the numbers in it are.
package fuzztest

import (
	"runtime/metrics"
	"testing"
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
