package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/fxamacker/cbor/v2"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// An entry as it is stored:
//
//	magic "VRVJ" │ version 0 (1) │ zero (3) │ length of the operations (4)   12 bytes, plain
//	operations: CBOR, zeros                                                  sealed, catalog key
//	inline pack, if any                                                      sealed as packs are
//
// The zeros bring the whole entry to a Padmé size. Operations come first, so a reader of the history
// fetches only them; the hash that the next entry holds is over everything before the inline pack,
// whose own hash is among the operations.

// Folder is where entries lie in a bucket.
const Folder = "journal/"

// MaxEntry bounds an entry, and MaxInline the pack in it, in bytes.
const (
	MaxEntry  = 4 << 20
	MaxInline = 1 << 20
)

const (
	entryMagic   = "VRVJ"
	entryVersion = 0
	prefixSize   = 4 + 1 + 3 + 4

	// firstRead is how much of an entry is asked for at first: most entries are smaller.
	firstRead = 16 << 10
)

// TxID tells our entry from another's that carries the same operations.
type TxID [16]byte

// SnapshotID names a snapshot: 16 random bytes.
type SnapshotID [16]byte

// Entry is one transaction. All of its operations hold together or, when one breaks a precondition,
// none does. Pack numbers are those of the state before the entry, and the entry's own packs follow
// in the order of Add.
type Entry struct {
	Seq    uint64    `cbor:"1,keyasint"`
	Prev   blob.Hash `cbor:"2,keyasint"` // hash of entry Seq-1; zero in entry 0
	Tx     TxID      `cbor:"3,keyasint"`
	Time   int64     `cbor:"4,keyasint"` // milliseconds since 1970 by the writer's clock; says when something may be dropped, never whether
	Client string    `cbor:"5,keyasint,omitempty"`

	Genesis     *Genesis       `cbor:"6,keyasint,omitempty"`
	Features    []Feature      `cbor:"7,keyasint,omitempty"`
	Add         []Added        `cbor:"8,keyasint,omitempty"`
	Segments    []SegmentAdded `cbor:"9,keyasint,omitempty"`
	Snapshots   []Snapshot     `cbor:"10,keyasint,omitempty"`
	Forget      []Forget       `cbor:"11,keyasint,omitempty"`
	Unforget    []Unforget     `cbor:"12,keyasint,omitempty"`
	Hold        []SnapshotID   `cbor:"13,keyasint,omitempty"`
	Release     []SnapshotID   `cbor:"14,keyasint,omitempty"`
	Revive      *Packs         `cbor:"15,keyasint,omitempty"`
	Damaged     []Copy         `cbor:"16,keyasint,omitempty"`
	Prune       *Prune         `cbor:"17,keyasint,omitempty"`
	Checkpoint  *Vouched       `cbor:"18,keyasint,omitempty"`
	Signature   []byte         `cbor:"19,keyasint,omitempty"` // room for Ed25519; not in use
	SigningKeys []byte         `cbor:"20,keyasint,omitempty"` // room for keys and their rights; not in use
}

// Packs is a set of pack numbers.
type Packs = roaring.Bitmap

// Genesis stands in entry 0 and binds the journal to the repository's header.
type Genesis struct {
	Header blob.Hash `cbor:"1,keyasint"` // of varve.json
}

// Feature announces something that older programs do not know, and which work they must refuse.
type Feature struct {
	Name     string `cbor:"1,keyasint"`
	Required string `cbor:"2,keyasint"` // read, write or prune
}

// Added says that a pack exists. Rows, its encoded table, stand here unless a segment of the same
// entry covers the pack.
type Added struct {
	Name   blob.Hash `cbor:"1,keyasint"`
	Size   int64     `cbor:"2,keyasint"`
	Rows   []byte    `cbor:"3,keyasint,omitempty"`
	Inline bool      `cbor:"4,keyasint,omitempty"` // the pack stands behind the operations of this entry
}

// SegmentAdded says that an index segment exists and which packs' tables it holds.
type SegmentAdded struct {
	Name  blob.Hash `cbor:"1,keyasint"`
	Size  int64     `cbor:"2,keyasint"`
	Packs *Packs    `cbor:"3,keyasint"`
}

// Snapshot says that a backup is complete: all that its manifest reaches is stored.
type Snapshot struct {
	ID       SnapshotID   `cbor:"1,keyasint"`
	Manifest blob.ID      `cbor:"2,keyasint"`
	UID      string       `cbor:"3,keyasint,omitempty"` // of the Backup object; at most one snapshot each
	Time     int64        `cbor:"4,keyasint"`           // milliseconds since 1970, the start of the backup
	Inherits []SnapshotID `cbor:"5,keyasint,omitempty"` // snapshots whose blobs it builds on
	Adopts   []SnapshotID `cbor:"6,keyasint,omitempty"` // those of them that were forgotten meanwhile
	Refs     *Packs       `cbor:"7,keyasint,omitempty"` // packs it relies on beyond its own and what it inherits
	Part     string       `cbor:"8,keyasint,omitempty"` // UID of the owner if this is a part of a snapshot
}

// Forget says that a snapshot is no longer live.
type Forget struct {
	ID  SnapshotID `cbor:"1,keyasint"`
	Who string     `cbor:"2,keyasint,omitempty"`
	Why string     `cbor:"3,keyasint,omitempty"`
}

// Unforget says that a forgotten snapshot is live again. Refs are the packs that hold all it reaches;
// without them it can only come back as long as no prune has marked without it.
type Unforget struct {
	ID   SnapshotID `cbor:"1,keyasint"`
	Refs *Packs     `cbor:"2,keyasint,omitempty"`
}

// Copy is a blob in one pack. The zero blob stands for every blob of the pack.
type Copy struct {
	Blob blob.Ref `cbor:"1,keyasint"`
	Pack uint32   `cbor:"2,keyasint"`
}

// Prune is the part of an entry that only a prune may write. Base is the number of entries it had
// folded when it marked what is reachable.
type Prune struct {
	ID       TxID        `cbor:"1,keyasint"` // the same in all entries of one prune
	Base     uint64      `cbor:"2,keyasint"`
	Retire   *Packs      `cbor:"3,keyasint,omitempty"`
	Drop     *Packs      `cbor:"4,keyasint,omitempty"`
	Orphans  []blob.Hash `cbor:"5,keyasint,omitempty"` // objects that no entry names and that may be deleted
	Segments []blob.Hash `cbor:"6,keyasint,omitempty"` // replaced by those in Entry.Segments
}

// Vouched names a checkpoint that the writer has verified.
type Vouched struct {
	Next uint64    `cbor:"1,keyasint"` // entries folded into it
	Hash blob.Hash `cbor:"2,keyasint"` // of the stored bytes
	Size int64     `cbor:"3,keyasint"`
}

// Stored is an entry as it was read: its content, and what only the stored form tells.
type Stored struct {
	Entry
	Hash   blob.Hash // for the chain
	Inline int64     // where the inline pack begins, in bytes from the start of the entry
}

// Size returns how many bytes the stored entry has, neither more nor less: operations and inline pack.
func (s *Stored) Size() int64 {
	size := s.Inline
	for _, a := range s.Add {
		if a.Inline {
			size += a.Size
		}
	}
	return size
}

// NewTxID draws a transaction ID.
func NewTxID() (id TxID) {
	_, _ = rand.Read(id[:])
	return id
}

// NewSnapshotID draws the ID of a new snapshot.
func NewSnapshotID() (id SnapshotID) {
	_, _ = rand.Read(id[:])
	return id
}

// String returns 32 hexadecimal digits.
func (id SnapshotID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes the ID as [SnapshotID.String] does.
func (id SnapshotID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (id *SnapshotID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(id) {
		return fmt.Errorf("snapshot ID %q is not 32 hexadecimal digits", text)
	}
	copy(id[:], raw)
	return nil
}

// When returns the time by the writer's clock.
func (e *Entry) When() time.Time { return time.UnixMilli(e.Time).UTC() }

// Name returns the object name of entry n.
func Name(n uint64) string { return fmt.Sprintf("%s%016x", Folder, n) }

// ParseName returns the number in an object name that [Name] made.
func ParseName(name string) (n uint64, ok bool) {
	digits, found := strings.CutPrefix(name, Folder)
	if !found || len(digits) != 16 {
		return 0, false
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || Name(binary.BigEndian.Uint64(raw)) != name {
		return 0, false
	}
	return binary.BigEndian.Uint64(raw), true
}

// encode returns the stored form of an entry.
func encode(keys *seal.Keys, e *Entry, inline []byte) ([]byte, error) {
	ops, err := encoding.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode entry %d: %w", e.Seq, err)
	}
	bare := prefixSize + seal.Overhead + len(ops) + len(inline)
	ops = append(ops, make([]byte, seal.Padded(bare)-bare)...)
	if size := seal.Padded(bare); size > MaxEntry || len(inline) > MaxInline {
		return nil, fmt.Errorf("encode entry %d: %d bytes are more than %d", e.Seq, size, MaxEntry)
	}
	out := make([]byte, 0, seal.Padded(bare))
	out = append(out, entryMagic...)
	out = append(out, entryVersion, 0, 0, 0)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(ops)+seal.Overhead))
	out = append(out, keys.SealCatalog(seal.Entry, sealName(e.Seq), ops)...)
	return append(out, inline...), nil
}

// open decodes the operations of entry n from the start of its stored form.
func open(keys *seal.Keys, n uint64, data []byte) (*Stored, error) {
	length, ok := operationsEnd(data)
	if !ok && len(data) >= prefixSize && string(data[:4]) == entryMagic && data[4] > entryVersion {
		return nil, fmt.Errorf("entry %d has version %d, this program reads %d: %w", n, data[4], entryVersion, ErrVersion)
	}
	if !ok || length > len(data) {
		return nil, fmt.Errorf("entry %d is cut short or no entry: %w", n, ErrDamaged)
	}
	ops, err := keys.OpenCatalog(seal.Entry, sealName(n), data[prefixSize:length])
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w: %w", n, ErrDamaged, err)
	}
	s := &Stored{Hash: seal.HashOf(data[:length]), Inline: int64(length)}
	rest, err := inAnEntry.UnmarshalFirst(ops, &s.Entry)
	if _, unknown := errors.AsType[*cbor.UnknownFieldError](err); unknown {
		return nil, fmt.Errorf("entry %d says what this version does not know: %w", n, ErrVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w: %w", n, ErrDamaged, err)
	}
	if len(bytes.Trim(rest, "\x00")) > 0 || s.Seq != n {
		return nil, fmt.Errorf("entry %d holds something else: %w", n, ErrDamaged)
	}
	for _, set := range s.sets() {
		if set != nil && set.Validate() != nil {
			return nil, fmt.Errorf("entry %d holds a set of packs that is none: %w", n, ErrDamaged)
		}
	}
	return s, nil
}

// sets are all sets of packs in an entry.
func (e *Entry) sets() []*Packs {
	all := []*Packs{e.Revive}
	if e.Prune != nil {
		all = append(all, e.Prune.Retire, e.Prune.Drop)
	}
	for _, g := range e.Segments {
		all = append(all, g.Packs)
	}
	for _, sn := range e.Snapshots {
		all = append(all, sn.Refs)
	}
	for _, u := range e.Unforget {
		all = append(all, u.Refs)
	}
	return all
}

// operationsEnd tells from the prefix of a stored entry where its operations end, if it is one.
func operationsEnd(data []byte) (end int, ok bool) {
	if len(data) < prefixSize || string(data[:4]) != entryMagic || data[4] != entryVersion || data[5]|data[6]|data[7] != 0 {
		return 0, false
	}
	length := binary.LittleEndian.Uint32(data[8:])
	if length > MaxEntry-prefixSize {
		return 0, false
	}
	return prefixSize + int(length), true
}

// readOperations fetches the operations of entry n, in one request when they are short.
func readOperations(ctx context.Context, b storage.Bucket, n uint64) ([]byte, error) {
	start, err := readStart(ctx, b, n)
	if err != nil {
		return nil, err
	}
	return readRest(ctx, b, n, start)
}

// readStart fetches the first bytes of entry n.
func readStart(ctx context.Context, b storage.Bucket, n uint64) ([]byte, error) {
	data, err := b.Get(ctx, Name(n), 0, firstRead)
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", n, err)
	}
	return data, nil
}

// readRest fetches what of the operations of entry n is missing behind its first bytes.
func readRest(ctx context.Context, b storage.Bucket, n uint64, start []byte) ([]byte, error) {
	end, ok := operationsEnd(start)
	if !ok || end <= len(start) {
		return start, nil // what is wrong with it, open says
	}
	rest, err := b.Get(ctx, Name(n), int64(len(start)), int64(end-len(start)))
	if err != nil {
		return nil, fmt.Errorf("read entry %d: %w", n, err)
	}
	return append(start, rest...), nil
}

func sealName(n uint64) string { return fmt.Sprintf("%016x", n) }

// encoding is deterministic: the same entry or state gives the same bytes, so a repeated create is
// recognised and two writers of one checkpoint agree. Decoding is strict. What an entry lists takes at
// least the 17 bytes of an ID each, so more than maxListed of them are not in an entry of [MaxEntry];
// a list of nothing, which takes one byte an element, must not take a hundred times that of memory.
var (
	encoding  = must(cbor.CoreDetEncOptions().EncMode())
	decoding  = must(strict(1 << 30).DecMode())
	inAnEntry = must(strict(maxListed).DecMode())
)

const maxListed = 1 << 18

func strict(elements int) cbor.DecOptions {
	return cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxArrayElements: elements}
}

func must[T any](mode T, err error) T {
	if err != nil {
		panic("cbor refuses constant options: " + err.Error())
	}
	return mode
}
