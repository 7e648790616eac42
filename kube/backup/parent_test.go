package backup

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// A parent that is forgotten and pruned while a backup compares with it is no damage: the backup begins
// again without it.
func TestParentForgottenMeanwhileIsNoDamage(t *testing.T) {
	l := newLab(t)
	folder := t.TempDir()
	for i := range 8000 { // their nodes are more than one request fetches
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, i)))), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
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
