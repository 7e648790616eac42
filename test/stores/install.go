package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// The packages of npm, with the hash of each.
var (
	//go:embed azurite/package.json
	packages []byte
	//go:embed azurite/package-lock.json
	locked []byte
)

// goServers are the servers in Go: the names of their programs, and their packages.
var goServers = []string{"github.com/versity/versitygw/cmd/versitygw", "github.com/fsouza/fake-gcs-server"}

// programs are where the servers are installed.
type programs struct{ versitygw, fakeGCS, azurite string }

// install brings the servers into the user's cache, as far as they are not there.
func install(ctx context.Context) (programs, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return programs{}, err
	}
	dir := filepath.Join(cache, "varve-test", "stores")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return programs{}, err
	}
	unlock, err := lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return programs{}, err
	}
	defer unlock()
	if err := buildServers(ctx, dir); err != nil {
		return programs{}, err
	}
	azurite, err := installAzurite(ctx, dir)
	if err != nil {
		return programs{}, err
	}
	return programs{versitygw: filepath.Join(dir, "versitygw"), fakeGCS: filepath.Join(dir, "fake-gcs-server"), azurite: azurite}, nil
}

// buildServers always asks Go, which knows best whether something has changed.
func buildServers(ctx context.Context, dir string) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env GOMOD: %w", err)
	}
	module := filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "stores", "servers")
	if _, err := os.Stat(module); err != nil {
		return fmt.Errorf("start it in the folder test: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "versitygw")); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintln(os.Stderr, "stores: building versitygw and fake-gcs-server, once; this takes some minutes")
	}
	build := exec.CommandContext(ctx, "nice", append([]string{"go", "build", "-o", dir + string(filepath.Separator)}, goServers...)...)
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the servers: %w\n%s", err, out)
	}
	return nil
}

// installAzurite fills a folder that is named by the hash of what decides its contents, and gives it that
// name when it is complete.
func installAzurite(ctx context.Context, dir string) (program string, err error) {
	sum := sha256.Sum256(append(bytes.Clone(packages), locked...))
	place := filepath.Join(dir, fmt.Sprintf("azurite-%x", sum[:6]))
	program = filepath.Join(place, "node_modules", ".bin", "azurite-blob")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Fprintln(os.Stderr, "stores: installing Azurite, once; this takes a minute")
	next := place + ".installing"
	if err := os.RemoveAll(next); err != nil { // of an installation that was killed
		return "", err
	}
	if err := os.Mkdir(next, 0o755); err != nil {
		return "", err
	}
	defer os.RemoveAll(next)
	for name, content := range map[string][]byte{"package.json": packages, "package-lock.json": locked} {
		if err := os.WriteFile(filepath.Join(next, name), content, 0o644); err != nil {
			return "", err
		}
	}
	// No scripts of packages run at installation: Azurite needs none.
	npm := exec.CommandContext(ctx, "nice", "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = next
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return program, os.Rename(next, place)
}

// lock waits until no other call installs. The lock falls with the process.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
