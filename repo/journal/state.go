package journal

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/varve-dev/varve/repo/blob"
)

// State is what the entries up to one number say together. Its zero value is the state before entry 0.
// Packs are numbered in the order in which entries added them, and a number is never used again.
type State struct {
	Rules      uint64        `cbor:"14,keyasint"` // of the fold that made it, see [rules]
	Next       uint64        `cbor:"1,keyasint"`  // entries folded; the number of the entry to come
	Head       blob.Hash     `cbor:"2,keyasint"`  // hash of entry Next-1
	Header     blob.Hash     `cbor:"3,keyasint"`  // of varve.json, from entry 0
	Features   []Feature     `cbor:"4,keyasint,omitempty"`
	Packs      []Pack        `cbor:"5,keyasint,omitempty"` // by number
	Snapshots  []Live        `cbor:"6,keyasint,omitempty"` // in the order of their entries
	Forgotten  []Forgotten   `cbor:"7,keyasint,omitempty"`
	Segments   []SegmentInfo `cbor:"8,keyasint,omitempty"`
	GivenUp    []GivenUp     `cbor:"9,keyasint,omitempty"` // objects that no entry may add any more: orphans, segments replaced
	Damaged    []Copy        `cbor:"10,keyasint,omitempty"`
	Checkpoint Vouched       `cbor:"11,keyasint"` // the newest one vouched for
	Prunes     PruneMark     `cbor:"12,keyasint"`
	Upset      uint64        `cbor:"13,keyasint,omitempty"` // newest entry that says what no prune may have overlooked: a damage, an adoption
	Harmed     uint64        `cbor:"15,keyasint,omitempty"` // newest entry that says of a copy that it is damaged

	at places
}

// Status is where a pack stands in its life.
type Status uint8

// The life of a pack: live packs are offered for deduplication, retired ones are still readable and
// may be revived, dropped ones may be deleted from the bucket.
const (
	LivePack    Status = 0
	RetiredPack Status = 1
	DroppedPack Status = 2
)

// Pack is a pack as the state knows it.
type Pack struct {
	Name      blob.Hash `cbor:"1,keyasint"`
	Size      int64     `cbor:"2,keyasint"`
	Status    Status    `cbor:"3,keyasint,omitempty"`
	Entry     uint64    `cbor:"4,keyasint,omitempty"` // number of the entry that added it
	Inline    int64     `cbor:"5,keyasint,omitempty"` // where it begins in that entry; 0: an object of its own
	Retired   int64     `cbor:"6,keyasint,omitempty"` // when, milliseconds since 1970
	Rows      []byte    `cbor:"7,keyasint,omitempty"` // its table, as long as no segment holds it
	RetiredIn uint64    `cbor:"8,keyasint,omitempty"` // entry that retired it
}

// Live is a snapshot with the number of its entry.
type Live struct {
	Snapshot
	Entry uint64 `cbor:"20,keyasint"`
	Held  bool   `cbor:"21,keyasint,omitempty"`
}

// Forgotten is a snapshot that is no longer live, and what forgot it.
type Forgotten struct {
	Live
	Forget Forget `cbor:"30,keyasint"`
	At     uint64 `cbor:"31,keyasint"` // number of the entry that forgot it
	Time   int64  `cbor:"32,keyasint"` // of that entry, milliseconds since 1970
}

// SegmentInfo is a live index segment.
type SegmentInfo struct {
	Name  blob.Hash `cbor:"1,keyasint"`
	Size  int64     `cbor:"2,keyasint"`
	Packs *Packs    `cbor:"3,keyasint"` // whose tables it holds; some may have been dropped since
}

// GivenUp is an object whose name will never count again.
type GivenUp struct {
	Name blob.Hash `cbor:"1,keyasint"`
	Time int64     `cbor:"2,keyasint"` // of the entry that gave it up, milliseconds since 1970
}

// PruneMark is what later entries need to know of prunes.
type PruneMark struct {
	ID   TxID   `cbor:"1,keyasint"` // of the last one
	Last uint64 `cbor:"2,keyasint"` // number of its newest entry
	Base uint64 `cbor:"3,keyasint"` // the highest base of any
}

// Object returns where the pack's bytes are: the name of an object and their offset in it.
func (p Pack) Object() (name string, offset int64) {
	if p.Inline > 0 {
		return Name(p.Entry), p.Inline
	}
	return PackName(p.Name), 0
}

// PackFolder is where packs lie in a bucket.
const PackFolder = "packs/"

// PackName returns the object name of a pack.
func PackName(h blob.Hash) string {
	digits := h.String()
	return PackFolder + digits[:2] + "/" + digits
}

// SegmentFolder is where index segments lie in a bucket.
const SegmentFolder = "index/"

// SegmentName returns the object name of an index segment.
func SegmentName(h blob.Hash) string { return SegmentFolder + h.String() }

// Number returns the number of a pack.
func (s *State) Number(name blob.Hash) (uint32, bool) {
	n, ok := s.at.packs[name]
	return n, ok
}

// segment returns the position of a live segment, or -1.
func (s *State) segment(name blob.Hash) int {
	return slices.IndexFunc(s.Segments, func(i SegmentInfo) bool { return i.Name == name })
}

// Snapshot returns a live snapshot.
func (s *State) Snapshot(id SnapshotID) (Live, bool) {
	if i := s.live(id); i >= 0 {
		return s.Snapshots[i], true
	}
	return Live{}, false
}

// OfUID returns the snapshot of a Backup UID, live or forgotten.
func (s *State) OfUID(uid string) (Live, bool) {
	id, ok := s.at.uids[uid]
	if !ok {
		return Live{}, false
	}
	if l, live := s.Snapshot(id); live {
		return l, true
	}
	return s.Forgotten[s.forgotten(id)].Live, true
}

// Usable reports whether a pack may be relied on for new snapshots as it is.
func (s *State) Usable(pack uint32) bool {
	return int(pack) < len(s.Packs) && s.Packs[pack].Status == LivePack
}

// IsDamaged reports whether this copy of a blob is known to be bad.
func (s *State) IsDamaged(c Copy) bool {
	if len(s.Damaged) == 0 {
		return false
	}
	_, single := s.at.damaged[c]
	_, whole := s.at.damaged[Copy{Pack: c.Pack}]
	return single || whole
}

// DamagedIn returns the packs whose copy of a blob was by itself found to be bad, also where no index knows of that
// copy any more. The caller must not change them.
func (s *State) DamagedIn(ref blob.Ref) []uint32 { return s.at.damagedIn[ref] }

// IsGivenUp reports whether an object was given up, so that no entry may add it any more.
func (s *State) IsGivenUp(name blob.Hash) bool {
	_, ok := s.at.givenUp[name]
	return ok
}

// GivenUpAt returns when an object was given up, by the clock of who did it, in milliseconds since 1970.
func (s *State) GivenUpAt(name blob.Hash) (at int64, ok bool) {
	at, ok = s.at.givenUp[name]
	return at, ok
}

// Needs reports whether an object is a pack that is not dropped, or a segment.
func (s *State) Needs(name blob.Hash) bool {
	n, known := s.Number(name)
	return (known && s.Packs[n].Status != DroppedPack) || s.segment(name) >= 0
}

// Overtaken reports whether a prune that marked at a base has to mark again: since then another prune came, a
// copy was found damaged that it may have kept instead of a good one, or a snapshot came back without which
// it may have marked.
func (s *State) Overtaken(prune TxID, base uint64) bool {
	return (s.Prunes.Last >= base && s.Prunes.ID != prune) || s.Upset >= base
}

// CanAdopt reports whether the forgotten snapshot can be relied on again: no prune has marked without
// it.
func (s *State) CanAdopt(id SnapshotID) bool {
	i := s.forgotten(id)
	return i >= 0 && s.Prunes.Base <= s.Forgotten[i].At
}

// Encode returns the stored form of a state, the plaintext of a checkpoint: deterministic CBOR.
func (s *State) Encode() ([]byte, error) {
	data, err := encoding.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	return data, nil
}

// DecodeState reads what Encode wrote. Zeros may follow, with which checkpoints are padded.
func DecodeState(data []byte) (*State, error) {
	s := new(State)
	rest, err := decoding.UnmarshalFirst(data, s)
	if err != nil {
		return nil, fmt.Errorf("decode state: %w: %w", ErrDamaged, err)
	}
	if len(bytes.Trim(rest, "\x00")) > 0 {
		return nil, fmt.Errorf("decode state: %d bytes too many: %w", len(rest), ErrDamaged)
	}
	if s.Rules != rules {
		return nil, fmt.Errorf("decode state: folded by rules %d, these are %d: %w", s.Rules, rules, ErrRules)
	}
	if err := s.consistent(); err != nil {
		return nil, fmt.Errorf("decode state: %w: %w", err, ErrDamaged)
	}
	s.findPlaces()
	return s, nil
}

// consistent reports why a state that was decoded cannot be one that a fold has made: what it says of packs
// is said of packs that it has, and nothing is in it twice.
func (s *State) consistent() error {
	known := func(set *Packs) bool {
		return set == nil || set.Validate() == nil && (set.IsEmpty() || int(set.Maximum()) < len(s.Packs))
	}
	for _, g := range s.Segments {
		if g.Packs == nil || !known(g.Packs) {
			return fmt.Errorf("segment %s covers unknown packs", g.Name.Short())
		}
	}
	for _, c := range s.Damaged {
		if int(c.Pack) >= len(s.Packs) {
			return fmt.Errorf("damage in pack %d of %d", c.Pack, len(s.Packs))
		}
	}
	seen := map[SnapshotID]bool{}
	sound := func(l *Live) error {
		if seen[l.ID] || !known(l.Refs) {
			return fmt.Errorf("snapshot %v is there twice, or relies on unknown packs", l.ID)
		}
		seen[l.ID] = true
		return nil
	}
	for i := range s.Snapshots {
		if err := sound(&s.Snapshots[i]); err != nil {
			return err
		}
	}
	for i := range s.Forgotten {
		if err := sound(&s.Forgotten[i].Live); err != nil {
			return err
		}
	}
	return nil
}

// NewPacks returns a set of pack numbers.
func NewPacks(numbers ...uint32) *Packs { return roaring.BitmapOf(numbers...) }

// Members are the numbers in a set that may be nil, in ascending order. A few bytes can hold a set of
// billions, so it is not written out.
func Members(p *Packs) iter.Seq[uint32] {
	if p == nil {
		return func(func(uint32) bool) {}
	}
	return roaring.Values(p)
}
