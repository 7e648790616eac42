package backup

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/snapshot"
)

// emptyFiles makes a folder of 8000 files. Their nodes are more than one request fetches, and lie in several packs.
func emptyFiles(t *testing.T) (folder string) {
	folder = t.TempDir()
	for i := range 8000 {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, i)))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// A parent that is forgotten and pruned while a backup compares with it is no damage: the backup begins
// again without it.
func TestParentForgottenMeanwhileIsNoDamage(t *testing.T) {
	l := newLab(t)
	folder := emptyFiles(t)
	l.Repository = smallPacks(t, l.bucket.(*mem.Bucket))
	plan := Plan{WithoutObjects: true, Volumes: []Volume{{"data", folder}}}
	first := l.run(plan)
	l.Repository = smallPacks(t, l.bucket.(*mem.Bucket)) // which has read nothing yet
	gone := false
	l.Progress = func(p Progress) {
		if p.Stage != "volume" || gone {
			return
		}
		gone = true
		other := smallPacks(t, l.bucket.(*mem.Bucket))
		if _, err := other.Forget(t.Context(), func([]journal.Live) []journal.Forget { return []journal.Forget{{ID: first.ID}} }); err != nil {
			t.Error(err)
		}
		for range 2 {
			if _, err := other.Prune(t.Context(), repo.PruneOptions{MaxDrop: 1}); err != nil {
				t.Error(err)
			}
		}
	}
	second := l.run(plan)
	if !gone || second.Parent != "" || second.Volumes[0].Files.Files != 8000 {
		t.Errorf("forgotten %t, then a backup of %d files with parent %q", gone, second.Volumes[0].Files.Files, second.Parent)
	}
}

// A parent that is damaged, of which nobody knows yet, does not keep backups from being made: they go on without
// it, store again what they could not read, and say so.
func TestBackupGoesOnWithoutADamagedParent(t *testing.T) {
	l := newLab(t)
	whole := l.bucket.(*mem.Bucket)
	folder := emptyFiles(t)
	plan := Plan{WithoutObjects: true, Volumes: []Volume{{"data", folder}}}
	l.Repository = smallPacks(t, whole)
	l.run(plan)
	without := 0
	for name := range l.stored() {
		if !strings.HasPrefix(name, "packs/") {
			continue
		}
		b := whole.Clone()
		if err := b.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		l.Repository = smallPacks(t, b)
		second := l.run(plan)
		if len(second.Results) == 0 {
			continue // it needed nothing of that pack, or could not even read the parent's manifest
		}
		without++
		if r := second.Results[0]; r.Severity != snapshot.Warning || !strings.Contains(r.Message, "repo check") || second.Parent != "" || !second.Complete() {
			t.Errorf("without %s: %+v, built on %q", name, r, second.Parent)
		}
		l.Repository = smallPacks(t, b)
		if _, err := readable(t, l.Repository, l.load(second), nil); err != nil || second.Volumes[0].Files.Files != 8000 {
			t.Errorf("without %s the next backup has %d files, and reads with %v", name, second.Volumes[0].Files.Files, err)
		}
		if third := l.run(plan); len(third.Results) > 0 || third.Parent == "" {
			t.Errorf("without %s the backup after that says %+v", name, third.Results)
		}
	}
	if without == 0 {
		t.Error("no backup met the damage")
	}
}
