package backup

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// smallPacks open a repository whose snapshots lie in many packs.
func smallPacks(t *testing.T, b *mem.Bucket) *repo.Repository {
	t.Helper()
	r, err := repo.Open(t.Context(), b, repo.OpenOptions{Password: "x", Limits: repo.Limits{Pack: 300 << 10, Inline: 1 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// manyFiles makes a folder with contents of every place: in bundles, in chunks, in a map of chunks.
func manyFiles(t *testing.T) (folder string, want map[string][]byte) {
	t.Helper()
	folder, want = t.TempDir(), map[string][]byte{"middle": make([]byte, 500<<10), "large": make([]byte, 3<<20)}
	for i := range 200 {
		want[strings.Repeat("x", i+1)] = make([]byte, 3<<10)
	}
	random := rand.NewChaCha8([32]byte{1})
	for name, data := range want {
		_, _ = random.Read(data) // it never fails
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder, want
}

// readable compares the files of a snapshot with what they should be and returns how many can be read.
func readable(t *testing.T, r *repo.Repository, s *snapshot.Snapshot, want map[string][]byte) (n int, lost error) {
	t.Helper()
	v, err := s.Volume(t.Context(), "data")
	if err != nil {
		return 0, err
	}
	reader := content.NewReader(r)
	for e, err := range s.Files(v).Scan(t.Context(), tree.Range{}) {
		if err != nil {
			return n, err
		}
		_, refs, err := content.DecodeEntry(e)
		if err != nil || len(refs) == 0 {
			continue
		}
		data, err := reader.ReadAll(t.Context(), refs[0])
		if err != nil {
			lost = errors.Join(lost, err)
			continue
		}
		if !bytes.Equal(data, want[string(e.Key)]) {
			t.Fatalf("%q reads as %d other bytes", e.Key, len(data))
		}
		n++
	}
	return n, lost
}

// A backup of a source that still has what the repository has lost brings it back: for itself, and for
// the older snapshot of the same.
func TestNextBackupBringsBackLostFiles(t *testing.T) {
	l := newLab(t)
	whole := l.bucket.(*mem.Bucket)
	folder, want := manyFiles(t)
	plan := Plan{WithoutObjects: true, Volumes: []Volume{{"data", folder}}}
	l.Repository = smallPacks(t, whole)
	first := l.run(plan)
	kept := 0
	for name := range l.stored() {
		if !strings.HasPrefix(name, "packs/") {
			continue
		}
		b := whole.Clone()
		if err := b.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		l.Repository = smallPacks(t, b)
		if _, err := l.Repository.RepairPacks(t.Context(), repo.PacksOptions{}); err != nil {
			t.Fatal(err)
		}
		old, lostManifest := snapshot.Find(t.Context(), l.Repository, first.ID.String())
		if lostManifest == nil {
			if _, err := readable(t, l.Repository, old, want); !errors.Is(err, repo.ErrDamaged) {
				t.Errorf("without %s the snapshot reads with %v", name, err)
			}
		}
		second := l.run(plan)
		if second.Volumes[0].Files.Read < 200 {
			kept++ // not all had to be read
		}
		for _, s := range []*snapshot.Snapshot{old, l.load(second)} {
			if s == nil {
				continue
			}
			if n, err := readable(t, l.Repository, s, want); n != len(want) || err != nil {
				t.Errorf("without %s, after the next backup %s has %d of %d files, %v", name, s.ID, n, len(want), err)
			}
		}
		if third := l.run(plan); third.Volumes[0].Files.Read > 0 {
			t.Errorf("without %s, the backup after that reads %d files", name, third.Volumes[0].Files.Read)
		}
	}
	if kept == 0 {
		t.Error("every backup read all files again")
	}
}

func TestNextBackupBringsBackLostObjects(t *testing.T) {
	l := newLab(t)
	whole := l.bucket.(*mem.Bucket)
	f := fleet{
		resource: kube.Resource{Group: "apps", Version: "v1", Name: "deployments", Kind: "Deployment", Namespaced: true},
		revision: make([]int, 500),
	}
	l.Limits = repo.Limits{Pack: 100 << 10, Inline: 1 << 10}
	l.backup(f)
	f.revision[7]++
	l.backup(f)
	packs := 0
	for name := range l.stored() {
		if !strings.HasPrefix(name, "packs/") {
			continue
		}
		packs++
		b := whole.Clone()
		if err := b.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		l.bucket = b
		l.reopen()
		if _, err := l.Repository.RepairPacks(t.Context(), repo.PacksOptions{}); err != nil {
			t.Fatal(err)
		}
		l.backup(f)
		s, err := snapshot.Find(t.Context(), l.Repository, "latest")
		if err != nil {
			t.Fatal(err)
		}
		if losses, err := l.Repository.Losses(context.Background(), s.Ref()); err != nil || !losses.None() {
			t.Errorf("without %s, the next snapshot lacks %v, %v", name, losses.Blobs(), err)
		}
		recorded, err := s.Digests(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if anew := digest(t, l, s, l.Repository.DeriveKey("digest")); anew.Whole() != recorded.Whole() || s.Manifest.Objects.Count != 500 {
			t.Errorf("without %s, the next snapshot has %d objects, and they are not what its digest says", name, s.Manifest.Objects.Count)
		}
	}
	if packs < 3 {
		t.Errorf("there are %d packs", packs)
	}
}
