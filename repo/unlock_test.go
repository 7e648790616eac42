package repo

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// plantPasswords plants slots whose names come before that of the repository's own.
func plantPasswords(t *testing.T, b storage.Bucket, own blob.Hash, count int) {
	t.Helper()
	to, err := seal.PasswordRecipient("the attacker's", 1)
	if err != nil {
		t.Fatal(err)
	}
	for count > 0 {
		file, err := seal.SealSlot(seal.NewMaster(), seal.NewRepositoryID(), to)
		if err != nil {
			t.Fatal(err)
		}
		if name := (slotName{id: seal.HashOf(file)}); bytes.Compare(name.id[:], own[:]) < 0 {
			plant(t, b, name.String(), file)
			count--
		}
	}
}

// slotReads counts what is read of key slots, and the most bytes that were asked for at once.
func slotReads(b *mem.Bucket) (watched storage.Bucket, read, most *atomic.Int64) {
	read, most = new(atomic.Int64), new(atomic.Int64)
	return b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Get && strings.HasPrefix(op.Name, keyFolder) {
			read.Add(1)
			most.Store(max(most.Load(), op.Length))
		}
		return mem.Fault{}
	}), read, most
}

// Whoever can only create objects plants slots that come first by name. The oldest ones are tried first.
func TestPlantedSlotsLockNobodyOut(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	initialise(t, b)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r := reopen(t, b, "")
	addSlot(t, r, SlotOptions{Recipient: identity.Recipient()})
	plantPasswords(t, b, r.slot, 3*maxPasswordSlots)
	for i := range 4 * maxSlots {
		junk := []byte{0, byte(i), byte(i >> 8)}
		plant(t, b, slotName{id: blob.Hash(append(junk, make([]byte, 29)...))}.String(), junk)
	}
	plant(t, b, keyFolder+"0-no-slot", []byte("by its name"))
	plant(t, b, slotName{id: blob.Hash{1}}.String()+"-00", []byte("by its label"))
	plant(t, b, slotName{id: blob.Hash{2}}.String(), make([]byte, seal.MaxSlot+1))
	watched, read, _ := slotReads(b)
	for name, o := range map[string]OpenOptions{
		"password": {Password: password},
		"identity": {Identities: []age.Identity{identity}, Fingerprint: r.Fingerprint()},
	} {
		if _, err := Open(ctx, watched, o); err != nil {
			t.Errorf("open by %s beside planted slots: %v", name, err)
		}
	}
	if read.Load() > 3 {
		t.Errorf("%d slots were read, although the true ones are the oldest", read.Load())
	}
	slots, more, err := r.Slots(ctx)
	if err != nil || !more || len(slots) != maxSlots || !slots[0].Own || !slots[1].Vouched {
		t.Errorf("%d slots are listed, more: %t, %v; want the repository's two before the planted ones", len(slots), more, err)
	}
}

func TestPlantedSlotsCostAtMostSoMuch(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	open := func(password string) error {
		_, err := Open(ctx, b, OpenOptions{Password: password})
		return err
	}
	plantPasswords(t, b, r.slot, maxPasswordSlots-1)
	if err := open("the attacker's"); !errors.Is(err, ErrWrongKey) || errors.Is(err, ErrPlanted) {
		t.Errorf("with %d slots for passwords: %v, want ErrWrongKey", maxPasswordSlots, err)
	}
	plantPasswords(t, b, r.slot, 1)
	if err := open("a third password"); !errors.Is(err, ErrWrongKey) || !errors.Is(err, ErrPlanted) {
		t.Errorf("with one slot for passwords more: %v, want ErrPlanted", err)
	}
	large := make([]byte, 1<<20)
	_, _ = rand.Read(large)
	plant(t, b, slotName{id: seal.HashOf(large)}.String(), large)
	for i := range byte(200) {
		plant(t, b, slotName{id: blob.Hash{i, 1}}.String(), []byte{i})
	}
	watched, read, most := slotReads(b)
	_, err := Open(ctx, watched, OpenOptions{Password: "a third password"})
	if !errors.Is(err, ErrWrongKey) || !errors.Is(err, ErrPlanted) || !strings.Contains(err.Error(), "the oldest of 210:") {
		t.Errorf("with 200 slots more: %v, want ErrPlanted that tells how many there are", err)
	}
	if read.Load() > maxSlots || most.Load() > seal.MaxSlot+1 {
		t.Errorf("%d slots were read, up to %d bytes of each", read.Load(), most.Load())
	}
	if _, err := r.AddSlot(ctx, SlotOptions{Password: "one more"}); !errors.Is(err, ErrTooManySlots) {
		t.Errorf("adding one more: %v, want ErrTooManySlots", err)
	}
}

func TestNamesOfSlotsAreLookedAtUpToABound(t *testing.T) {
	b := mem.New()
	initialise(t, b)
	for i := range maxListed + 10 {
		plant(t, b, fmt.Sprintf("%s-%06d", keyFolder, i), nil)
	}
	listed := 0
	_, err := Open(context.Background(), countedList{b, &listed}, OpenOptions{Password: password})
	if !errors.Is(err, ErrPlanted) || listed > maxListed+1 {
		t.Errorf("%d names were looked at, then %v; want ErrPlanted after %d", listed, err, maxListed)
	}
}

// countedList counts what is listed.
type countedList struct {
	storage.Bucket
	listed *int
}

func (c countedList) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range c.Bucket.List(ctx, prefix, startAfter) {
			*c.listed++
			if !yield(info, err) {
				return
			}
		}
	}
}

// A list may lag behind what is stored, and may still show what was removed. Neither is damage.
func TestSlotThatIsNotListedIsNoDamage(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	added := addSlot(t, r, SlotOptions{Recipient: identity.Recipient()})
	own := slices.Collect(func(yield func(string) bool) {
		for name := range names(t, b) {
			if strings.HasPrefix(name, keyFolder) && name != added.object && !yield(name) {
				return
			}
		}
	})
	if err := b.Delete(ctx, added.object); err != nil {
		t.Fatal(err)
	}
	removed := storage.Info{Name: added.object, Size: added.Size, ModTime: added.Added}
	for name, test := range map[string]struct {
		list staleList
		want error
	}{
		"nothing is listed":             {staleList{Bucket: b, hidden: own}, ErrNoSlots},
		"only what was removed":         {staleList{Bucket: b, hidden: own, ghosts: []storage.Info{removed}}, ErrWrongKey},
		"what was removed, and the own": {staleList{Bucket: b, ghosts: []storage.Info{removed}}, nil},
	} {
		_, err := Open(ctx, test.list, OpenOptions{Password: password})
		if !errors.Is(err, test.want) || errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

// staleList is a bucket whose list lags behind.
type staleList struct {
	storage.Bucket
	hidden []string
	ghosts []storage.Info // under keys/
}

func (s staleList) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for _, g := range s.ghosts {
			if prefix == keyFolder && !yield(g, nil) {
				return
			}
		}
		for info, err := range s.Bucket.List(ctx, prefix, startAfter) {
			if !slices.Contains(s.hidden, info.Name) && !yield(info, err) {
				return
			}
		}
	}
}
