package index

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/varve-dev/varve/repo/blob"
)

// Cache keeps on the local disk what can be read from the bucket again: the folded state of the
// journal and the plain segments. Any number of processes may use one folder at once; each holds a
// lock only while it reads or writes a state.
//
//	<dir>/state.db           bbolt: the state and its number, replaced in one transaction; when packs were verified; notes
//	<dir>/segments/<hash>    a segment, named by the hash of its sealed object, and a checksum
//
// Nothing that the disk does fails a method. What cannot be read is not there; what cannot be
// written is kept in memory for as long as the Cache lives, and [Cache.Degraded] tells why. Damaged
// files are noticed and removed. Files hold names and places of blobs but no keys; only their owner
// can read them. Checksums are against accidents, not against who can write the owner's files.
//
// A Cache is safe for concurrent use and holds nothing open: there is nothing to close.
type Cache struct {
	dir        string // empty: memory only
	repository string
	lockWait   time.Duration

	mu       sync.Mutex
	segments map[blob.Hash]*Segment
	unsaved  *state                  // newest state that did not reach the disk
	verified map[blob.Hash]time.Time // packs that were found right through this Cache
	notes    map[string][]byte       // that did not reach the disk
	degraded error
}

const (
	segmentsDir = "segments"
	tempPrefix  = "tmp-"

	// tempLife is how long a temporary file may be someone's who still writes it.
	tempLife = time.Hour

	// lockWait is how long to wait for other processes, which hold the lock for the moment of one
	// transaction.
	lockWait = 2 * time.Second
)

// OpenCache uses the folder dir, which is made if absent, for the repository with the given ID; of a
// state left there by another repository nothing is seen. An empty dir asks for memory only. So does
// a dir that cannot be used or lies on a network file system, with a reason in [Cache.Degraded].
func OpenCache(dir, repository string) *Cache {
	c := &Cache{dir: dir, repository: repository, lockWait: lockWait, segments: map[blob.Hash]*Segment{}}
	if dir == "" {
		return c
	}
	if err := prepare(dir); err != nil {
		c.dir = ""
		c.degraded = fmt.Errorf("open cache: %w", err)
	}
	return c
}

// prepare makes the folders and removes what crashed processes left.
func prepare(dir string) error {
	segments := filepath.Join(dir, segmentsDir)
	if err := os.MkdirAll(segments, 0o700); err != nil {
		return err
	}
	if kind, err := networkFileSystem(dir); err != nil {
		return err
	} else if kind != "" {
		return fmt.Errorf("%s is on a network file system (%s), which neither locks nor maps files reliably", dir, kind)
	}
	files, err := os.ReadDir(segments)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), tempPrefix) {
			continue
		}
		info, err := f.Info()
		if err != nil || time.Since(info.ModTime()) < tempLife {
			continue
		}
		// Where nothing can be removed nothing can be written either, and that is told then.
		_ = os.Remove(filepath.Join(segments, f.Name()))
	}
	return nil
}

// Degraded tells why the cache, at least once, could not do its work on disk and did it in memory:
// folder not creatable, locked for too long, full, read-only, on a network file system. It is the
// first such reason, or nil. It is meant for a warning; nothing is lost but time.
func (c *Cache) Degraded() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.degraded
}

func (c *Cache) degrade(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.degraded == nil {
		c.degraded = err
	}
}

// Segment returns the segment of the sealed object with the given hash, if the cache has it whole.
func (c *Cache) Segment(hash blob.Hash) (*Segment, bool) {
	if s := c.held(hash); s != nil || c.dir == "" {
		return s, s != nil
	}
	s, err := readSegmentFile(c.segmentPath(hash), hash)
	switch {
	case err == nil:
		return c.hold(hash, s), true
	case errors.Is(err, errDamaged):
		err = os.Remove(c.segmentPath(hash))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.degrade(fmt.Errorf("read index segment %s in the cache: %w", hash.Short(), err))
	}
	return nil, false
}

// PutSegment keeps the plain bytes of the segment whose sealed object has the given hash, and
// returns it ready for searching. The error is about the bytes, as [ParseSegment] has it. The bytes
// must not be changed any more.
func (c *Cache) PutSegment(hash blob.Hash, plain []byte) (*Segment, error) {
	s, err := ParseSegment(plain)
	if err != nil {
		return nil, err
	}
	if held := c.held(hash); held != nil {
		return held, nil
	}
	if c.dir != "" {
		mapped, err := createSegmentFile(c.segmentPath(hash), hash, plain)
		if err != nil {
			c.degrade(fmt.Errorf("keep index segment %s in the cache: %w", hash.Short(), err))
		} else {
			s = mapped // so that the memory of plain can go
		}
	}
	return c.hold(hash, s), nil
}

// Retain forgets all segments but the given ones, which are those of the state. Segments in use stay
// usable. A process with an older state may so remove a newer segment, which is then read again.
func (c *Cache) Retain(hashes []blob.Hash) {
	keep := make(map[blob.Hash]bool, len(hashes))
	for _, h := range hashes {
		keep[h] = true
	}
	c.mu.Lock()
	for h := range c.segments {
		if !keep[h] {
			delete(c.segments, h)
		}
	}
	c.mu.Unlock()
	if c.dir == "" {
		return
	}
	files, err := os.ReadDir(filepath.Join(c.dir, segmentsDir))
	for _, f := range files {
		h, bad := blob.ParseHash(f.Name())
		if bad != nil || keep[h] {
			continue
		}
		if gone := os.Remove(c.segmentPath(h)); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	if err != nil {
		c.degrade(fmt.Errorf("remove old index segments from the cache: %w", err))
	}
}

func (c *Cache) segmentPath(hash blob.Hash) string {
	return filepath.Join(c.dir, segmentsDir, hash.String())
}

func (c *Cache) held(hash blob.Hash) *Segment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.segments[hash]
}

// hold keeps the segment, or returns the one that another goroutine has brought meanwhile.
func (c *Cache) hold(hash blob.Hash, s *Segment) *Segment {
	c.mu.Lock()
	defer c.mu.Unlock()
	if held := c.segments[hash]; held != nil {
		return held
	}
	c.segments[hash] = s
	return s
}
