package repo

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

var errDamagedPack = pack.ErrDamaged

// Reading a pack fetches what is asked for. Who reads on where the last read ended gets twice as much
// each time, so that a restore needs few requests and a look at one object few bytes.
const (
	maxAhead    = 8 << 20  // bytes fetched beyond what was asked for
	maxGap      = 64 << 10 // bytes skipped that still count as reading on
	maxHeld     = 64 << 20 // bytes of packs held in memory
	maxOpenKeys = 4096     // packs whose session keys are held
)

// packReader fetches parts of packs and opens blobs. It is safe for concurrent use.
type packReader struct {
	bucket storage.Bucket
	reader pack.Reader

	mu    sync.Mutex
	held  int64
	spans map[uint32]*span // by pack number, the part fetched last
	order *list.List       // of pack numbers, most recently used first
	keys  map[uint32][]seal.SessionKey
}

// span is a part of a pack in memory.
type span struct {
	mu    sync.Mutex // one fetch at a time
	start int64
	data  []byte
	ahead int64
	place *list.Element
}

func newPackReader(b storage.Bucket, r pack.Reader) *packReader {
	return &packReader{bucket: b, reader: r, spans: map[uint32]*span{}, order: list.New(), keys: map[uint32][]seal.SessionKey{}}
}

// open reads one copy of a blob and verifies it.
func (p *packReader) open(ctx context.Context, f found) (blob.Node, error) {
	keys, err := p.sessionKeys(ctx, f)
	if err != nil {
		return blob.Node{}, err
	}
	sealed, err := p.bytes(ctx, f, int64(f.row.Offset), int64(f.row.Stored))
	if err != nil {
		return blob.Node{}, err
	}
	return p.reader.OpenBlob(keys, f.row, sealed)
}

func (p *packReader) sessionKeys(ctx context.Context, f found) ([]seal.SessionKey, error) {
	p.mu.Lock()
	keys, ok := p.keys[f.number]
	p.mu.Unlock()
	if ok {
		return keys, nil
	}
	head, err := p.bytes(ctx, f, 0, min(pack.HeadSize, f.pack.Size))
	if err != nil {
		return nil, err
	}
	keys, need, err := p.reader.SessionKeys(head)
	if err == nil && need > 0 {
		if head, err = p.bytes(ctx, f, 0, int64(need)); err == nil {
			keys, _, err = p.reader.SessionKeys(head)
		}
	}
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.keys) >= maxOpenKeys {
		clear(p.keys)
	}
	p.keys[f.number] = keys
	return keys, nil
}

// bytes returns a part of a pack, which the caller must not change.
func (p *packReader) bytes(ctx context.Context, f found, offset, length int64) ([]byte, error) {
	if offset+length > f.pack.Size {
		return nil, fmt.Errorf("%d bytes at %d of a pack of %d: %w", length, offset, f.pack.Size, errDamagedPack)
	}
	s := p.span(f.number)
	s.mu.Lock()
	defer s.mu.Unlock()
	if end := s.start + int64(len(s.data)); offset < s.start || offset+length > end {
		if err := p.fetch(ctx, f, s, offset, length, offset >= end && offset-end <= maxGap && end > 0); err != nil {
			return nil, err
		}
	}
	return s.data[offset-s.start:][:length], nil
}

// fetch replaces a span by one that holds the wanted part.
func (p *packReader) fetch(ctx context.Context, f found, s *span, offset, length int64, readingOn bool) error {
	s.ahead = 0
	if readingOn {
		s.ahead = min(maxAhead, 2*(s.ahead+length))
	}
	name, base := f.pack.Object()
	start, want := offset, min(length+s.ahead, f.pack.Size-offset)
	if f.pack.Size <= journal.MaxInline && f.pack.Inline > 0 {
		start, want = 0, f.pack.Size // an inline pack is small: one request for all of it
	}
	data, err := p.bucket.Get(ctx, name, base+start, want)
	if err != nil {
		return err
	}
	if int64(len(data)) < offset-start+length {
		return fmt.Errorf("%s ends early, %d bytes at %d are not there: %w", name, length, offset, errDamagedPack)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spans[f.number] == s { // else evicted meanwhile, and gone when its reader is done
		p.held += int64(len(data) - len(s.data))
	}
	s.start, s.data = start, data
	for p.held > maxHeld && p.order.Len() > 1 {
		p.evict()
	}
	return nil
}

// span returns the place for a pack's part, marked as the one used last.
func (p *packReader) span(number uint32) *span {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.spans[number]
	if !ok {
		s = &span{place: p.order.PushFront(number)}
		p.spans[number] = s
	}
	p.order.MoveToFront(s.place)
	return s
}

// evict forgets the part used longest ago. Who reads it at this moment keeps it until done. It needs
// the lock.
func (p *packReader) evict() {
	last := p.order.Back()
	number := last.Value.(uint32)
	p.held -= int64(len(p.spans[number].data))
	delete(p.spans, number)
	p.order.Remove(last)
}
