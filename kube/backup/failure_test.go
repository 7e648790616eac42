package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage/mem"
)

func TestFullStoreIsNamedOnce(t *testing.T) {
	l := newLab(t)
	full := errors.New("no space left")
	view := l.bucket.(*mem.Bucket).View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Create && strings.HasPrefix(op.Name, "packs/") {
			return mem.Fault{Err: full}
		}
		return mem.Fault{}
	})
	var err error
	if l.Repository, err = repo.Open(t.Context(), view, repo.OpenOptions{Password: "x"}); err != nil {
		t.Fatal(err)
	}
	folder, noise := t.TempDir(), make([]byte, 40<<20)
	_, _ = rand.Read(noise) // it never fails
	if err := os.WriteFile(filepath.Join(folder, "noise"), noise, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Run(t.Context(), l.Deps, Plan{WithoutObjects: true, Volumes: []Volume{{"data", folder}}})
	if !errors.Is(err, full) || strings.Count(err.Error(), full.Error()) != 1 {
		t.Errorf("error %v", err)
	}
}
