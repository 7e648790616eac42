// Package kms opens keys that a key management service holds, by the URLs of gocloud.dev/secrets:
//
//	awskms://alias/backups?region=eu-central-1                                  AWS KMS
//	gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K                     Google Cloud KMS
//	azurekeyvault://VAULT.vault.azure.net/keys/KEY?algorithm=RSA-OAEP-256       Azure Key Vault
//	base64key:///path/of/a/file                                                 a key in a file: 32 bytes in base64
//
// Credentials are found as the provider's own programs find them, so workload identity works; none
// stands in a URL. The last form is no service: it serves tests, and machines whose key is mounted.
//
// This is the one room beside the bucket's cloud driver that imports a provider's SDK. It knows
// nothing of slots or repositories: what it opens wraps a few bytes and unwraps them, which is all
// that package seal asks of a key it cannot see.
package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/awskms"
	_ "gocloud.dev/secrets/azurekeyvault"
	_ "gocloud.dev/secrets/gcpkms"
	"gocloud.dev/secrets/localsecrets"
)

// Errors that a caller decides on.
var (
	// ErrBadURL means that a text names no key that this program can reach.
	ErrBadURL = errors.New("bad URL of a KMS key")
	// ErrUnavailable means that the service did not answer, does not know the key, or refused us.
	ErrUnavailable = errors.New("the key service did not do it")
	// ErrMismatch means that the key did not wrap these bytes.
	ErrMismatch = errors.New("the key does not open this")
)

// forms is what the message of every refusal ends with.
const forms = "give awskms://, gcpkms:// or azurekeyvault:// with the name of a key, or base64key:///FILE"

var services = []string{"awskms", "gcpkms", "azurekeyvault"}

// A Key is an open key. It is safe for concurrent use.
type Key struct {
	keeper *secrets.Keeper
	name   string
}

// Open opens the key at a URL. It does not ask the service yet. Its errors do not repeat the URL.
func Open(ctx context.Context, rawURL string) (*Key, error) {
	u, err := url.Parse(rawURL)
	switch {
	case err != nil: // its message would repeat the URL
		return nil, fmt.Errorf("%w: it is no URL; %s", ErrBadURL, forms)
	case u.User != nil || u.Fragment != "":
		return nil, fmt.Errorf("%w: credentials have no place in it; %s", ErrBadURL, forms)
	case u.Scheme == localsecrets.Scheme:
		return openFile(u)
	case !slices.Contains(services, u.Scheme):
		return nil, fmt.Errorf("%w: this program knows no such service; %s", ErrBadURL, forms)
	}
	keeper, err := secrets.OpenKeeper(ctx, rawURL)
	if err != nil {
		return nil, fmt.Errorf("open KMS key: %w: %w", ErrUnavailable, err)
	}
	return &Key{keeper: keeper, name: rawURL}, nil
}

// fileName is the name of every key in a file: it stands in the bucket, where a path of one machine is
// of no use.
const fileName = localsecrets.Scheme + "://"

// maxKeyFile bounds what is read of a file with a key of 32 bytes.
const maxKeyFile = 256

// openFile takes a key from a file. A key in the URL itself, as gocloud.dev has it, would be seen by
// everybody who lists processes, and is refused.
func openFile(u *url.URL) (*Key, error) {
	if u.Host != "" || u.Path == "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%w: a key in a URL is seen by others; put it into a file and %s", ErrBadURL, forms)
	}
	f, err := os.Open(u.Path)
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(raw) != len([32]byte{}) {
		return nil, fmt.Errorf("%w: file %s does not hold 32 bytes in base64", ErrBadURL, u.Path)
	}
	return &Key{keeper: localsecrets.NewKeeper([32]byte(raw)), name: fileName}, nil
}

// Name is what a slot tells of the key, in plain: the URL, or only that it was a key in a file.
func (k *Key) Name() string { return k.name }

// Encrypt wraps a few bytes, at most 4 KiB.
func (k *Key) Encrypt(ctx context.Context, plain []byte) ([]byte, error) {
	wrapped, err := k.keeper.Encrypt(ctx, plain)
	if err != nil {
		return nil, fmt.Errorf("wrap by %s: %w: %w", k.name, ErrUnavailable, err)
	}
	return wrapped, nil
}

// Decrypt unwraps what Encrypt has wrapped.
func (k *Key) Decrypt(ctx context.Context, wrapped []byte) ([]byte, error) {
	plain, err := k.keeper.Decrypt(ctx, wrapped)
	if err != nil {
		kind := ErrUnavailable
		if gcerrors.Code(err) == gcerrors.InvalidArgument || k.name == fileName {
			kind = ErrMismatch
		}
		return nil, fmt.Errorf("unwrap by %s: %w: %w", k.name, kind, err)
	}
	return plain, nil
}

// Close lets go of connections.
func (k *Key) Close() error { return k.keeper.Close() }
