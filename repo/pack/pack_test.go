package pack

import (
	"bytes"
	"crypto/hpke"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/formattest"
	"github.com/varve-dev/varve/repo/seal"
)

var update = flag.Bool("update", false, "write the vectors anew")

// The keys of the vectors.
func testKeys() *seal.Keys {
	return seal.Derive(seal.Master{0: 1, 31: 2}, seal.RepositoryID{0: 3, 15: 4})
}

// contents are the plaintexts of a small pack: one blob of each class.
var contents = map[blob.Class]blob.Node{
	blob.Data:     {Body: []byte("a chunk of a file")},
	blob.Secrets:  {Body: []byte("hunter2 hunter2 hunter2 hunter2 hunter2 hunter2")},
	blob.Tree:     {Body: []byte("a page of a map"), Links: []blob.Ref{{Class: blob.Data, ID: blob.ID{9}}}},
	blob.Manifest: {Body: []byte("a snapshot"), Links: []blob.Ref{{Class: blob.Tree, ID: blob.ID{8}}}},
}

func build(t testing.TB, k *seal.Keys, recovery hpke.PublicKey) Pack {
	t.Helper()
	session := k.NewSession(recovery)
	b := NewBuilder(k, session)
	for _, c := range blob.Classes {
		if c.HasLinks() {
			b.Add(session.SealNode(blob.Ref{Class: c, ID: k.NodeID(c, contents[c])}, contents[c]))
		} else {
			b.Add(session.Seal(blob.Ref{Class: c, ID: k.BlobID(c, contents[c].Body)}, contents[c].Body))
		}
	}
	p, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func keysOf(r Reader, data []byte) ([]seal.SessionKey, error) {
	h, err := r.Head(data)
	if err != nil {
		return nil, err
	}
	return r.SessionKeys(h)
}

// readAll opens everything in a pack from nothing but its bytes.
func readAll(r Reader, data []byte) (map[blob.Class]blob.Node, error) {
	rows, err := r.Rows(data)
	if err != nil {
		return nil, err
	}
	keys, err := keysOf(r, data)
	if err != nil {
		return nil, err
	}
	got := map[blob.Class]blob.Node{}
	for _, row := range rows {
		n, err := r.OpenBlob(keys, row, data[row.Offset:][:row.Stored])
		if err != nil {
			return nil, err
		}
		got[row.Class] = n
	}
	return got, nil
}

func TestPackTellsEverythingByItself(t *testing.T) {
	k := testKeys()
	p := build(t, k, nil)
	got, err := readAll(Reader{Keys: k}, p.Data)
	if diff := cmp.Diff(contents, got); err != nil || diff != "" {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	rows, err := Reader{Keys: k}.Rows(p.Data)
	if diff := cmp.Diff(p.Rows, rows); err != nil || diff != "" {
		t.Errorf("rows: %v, (-built +read):\n%s", err, diff)
	}
	if p.Name != seal.HashOf(p.Data) {
		t.Error("the name is not the hash of the bytes")
	}
}

func TestKeysOfAPackOpenFromItsHead(t *testing.T) {
	k := testKeys()
	sources := make([]Pack, 256/len(blob.Classes))
	for i := range sources {
		sources[i] = build(t, k, nil)
	}
	many := joined(t, k, sources...)
	whole, err := Reader{Keys: k}.Head(many.Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		of   Pack
		keys int
		ends []int64 // of what is fetched
	}{
		{of: sources[0], keys: len(blob.Classes), ends: []int64{min(HeadSize, int64(len(sources[0].Data)))}},
		{of: many, keys: 256, ends: []int64{HeadSize, int64(headerSize + whole.keyTable)}},
	} {
		var ends []int64
		r := Reader{Keys: k}
		h, err := r.HeadBy(int64(len(c.of.Data)), func(offset, length int64) ([]byte, error) {
			ends = append(ends, offset+length)
			return c.of.Data[offset:][:length], nil
		})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := r.SessionKeys(h)
		if err != nil || len(keys) != c.keys {
			t.Errorf("%d keys, %v; want %d", len(keys), err, c.keys)
		}
		if diff := cmp.Diff(c.ends, ends); diff != "" {
			t.Errorf("%d keys: what was fetched ends at (-want +got)\n%s", c.keys, diff)
		}
	}
}

func TestHeadThatIsCutShortIsDamaged(t *testing.T) {
	k := testKeys()
	p := build(t, k, nil)
	whole, err := Reader{Keys: k}.Head(p.Data)
	if err != nil {
		t.Fatal(err)
	}
	for length := range headerSize + whole.keyTable {
		short := func(offset, _ int64) ([]byte, error) { return p.Data[offset:length], nil }
		if _, err := (Reader{Keys: k}).HeadBy(int64(len(p.Data)), short); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes instead of all: %v", length, err)
		}
		if _, err := (Reader{Keys: k}).Head(p.Data[:length]); !errors.Is(err, ErrDamaged) {
			t.Errorf("a pack of %d bytes: %v", length, err)
		}
	}
}

func TestPackOfAWriteOnlyRepositoryOpensWithTheRecoveryKeyOnly(t *testing.T) {
	k := testKeys()
	recovery, err := seal.GenerateRecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	other, err := seal.GenerateRecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	p := build(t, k, recovery.PublicKey())
	got, err := readAll(Reader{Keys: k, Recovery: recovery}, p.Data)
	if diff := cmp.Diff(contents, got); err != nil || diff != "" {
		t.Errorf("with the recovery key: %v, (-want +got):\n%s", err, diff)
	}
	if _, err := readAll(Reader{Keys: k}, p.Data); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the recovery key: %v, want ErrNoKey", err)
	}
	if _, err := readAll(Reader{Keys: k, Recovery: other}, p.Data); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("with another recovery key: %v, want ErrOpen", err)
	}
}

// The packs under testdata were written once. They must stay readable as long as format version 0 is
// read, by the content keys and by the recovery key.
func TestVectorsStayReadable(t *testing.T) {
	k := testKeys()
	if *update {
		writeVectors(t, k)
	}
	secret, err := os.ReadFile("testdata/recovery.key")
	if err != nil {
		t.Fatal(err)
	}
	recovery, err := hpke.MLKEM768X25519().NewPrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	for file, r := range map[string]Reader{
		"testdata/v0.pack":          {Keys: k},
		"testdata/v0-recovery.pack": {Keys: k, Recovery: recovery},
	} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(r, data)
		if diff := cmp.Diff(contents, got); err != nil || diff != "" {
			t.Errorf("%s: %v, (-want +got):\n%s", file, err, diff)
		}
	}
}

func writeVectors(t *testing.T, k *seal.Keys) {
	recovery, err := seal.GenerateRecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := recovery.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for file, data := range map[string][]byte{
		"testdata/recovery.key":     secret,
		"testdata/v0.pack":          build(t, k, nil).Data,
		"testdata/v0-recovery.pack": build(t, k, recovery.PublicKey()).Data,
	} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The header is plain, so nothing in it may depend on what the pack holds.
func TestHeaderDoesNotTellWhichClassesAPackHolds(t *testing.T) {
	k := testKeys()
	lengths := map[string][]blob.Class{}
	for _, classes := range [][]blob.Class{{blob.Data}, {blob.Secrets}, {blob.Data, blob.Secrets}} {
		session := k.NewSession(nil)
		b := NewBuilder(k, session)
		for _, c := range classes {
			b.Add(session.Seal(blob.Ref{Class: c, ID: k.BlobID(c, []byte("x"))}, []byte("x")))
		}
		p, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		lengths[string(p.Data[24:headerSize])] = classes
	}
	if len(lengths) != 1 {
		t.Errorf("packs of different classes have different headers: %q", lengths)
	}
}

func TestPackSizeIsPadded(t *testing.T) {
	k := testKeys()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		session := k.NewSession(nil)
		b := NewBuilder(k, session)
		for range 1 + rng.IntN(20) {
			plain := make([]byte, rng.IntN(5000))
			b.Add(session.Seal(blob.Ref{Class: blob.Data, ID: k.BlobID(blob.Data, plain)}, plain))
		}
		p, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Data) != seal.Padded(len(p.Data)) {
			t.Fatalf("a pack has %d bytes, which is no padded size", len(p.Data))
		}
	}
}

func TestDamagedPackNeverGivesWrongBytes(t *testing.T) {
	k := testKeys()
	p := build(t, k, nil)
	r := Reader{Keys: k}
	try := func(name string, data []byte) {
		got, err := readAll(r, data)
		if err != nil {
			return
		}
		if diff := cmp.Diff(contents, got); diff != "" {
			t.Errorf("%s gives other contents:\n%s", name, diff)
		}
		if !bytes.Equal(data, p.Data) {
			t.Errorf("%s is read without an error", name)
		}
	}
	for i := range p.Data {
		flipped := bytes.Clone(p.Data)
		flipped[i] ^= 1
		try(fmt.Sprintf("byte %d flipped", i), flipped)
	}
	for _, n := range []int{0, 1, headerSize, len(p.Data) / 2, len(p.Data) - 1} {
		try(fmt.Sprintf("cut to %d bytes", n), p.Data[:n])
	}
	try("a byte more", append(bytes.Clone(p.Data), 0))
	other := build(t, k, nil)
	try("tail of another pack", append(bytes.Clone(p.Data[:len(p.Data)-trailerSize]), other.Data[len(other.Data)-trailerSize:]...))
}

func FuzzRows(f *testing.F) {
	k := testKeys()
	p := build(f, k, nil)
	f.Add(p.Data)
	f.Add(p.Data[:headerSize])
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := Reader{Keys: k}.Rows(data)
		if err == nil && !cmp.Equal(rows, p.Rows) {
			t.Errorf("accepted other rows")
		}
	})
}

// The table is sealed, so the fuzzer above does not get far; this one feeds the parser itself.
func FuzzTable(f *testing.F) {
	f.Add(tableOf([]blob.Row{{Class: blob.Data, Stored: 10}}, nil, 100))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, table []byte) {
		var rows []blob.Row
		var err error
		formattest.Bounded(t, 4*len(table), func() { rows, err = parseTable(table) })
		if err != nil {
			return
		}
		if again := tableOf(rows, nil, countSize+len(rows)*blob.RowSize); !bytes.HasPrefix(table, again) {
			t.Error("rows do not encode to what they were decoded from")
		}
	})
}

// joined copies everything from packs of several sessions into one.
func joined(t *testing.T, k *seal.Keys, packs ...Pack) Pack {
	t.Helper()
	j := NewJoiner(k)
	for _, p := range packs {
		s, err := Reader{Keys: k}.Source(p.Data)
		if err != nil {
			t.Fatal(err)
		}
		if !j.Take(s, s.Rows) {
			t.Fatal("the keys of a few packs do not fit into one")
		}
	}
	p, err := j.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestJoinedPackOpensAsItsSources(t *testing.T) {
	k := testKeys()
	recovery, err := seal.GenerateRecoveryKey()
	if err != nil {
		t.Fatal(err)
	}
	sources := []Pack{build(t, k, nil), build(t, k, recovery.PublicKey()), build(t, k, nil), build(t, k, recovery.PublicKey())}
	p := joined(t, k, joined(t, k, sources[:2]...), sources[2], sources[3])
	r := Reader{Keys: k, Recovery: recovery}
	rows, err := r.Rows(p.Data)
	if err != nil || len(rows) != 4*len(contents) {
		t.Fatalf("%d rows, %v; want %d", len(rows), err, 4*len(contents))
	}
	keys, err := keysOf(r, p.Data)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		n, err := r.OpenBlob(keys, row, p.Data[row.Offset:][:row.Stored])
		if diff := cmp.Diff(contents[row.Class], n); err != nil || diff != "" {
			t.Errorf("%v: %v (-want +got)\n%s", row.Ref(), err, diff)
		}
	}
	if len(p.Data) != seal.Padded(len(p.Data)) {
		t.Errorf("a joined pack of %d bytes is not padded", len(p.Data))
	}
}

func TestKeysOfOneSessionAreCarriedOnce(t *testing.T) {
	k := testKeys()
	one := build(t, k, nil)
	if p := joined(t, k, one, one, one); len(p.Data) >= 3*len(one.Data) {
		t.Errorf("three times one pack make %d bytes of %d", len(p.Data), len(one.Data))
	}
	keys, err := keysOf(Reader{Keys: k}, joined(t, k, one, one, one).Data)
	if err != nil || len(keys) != len(blob.Classes) {
		t.Errorf("%d keys, %v; want %d", len(keys), err, len(blob.Classes))
	}
}

func TestJoinerIsFullWhenKeysDoNotFit(t *testing.T) {
	k := testKeys()
	j := NewJoiner(k)
	for n := 1; ; n++ {
		s, err := Reader{Keys: k}.Source(build(t, k, nil).Data)
		if err != nil {
			t.Fatal(err)
		}
		before := j.Len()
		if j.Take(s, s.Rows) {
			continue
		}
		if j.Len() != before || n != 256/len(blob.Classes)+1 {
			t.Errorf("full with %d packs, %d blobs more; want %d and none", n, j.Len()-before, 256/len(blob.Classes)+1)
		}
		break
	}
	p, err := j.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := keysOf(Reader{Keys: k}, p.Data); err != nil || len(keys) != 256 {
		t.Errorf("%d keys, %v; want 256", len(keys), err)
	}
}

func TestJoiningTheSameAgainMakesAnotherPack(t *testing.T) {
	k := testKeys()
	p := build(t, k, nil)
	first, second := joined(t, k, p), joined(t, k, p)
	if first.Name == second.Name {
		t.Error("two joined packs of the same blobs have one name, which can be dropped only once")
	}
}
