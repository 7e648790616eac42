package seal

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"filippo.io/age"
	"github.com/fxamacker/cbor/v2"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/formattest"
)

func FuzzOpenBlob(f *testing.F) {
	k := testKeys(1)
	s := testSession(k)
	ref := blob.Ref{Class: blob.Data, ID: k.BlobID(blob.Data, []byte("seed"))}
	f.Add(s.Seal(ref, []byte("seed")).Bytes)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := k.Open(s.Key(blob.Data), ref, sealed)
		if err == nil && string(plain) != "seed" {
			t.Errorf("opened to %q", plain)
		}
	})
}

// An envelope opens to what was sealed, under its kind and name; changed anywhere, cut or made longer,
// it does not open.
func FuzzEnvelope(f *testing.F) {
	f.Add([]byte("plain"), "0000000000000001", uint(3), byte(1), 0)
	f.Add([]byte{}, "", uint(0), byte(0x80), -1)
	f.Add(bytes.Repeat([]byte{7}, 300), "name", uint(200), byte(0), 5)
	k := testKeys(1)
	f.Fuzz(func(t *testing.T, plain []byte, name string, at uint, by byte, longer int) {
		sealed := k.SealCatalog(Entry, name, plain)
		if got, err := k.OpenCatalog(Entry, name, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%x opens to %x, %v", plain, got, err)
		}
		for reason, open := range map[string]func() ([]byte, error){
			"another kind":  func() ([]byte, error) { return k.OpenCatalog(Checkpoint, name, sealed) },
			"another name":  func() ([]byte, error) { return k.OpenCatalog(Entry, name+"0", sealed) },
			"another owner": func() ([]byte, error) { return testKeys(2).OpenCatalog(Entry, name, sealed) },
		} {
			if _, err := open(); !errors.Is(err, ErrOpen) {
				t.Errorf("it opens under %s: %v", reason, err)
			}
		}
		changed := bytes.Clone(sealed)
		changed[at%uint(len(changed))] ^= by
		if longer < 0 {
			changed = changed[:max(0, len(changed)+longer%len(changed))]
		} else {
			changed = append(changed, make([]byte, longer%1000)...)
		}
		if bytes.Equal(changed, sealed) {
			return
		}
		if got, err := k.OpenCatalog(Entry, name, changed); !errors.Is(err, ErrOpen) {
			t.Errorf("changed, it opens to %x, %v", got, err)
		}
	})
}

// Whatever a part is said to be, it becomes no more than it says and no more than a blob may be. What
// the bytes are as plaintext comes back as it was.
func FuzzDecode(f *testing.F) {
	for _, plain := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("varve "), 100)} {
		f.Add(encode(blob.Data, plain))
		f.Add(encode(blob.Tree, plain))
	}
	f.Add([]byte{codecZstd, 0xff, 0xff, 0xff, 0x00})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		said := 0
		if len(encoded) >= encodedHeader {
			said = int(encoded[1]) | int(encoded[2])<<8 | int(encoded[3])<<16 | int(encoded[4])<<24
		}
		// The decoder keeps windows and tables for later, of up to what it is allowed to make.
		formattest.Bounded(t, min(said, MaxBlob)+100*len(encoded)+2*MaxBlob, func() {
			plain, err := decode(encoded)
			if err == nil && (len(plain) != said || said > MaxBlob) {
				t.Errorf("%d bytes were said, %d came", said, len(plain))
			}
		})
		for _, c := range blob.Classes {
			if back, err := decode(encode(c, encoded)); err != nil || !bytes.Equal(back, encoded) {
				t.Errorf("%d bytes of class %v come back as %d, %v", len(encoded), c, len(back), err)
			}
		}
	})
}

func FuzzLinks(f *testing.F) {
	f.Add(encodeLinks(nil))
	f.Add(encodeLinks([]blob.Ref{{Class: blob.Data, ID: blob.ID{1}}, {Class: blob.Manifest}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, encoded []byte) {
		formattest.Bounded(t, 4*len(encoded), func() {
			if links, err := decodeLinks(encoded); err == nil && !bytes.Equal(encodeLinks(links), encoded) {
				t.Errorf("%x is read as %v, which is written otherwise", encoded, links)
			}
		})
	})
}

// A key table is sealed, so only a holder of the catalog key can make one; the keys in it are wrapped by
// the content keys, which a maintainer does not have.
func FuzzKeyTable(f *testing.F) {
	k := testKeys(1)
	s := testSession(k)
	table, err := s.KeyTable(blob.Classes[:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(table)
	for _, records := range [][]keyRecord{{}, {{Method: byRecoveryKey, Classes: []byte{1, 2}}}, {{Method: 7}}, {{Classes: []byte{9}}}} {
		odd, err := cbor.Marshal(records)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(odd)
	}
	f.Fuzz(func(t *testing.T, table []byte) {
		formattest.Bounded(t, 1000*len(table), func() {
			keys, err := k.OpenKeyTable(table, nil)
			if err != nil {
				return
			}
			for _, key := range keys {
				if key != s.Key(blob.Data) && key != s.Key(blob.Secrets) && key != s.Key(blob.Tree) && key != s.Key(blob.Manifest) {
					t.Error("a key came out that nobody put in")
				}
			}
		})
	})
}

// A slot is a file that anyone may have written. It gives the master key that was put in, or none.
func FuzzOpenSlot(f *testing.F) {
	slot, identity := vectorSlot(f)
	want, of, err := OpenSlot(slot, identity)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slot)
	f.Add([]byte("age-encryption.org/v1\n-> X25519 \n---\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		formattest.Bounded(t, 1<<20+10*len(file), func() { // its stream is opened by chunks of 64 KiB
			if master, id, err := OpenSlot(file, identity); err == nil && (!master.Equal(want) || id != of) {
				t.Errorf("another master came out: %v", master)
			}
		})
	})
}

// vectorSlot is the key slot under testdata, and who opens it.
func vectorSlot(t testing.TB) ([]byte, age.Identity) {
	t.Helper()
	slot, err := os.ReadFile("testdata/v0-x25519.slot")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/x25519.key")
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.ParseX25519Identity(string(bytes.TrimSpace(text)))
	if err != nil {
		t.Fatal(err)
	}
	return slot, identity
}
