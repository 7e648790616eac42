package seal

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"filippo.io/age"
)

// clearKeeper wraps nothing; it hands out what it is told to.
type clearKeeper struct {
	name  string
	gives func([]byte) ([]byte, error)
}

func (k clearKeeper) Name() string { return k.name }

func (k clearKeeper) Encrypt(_ context.Context, plain []byte) ([]byte, error) { return plain, nil }

func (k clearKeeper) Decrypt(_ context.Context, wrapped []byte) ([]byte, error) {
	return k.gives(wrapped)
}

func TestKeeperSlotOpensWithItsKeeperOnly(t *testing.T) {
	m, id := NewMaster(), NewRepositoryID()
	same := func(b []byte) ([]byte, error) { return b, nil }
	slot, err := SealSlotBy(t.Context(), m, id, clearKeeper{name: "awskms://alias/a"})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := InspectSlot(slot); err != nil || info != (SlotInfo{Kind: KeeperSlot, Keeper: "awskms://alias/a"}) {
		t.Errorf("looks like %+v, %v", info, err)
	}
	gotMaster, gotID, err := OpenSlotBy(t.Context(), slot, clearKeeper{"awskms://alias/a", same})
	if err != nil || !gotMaster.Equal(m) || gotID != id {
		t.Fatalf("opens as %v, %v, %v", gotMaster, gotID, err)
	}
	never := func([]byte) ([]byte, error) { t.Error("the keeper was asked"); return nil, nil }
	away := errors.New("away")
	for name, c := range map[string]struct {
		file   []byte
		keeper clearKeeper
		want   error
	}{
		"another keeper":        {slot, clearKeeper{"awskms://alias/b", never}, ErrWrongKey},
		"an age file":           {[]byte("age-encryption.org/v1\n"), clearKeeper{"awskms://alias/a", never}, ErrWrongKey},
		"half a slot":           {slot[:len(slot)/2], clearKeeper{"awskms://alias/a", never}, ErrOpen},
		"a large slot":          {append(bytes.Clone(slot), make([]byte, MaxSlot)...), clearKeeper{"awskms://alias/a", never}, ErrOpen},
		"a keeper that is away": {slot, clearKeeper{"awskms://alias/a", func([]byte) ([]byte, error) { return nil, away }}, away},
		"a keeper that gives something else": {slot, clearKeeper{"awskms://alias/a",
			func([]byte) ([]byte, error) { return []byte("something else"), nil }}, ErrOpen},
	} {
		if _, _, err := OpenSlotBy(t.Context(), c.file, c.keeper); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := SealSlotBy(t.Context(), m, id, clearKeeper{name: strings.Repeat("x", maxKeeperName+1)}); err == nil {
		t.Error("a keeper with an endless name was taken")
	}
}

func TestSlotTellsItsKindWithoutAKey(t *testing.T) {
	simple, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	_, hybrid, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	password, err := PasswordRecipient("eight plus letters", 1)
	if err != nil {
		t.Fatal(err)
	}
	for want, to := range map[SlotKind]age.Recipient{PasswordSlot: password, X25519Slot: simple.Recipient(), HybridSlot: hybrid} {
		slot, err := SealSlot(NewMaster(), NewRepositoryID(), to)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := InspectSlot(slot); err != nil || info.Kind != want {
			t.Errorf("a slot of kind %s looks like %s, %v", want, info.Kind, err)
		}
	}
	var several bytes.Buffer
	w, err := age.Encrypt(&several, simple.Recipient(), simple.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := InspectSlot(several.Bytes()); err != nil || info.Kind != OtherSlot {
		t.Errorf("a slot for two looks like %s, %v", info.Kind, err)
	}
	for name, file := range map[string][]byte{"nothing": nil, "text": []byte("no slot"), "too large": make([]byte, MaxSlot+1)} {
		if info, err := InspectSlot(file); !errors.Is(err, ErrOpen) {
			t.Errorf("%s looks like %+v, %v; want ErrOpen", name, info, err)
		}
	}
}

func TestLabelBelongsToItsSlot(t *testing.T) {
	k := testKeys(1)
	sealed, err := k.SealLabel("aa", "on call")
	if err != nil {
		t.Fatal(err)
	}
	if label, err := k.OpenLabel("aa", sealed); err != nil || label != "on call" {
		t.Errorf("opens as %q, %v", label, err)
	}
	for name, open := range map[string]func() (string, error){
		"another slot":       func() (string, error) { return k.OpenLabel("ab", sealed) },
		"another repository": func() (string, error) { return testKeys(2).OpenLabel("aa", sealed) },
		"no label":           func() (string, error) { return k.OpenLabel("aa", nil) },
	} {
		if label, err := open(); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %q, %v; want ErrOpen", name, label, err)
		}
	}
}

func TestSecretKeysStayOutOfErrors(t *testing.T) {
	secret, to, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	identities, err := ParseIdentities([]byte("# a comment\n\n" + secret + "\n"))
	if err != nil || len(identities) != 1 {
		t.Fatalf("its own key reads as %d identities, %v", len(identities), err)
	}
	slot, err := SealSlot(NewMaster(), NewRepositoryID(), to)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenSlot(slot, identities[0]); err != nil {
		t.Errorf("the pair does not fit: %v", err)
	}
	part := secret[len(secret)-20:]
	for name, parse := range map[string]func() error{
		"a spoiled key":                   func() error { _, err := ParseIdentities([]byte(secret[:len(secret)-1])); return err },
		"a secret key for a public one":   func() error { _, err := ParseRecipient(secret); return err },
		"the same in small letters":       func() error { _, err := ParseRecipient(strings.ToLower(secret)); return err },
		"two public keys where one is to": func() error { _, err := ParseRecipient("age1x\n" + secret); return err },
	} {
		if err := parse(); !errors.Is(err, ErrBadKey) || strings.Contains(strings.ToUpper(err.Error()), part) {
			t.Errorf("%s: %v, want ErrBadKey that shows nothing of it", name, err)
		}
	}
}
