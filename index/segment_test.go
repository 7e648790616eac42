package index

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
)

// randomID and randomHash draw names as a keyed hash would.
func randomID(rng *rand.Rand) (id blob.ID) {
	for i := range id {
		id[i] = byte(rng.Uint32())
	}
	return id
}

func randomHash(rng *rand.Rand) blob.Hash { return blob.Hash(randomID(rng)) }

func randomEntry(rng *rand.Rand, id blob.ID, offset uint32) Entry {
	e := Entry{ID: id, Class: blob.Classes[rng.IntN(len(blob.Classes))], Key: uint8(rng.Uint32()), Offset: offset, Stored: 1 + rng.Uint32N(1<<24), Plain: rng.Uint32()}
	if e.Class.HasLinks() {
		e.Links = 1 + rng.Uint32N(min(e.Stored, maxLinks))
	}
	return e
}

// randomTables draws tables of n rows in all. Of the blobs, some have copies in several packs, some
// twice in one pack, and some share their first 16 or first 8 bytes with another blob.
func randomTables(rng *rand.Rand, packs, n int) []Table {
	tables := make([]Table, packs)
	for i := range tables {
		tables[i].Pack = randomHash(rng)
	}
	var ids []blob.ID
	for i := range n {
		id := randomID(rng)
		if len(ids) > 0 {
			known := ids[rng.IntN(len(ids))]
			switch rng.IntN(16) {
			case 0, 1:
				id = known
			case 2:
				copy(id[:prefixSize], known[:])
			case 3:
				copy(id[:8], known[:])
			}
		}
		ids = append(ids, id)
		t := &tables[rng.IntN(packs)]
		t.Entries = append(t.Entries, randomEntry(rng, id, uint32(i)))
	}
	return tables
}

func shuffled(rng *rand.Rand, tables []Table) []Table {
	mixed := slices.Clone(tables)
	rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	for i := range mixed {
		e := slices.Clone(mixed[i].Entries)
		rng.Shuffle(len(e), func(i, j int) { e[i], e[j] = e[j], e[i] })
		mixed[i].Entries = e
	}
	return mixed
}

func mustEncode(t testing.TB, tables []Table) []byte {
	t.Helper()
	data, err := EncodeSegment(tables)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustParse(t testing.TB, data []byte) *Segment {
	t.Helper()
	s, err := ParseSegment(data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// copyOf is one copy of a blob as the model and the segment both tell it.
type copyOf struct {
	Pack  blob.Hash
	Entry Entry
}

func sortCopies(c []copyOf) []copyOf {
	slices.SortFunc(c, func(a, b copyOf) int {
		if d := compareHashes(a.Pack, b.Pack); d != 0 {
			return d
		}
		return int(a.Entry.Offset) - int(b.Entry.Offset)
	})
	return c
}

// model is what a segment of the tables must answer: all copies by the first 16 bytes of the ID.
func model(tables []Table) map[[prefixSize]byte][]copyOf {
	m := map[[prefixSize]byte][]copyOf{}
	for _, t := range tables {
		for _, e := range t.Entries {
			key := [prefixSize]byte(e.ID[:])
			m[key] = append(m[key], copyOf{t.Pack, e})
		}
	}
	return m
}

func TestSegmentAnswersAsAMapOfAllRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 3, 31, 32, 33, 64, 65, 1000, 20_000} {
		tables := randomTables(rng, 1+n/50, n)
		s := mustParse(t, mustEncode(t, tables))
		if s.Len() != n || len(s.Packs()) != len(tables) {
			t.Fatalf("%d rows of %d packs came out as %d of %d", n, len(tables), s.Len(), len(s.Packs()))
		}
		for _, want := range model(tables) {
			id := want[0].Entry.ID
			var got []copyOf
			for pack, e := range s.Lookup(id) {
				got = append(got, copyOf{pack, e})
			}
			for i := range want {
				want[i].Entry.ID = id // the segment cannot tell the collided apart
			}
			if diff := cmp.Diff(sortCopies(want), sortCopies(got)); diff != "" {
				t.Fatalf("%d rows, blob %s: -want +got\n%s", n, id, diff)
			}
		}
		for range 1000 {
			id := randomID(rng)
			for pack := range s.Lookup(id) {
				t.Fatalf("%d rows: blob %s, which is not there, found in %s", n, id, pack)
			}
		}
	}
}

func TestEncodingDependsOnNeitherOrderNorRepetition(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 100, 5000} {
		tables := randomTables(rng, 1+n/50, n)
		want := mustEncode(t, tables)
		if !bytes.Equal(want, mustEncode(t, shuffled(rng, tables))) {
			t.Errorf("%d rows: another order gave other bytes", n)
		}
		if !bytes.Equal(want, mustEncode(t, append(shuffled(rng, tables), tables...))) {
			t.Errorf("%d rows: telling all twice gave other bytes", n)
		}
		if !bytes.Equal(want, mustEncode(t, mustParse(t, want).Tables())) {
			t.Errorf("%d rows: encoding what Tables tells gave other bytes", n)
		}
	}
}

func TestMergeGivesTheBytesOfEncodingAllAtOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{0, 1, 100, 5000} {
		tables := randomTables(rng, 12, n)
		var parts []*Segment
		for _, cut := range [][2]int{{0, 5}, {3, 9}, {9, 9}, {9, 12}} { // two packs stand in two segments
			parts = append(parts, mustParse(t, mustEncode(t, tables[cut[0]:cut[1]])))
		}
		all, err := MergeSegments(parts, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(all, mustEncode(t, tables)) {
			t.Errorf("%d rows: merging all gave other bytes than encoding all", n)
		}
		some, err := MergeSegments(parts, func(p blob.Hash) bool { return p != tables[4].Pack && p != tables[10].Pack })
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(some, mustEncode(t, slices.Concat(tables[:4], tables[5:10], tables[11:]))) {
			t.Errorf("%d rows: merging without two packs gave other bytes than encoding the others", n)
		}
	}
}

func TestEncodeRefusesWhatNoPackHolds(t *testing.T) {
	good := Entry{ID: blob.ID{1}, Class: blob.Data, Offset: 64, Stored: 100, Plain: 90}
	for name, change := range map[string]func(*Entry){
		"class of no blob":           func(e *Entry) { e.Class = 0 },
		"class of the future":        func(e *Entry) { e.Class = 5 },
		"end beyond 4 GiB":           func(e *Entry) { e.Offset, e.Stored = 1<<32-10, 11 },
		"links longer than the blob": func(e *Entry) { e.Class, e.Links = blob.Tree, 101 },
		"links of 16 MiB":            func(e *Entry) { e.Class, e.Stored, e.Links = blob.Tree, 1<<25, 1<<24 },
		"links of a chunk":           func(e *Entry) { e.Links = 1 },
		"node without links":         func(e *Entry) { e.Class = blob.Tree },
	} {
		bad := good
		change(&bad)
		if _, err := EncodeSegment([]Table{{Pack: blob.Hash{9}, Entries: []Entry{bad}}}); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	other := good
	other.Stored++
	tables := []Table{{Pack: blob.Hash{9}, Entries: []Entry{good}}, {Pack: blob.Hash{9}, Entries: []Entry{other}}}
	if _, err := EncodeSegment(tables); err == nil {
		t.Error("two different entries at one place of a pack were encoded")
	}
	parts := []*Segment{mustParse(t, mustEncode(t, tables[:1])), mustParse(t, mustEncode(t, tables[1:]))}
	if _, err := MergeSegments(parts, nil); err == nil {
		t.Error("two segments that contradict each other were merged")
	}
}

func TestSegmentIsSmall(t *testing.T) {
	const n = 100_000
	rng := rand.New(rand.NewPCG(7, 8))
	tables := make([]Table, 200)
	for i := range n {
		tab := &tables[i%len(tables)]
		tab.Entries = append(tab.Entries, randomEntry(rng, randomID(rng), uint32(i)))
	}
	for i := range tables {
		tables[i].Pack = randomHash(rng)
	}
	s := mustParse(t, mustEncode(t, tables))
	var fingerprints int
	for _, slice := range s.filter.slices {
		fingerprints += len(slice.Fingerprints)
	}
	filter := float64(fingerprints+sliceSize*len(s.filter.slices)) / n
	rest := float64(len(s.rows)+len(s.fan)+len(s.packs)+headerSize) / n
	t.Logf("%.2f bytes an entry and %.2f for the filter", rest, filter)
	if rest > 40 || filter > 1.3 {
		t.Errorf("%.2f bytes an entry and %.2f for the filter, want at most 40 and 1.3", rest, filter)
	}
	strangers := 0
	for range n {
		if s.filter.mayContain(rng.Uint64()) {
			strangers++
		}
	}
	t.Logf("%.2f %% false positives", 100*float64(strangers)/n)
	if strangers > n/100 {
		t.Errorf("the filter lets %d of %d strangers pass, want less than 1 %%", strangers, n)
	}
}

func TestParseRefusesEveryTruncationAndExtension(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	data := mustEncode(t, randomTables(rng, 5, 60))
	for n := range data {
		if _, err := ParseSegment(data[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(data), err)
		}
	}
	if _, err := ParseSegment(append(slices.Clip(data), 0)); !errors.Is(err, ErrMalformed) {
		t.Fatalf("one byte longer: %v", err)
	}
}
