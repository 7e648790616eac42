package seal

import (
	"bytes"
	"errors"
	"math/bits"
	"testing"

	"github.com/varve-dev/varve/repo/blob"
)

// testKeys are the keys of a fixed master key, so that what they seal can stand in a vector.
func testKeys(seed byte) *Keys {
	var m Master
	var id RepositoryID
	for i := range m {
		m[i] = seed + byte(i)
	}
	for i := range id {
		id[i] = seed ^ byte(i)
	}
	return Derive(m, id)
}

// testSession is a session of fixed keys.
func testSession(k *Keys) *Session {
	s := &Session{keys: k}
	for _, c := range blob.Classes {
		s.session[c] = SessionKey{0: byte(c), 31: 0x5a}
	}
	return s
}

func TestEveryKeyIsItsOwn(t *testing.T) {
	seen := map[[32]byte]string{}
	note := func(name string, key [32]byte) {
		if other, there := seen[key]; there {
			t.Errorf("%s and %s are equal", name, other)
		}
		seen[key] = name
	}
	for _, k := range []*Keys{testKeys(1), testKeys(2)} {
		prefix := k.Repository().String() + " "
		for _, c := range blob.Classes {
			note(prefix+"id "+c.String(), k.ids[c])
			note(prefix+"content "+c.String(), k.contents[c])
		}
		note(prefix+"catalog", k.catalog)
		note(prefix+"cut", k.cut)
		note(prefix+"purpose tree", k.Purpose("tree"))
		note(prefix+"purpose bundle", k.Purpose("bundle"))
	}
	if testKeys(1).BlobID(blob.Data, nil) == testKeys(1).BlobID(blob.Secrets, nil) {
		t.Error("equal contents of two classes share a name")
	}
}

func TestBlobOpensOnlyAsWhatItIs(t *testing.T) {
	k := testKeys(1)
	s := testSession(k)
	for name, plain := range map[string][]byte{
		"empty": {}, "one byte": {7}, "compressible": bytes.Repeat([]byte("varve "), 1000),
	} {
		ref := blob.Ref{Class: blob.Data, ID: k.BlobID(blob.Data, plain)}
		sealed := s.Seal(ref, plain)
		got, err := k.Open(s.Key(blob.Data), ref, sealed.Bytes)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: opens to %d bytes, %v", name, len(got), err)
		}
		other := blob.Ref{Class: blob.Data, ID: k.BlobID(blob.Data, []byte("other"))}
		asSecret := blob.Ref{Class: blob.Secrets, ID: ref.ID}
		foreign := testKeys(1)
		foreign.repository[0] ^= 1
		for reason, open := range map[string]func() ([]byte, error){
			"another name":       func() ([]byte, error) { return k.Open(s.Key(blob.Data), other, sealed.Bytes) },
			"another class":      func() ([]byte, error) { return k.Open(s.Key(blob.Data), asSecret, sealed.Bytes) },
			"another key":        func() ([]byte, error) { return k.Open(s.Key(blob.Tree), ref, sealed.Bytes) },
			"another repository": func() ([]byte, error) { return foreign.Open(s.Key(blob.Data), ref, sealed.Bytes) },
			"cut short":          func() ([]byte, error) { return k.Open(s.Key(blob.Data), ref, sealed.Bytes[:len(sealed.Bytes)-1]) },
			"nothing":            func() ([]byte, error) { return k.Open(s.Key(blob.Data), ref, nil) },
		} {
			if got, err := open(); !errors.Is(err, ErrOpen) {
				t.Errorf("%s opened as %s: %q, %v", name, reason, got, err)
			}
		}
		for i := range sealed.Bytes {
			flipped := bytes.Clone(sealed.Bytes)
			flipped[i] ^= 0x10
			if _, err := k.Open(s.Key(blob.Data), ref, flipped); !errors.Is(err, ErrOpen) {
				t.Fatalf("%s with byte %d flipped: %v", name, i, err)
			}
		}
	}
}

// A holder of the keys who seals something under a wrong name (a compromised writer) is caught by the
// hash of the plaintext.
func TestContentThatDoesNotHashToItsNameIsRefused(t *testing.T) {
	k := testKeys(1)
	s := testSession(k)
	ref := blob.Ref{Class: blob.Data, ID: k.BlobID(blob.Data, []byte("promised"))}
	if _, err := k.Open(s.Key(blob.Data), ref, s.Seal(ref, []byte("delivered")).Bytes); !errors.Is(err, ErrMismatch) {
		t.Errorf("blob with another content: %v, want ErrMismatch", err)
	}
	node := blob.Node{Links: []blob.Ref{ref}, Body: []byte("body")}
	name := blob.Ref{Class: blob.Tree, ID: k.NodeID(blob.Tree, node)}
	moved := blob.Node{Links: nil, Body: append(encodeLinks(node.Links), node.Body...)}
	sealed := s.SealNode(name, moved)
	if _, err := k.OpenNode(s.Key(blob.Tree), name, sealed.Bytes, sealed.Links); !errors.Is(err, ErrMismatch) {
		t.Errorf("node whose links moved into its body: %v, want ErrMismatch", err)
	}
}

func TestLinksOpenWithoutTheContentKey(t *testing.T) {
	k := testKeys(1)
	s := testSession(k)
	node := blob.Node{Body: bytes.Repeat([]byte("names "), 300)}
	for i := range 40 {
		node.Links = append(node.Links, blob.Ref{Class: blob.Classes[i%4], ID: blob.ID{byte(i)}})
	}
	ref := blob.Ref{Class: blob.Tree, ID: k.NodeID(blob.Tree, node)}
	sealed := s.SealNode(ref, node)
	links, err := k.OpenLinks(ref, sealed.Bytes[:sealed.Links])
	if err != nil || len(links) != 40 || links[39] != node.Links[39] {
		t.Errorf("links open to %d, %v", len(links), err)
	}
	whole, err := k.OpenNode(s.Key(blob.Tree), ref, sealed.Bytes, sealed.Links)
	if err != nil || !bytes.Equal(whole.Body, node.Body) || len(whole.Links) != 40 {
		t.Errorf("node opens to %d links and %d bytes, %v", len(whole.Links), len(whole.Body), err)
	}
	if _, err := k.OpenNode(SessionKey{}, ref, sealed.Bytes, sealed.Links); !errors.Is(err, ErrOpen) {
		t.Errorf("node without the session key: %v, want ErrOpen", err)
	}
}

func TestSealingDoesNotDependOnChance(t *testing.T) {
	k := testKeys(1)
	s := testSession(k)
	plain := []byte("the same bytes")
	ref := blob.Ref{Class: blob.Data, ID: k.BlobID(blob.Data, plain)}
	if !bytes.Equal(s.Seal(ref, plain).Bytes, s.Seal(ref, plain).Bytes) {
		t.Error("a blob sealed twice gives two ciphertexts")
	}
	a, b := k.SealCatalog(Entry, "1", []byte("a")), k.SealCatalog(Entry, "1", []byte("b"))
	if bytes.Equal(a[:nonceSize], b[:nonceSize]) {
		t.Error("two contents of one name share a nonce")
	}
}

func TestCatalogObjectOpensOnlyAsWhatItIs(t *testing.T) {
	k := testKeys(1)
	sealed := k.SealCatalog(Entry, "0000000000000001", []byte("operations"))
	if got, err := k.OpenCatalog(Entry, "0000000000000001", sealed); err != nil || string(got) != "operations" {
		t.Fatalf("opens to %q, %v", got, err)
	}
	for reason, c := range map[string]struct {
		keys *Keys
		kind Kind
		name string
	}{
		"another number":     {k, Entry, "0000000000000002"},
		"another kind":       {k, Checkpoint, "0000000000000001"},
		"another repository": {testKeys(2), Entry, "0000000000000001"},
	} {
		if _, err := c.keys.OpenCatalog(c.kind, c.name, sealed); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v, want ErrOpen", reason, err)
		}
	}
}

func TestDecodingIsBounded(t *testing.T) {
	bomb := encode(blob.Data, make([]byte, 1<<20))
	bomb[1], bomb[2], bomb[3], bomb[4] = 0xff, 0xff, 0xff, 0xff // claims 4 GiB
	lying := encode(blob.Data, make([]byte, 1<<20))
	lying[1], lying[2], lying[3], lying[4] = 16, 0, 0, 0 // claims 16 bytes
	for reason, encoded := range map[string][]byte{
		"claims 4 GiB": bomb, "gives more than it claims": lying, "empty": {}, "unknown codec": {9, 0, 0, 0, 0},
		"raw shorter than it claims": {codecRaw, 2, 0, 0, 0, 'x'},
	} {
		if got, err := decode(encoded); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %d bytes, %v; want ErrOpen", reason, len(got), err)
		}
	}
}

func TestKeySlotOpensWithItsPasswordOnly(t *testing.T) {
	m, id := NewMaster(), NewRepositoryID()
	to, err := PasswordRecipient("eight plus letters", 1)
	if err != nil {
		t.Fatal(err)
	}
	slot, err := SealSlot(m, id, to)
	if err != nil {
		t.Fatal(err)
	}
	right, _ := PasswordIdentity("eight plus letters")
	gotMaster, gotID, err := OpenSlot(slot, right)
	if err != nil || !gotMaster.Equal(m) || gotID != id {
		t.Fatalf("right password: %v, %v, %v", gotMaster, gotID, err)
	}
	wrong, _ := PasswordIdentity("eight other letters")
	if _, _, err := OpenSlot(slot, wrong); !errors.Is(err, ErrWrongKey) {
		t.Errorf("wrong password: %v, want ErrWrongKey", err)
	}
	costly, err := PasswordRecipient("eight plus letters", 1)
	if err != nil {
		t.Fatal(err)
	}
	planted, err := SealSlot(m, id, costly)
	if err != nil {
		t.Fatal(err)
	}
	planted = bytes.Replace(planted, []byte(" 1\n"), []byte(" 30\n"), 1)
	if _, _, err := OpenSlot(planted, right); err == nil {
		t.Error("a slot that asks for 2^30 rounds was opened")
	}
	if _, _, err := OpenSlot(slot[:len(slot)/2], right); !errors.Is(err, ErrOpen) {
		t.Errorf("half a slot: %v, want ErrOpen", err)
	}
}

func TestMasterKeyStaysOutOfMessages(t *testing.T) {
	m := NewMaster()
	if s := m.String(); bytes.Contains([]byte(s), m[:4]) || len(s) > 20 {
		t.Errorf("String() = %q", s)
	}
}

// Padmé keeps as many leading bits of a length as its exponent has bits, and adds at most 12 %.
func TestPaddedSizesArePadme(t *testing.T) {
	last := 0
	for n := range 1 << 17 {
		p := Padded(n)
		if p < n || p < last || (n > 0 && float64(p-n) > 0.12*float64(n)) || Padded(p) != p {
			t.Fatalf("Padded(%d) = %d, after %d", n, p, last)
		}
		if n >= 2 {
			exponent := bits.Len(uint(p)) - 1
			if free := exponent - bits.Len(uint(exponent)); bits.TrailingZeros(uint(p)) < free {
				t.Fatalf("Padded(%d) = %d has too many significant bits", n, p)
			}
		}
		last = p
	}
}
