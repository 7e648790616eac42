package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module makes a folder like test, with a go.mod of one line that matters.
func module(t *testing.T, requirement string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "kube"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"go.mod":       "module example.com/test\n\nrequire (\n\t" + requirement + "\n)\n",
		"go.sum":       "",
		"kube/main.go": "package main\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func hash(t *testing.T, dir string) string {
	t.Helper()
	r, err := readRecipe(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return r.hash
}

func TestRecipeKnowsTheVersion(t *testing.T) {
	r, err := readRecipe(t.Context(), module(t, "k8s.io/kubernetes v1.36.3"))
	if err != nil {
		t.Fatal(err)
	}
	flags := strings.Join(r.flags, " ")
	if r.version != "v1.36.3" || !strings.Contains(flags, "gitVersion=v1.36.3") || !strings.Contains(flags, "gitMinor=36") {
		t.Errorf("version %q, flags %q; want those of v1.36.3", r.version, flags)
	}
	if _, err := readRecipe(t.Context(), module(t, "k8s.io/api v0.36.3")); err == nil {
		t.Error("a go.mod without Kubernetes is taken, want an error")
	}
}

func TestRecipeChangesWithWhatDecides(t *testing.T) {
	dir := module(t, "k8s.io/kubernetes v1.36.3")
	first := hash(t, dir)
	if again := hash(t, dir); again != first {
		t.Errorf("hash %s and then %s of the same", first, again)
	}
	seen := map[string]string{first: "nothing"}
	for _, name := range []string{"go.mod", "go.sum", "kube/main.go"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("// more\n"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		now := hash(t, dir)
		if other, ok := seen[now]; ok {
			t.Errorf("a change of %s gives the same hash as a change of %s", name, other)
		}
		seen[now] = name
	}
}

func TestCurrentNamesTheLastDirectory(t *testing.T) {
	parent := t.TempDir()
	for _, name := range []string{"kube-1", "kube-2", "kube-2", "kube-1"} {
		if err := pointCurrent(filepath.Join(parent, name)); err != nil {
			t.Fatal(err)
		}
		if target, err := os.Readlink(filepath.Join(parent, "current")); err != nil || target != name {
			t.Errorf("current names %q (%v), want %q", target, err, name)
		}
	}
}

func TestDirectoryOfAnotherRecipeIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "stamp"), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(override, dir)
	t.Chdir("..")
	if _, err := prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "another recipe") {
		t.Errorf("error %v, want one that says it holds another recipe's programs", err)
	}
}

// A cluster under test must be the one that Kubernetes itself tests: each module that Kubernetes
// requires is required here in that version.
func TestModulesAreThoseOfKubernetes(t *testing.T) {
	r, err := readRecipe(t.Context(), "..")
	if err != nil {
		t.Fatal(err)
	}
	download := exec.Command("go", "mod", "download", "-json", "k8s.io/kubernetes@"+r.version)
	download.Dir = ".."
	out, err := download.Output()
	if err != nil {
		t.Fatalf("go mod download: %v", err)
	}
	var kubernetes struct{ GoMod string }
	if err := json.Unmarshal(out, &kubernetes); err != nil {
		t.Fatal(err)
	}
	theirs, ours := requirements(t, kubernetes.GoMod), requirements(t, "../go.mod")
	same := 0
	for path, version := range ours {
		switch theirs[path] {
		case version:
			same++
		case "": // etcd's server needs a few more
		case "v0.0.0": // Kubernetes' own, which are replaced in both
		default:
			t.Errorf("%s %s, want %s as Kubernetes %s has it", path, version, theirs[path], r.version)
		}
	}
	if same < 50 {
		t.Errorf("only %d modules in common: this test has lost its object", same)
	}
}

// requirements returns the versions that a go.mod requires.
func requirements(t *testing.T, path string) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "mod", "edit", "-json", path).Output()
	if err != nil {
		t.Fatalf("go mod edit -json %s: %v", path, err)
	}
	var mod struct {
		Require []struct{ Path, Version string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, r := range mod.Require {
		versions[r.Path] = r.Version
	}
	return versions
}
