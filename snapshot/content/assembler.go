package content

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/varve-dev/varve/chunker"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Entries wait for the open bundles they refer to. When more than this waits, the bundle that the
// first one waits for is closed early.
const (
	maxWaiting      = 10_000
	maxWaitingBytes = 16 << 20
)

// Item is one entry of the map to be built.
type Item struct {
	Key      []byte // ascending bytewise from item to item
	Attrs    []byte // opaque here; DecodeEntry gives it back
	Bytes    uint64 // logical size, summed up by the map
	Contents []Piece
}

// Piece is one content of an item. Exactly one of Data and Kept is set; Data may be empty, but then
// not nil.
type Piece struct {
	Stream string     // contents of one stream and class share bundles: "body", "state", "file"; also of a Kept one
	Class  blob.Class // blob.Data or blob.Secrets
	Data   []byte     // a new or changed content
	Kept   *Ref       // a content stored already: unchanged, or returned by StoreStream
}

// Options say how contents are stored.
type Options struct {
	// Key derives the secret keys of the repository by purpose; DeriveKey of *repo.Repository does.
	Key func(purpose string) [32]byte
	// Chunks are the sizes of the pieces of large contents; the zero value means chunker.Default.
	Chunks chunker.Params
	// GiveUp lists bundles that shall no longer be used: Result.Sparse of the last run. A Kept
	// content in one of them is read through Loader and bundled again, if the run bundles anything
	// new at all, and not more than some thousand entries later.
	GiveUp []blob.Ref
	Loader Loader
	// Parallel is how many blobs are stored at the same time; 0 means one per CPU.
	Parallel int
}

// Result is the map that was built.
type Result struct {
	Root tree.Root
	// Sparse lists, in ascending order, bundles of which the map uses less than half and which the
	// next run should give up: as many as it can move for a part of what this run wrote. A run that
	// bundled nothing passes on what it was given.
	Sparse []blob.Ref
	Stats  Stats
}

// Stats count the pieces of a run by what became of them. Bytes are of plaintext.
type Stats struct {
	Items       int64
	Kept        int64 // pieces whose content stayed where it was
	Inlined     int64
	Bundled     int64 // pieces laid into bundles, those of GiveUp among them
	BundleBytes int64
	Moved       int64 // pieces bundled again because their bundle is given up
	MovedBytes  int64
	Bundles     int64
	Chunks      int64
	ChunkBytes  int64
}

// Assembler places the contents of one map's items and builds the map. Add, Finish and Close are
// for one goroutine; StoreStream may be called by many. Memory is bounded by the open bundles, the
// blobs under way and the waiting entries, and grows with the number of bundles by some hundred
// bytes each.
type Assembler struct {
	saver   Saver
	reader  *Reader // nil without Options.Loader
	tree    *tree.Builder
	store   *store
	opt     Options
	cutKey  [32]byte // of the chunker
	nodeKey [32]byte // of maps
	giveUp  map[blob.Ref]bool
	moving  bool // something new was bundled, so contents leave the bundles of giveUp
	hash    *contentHash
	open    map[streamID]*bundle
	usage   map[blob.Ref]*usage

	waiting      []pending // entries in order, the first of them waiting for a bundle
	waitingBytes int
	lastKey      []byte
	stats        Stats
	err          error // the first failure; nothing works after it
}

type streamID struct {
	name  string
	class blob.Class
}

func (s streamID) compare(o streamID) int {
	return cmp.Or(cmp.Compare(s.name, o.name), cmp.Compare(s.class, o.class))
}

// pending is an entry that cannot be encoded before the places of its contents are known.
type pending struct {
	key, attrs []byte
	bytes      uint64
	contents   []Ref
	states     []state // beside contents
}

// state is what is still to happen to a content of a pending entry.
type state struct {
	stream  streamID
	bundle  *bundle // that it is in, and that may have no name yet; nil where the place is known
	leaving bool    // it is moved if something new comes
}

// NewAssembler starts a map that is stored through s.
func NewAssembler(s Saver, opt Options) *Assembler {
	if opt.Parallel <= 0 {
		opt.Parallel = runtime.GOMAXPROCS(0)
	}
	if opt.Chunks == (chunker.Params{}) {
		opt.Chunks = chunker.Default()
	}
	a := &Assembler{
		saver:   s,
		store:   newStore(s, opt.Parallel),
		opt:     opt,
		cutKey:  opt.Key("chunker"),
		nodeKey: opt.Key("tree"),
		giveUp:  make(map[blob.Ref]bool, len(opt.GiveUp)),
		hash:    newContentHash(opt.Key("bundle")),
		open:    make(map[streamID]*bundle),
		usage:   make(map[blob.Ref]*usage),
	}
	a.tree = tree.NewBuilder(s, a.nodeKey)
	if opt.Loader != nil {
		a.reader = NewReader(opt.Loader)
	}
	for _, ref := range opt.GiveUp {
		a.giveUp[ref] = true
	}
	return a
}

// Add appends one item. Its slices may be reused when Add has returned. After an error every later
// call returns that error.
func (a *Assembler) Add(ctx context.Context, it Item) error {
	if a.err != nil {
		return a.err
	}
	if err := a.add(ctx, it); err != nil {
		a.err = fmt.Errorf("add entry %q: %w", it.Key, err)
	}
	return a.err
}

// Finish stores what is still open and returns the map. The assembler is of no use afterwards.
func (a *Assembler) Finish(ctx context.Context) (Result, error) {
	defer a.Close()
	if a.err != nil {
		return Result{}, a.err
	}
	for _, id := range a.openStreams() {
		a.closeBundle(ctx, id)
	}
	if err := a.flush(ctx, true); err != nil {
		return Result{}, err
	}
	root, err := a.tree.Finish(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("finish the map: %w", err)
	}
	a.stats.Chunks, a.stats.ChunkBytes = a.store.chunks.Load(), a.store.chunkBytes.Load()
	return Result{Root: root, Sparse: a.sparse(), Stats: a.stats}, nil
}

// Close waits for writes that are under way. It is needed only where Finish is not reached, may be
// called twice, and makes later calls of Add fail.
func (a *Assembler) Close() {
	if a.err == nil {
		a.err = errors.New("the map is finished")
	}
	a.store.wait()
}

func (a *Assembler) add(ctx context.Context, it Item) error {
	if a.lastKey != nil && bytes.Compare(it.Key, a.lastKey) <= 0 {
		return fmt.Errorf("not after the key before it, %q", a.lastKey)
	}
	a.lastKey = append(a.lastKey[:0], it.Key...)
	a.waiting = append(a.waiting, pending{
		key:      bytes.Clone(it.Key),
		attrs:    bytes.Clone(it.Attrs),
		bytes:    it.Bytes,
		contents: make([]Ref, len(it.Contents)),
		states:   make([]state, len(it.Contents)),
	})
	p := &a.waiting[len(a.waiting)-1]
	for i, piece := range it.Contents {
		if err := a.place(ctx, p, i, piece); err != nil {
			return fmt.Errorf("content %d: %w", i, err)
		}
	}
	a.stats.Items++
	a.waitingBytes += p.size()
	if err := a.flush(ctx, false); err != nil {
		return err
	}
	for len(a.waiting) > maxWaiting || a.waitingBytes > maxWaitingBytes {
		if err := a.unblock(ctx); err != nil {
			return err
		}
	}
	return nil
}

// place finds a place for the i-th piece of an entry.
func (a *Assembler) place(ctx context.Context, p *pending, i int, piece Piece) error {
	p.states[i].stream = streamID{piece.Stream, piece.Class}
	switch {
	case piece.Class != blob.Data && piece.Class != blob.Secrets:
		return fmt.Errorf("contents cannot be of class %s", piece.Class)
	case (piece.Data == nil) == (piece.Kept == nil):
		return errors.New("exactly one of Data and Kept must be set")
	case piece.Kept == nil:
		return a.put(ctx, p, i, piece.Data)
	}
	p.contents[i] = *piece.Kept
	switch {
	case piece.Kept.place != bundled || !a.giveUp[piece.Kept.bundle.blob]:
		a.stats.Kept++
		return nil
	case a.reader == nil:
		return errors.New("giving up a bundle needs a Loader")
	case a.moving:
		return a.moveOne(ctx, p, i)
	}
	a.stats.Kept++
	p.states[i].leaving = true
	return nil
}

// put stores the i-th content of an entry by its size.
func (a *Assembler) put(ctx context.Context, p *pending, i int, data []byte) (err error) {
	stream := p.states[i].stream
	switch n := len(data); {
	case n == 0, n <= MaxInline && stream.class != blob.Secrets:
		a.stats.Inlined++
		p.contents[i] = Ref{length: uint64(n), inline: bytes.Clone(data)}
	case n <= MaxSmall:
		if !a.moving {
			if err := a.move(ctx); err != nil {
				return err
			}
		}
		p.contents[i], p.states[i].bundle = a.bundle(ctx, stream, data)
	default:
		p.contents[i], _, err = a.storeStream(ctx, stream.class, bytes.NewReader(data))
	}
	return err
}

// bundle lays data into the stream's open bundle and closes it when it ends.
func (a *Assembler) bundle(ctx context.Context, id streamID, data []byte) (Ref, *bundle) {
	a.stats.Bundled++
	sum := a.hash.sum(data)
	b := a.open[id]
	if b != nil && !b.fits(sum, len(data)) {
		a.closeBundle(ctx, id)
		b = nil
	}
	if b == nil {
		b = newBundle(id.class)
		a.open[id] = b
	}
	offset, added := b.add(sum, data)
	if added {
		a.stats.BundleBytes += int64(len(data))
		if b.ends(sum, len(data)) {
			a.closeBundle(ctx, id)
		}
	}
	return Ref{place: bundled, length: uint64(len(data)), bundle: span{offset: offset}}, b
}

func (a *Assembler) closeBundle(ctx context.Context, id streamID) {
	b := a.open[id]
	delete(a.open, id)
	a.stats.Bundles++
	a.store.bundle(ctx, b)
}

// openStreams returns the streams with an open bundle in a fixed order, so that equal runs store
// equal blobs in equal order.
func (a *Assembler) openStreams() []streamID {
	return slices.SortedFunc(maps.Keys(a.open), streamID.compare)
}

// unblock ends whatever the first waiting entry waits for, and hands it on.
func (a *Assembler) unblock(ctx context.Context) error {
	first := &a.waiting[0]
	first.stay()
	for _, s := range first.states {
		if s.bundle != nil && a.open[s.stream] == s.bundle {
			a.closeBundle(ctx, s.stream)
		}
	}
	for _, s := range first.states {
		if s.bundle != nil {
			<-s.bundle.stored
		}
	}
	return a.flush(ctx, false)
}

// flush hands entries to the map, in order, up to the first whose bundles are not stored. With wait
// it waits for them; all bundles must be closed then.
func (a *Assembler) flush(ctx context.Context, wait bool) error {
	n := 0
	for ; n < len(a.waiting); n++ {
		p := &a.waiting[n]
		if !wait && !p.ready() {
			break
		}
		if err := a.emit(ctx, p); err != nil {
			return err
		}
		a.waitingBytes -= p.size()
		*p = pending{}
	}
	a.waiting = a.waiting[n:]
	return nil
}

// emit gives the entry's contents their final places and adds it to the map.
func (a *Assembler) emit(ctx context.Context, p *pending) error {
	for i, s := range p.states {
		if s.bundle == nil {
			continue
		}
		<-s.bundle.stored
		if s.bundle.err != nil {
			return s.bundle.err
		}
		p.contents[i].bundle.blob = s.bundle.ref
		p.contents[i].bundle.size = uint64(s.bundle.size)
	}
	for _, c := range p.contents {
		if c.place == bundled {
			use(a.usage, c)
		}
	}
	return a.tree.Add(ctx, encodeEntry(*p))
}

func (p *pending) ready() bool {
	for _, s := range p.states {
		if s.leaving || s.bundle != nil && !s.bundle.isStored() {
			return false
		}
	}
	return true
}

func (p *pending) size() int {
	n := len(p.key) + len(p.attrs) + 64*len(p.contents)
	for _, c := range p.contents {
		n += len(c.inline)
	}
	return n
}
