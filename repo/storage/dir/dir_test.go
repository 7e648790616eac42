package dir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

func TestStorage(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket { return newBucket(t) })
}

func TestStorageBehindSymlink(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		b := newBucket(t)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(b.root, link); err != nil {
			t.Fatal(err)
		}
		linked, err := Open(link, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return linked
	})
}

func newBucket(t *testing.T) *Bucket {
	t.Helper()
	b, err := Open(filepath.Join(t.TempDir(), "bucket"), Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return b
}
