package repo

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

var errDamagedPack = pack.ErrDamaged

// Reading a pack fetches what is asked for. Who reads on where the last fetch ended gets twice as much
// each time, so that a restore needs few requests and a look at one file few bytes. Nodes come with
// their neighbours, which a walk needs next though in another order.
const (
	maxAhead    = 8 << 20   // bytes fetched beyond what was asked for
	maxGap      = 64 << 10  // bytes skipped that still count as reading on
	nodeWindow  = 256 << 10 // nodes are fetched in aligned windows of this size
	maxParts    = 8         // parts held of one pack
	maxHeld     = 64 << 20  // bytes of packs held in memory
	maxOpenKeys = 4096      // packs whose session keys are held
)

// packReader fetches parts of packs and opens blobs. It is safe for concurrent use.
type packReader struct {
	bucket storage.Bucket
	reader pack.Reader

	mu    sync.Mutex
	held  int64
	packs map[uint32]*packParts // by pack number
	order *list.List            // of pack numbers, most recently used first
	keys  map[uint32][]seal.SessionKey
}

// packParts is what of one pack is in memory.
type packParts struct {
	mu    sync.Mutex // one fetch at a time
	parts []part     // the newest first
	ahead int64      // bytes that the last fetch took beyond what was asked for
	place *list.Element
}

// part is a run of bytes of a pack.
type part struct {
	start int64
	data  []byte
}

func (p part) end() int64 { return p.start + int64(len(p.data)) }

func newPackReader(b storage.Bucket, r pack.Reader) *packReader {
	return &packReader{bucket: b, reader: r, packs: map[uint32]*packParts{}, order: list.New(), keys: map[uint32][]seal.SessionKey{}}
}

// open reads one copy of a blob and verifies it. When that fails, nothing of the pack stays in memory:
// whatever spoiled the bytes on their way, who tries again asks the bucket again.
func (p *packReader) open(ctx context.Context, f found) (blob.Node, error) {
	n, err := p.openHeld(ctx, f)
	if err != nil {
		p.mu.Lock()
		p.forget(f.number)
		p.mu.Unlock()
	}
	return n, err
}

func (p *packReader) openHeld(ctx context.Context, f found) (blob.Node, error) {
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

// links reads what one copy of a node links to, for which the catalog key is enough.
func (p *packReader) links(ctx context.Context, f found) ([]blob.Ref, error) {
	sealed, err := p.bytes(ctx, f, int64(f.row.Offset), int64(f.row.Links))
	if err == nil {
		var links []blob.Ref
		if links, err = p.reader.Keys.OpenLinks(f.row.Ref(), sealed); err == nil {
			return links, nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(f.number)
	return nil, err
}

func (p *packReader) sessionKeys(ctx context.Context, f found) ([]seal.SessionKey, error) {
	p.mu.Lock()
	keys, ok := p.keys[f.number]
	p.mu.Unlock()
	if ok {
		return keys, nil
	}
	head, err := p.reader.HeadBy(f.pack.Size, func(offset, length int64) ([]byte, error) { return p.bytes(ctx, f, offset, length) })
	if err == nil {
		keys, err = p.reader.SessionKeys(head)
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

// bytes returns a run of bytes of a pack, which the caller must not change.
func (p *packReader) bytes(ctx context.Context, f found, offset, length int64) ([]byte, error) {
	if offset+length > f.pack.Size {
		return nil, fmt.Errorf("%d bytes at %d of a pack of %d: %w", length, offset, f.pack.Size, errDamagedPack)
	}
	of := p.partsOf(f.number)
	of.mu.Lock()
	defer of.mu.Unlock()
	for _, held := range of.parts {
		if offset >= held.start && offset+length <= held.end() {
			return held.data[offset-held.start:][:length], nil
		}
	}
	start, end := of.extent(f, offset, length)
	name, base := f.pack.Object()
	data, err := p.bucket.Get(ctx, name, base+start, end-start)
	if err != nil {
		return nil, err
	}
	got := part{start: start, data: data}
	if got.end() < offset+length {
		return nil, fmt.Errorf("%s ends early, %d bytes at %d are not there: %w", name, length, offset, errDamagedPack)
	}
	p.hold(f.number, of, got)
	return data[offset-start:][:length], nil
}

// extent decides how much to fetch around what is asked for.
func (of *packParts) extent(f found, offset, length int64) (start, end int64) {
	if f.pack.Inline > 0 {
		return 0, f.pack.Size // an inline pack is small: one request for all of it
	}
	if f.row.Class.HasLinks() {
		start = offset / nodeWindow * nodeWindow
		return start, min(f.pack.Size, (offset+length+nodeWindow-1)/nodeWindow*nodeWindow)
	}
	readingOn := len(of.parts) > 0 && offset >= of.parts[0].end() && offset-of.parts[0].end() <= maxGap
	of.ahead = min(maxAhead, 2*(of.ahead+length))
	if !readingOn {
		of.ahead = 0
	}
	return offset, min(f.pack.Size, offset+length+of.ahead)
}

// hold keeps a part, and forgets what was used longest ago when there is too much.
func (p *packReader) hold(number uint32, of *packParts, got part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.packs[number] != of {
		return // forgotten meanwhile; its readers finish without it
	}
	of.parts = slices.Insert(of.parts, 0, got)
	p.held += int64(len(got.data))
	if len(of.parts) > maxParts {
		p.held -= int64(len(of.parts[maxParts].data))
		of.parts = slices.Clip(of.parts[:maxParts])
	}
	for p.held > maxHeld && p.order.Len() > 1 {
		p.forget(p.order.Back().Value.(uint32))
	}
}

// partsOf returns what is held of a pack, and marks the pack as the one used last.
func (p *packReader) partsOf(number uint32) *packParts {
	p.mu.Lock()
	defer p.mu.Unlock()
	of, ok := p.packs[number]
	if !ok {
		of = &packParts{place: p.order.PushFront(number)}
		p.packs[number] = of
	}
	p.order.MoveToFront(of.place)
	return of
}

// forgetAll lets go of everything, so that what is asked for from now on comes from the bucket.
func (p *packReader) forgetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for number := range p.packs {
		p.forget(number)
	}
	clear(p.keys)
}

// forget lets go of what is held of a pack. It needs the lock.
func (p *packReader) forget(number uint32) {
	of, ok := p.packs[number]
	if !ok {
		return
	}
	for _, held := range of.parts {
		p.held -= int64(len(held.data))
	}
	delete(p.packs, number)
	p.order.Remove(of.place)
}
