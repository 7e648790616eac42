package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// Read returns the plaintext of a blob of class Data or Secrets, verified against its name. The
// caller owns the bytes.
func (r *Repository) Read(ctx context.Context, ref blob.Ref) ([]byte, error) {
	if ref.Class.HasLinks() {
		return nil, fmt.Errorf("read %v: it is a node", ref)
	}
	n, err := r.read(ctx, ref)
	return n.Body, err
}

// ReadNode returns both parts of a blob of class Tree or Manifest, verified against its name.
func (r *Repository) ReadNode(ctx context.Context, ref blob.Ref) (blob.Node, error) {
	if !ref.Class.HasLinks() {
		return blob.Node{}, fmt.Errorf("read %v: it is no node", ref)
	}
	return r.read(ctx, ref)
}

// read tries all copies of a blob.
func (r *Repository) read(ctx context.Context, ref blob.Ref) (n blob.Node, err error) {
	err = r.certain(ctx, func() (err error) {
		n, err = r.readCopies(ctx, ref)
		return err
	})
	return n, err
}

// certain tries something until it succeeds, or has met damage in a state that is still the newest
// afterwards. What is missing may have been moved or dropped by a prune meanwhile, so whoever misses
// something folds forward and looks again. Whatever spoiled bytes on their way has no second chance
// either.
func (r *Repository) certain(ctx context.Context, try func() error) error {
	for failedAt := uint64(0); ; {
		err := try()
		if !errors.Is(err, ErrDamaged) {
			return err
		}
		if err := r.Sync(ctx); err != nil {
			return err
		}
		next, _ := r.journal.Head()
		if next == failedAt {
			return err
		}
		failedAt = next
	}
}

func (r *Repository) readCopies(ctx context.Context, ref blob.Ref) (blob.Node, error) {
	var failed []error
	for _, f := range r.copies(ref) {
		n, err := r.packs.open(ctx, f)
		r.suspect.note(ref, f.number, err)
		if err == nil {
			return n, nil
		}
		if !isDamage(err) {
			return blob.Node{}, fmt.Errorf("read %v from pack %s: %w", ref, f.pack.Name.Short(), err)
		}
		failed = append(failed, fmt.Errorf("pack %s: %w", f.pack.Name.Short(), err))
	}
	if len(failed) == 0 {
		return blob.Node{}, fmt.Errorf("read %v: it is in no pack: %w", ref, ErrDamaged)
	}
	return blob.Node{}, fmt.Errorf("read %v: %w: %w", ref, ErrDamaged, errors.Join(failed...))
}

// isDamage tells what is wrong with the stored bytes, so that another copy may help, from a store
// that does not answer or a key that is not held.
func isDamage(err error) bool {
	for _, e := range []error{storage.ErrNotFound, seal.ErrOpen, seal.ErrMismatch, errDamagedPack} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
