package journal

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/formattest"
	"github.com/varve-dev/varve/repo/seal"
)

// amplified is how many bytes of memory one byte of CBOR may cost: an empty map is one byte and becomes a
// forgotten snapshot.
const amplified = 1000

// someID, somePack and otherPack are what the seeds and the state that they meet have in common.
var (
	someID    = SnapshotID{1}
	otherID   = SnapshotID{2}
	somePack  = blob.Hash{1}
	otherPack = blob.Hash{2}
)

// metState is a state to which the entries of the fuzzer are applied: it knows two packs, one of them
// retired, a live snapshot and a forgotten one.
func metState() *State {
	rows := blob.AppendRows(nil, []blob.Row{{ID: blob.ID{1}, Class: blob.Data, Stored: 10}})
	s := &State{Rules: rules, Next: 5, Packs: []Pack{
		{Name: somePack, Size: 10, Rows: rows},
		{Name: otherPack, Size: 20, Status: RetiredPack},
	}, Snapshots: []Live{{Snapshot: Snapshot{ID: someID, UID: "some"}}},
		Forgotten: []Forgotten{{Live: Live{Snapshot: Snapshot{ID: otherID}}, Forget: Forget{ID: otherID}, At: 4}},
		Segments:  []SegmentInfo{{Name: blob.Hash{7}, Size: 30, Packs: NewPacks(1)}}}
	s.findPlaces()
	return s
}

// fullEntries have every operation somewhere.
func fullEntries() []Entry {
	return []Entry{
		{Seq: 5, Time: 1, Client: "seed", Hold: []SnapshotID{someID}, Features: []Feature{{Name: "f", Required: "prune"}}},
		{Seq: 5, Release: []SnapshotID{someID}, Unforget: []Unforget{{ID: otherID}}, Checkpoint: &Vouched{Next: 4, Size: 9}},
		{Seq: 5, Unforget: []Unforget{{ID: otherID, Refs: NewPacks(0, 1)}}, Revive: NewPacks(1)},
		{Seq: 5, Add: []Added{{Name: blob.Hash{3}, Size: 9, Inline: true}, {Name: blob.Hash{4}, Size: 8}},
			Segments:  []SegmentAdded{{Name: blob.Hash{8}, Size: 5, Packs: NewPacks(0, 2, 3)}},
			Snapshots: []Snapshot{{ID: SnapshotID{3}, UID: "u", Inherits: []SnapshotID{someID, otherID}, Adopts: []SnapshotID{otherID}, Refs: NewPacks(0), Part: "p"}}},
		{Seq: 5, Forget: []Forget{{ID: someID, Who: "who", Why: "why"}}, Damaged: []Copy{{Pack: 1}, {Blob: blob.Ref{Class: blob.Data, ID: blob.ID{1}}}}},
		{Seq: 5, Prune: &Prune{Base: 5, Retire: NewPacks(0), Drop: NewPacks(1), Orphans: []blob.Hash{{9}}, Segments: []blob.Hash{{7}}}},
	}
}

func FuzzOpenEntry(f *testing.F) {
	for _, e := range fullEntries() {
		data, err := encode(testKeys(), &e, []byte("inline"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("VRVJ\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := open(testKeys(), 5, data); err == nil && s.Seq != 5 {
			t.Errorf("opened as entry %d", s.Seq)
		}
	})
}

// What is sealed the fuzzer above does not reach; this one seals its input as a writer that holds the keys
// and means harm could do. The entry is refused, or it means the same when it is encoded again, and
// whatever it says, the fold survives it and gives a state that can be stored.
func FuzzOperations(f *testing.F) {
	for _, e := range fullEntries() {
		ops, err := encoding.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(ops)
	}
	keys := testKeys()
	f.Fuzz(func(t *testing.T, ops []byte) {
		data := append([]byte(entryMagic), entryVersion, 0, 0, 0)
		sealed := keys.SealCatalog(seal.Entry, sealName(5), ops)
		data = append(data, byte(len(sealed)), byte(len(sealed)>>8), byte(len(sealed)>>16), 0)
		data = append(data, sealed...)
		formattest.Bounded(t, amplified*len(ops), func() {
			e, err := open(keys, 5, data)
			if err != nil {
				return
			}
			mustMeanTheSame(t, &e.Entry)
			s := metState()
			s.Head = e.Prev
			if err := s.Apply(e); err != nil || s.Next != 6 {
				t.Fatalf("the state does not move past the entry: %v", err)
			}
			mustSurvive(t, s)
		})
	})
}

func mustMeanTheSame(t *testing.T, e *Entry) {
	t.Helper()
	again, err := encode(testKeys(), e, nil)
	if err != nil {
		t.Fatal(err)
	}
	back, err := open(testKeys(), e.Seq, again)
	if err != nil {
		t.Fatalf("an entry that was read does not open when it is written: %v", err)
	}
	if diff := cmp.Diff(*e, back.Entry, cmp.Comparer(samePacks), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("an entry changes when it is written again (-read +again):\n%s", diff)
	}
}

func samePacks(a, b *Packs) bool { return a == b || a != nil && b != nil && a.Equals(b) }

// mustSurvive holds what is true of every state, whoever made it: it is stored and read as it is, in one
// encoding.
func mustSurvive(t *testing.T, s *State) {
	t.Helper()
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeState(data)
	if err != nil {
		t.Fatalf("a state does not open again: %v", err)
	}
	if again, err := back.Encode(); err != nil || !bytes.Equal(again, data) {
		t.Errorf("a state has two encodings: %x and %x, %v", data, again, err)
	}
}

// What opens as a state, from a cache or a planted checkpoint, is stored again as it is, and a fold goes on from it.
func FuzzDecodeState(f *testing.F) {
	empty, err := (&State{Rules: rules}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	data, err := metState().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(append(data, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		formattest.Bounded(t, amplified*len(data), func() {
			s, err := DecodeState(data)
			if err != nil {
				return
			}
			mustSurvive(t, s)
			s.OfUID("some")
			for _, e := range fullEntries() {
				next := Stored{Entry: e}
				next.Seq, next.Prev = s.Next, s.Head
				if err := s.Apply(&next); err != nil {
					t.Fatalf("the state does not move past an entry: %v", err)
				}
			}
		})
	})
}
