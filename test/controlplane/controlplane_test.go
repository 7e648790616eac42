package controlplane_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/varve-dev/varve/test/api"
	"github.com/varve-dev/varve/test/controlplane"
)

// assets returns the directory that test/assets makes, and makes it if need be.
func assets(t *testing.T) string {
	t.Helper()
	command := exec.Command("go", "run", "../assets")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go run ./assets: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func start(t *testing.T, o controlplane.Options) (*controlplane.ControlPlane, *api.Client) {
	t.Helper()
	o.Assets = assets(t)
	cp, err := controlplane.Start(t.Context(), o)
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
	return cp, client
}

// create posts an object and returns the server's answer.
func create(t *testing.T, c *api.Client, path string, object api.Object) api.Object {
	t.Helper()
	var made api.Object
	if err := c.Do(t.Context(), http.MethodPost, path, object, &made); err != nil {
		t.Fatal(err)
	}
	return made
}

// eventually waits until ok returns true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute in vain: %s", what)
		}
	}
}

func gone(t *testing.T, c *api.Client, path string) bool {
	t.Helper()
	err := c.Do(t.Context(), http.MethodGet, path, nil, nil)
	if status := new(api.StatusError); errors.As(err, &status) && status.Code == http.StatusNotFound {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func named(name string) map[string]any { return map[string]any{"name": name} }

func TestControllersDoWhatAClusterDoes(t *testing.T) {
	_, c := start(t, controlplane.Options{})
	create(t, c, "/api/v1/namespaces", api.Object{"metadata": named("shop")})
	const shop = "/api/v1/namespaces/shop"

	t.Run("a namespace gets a service account and the root certificate", func(t *testing.T) {
		eventually(t, "service account", func() bool { return !gone(t, c, shop+"/serviceaccounts/default") })
		eventually(t, "root certificate", func() bool { return !gone(t, c, shop+"/configmaps/kube-root-ca.crt") })
	})
	t.Run("a claim is bound to a volume", func(t *testing.T) {
		spec := map[string]any{"storageClassName": "manual", "accessModes": []string{"ReadWriteOnce"}}
		volume, claim := api.Object{"metadata": named("disk")}, api.Object{"metadata": named("data")}
		volume["spec"] = with(spec, "capacity", map[string]any{"storage": "1Gi"}, "hostPath", map[string]any{"path": "/srv"})
		claim["spec"] = with(spec, "resources", map[string]any{"requests": map[string]any{"storage": "1Gi"}})
		create(t, c, shop+"/persistentvolumeclaims", claim)
		create(t, c, "/api/v1/persistentvolumes", volume)
		eventually(t, "claim bound", func() bool {
			var now api.Object
			if err := c.Do(t.Context(), http.MethodGet, shop+"/persistentvolumeclaims/data", nil, &now); err != nil {
				t.Fatal(err)
			}
			return now.String("status", "phase") == "Bound" && now.String("spec", "volumeName") == "disk"
		})
	})
	t.Run("a dependent goes with its owner", func(t *testing.T) {
		owner := create(t, c, shop+"/configmaps", api.Object{"metadata": named("owner")})
		reference := map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.String("metadata", "uid")}
		create(t, c, shop+"/configmaps", api.Object{"metadata": with(named("dependent"), "ownerReferences", []any{reference})})
		if err := c.Do(t.Context(), http.MethodDelete, shop+"/configmaps/owner", nil, nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "dependent gone", func() bool { return gone(t, c, shop+"/configmaps/dependent") })
	})
	t.Run("a deployment gets pods, which stay pending", func(t *testing.T) {
		create(t, c, "/apis/apps/v1/namespaces/shop/deployments", deployment("web", 2))
		eventually(t, "two pods", func() bool { return len(pods(t, c)) == 2 })
		for _, pod := range pods(t, c) {
			if phase := pod.String("status", "phase"); phase != "Pending" {
				t.Errorf("pod %s is %s, want Pending", pod.Name(), phase)
			}
		}
	})
	t.Run("a deleted namespace goes with all it has", func(t *testing.T) {
		if err := c.Do(t.Context(), http.MethodDelete, shop, nil, nil); err != nil {
			t.Fatal(err)
		}
		eventually(t, "namespace gone", func() bool { return gone(t, c, shop) })
	})
}

func TestWithoutWorkloadsADeploymentStaysAlone(t *testing.T) {
	_, c := start(t, controlplane.Options{WithoutWorkloads: true})
	create(t, c, "/api/v1/namespaces", api.Object{"metadata": named("shop")})
	create(t, c, "/apis/apps/v1/namespaces/shop/deployments", deployment("web", 1))
	// The controllers that do run have answered by then, so those that must not would have too.
	eventually(t, "service account", func() bool { return !gone(t, c, "/api/v1/namespaces/shop/serviceaccounts/default") })
	time.Sleep(500 * time.Millisecond)
	sets, err := c.List(t.Context(), api.Resource{Group: "apps", Version: "v1", Name: "replicasets", Kind: "ReplicaSet", Namespaced: true}, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if len(sets) != 0 {
		t.Errorf("%d replica sets, want none", len(sets))
	}
}

func TestStopLeavesNoFileAndNoServer(t *testing.T) {
	cp, c := start(t, controlplane.Options{})
	if err := cp.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cp.Logs()); !os.IsNotExist(err) {
		t.Errorf("%s after Stop: %v, want that it does not exist", cp.Logs(), err)
	}
	if err := c.Do(t.Context(), http.MethodGet, "/readyz", nil, nil); err == nil {
		t.Error("the API server answers after Stop")
	}
}

func TestStartTellsWhatIsMissing(t *testing.T) {
	_, err := controlplane.Start(t.Context(), controlplane.Options{Assets: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "not built") {
		t.Errorf("error %v, want one that says the programs are not built", err)
	}
}

func TestStartTellsTheLastWordsOfAProgramThatEnds(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		script := fmt.Sprintf("#!/bin/sh\necho %s cannot go on\nexit 3\n", name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err := controlplane.Start(t.Context(), controlplane.Options{Assets: dir})
	if err == nil || !strings.Contains(err.Error(), "cannot go on") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error %v, want the program's last words and its status", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	cp, err := controlplane.Start(ctx, controlplane.Options{Assets: assets(t)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
	if err == nil {
		t.Error(cp.Stop())
	}
}

// with returns a copy of m with more keys and values.
func with(m map[string]any, more ...any) map[string]any {
	all := map[string]any{}
	maps.Copy(all, m)
	for i := 0; i < len(more); i += 2 {
		all[more[i].(string)] = more[i+1]
	}
	return all
}

func deployment(name string, replicas int) api.Object {
	labels := map[string]any{"app": name}
	return api.Object{"metadata": named(name), "spec": map[string]any{
		"replicas": replicas,
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "main", "image": "example.com/" + name + ":1"}}},
		},
	}}
}

func pods(t *testing.T, c *api.Client) []api.Object {
	t.Helper()
	found, err := c.List(t.Context(), api.Resource{Version: "v1", Name: "pods", Kind: "Pod", Namespaced: true}, "shop")
	if err != nil {
		t.Fatal(err)
	}
	return found
}
