package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/varve-dev/varve/test/api"
)

// repository returns the folder of the repository.
func (d *demo) repository() string { return filepath.Join(d.dir, "repository") }

// command runs varve on the repository and returns what it printed.
func (d *demo) command(ctx context.Context, args ...string) ([]byte, error) {
	fmt.Println("\n$ varve " + strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.varve, args...)
	cmd.Env = append(os.Environ(),
		"VARVE_REPOSITORY=dir://"+d.repository(),
		"XDG_STATE_HOME="+filepath.Join(d.dir, "state"),
		"VARVE_PASSWORD_FILE="+filepath.Join(d.dir, "password"),
		"KUBECONFIG="+d.kubeconfig)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("varve %s: %w\n%s", args[0], err, out.Bytes())
	}
	return out.Bytes(), nil
}

// initialize makes the repository.
func (d *demo) initialize(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(d.dir, "password"), []byte("correct horse battery staple\n"), 0o600); err != nil {
		return err
	}
	_, err := d.command(ctx, "repo", "init")
	return err
}

// An account is what `varve backup create -o json` tells of a backup, as far as it is shown here.
type account struct {
	Objects  int64
	Files    int64
	Requests int64
	Bytes    struct{ Read, New, Stored int64 }
}

// backup takes a backup and prints what it cost.
func (d *demo) backup(ctx context.Context, name string) error {
	countBefore, sizeBefore, err := stored(d.repository())
	if err != nil {
		return err
	}
	started := time.Now()
	out, err := d.command(ctx, "backup", "create", name, "--volume", "data="+d.volume, "-o", "json")
	if err != nil {
		return err
	}
	took := time.Since(started)
	var a account
	if err := json.Unmarshal(out, &a); err != nil {
		return fmt.Errorf("varve backup create -o json printed %.200q: %w", out, err)
	}
	count, size, err := stored(d.repository())
	if err != nil {
		return err
	}
	grown := size - sizeBefore
	say("backup %q took %v", name, took.Round(10*time.Millisecond))
	fmt.Printf("    %-22s %d objects, %d files\n", "read", a.Objects, a.Files)
	fmt.Printf("    %-22s %s read, %s of them new, %s stored\n", "bytes", mib(a.Bytes.Read), mib(a.Bytes.New), mib(a.Bytes.Stored))
	fmt.Printf("    %-22s %d requests\n", "store", a.Requests)
	fmt.Printf("    %-22s %d more objects, %s more\n", "seen in the repository", count-countBefore, mib(grown))
	if grown > 0 {
		fmt.Printf("    %-22s 1 : %.2f\n", "ratio", float64(a.Bytes.Read)/float64(grown))
	}
	return nil
}

// stored counts the files and bytes in the repository's folder.
func stored(dir string) (count int, size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		count++
		size += info.Size()
		return nil
	})
	return count, size, err
}

// mib prints a number of bytes.
func mib(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// lose deletes two namespaces, a part of the files, and spoils one file more.
func (d *demo) lose(ctx context.Context) error {
	for _, name := range []string{lostNamespace, movedNamespace} {
		if err := d.client.Do(ctx, http.MethodDelete, "/api/v1/namespaces/"+name, nil, nil); err != nil {
			return err
		}
	}
	for _, name := range []string{"logs/api", "documents/03", "database", "odd", "src/node_modules"} {
		if err := removeAll(filepath.Join(d.volume, name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(d.volume, "archive/export.csv"), []byte("ransom\n"), 0o600); err != nil {
		return err
	}
	for _, name := range []string{lostNamespace, movedNamespace} {
		if err := d.awaitGone(ctx, name); err != nil {
			return err
		}
	}
	files, err := readFiles(d.volume)
	if err != nil {
		return err
	}
	say("lost the namespaces %s and %s, and all files but %d", lostNamespace, movedNamespace, len(files))
	return nil
}

// awaitGone waits until a deleted namespace has gone with all it had.
func (d *demo) awaitGone(ctx context.Context, namespace string) error {
	for deadline := time.Now().Add(2 * time.Minute); ; {
		err := d.client.Do(ctx, http.MethodGet, "/api/v1/namespaces/"+namespace, nil, nil)
		if status := new(api.StatusError); errors.As(err, &status) && status.Code == http.StatusNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("namespace %s is still there two minutes after its deletion", namespace)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// restore brings back what was lost.
func (d *demo) restore(ctx context.Context, backup string) error {
	for _, args := range [][]string{
		{"--include-namespaces", lostNamespace},
		{"--include-namespaces", movedNamespace, "--namespace-mappings", movedNamespace + ":" + movedTo},
		{"--objects", "none", "--volume", "data=" + d.volume, "--files-policy", "overwrite"},
	} {
		started := time.Now()
		out, err := d.command(ctx, append([]string{"restore", "create", "--from-backup", backup}, args...)...)
		if err != nil {
			return err
		}
		fmt.Print(string(out))
		say("restored in %s", since(started))
	}
	return nil
}

// check reads the whole repository again.
func (d *demo) check(ctx context.Context) error {
	started := time.Now()
	out, err := d.command(ctx, "repo", "check", "--read-data")
	if err != nil {
		return err
	}
	fmt.Print(string(out))
	say("checked in %s", since(started))
	return nil
}
