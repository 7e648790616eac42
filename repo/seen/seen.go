// Package seen is the memory of a client: which head of a repository's journal it has seen last, and
// which repositories at which place. It lies outside of the bucket, since whoever can put an older copy
// of a bucket in its place can put back everything that is in it.
//
// All of it is one small file, beside the cache and not part of it: a cache may be deleted at any time,
// and deleting it must not make a client forget.
//
//	<dir>/seen.json   {"version": 0,
//	                   "repositories": {ID: {"fingerprint": …, "next": 42, "hash": …, "time": …}},
//	                   "places": {URL: [ID, …]}}
//	<dir>/seen.lock   held by who writes, while it writes
//
// Any number of processes may use one folder. A file is replaced as a whole, after its successor is on
// the disk, and what is written is the later of what is there and what is new: a process that has seen
// less never makes another forget. No trouble with the disk fails a method; [Memory.Degraded] tells of it.
package seen

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/varve-dev/varve/repo/blob"
)

// Head is the end of a journal as it was seen.
type Head struct {
	Fingerprint string    `json:"fingerprint"` // of the master key
	Next        uint64    `json:"next"`        // number of entries
	Hash        blob.Hash `json:"hash"`        // of the last one
	GivenUp     uint64    `json:"givenUp,omitempty"`
	Time        time.Time `json:"time"` // when it was seen
}

// Seen is something to be remembered. GivenUp of its head is up to which number checkpoints may belong
// to a history that was replaced with the user's consent.
type Seen struct {
	Repository string
	Place      string // URL, without secrets
	Head       Head
	Anew       bool // the user has accepted this head in the place of any that was seen before
}

// Memory is what a client remembers. It is safe for concurrent use and holds nothing open.
type Memory struct {
	dir   string // empty: it remembers nothing
	tries int    // how often it asks for the lock, with lockPause between

	mu       sync.Mutex
	degraded error
}

const (
	fileName   = "seen.json"
	lockName   = "seen.lock"
	tempPrefix = "tmp-seen-"
	version    = 0

	// maxFile bounds the file in bytes; 10,000 repositories have room.
	maxFile = 8 << 20

	// How long to wait for other processes, which hold the lock for the moment of one write.
	lockTries = 100
	lockPause = 20 * time.Millisecond
)

// record is the content of the file.
type record struct {
	Version      int                 `json:"version"`
	Repositories map[string]Head     `json:"repositories"`
	Places       map[string][]string `json:"places"`
}

// Open uses the folder dir, which is made when there is something to write. An empty dir remembers
// nothing.
func Open(dir string) *Memory { return &Memory{dir: dir, tries: lockTries} }

// Path returns the name of the file, or nothing if nothing is remembered.
func (m *Memory) Path() string {
	if m.dir == "" {
		return ""
	}
	return filepath.Join(m.dir, fileName)
}

// Degraded is the first reason why something could not be read or remembered, or nil.
func (m *Memory) Degraded() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.degraded
}

func (m *Memory) degrade(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.degraded == nil {
		m.degraded = err
	}
}

// Recall returns the head of a repository that was seen last.
func (m *Memory) Recall(repository string) (Head, bool) {
	h, ok := m.look().Repositories[repository]
	return h, ok
}

// At returns the repositories that were seen at a place.
func (m *Memory) At(place string) []string { return m.look().Places[place] }

func (m *Memory) look() record {
	if m.dir == "" {
		return record{}
	}
	r, err := m.read()
	if err != nil {
		m.degrade(err)
	}
	return r
}

// Keep remembers a head, unless a later one is remembered already, and where it was.
func (m *Memory) Keep(s Seen) {
	if m.dir == "" {
		return
	}
	if err := m.keep(s); err != nil {
		m.degrade(fmt.Errorf("remember what was seen: %w", err))
	}
}

func (m *Memory) keep(s Seen) (err error) {
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	r, err := m.read()
	if err != nil {
		return err
	}
	if !r.add(s) {
		return nil
	}
	return m.write(r)
}

// add puts what was seen into the record, and reports whether that changed it.
func (r *record) add(s Seen) (changed bool) {
	if r.Repositories == nil {
		r.Repositories = map[string]Head{}
	}
	if r.Places == nil {
		r.Places = map[string][]string{}
	}
	old, known := r.Repositories[s.Repository]
	if !known || s.Anew || s.Head.Next > old.Next {
		if !s.Anew {
			s.Head.GivenUp = max(s.Head.GivenUp, old.GivenUp)
		}
		r.Repositories[s.Repository] = s.Head
		changed = true
	}
	if !slices.Contains(r.Places[s.Place], s.Repository) {
		r.Places[s.Place] = append(r.Places[s.Place], s.Repository)
		changed = true
	}
	return changed
}

// lock keeps other processes from writing until the returned function is called. The lock ends with the
// process, whatever becomes of it.
func (m *Memory) lock() (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(m.dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || try >= m.tries {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
		time.Sleep(lockPause)
	}
}

// read returns what is remembered; without a file, nothing.
func (m *Memory) read() (record, error) {
	f, err := os.Open(m.Path())
	if errors.Is(err, fs.ErrNotExist) {
		return record{}, nil
	}
	if err != nil {
		return record{}, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil || len(text) > maxFile || r.Version != version {
		return record{}, fmt.Errorf("%s is not what this version writes; delete it to begin anew", m.Path())
	}
	return r, nil
}

// write replaces the file. It needs the lock, under which temporary files are nobody's any more.
func (m *Memory) write(r record) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	left, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, l := range left {
		if strings.HasPrefix(l.Name(), tempPrefix) {
			if err := os.Remove(filepath.Join(m.dir, l.Name())); err != nil {
				return err
			}
		}
	}
	temp, err := os.CreateTemp(m.dir, tempPrefix)
	if err != nil {
		return err
	}
	_, err = temp.Write(append(text, '\n'))
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	if err := os.Rename(temp.Name(), m.Path()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	folder, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
