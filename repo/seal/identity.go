package seal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"
)

// ErrBadKey means that a text is not the key of age that it should be.
var ErrBadKey = errors.New("not a key of age")

// secretPrefix is how the secret keys of age begin.
const secretPrefix = "AGE-SECRET-KEY-"

// ParseIdentities reads secret keys, X25519 and hybrid ones, from a file as age-keygen writes it: a key on
// each line, and lines that are empty or begin with #. Its errors never repeat what it read.
func ParseIdentities(file []byte) ([]age.Identity, error) {
	identities, err := age.ParseIdentities(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	return identities, nil
}

// ParseRecipient reads one public key: age1… of X25519, age1pq1… of the hybrid kind.
func ParseRecipient(text string) (age.Recipient, error) {
	if strings.HasPrefix(strings.ToUpper(text), secretPrefix) {
		return nil, fmt.Errorf("%w: this is a secret key where a public one belongs; make a new pair, others may have seen it", ErrBadKey)
	}
	all, err := age.ParseRecipients(strings.NewReader(text))
	if err != nil || len(all) != 1 {
		return nil, fmt.Errorf("%w: give one public key that begins with age1", ErrBadKey)
	}
	return all[0], nil
}

// NewIdentity makes a hybrid key pair: the secret key as text that [ParseIdentities] reads, and the
// recipient that belongs to it.
func NewIdentity() (secret string, to age.Recipient, err error) {
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return "", nil, fmt.Errorf("make key pair: %w", err)
	}
	return identity.String(), identity.Recipient(), nil
}
