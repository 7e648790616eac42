package kms

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyFile writes a key of 32 equal bytes and returns its URL.
func keyFile(t *testing.T, fill byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32)) + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "base64key://" + path
}

func open(t *testing.T, url string) *Key {
	t.Helper()
	k, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func TestKeyUnwrapsWhatItWrapped(t *testing.T) {
	url := keyFile(t, 1)
	plain := []byte("a master key of 32 bytes, or so.")
	wrapped, err := open(t, url).Encrypt(t.Context(), plain)
	if err != nil || bytes.Contains(wrapped, plain[:8]) {
		t.Fatalf("wrapped as %q, %v", wrapped, err)
	}
	if got, err := open(t, url).Decrypt(t.Context(), wrapped); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("unwrapped as %q, %v", got, err)
	}
	if got, err := open(t, keyFile(t, 2)).Decrypt(t.Context(), wrapped); !errors.Is(err, ErrMismatch) {
		t.Errorf("another key unwraps %q, %v; want ErrMismatch", got, err)
	}
	wrapped[len(wrapped)-1] ^= 1
	if got, err := open(t, url).Decrypt(t.Context(), wrapped); !errors.Is(err, ErrMismatch) {
		t.Errorf("altered bytes unwrap as %q, %v; want ErrMismatch", got, err)
	}
}

// The name stands in the bucket in plain.
func TestNameHoldsNoPathAndNoKey(t *testing.T) {
	if name := open(t, keyFile(t, 1)).Name(); name != "base64key://" {
		t.Errorf("a key in a file is called %q", name)
	}
}

func TestOpenRefusesWithoutShowingTheURL(t *testing.T) {
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, []byte("QUJD"), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "smGbjm71Nxd1Ig5FS0wj9SlbzAIrnolCz9bQQ6uAhl4="
	for _, url := range []string{
		"", "alias/backups", "s3://bucket", "hashivault://key", "awskms://user:" + secret + "@host", "awskms://key#" + secret,
		"base64key://" + secret, "base64key://" + secret + "/etc/hostname", "base64key://", "base64key:///key?" + secret, "base64key://" + short, "%zz" + secret,
	} {
		_, err := Open(t.Context(), url)
		if !errors.Is(err, ErrBadURL) || strings.Contains(err.Error(), secret) {
			t.Errorf("Open(%q) = %v, want ErrBadURL that shows no secret", url, err)
		}
	}
	if _, err := Open(t.Context(), "base64key:///no/such/file"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
}

// No provider is asked before something is to be wrapped.
func TestServicesAreOpenedByTheirURLs(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-central-1")
	for _, url := range []string{
		"awskms://alias/backups?region=eu-central-1",
		"azurekeyvault://vault.vault.azure.net/keys/backups?algorithm=RSA-OAEP-256",
	} {
		k, err := Open(t.Context(), url)
		if err != nil {
			t.Errorf("Open(%q): %v", url, err)
			continue
		}
		if k.Name() != url {
			t.Errorf("%q is called %q", url, k.Name())
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}
