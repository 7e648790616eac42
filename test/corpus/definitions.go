package corpus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A project is a Go module whose files define custom resources. It is pinned like any other module, but
// here instead of in a go.mod: nothing compiles it, and its own dependencies do not matter.
type project struct {
	module  string
	version string
	sum     string // of the module's content, as in a go.sum
	files   string // a pattern of paths within the module
}

var projects = []project{
	{"github.com/cert-manager/cert-manager", "v1.21.2", "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=", "deploy/crds/*.yaml"},
	{"github.com/fluxcd/source-controller", "v1.9.0", "h1:5msg2yyjVYDULZos+2ve8MZzcSqTpusiXmrOeBhc9yY=", "config/crd/bases/*.yaml"},
	{"github.com/kedacore/keda/v2", "v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=", "config/crd/bases/*.yaml"},
	{"github.com/kubernetes-csi/external-snapshotter/client/v8", "v8.7.0", "h1:HVaSUeRRHPu49aSiL8eXOjS9Re9G6pM0NzdTGI7mM14=", "config/crd/snapshot.*.yaml"},
	{"github.com/prometheus-operator/prometheus-operator", "v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=", "example/prometheus-operator-crd/*.yaml"},
	{"istio.io/api", "v1.31.1", "h1:5Yb5ihcz4YQsCkciusK7DnFpBMwRB6EFWeUKH1Atuyk=", "kubernetes/customresourcedefinitions.gen.yaml"},
	{"sigs.k8s.io/gateway-api", "v1.5.0", "h1:duoo14Ky/fJXpjpmyMISE2RTBGnfCg8zICfTYLTnBJA=", "config/crd/standard/gateway.networking.k8s.io_*s.yaml"},
}

// Definitions returns the CustomResourceDefinitions of all projects. It needs the go command, which
// downloads the modules, about 20 MB, unless its cache has them.
func Definitions(ctx context.Context) ([]Document, error) {
	directories, err := download(ctx)
	if err != nil {
		return nil, fmt.Errorf("definitions of custom resources: %w", err)
	}
	var all []Document
	for _, p := range projects {
		paths, err := filepath.Glob(filepath.Join(directories[p.module], filepath.FromSlash(p.files)))
		if err != nil {
			return nil, err
		}
		before := len(all)
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			for _, text := range split(string(content)) {
				if !kindLine.MatchString(text) { // a comment alone
					continue
				}
				d, err := parse(text)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", path, err)
				}
				if d.Kind == "CustomResourceDefinition" {
					d.HasStatus = false // generators once wrote an empty one
					all = append(all, d)
				}
			}
		}
		if len(all) == before {
			return nil, fmt.Errorf("%s %s has no definition in %s", p.module, p.version, p.files)
		}
	}
	return all, nil
}

// download returns the directory of each project's module.
func download(ctx context.Context) (map[string]string, error) {
	args := []string{"mod", "download", "-json"}
	for _, p := range projects {
		args = append(args, p.module+"@"+p.version)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = os.TempDir() // outside of any module, so that no go.mod has a say
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, failed := cmd.Output()

	directories := map[string]string{}
	sums := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var m struct{ Path, Version, Dir, Sum, Error string }
		if err := d.Decode(&m); err != nil {
			return nil, fmt.Errorf("go mod download: %w", errors.Join(err, failed))
		}
		if m.Error != "" {
			return nil, fmt.Errorf("go mod download %s: %s", m.Path, m.Error)
		}
		directories[m.Path], sums[m.Path] = m.Dir, m.Sum
	}
	if failed != nil {
		return nil, fmt.Errorf("go mod download: %w: %s", failed, stderr.String())
	}
	for _, p := range projects {
		if sums[p.module] != p.sum {
			return nil, fmt.Errorf("%s %s has checksum %q, want %q", p.module, p.version, sums[p.module], p.sum)
		}
	}
	return directories, nil
}
