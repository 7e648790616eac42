package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// buildKube fills a new directory beside dir and gives it the name dir when it is complete.
// The caller holds the lock.
func buildKube(ctx context.Context, r recipe, dir string) error {
	next := dir + ".building"
	if err := os.RemoveAll(next); err != nil { // of a build that was killed
		return err
	}
	if err := os.Mkdir(next, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(next)
	if err := compile(ctx, r, filepath.Join(next, "kube")); err != nil {
		return err
	}
	for _, name := range programs {
		if err := os.Symlink("kube", filepath.Join(next, name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(next, "stamp"), []byte(r.hash), 0o644); err != nil {
		return err
	}
	return os.Rename(next, dir)
}

// compile builds ./kube and shows how far it is.
func compile(ctx context.Context, r recipe, out string) error {
	p := startProgress(fmt.Sprintf("building %s %s", strings.Join(programs, ", "), r.version))
	defer p.end()
	total, err := countPackages(ctx, r, p)
	if err != nil {
		return err
	}
	p.set(0, total, "packages")
	args := append([]string{"build", "-v", "-o", out}, r.flags...)
	done := 0
	p.set(done, total, "packages")
	return runGo(ctx, r, append(args, "./kube"), nil, func(line string) bool {
		if strings.Contains(line, " ") || line == "" { // a compiler's or the linker's words
			return false
		}
		done++
		p.set(done, total, "packages")
		return true
	})
}

// countPackages returns how many packages kube consists of that are not in Go's build cache yet. As a side
// effect the modules are downloaded.
func countPackages(ctx context.Context, r recipe, p *progress) (int, error) {
	downloads := 0
	var list bytes.Buffer
	args := append([]string{"list", "-deps", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"}, r.flags...)
	err := runGo(ctx, r, append(args, "./kube"), &list, func(line string) bool {
		if !strings.HasPrefix(line, "go: downloading ") {
			return false
		}
		downloads++
		p.set(downloads, 0, "modules downloaded")
		return true
	})
	return bytes.Count(list.Bytes(), []byte("\n")), err
}

// buildCommand puts the command controlplane into dir. It always asks Go, which knows best whether
// the source has changed; when it has not, this takes a fraction of a second.
func buildCommand(ctx context.Context, r recipe, dir string) error {
	next := filepath.Join(dir, ".controlplane")
	args := append([]string{"build", "-o", next}, r.flags...)
	if err := runGo(ctx, r, append(args, "./cmd/controlplane"), nil, nil); err != nil {
		return fmt.Errorf("build the command controlplane: %w", err)
	}
	return os.Rename(next, filepath.Join(dir, "controlplane"))
}

// runGo runs the go command in the module. Each line of its standard error goes to took; lines that
// it does not take explain a failure and are part of the error.
func runGo(ctx context.Context, r recipe, args []string, stdout io.Writer, took func(line string) bool) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env, cmd.Stdout = r.module, environment(), stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var rest []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if took == nil || !took(lines.Text()) {
			rest = append(rest, lines.Text())
		}
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("go %s: %w\n%s", args[0], err, strings.Join(rest, "\n"))
	}
	return nil
}
