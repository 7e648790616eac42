// Command assets builds the programs of a real Kubernetes control plane, once, and prints the
// directory that holds them.
//
//	cd test && go run ./assets
//
// The directory is
//
//	$XDG_CACHE_HOME/varve-test/kube-<Kubernetes version>-<hash>/     (or ~/.cache/varve-test/…)
//	    kube                      the binary of ./kube
//	    etcd, kubectl, kube-…     links to it
//	    controlplane              the command of ./cmd/controlplane
//
// where the hash is over everything that decides what kube becomes: versions, checksums, source, flags
// and Go itself. A link `current` beside it names the directory that was asked for last, for readers
// that cannot compute the hash. VARVE_TEST_ASSETS names another directory for all of this.
//
// The first call compiles Kubernetes, about ten minutes of one core, and shows how far it is. Later
// calls return at once. Calls at the same time wait for each other, and a call that dies leaves
// nothing that the next one would mistake for a result.
//
// It imports the standard library only, so that starting it compiles and downloads nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// programs are the names that kube answers to.
var programs = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := prepare(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "assets:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}

// prepare returns the directory with the programs in it, and builds what is missing.
func prepare(ctx context.Context) (string, error) {
	module, err := moduleDir(ctx)
	if err != nil {
		return "", err
	}
	r, err := readRecipe(ctx, module)
	if err != nil {
		return "", err
	}
	dir, err := place(r)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()

	switch stamp, err := os.ReadFile(filepath.Join(dir, "stamp")); {
	case errors.Is(err, fs.ErrNotExist):
		if err := buildKube(ctx, r, dir); err != nil {
			return "", fmt.Errorf("build the control plane: %w", err)
		}
	case err != nil:
		return "", err
	case string(stamp) != r.hash:
		return "", fmt.Errorf("%s holds programs of another recipe; remove it or unset %s", dir, override)
	}
	if err := buildCommand(ctx, r, dir); err != nil {
		return "", err
	}
	if os.Getenv(override) != "" {
		return dir, nil
	}
	return dir, pointCurrent(dir)
}

// moduleDir is the directory of test/go.mod, which is the module this command was started in.
func moduleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	dir := filepath.Dir(strings.TrimSpace(string(out)))
	if _, err := os.Stat(filepath.Join(dir, "kube", "main.go")); err != nil {
		return "", fmt.Errorf("start it in the folder test: %w", err)
	}
	return dir, nil
}

// override is the variable that names another directory.
const override = "VARVE_TEST_ASSETS"

// place is where the programs of a recipe belong.
func place(r recipe) (string, error) {
	if dir := os.Getenv(override); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "varve-test", "kube-"+r.version+"-"+r.hash), nil
}

// lock waits until no other call works beside this one. The lock falls with the process.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		fmt.Fprintln(os.Stderr, "waiting for another build of the control plane to end")
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
	return func() { f.Close() }, nil
}

// pointCurrent makes the link `current` beside dir name it.
func pointCurrent(dir string) error {
	link := filepath.Join(filepath.Dir(dir), "current")
	if target, err := os.Readlink(link); err == nil && target == filepath.Base(dir) {
		return nil
	}
	next := link + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Base(dir), next); err != nil {
		return err
	}
	return os.Rename(next, link)
}
