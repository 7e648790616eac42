package repo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// fakeKeeper is a key service that xors, and counts how often it is asked.
type fakeKeeper struct {
	url   string
	key   byte
	asked *int
}

func (k fakeKeeper) Name() string { return k.url }

func (k fakeKeeper) Encrypt(_ context.Context, plain []byte) ([]byte, error) {
	out := bytes.Clone(plain)
	for i := range out {
		out[i] ^= k.key
	}
	return out, nil
}

func (k fakeKeeper) Decrypt(ctx context.Context, wrapped []byte) ([]byte, error) {
	*k.asked++
	return k.Encrypt(ctx, wrapped)
}

func addSlot(t testing.TB, r *Repository, o SlotOptions) Slot {
	t.Helper()
	o.PasswordWork = 1
	s, err := r.AddSlot(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func plant(t testing.TB, b storage.Bucket, name string, data []byte) {
	t.Helper()
	if err := b.Create(context.Background(), name, data); err != nil {
		t.Fatal(err)
	}
}

func TestEverySlotOpensTheRepository(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	backup(t, r, []byte("one"))
	simple, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	keeper := fakeKeeper{"awskms://alias/backups", 7, &asked}
	for kind, c := range map[seal.SlotKind]struct {
		add  SlotOptions
		open OpenOptions
	}{
		seal.PasswordSlot: {SlotOptions{Password: "another password", Label: "ops"}, OpenOptions{Password: "another password"}},
		seal.X25519Slot:   {SlotOptions{Recipient: simple.Recipient(), Label: "mover"}, OpenOptions{Identities: []age.Identity{simple}}},
		seal.HybridSlot:   {SlotOptions{Recipient: hybrid.Recipient(), Label: "sealed for 40 bytes, all of them are used"[:40]}, OpenOptions{Identities: []age.Identity{hybrid}}},
		seal.KeeperSlot:   {SlotOptions{Keeper: keeper}, OpenOptions{Keeper: keeper}},
	} {
		added := addSlot(t, r, c.add)
		opened, err := Open(ctx, b, c.open)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		slots, more, err := opened.Slots(ctx)
		if err != nil || more {
			t.Fatal(more, err)
		}
		for _, s := range slots {
			if s.Own != (s.ID == added.ID) || !s.Vouched || s.Problem != "" {
				t.Errorf("opened by %s: slot %+v", kind, s)
			}
			if s.Own && (s.Kind != kind || s.Label != c.add.Label || s.Added.IsZero()) {
				t.Errorf("%s is listed as %+v", kind, s)
			}
		}
	}
	mustBeClean(t, r)
	stranger, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	before := asked
	for name, o := range map[string]OpenOptions{
		"another identity":   {Identities: []age.Identity{stranger}},
		"another keeper":     {Keeper: fakeKeeper{"awskms://alias/other", 7, &asked}},
		"another password":   {Password: "a third password"},
		"nothing to open by": {},
	} {
		if _, err := Open(ctx, b, o); !errors.Is(err, ErrWrongKey) {
			t.Errorf("%s: %v, want ErrWrongKey", name, err)
		}
	}
	if asked != before {
		t.Error("a keeper was asked about the slot of another one")
	}
}

func TestSlotsTellNobodyTheirLabels(t *testing.T) {
	b, r := newRepository(t)
	addSlot(t, r, SlotOptions{Password: "another password", Label: "payroll of ACME"})
	long := addSlot(t, r, SlotOptions{Password: "a third password"})
	for name := range names(t, b) {
		if strings.HasPrefix(name, keyFolder) && len(name) != len(long.object) {
			t.Errorf("the length of %s tells something", name)
		}
		data, err := b.Get(context.Background(), name, 0, -1)
		if err != nil || bytes.Contains(data, []byte("ACME")) || strings.Contains(name, "41434d45") {
			t.Errorf("%s shows the label, or %v", name, err)
		}
	}
	if _, err := r.AddSlot(context.Background(), SlotOptions{Password: "x", Label: strings.Repeat("x", seal.MaxLabel+1)}); err == nil {
		t.Error("a label that is too long was taken")
	}
}

func TestRemovedSlotOpensNothing(t *testing.T) {
	ctx := context.Background()
	b := mem.New()
	initialise(t, b)
	var deleting atomic.Bool
	r := reopen(t, b.View(func(_ context.Context, op mem.Op) mem.Fault {
		deleting.CompareAndSwap(false, op.Kind == mem.Delete)
		return mem.Fault{}
	}), "")
	backup(t, r, []byte("one"))
	own := r.slot
	if err := r.RemoveSlot(ctx, own, true); !errors.Is(err, ErrLastSlot) {
		t.Errorf("removing the last slot: %v, want ErrLastSlot", err)
	}
	plant(t, b, keyFolder+strings.Repeat("ab", 32), []byte("no slot"))
	stranger := mem.New()
	initialise(t, stranger)
	for name := range names(t, stranger) { // looks like a slot, and nobody here vouches for it
		if file, err := stranger.Get(ctx, name, 0, -1); err == nil && strings.HasPrefix(name, keyFolder) {
			plant(t, b, name, file)
		}
	}
	if err := r.RemoveSlot(ctx, own, true); !errors.Is(err, ErrLastSlot) {
		t.Errorf("removing the last slot beside planted ones: %v, want ErrLastSlot", err)
	}
	second := addSlot(t, r, SlotOptions{Password: "another password"})
	if err := r.RemoveSlot(ctx, own, false); !errors.Is(err, ErrOwnSlot) {
		t.Errorf("removing the slot that opened it: %v, want ErrOwnSlot", err)
	}
	if err := r.RemoveSlot(ctx, blob.Hash{1}, false); !errors.Is(err, ErrNoSlot) {
		t.Errorf("removing what is not there: %v, want ErrNoSlot", err)
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password}); err != nil || deleting.Load() {
		t.Fatalf("after refused removals: %v, deleting: %t", err, deleting.Load())
	}
	if err := r.RemoveSlot(ctx, own, true); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, b, OpenOptions{Password: password}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("open by the removed slot: %v, want ErrWrongKey", err)
	}
	r, err := Open(ctx, b, OpenOptions{Password: "another password"})
	if err != nil || r.slot != second.ID {
		t.Fatalf("open by the slot that is left: %v", err)
	}
	slots, _, err := r.Slots(ctx)
	if err != nil || len(slots) != 3 {
		t.Fatalf("%d slots, %v; want ours and two planted ones", len(slots), err)
	}
	for _, s := range slots {
		if !s.Own {
			if err := r.RemoveSlot(ctx, s.ID, false); err != nil || s.Vouched {
				t.Errorf("removing planted slot %+v: %v", s, err)
			}
		}
	}
	backup(t, r, []byte("two"))
	mustBeClean(t, r)
}

// Each sees the other's slot and removes it, at the same moment.
func TestTwoWhoRemoveEachOthersSlotLeaveOne(t *testing.T) {
	ctx := context.Background()
	store, first := newRepository(t)
	slot := addSlot(t, first, SlotOptions{Password: "another password"})
	second, err := Open(ctx, store, OpenOptions{Password: "another password"})
	if err != nil {
		t.Fatal(err)
	}
	plant(t, store, slotName{id: slot.ID}.String(), []byte("what is planted beside it does not come back in its place"))
	var once atomic.Bool
	first = reopen(t, store.(*mem.Bucket).View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Delete && once.CompareAndSwap(false, true) {
			if err := second.RemoveSlot(ctx, first.slot, false); err != nil {
				t.Error(err)
			}
		}
		return mem.Fault{}
	}), "")
	if err := first.RemoveSlot(ctx, slot.ID, false); !errors.Is(err, ErrLastSlot) {
		t.Errorf("the slower removal: %v, want ErrLastSlot", err)
	}
	if _, err := Open(ctx, store, OpenOptions{Password: "another password"}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Whoever can write to the bucket can seal a master key of his own for a public key that he knows.
func TestSlotWithAnotherMasterKeyIsPassedOver(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	backup(t, r, []byte("one"))
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	planted := 0
	for range 12 { // on both sides of the true one, in all likelihood
		m := seal.NewMaster()
		file, err := seal.SealSlot(m, r.ID(), identity.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := storeSlot(ctx, b, seal.Derive(m, r.ID()), file, "true"); err != nil {
			t.Fatal(err)
		}
		planted++
	}
	open := func(fingerprint string) error {
		_, err := Open(ctx, b, OpenOptions{Identities: []age.Identity{identity}, Fingerprint: fingerprint})
		return err
	}
	if err := open(""); !errors.Is(err, ErrDamaged) {
		t.Errorf("only planted slots: %v, want ErrDamaged", err)
	}
	if err := open(r.Fingerprint()); !errors.Is(err, ErrFingerprint) {
		t.Errorf("only planted slots, with the fingerprint: %v, want ErrFingerprint", err)
	}
	addSlot(t, r, SlotOptions{Recipient: identity.Recipient()})
	for _, fingerprint := range []string{"", r.Fingerprint()} {
		if err := open(fingerprint); err != nil {
			t.Errorf("with %d planted slots, fingerprint %q: %v", planted, fingerprint, err)
		}
	}
	slots, _, err := r.Slots(ctx)
	vouched := 0
	for _, s := range slots {
		if s.Vouched {
			vouched++
		}
	}
	if err != nil || vouched != 2 || len(slots) != planted+2 {
		t.Errorf("%d slots, %d of them vouched for, %v; want %d and 2", len(slots), vouched, err, planted+2)
	}
}

// A slot whose key nobody has would count as one that opens, so it must not outlive its maker.
func TestKeyIsShownBeforeItsSlotIsStored(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		slots, _, err := r.Slots(ctx)
		if err != nil {
			t.Error(err)
		}
		return len(slots)
	}
	unseen := errors.New("nobody has seen it")
	o := SlotOptions{Recipient: identity.Recipient(), Before: func(blob.Hash) error { return unseen }}
	if _, err := r.AddSlot(ctx, o); !errors.Is(err, unseen) || count() != 1 {
		t.Errorf("a key that could not be shown: %v, and %d slots", err, count())
	}
	var told blob.Hash
	o.Before = func(id blob.Hash) error {
		told = id
		if count() != 1 {
			t.Error("the slot is stored before its key is shown")
		}
		return nil
	}
	slot, err := r.AddSlot(ctx, o)
	if err != nil || slot.ID != told {
		t.Errorf("slot %v was added, %v; %v was told", slot.ID, err, told)
	}
	if _, err := Open(ctx, b, OpenOptions{Identities: []age.Identity{identity}}); err != nil {
		t.Error(err)
	}
}

func TestInterruptedRepositoryWithSeveralSlotsStillBegins(t *testing.T) {
	ctx := context.Background()
	b, r := newRepository(t)
	addSlot(t, r, SlotOptions{Password: "another password"})
	if err := b.Delete(ctx, journal.Name(0)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{password, "another password"} {
		if _, err := Open(ctx, b, OpenOptions{Password: p}); err != nil {
			t.Errorf("open by %q: %v", p, err)
		}
	}
}
