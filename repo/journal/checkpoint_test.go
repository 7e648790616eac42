package journal

import (
	"context"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// checkpointReads adds up the bytes of checkpoints that are read.
func checkpointReads(b *mem.Bucket, read *atomic.Int64) storage.Bucket {
	return b.View(func(ctx context.Context, op mem.Op) mem.Fault {
		if info, err := b.Stat(ctx, op.Name); op.Kind == mem.Get && strings.HasPrefix(op.Name, CheckpointFolder) && err == nil {
			read.Add(min(op.Length, info.Size))
		}
		return mem.Fault{}
	})
}

// stateOf returns a state of so many entries and packs.
func stateOf(entries uint64, packs int) *State {
	s := &State{Next: entries, Rules: rules}
	for n := range packs {
		s.Packs = append(s.Packs, Pack{Name: seal.HashOf([]byte{byte(n), byte(n >> 8), byte(n >> 16)}), Size: 32 << 20, Entry: 1})
	}
	return s
}

// vouch puts an entry that vouches at number n, as somebody who has folded those before would.
func vouch(t *testing.T, b storage.Bucket, n uint64, v Vouched) {
	t.Helper()
	data, err := encode(testKeys(), &Entry{Seq: n, Prev: blob.Hash{1}, Tx: NewTxID(), Checkpoint: &v}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(context.Background(), Name(n), data); err != nil {
		t.Fatal(err)
	}
}

func TestPlantedCheckpointsCostAtMostSoMuch(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	honest, err := WriteCheckpoint(ctx, b, testKeys(), stateOf(1000, 10))
	if err != nil {
		t.Fatal(err)
	}
	large := make([]byte, maxUntold+1)
	for _, next := range []uint64{1001, 5000, math.MaxUint64} {
		if err := b.Create(ctx, CheckpointName(next), large); err != nil {
			t.Fatal(err)
		}
	}
	vouch(t, b, 1001, Vouched{Next: 1000, Size: maxUntold + 1}) // for another one
	var read atomic.Int64
	s, v, err := FindCheckpoint(ctx, checkpointReads(b, &read), testKeys(), math.MaxUint64)
	if err != nil || v != honest || s.Next != 1000 {
		t.Errorf("beside large ones that are planted %+v was found, %v; want %+v", v, err, honest)
	}
	if read.Load() > honest.Size {
		t.Errorf("%d bytes of checkpoints were read; the honest one has %d", read.Load(), honest.Size)
	}
	for n := range uint64(3 * maxSpoilt) {
		if err := b.Create(ctx, CheckpointName(2000+n), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	read.Store(0)
	if s, _, err := FindCheckpoint(ctx, checkpointReads(b, &read), testKeys(), math.MaxUint64); err != nil || s.Next != 0 {
		t.Errorf("behind many that are planted one of %d entries was found, %v; want none", s.Next, err)
	}
	if read.Load() > maxSpoilt*1000 {
		t.Errorf("%d bytes of planted checkpoints were read", read.Load())
	}
}

func TestLargeCheckpointIsReadWhenAnEntryTellsItsSize(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	s := stateOf(1000, 200)
	for i := range s.Packs {
		s.Packs[i].Rows = make([]byte, 100_000)
	}
	v, err := WriteCheckpoint(ctx, b, testKeys(), s)
	if err != nil || v.Size <= maxUntold {
		t.Fatalf("a checkpoint of %d bytes, %v; want one that is large", v.Size, err)
	}
	if _, found, err := FindCheckpoint(ctx, b, testKeys(), math.MaxUint64); err != nil || found.Next != 0 {
		t.Errorf("without an entry that vouches %+v was found, %v", found, err)
	}
	vouch(t, b, 1000, Vouched{Next: 900, Size: 1}) // who was faster
	vouch(t, b, 1001, v)
	if back, found, err := FindCheckpoint(ctx, b, testKeys(), math.MaxUint64); err != nil || found != v || len(back.Packs) != len(s.Packs) {
		t.Errorf("%+v was found, %v; want %+v", found, err, v)
	}
}

// What stands at the name of a checkpoint that is to be stored is compared, which takes no more than that
// one has.
func TestCheckpointIsComparedWithWhatStandsAtItsName(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	if err := b.Create(ctx, CheckpointName(1000), make([]byte, maxUntold)); err != nil {
		t.Fatal(err)
	}
	var read atomic.Int64
	_, err := WriteCheckpoint(ctx, checkpointReads(b, &read), testKeys(), stateOf(1000, 10))
	if err == nil || read.Load() > 10_000 {
		t.Errorf("beside a planted one: %v, and %d bytes of it were read", err, read.Load())
	}
}
