package seal

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/formattest"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectorPassword = "correct horse battery staple"

// vectors are all that follows from one master key: derived keys, names, labels, sealed bytes, sizes.
func vectors() *formattest.Vectors {
	out := new(formattest.Vectors)
	line := out.Add
	k := testKeys(1)
	s := testSession(k)
	out.Say("fingerprint", k.Fingerprint())
	for _, c := range blob.Classes {
		line("id key "+c.String(), k.ids[c][:])
		line("content key "+c.String(), k.contents[c][:])
	}
	line("catalog key", k.catalog[:])
	for _, purpose := range []string{"chunker", "tree", "bundle", "digest"} {
		key := k.Purpose(purpose)
		line("purpose "+purpose, key[:])
	}
	plain := []byte("varve") // stays raw; what is compressed is up to the compressor, and stands in the packs of package pack
	node := blob.Node{Links: []blob.Ref{{Class: blob.Data, ID: blob.ID{1}}, {Class: blob.Tree, ID: blob.ID{2}}}, Body: plain}
	for _, c := range blob.Classes {
		ref := blob.Ref{Class: c, ID: k.BlobID(c, plain)}
		sealed := Sealed{}
		if c.HasLinks() {
			ref.ID = k.NodeID(c, node)
			sealed = s.SealNode(ref, node)
		} else {
			sealed = s.Seal(ref, plain)
		}
		line("name "+c.String(), ref.ID[:])
		line("sealed "+c.String(), sealed.Bytes)
	}
	for _, kind := range []Kind{Entry, Checkpoint, Segment, PackKeys, PackTable, PackTrailer} {
		line("catalog object "+string(kind), k.SealCatalog(kind, "0000000000000007", []byte("operations")))
	}
	segment, pack := k.SegmentLabel([]byte("segment")), k.PackLabel([]byte("keys"), []byte("table"))
	line("segment label", segment[:])
	line("pack label", pack[:])
	hash := HashOf(plain)
	line("plain hash", hash[:])
	for _, n := range []int{0, 1, 2, 9, 100, 1000, 4095, 4096, 4097, 65_537, 1_000_000, 16 << 20, 33_554_433, 1 << 40} {
		out.Say(fmt.Sprintf("padded %d", n), fmt.Sprint(Padded(n)))
	}
	return out
}

// The vectors were written once. They must come out the same, and the slots must open, as long as this
// version of the format is read.
func TestVectorsStay(t *testing.T) {
	vectors().Stay(t, "testdata/v0-keys.txt", *update)
	if *update {
		writeSlots(t)
	}
	slot, identity := vectorSlot(t)
	mustOpen(t, slot, identity)
	slot, err := os.ReadFile("testdata/v0-password.slot")
	if err != nil {
		t.Fatal(err)
	}
	with, err := PasswordIdentity(vectorPassword)
	if err != nil {
		t.Fatal(err)
	}
	mustOpen(t, slot, with)
}

func mustOpen(t *testing.T, slot []byte, with age.Identity) {
	t.Helper()
	master, id, err := OpenSlot(slot, with)
	if err != nil || Derive(master, id).catalog != testKeys(1).catalog {
		t.Errorf("a slot gives the master %v of %v, %v", master, id, err)
	}
}

func writeSlots(t *testing.T) {
	t.Helper()
	var master Master
	for i := range master {
		master[i] = 1 + byte(i)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	password, err := PasswordRecipient(vectorPassword, 1)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{"testdata/x25519.key": []byte(identity.String() + "\n")}
	for name, to := range map[string]age.Recipient{"testdata/v0-x25519.slot": identity.Recipient(), "testdata/v0-password.slot": password} {
		if files[name], err = SealSlot(master, testKeys(1).repository, to); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range files {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
