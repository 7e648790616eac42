package bench

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/dir"
	"github.com/varve-dev/varve/repo/storage/meter"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

var (
	snapshots = flag.Int("snapshots", 50, "snapshots of the volume")
	files     = flag.Int("files", 10_000, "files in the volume")
	changed   = flag.Int("changed", 100, "files that change between two snapshots")
	fileSize  = flag.Int("size", 20_000, "bytes in a file")
)

// volume is a volume whose files are made from numbers: that of the file and that of its version.
type volume struct {
	r      *repo.Repository
	parent tree.Root
	sparse []blob.Ref
	rng    *rand.Rand
}

func (v *volume) content(file, version int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], uint64(file))
	binary.LittleEndian.PutUint64(key[8:], uint64(version))
	data := make([]byte, *fileSize)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}

func key(file int) []byte { return fmt.Appendf(nil, "folder-%03d\x00file-%07d", file/1000, file) }

// backUp makes the next snapshot, in which some files have a new version and the others are kept unread.
func (v *volume) backUp(ctx context.Context, version int) error {
	w := v.r.NewWriter(ctx, repo.WriterOptions{})
	defer w.Close()
	asm := content.NewAssembler(w, content.Options{Key: v.r.DeriveKey, Loader: v.r, GiveUp: v.sparse})
	defer asm.Close()
	renewed := map[int]bool{}
	for version > 0 && len(renewed) < *changed {
		renewed[v.rng.IntN(*files)] = true
	}
	attrs := make([]byte, 60)
	add := func(file int, p content.Piece) error {
		return asm.Add(ctx, content.Item{Key: key(file), Attrs: attrs, Bytes: uint64(*fileSize), Contents: []content.Piece{p}})
	}
	fresh := func(file int) content.Piece {
		return content.Piece{Stream: "file", Class: blob.Data, Data: v.content(file, version)}
	}
	if version == 0 {
		for file := range *files {
			if err := add(file, fresh(file)); err != nil {
				return err
			}
		}
	} else {
		file := 0
		for e, err := range tree.Open(v.r, v.parent).Scan(ctx, tree.Range{}) {
			if err != nil {
				return err
			}
			_, kept, err := content.DecodeEntry(e)
			if err != nil {
				return err
			}
			p := content.Piece{Stream: "file", Class: blob.Data, Kept: &kept[0]}
			if renewed[file] {
				p = fresh(file)
			}
			if err := add(file, p); err != nil {
				return err
			}
			file++
		}
	}
	result, err := asm.Finish(ctx)
	if err != nil {
		return err
	}
	v.parent, v.sparse = result.Root, result.Sparse
	c := repo.Commit{ID: journal.NewSnapshotID(), Started: time.Now()}
	for _, l := range v.r.Snapshots() {
		c.Inherits = []journal.SnapshotID{l.ID}
	}
	c.Manifest, err = w.WriteNode(ctx, blob.Manifest, blob.Node{Links: []blob.Ref{result.Root.Ref}, Body: c.ID[:]})
	if err != nil {
		return err
	}
	_, err = w.Commit(ctx, c)
	return err
}

// BenchmarkPruneAfterForgettingHalf prunes a repository of which every second snapshot was forgotten, twice, and
// reports what the process held beyond what it held before.
func BenchmarkPruneAfterForgettingHalf(b *testing.B) {
	ctx := b.Context()
	folder, err := dir.Open(b.TempDir(), dir.Options{})
	if err != nil {
		b.Fatal(err)
	}
	bucket := meter.New(folder)
	const password = "a password of a benchmark"
	if _, err := repo.Init(ctx, bucket, repo.InitOptions{Password: password, PasswordWork: 1}); err != nil {
		b.Fatal(err)
	}
	cache := b.TempDir()
	open := func() *repo.Repository {
		r, err := repo.Open(ctx, bucket, repo.OpenOptions{Password: password, CacheDir: cache})
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	v := &volume{r: open(), rng: rand.New(rand.NewPCG(1, 2))}
	for version := range *snapshots {
		if err := v.backUp(ctx, version); err != nil {
			b.Fatal(err)
		}
	}
	before := v.r.Info()
	if _, err := v.r.Forget(ctx, everySecond); err != nil {
		b.Fatal(err)
	}
	v = nil
	for b.Loop() {
		for i := range 2 {
			held := watchHeap()
			asked := bucket.Counts()
			started := time.Now()
			report, err := open().Prune(ctx, repo.PruneOptions{MaxDrop: 1})
			if err != nil {
				b.Fatal(err)
			}
			b.Logf("prune %d: %d packs of %d MiB before; %.1f s, %.1f MiB held at most beyond the start; %+v",
				i+1, before.Packs, before.PackBytes>>20, time.Since(started).Seconds(), float64(held())/(1<<20), report)
			logRequests(b, bucket.Counts().Sub(asked))
		}
	}
}

// logRequests tells what a store was asked, and what it would have taken for that.
func logRequests(b *testing.B, c meter.Counts) {
	for _, p := range meter.KnownPrices() {
		b.Logf("%d requests, %.1f MiB up, %.1f MiB down: %.6f %s by the prices of %s",
			c.Requests(), float64(c.BytesUp)/(1<<20), float64(c.BytesDown)/(1<<20), p.Requests(c), p.Currency, p.Name)
	}
}

func everySecond(live []journal.Live) (half []journal.Forget) {
	for i, l := range live {
		if i%2 == 0 {
			half = append(half, journal.Forget{ID: l.ID, Why: "every second one"})
		}
	}
	return half
}

// watchHeap samples the heap until the returned function is called, which returns the most that was held beyond the
// start.
func watchHeap() (most func() uint64) {
	debug.FreeOSMemory()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	start := read()
	peak := start
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, read())
			case <-stop:
				return
			}
		}
	}()
	return func() uint64 {
		close(stop)
		<-stopped
		return peak - start
	}
}
