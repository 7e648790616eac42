package cloud

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/probe"
)

// In a store that passes the conformance suite a probe finds no fault.
func TestServersAreFitForARepository(t *testing.T) {
	settings := []probe.Fault{probe.NoVersioning, probe.NoLock} // of the bucket, and no fault of the store
	// What not every store tells, and what versitygw may not: it breaks off the connection on which it refuses a
	// large object, and whether its answer arrives before that is a matter of luck.
	untold := []probe.Capability{probe.Versioning, probe.Lock, probe.Size}
	each(t, func(t *testing.T, s server) {
		report, err := probe.Run(t.Context(), s.open(t, s.endpoint, s.bucket(t)+"/prefix"), probe.Options{Settle: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range report.Findings {
			if f.Fault != "" && !slices.Contains(settings, f.Fault) || f.Verdict == probe.Unknown && !slices.Contains(untold, f.Capability) {
				t.Errorf("%s: %s %s: %s", f.Capability, f.Verdict, f.Fault, f.Saw)
			}
		}
		if err := report.Err(); err != nil && !errors.Is(err, storage.ErrTemporary) {
			t.Error(err)
		}
		if report.Left.Objects > 0 {
			t.Errorf("left: %+v", report.Left)
		}
	})
}
