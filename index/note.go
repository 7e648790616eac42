package index

import (
	"bytes"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// noteKey is where a note is kept beside the state, with number and checksum as a state has them.
func noteKey(name string) []byte { return []byte("note " + name) }

// Note returns what [Cache.SetNote] has kept under a name, or nil.
func (c *Cache) Note(name string) []byte {
	c.mu.Lock()
	body, held := c.notes[name]
	c.mu.Unlock()
	if held || c.dir == "" {
		return bytes.Clone(body)
	}
	err := c.transact(false, func(tx *bbolt.Tx) error {
		if b := tx.Bucket(stateBucket); b != nil {
			if s := decodeState(c.repository, b.Get(noteKey(name))); s != nil {
				body = s.body
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDamaged) {
		c.degrade(fmt.Errorf("read note %q in the cache: %w", name, err))
	}
	return body
}

// SetNote keeps something that costs time to find out again, in the place of what was there under the name.
// It goes when the state is dropped: what it says is of that history.
func (c *Cache) SetNote(name string, body []byte) {
	var err error
	if c.dir != "" {
		err = c.update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(stateBucket)
			if err != nil {
				return err
			}
			return b.Put(noteKey(name), encodeState(c.repository, &state{body: body}))
		})
	}
	if err != nil {
		c.degrade(fmt.Errorf("keep note %q in the cache: %w", name, err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.notes, name)
	if err == nil && c.dir != "" {
		return
	}
	if c.notes == nil {
		c.notes = map[string][]byte{}
	}
	c.notes[name] = bytes.Clone(body)
}
