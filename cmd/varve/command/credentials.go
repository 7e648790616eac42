package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/seal/kms"
)

// Beside passwordVariable these say what opens the repository, if no flag does.
const (
	identityVariable = "VARVE_IDENTITY_FILE"
	keeperVariable   = "VARVE_KMS"
)

// maxIdentities bounds a file of identities; one of them has 80 bytes.
const maxIdentities = 64 << 10

// credentials is what opens a repository: a password, identities, a key that a service holds.
type credentials struct {
	passwordFile, identityFile, kms string
}

// thePassword is the question for a repository's password.
var thePassword = question{prompt: "Password: ", instead: "--password-file FILE, or set " + passwordVariable + "; --identity-file and --kms open a repository by other keys"}

// named are the credentials that flags name, or else those that the environment names.
func (f *repositoryFlags) named() credentials {
	if f.credentials != (credentials{}) {
		return f.credentials
	}
	return credentials{os.Getenv(passwordVariable), os.Getenv(identityVariable), os.Getenv(keeperVariable)}
}

// withCredentials hands what opens the repository to use. If nothing is named, it asks for the password.
func (a *app) withCredentials(ctx context.Context, use func(repo.OpenOptions) error) (err error) {
	var o repo.OpenOptions
	c := a.repository.named()
	if c.identityFile != "" {
		if err := readIdentities(c.identityFile, &o); err != nil {
			return err
		}
	}
	if c.kms != "" {
		key, err := kms.Open(ctx, c.kms)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, key.Close()) }()
		o.Keeper = key
	}
	switch {
	case c.passwordFile != "":
		o.Password, err = readPassword(c.passwordFile)
	case o.Identities == nil && o.Keeper == nil:
		o.Password, err = a.askFor(ctx, thePassword)
	}
	if err != nil {
		return err
	}
	return use(o)
}

// readIdentities reads a file as age-keygen and varve key recovery write it.
func readIdentities(path string, into *repo.OpenOptions) error {
	content, err := readSecret(path, maxIdentities)
	if err != nil {
		return usage("read identities: %w", err)
	}
	if into.Identities, err = seal.ParseIdentities(content); err != nil {
		return failure{err: fmt.Errorf("read identities of %s: %w", path, err), code: exitUsage,
			hint: "a line is a key that begins with AGE-SECRET-KEY-, a comment, or empty; age-keygen writes such a file"}
	}
	return nil
}

// readSecret reads a file to its end, unless it is larger than it may be.
func readSecret(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("%s holds more than %d bytes; is it the right file?", path, most)
	}
	return content, nil
}
