package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/storage"
)

const (
	fresh      = 8 // how many objects are read right after they were written
	rangeBytes = 64<<10 + 7
	largeBytes = 32 << 20 // a pack
	pieceBytes = 4 << 20  // in which that is read back
)

// reads reads objects right after they were written, half of them after they had been looked for in vain.
func (p *prober) reads(ctx context.Context) (string, error) {
	for i := range 2 * fresh {
		name, data, missed := fmt.Sprintf("%sread/%d", p.folder, i), written(i, raceBytes), i%2 == 1
		if missed {
			if err := p.wantAbsent(ctx, name); err != nil {
				return "", err
			}
		}
		if err := p.create(ctx, name, data); err != nil {
			return "", err
		}
		err := p.wantObject(ctx, name, data)
		if f, flawed := errors.AsType[*flaw](err); flawed && f.fault == StaleReads && missed {
			return "", seen(CachedAbsence, "an object that was looked for before it was created is not found after it")
		}
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d objects were read right after they were written, some of which had been looked for before", 2*fresh), nil
}

// wantAbsent asks in both ways for an object that is not there.
func (p *prober) wantAbsent(ctx context.Context, name string) error {
	_, err := p.bucket.Get(ctx, name, 0, -1)
	if errors.Is(err, storage.ErrNotFound) {
		_, err = p.bucket.Stat(ctx, name)
	}
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err == nil {
		return seen(StaleReads, "an object is found that is not there")
	}
	return err
}

// get reads a part of an object that is there.
func (p *prober) get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	data, err := p.bucket.Get(ctx, name, offset, length)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, seen(StaleReads, "an object is not found after it was created")
	}
	return data, err
}

// wantObject reads an object that was just written, and its size.
func (p *prober) wantObject(ctx context.Context, name string, want []byte) error {
	got, err := p.get(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	info, err := p.bucket.Stat(ctx, name)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return seen(StaleReads, "an object can be read, and its size is not found")
	case err != nil:
		return err
	case len(got) < len(want) || info.Size != int64(len(want)):
		return seen(ShortObject, "of an object of %d bytes %d can be read, and its size is said to be %d", len(want), len(got), info.Size)
	case !bytes.Equal(got, want):
		return seen(AlteredBytes, "an object of %d bytes has other contents than were written", len(want))
	}
	return nil
}

// ranges reads parts of an object.
func (p *prober) ranges(ctx context.Context) (string, error) {
	name, data := p.folder+"ranges", written(0, rangeBytes)
	if err := p.create(ctx, name, data); err != nil {
		return "", err
	}
	if err := p.wantObject(ctx, name, data); err != nil {
		return "", err
	}
	const size = rangeBytes
	for _, r := range []struct{ offset, length int64 }{
		{0, size}, {0, 100}, {1, 1}, {1000, 4096}, {size / 2, -1}, // the beginning and the middle
		{size - 100, 100}, {size - 1, 1}, {size - 1, -1}, // the end
		{size - 100, 200}, {1, 1 << 40}, // over it
		{size, 1}, {size, -1}, {size + 1, 1}, {1 << 40, 100}, // at it and past it
	} {
		got, err := p.get(ctx, name, r.offset, r.length)
		overEnd := r.length < 0 || r.offset+r.length > size
		switch {
		case err == nil:
			err = judgeRange(data, got, r.offset, r.length)
		case overEnd && isAnswer(err) && ctx.Err() == nil:
			err = seen(RangeEndRefused, "%v", err)
		}
		if err != nil {
			return "", err
		}
	}
	return "parts of an object can be read, at its end and past it, too", nil
}

// judgeRange says what is wrong with what came back for a range of data.
func judgeRange(data, got []byte, offset, length int64) error {
	size := int64(len(data))
	from, to := min(offset, size), size
	if length >= 0 && length < size-from {
		to = from + length
	}
	want := data[from:to]
	asked := fmt.Sprintf("asked for %d of %d bytes from %d on", len(want), size, offset)
	switch {
	case bytes.Equal(got, want):
		return nil
	case bytes.Equal(got, data):
		return seen(RangeIgnored, "%s, and got the whole object", asked)
	case len(got) > 0 && bytes.Contains(data, got):
		return seen(RangeShifted, "%s, and got %d from %d on", asked, len(got), bytes.Index(data, got))
	case len(got) < len(want):
		return seen(RangeShifted, "%s, and got %d", asked, len(got))
	}
	return seen(AlteredBytes, "%s, and got %d that are not in the object", asked, len(got))
}

// large stores an object of the size of a pack, and tries to replace it.
func (p *prober) large(ctx context.Context) (string, error) {
	name, data := p.folder+"large", written(0, largeBytes)
	if err := p.create(ctx, name, data); err != nil {
		return "", err
	}
	info, err := p.bucket.Stat(ctx, name)
	if err != nil {
		return "", err
	}
	if info.Size != largeBytes {
		return "", seen(ShortObject, "an object of %d bytes is said to have %d", largeBytes, info.Size)
	}
	for at := int64(0); at < largeBytes; at += pieceBytes {
		got, err := p.get(ctx, name, at, pieceBytes)
		if err != nil {
			return "", err
		}
		if len(got) < pieceBytes {
			return "", seen(ShortObject, "of an object of %d bytes there are %d at %d", largeBytes, len(got), at)
		}
		if !bytes.Equal(got, data[at:at+pieceBytes]) {
			return "", seen(AlteredBytes, "an object of %d bytes has other contents than were written at %d", largeBytes, at)
		}
	}
	data[0]++
	err = p.create(ctx, name, data)
	if err == nil && p.overwrites {
		return "", seen(ConditionIgnored, "an object of %d bytes was created over one that was there", largeBytes)
	}
	if err == nil {
		return "", seen(LargeConditionIgnored, "an object of %d bytes was created over one that was there, and small ones are refused", largeBytes)
	}
	if !errors.Is(err, storage.ErrExists) {
		return "", err
	}
	got, err := p.get(ctx, name, 0, 1)
	if err != nil {
		return "", err
	}
	if len(got) != 1 || got[0] == data[0] {
		return "", seen(RefusedAndWritten, "a large object changed, though the second create of its name was refused")
	}
	return "an object of 32 MiB is stored whole, and none is created over it", nil
}
