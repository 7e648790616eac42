package content

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

var (
	dataRef   = blob.Ref{Class: blob.Data, ID: blob.ID{1}}
	secretRef = blob.Ref{Class: blob.Secrets, ID: blob.ID{2}}
	nodeRef   = blob.Ref{Class: blob.Tree, ID: blob.ID{3}}
)

func sampleEntries() []pending {
	return []pending{
		{key: []byte("a")},
		{key: []byte("a"), attrs: []byte("attributes"), bytes: 7, contents: []Ref{{}}},
		{key: []byte("a"), contents: []Ref{
			{length: 3, inline: []byte("abc")},
			{place: bundled, length: 10, bundle: span{secretRef, 500, 100_000}},
			{place: bundled, length: 10, bundle: span{dataRef, 0, 10}},
			{place: bundled, length: 5, bundle: span{secretRef, 99_995, 100_000}},
			{place: chunked, length: 1<<40 + 7, chunks: []chunk{{dataRef, 7}, {length: 1 << 40}}},
			{place: mapped, length: math.MaxInt64, extents: tree.Root{Ref: nodeRef, Count: 17, Bytes: math.MaxInt64, Height: 2}},
		}},
	}
}

func TestEntryRoundTrip(t *testing.T) {
	for _, p := range sampleEntries() {
		e := encodeEntry(p)
		attrs, contents, err := DecodeEntry(e)
		if err != nil || !bytes.Equal(attrs, p.attrs) || len(contents) != len(p.contents) {
			t.Fatalf("attributes %q, %d contents, %v", attrs, len(contents), err)
		}
		for i := range contents {
			if !contents[i].Equal(p.contents[i]) {
				t.Errorf("content %d is %v, was %v", i, contents[i], p.contents[i])
			}
		}
	}
	e := encodeEntry(sampleEntries()[2])
	if diff := cmp.Diff([]blob.Ref{secretRef, dataRef, nodeRef}, e.Refs); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
}

func TestDecodeEntryRefusesOtherEncodings(t *testing.T) {
	data, node := []blob.Ref{dataRef}, []blob.Ref{nodeRef}
	for _, tc := range []struct {
		name  string
		value []byte
		refs  []blob.Ref
	}{
		{"nothing", nil, nil},
		{"attributes cut off", []byte{5, 'a'}, nil},
		{"number not in its shortest form", []byte{0x80, 0, 0}, nil},
		{"number without end", bytes.Repeat([]byte{0xff}, 11), nil},
		{"more contents than bytes", append([]byte{0}, 0xff, 0xff, 0xff, 0x0f), nil},
		{"bytes too many", []byte{0, 0, 0}, nil},
		{"reference not named", []byte{0, 0}, data},
		{"unknown place", []byte{0, 1, 9}, nil},
		{"inline cut off", []byte{0, 1, 0, 3, 'a'}, nil},
		{"inline too long", append([]byte{0, 1, 0, 0x81, 0x20}, make([]byte, 4097)...), nil},
		{"bundle missing", []byte{0, 1, 1, 0, 0, 1, 1}, nil},
		{"bundle out of turn", []byte{0, 1, 1, 1, 0, 1, 1}, []blob.Ref{dataRef, secretRef}},
		{"bundle empty", []byte{0, 1, 1, 0, 0, 0, 1}, data},
		{"behind the bundle's end", []byte{0, 1, 1, 0, 1, 1, 1}, data},
		{"content in a node", []byte{0, 1, 1, 0, 0, 1, 1}, node},
		{"bundle too large", []byte{0, 1, 1, 0, 0, 1, 0x81, 0x80, 0x80, 8}, data},
		{"reference listed twice", []byte{0, 2, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1}, []blob.Ref{dataRef, dataRef}},
		{"no chunks", []byte{0, 1, 2, 0}, nil},
		{"too many chunks", []byte{0, 1, 2, 0x81, 2}, nil},
		{"chunk empty", []byte{0, 1, 2, 1, 1, 0}, data},
		{"hole empty", []byte{0, 1, 2, 1, 0, 0}, nil},
		{"extents not in a node", []byte{0, 1, 3, 0, 17, 1, 1}, data},
		{"extents too high", []byte{0, 1, 3, 0, 17, 1, tree.MaxHeight + 1}, node},
	} {
		_, _, err := DecodeEntry(tree.Entry{Key: []byte("k"), Value: tc.value, Refs: tc.refs})
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	holes := []byte{0, 1, 2, 2}
	for range 2 {
		holes = append(holes, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f)
	}
	if _, _, err := DecodeEntry(tree.Entry{Value: holes}); !errors.Is(err, ErrMalformed) {
		t.Errorf("length beyond all numbers: %v", err)
	}
}

// FuzzDecodeEntry checks that whatever is accepted is the one encoding of what it says.
func FuzzDecodeEntry(f *testing.F) {
	for _, p := range sampleEntries() {
		e := encodeEntry(p)
		f.Add(e.Value, uint8(len(e.Refs)))
	}
	f.Fuzz(func(t *testing.T, value []byte, n uint8) {
		refs := []blob.Ref{secretRef, dataRef, nodeRef}[:n%4]
		e := tree.Entry{Key: []byte("k"), Value: value, Refs: refs}
		attrs, contents, err := DecodeEntry(e)
		if err != nil {
			return
		}
		again := encodeEntry(pending{key: e.Key, attrs: attrs, contents: contents})
		if !bytes.Equal(again.Value, value) || len(again.Refs) != len(refs) {
			t.Errorf("%x was decoded, and encodes as %x", value, again.Value)
		}
	})
}
