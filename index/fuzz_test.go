package index

import (
	"bytes"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/formattest"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// checkSegment holds what is true of every segment that ParseSegment accepts, whoever wrote it: all
// rows are possible ones, each can be found, and encoding them gives a segment of the same rows.
func checkSegment(t *testing.T, s *Segment) {
	t.Helper()
	for pack, e := range s.All() {
		if err := checkEntry(e); err != nil {
			t.Fatalf("impossible row: %v", err)
		}
		found := false
		for p, f := range s.Lookup(e.ID) {
			found = found || p == pack && f == e
		}
		if !found {
			t.Fatalf("blob %s in pack %s is in the rows and cannot be found", e.ID, pack)
		}
	}
	again := mustParse(t, mustEncode(t, s.Tables()))
	if !bytes.Equal(again.rows, s.rows) || !bytes.Equal(again.packs, s.packs) {
		t.Fatal("encoding the rows again changed them")
	}
}

func FuzzParseSegment(f *testing.F) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, n := range []int{0, 1, 5, 70} {
		f.Add(mustEncode(f, randomTables(rng, 3, n)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var s *Segment
		var err error
		formattest.Bounded(t, 2*len(data), func() { s, err = ParseSegment(data) })
		if err != nil {
			return
		}
		checkSegment(t, s)
		for i := range 256 {
			for range s.Lookup(blob.ID{byte(i)}) {
			}
		}
	})
}

func TestParseAcceptsAFlippedByteOnlyWhereRowsStayPossible(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	good := mustEncode(t, randomTables(rng, 4, 70))
	rows := headerSize + 4*hashSize
	accepted, refused := 0, 0
	for i := range good {
		for range 4 {
			bad := slices.Clone(good)
			bad[i] ^= byte(1 + rng.UintN(255))
			s, err := ParseSegment(bad)
			if err != nil {
				refused++
				if i >= 12 && !errors.Is(err, ErrMalformed) {
					t.Errorf("byte %d: %v is not ErrMalformed", i, err)
				}
				continue
			}
			accepted++
			if i < headerSize {
				t.Errorf("byte %d of the header was changed unnoticed", i)
			}
			checkSegment(t, s)
		}
	}
	t.Logf("%d accepted, %d refused; rows from byte %d on", accepted, refused, rows)
	if refused == 0 || accepted == 0 {
		t.Error("flips do not reach both outcomes")
	}
}

// TestVector pins the format: the bytes stand in testdata for ever.
func TestVector(t *testing.T) {
	tables := []Table{
		{Pack: blob.Hash{0x20, 1}, Entries: []Entry{
			{ID: blob.ID{0xff, 15: 1, 16: 2}, Class: blob.Data, Key: 0, Offset: 64, Stored: 1000, Plain: 4000},
			{ID: blob.ID{0x80, 15: 1, 16: 3}, Class: blob.Tree, Key: 1, Offset: 1064, Stored: 500, Plain: 900, Links: 120},
		}},
		{Pack: blob.Hash{0x10, 2}, Entries: []Entry{
			{ID: blob.ID{0x80, 15: 1, 16: 4}, Class: blob.Manifest, Key: 255, Offset: 1<<32 - 1<<24, Stored: 1<<24 - 1, Plain: 1<<32 - 1, Links: 1<<24 - 1},
			{ID: blob.ID{0x01, 15: 1, 16: 5}, Class: blob.Secrets, Key: 7, Offset: 77, Stored: 60, Plain: 16},
		}},
		{Pack: blob.Hash{0x30, 3}}, // a pack without blobs
	}
	const file = "testdata/segment.v0"
	data := mustEncode(t, tables)
	if *update {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, want) {
		t.Errorf("the encoding of the vector has changed:\n%x\nwant\n%x", data, want)
	}
	s := mustParse(t, want)
	got := s.Tables()
	for i := range tables {
		for j := range tables[i].Entries {
			clear(tables[i].Entries[j].ID[prefixSize:])
		}
	}
	slices.SortFunc(tables, func(a, b Table) int { return compareHashes(a.Pack, b.Pack) })
	slices.Reverse(tables[1].Entries) // in the order of IDs
	slices.Reverse(tables[0].Entries)
	if diff := cmp.Diff(tables, got); diff != "" {
		t.Errorf("the vector reads differently: -want +got\n%s", diff)
	}
}
