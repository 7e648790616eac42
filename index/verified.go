package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.etcd.io/bbolt"

	"github.com/varve-dev/varve/repo/blob"
)

// When packs were last read and found right is the one thing in the cache that the bucket does not
// hold. Losing it costs nothing but that they are taken for never read.
//
//	hash of the pack (32) │ seconds since 1970 (8, big-endian)   for each pack
//
// under a key of its own, with number and checksum as a state has them.
var verifiedKey = []byte("verified")

const verifiedSize = hashSize + 8

// Verified returns when packs were last found right, to the second, as far as it is remembered.
func (c *Cache) Verified() map[blob.Hash]time.Time {
	c.mu.Lock()
	all := maps.Clone(c.verified)
	c.mu.Unlock()
	if all == nil {
		all = map[blob.Hash]time.Time{}
	}
	if c.dir == "" {
		return all
	}
	err := c.transact(false, func(tx *bbolt.Tx) error {
		if b := tx.Bucket(stateBucket); b != nil {
			keepLatest(all, decodeVerified(c.repository, b.Get(verifiedKey)))
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDamaged) {
		c.degrade(fmt.Errorf("read in the cache what was verified: %w", err))
	}
	return all
}

// SetVerified adds when packs were found right, and forgets the packs that do not exist any more.
func (c *Cache) SetVerified(when map[blob.Hash]time.Time, exists func(pack blob.Hash) bool) {
	c.mu.Lock()
	if c.verified == nil {
		c.verified = map[blob.Hash]time.Time{}
	}
	keepLatest(c.verified, when)
	maps.DeleteFunc(c.verified, func(pack blob.Hash, _ time.Time) bool { return !exists(pack) })
	all := maps.Clone(c.verified)
	c.mu.Unlock()
	if c.dir == "" {
		return
	}
	err := c.update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(stateBucket)
		if err != nil {
			return err
		}
		keepLatest(all, decodeVerified(c.repository, b.Get(verifiedKey)))
		maps.DeleteFunc(all, func(pack blob.Hash, _ time.Time) bool { return !exists(pack) })
		return b.Put(verifiedKey, encodeVerified(c.repository, all))
	})
	if err != nil {
		c.degrade(fmt.Errorf("keep in the cache what was verified: %w", err))
	}
}

func keepLatest(all, more map[blob.Hash]time.Time) {
	for pack, when := range more {
		if when.After(all[pack]) {
			all[pack] = when
		}
	}
}

func encodeVerified(repository string, all map[blob.Hash]time.Time) []byte {
	body := make([]byte, 0, len(all)*verifiedSize)
	for pack, when := range all {
		body = append(body, pack[:]...)
		body = binary.BigEndian.AppendUint64(body, uint64(when.Unix()))
	}
	return encodeState(repository, &state{body: body})
}

// decodeVerified returns nil for what encodeVerified did not write for the repository.
func decodeVerified(repository string, value []byte) map[blob.Hash]time.Time {
	s := decodeState(repository, value)
	if s == nil || len(s.body)%verifiedSize != 0 {
		return nil
	}
	all := make(map[blob.Hash]time.Time, len(s.body)/verifiedSize)
	for rest := s.body; len(rest) > 0; rest = rest[verifiedSize:] {
		all[blob.Hash(rest[:hashSize])] = time.Unix(int64(binary.BigEndian.Uint64(rest[hashSize:])), 0)
	}
	return all
}
