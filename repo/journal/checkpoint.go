package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// CheckpointFolder is where checkpoints lie in a bucket. A checkpoint is the encoded state, padded
// with zeros to a Padmé size and sealed under the catalog key by its number.
const CheckpointFolder = "checkpoints/"

// MaxCheckpoint bounds a stored checkpoint in bytes; 100,000 packs and as many snapshots need a tenth.
const MaxCheckpoint = 256 << 20

// Whoever can write to the bucket can plant any number of checkpoints of any size. So one that is large is
// only read when an entry tells its size, and after some that are of no use a reader does without.
const (
	maxUntold = 16 << 20 // bytes of a checkpoint that is read, whatever entries say
	maxSpoilt = 8        // checkpoints that are of no use

	// maxBehind is how many entries are looked at for one that vouches for a checkpoint: the first after it
	// does, unless its writer has lost races.
	maxBehind = 8
)

// CheckpointName returns the object name of the checkpoint after next entries.
func CheckpointName(next uint64) string { return CheckpointFolder + sealName(next) }

// WriteCheckpoint stores a state as a checkpoint and returns what an entry says to vouch for it. The
// encoding is deterministic, so one that was left by a writer that crashed is the same, and is taken.
func WriteCheckpoint(ctx context.Context, b storage.Bucket, keys *seal.Keys, s *State) (Vouched, error) {
	plain, err := s.Encode()
	if err != nil {
		return Vouched{}, err
	}
	bare := len(plain) + seal.Overhead
	data := keys.SealCatalog(seal.Checkpoint, sealName(s.Next), append(plain, make([]byte, seal.Padded(bare)-bare)...))
	if len(data) > MaxCheckpoint {
		return Vouched{}, fmt.Errorf("write checkpoint %d: %d bytes are more than %d", s.Next, len(data), MaxCheckpoint)
	}
	v := Vouched{Next: s.Next, Hash: seal.HashOf(data), Size: int64(len(data))}
	err = b.Create(ctx, CheckpointName(s.Next), data)
	if errors.Is(err, storage.ErrExists) {
		_, err = ReadCheckpoint(ctx, b, keys, v)
	}
	if err != nil {
		return Vouched{}, fmt.Errorf("write checkpoint %d: %w", s.Next, err)
	}
	return v, nil
}

// ReadCheckpoint reads the state of a checkpoint that an entry vouches for.
func ReadCheckpoint(ctx context.Context, b storage.Bucket, keys *seal.Keys, v Vouched) (*State, error) {
	s, got, err := readCheckpoint(ctx, b, keys, v.Next, v.Size)
	if err != nil {
		return nil, err
	}
	if got != v {
		return nil, fmt.Errorf("checkpoint %d is not the one that was vouched for: %w", v.Next, ErrDamaged)
	}
	return s, nil
}

// ProveCheckpoint opens the checkpoint after next entries, whoever vouches for it or nobody, and returns
// what an entry must say to do so. Whose rules its state follows does not matter.
func ProveCheckpoint(ctx context.Context, b storage.Bucket, keys *seal.Keys, next uint64) (Vouched, error) {
	_, v, err := openCheckpoint(ctx, b, keys, next, MaxCheckpoint)
	return v, err
}

// ParseCheckpointName returns the number in an object name that [CheckpointName] made.
func ParseCheckpointName(name string) (next uint64, ok bool) {
	number, found := strings.CutPrefix(name, CheckpointFolder)
	if !found {
		return 0, false
	}
	return ParseName(Folder + number)
}

// FindCheckpoint returns the state of the newest checkpoint below a number that opens, and what an
// entry must say to vouch for it; an empty state when there is none. Until such an entry has been
// folded, the state is only a hint (see [Journal.Vouches]).
func FindCheckpoint(ctx context.Context, b storage.Bucket, keys *seal.Keys, below uint64) (*State, Vouched, error) {
	newest, err := newestCheckpoints(ctx, b, below)
	if err != nil {
		return nil, Vouched{}, err
	}
	for _, c := range slices.Backward(newest) {
		most := int64(maxUntold)
		if c.size > most {
			if most, err = toldSize(ctx, b, keys, c.next); err != nil {
				return nil, Vouched{}, err
			}
		}
		if c.size > most {
			continue
		}
		s, v, err := readCheckpoint(ctx, b, keys, c.next, most)
		if err == nil {
			return s, v, nil
		}
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrRules) && !errors.Is(err, storage.ErrNotFound) {
			return nil, Vouched{}, err
		}
	}
	return new(State), Vouched{}, nil
}

// listedCheckpoint is a checkpoint as a list shows it.
type listedCheckpoint struct {
	next uint64
	size int64 // in bytes
}

// newestCheckpoints lists the last maxSpoilt checkpoints below a number, in ascending order.
func newestCheckpoints(ctx context.Context, b storage.Bucket, below uint64) (newest []listedCheckpoint, err error) {
	for info, err := range b.List(ctx, CheckpointFolder, "") {
		if err != nil {
			return nil, fmt.Errorf("list checkpoints: %w", err)
		}
		next, ok := ParseCheckpointName(info.Name)
		if !ok || next >= below {
			continue
		}
		if len(newest) == maxSpoilt {
			newest = slices.Delete(newest, 0, 1)
		}
		newest = append(newest, listedCheckpoint{next, info.Size})
	}
	return newest, nil
}

// toldSize returns the size of a checkpoint in bytes by the entry that vouches for it; 0 if none of those
// that come into question does.
func toldSize(ctx context.Context, b storage.Bucket, keys *seal.Keys, next uint64) (int64, error) {
	j := New(b, keys, new(State))
	for n := next; n < next+maxBehind; n++ {
		e, err := j.read(ctx, n)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			return 0, nil
		case errors.Is(err, ErrDamaged) || errors.Is(err, ErrVersion): // which is for the fold to say
		case err != nil:
			return 0, err
		case e.Checkpoint != nil && e.Checkpoint.Next == next:
			return e.Checkpoint.Size, nil
		}
	}
	return 0, nil
}

// Vouches reports whether the fold has met an entry that vouches for exactly this checkpoint, or a
// later one, which continues it.
func (j *Journal) Vouches(v Vouched) (yes bool) {
	j.View(func(s *State) { yes = s.Checkpoint == v || s.Checkpoint.Next > v.Next })
	return yes
}

func readCheckpoint(ctx context.Context, b storage.Bucket, keys *seal.Keys, next uint64, most int64) (*State, Vouched, error) {
	plain, v, err := openCheckpoint(ctx, b, keys, next, most)
	if err != nil {
		return nil, Vouched{}, err
	}
	s, err := DecodeState(plain)
	if err != nil {
		return nil, Vouched{}, fmt.Errorf("checkpoint %d: %w", next, err)
	}
	if s.Next != next {
		return nil, Vouched{}, fmt.Errorf("checkpoint %d holds a state of %d entries: %w", next, s.Next, ErrDamaged)
	}
	return s, v, nil
}

// openCheckpoint reads a checkpoint of at most so many bytes.
func openCheckpoint(ctx context.Context, b storage.Bucket, keys *seal.Keys, next uint64, most int64) (plain []byte, v Vouched, err error) {
	most = min(most, MaxCheckpoint)
	data, err := b.Get(ctx, CheckpointName(next), 0, most+1)
	if err != nil {
		return nil, Vouched{}, fmt.Errorf("read checkpoint %d: %w", next, err)
	}
	if int64(len(data)) > most {
		return nil, Vouched{}, fmt.Errorf("checkpoint %d is larger than %d bytes: %w", next, most, ErrDamaged)
	}
	if plain, err = keys.OpenCatalog(seal.Checkpoint, sealName(next), data); err != nil {
		return nil, Vouched{}, fmt.Errorf("checkpoint %d: %w: %w", next, ErrDamaged, err)
	}
	return plain, Vouched{Next: next, Hash: seal.HashOf(data), Size: int64(len(data))}, nil
}
