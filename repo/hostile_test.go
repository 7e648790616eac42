package repo

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// toll counts what opening asks of a bucket.
type toll struct {
	mu    sync.Mutex
	reads int   // requests for objects
	most  int64 // bytes asked for at once
}

// of counts the reads of objects under a prefix.
func (c *toll) of(b *mem.Bucket, prefix string) storage.Bucket {
	return b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Get && strings.HasPrefix(op.Name, prefix) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.reads++
			c.most = max(c.most, op.Length)
		}
		return mem.Fault{}
	})
}

// Whoever can write to the bucket can put anything there. Checkpoints only save time, so planted ones
// cost a few requests and keep nobody from the repository.
func TestPlantedCheckpointsCostAtMostSoMuch(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	r := visit(t, b, OpenOptions{Limits: Limits{Checkpoint: 5}})
	for i := range uint64(8) {
		backup(t, r, noise(i, 10))
	}
	whole := r.Info()
	for i := range uint64(200) {
		plant(t, b, journal.CheckpointName(1<<40+i), noise(i, 1000))
	}
	var c toll
	opened := visit(t, c.of(b, journal.CheckpointFolder), OpenOptions{})
	if got := opened.Info(); got != whole {
		t.Errorf("opens as %+v, want %+v", got, whole)
	}
	if c.reads > 10 {
		t.Errorf("%d planted checkpoints were read", c.reads)
	}
	mustBeReadable(t, opened)
}

func mustBeReadable(t *testing.T, r *Repository) {
	t.Helper()
	backup(t, r, []byte("onward"))
	if len(r.Snapshots()) != 9 {
		t.Errorf("%d snapshots, want 9", len(r.Snapshots()))
	}
}

func TestHugeHeaderIsNotRead(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	if err := b.Put(headerName, noise(1, 1<<20)); err != nil {
		t.Fatal(err)
	}
	var c toll
	_, err := Open(context.Background(), c.of(b, headerName), OpenOptions{Password: password})
	if !errors.Is(err, ErrDamaged) || c.reads > 1 || c.most > maxHeader+1 {
		t.Errorf("%v after %d reads of up to %d bytes, want ErrDamaged after one of %d", err, c.reads, c.most, maxHeader+1)
	}
}

// Entries far ahead are a hole in the journal, however many of them somebody plants.
func TestPlantedEntriesCostAtMostSoMuch(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	for i := range uint64(500) {
		plant(t, b, journal.Name(1000+i), noise(i, 100))
	}
	var c toll
	_, err := Open(context.Background(), c.of(b, journal.Folder), OpenOptions{Password: password})
	if !errors.Is(err, journal.ErrGap) || c.reads > 8 {
		t.Errorf("%v after %d reads, want ErrGap after a few", err, c.reads)
	}
}
