package content

import (
	"container/list"
	"context"
	"errors"
	"sync"

	"github.com/varve-dev/varve/repo/blob"
)

// maxCached is how many bytes of bundles a reader keeps: enough for many goroutines that walk
// neighbouring keys, each within the bundles of two or three streams.
const maxCached = 32 << 20

// bundleCache keeps the bundles used last. Goroutines that ask for the same bundle share one read.
type bundleCache struct {
	loader Loader

	mu    sync.Mutex
	known map[blob.Ref]*list.Element // of *cached
	order list.List                  // used last in front
	bytes int                        // of all that is loaded
}

// cached is a bundle that is there when loaded is closed.
type cached struct {
	ref    blob.Ref
	loaded chan struct{}
	data   []byte
	err    error
}

func newBundleCache(l Loader) *bundleCache {
	return &bundleCache{loader: l, known: make(map[blob.Ref]*list.Element)}
}

// get returns a bundle's bytes, which nobody may change.
func (c *bundleCache) get(ctx context.Context, ref blob.Ref) ([]byte, error) {
	for {
		b, mine := c.claim(ref)
		if mine {
			c.load(ctx, b)
			return b.data, b.err
		}
		select {
		case <-b.loaded:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// One whose own context ended does not fail those who waited for it.
		if errors.Is(b.err, context.Canceled) || errors.Is(b.err, context.DeadlineExceeded) {
			continue
		}
		return b.data, b.err
	}
}

// claim returns the entry of a bundle and whether the caller is the one who has to load it.
func (c *bundleCache) claim(ref blob.Ref) (b *cached, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.known[ref]; ok {
		c.order.MoveToFront(e)
		return e.Value.(*cached), false
	}
	b = &cached{ref: ref, loaded: make(chan struct{})}
	c.known[ref] = c.order.PushFront(b)
	return b, true
}

// load reads a bundle and makes room for it. A failed read leaves nothing behind.
func (c *bundleCache) load(ctx context.Context, b *cached) {
	b.data, b.err = c.loader.Read(ctx, b.ref)

	c.mu.Lock()
	defer c.mu.Unlock()
	close(b.loaded)
	if e, ok := c.known[b.ref]; ok && e.Value == b && b.err != nil {
		c.remove(e)
	}
	c.bytes += len(b.data)
	for e := c.order.Back(); e != nil && c.bytes > maxCached; {
		before := e.Prev()
		if old := e.Value.(*cached); old != b && isClosed(old.loaded) {
			c.remove(e)
			c.bytes -= len(old.data)
		}
		e = before
	}
}

func (c *bundleCache) remove(e *list.Element) {
	delete(c.known, e.Value.(*cached).ref)
	c.order.Remove(e)
}

func isClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}
