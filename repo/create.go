package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/varve-dev/varve/chunker"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/probe"
)

// The plain objects of a repository.
const (
	headerName = "varve.json"

	formatName = "varve"
	version    = 0
	maxHeader  = 1 << 10
)

// Header is varve.json: what must be known before any key. Nothing in it is secret; its hash stands
// in journal entry 0.
type Header struct {
	Format     string            `json:"format"`
	Version    int               `json:"version"`
	Repository seal.RepositoryID `json:"-"`
	Chunker    chunker.Params    `json:"chunker"`
	Features   []string          `json:"features"`
}

// headerFile is the header with the ID as text.
type headerFile struct {
	Header
	Repository string `json:"repository"`
}

// InitOptions says how to create a repository. The zero value of Chunker means the default.
type InitOptions struct {
	Password     string
	PasswordWork int            // see seal.PasswordRecipient; only tests set it
	Recipient    age.Recipient  // instead of a password
	Label        string         // what the key slot is called, see SlotOptions
	Chunker      chunker.Params // how large contents are cut

	// SingleWriter makes a repository in a store that does not decide between writers who create the same
	// object. Then it is up to the operator that only one program at a time ever writes to it.
	SingleWriter bool
}

// Init creates a repository and returns its master key's fingerprint, which the operator should keep. A store
// that lets several writers create one object is refused by [probe.ErrUnfit], unless there is to be one only.
//
// The key slot comes first and the header second, since the header is what makes it a repository; the
// journal's entry 0 is completed by whoever opens it. So a crash at any point leaves a repository that
// opens or a bucket in which Init can be run again.
func Init(ctx context.Context, b storage.Bucket, o InitOptions) (fingerprint string, err error) {
	if err := refuseOccupied(ctx, b); err != nil {
		return "", err
	}
	if o.Chunker == (chunker.Params{}) {
		o.Chunker = chunker.Default()
	}
	if err := o.Chunker.Validate(); err != nil {
		return "", err
	}
	to := o.Recipient
	if to == nil {
		if to, err = seal.PasswordRecipient(o.Password, o.PasswordWork); err != nil {
			return "", err
		}
	}
	if !o.SingleWriter {
		if err := probe.Decides(ctx, b); err != nil {
			return "", fmt.Errorf("create repository at %s: %w", b, err)
		}
	}
	master, id := seal.NewMaster(), seal.NewRepositoryID()
	slot, err := seal.SealSlot(master, id, to)
	if err != nil {
		return "", err
	}
	keys := seal.Derive(master, id)
	if _, err := storeSlot(ctx, b, keys, slot, o.Label); err != nil {
		return "", err
	}
	raw, err := json.Marshal(headerFile{
		Header:     Header{Format: formatName, Version: version, Chunker: o.Chunker, Features: []string{}},
		Repository: id.String(),
	})
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", headerName, err)
	}
	if err := b.Create(ctx, headerName, raw); errors.Is(err, storage.ErrExists) {
		return "", fmt.Errorf("create repository at %s: %w: somebody else just created one", b, ErrExists)
	} else if err != nil {
		return "", fmt.Errorf("store %s: %w", headerName, err)
	}
	if err := writeGenesis(ctx, journal.New(b, keys, new(journal.State)), seal.HashOf(raw)); err != nil {
		return "", err
	}
	return master.Fingerprint(), nil
}

// refuseOccupied lets a new repository only into an empty bucket, or one where an earlier Init did not
// get further than its key slot. What a probe has left there does not matter.
func refuseOccupied(ctx context.Context, b storage.Bucket) error {
	foreign, example := 0, ""
	for info, err := range b.List(ctx, "", "") {
		if err != nil {
			return fmt.Errorf("look into %s: %w", b, err)
		}
		if info.Name == headerName {
			return fmt.Errorf("create repository at %s: %w: there is a repository", b, ErrExists)
		}
		if !strings.HasPrefix(info.Name, keyFolder) && !probe.IsOurs(info.Name) {
			foreign++
			example = info.Name
		}
	}
	if foreign > 0 {
		return fmt.Errorf("create repository at %s: %w: %d objects are not ours, for example %s", b, ErrExists, foreign, example)
	}
	return nil
}

// begin writes entry 0 of a repository whose creation was interrupted just before. An empty journal
// beside other objects is no beginning but a loss.
func (r *Repository) begin(ctx context.Context, header blob.Hash) error {
	for _, folder := range []string{journal.Folder, journal.PackFolder, journal.SegmentFolder, journal.CheckpointFolder} {
		for info, err := range r.bucket.List(ctx, folder, "") {
			if err != nil {
				return fmt.Errorf("list %s: %w", folder, err)
			}
			return fmt.Errorf("%s exists, but journal entry 0 does not: %w", info.Name, ErrDamaged)
		}
	}
	if err := writeGenesis(ctx, r.journal, header); err != nil {
		return err
	}
	return r.refresh(ctx)
}

// writeGenesis commits entry 0, unless somebody else did.
func writeGenesis(ctx context.Context, j *journal.Journal, header blob.Hash) error {
	there := errors.New("entry 0 is there")
	_, err := j.Commit(ctx, func(s *journal.State) (journal.Draft, error) {
		if s.Next > 0 {
			return journal.Draft{}, there
		}
		return journal.Draft{Entry: journal.Entry{Genesis: &journal.Genesis{Header: header}}}, nil
	})
	if err != nil && !errors.Is(err, there) {
		return fmt.Errorf("begin journal: %w", err)
	}
	return nil
}

func readHeader(ctx context.Context, b storage.Bucket) (Header, []byte, error) {
	raw, err := b.Get(ctx, headerName, 0, maxHeader+1)
	if errors.Is(err, storage.ErrNotFound) {
		return Header{}, nil, noHeader(ctx, b)
	}
	if err != nil {
		return Header{}, nil, fmt.Errorf("read %s: %w", headerName, err)
	}
	h, err := parseHeader(raw)
	if err != nil {
		return Header{}, nil, fmt.Errorf("read %s of %s: %w", headerName, b, err)
	}
	return h, raw, nil
}

// noHeader tells a repository that lost its header from no repository. Key slots alone are none: Init
// creates them first.
func noHeader(ctx context.Context, b storage.Bucket) error {
	for info, err := range b.List(ctx, journal.Folder, "") {
		if err != nil {
			return fmt.Errorf("look into %s: %w", b, err)
		}
		return fmt.Errorf("%s is missing at %s beside %s: %w: %w", headerName, b, info.Name, ErrIrreplaceable, ErrDamaged)
	}
	return fmt.Errorf("%w at %s", ErrNoRepository, b)
}

func parseHeader(raw []byte) (Header, error) {
	var f headerFile
	if len(raw) > maxHeader {
		return Header{}, fmt.Errorf("it is larger than %d bytes: %w", maxHeader, ErrDamaged)
	}
	if err := json.Unmarshal(raw, &f); err != nil || f.Format != formatName {
		return Header{}, fmt.Errorf("it is not the header of a varve repository: %w", ErrDamaged)
	}
	if f.Version != version || len(f.Features) > 0 {
		return Header{}, fmt.Errorf("format version %d, features %q; this varve knows version %d: %w", f.Version, f.Features, version, ErrVersion)
	}
	id, err := seal.ParseRepositoryID(f.Repository)
	if err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := f.Chunker.Validate(); err != nil {
		return Header{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	f.Header.Repository = id
	return f.Header, nil
}
