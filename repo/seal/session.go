package seal

import (
	"bytes"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/varve-dev/varve/repo/blob"
)

// SessionKey seals the blobs of one class that one writing session stores.
type SessionKey [32]byte

// Session holds the random keys of one writing session. It is immutable and safe for concurrent use.
type Session struct {
	keys     *Keys
	session  [len(blob.Classes) + 1]SessionKey // by class
	recovery hpke.PublicKey                    // nil: wrapped by content keys
}

// ErrNoKey means that a session key is sealed to somebody else: to a recovery key that the reader
// does not hold.
var ErrNoKey = errors.New("the session key is sealed to a recovery key")

// How a key table wraps its keys. The numbers are part of the format.
const (
	byContentKey  = 0 // under the content key of the one class
	byRecoveryKey = 1 // HPKE to the recovery key, for all classes of the record at once
)

// keyRecord is one record of a key table: the session keys of some classes, wrapped together. Keys
// are numbered through all records of a table in order.
type keyRecord struct {
	Method  uint8  `cbor:"1,keyasint"`
	Epoch   uint32 `cbor:"2,keyasint"`
	Classes []byte `cbor:"3,keyasint"`
	Wrapped []byte `cbor:"4,keyasint"`
}

// maxKeys bounds the keys of one table, since a row names its key by one byte.
const maxKeys = 256

// The HPKE suite for recovery keys: hybrid post-quantum, so that a bucket copied today stays closed.
func recoverySuite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// GenerateRecoveryKey makes a key pair for [Keys.NewSession]; its bytes are what an operator keeps.
func GenerateRecoveryKey() (hpke.PrivateKey, error) {
	kem, _, _ := recoverySuite()
	key, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make recovery key: %w", err)
	}
	return key, nil
}

// NewSession draws the keys of a writing session. With a recovery key the session's contents can be
// read only by its holder; without one, by every holder of the content keys.
func (k *Keys) NewSession(recovery hpke.PublicKey) *Session {
	s := &Session{keys: k, recovery: recovery}
	for _, c := range blob.Classes {
		_, _ = rand.Read(s.session[c][:])
	}
	return s
}

// Key returns the session's key for a class.
func (s *Session) Key(class blob.Class) SessionKey { return s.session[class] }

// KeyTable returns the plaintext of a key table that holds the session's keys of the given classes,
// numbered in that order.
func (s *Session) KeyTable(classes []blob.Class) ([]byte, error) {
	var records []keyRecord
	if s.recovery != nil {
		record := keyRecord{Method: byRecoveryKey, Epoch: epoch}
		var joined []byte
		for _, c := range classes {
			record.Classes = append(record.Classes, byte(c))
			joined = append(joined, s.session[c][:]...)
		}
		_, kdf, aead := recoverySuite()
		var err error
		if record.Wrapped, err = hpke.Seal(s.recovery, kdf, aead, s.keys.wrapInfo(record), joined); err != nil {
			return nil, fmt.Errorf("seal session keys to the recovery key: %w", err)
		}
		records = append(records, record)
	} else {
		for _, c := range classes {
			record := keyRecord{Method: byContentKey, Epoch: epoch, Classes: []byte{byte(c)}}
			record.Wrapped = sealUnder(&s.keys.contents[c], s.keys.wrapInfo(record), s.session[c][:])
			records = append(records, record)
		}
	}
	return encodeKeyTable(records)
}

// WrappedKeys are the session keys of a key table as they are stored, still wrapped: who copies blobs
// into another pack copies their keys along without being able to use them. Its zero value is empty.
type WrappedKeys struct {
	records []keyRecord
	keys    int // in all records
	size    int // about, of the encoded table
}

// recordOverhead is more than what a record takes besides its wrapped keys.
const recordOverhead = 64

// ParseKeyTable reads the plaintext of a key table without unwrapping anything.
func ParseKeyTable(table []byte) (WrappedKeys, error) {
	var w WrappedKeys
	if err := cbor.Unmarshal(table, &w.records); err != nil {
		return WrappedKeys{}, fmt.Errorf("decode key table: %w", ErrOpen)
	}
	for _, r := range w.records {
		w.keys += len(r.Classes)
		w.size += len(r.Wrapped) + recordOverhead
	}
	if w.keys > maxKeys {
		return WrappedKeys{}, fmt.Errorf("decode key table: %d keys are more than %d: %w", w.keys, maxKeys, ErrOpen)
	}
	return w, nil
}

// Len returns the number of keys.
func (w WrappedKeys) Len() int { return w.keys }

// Join takes over all keys of another table, those it has already only once, and returns the number that
// each of them has here. When they do not fit into a table of the given size in bytes, nothing changes
// and ok is false.
func (w *WrappedKeys) Join(from WrappedKeys, most int) (numbers []uint8, ok bool) {
	joined := WrappedKeys{records: slices.Clip(w.records), keys: w.keys, size: w.size}
	for _, r := range from.records {
		first := 0 // number of the record's first key
		at := slices.IndexFunc(joined.records, func(o keyRecord) bool {
			return o.Method == r.Method && o.Epoch == r.Epoch && bytes.Equal(o.Classes, r.Classes) && bytes.Equal(o.Wrapped, r.Wrapped)
		})
		if at < 0 {
			at = len(joined.records)
			joined.records = append(joined.records, r)
			joined.keys += len(r.Classes)
			joined.size += len(r.Wrapped) + recordOverhead
		}
		for _, before := range joined.records[:at] {
			first += len(before.Classes)
		}
		for i := range r.Classes {
			numbers = append(numbers, uint8(first+i))
		}
	}
	if joined.keys > maxKeys || joined.size > most {
		return nil, false
	}
	*w = joined
	return numbers, true
}

// Encode returns the plaintext of a key table of these keys.
func (w WrappedKeys) Encode() ([]byte, error) { return encodeKeyTable(w.records) }

func encodeKeyTable(records []keyRecord) ([]byte, error) {
	table, err := cbor.Marshal(records)
	if err != nil {
		return nil, fmt.Errorf("encode key table: %w", err)
	}
	return table, nil
}

// OpenKeyTable unwraps the session keys of a key table, in the order of their numbers. Keys sealed
// to a recovery key need that key; without it (nil) they make the call fail with [ErrNoKey].
func (k *Keys) OpenKeyTable(table []byte, recovery hpke.PrivateKey) ([]SessionKey, error) {
	var records []keyRecord
	if err := cbor.Unmarshal(table, &records); err != nil {
		return nil, fmt.Errorf("decode key table: %w", ErrOpen)
	}
	var keys []SessionKey
	for _, r := range records {
		joined, err := k.unwrap(r, recovery)
		if err != nil {
			return nil, err
		}
		if len(joined) != len(r.Classes)*len(SessionKey{}) || len(keys)+len(r.Classes) > maxKeys {
			return nil, fmt.Errorf("decode key table: wrong number of keys: %w", ErrOpen)
		}
		for ; len(joined) > 0; joined = joined[len(SessionKey{}):] {
			keys = append(keys, SessionKey(joined[:len(SessionKey{})]))
		}
	}
	return keys, nil
}

func (k *Keys) unwrap(r keyRecord, recovery hpke.PrivateKey) ([]byte, error) {
	switch {
	case r.Method == byContentKey && len(r.Classes) == 1 && blob.Class(r.Classes[0]).Valid():
		keys, err := openUnder(&k.contents[r.Classes[0]], k.wrapInfo(r), r.Wrapped)
		if err != nil {
			return nil, fmt.Errorf("unwrap session key: %w", err)
		}
		return keys, nil
	case r.Method == byRecoveryKey && recovery == nil:
		return nil, ErrNoKey
	case r.Method == byRecoveryKey:
		_, kdf, aead := recoverySuite()
		keys, err := hpke.Open(recovery, kdf, aead, k.wrapInfo(r), r.Wrapped)
		if err != nil {
			return nil, fmt.Errorf("open session keys with the recovery key: %w", ErrOpen)
		}
		return keys, nil
	}
	return nil, fmt.Errorf("unwrap session key: method %d is unknown: %w", r.Method, ErrOpen)
}

// wrapInfo binds a wrapped key to its repository, epoch, method and classes.
func (k *Keys) wrapInfo(r keyRecord) []byte {
	info := append([]byte("session keys"), k.repository[:]...)
	info = append(info, r.Method, byte(r.Epoch), byte(r.Epoch>>8), byte(r.Epoch>>16), byte(r.Epoch>>24))
	return append(info, r.Classes...)
}
