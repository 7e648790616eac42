package kube

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/varve-dev/varve/kube/kubetest"
)

// shared is the control plane that the tests of this package share.
var shared kubetest.Lazy

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// connect returns the shared cluster and what it serves.
func connect(t *testing.T) (*Cluster, *Catalog) {
	t.Helper()
	cluster, err := New(shared.Cluster(t).Config())
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
