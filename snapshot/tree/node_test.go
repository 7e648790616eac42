package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/varve-dev/varve/repo/blob"
)

func encode(n *node) blob.Node {
	enc := newEncoder(n.level)
	for _, e := range n.entries {
		enc.entry(e)
	}
	for _, c := range n.children {
		enc.child(c)
	}
	return enc.node()
}

func ref(class blob.Class, id byte) blob.Ref { return blob.Ref{Class: class, ID: blob.ID{id}} }

// The layout that the package comment draws, byte by byte.
func TestNodeLayout(t *testing.T) {
	bundle, other := ref(blob.Data, 1), ref(blob.Secrets, 2)
	leaf := &node{entries: []Entry{
		{Key: []byte("pods/a"), Value: []byte("xy"), Refs: []blob.Ref{bundle, other, bundle}, Bytes: 300},
		{Key: []byte("pods/b"), Refs: []blob.Ref{other}},
		{Key: []byte("services")},
	}}
	interior := &node{level: 1, children: []child{
		{first: []byte("pods/a"), ref: ref(blob.Tree, 1), count: 3, bytes: 300},
		{first: []byte("q"), ref: ref(blob.Tree, 2), count: 1, bytes: 0},
	}}
	tests := []struct {
		name string
		node *node
		want blob.Node
	}{
		{"leaf", leaf, blob.Node{Links: []blob.Ref{bundle, other}, Body: []byte("\x00" +
			"\x00\x06pods/a" + "\x02xy" + "\xac\x02" + "\x03\x00\x01\x00" +
			"\x05\x01b" + "\x00" + "\x00" + "\x01\x01" +
			"\x00\x08services" + "\x00" + "\x00" + "\x00")}},
		{"interior", interior, blob.Node{Links: []blob.Ref{ref(blob.Tree, 1), ref(blob.Tree, 2)}, Body: []byte("\x01" +
			"\x00\x06pods/a" + "\x03" + "\xac\x02" +
			"\x00\x01q" + "\x01" + "\x00")}},
	}
	for _, tc := range tests {
		if got := encode(tc.node); !cmp.Equal(got, tc.want) {
			t.Errorf("%s:\n%s", tc.name, cmp.Diff(tc.want, got))
		}
		got, err := decode(tc.want)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if again := encode(got); !cmp.Equal(again, tc.want) {
			t.Errorf("%s, decoded and encoded again:\n%s", tc.name, cmp.Diff(tc.want, again))
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	data, other, tree := ref(blob.Data, 1), ref(blob.Data, 2), ref(blob.Tree, 1)
	long := binary.AppendUvarint([]byte("\x00\x00"), MaxKey+1)
	long = append(long, bytes.Repeat([]byte("k"), MaxKey+1)...)
	// Each key shares all but its end with the one before: short here, 64 KiB each once decoded.
	bomb := binary.AppendUvarint([]byte("\x00\x00"), MaxKey-100)
	bomb = append(bomb, bytes.Repeat([]byte("k"), MaxKey-100)...)
	bomb = append(bomb, 0, 0, 0)
	for i := range 99 {
		bomb = binary.AppendUvarint(bomb, uint64(MaxKey-100+i))
		bomb = append(bomb, 1, 'k', 0, 0, 0)
	}
	tests := []struct {
		name  string
		links []blob.Ref
		body  string
		want  string
	}{
		{"nothing", nil, "", "no entries"},
		{"no entries", nil, "\x00", "no entries"},
		{"a level beyond all heights", nil, "\x20\x00\x01a\x01\x00", "level 32"},
		{"a huge body", nil, strings.Repeat("\x00", maxBody+1), "body of"},
		{"an empty key", nil, "\x00\x00\x00\x00\x00\x00", "does not ascend"},
		{"a repeated key", nil, "\x00\x00\x01a\x00\x00\x00\x01\x00\x00\x00\x00", "does not ascend"},
		{"a descending key", nil, "\x00\x00\x01b\x00\x00\x00\x00\x01a\x00\x00\x00", "does not ascend"},
		{"a key that shares less than it could", nil, "\x00\x00\x01a\x00\x00\x00\x00\x02ab\x00\x00\x00", "does not ascend"},
		{"a key that shares more than there is", nil, "\x00\x01\x01a\x00\x00\x00", "at most 0"},
		{"a long key", nil, string(long), "at most 65536"},
		{"keys too long together", nil, string(bomb), "keys of more than"},
		{"a key cut short", nil, "\x00\x00\x05a", "cut short"},
		{"a value cut short", nil, "\x00\x00\x01a\x02x", "cut short"},
		{"no bytes", nil, "\x00\x00\x01a\x00", "bytes of"},
		{"no references", nil, "\x00\x00\x01a\x00\x00", "references of"},
		{"a long number", nil, "\x00\x00\x01a\x00\x80\x00\x00", "shortest form"},
		{"an endless number", nil, "\x00\x00\x01a\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "no number"},
		{"many references", nil, "\x00\x00\x01a\x00\x00\x81\x20", "at most 4096"},
		{"a reference without link", nil, "\x00\x00\x01a\x00\x00\x01\x00", "link 0 of 0"},
		{"a reference that skips a link", []blob.Ref{data, other}, "\x00\x00\x01a\x00\x00\x02\x01\x00", "at most 0"},
		{"an unused link", []blob.Ref{data}, "\x00\x00\x01a\x00\x00\x00", "0 are used"},
		{"a link twice", []blob.Ref{data, data}, "\x00\x00\x01a\x00\x00\x02\x00\x01", "twice"},
		{"a child without link", []blob.Ref{tree}, "\x01\x00\x01a\x01\x00\x00\x01b\x01\x00", "more children"},
		{"an unused child", []blob.Ref{tree, tree}, "\x01\x00\x01a\x01\x00", "1 are used"},
		{"a child that is no node", []blob.Ref{data}, "\x01\x00\x01a\x01\x00", "no tree node"},
		{"a child without count", []blob.Ref{tree}, "\x01\x00\x01a", "count at"},
		{"a child without bytes", []blob.Ref{tree}, "\x01\x00\x01a\x01", "bytes at"},
	}
	for _, tc := range tests {
		_, err := decode(blob.Node{Links: tc.links, Body: []byte(tc.body)})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}

func TestNodesMustFitTheirParents(t *testing.T) {
	leaf := func(keys ...string) *node {
		n := &node{}
		for _, k := range keys {
			n.entries = append(n.entries, Entry{Key: []byte(k), Bytes: 1})
		}
		return n
	}
	s := newMemory()
	of := func(first string, count, bytes uint64, n *node) child {
		r, err := s.WriteNode(t.Context(), blob.Tree, encode(n))
		if err != nil {
			t.Fatal(err)
		}
		return child{first: []byte(first), ref: r, count: count, bytes: bytes}
	}
	level := func(l int, children ...child) *node { return &node{level: l, children: children} }
	ab, cd := of("a", 2, 2, leaf("a", "b")), of("c", 2, 2, leaf("c", "d"))
	inner := of("a", 4, 4, level(1, ab, cd))
	tests := []struct {
		name string
		root *node
		want string
	}{
		{"all fits", level(1, ab, cd), ""},
		{"one child", level(1, ab), "root of level 1 with one child"},
		{"other first key", level(1, of("A", 2, 2, leaf("a", "b")), cd), "first key"},
		{"key of the next node", level(1, of("a", 2, 2, leaf("a", "c")), cd), "first of the next node"},
		{"key beyond the next node's parent", level(2, of("a", 4, 4, level(1, ab, of("bb", 2, 2, leaf("bb", "x")))), of("c", 2, 2, level(1, cd))), "first of the next node"},
		{"count", level(1, of("a", 3, 2, leaf("a", "b")), cd), "where 3 of 2 belong"},
		{"bytes", level(1, of("a", 2, 3, leaf("a", "b")), cd), "where 2 of 3 belong"},
		{"level below", level(2, ab, cd), "level 0 where level 1 belongs"},
		{"level the same", level(1, inner, of("e", 1, 1, leaf("e"))), "level 1 where level 0 belongs"},
		{"overflow", level(1, of("a", 1<<63, 2, leaf("a", "b")), of("c", 1<<63, 2, leaf("c", "d"))), "overflows"},
	}
	for _, tc := range tests {
		top := of("", 0, 0, tc.root)
		count, total, _ := tc.root.sums()
		m := Open(s, Root{Ref: top.ref, Count: count, Bytes: total, Height: tc.root.level + 1})
		var err error
		for _, e := range m.Scan(t.Context(), Range{}) {
			err = e
		}
		if tc.want == "" && err != nil || tc.want != "" && (!errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	add := func(n blob.Node) {
		var links []byte
		for _, l := range n.Links {
			links = append(links, byte(l.Class), l.ID[0])
		}
		f.Add(links, n.Body)
	}
	add(encode(&node{entries: []Entry{
		{Key: []byte("pods/a"), Value: []byte("xy"), Refs: []blob.Ref{ref(1, 1), ref(3, 2), ref(1, 1)}, Bytes: 300},
		{Key: []byte("pods/b"), Refs: []blob.Ref{ref(3, 2)}},
	}}))
	add(encode(&node{level: 1, children: []child{{first: []byte("a"), ref: ref(2, 1), count: 3}, {first: []byte("b"), ref: ref(2, 2)}}}))
	add(blob.Node{Body: []byte("\x00\x00\x01a\x00\x80\x00\x00")})
	f.Fuzz(func(t *testing.T, links, body []byte) {
		in := blob.Node{Body: body}
		for pair := range slices.Chunk(links, 2) {
			in.Links = append(in.Links, ref(blob.Class(pair[0]), pair[len(pair)-1]))
		}
		n, err := decode(in)
		if err != nil {
			return
		}
		out := encode(n)
		if !bytes.Equal(out.Body, in.Body) || !slices.Equal(out.Links, in.Links) {
			t.Errorf("%+v is decoded and encoded as %+v", in, out)
		}
		if n.size() == 0 || len(n.first()) == 0 {
			t.Error("a node without entries or with an empty key is accepted")
		}
		for i := 1; i < n.size(); i++ {
			if bytes.Compare(n.key(i-1), n.key(i)) >= 0 {
				t.Errorf("keys %q and %q do not ascend", n.key(i-1), n.key(i))
			}
		}
	})
}
