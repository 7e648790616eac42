package snapshot

import (
	"flag"
	"fmt"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/formattest"
	"github.com/varve-dev/varve/snapshot/tree"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// Manifests and volumes are encoded as they were when the format was written down.
func TestVectorsStay(t *testing.T) {
	v := new(formattest.Vectors)
	add := func(name string, links []blob.Ref, body []byte) {
		v.Add(name, body)
		v.Say("links of "+name, fmt.Sprint(links))
	}
	for i, m := range []Manifest{{}, fullManifest()} {
		n, err := encodeManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		add(fmt.Sprintf("manifest %d", i), n.Links, n.Body)
	}
	e, err := encodeVolume(Volume{Name: "v", Namespace: "n", Claim: "c", Class: "s", Capacity: "1Gi", Mode: "Block",
		Root: tree.Root{Ref: ref(blob.Tree, 1), Count: 3, Bytes: 4, Height: 1}})
	if err != nil {
		t.Fatal(err)
	}
	add("volume", e.Refs, e.Value)
	v.Stay(t, "testdata/v0-manifest.txt", *update)
}
