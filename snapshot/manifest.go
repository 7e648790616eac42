package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Manifest is the record of one run: a two-part blob of class manifest. Its links are the blobs that
// it refers to, in the order of the fields that do, so that marking finds all that the snapshot
// reaches; its body is a map in CBOR, core deterministic encoding, with the numbers of the fields as
// keys. A field that refers to a blob says only that it does, and takes the next link:
//
//	 1 ID, 16 bytes     6 completed         10 objects ┐            14 plan      ┐
//	 2 name             7 expires            11 volumes ├ root       15 discovery ├ part
//	 3 schedule         8 complete           12 digests ┘            16 results   │
//	 4 cluster          9 stats              13 digest of all        17 sparse    ┘
//	 5 started                                                       18 errors, 19 warnings
//
//	root     {1: height, 2: count, 3: bytes}           a link if the height is not 0
//	part     {1: inline bytes} or {2: true}            a link if the second
//	time     milliseconds since 1970
//
// Fields that are zero are left out. A manifest has exactly one encoding, and no other is accepted.
type Manifest struct {
	ID        ID
	Name      string    // chosen by who made it; several snapshots may share one
	Schedule  string    // that it was made by, if any
	Cluster   string    // UID of the cluster, of its namespace kube-system; empty if there is none
	Started   time.Time // to the millisecond, as all times here
	Completed time.Time
	Expires   time.Time // zero: never
	Complete  bool      // nothing that was selected is missing

	Objects     tree.Root // map of the objects
	Volumes     tree.Root // map from name to volume; its Count is their number, its Bytes their size
	DigestTable tree.Root // map of digests, see Snapshot.Digests
	Digest      Sum       // of all objects

	Plan      Part // what it was made by, JSON
	Discovery Part // what the cluster said of its API, JSON
	Results   Part // what went wrong, item by item
	Sparse    Part // bundles of the objects that the next run should give up

	Errors   uint64 // items that failed
	Warnings uint64
	Stats    Stats
}

// Stats say what a run cost. New and stored are as of the writing of the manifest, so without the
// manifest itself, and without what the last, unfinished pack takes.
type Stats struct {
	Items       uint64 `cbor:"1,keyasint,omitempty" json:"items"`       // objects and files
	Bytes       uint64 `cbor:"2,keyasint,omitempty" json:"bytes"`       // their logical size
	ReadBytes   uint64 `cbor:"3,keyasint,omitempty" json:"readBytes"`   // of their contents, read from the source
	NewBlobs    uint64 `cbor:"4,keyasint,omitempty" json:"newBlobs"`    // that the repository did not have
	NewBytes    uint64 `cbor:"5,keyasint,omitempty" json:"newBytes"`    // of these, as plaintext
	StoredBytes uint64 `cbor:"6,keyasint,omitempty" json:"storedBytes"` // of these, sealed and in the bucket
	Requests    uint64 `cbor:"7,keyasint,omitempty" json:"requests"`    // to the source's API
}

// Part is a bulky part of a manifest. Small ones stand in the manifest, others are blobs of class
// data. The zero Part is empty.
type Part struct {
	Inline []byte
	Blob   blob.Ref
}

// Volume is a volume in a snapshot: which claim it was, and where its files are.
type Volume struct {
	Name      string    // unique in the snapshot; a word of an address, so without slashes
	Namespace string    // of the claim
	Claim     string    // name of the PersistentVolumeClaim
	Class     string    // storage class
	Capacity  string    // as the claim writes it, such as 10Gi
	Mode      string    // Filesystem or Block
	Root      tree.Root // map of its files
	sparse    Part
}

// Severity tells an error, by which something selected is missing from the backup, from a warning.
type Severity uint8

// The severities. Their numbers are part of the format.
const (
	Error   Severity = 1
	Warning Severity = 2
)

// String returns the severity's word.
func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Warning:
		return "warning"
	}
	return fmt.Sprintf("severity(%d)", uint8(s))
}

// MarshalText writes the severity as [Severity.String] does.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Result is what happened to one item.
type Result struct {
	_        struct{} `cbor:",toarray"`
	Severity Severity `json:"severity"`
	Item     string   `json:"item"` // its address in the snapshot, or the place it would have
	Message  string   `json:"message"`
}

// record is a manifest as it stands in CBOR.
type record struct {
	ID        ID         `cbor:"1,keyasint"`
	Name      string     `cbor:"2,keyasint,omitempty"`
	Schedule  string     `cbor:"3,keyasint,omitempty"`
	Cluster   string     `cbor:"4,keyasint,omitempty"`
	Started   int64      `cbor:"5,keyasint,omitempty"`
	Completed int64      `cbor:"6,keyasint,omitempty"`
	Expires   int64      `cbor:"7,keyasint,omitempty"`
	Complete  bool       `cbor:"8,keyasint,omitempty"`
	Stats     Stats      `cbor:"9,keyasint,omitzero"`
	Objects   rootRecord `cbor:"10,keyasint,omitzero"`
	Volumes   rootRecord `cbor:"11,keyasint,omitzero"`
	Digests   rootRecord `cbor:"12,keyasint,omitzero"`
	Digest    Sum        `cbor:"13,keyasint,omitzero"`
	Plan      partRecord `cbor:"14,keyasint,omitzero"`
	Discovery partRecord `cbor:"15,keyasint,omitzero"`
	Results   partRecord `cbor:"16,keyasint,omitzero"`
	Sparse    partRecord `cbor:"17,keyasint,omitzero"`
	Errors    uint64     `cbor:"18,keyasint,omitempty"`
	Warnings  uint64     `cbor:"19,keyasint,omitempty"`
}

// volumeRecord is the value of a volume's entry; the entry's key is the name, and its references are
// what the record refers to.
type volumeRecord struct {
	Namespace string     `cbor:"1,keyasint,omitempty"`
	Claim     string     `cbor:"2,keyasint,omitempty"`
	Class     string     `cbor:"3,keyasint,omitempty"`
	Capacity  string     `cbor:"4,keyasint,omitempty"`
	Mode      string     `cbor:"5,keyasint,omitempty"`
	Root      rootRecord `cbor:"6,keyasint,omitzero"`
	Sparse    partRecord `cbor:"7,keyasint,omitzero"`
}

type rootRecord struct {
	Height int    `cbor:"1,keyasint,omitempty"`
	Count  uint64 `cbor:"2,keyasint,omitempty"`
	Bytes  uint64 `cbor:"3,keyasint,omitempty"`
}

type partRecord struct {
	Inline []byte `cbor:"1,keyasint,omitempty"`
	Linked bool   `cbor:"2,keyasint,omitempty"`
}

// linker collects links in the order in which fields refer to them.
type linker struct{ links []blob.Ref }

func (l *linker) root(r tree.Root) rootRecord {
	if r.Empty() {
		return rootRecord{}
	}
	l.links = append(l.links, r.Ref)
	return rootRecord{Height: r.Height, Count: r.Count, Bytes: r.Bytes}
}

func (l *linker) part(p Part) partRecord {
	if p.Blob.IsZero() {
		return partRecord{Inline: p.Inline}
	}
	l.links = append(l.links, p.Blob)
	return partRecord{Linked: true}
}

// unlinker hands the links out again.
type unlinker struct {
	links []blob.Ref
	err   error
}

func (u *unlinker) take(class blob.Class) (ref blob.Ref) {
	if len(u.links) == 0 {
		u.err = errors.New("a field refers to a link that is not there")
		return ref
	}
	ref, u.links = u.links[0], u.links[1:]
	if ref.Class != class {
		u.err = fmt.Errorf("a field refers to %v, which is not of class %v", ref, class)
	}
	return ref
}

func (u *unlinker) root(r rootRecord) tree.Root {
	if r.Height == 0 {
		return tree.Root{} // that nothing else is set is seen when it is encoded again
	}
	return tree.Root{Ref: u.take(blob.Tree), Height: r.Height, Count: r.Count, Bytes: r.Bytes}
}

func (u *unlinker) part(p partRecord) Part {
	if p.Linked {
		return Part{Blob: u.take(blob.Data)}
	}
	return Part{Inline: p.Inline}
}

func (u *unlinker) end() error {
	if u.err == nil && len(u.links) > 0 {
		u.err = fmt.Errorf("%d links that no field refers to", len(u.links))
	}
	return u.err
}

func encodeManifest(m Manifest) (blob.Node, error) {
	var l linker
	body, err := encoding.Marshal(record{
		ID: m.ID, Name: m.Name, Schedule: m.Schedule, Cluster: m.Cluster,
		Started: millis(m.Started), Completed: millis(m.Completed), Expires: millis(m.Expires), Complete: m.Complete,
		Objects: l.root(m.Objects), Volumes: l.root(m.Volumes), Digests: l.root(m.DigestTable), Digest: m.Digest,
		Plan: l.part(m.Plan), Discovery: l.part(m.Discovery), Results: l.part(m.Results), Sparse: l.part(m.Sparse),
		Errors: m.Errors, Warnings: m.Warnings, Stats: m.Stats,
	})
	return blob.Node{Links: l.links, Body: body}, err
}

func decodeManifest(n blob.Node) (Manifest, error) {
	var r record
	if err := unmarshal(n.Body, &r); err != nil {
		return Manifest{}, err
	}
	u := unlinker{links: n.Links}
	m := Manifest{
		ID: r.ID, Name: r.Name, Schedule: r.Schedule, Cluster: r.Cluster,
		Started: fromMillis(r.Started), Completed: fromMillis(r.Completed), Expires: fromMillis(r.Expires), Complete: r.Complete,
		Objects: u.root(r.Objects), Volumes: u.root(r.Volumes), DigestTable: u.root(r.Digests), Digest: r.Digest,
		Plan: u.part(r.Plan), Discovery: u.part(r.Discovery), Results: u.part(r.Results), Sparse: u.part(r.Sparse),
		Errors: r.Errors, Warnings: r.Warnings, Stats: r.Stats,
	}
	if err := u.end(); err != nil {
		return Manifest{}, err
	}
	again, err := encodeManifest(m)
	return m, sameEncoding(again.Body, n.Body, err)
}

func encodeVolume(v Volume) (tree.Entry, error) {
	var l linker
	value, err := encoding.Marshal(volumeRecord{
		Namespace: v.Namespace, Claim: v.Claim, Class: v.Class, Capacity: v.Capacity, Mode: v.Mode,
		Root: l.root(v.Root), Sparse: l.part(v.sparse),
	})
	return tree.Entry{Key: []byte(v.Name), Value: value, Refs: l.links, Bytes: v.Root.Bytes}, err
}

func decodeVolume(e tree.Entry) (Volume, error) {
	var r volumeRecord
	if err := unmarshal(e.Value, &r); err != nil {
		return Volume{}, err
	}
	u := unlinker{links: e.Refs}
	v := Volume{
		Name: string(e.Key), Namespace: r.Namespace, Claim: r.Claim, Class: r.Class, Capacity: r.Capacity, Mode: r.Mode,
		Root: u.root(r.Root), sparse: u.part(r.Sparse),
	}
	if err := u.end(); err != nil {
		return Volume{}, err
	}
	again, err := encodeVolume(v)
	return v, sameEncoding(again.Value, e.Value, err)
}

func sameEncoding(again, read []byte, err error) error {
	if err == nil && !bytes.Equal(again, read) {
		err = errors.New("it is not in its only encoding")
	}
	return err
}

// millis takes the zero time as 0, so that a field without time is left out.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// encodeRefs lays out references end to end: class (1) │ ID (32).
func encodeRefs(refs []blob.Ref) (data []byte) {
	for _, r := range refs {
		data = append(append(data, byte(r.Class)), r.ID[:]...)
	}
	return data
}

func decodeRefs(data []byte) ([]blob.Ref, error) {
	const size = 1 + len(blob.ID{})
	if len(data)%size != 0 {
		return nil, fmt.Errorf("%d bytes, not a multiple of %d", len(data), size)
	}
	var refs []blob.Ref
	for ; len(data) > 0; data = data[size:] {
		r := blob.Ref{Class: blob.Class(data[0]), ID: blob.ID(data[1:size])}
		if !r.Class.Valid() {
			return nil, fmt.Errorf("unknown class %d", data[0])
		}
		refs = append(refs, r)
	}
	return refs, nil
}

var (
	encoding = must(cbor.CoreDetEncOptions().EncMode())
	decoding = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   4,
		MaxArrayElements:  maxResults,
		MaxMapPairs:       32,
	}.DecMode())
)

func must[T any](mode T, err error) T {
	if err != nil {
		panic("cbor refuses constant options: " + err.Error())
	}
	return mode
}

func unmarshal(data []byte, into any) error { return decoding.Unmarshal(data, into) }
