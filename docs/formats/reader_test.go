package formats_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
)

// A reader reads a repository by what the pages of this folder say, and ends the test where it is
// otherwise. It shares no code with Varve. It is short because it holds everything in memory and
// gives up at the first surprise; a reader for use may do neither.
type reader struct {
	t      *testing.T
	bucket fs.FS
	zstd   *zstd.Decoder

	repository []byte
	ids        map[byte][]byte // by class
	contents   map[byte][]byte // by class
	catalog    []byte
	cut        []byte

	slot  string // the ID of the key slot
	label string // as sealed in its name, in hex digits

	blobs     map[name]place
	snapshots []snapshotRecord
	segments  int
}

// classes are the classes of blobs by their numbers.
var classes = map[byte]string{1: "data", 2: "tree", 3: "secrets", 4: "manifest"}

// A name is a blob's: its class and ID.
type name struct {
	class byte
	id    [32]byte
}

// A place is where a blob lies.
type place struct {
	pack                         *packFile
	key                          byte
	offset, stored, plain, links uint32
}

// A packFile is a pack with its session keys.
type packFile struct {
	hash [32]byte
	data []byte
	keys [][]byte
}

// newReader opens a repository: header, key slot, journal, packs and segments.
func newReader(t *testing.T, bucket fs.FS, password string) *reader {
	r := &reader{t: t, bucket: bucket, ids: map[byte][]byte{}, contents: map[byte][]byte{}, blobs: map[name]place{}}
	var err error
	r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	r.check(err)
	t.Cleanup(r.zstd.Close)
	header := r.file("varve.json")
	var head struct {
		Format, Repository string
		Version            int
	}
	r.check(json.Unmarshal(header, &head))
	r.want(head.Format == "varve" && head.Version == 0, "header %s", header)
	r.repository, err = hex.DecodeString(head.Repository)
	r.check(err)
	r.derive(r.master(password))
	r.slotLabel()
	r.journal(blake3.Sum256(header))
	return r
}

func (r *reader) want(holds bool, format string, args ...any) {
	if !holds {
		r.t.Helper()
		r.t.Fatalf("not as documented: "+format, args...)
	}
}

func (r *reader) check(err error) {
	if err != nil {
		r.t.Helper()
		r.t.Fatal(err)
	}
}

func (r *reader) file(path string) []byte {
	r.t.Helper()
	data, err := fs.ReadFile(r.bucket, path)
	r.check(err)
	return data
}

func (r *reader) decode(data []byte, into any) (rest []byte) {
	r.t.Helper()
	rest, err := cbor.UnmarshalFirst(data, into)
	r.check(err)
	return rest
}

// Keys and sealing.

func (r *reader) master(password string) []byte {
	slots, err := fs.Glob(r.bucket, "keys/*")
	r.check(err)
	r.want(len(slots) == 1, "%d key slots", len(slots))
	slot := r.file(slots[0])
	id, label, _ := strings.Cut(slots[0], "-")
	r.want(id == fmt.Sprintf("keys/%x", blake3.Sum256(slot)) && len(label) == 2*(12+40+16), "name of %s", slots[0])
	r.slot, r.label = strings.TrimPrefix(id, "keys/"), label
	identity, err := age.NewScryptIdentity(password)
	r.check(err)
	plain, err := age.Decrypt(bytes.NewReader(slot), identity)
	r.check(err)
	raw, err := io.ReadAll(plain)
	r.check(err)
	var content struct {
		Master     []byte `cbor:"1,keyasint"`
		Repository []byte `cbor:"2,keyasint"`
	}
	r.decode(raw, &content)
	r.want(bytes.Equal(content.Repository, r.repository), "the slot is of repository %x", content.Repository)
	return content.Master
}

// slotLabel opens the label in the slot's name, which is empty unless one was given.
func (r *reader) slotLabel() {
	sealed, err := hex.DecodeString(r.label)
	r.check(err)
	label := r.unsealCatalog("key slot", r.slot, sealed)
	r.want(bytes.Equal(label, make([]byte, 40)), "label %q", label)
}

func (r *reader) derive(master []byte) {
	material := bytes.Join([][]byte{master, r.repository, make([]byte, 4)}, nil)
	for class, word := range classes {
		r.ids[class] = derived("varve.dev 0 id "+word, material)
		r.contents[class] = derived("varve.dev 0 content "+word, material)
	}
	r.catalog = derived("varve.dev 0 catalog", material)
	r.cut = derived("varve.dev 0 cut", material)
}

func derived(context string, material []byte) []byte {
	key := make([]byte, 32)
	blake3.DeriveKey(context, material, key)
	return key
}

func keyed(key []byte, parts ...[]byte) []byte {
	hash, err := blake3.NewKeyed(key)
	if err != nil {
		panic(err)
	}
	for _, part := range parts {
		hash.Write(part)
	}
	return hash.Sum(nil)
}

// unseal opens nonce ‖ ciphertext ‖ tag.
func (r *reader) unseal(key, associated, sealed []byte) []byte {
	r.t.Helper()
	block, err := aes.NewCipher(key)
	r.check(err)
	aead, err := cipher.NewGCM(block)
	r.check(err)
	plain, err := aead.Open(nil, sealed[:12], sealed[12:], associated)
	r.check(err)
	r.want(bytes.Equal(sealed[:12], keyed(key, []byte("nonce"), plain)[:12]), "nonce")
	return plain
}

func (r *reader) unsealCatalog(kind, name string, sealed []byte) []byte {
	r.t.Helper()
	associated := bytes.Join([][]byte{r.repository, {byte(len(kind))}, []byte(kind), []byte(name)}, nil)
	return r.unseal(keyed(r.catalog, associated), associated, sealed)
}

// padded tells whether a length is a Padmé size.
func padded(n int) bool {
	e := bits.Len(uint(n)) - 1
	s := bits.Len(uint(e))
	return n&(1<<(e-s)-1) == 0
}

// The journal.

type snapshotRecord struct {
	ID       []byte `cbor:"1,keyasint"`
	Manifest []byte `cbor:"2,keyasint"`
}

type entryRecord struct {
	Seq     uint64 `cbor:"1,keyasint"`
	Prev    []byte `cbor:"2,keyasint"`
	Genesis struct {
		Header []byte `cbor:"1,keyasint"`
	} `cbor:"6,keyasint"`
	Add []struct {
		Name   []byte `cbor:"1,keyasint"`
		Size   int    `cbor:"2,keyasint"`
		Rows   []byte `cbor:"3,keyasint"`
		Inline bool   `cbor:"4,keyasint"`
	} `cbor:"8,keyasint"`
	Segments []struct {
		Name []byte `cbor:"1,keyasint"`
		Size int    `cbor:"2,keyasint"`
	} `cbor:"9,keyasint"`
	Snapshots []snapshotRecord `cbor:"10,keyasint"`
}

func (r *reader) journal(header [32]byte) {
	names, err := fs.Glob(r.bucket, "journal/*")
	r.check(err)
	previous := [32]byte{}
	for seq := range names {
		digits := fmt.Sprintf("%016x", seq)
		data := r.file("journal/" + digits)
		r.want(string(data[:4]) == "VRVJ" && data[4] == 0, "start of entry %d", seq)
		r.want(padded(len(data)), "entry %d has %d bytes", seq, len(data))
		end := 12 + binary.LittleEndian.Uint32(data[8:])
		var e entryRecord
		zeros := r.decode(r.unsealCatalog("journal entry", digits, data[12:end]), &e)
		r.want(len(bytes.Trim(zeros, "\x00")) == 0, "bytes behind the operations of entry %d", seq)
		r.want(e.Seq == uint64(seq) && bytes.Equal(e.Prev, previous[:]), "chain at entry %d", seq)
		r.want(seq > 0 || bytes.Equal(e.Genesis.Header, header[:]), "hash of varve.json")
		previous = blake3.Sum256(data[:end])
		for _, a := range e.Add {
			stored := data[end:]
			if !a.Inline {
				stored = r.file(fmt.Sprintf("packs/%x/%x", a.Name[:1], a.Name))
			}
			hash := blake3.Sum256(stored)
			r.want(bytes.Equal(a.Name, hash[:]) && a.Size == len(stored), "name and size of pack %x", a.Name)
			r.pack(stored, a.Rows)
		}
		for _, s := range e.Segments {
			r.segment(s.Name, s.Size)
		}
		r.snapshots = append(r.snapshots, e.Snapshots...)
	}
}

// Packs.

func (r *reader) pack(data, rows []byte) {
	r.want(string(data[:4]) == "VRVP" && data[4] == 0 && padded(len(data)), "a pack of %d bytes", len(data))
	label := hex.EncodeToString(data[8:24])
	keyTable := r.unsealCatalog("pack keys", label, data[28:28+binary.LittleEndian.Uint32(data[24:])])
	trailer := r.unsealCatalog("pack trailer", label, data[len(data)-36:])
	start, length := binary.LittleEndian.Uint32(trailer), binary.LittleEndian.Uint32(trailer[4:])
	table := r.unsealCatalog("pack table", label, data[start:start+length])
	bound := keyed(r.catalog, []byte("pack label"), binary.LittleEndian.AppendUint64(nil, uint64(len(keyTable))), keyTable, table)
	r.want(bytes.Equal(bound[:16], data[8:24]), "label of a pack")
	inTable := table[4 : 4+50*binary.LittleEndian.Uint32(table)]
	r.want(rows == nil || bytes.Equal(rows, inTable), "rows in the journal")

	p := &packFile{hash: blake3.Sum256(data), data: data, keys: r.sessionKeys(keyTable)}
	for row := inTable; len(row) > 0; row = row[50:] {
		number := func(at int) uint32 { return binary.LittleEndian.Uint32(row[at:]) }
		r.blobs[name{row[32], [32]byte(row[:32])}] =
			place{pack: p, key: row[33], offset: number(34), stored: number(38), plain: number(42), links: number(46)}
	}
}

func (r *reader) sessionKeys(keyTable []byte) (keys [][]byte) {
	var records []struct {
		Method  byte   `cbor:"1,keyasint"`
		Epoch   uint32 `cbor:"2,keyasint"`
		Classes []byte `cbor:"3,keyasint"`
		Wrapped []byte `cbor:"4,keyasint"`
	}
	r.decode(keyTable, &records)
	for _, k := range records {
		r.want(k.Method == 0 && k.Epoch == 0 && len(k.Classes) == 1, "key record %v", k)
		info := bytes.Join([][]byte{[]byte("session keys"), r.repository, {k.Method}, make([]byte, 4), k.Classes}, nil)
		keys = append(keys, r.unseal(r.contents[k.Classes[0]], info, k.Wrapped))
	}
	return keys
}
