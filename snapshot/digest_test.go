package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// object is one object of a digest's test.
type object struct{ scope, key, body, state string }

func digestOf(objects []object) *Digests {
	h, d := NewHasher([32]byte{7}), &Digests{}
	for _, o := range objects {
		d.Add(o.scope, h.Object([]byte(o.key), []byte(o.body), []byte(o.state)))
	}
	return d
}

func someObjects(n int) (out []object) {
	for i := range n {
		out = append(out, object{fmt.Sprintf("pods\x00ns-%d", i%7), fmt.Sprintf("key-%d", i), fmt.Sprintf("body %d", i%3), fmt.Sprintf("state %d", i)})
	}
	return out
}

func sameDigests(a, b *Digests) bool {
	return a.Whole() == b.Whole() && maps.Equal(maps.Collect(a.All()), maps.Collect(b.All()))
}

func TestDigestsDoNotDependOnOrder(t *testing.T) {
	objects := someObjects(500)
	want := digestOf(objects)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 10 {
		rng.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		if !sameDigests(digestOf(objects), want) {
			t.Fatal("another order gives other digests")
		}
	}
}

func TestDigestsDoNotDependOnHistory(t *testing.T) {
	objects := someObjects(300)
	h := NewHasher([32]byte{7})
	sum := func(o object) Sum { return h.Object([]byte(o.key), []byte(o.body), []byte(o.state)) }
	d, now := &Digests{}, map[string]object{}
	rng := rand.New(rand.NewPCG(2, 2))
	for range 5000 {
		o := objects[rng.IntN(len(objects))]
		if old, there := now[o.key]; there {
			if err := d.Remove(old.scope, sum(old)); err != nil {
				t.Fatal(err)
			}
			delete(now, o.key)
		}
		if rng.IntN(3) > 0 {
			o.state = fmt.Sprint(rng.IntN(10))
			d.Add(o.scope, sum(o))
			now[o.key] = o
		}
	}
	if !sameDigests(d, digestOf(slices.Collect(maps.Values(now)))) {
		t.Error("a long history gives other digests than the objects at its end")
	}
	for _, o := range now {
		if err := d.Remove(o.scope, sum(o)); err != nil {
			t.Fatal(err)
		}
	}
	if !sameDigests(d, &Digests{}) {
		t.Error("with all objects removed, something is left")
	}
}

func TestEveryByteCountsInTheDigest(t *testing.T) {
	base := object{"pods\x00a", "key", "body", "state"}
	h := NewHasher([32]byte{7})
	sum := func(o object) Sum { return h.Object([]byte(o.key), []byte(o.body), []byte(o.state)) }
	want := sum(base)
	for i := range len(base.body) {
		o := base
		b := []byte(o.body)
		b[i] ^= 1
		o.body = string(b)
		if got := sum(o); got.Body == want.Body || got.State != want.State {
			t.Errorf("byte %d of the body: body %v, state %v", i, got.Body != want.Body, got.State != want.State)
		}
	}
	for name, o := range map[string]object{
		"state":             {"", "key", "body", "statf"},
		"key":               {"", "kez", "body", "state"},
		"body as the state": {"", "key", "state", "body"},
	} {
		if got := sum(o); got == want {
			t.Errorf("%s: the same sum", name)
		}
	}
	if got := sum(object{"", "keyb", "ody", ""}); got.Body == want.Body {
		t.Error("a key that ends later, before a shorter body, gives the same sum")
	}
	if got := NewHasher([32]byte{8}).Object([]byte("key"), []byte("body"), []byte("state")); got.Body == want.Body {
		t.Error("another key of the hash gives the same sum")
	}
	if s := sum(object{"", "key", "x", "x"}); s.Body == s.State {
		t.Error("a state is hashed as a body is")
	}
}

func TestScopesTellWhereItDiffers(t *testing.T) {
	objects := someObjects(50)
	before := digestOf(objects)
	objects[9].state = "moved"
	after := digestOf(objects)
	for scope, s := range after.All() {
		differs := s != before.Scope(scope)
		if differs != (scope == objects[9].scope) || s.Body != before.Scope(scope).Body {
			t.Errorf("%q differs: %v", scope, differs)
		}
	}
}

func TestRemovingWhatIsNotThereIsRefused(t *testing.T) {
	d := digestOf(someObjects(10))
	want := digestOf(someObjects(10))
	stranger := NewHasher([32]byte{7}).Object([]byte("other"), nil, nil)
	if err := d.Remove("none", stranger); !errors.Is(err, errNotCounted) {
		t.Errorf("from a scope that is not there: %v", err)
	}
	if err := d.Remove("pods\x00ns-6", stranger); !errors.Is(err, errNotCounted) { // its only object is another
		t.Errorf("as the last of a scope: %v", err)
	}
	if !sameDigests(d, want) {
		t.Error("the digests changed all the same")
	}
}

func TestDigestsAreSumsModulo2To256(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	number := func(d Digest) *big.Int {
		b := bytes.Clone(d[:])
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	modulus := new(big.Int).Lsh(big.NewInt(1), 256)
	for range 1000 {
		var a, b Digest
		for i := range a {
			a[i], b[i] = byte(rng.Uint32()), byte(rng.Uint32())
			if rng.IntN(2) == 0 {
				a[i], b[i] = 0xff, byte(rng.IntN(2)) // long carries
			}
		}
		sum := new(big.Int).Add(number(a), number(b))
		if got := number(a.plus(b)); got.Cmp(sum.Mod(sum, modulus)) != 0 {
			t.Fatalf("%v + %v = %x", a, b, got)
		}
		if got := a.plus(b).minus(b); got != a {
			t.Fatalf("%v + %v - the same = %v", a, b, got)
		}
	}
}

func TestRunsGoOnFromStoredDigestsUnlessDamaged(t *testing.T) {
	r := newRepository(t)
	in := run{}
	in.draft.Digests = digestOf(someObjects(20))
	s := backup(t, r, in)
	if got := ok[*Digests](t)(s.Digests(t.Context())); !cmp.Equal(got.Whole(), in.draft.Digests.Whole()) {
		t.Error("they do not come back")
	}
	next := ok[*Digests](t)(s.Digests(t.Context()))
	more := NewHasher([32]byte{7}).Object([]byte("more"), []byte("body"), nil)
	next.Add("pods\x00ns-0", more)
	in.draft.Digests.Add("pods\x00ns-0", more)
	if !sameDigests(next, in.draft.Digests) {
		t.Error("a run that goes on from stored ones comes to others")
	}
	s.Digest.Body[3]++
	if _, err := s.Digests(t.Context()); !errors.Is(err, ErrMalformed) {
		t.Errorf("digests that do not add up: %v", err)
	}
}
