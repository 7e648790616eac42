package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"github.com/fxamacker/cbor/v2"
)

// ErrWrongKey means that a password or identity does not open a key slot.
var ErrWrongKey = errors.New("password or key does not match")

// The cost of a password slot as the base-2 logarithm of scrypt's N. Opening refuses more than the
// maximum, so that a planted slot cannot take the reader's memory (each step doubles it: 18 needs
// 256 MiB, 20 needs 1 GiB).
const (
	DefaultPasswordWork = 18
	maxPasswordWork     = 20
)

// MaxSlot bounds the size of a slot file in bytes.
const MaxSlot = 64 << 10

// slotContent is what a slot protects. The repository ID shows that slot and repository belong
// together, so that a slot left by an interrupted creation is never taken for this repository's.
type slotContent struct {
	Master     []byte `cbor:"1,keyasint"`
	Repository []byte `cbor:"2,keyasint"`
}

func encodeContent(m Master, id RepositoryID) ([]byte, error) {
	content, err := cbor.Marshal(slotContent{Master: m[:], Repository: id[:]})
	if err != nil {
		return nil, fmt.Errorf("encode key slot: %w", err)
	}
	return content, nil
}

func decodeContent(content []byte) (m Master, id RepositoryID, err error) {
	var c slotContent
	if err := cbor.Unmarshal(content, &c); err != nil || len(c.Master) != len(m) || len(c.Repository) != len(id) {
		return m, id, fmt.Errorf("decode key slot: %w", ErrOpen)
	}
	return Master(c.Master), RepositoryID(c.Repository), nil
}

// PasswordRecipient returns the age recipient for a password. A work of 0 means
// [DefaultPasswordWork]; only tests lower it.
func PasswordRecipient(password string, work int) (age.Recipient, error) {
	r, err := age.NewScryptRecipient(password)
	if err != nil {
		return nil, fmt.Errorf("use password: %w", err)
	}
	if work == 0 {
		work = DefaultPasswordWork
	}
	r.SetWorkFactor(work)
	return r, nil
}

// PasswordIdentity returns the age identity for a password.
func PasswordIdentity(password string) (age.Identity, error) {
	i, err := age.NewScryptIdentity(password)
	if err != nil {
		return nil, fmt.Errorf("use password: %w", err)
	}
	i.SetMaxWorkFactor(maxPasswordWork)
	return i, nil
}

// SealSlot returns an age file that holds the master key and the repository ID for one recipient.
func SealSlot(m Master, id RepositoryID, to age.Recipient) ([]byte, error) {
	content, err := encodeContent(m, id)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		return nil, fmt.Errorf("seal key slot: %w", err)
	}
	if _, err := w.Write(content); err != nil {
		return nil, fmt.Errorf("seal key slot: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal key slot: %w", err)
	}
	return file.Bytes(), nil
}

// OpenSlot opens a slot file. It fails with [ErrWrongKey] when the identity does not match and with
// [ErrOpen] when the file is damaged.
func OpenSlot(file []byte, with age.Identity) (m Master, id RepositoryID, err error) {
	if len(file) > MaxSlot {
		return m, id, fmt.Errorf("open key slot: %d bytes are more than %d: %w", len(file), MaxSlot, ErrOpen)
	}
	r, err := age.Decrypt(bytes.NewReader(file), with)
	if _, mismatch := errors.AsType[*age.NoIdentityMatchError](err); mismatch {
		return m, id, fmt.Errorf("open key slot: %w", ErrWrongKey)
	}
	if err != nil {
		return m, id, fmt.Errorf("open key slot: %w: %w", ErrOpen, err)
	}
	content, err := io.ReadAll(io.LimitReader(r, MaxSlot))
	if err != nil {
		return m, id, fmt.Errorf("read key slot: %w: %w", ErrOpen, err)
	}
	return decodeContent(content)
}
