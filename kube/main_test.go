package kube

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/varve-dev/varve/kube/kubetest"
)

// shared is the control plane that the tests of this package share, started by the first that needs it.
var shared struct {
	once    sync.Once
	control *kubetest.Cluster
	err     error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.control != nil {
		if err := shared.control.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// connect returns the shared cluster and what it serves.
func connect(t *testing.T) (*Cluster, *Catalog) {
	t.Helper()
	shared.once.Do(func() { shared.control, shared.err = kubetest.New(kubetest.Options{}) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	cluster, err := New(shared.control.Config())
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := cluster.Discover(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return cluster, catalog
}

// create makes the objects of a table in the cluster.
func create(t *testing.T, c *Cluster, catalog *Catalog, objects ...Object) {
	t.Helper()
	for _, o := range objects {
		r, ok := catalog.FindKind(o.APIVersion(), o.Kind())
		if !ok {
			t.Fatalf("the cluster has no kind %s %s", o.APIVersion(), o.Kind())
		}
		if _, err := c.Create(t.Context(), r, o, "test"); err != nil {
			t.Fatal(err)
		}
	}
}

// object reads an object from JSON.
func object(t *testing.T, format string, values ...any) Object {
	t.Helper()
	o, err := Decode(fmt.Appendf(nil, format, values...))
	if err != nil {
		t.Fatal(err)
	}
	return o
}
