package journal

import (
	"errors"
	"testing"
	"time"

	"github.com/varve-dev/varve/repo/blob"
)

// folded returns the state after the entries, which must all be valid.
func folded(t *testing.T, entries ...Entry) *State {
	t.Helper()
	s := new(State)
	for i, e := range append([]Entry{{Genesis: &Genesis{}}}, entries...) {
		e.Seq, e.Prev = s.Next, s.Head
		if err := s.Validate(&e); err != nil {
			t.Fatalf("entry %d of the test is not valid: %v", i, err)
		}
		if err := s.Apply(&Stored{Entry: e, Hash: blob.Hash{byte(s.Next + 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// table is that of a pack which holds one blob.
var table = blob.AppendRows(nil, []blob.Row{{ID: blob.ID{1}, Class: blob.Data, Offset: 100, Stored: 10, Plain: 10}})

func added(n byte) Added { return Added{Name: blob.Hash{n}, Size: 1, Rows: table} }

func add(n byte) Entry { return Entry{Add: []Added{added(n)}} }

func inline(n byte) Added {
	a := added(n)
	a.Inline = true
	return a
}

// merging is a prune that replaces segment 50 by segment 52.
func merging(id byte, base uint64, packs *Packs) Entry {
	e := prune(id, base, Prune{Segments: []blob.Hash{{50}}})
	e.Segments = []SegmentAdded{{Name: blob.Hash{52}, Packs: packs}}
	return e
}

func prune(id byte, base uint64, p Prune) Entry {
	p.ID, p.Base = TxID{id}, base
	return Entry{Prune: &p}
}

func relying(n byte, s Snapshot) Entry {
	s.ID = SnapshotID{n}
	return Entry{Snapshots: []Snapshot{s}}
}

// everyPack is a set of all numbers there can be: 900 KiB as it is stored, 16 GiB written out.
func everyPack() *Packs {
	all := NewPacks()
	all.AddRange(0, 1<<32)
	return all
}

func TestEntryThatBreaksAPreconditionIsVoid(t *testing.T) {
	forget := func(n byte) Entry { return Entry{Forget: []Forget{{ID: SnapshotID{n}}}} }
	live := []Entry{add(1), add(2), relying(1, Snapshot{UID: "u"}), relying(2, Snapshot{})}
	retired := append(live[:4:4], prune(1, 5, Prune{Retire: NewPacks(0)}))
	dropped := append(retired[:5:5], prune(2, 6, Prune{Drop: NewPacks(0), Orphans: []blob.Hash{{77}}}))
	forgotten := append(live[:4:4], forget(1))
	marked := append(forgotten[:5:5], prune(3, 6, Prune{}))
	merged := append(live[:4:4], Entry{Segments: []SegmentAdded{{Name: blob.Hash{50}, Packs: NewPacks(0)}}},
		Entry{Segments: []SegmentAdded{{Name: blob.Hash{51}, Packs: NewPacks(0)}}, Prune: &Prune{Base: 6, Segments: []blob.Hash{{50}}}})
	gone := append(forgotten[:5:5], prune(3, 6, Prune{Retire: NewPacks(0)}))
	relied := append(live[:4:4], relying(3, Snapshot{Refs: NewPacks(0)}))
	damaged := append(live[:4:4], Entry{Damaged: []Copy{{Pack: 1}}})
	adopted := append(forgotten[:5:5], relying(3, Snapshot{Inherits: []SnapshotID{{1}}, Adopts: []SnapshotID{{1}}}))
	held := append(live[:4:4], Entry{Hold: []SnapshotID{{1}}})
	for name, c := range map[string]struct {
		before []Entry
		entry  Entry
		valid  bool
	}{
		"a second genesis":                             {live, Entry{Genesis: &Genesis{}}, false},
		"a new pack":                                   {live, add(9), true},
		"a pack that is there":                         {live, add(1), false},
		"a pack that was dropped":                      {dropped, add(1), false},
		"a pack that was given up as an orphan":        {dropped, add(77), false},
		"one pack twice":                               {live, Entry{Add: []Added{added(9), added(9)}}, false},
		"two inline packs":                             {live, Entry{Add: []Added{inline(8), inline(9)}}, false},
		"no table at all":                              {live, Entry{Add: []Added{{Name: blob.Hash{9}, Size: 1}}}, false},
		"a table in a segment of the entry":            {live, Entry{Add: []Added{{Name: blob.Hash{9}, Size: 1}}, Segments: []SegmentAdded{{Packs: NewPacks(2)}}}, true},
		"a table that is none":                         {live, Entry{Add: []Added{{Name: blob.Hash{9}, Size: 1, Rows: []byte("x")}}}, false},
		"a snapshot on a live pack":                    {live, relying(9, Snapshot{Refs: NewPacks(0, 1)}), true},
		"a snapshot on an unknown pack":                {live, relying(9, Snapshot{Refs: NewPacks(7)}), false},
		"a snapshot on a retired pack":                 {retired, relying(9, Snapshot{Refs: NewPacks(0)}), false},
		"a snapshot that revives its pack":             {retired, Entry{Revive: NewPacks(0), Snapshots: []Snapshot{{ID: SnapshotID{9}, Refs: NewPacks(0)}}}, true},
		"a snapshot on a dropped pack":                 {dropped, relying(9, Snapshot{Refs: NewPacks(0)}), false},
		"a revival of a dropped pack":                  {dropped, Entry{Revive: NewPacks(0)}, false},
		"a revival of a live pack":                     {live, Entry{Revive: NewPacks(0)}, false},
		"a snapshot that is there":                     {live, relying(1, Snapshot{}), false},
		"a snapshot that was forgotten":                {forgotten, relying(1, Snapshot{}), false},
		"a second snapshot of one backup":              {live, relying(9, Snapshot{UID: "u"}), false},
		"a second snapshot of a forgotten backup":      {forgotten, relying(9, Snapshot{UID: "u"}), false},
		"two snapshots of one backup":                  {live, Entry{Snapshots: []Snapshot{{ID: SnapshotID{8}, UID: "v"}, {ID: SnapshotID{9}, UID: "v"}}}, false},
		"a snapshot that inherits":                     {live, relying(9, Snapshot{Inherits: []SnapshotID{{1}}}), true},
		"one that inherits from nothing":               {live, relying(9, Snapshot{Inherits: []SnapshotID{{50}}}), false},
		"one that inherits from a forgotten one":       {forgotten, relying(9, Snapshot{Inherits: []SnapshotID{{1}}}), false},
		"one that adopts a forgotten one":              {forgotten, relying(9, Snapshot{Inherits: []SnapshotID{{1}}, Adopts: []SnapshotID{{1}}}), true},
		"one that adopts after a prune marked":         {marked, relying(9, Snapshot{Inherits: []SnapshotID{{1}}, Adopts: []SnapshotID{{1}}}), false},
		"forget":                                       {live, forget(1), true},
		"forget twice":                                 {forgotten, forget(1), false},
		"forget of a held snapshot":                    {held, forget(1), false},
		"forget after release":                         {append(held[:5:5], Entry{Release: []SnapshotID{{1}}}), forget(1), true},
		"unforget":                                     {forgotten, Entry{Unforget: []Unforget{{ID: SnapshotID{1}}}}, true},
		"unforget after a prune marked":                {marked, Entry{Unforget: []Unforget{{ID: SnapshotID{1}}}}, false},
		"unforget with its packs after a prune marked": {marked, Entry{Unforget: []Unforget{{ID: SnapshotID{1}, Refs: NewPacks(0)}}}, true},
		"unforget with packs that are not there":       {marked, Entry{Unforget: []Unforget{{ID: SnapshotID{1}, Refs: NewPacks(7)}}}, false},
		"unforget with a retired pack":                 {gone, Entry{Unforget: []Unforget{{ID: SnapshotID{1}, Refs: NewPacks(0)}}}, false},
		"unforget that revives its pack":               {gone, Entry{Revive: NewPacks(0), Unforget: []Unforget{{ID: SnapshotID{1}, Refs: NewPacks(0)}}}, true},
		"hold of what is not live":                     {forgotten, Entry{Hold: []SnapshotID{{1}}}, false},
		"retire of a retired pack":                     {retired, prune(9, 6, Prune{Retire: NewPacks(0)}), false},
		"drop of a live pack":                          {live, prune(9, 5, Prune{Drop: NewPacks(0)}), false},
		"drop of a retired pack":                       {retired, prune(9, 6, Prune{Drop: NewPacks(0)}), true},
		"a prune that marked before another prune":     {retired, prune(9, 5, Prune{Drop: NewPacks(0)}), false},
		"a later step of the same prune":               {retired, prune(1, 5, Prune{Retire: NewPacks(1)}), true},
		"retire of a pack relied on since":             {relied, prune(9, 5, Prune{Retire: NewPacks(0)}), true},
		"drop of a pack retired since the mark":        {retired, prune(1, 5, Prune{Drop: NewPacks(0)}), false},
		"drop of a pack that came back since":          {append(gone[:6:6], Entry{Revive: NewPacks(0)}), prune(9, 7, Prune{Drop: NewPacks(0)}), false},
		"drop of one that came back and went again":    {append(gone[:6:6], Entry{Revive: NewPacks(0)}, prune(3, 6, Prune{Retire: NewPacks(0)})), prune(3, 6, Prune{Drop: NewPacks(0)}), false},
		"a prune that marked before a damage":          {damaged, prune(9, 5, Prune{Retire: NewPacks(0)}), false},
		"a prune that marked after a damage":           {damaged, prune(9, 6, Prune{Retire: NewPacks(0)}), true},
		"a prune that marked before an adoption":       {adopted, prune(9, 6, Prune{Retire: NewPacks(0)}), false},
		"a prune that marked before an unforget":       {append(forgotten[:5:5], Entry{Unforget: []Unforget{{ID: SnapshotID{1}}}}), prune(9, 6, Prune{Retire: NewPacks(0)}), false},
		"a later step of a prune, after a damage":      {append(retired[:5:5], damaged[4]), prune(1, 5, Prune{Retire: NewPacks(1)}), false},
		"a segment replaced by nothing":                {merged[:5], prune(9, 6, Prune{Segments: []blob.Hash{{50}}}), false},
		"a segment replaced by one that holds less":    {merged[:5], merging(9, 6, NewPacks(1)), false},
		"a segment replaced by one that holds more":    {merged[:5], merging(9, 6, NewPacks(0, 1)), true},
		"a segment replaced without a dropped pack":    {append(merged[:5:5], prune(1, 6, Prune{Retire: NewPacks(0)}), prune(2, 7, Prune{Drop: NewPacks(0)})), merging(9, 8, NewPacks(1)), true},
		"a segment replaced without a retired pack":    {append(merged[:5:5], prune(1, 6, Prune{Retire: NewPacks(0)})), merging(9, 7, NewPacks(1)), false},
		"a prune from the future":                      {live, prune(9, 50, Prune{}), false},
		"a known pack as an orphan":                    {live, prune(9, 5, Prune{Orphans: []blob.Hash{{1}}}), false},
		"an unknown segment replaced":                  {live, prune(9, 5, Prune{Segments: []blob.Hash{{1}}}), false},
		"a segment of known packs":                     {live, Entry{Segments: []SegmentAdded{{Packs: NewPacks(0, 1)}}}, true},
		"a segment of unknown packs":                   {live, Entry{Segments: []SegmentAdded{{Packs: NewPacks(2)}}}, false},
		"a segment of the entry's own pack":            {live, Entry{Add: add(9).Add, Segments: []SegmentAdded{{Packs: NewPacks(2)}}}, true},
		"forget of one snapshot twice over":            {live, Entry{Forget: []Forget{{ID: SnapshotID{1}}, {ID: SnapshotID{1}}}}, false},
		"forget and hold at once":                      {live, Entry{Forget: []Forget{{ID: SnapshotID{1}}}, Hold: []SnapshotID{{1}}}, false},
		"unforget of one snapshot twice over":          {forgotten, Entry{Unforget: []Unforget{{ID: SnapshotID{1}}, {ID: SnapshotID{1}}}}, false},
		"a snapshot beside a prune":                    {live, Entry{Prune: &Prune{Base: 5, Retire: NewPacks(0)}, Snapshots: []Snapshot{{ID: SnapshotID{9}, Refs: NewPacks(0)}}}, false},
		"unforget beside a prune":                      {forgotten, Entry{Prune: &Prune{Base: 6}, Unforget: []Unforget{{ID: SnapshotID{1}}}}, false},
		"drop of a pack that is revived at once":       {retired, Entry{Prune: &Prune{ID: TxID{9}, Base: 6, Drop: NewPacks(0)}, Revive: NewPacks(0)}, false},
		"what is left of a dropped pack as an orphan":  {dropped, prune(9, 7, Prune{Orphans: []blob.Hash{{1}}}), true},
		"a pack of the entry itself as an orphan":      {live, Entry{Add: add(9).Add, Prune: &Prune{ID: TxID{9}, Base: 5, Orphans: []blob.Hash{{9}}}}, false},
		"a segment that was given up as an orphan":     {dropped, Entry{Segments: []SegmentAdded{{Name: blob.Hash{77}, Packs: NewPacks(1)}}}, false},
		"a segment that was replaced":                  {merged, Entry{Segments: []SegmentAdded{{Name: blob.Hash{50}, Packs: NewPacks(1)}}}, false},
		"a revival of billions of packs":               {live, Entry{Revive: everyPack()}, false},
		"damage in an unknown pack":                    {live, Entry{Damaged: []Copy{{Pack: 9}}}, false},
		"a checkpoint of entries that are yet to come": {live, Entry{Checkpoint: &Vouched{Next: 50}}, false},
	} {
		s := folded(t, c.before...)
		before, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		e := c.entry
		e.Seq, e.Prev = s.Next, s.Head
		if err := s.Validate(&e); (err == nil) != c.valid || (err != nil && !errors.Is(err, ErrInvalid)) {
			t.Errorf("%s: %v, want valid %v", name, err, c.valid)
			continue
		}
		if err := s.Apply(&Stored{Entry: e, Hash: blob.Hash{200}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.Next, s.Head = s.Next-1, blob.Hash{byte(s.Next - 1)}
		after, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if changed := string(before) != string(after); changed && !c.valid {
			t.Errorf("%s: the void entry changed the state", name)
		}
	}
}

func TestEntryThatDoesNotFollowIsRefused(t *testing.T) {
	s := folded(t, add(1))
	if err := s.Apply(&Stored{Entry: Entry{Seq: 5, Prev: s.Head}}); !errors.Is(err, ErrDamaged) {
		t.Errorf("wrong number: %v, want ErrDamaged", err)
	}
	if err := s.Apply(&Stored{Entry: Entry{Seq: s.Next, Prev: blob.Hash{99}}}); !errors.Is(err, ErrRolledBack) {
		t.Errorf("broken chain: %v, want ErrRolledBack", err)
	}
}

func TestPackNumbersAreNeverUsedAgain(t *testing.T) {
	s := folded(t, add(1), prune(1, 2, Prune{Retire: NewPacks(0)}), prune(2, 3, Prune{Drop: NewPacks(0)}), add(2))
	if n, ok := s.Number(blob.Hash{2}); !ok || n != 1 {
		t.Errorf("second pack has number %d, %v; want 1", n, ok)
	}
	if n, ok := s.Number(blob.Hash{1}); !ok || s.Packs[n].Status != DroppedPack {
		t.Errorf("the dropped pack is %d, %v", n, ok)
	}
}

func TestSnapshotIsFoundWhateverCameBefore(t *testing.T) {
	uids := map[byte]string{1: "a", 2: "b", 3: "c", 4: "d"}
	s := folded(t, relying(1, Snapshot{UID: "a"}), relying(2, Snapshot{UID: "b"}), relying(3, Snapshot{UID: "c"}),
		Entry{Forget: []Forget{{ID: SnapshotID{1}}, {ID: SnapshotID{3}}}},
		relying(4, Snapshot{UID: "d"}), Entry{Unforget: []Unforget{{ID: SnapshotID{1}}}}, Entry{Hold: []SnapshotID{{4}}})
	var order []byte
	for _, l := range s.Snapshots {
		order = append(order, l.ID[0])
	}
	if string(order) != "\x01\x02\x04" {
		t.Errorf("live snapshots %v, want 1, 2 and 4 in the order of their entries", order)
	}
	for id, uid := range uids {
		if l, ok := s.Snapshot(SnapshotID{id}); ok != (id != 3) || (ok && l.ID[0] != id) || l.Held != (id == 4) {
			t.Errorf("snapshot %d is %+v, %v", id, l, ok)
		}
		if l, ok := s.OfUID(uid); !ok || l.ID[0] != id {
			t.Errorf("backup %s has snapshot %v, %v", uid, l.ID, ok)
		}
	}
	if _, ok := s.OfUID(""); ok {
		t.Error("no UID has a snapshot")
	}
	if !s.CanAdopt(SnapshotID{3}) || s.CanAdopt(SnapshotID{1}) {
		t.Error("of the two that were forgotten, only the one still forgotten can be adopted")
	}
}

func TestDamageOfAWholePackIsThatOfItsBlobs(t *testing.T) {
	one, other := blob.Ref{Class: blob.Data, ID: blob.ID{1}}, blob.Ref{Class: blob.Data, ID: blob.ID{2}}
	s := folded(t, add(1), add(2), Entry{Damaged: []Copy{{Pack: 0}, {Blob: one, Pack: 1}}})
	for c, want := range map[Copy]bool{
		{Blob: one, Pack: 0}: true, {Blob: other, Pack: 0}: true, {Blob: one, Pack: 1}: true, {Blob: other, Pack: 1}: false,
	} {
		if s.IsDamaged(c) != want {
			t.Errorf("%v in pack %d is damaged: %v, want %v", c.Blob, c.Pack, !want, want)
		}
	}
	if in := s.DamagedIn(one); len(in) != 1 || in[0] != 1 || len(s.DamagedIn(other)) > 0 {
		t.Errorf("%v by itself is damaged in packs %v, want pack 1", one, in)
	}
	damaged := []Copy{{Pack: 0}, {Blob: one, Pack: 0}, {Blob: other, Pack: 0}}
	s = folded(t, add(1), Entry{Damaged: damaged[1:]}, Entry{Damaged: damaged[:1]},
		prune(1, 4, Prune{Retire: NewPacks(0)}), prune(2, 5, Prune{Drop: NewPacks(0)}))
	if len(s.Damaged) > 0 || len(s.DamagedIn(one)) > 0 {
		t.Error("the damage of a dropped pack is still in the state")
	}
}

func TestStateForgetsWhatWasForgottenLongAgo(t *testing.T) {
	day := (24 * time.Hour).Milliseconds()
	at := func(days int64, e Entry) Entry { e.Time = days * day; return e }
	forget := func(n byte) Entry { return Entry{Forget: []Forget{{ID: SnapshotID{n}}}} }
	relies := Snapshot{UID: "u", Refs: NewPacks(0), Inherits: []SnapshotID{{1}}}
	entries := []Entry{add(1), relying(1, Snapshot{UID: "t"}), relying(2, relies), at(1, forget(1)), at(20, forget(2)), relying(3, Snapshot{Refs: NewPacks(0)})}
	s := folded(t, append(entries, at(40, prune(1, 7, Prune{})))...)
	if _, ok := s.OfUID("t"); ok || len(s.Forgotten) != 1 {
		t.Error("what was forgotten 39 days before a prune marked is still in the state")
	}
	if l, ok := s.OfUID("u"); !ok || l.Refs != nil || l.Inherits != nil {
		t.Errorf("what was forgotten 20 days before is %+v, %v; want its name without its packs", l, ok)
	}
	if l, ok := s.Snapshot(SnapshotID{3}); !ok || l.Refs != nil {
		t.Errorf("the live snapshot is %+v, %v; want it without its packs, since the prune has marked them", l, ok)
	}
	if s = folded(t, append(entries, at(40, prune(1, 4, Prune{})))...); len(s.Forgotten) != 2 {
		t.Error("a prune that marked before lets go of what it has marked")
	}
}

func TestStateOfOtherRulesIsNotUsed(t *testing.T) {
	s := folded(t, add(1))
	s.Rules++
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeState(data); !errors.Is(err, ErrRules) {
		t.Errorf("decoded: %v, want ErrRules", err)
	}
}

func TestStateThatNoFoldHasMadeIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*State){
		"a segment of an unknown pack":     func(s *State) { s.Segments = []SegmentInfo{{Packs: NewPacks(0, 1)}} },
		"a segment of no packs":            func(s *State) { s.Segments = []SegmentInfo{{}} },
		"damage in an unknown pack":        func(s *State) { s.Damaged = []Copy{{Pack: 1}} },
		"a snapshot on an unknown pack":    func(s *State) { s.Snapshots[0].Refs = NewPacks(1) },
		"a snapshot live and forgotten":    func(s *State) { s.Forgotten = []Forgotten{{Live: s.Snapshots[0]}} },
		"a forgotten one on unknown packs": func(s *State) { s.Forgotten = []Forgotten{{Live: Live{Snapshot: Snapshot{Refs: NewPacks(9)}}}} },
	} {
		s := folded(t, add(1), relying(1, Snapshot{Refs: NewPacks(0)}))
		spoil(s)
		data, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(data); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: decoded with %v, want ErrDamaged", name, err)
		}
	}
}
