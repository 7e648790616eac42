package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/fxamacker/cbor/v2"
)

// Keeper is a key that wraps a few bytes and never shows itself: one of a key management service.
type Keeper interface {
	// Name is the URL of the key. It stands in the slot in plain, so it holds no secret.
	Name() string
	Encrypt(ctx context.Context, plain []byte) ([]byte, error)
	Decrypt(ctx context.Context, wrapped []byte) ([]byte, error)
}

// A slot for a keeper:
//
//	"VRVK" │ version 0 │ CBOR {1: name of the key, 2: the wrapped content}
const keeperMagic = "VRVK\x00"

type keeperSlot struct {
	Name    string `cbor:"1,keyasint"`
	Wrapped []byte `cbor:"2,keyasint"`
}

// maxKeeperName bounds the name of a keeper in bytes.
const maxKeeperName = 2 << 10

// SealSlotBy returns a slot file that a keeper's key opens.
func SealSlotBy(ctx context.Context, m Master, id RepositoryID, keeper Keeper) ([]byte, error) {
	content, err := encodeContent(m, id)
	if err != nil {
		return nil, err
	}
	wrapped, err := keeper.Encrypt(ctx, content)
	if err != nil {
		return nil, fmt.Errorf("seal key slot: %w", err)
	}
	encoded, err := cbor.Marshal(keeperSlot{Name: keeper.Name(), Wrapped: wrapped})
	if err != nil {
		return nil, fmt.Errorf("encode key slot: %w", err)
	}
	file := append([]byte(keeperMagic), encoded...)
	if len(file) > MaxSlot || len(keeper.Name()) > maxKeeperName {
		return nil, fmt.Errorf("seal key slot: the wrapped key has %d bytes, its name %d; that is too much", len(wrapped), len(keeper.Name()))
	}
	return file, nil
}

// OpenSlotBy opens a slot file with a keeper's key. A slot of another kind, or one that names another
// key, is [ErrWrongKey], and the keeper is not asked: what stands in a bucket never decides which
// service is called.
func OpenSlotBy(ctx context.Context, file []byte, keeper Keeper) (m Master, id RepositoryID, err error) {
	slot, err := decodeKeeperSlot(file)
	if err != nil {
		return m, id, err
	}
	if slot.Name != keeper.Name() {
		return m, id, fmt.Errorf("open key slot: %w", ErrWrongKey)
	}
	content, err := keeper.Decrypt(ctx, slot.Wrapped)
	if err != nil {
		return m, id, fmt.Errorf("open key slot: %w", err)
	}
	return decodeContent(content)
}

func decodeKeeperSlot(file []byte) (slot keeperSlot, err error) {
	encoded, ok := bytes.CutPrefix(file, []byte(keeperMagic))
	if !ok {
		return slot, fmt.Errorf("open key slot: %w", ErrWrongKey)
	}
	if err := cbor.Unmarshal(encoded, &slot); err != nil || len(file) > MaxSlot || len(slot.Name) > maxKeeperName {
		return keeperSlot{}, fmt.Errorf("decode key slot: %w", ErrOpen)
	}
	return slot, nil
}

// SlotKind says what opens a slot, as far as the file tells whoever has no key.
type SlotKind string

// The kinds of slots.
const (
	PasswordSlot SlotKind = "password"
	X25519Slot   SlotKind = "x25519"
	HybridSlot   SlotKind = "hybrid" // ML-KEM-768 with X25519: stays closed to a quantum computer
	SSHSlot      SlotKind = "ssh"
	KeeperSlot   SlotKind = "kms"
	OtherSlot    SlotKind = "other" // for a plugin of age, or for several recipients at once
)

// SlotInfo is what a slot file tells without a key.
type SlotInfo struct {
	Kind   SlotKind
	Keeper string // the name of the key, for a keeper's slot
}

// InspectSlot tells what opens a slot file. A file that is no slot is [ErrOpen].
func InspectSlot(file []byte) (SlotInfo, error) {
	if len(file) > MaxSlot {
		return SlotInfo{}, fmt.Errorf("inspect key slot: %d bytes are more than %d: %w", len(file), MaxSlot, ErrOpen)
	}
	if bytes.HasPrefix(file, []byte(keeperMagic)) {
		slot, err := decodeKeeperSlot(file)
		return SlotInfo{Kind: KeeperSlot, Keeper: slot.Name}, err
	}
	_, err := age.Decrypt(bytes.NewReader(file), stranger{})
	mismatch, ok := errors.AsType[*age.NoIdentityMatchError](err)
	if !ok {
		return SlotInfo{}, fmt.Errorf("inspect key slot: %w: %w", ErrOpen, err)
	}
	return SlotInfo{Kind: kindOf(mismatch.StanzaTypes)}, nil
}

// stranger is an identity that opens nothing.
type stranger struct{}

// Unwrap implements [age.Identity].
func (stranger) Unwrap([]*age.Stanza) ([]byte, error) { return nil, age.ErrIncorrectIdentity }

// kindOf tells by the recipients in an age file's header, but for those that age adds to see them ignored.
func kindOf(stanzas []string) SlotKind {
	known := map[string]SlotKind{"scrypt": PasswordSlot, "X25519": X25519Slot, "mlkem768x25519": HybridSlot,
		"ssh-rsa": SSHSlot, "ssh-ed25519": SSHSlot}
	meant := slices.DeleteFunc(slices.Clone(stanzas), func(t string) bool { return strings.HasSuffix(t, "-grease") })
	if len(meant) == 1 && known[meant[0]] != "" {
		return known[meant[0]]
	}
	return OtherSlot
}

// MaxLabel is how long the label of a slot may be in bytes.
const MaxLabel = 40

// SealLabel seals what a slot is called under the catalog key, so that whoever opens the repository can
// read it, and see that somebody who held the master key has added the slot. All labels are equally
// long when sealed.
func (k *Keys) SealLabel(slot string, label string) ([]byte, error) {
	if len(label) > MaxLabel || strings.ContainsRune(label, 0) {
		return nil, fmt.Errorf("label %q: it has more than %d bytes, or a zero byte", label, MaxLabel)
	}
	return k.SealCatalog(SlotLabel, slot, append([]byte(label), make([]byte, MaxLabel-len(label))...)), nil
}

// OpenLabel opens what SealLabel made for the same slot; else it fails with [ErrOpen].
func (k *Keys) OpenLabel(slot string, sealed []byte) (string, error) {
	plain, err := k.OpenCatalog(SlotLabel, slot, sealed)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(plain), "\x00"), nil
}
