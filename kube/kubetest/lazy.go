package kubetest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// Lazy is one control plane for all tests of a package, started by the first that asks for it:
//
//	var shared kubetest.Lazy
//
//	func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }
//
// Each test takes a namespace of its own.
type Lazy struct {
	once    sync.Once
	cluster *Cluster
	err     error
}

// Run runs the tests and stops the control plane if one was started. It returns the code to exit with.
func (s *Lazy) Run(m *testing.M) int {
	code := m.Run()
	if s.cluster == nil {
		return code
	}
	if err := s.cluster.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// Cluster returns the control plane. A failure to start it ends each test that asks.
func (s *Lazy) Cluster(tb testing.TB) *Cluster {
	tb.Helper()
	s.once.Do(func() { s.cluster, s.err = New(Options{}) })
	if s.err != nil {
		tb.Fatal(s.err)
	}
	return s.cluster
}
