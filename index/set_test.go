package index

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
)

func sortLocations(l []Location) []Location {
	slices.SortFunc(l, func(a, b Location) int {
		if a.Pack != b.Pack {
			return int(a.Pack) - int(b.Pack)
		}
		return int(a.Offset) - int(b.Offset)
	})
	return l
}

func TestSetAnswersAsAMapOfAllLivePacks(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	tables := randomTables(rng, 20, 4000)
	number := func(p blob.Hash) (uint32, bool) {
		at := slices.IndexFunc(tables, func(t Table) bool { return t.Pack == p })
		return uint32(100 + at), at != 3 // pack 3 was dropped
	}
	var s Set
	s.AddSegment(mustParse(t, mustEncode(t, tables[:8])), number)
	s.AddSegment(mustParse(t, mustEncode(t, tables[6:16])), number) // two packs in both segments
	for i := 15; i < 20; i++ {                                      // one pack in a segment and loose
		s.AddLoose(uint32(100+i), tables[i].Entries)
	}

	copies := map[prefix][]Location{} // blobs with equal prefixes are not told apart
	for i, table := range tables {
		for _, e := range table.Entries {
			l := locate(e, uint32(100+i))
			if p := prefix(e.ID[:prefixSize]); i != 3 && !slices.Contains(copies[p], l) {
				copies[p] = append(copies[p], l)
			}
		}
	}
	asked := 0
	for _, table := range tables {
		for _, e := range table.Entries {
			want := slices.Clone(copies[prefix(e.ID[:prefixSize])])
			if diff := cmp.Diff(sortLocations(want), sortLocations(s.Lookup(e.ID))); diff != "" {
				t.Fatalf("blob %s: -want +got\n%s", e.ID, diff)
			}
			if want == nil {
				asked++
			}
		}
	}
	if asked == 0 {
		t.Error("no blob was only in the dropped pack")
	}
	if got := s.Lookup(randomID(rng)); got != nil {
		t.Errorf("a stranger lies at %v", got)
	}
	if got := new(Set).Lookup(tables[0].Entries[0].ID); got != nil {
		t.Errorf("an empty set knows %v", got)
	}
}

func TestLookupResultIsTheCallersOwn(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	e := randomEntry(rng, randomID(rng), 7)
	var s Set
	s.AddLoose(1, []Entry{e})
	s.Lookup(e.ID)[0].Pack = 99
	if got := s.Lookup(e.ID)[0].Pack; got != 1 {
		t.Errorf("changing a result changed the set: pack %d", got)
	}
}

func TestSetIsReadWhileItGrows(t *testing.T) {
	rng := rand.New(rand.NewPCG(25, 26))
	tables := randomTables(rng, 40, 4000)
	var s Set
	var known sync.WaitGroup
	for reader := range 3 {
		known.Go(func() {
			for i := range 4000 {
				table := tables[(i+reader)%len(tables)]
				if len(table.Entries) > 0 {
					s.Lookup(table.Entries[i%len(table.Entries)].ID)
				}
			}
		})
	}
	for i, table := range tables {
		if i%2 == 0 {
			s.AddLoose(uint32(i), table.Entries)
			continue
		}
		s.AddSegment(mustParse(t, mustEncode(t, tables[i:i+1])), func(blob.Hash) (uint32, bool) { return uint32(i), true })
	}
	known.Wait()
	for i, table := range tables {
		for _, e := range table.Entries {
			if !slices.Contains(s.Lookup(e.ID), locate(e, uint32(i))) {
				t.Fatalf("blob %s of pack %d is not known at the end", e.ID, i)
			}
		}
	}
}

func BenchmarkSetLookup(b *testing.B) {
	const n = 1_000_000
	rng := rand.New(rand.NewPCG(27, 28))
	tables := make([]Table, n/500)
	var ids []blob.ID
	for i := range tables {
		tables[i].Pack = randomHash(rng)
		for j := range 500 {
			ids = append(ids, randomID(rng))
			tables[i].Entries = append(tables[i].Entries, randomEntry(rng, ids[len(ids)-1], uint32(j)))
		}
	}
	c := OpenCache(b.TempDir(), "bench")
	segment, err := c.PutSegment(blob.Hash{1}, mustEncode(b, tables))
	if err != nil || c.Degraded() != nil {
		b.Fatal(err, c.Degraded())
	}
	var s Set
	s.AddSegment(segment, func(blob.Hash) (uint32, bool) { return 1, true })
	b.Run("known", func(b *testing.B) {
		i := 0
		for b.Loop() {
			if s.Lookup(ids[i*7919%n]) == nil {
				b.Fatal("lost a blob")
			}
			i++
		}
	})
	b.Run("unknown", func(b *testing.B) {
		for b.Loop() {
			s.Lookup(randomID(rng))
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := readSegmentFile(c.segmentPath(blob.Hash{1}), blob.Hash{1}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			mustEncode(b, tables)
		}
	})
}

func TestEveryRowOfASetHasItsNumber(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 24))
	tables := randomTables(rng, 9, 900)
	number := func(p blob.Hash) (uint32, bool) {
		at := slices.IndexFunc(tables, func(t Table) bool { return t.Pack == p })
		return uint32(at), at != 3
	}
	var s Set
	s.AddLoose(8, tables[8].Entries)
	s.AddSegment(mustParse(t, mustEncode(t, tables[:5])), number)
	s.AddSegment(mustParse(t, mustEncode(t, tables[5:8])), number)
	s.AddLoose(0, tables[0].Entries[:1])
	seen := make([]bool, s.Len())
	for n, r := range s.All() {
		if seen[n] || r.Pack == 3 {
			t.Fatalf("row %d of pack %d came twice or should be skipped", n, r.Pack)
		}
		seen[n] = true
		found := false
		for m, l := range s.Find(r.ID) {
			found = found || (m == n && l == r.Location)
		}
		if !found {
			t.Fatalf("row %d is not found by its ID", n)
		}
	}
	skipped := 0
	for _, yes := range seen {
		if !yes {
			skipped++
		}
	}
	if skipped != len(tables[3].Entries) {
		t.Errorf("%d rows did not come, want the %d of the skipped pack", skipped, len(tables[3].Entries))
	}
}
