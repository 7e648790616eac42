package corpus

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/varve-dev/varve/test/api"
	"github.com/varve-dev/varve/test/controlplane"
)

func TestSameSeedSameDocuments(t *testing.T) {
	first, err := Documents(1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Documents(1)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first, again) {
		t.Error("two calls with one seed differ")
	}
	other, err := Documents(2)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(first, other) {
		t.Error("another seed makes the same")
	}
}

func TestFilledClusterIsLargeAndVaried(t *testing.T) {
	client := startControlPlane(t)
	started := time.Now()
	created, err := Fill(t.Context(), client, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("created %d objects in %v", created, time.Since(started))
	resources, err := client.Lasting(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds, namespaces, count, custom := 0, map[string]bool{}, 0, 0
	for _, r := range resources {
		objects, err := client.List(t.Context(), r, "")
		if err != nil {
			t.Fatal(err)
		}
		if len(objects) > 0 {
			kinds++
		}
		for _, o := range objects {
			namespaces[o.Namespace()] = true
		}
		count += len(objects)
		if strings.Contains(r.Group, ".") && !strings.HasSuffix(r.Group, ".k8s.io") {
			custom += len(objects)
		}
		t.Logf("%5d %s %s", len(objects), r.APIVersion(), r.Kind)
	}
	t.Logf("%d objects of %d kinds in %d namespaces, %d custom ones", count, kinds, len(namespaces), custom)
	if count < 2000 || kinds < 40 || len(namespaces) < 20 || custom < 300 {
		t.Errorf("%d objects of %d kinds in %d namespaces, %d custom; want at least 2000 of 40 in 20, 300", count, kinds, len(namespaces), custom)
	}
}

func startControlPlane(t *testing.T) *api.Client {
	t.Helper()
	build := exec.Command("go", "run", "../assets")
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("go run ./assets: %v", err)
	}
	cp, err := controlplane.Start(t.Context(), controlplane.Options{Assets: strings.TrimSpace(string(out))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Error(err)
		}
	})
	client, err := api.NewClient(cp.Access())
	if err != nil {
		t.Fatal(err)
	}
	return client
}
