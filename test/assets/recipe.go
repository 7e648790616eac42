package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A recipe is all that decides what the binary kube becomes.
type recipe struct {
	module  string   // the folder of test/go.mod
	version string   // of Kubernetes: v1.36.3
	flags   []string // of go build
	hash    string   // 12 hex digits over versions, checksums, source, flags and Go
}

var kubernetesLine = regexp.MustCompile(`(?m)^\s*(?:require )?k8s\.io/kubernetes (v1\.(\d+)\.\d\S*)`)

func readRecipe(ctx context.Context, module string) (recipe, error) {
	mod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return recipe{}, err
	}
	found := kubernetesLine.FindSubmatch(mod)
	if found == nil {
		return recipe{}, fmt.Errorf("%s: no line requires k8s.io/kubernetes", filepath.Join(module, "go.mod"))
	}
	r := recipe{module: module, version: string(found[1])}
	r.flags = []string{"-trimpath", "-buildvcs=false", "-ldflags", "-s -w " + versionStamp(r.version, string(found[2]))}

	goVersion, err := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return recipe{}, fmt.Errorf("go env: %w", err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n%q\n%q\n%s\n", goVersion, r.flags, programs, mod)
	sources, err := filepath.Glob(filepath.Join(module, "kube", "*.go"))
	if err != nil {
		return recipe{}, err
	}
	for _, path := range append(sources, filepath.Join(module, "go.sum")) {
		content, err := os.ReadFile(path)
		if err != nil {
			return recipe{}, err
		}
		fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(path), len(content), content)
	}
	r.hash = hex.EncodeToString(sum.Sum(nil))[:12]
	return r, nil
}

// versionStamp returns the linker's flags that tell the programs their version. Without it they
// call themselves v0.0.0-master, and clients that look at the server's version are misled.
func versionStamp(version, minor string) string {
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, variable := range []string{
			"gitVersion=" + version, "gitMajor=1", "gitMinor=" + minor, "gitTreeState=clean", "gitCommit=",
		} {
			flags = append(flags, "-X "+pkg+"."+variable)
		}
	}
	return strings.Join(flags, " ")
}

// environment is the environment of the go command: one that gives the same build everywhere,
// whatever the caller prefers for code of their own.
func environment() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
}
