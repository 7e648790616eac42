package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/zeebo/blake3"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// state is a folded state of the journal as the repository wrote it, after entry seq.
type state struct {
	seq  uint64
	body []byte
}

var (
	stateBucket = []byte("cache")
	stateKey    = []byte("state")
)

// errUnchanged ends a transaction that has nothing to write.
var errUnchanged = errors.New("unchanged")

// State returns the newest state that was kept, and the number of the journal entry it stands
// after.
func (c *Cache) State() (seq uint64, body []byte, ok bool) {
	c.mu.Lock()
	if c.unsaved != nil {
		seq, body, ok = c.unsaved.seq, bytes.Clone(c.unsaved.body), true
	}
	c.mu.Unlock()
	if c.dir == "" {
		return seq, body, ok
	}
	stored, err := c.loadState()
	if err != nil {
		c.degrade(fmt.Errorf("read state in the cache: %w", err))
	}
	if stored != nil && (!ok || stored.seq > seq) {
		seq, body, ok = stored.seq, stored.body, true
	}
	return seq, body, ok
}

// SetState keeps the state after journal entry seq. A state that is older than the one kept is
// ignored: another process was ahead. To go back deliberately, call [Cache.DropState] first.
func (c *Cache) SetState(seq uint64, body []byte) {
	var unsaved *state
	if c.dir == "" {
		unsaved = &state{seq: seq, body: bytes.Clone(body)}
	} else if err := c.saveState(&state{seq: seq, body: body}); err != nil {
		c.degrade(fmt.Errorf("keep state in the cache: %w", err))
		unsaved = &state{seq: seq, body: bytes.Clone(body)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unsaved == nil || c.unsaved.seq <= seq {
		c.unsaved = unsaved
	}
}

// DropState forgets the state and the notes, as after the journal itself was repaired or rolled back.
func (c *Cache) DropState() {
	c.mu.Lock()
	c.unsaved, c.notes = nil, nil
	c.mu.Unlock()
	if c.dir == "" {
		return
	}
	if err := c.removeState(); err != nil {
		c.degrade(fmt.Errorf("drop state in the cache: %w", err))
	}
}

func (c *Cache) statePath() string { return filepath.Join(c.dir, "state.db") }

func (c *Cache) removeState() error {
	if err := os.Remove(c.statePath()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// loadState returns the stored state, or nil if there is none that can be believed.
func (c *Cache) loadState() (*state, error) {
	var found *state
	err := c.transact(false, func(tx *bbolt.Tx) error {
		if b := tx.Bucket(stateBucket); b != nil {
			found = decodeState(c.repository, b.Get(stateKey))
		}
		return nil
	})
	if errors.Is(err, errDamaged) {
		return nil, c.removeState()
	}
	return found, err
}

func (c *Cache) saveState(next *state) error {
	write := func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(stateBucket)
		if err != nil {
			return err
		}
		if old := decodeState(c.repository, b.Get(stateKey)); old != nil {
			if old.seq > next.seq || old.seq == next.seq && bytes.Equal(old.body, next.body) {
				return errUnchanged
			}
		}
		return b.Put(stateKey, encodeState(c.repository, next))
	}
	err := c.update(write)
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// update runs a transaction that writes, in a new file if the one that is there is damaged.
func (c *Cache) update(write func(*bbolt.Tx) error) error {
	err := c.transact(true, write)
	if errors.Is(err, errDamaged) {
		if err = c.removeState(); err == nil {
			err = c.transact(true, write)
		}
	}
	return err
}

// transact opens the file, runs one transaction and closes the file, so that other processes wait no
// longer than that. An error is errDamaged if the file may be to blame.
func (c *Cache) transact(write bool, f func(*bbolt.Tx) error) error {
	if !write {
		// bbolt cannot open an empty file, as one just created is, for reading.
		if info, err := os.Stat(c.statePath()); errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			return nil
		}
	}
	err := c.transactOnce(write, f)
	if err == nil || errors.Is(err, errUnchanged) || environmental(err) {
		return err
	}
	return fmt.Errorf("%w: %w", err, errDamaged)
}

// transactOnce survives that bbolt trusts its file: a damaged one makes it panic or reach beyond its
// mapping. The database is then left as it stands, since closing it could wait for ever for a lock
// of its own; only the file is closed, which ends the lock that others see.
//
// The list of free pages stays in the file, as is the default: bbolt would otherwise gather it in a
// goroutine, whose panic nobody can catch.
func (c *Cache) transactOnce(write bool, f func(*bbolt.Tx) error) error {
	var file *os.File
	options := &bbolt.Options{
		Timeout:      c.lockWait,
		ReadOnly:     !write,
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	}
	panicked := true
	err := guarded(func() error {
		db, err := bbolt.Open(c.statePath(), 0o600, options)
		if err == nil && write {
			err = errors.Join(db.Update(f), db.Close())
		} else if err == nil {
			err = errors.Join(db.View(f), db.Close())
		}
		panicked = false
		return err
	})
	if panicked && file != nil {
		return errors.Join(err, file.Close())
	}
	return err
}

// environment are the errors for which the machine is to blame. Any other is taken for the file's
// fault: bbolt tells damage in many ways, a write at a negative offset among them.
var environment = []error{
	bolterrors.ErrTimeout,
	syscall.EACCES, syscall.EPERM, syscall.EROFS,
	syscall.ENOSPC, syscall.EDQUOT, syscall.EIO,
	syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOLCK,
	syscall.ENOTDIR, syscall.EISDIR,
}

func environmental(err error) bool {
	return slices.ContainsFunc(environment, func(e error) bool { return errors.Is(err, e) })
}

// A state is stored as its number (8 bytes, big-endian), its body, and a checksum of 32 bytes, which
// also covers the repository's ID: bbolt itself notices damage only in its first two pages.

func encodeState(repository string, s *state) []byte {
	value := make([]byte, 0, 8+len(s.body)+checksumSize)
	value = binary.BigEndian.AppendUint64(value, s.seq)
	value = append(value, s.body...)
	return append(value, stateChecksum(repository, value)...)
}

// decodeState returns nil for what encodeState did not write for the repository. The result is a
// copy.
func decodeState(repository string, value []byte) *state {
	n := len(value) - checksumSize
	if n < 8 || !bytes.Equal(value[n:], stateChecksum(repository, value[:n])) {
		return nil
	}
	return &state{seq: binary.BigEndian.Uint64(value), body: bytes.Clone(value[8:n])}
}

func stateChecksum(repository string, value []byte) []byte {
	h := blake3.NewDeriveKey("varve 2026 cache state")
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(repository))))
	h.WriteString(repository)
	h.Write(value)
	return h.Sum(nil)
}
