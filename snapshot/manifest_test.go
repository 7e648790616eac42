package snapshot

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

func ref(class blob.Class, id byte) blob.Ref { return blob.Ref{Class: class, ID: blob.ID{id}} }

func fullManifest() Manifest {
	return Manifest{
		ID: ID{1, 2}, Name: "n", Schedule: "s", Cluster: "c", Started: start, Completed: start.Add(time.Second),
		Expires: start.Add(time.Hour), Complete: true,
		Objects:     tree.Root{Ref: ref(blob.Tree, 1), Count: 3, Bytes: 4, Height: 1},
		Volumes:     tree.Root{Ref: ref(blob.Tree, 2), Count: 5, Height: 2},
		DigestTable: tree.Root{Ref: ref(blob.Tree, 3), Count: 6, Height: 1},
		Digest:      Sum{Body: Digest{1}, State: Digest{2}, Objects: 3},
		Plan:        Part{Inline: []byte("{}")}, Discovery: Part{Blob: ref(blob.Data, 4)},
		Results: Part{Blob: ref(blob.Data, 5)}, Sparse: Part{Inline: []byte("x")},
		Errors: 1, Warnings: 2, Stats: Stats{Items: 1, Requests: 2},
	}
}

func TestManifestComesBack(t *testing.T) {
	for _, m := range []Manifest{{}, fullManifest()} {
		n, err := encodeManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeManifest(n)
		if err != nil || !cmp.Equal(got, m) {
			t.Errorf("%v\n%s", err, cmp.Diff(m, got))
		}
	}
}

func TestManifestRefuses(t *testing.T) {
	good, err := encodeManifest(fullManifest())
	if err != nil {
		t.Fatal(err)
	}
	empty, err := encodeManifest(Manifest{})
	if err != nil {
		t.Fatal(err)
	}
	data, node := ref(blob.Data, 9), ref(blob.Tree, 9)
	with := func(n blob.Node, links ...blob.Ref) blob.Node { return blob.Node{Links: links, Body: n.Body} }
	// The empty manifest is {1: h'00…'}: a map of one pair.
	body := func(head string, more string) blob.Node {
		return blob.Node{Body: []byte(head + string(empty.Body[1:]) + more)}
	}
	tests := []struct {
		name string
		node blob.Node
		want string
	}{
		{"nothing", blob.Node{}, "EOF"},
		{"no links", with(good), "not there"},
		{"too many links", with(good, append(slices.Clone(good.Links), data)...), "no field refers to"},
		{"a link without field", with(empty, data), "no field refers to"},
		{"a root that is data", with(good, append([]blob.Ref{data}, good.Links[1:]...)...), "not of class tree"},
		{"a part that is a node", with(good, append(slices.Clone(good.Links[:4]), node)...), "not of class data"},
		{"cut short", blob.Node{Links: good.Links, Body: good.Body[:len(good.Body)-1]}, "EOF"},
		{"something behind", blob.Node{Links: good.Links, Body: append(slices.Clone(good.Body), 0)}, "extraneous data"},
		{"an unknown field", body("\xa2", "\x18\x63\x01"), "unknown field"},
		{"a field twice", body("\xa2", string(empty.Body[1:])), "duplicate"},
		{"a zero field", body("\xa2", "\x02\x60"), "only encoding"},
		{"a number too long", body("\xa2", "\x05\x18\x01"), "only encoding"},
		{"a root of height 0", body("\xa2", "\x0a\xa1\x02\x05"), "only encoding"},
		{"a part that is both", func() blob.Node { n := body("\xa2", "\x0e\xa2\x01\x41x\x02\xf5"); n.Links = []blob.Ref{data}; return n }(), "only encoding"},
		{"an endless map", body("\xbf", "\xff"), "indefinite-length"},
		{"a tag", body("\xa2", "\x02\xc0\x61x"), "tag"},
	}
	for _, tc := range tests {
		if _, err := decodeManifest(tc.node); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
}

func FuzzManifest(f *testing.F) {
	for _, m := range []Manifest{{}, fullManifest()} {
		n, err := encodeManifest(m)
		if err != nil {
			f.Fatal(err)
		}
		var links []byte
		for _, l := range n.Links {
			links = append(links, byte(l.Class))
		}
		f.Add(links, n.Body)
	}
	f.Fuzz(func(t *testing.T, links, body []byte) {
		in := blob.Node{Body: body}
		for i, class := range links {
			in.Links = append(in.Links, ref(blob.Class(class), byte(i)+1))
		}
		m, err := decodeManifest(in)
		if err != nil {
			return
		}
		out, err := encodeManifest(m)
		if err != nil || !bytes.Equal(out.Body, in.Body) || !slices.Equal(out.Links, in.Links) {
			t.Errorf("%x is decoded and encoded as %x: %v", in.Body, out.Body, err)
		}
	})
}

func FuzzVolume(f *testing.F) {
	e, err := encodeVolume(Volume{Name: "v", Namespace: "n", Claim: "c", Class: "s", Capacity: "1Gi", Mode: "Block",
		Root: tree.Root{Ref: ref(blob.Tree, 1), Count: 3, Bytes: 4, Height: 1}, sparse: Part{Blob: ref(blob.Data, 2)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint8(2), e.Value)
	f.Fuzz(func(t *testing.T, links uint8, value []byte) {
		in := tree.Entry{Key: []byte("v"), Value: value}
		for i := range min(links, 4) {
			in.Refs = append(in.Refs, ref(blob.Tree-blob.Class(i%2), i+1))
		}
		v, err := decodeVolume(in)
		if err != nil {
			return
		}
		out, err := encodeVolume(v)
		in.Bytes = out.Bytes
		if err != nil || !out.Equal(in) {
			t.Errorf("%x is decoded and encoded as %x: %v", in.Value, out.Value, err)
		}
	})
}

func TestReferencesComeBackOrAreRefused(t *testing.T) {
	in := []blob.Ref{ref(blob.Data, 1), ref(blob.Secrets, 2)}
	got, err := decodeRefs(encodeRefs(in))
	if err != nil || !slices.Equal(got, in) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range [][]byte{{1}, make([]byte, 33), append([]byte{9}, make([]byte, 32)...)} {
		if _, err := decodeRefs(bad); err == nil {
			t.Errorf("%x is taken", bad)
		}
	}
}
