package repo

import (
	"bytes"
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// maxUploads bounds the packs of one writer that are on their way, and so its memory: each is about
// twice [pack.Target].
const maxUploads = 2

// Writer is a writing session. It stores only blobs that the repository does not have, and what it
// stored counts for nothing until [Writer.Commit]. It is safe for concurrent use.
type Writer struct {
	repo    *Repository
	session *seal.Session
	ctx     context.Context // of the uploads, which outlive the call that fills a pack
	uploads *errgroup.Group

	mu     sync.Mutex
	data   *pack.Builder        // the open pack of contents
	nodes  *pack.Builder        // the open pack of nodes: read together, so they lie together
	mine   map[blob.ID]struct{} // blobs of this session in packs that are in no entry yet, or about to be
	own    []*ownPack           // these packs, but for the open ones
	relied *journal.Packs       // packs with blobs that were there already

	deposited *journal.Packs // packs of this session that are in the journal
	began     uint64         // entries in the state when the session began
	err       error          // the first failure; nothing is accepted after it

	damaged map[blob.Ref]bool // blobs with a copy recorded as damaged when the session began; the zero one for whole packs

	depositing   sync.Mutex // one at a time
	depositEvery int        // see [Limits]

	counting sync.Mutex // guards stats alone, so that they can be read while an upload is waited for
	stats    WriterStats
}

// WriterOptions says how a session writes.
type WriterOptions struct {
	// Recovery makes the session write-only: contents can be read with this key's counterpart only.
	Recovery hpke.PublicKey
}

// WriterStats counts what was offered to a writer and what of it was new. Bytes are plaintext, but for
// those stored.
type WriterStats struct {
	Blobs       int64 `json:"blobs"`
	Bytes       int64 `json:"bytes"`
	NewBlobs    int64 `json:"newBlobs"`
	NewBytes    int64 `json:"newBytes"`
	StoredBytes int64 `json:"storedBytes"` // packs, segments, checkpoints and entries, as they lie in the bucket
	Packs       int64 `json:"packs"`       // stored as objects of their own
	HealedBlobs int64 `json:"healedBlobs"` // of the new ones, those of which every copy was recorded as damaged
	HealedBytes int64 `json:"healedBytes"`
}

// NewWriter starts a session. The context is that of the whole session: when it ends, uploads stop.
// The session must be ended by Commit or Close.
func (r *Repository) NewWriter(ctx context.Context, o WriterOptions) *Writer {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxUploads)
	w := &Writer{repo: r, session: r.keys.NewSession(o.Recovery), ctx: ctx, uploads: group,
		mine: map[blob.ID]struct{}{}, relied: journal.NewPacks(), depositEvery: r.limits.Deposit, deposited: journal.NewPacks()}
	w.data, w.nodes = w.newPack(), w.newPack()
	w.began, _ = r.journal.Head()
	w.damaged = map[blob.Ref]bool{}
	r.journal.View(func(s *journal.State) {
		for _, c := range s.Damaged {
			w.damaged[c.Blob] = true
		}
	})
	return w
}

// Write stores a one-part blob, unless the repository has it, and returns its name. The data is not
// kept. At most [seal.MaxBlob] bytes are taken.
func (w *Writer) Write(ctx context.Context, class blob.Class, data []byte) (blob.Ref, error) {
	if !class.Valid() || class.HasLinks() || len(data) > seal.MaxBlob {
		return blob.Ref{}, fmt.Errorf("write %d bytes of class %v: not a one-part blob of at most %d", len(data), class, seal.MaxBlob)
	}
	ref := blob.Ref{Class: class, ID: w.repo.keys.BlobID(class, data)}
	if known, err := w.claim(ctx, ref, len(data)); known || err != nil {
		return ref, err
	}
	sealed := w.session.Seal(ref, data)
	if w.repo.verify {
		back, err := w.repo.keys.Open(w.session.Key(class), ref, sealed.Bytes)
		if err == nil && !bytes.Equal(back, data) {
			err = seal.ErrMismatch
		}
		if err != nil {
			return ref, w.fail(fmt.Errorf("blob %v does not open again before it is stored: %w", ref, err))
		}
	}
	return ref, w.add(ctx, sealed)
}

// WriteNode stores a two-part blob, unless the repository has it, and returns its name. What it links
// to should have been written before.
func (w *Writer) WriteNode(ctx context.Context, class blob.Class, n blob.Node) (blob.Ref, error) {
	if !class.HasLinks() || len(n.Body) > seal.MaxBlob || len(n.Links) > seal.MaxLinks {
		return blob.Ref{}, fmt.Errorf("write %d bytes and %d links of class %v: not a node of at most %d and %d",
			len(n.Body), len(n.Links), class, seal.MaxBlob, seal.MaxLinks)
	}
	ref := blob.Ref{Class: class, ID: w.repo.keys.NodeID(class, n)}
	if known, err := w.claim(ctx, ref, len(n.Body)); known || err != nil {
		return ref, err
	}
	sealed := w.session.SealNode(ref, n)
	if w.repo.verify {
		if _, err := w.repo.keys.OpenNode(w.session.Key(class), ref, sealed.Bytes, sealed.Links); err != nil {
			return ref, w.fail(fmt.Errorf("blob %v does not open again before it is stored: %w", ref, err))
		}
	}
	return ref, w.add(ctx, sealed)
}

// Stats returns the counts so far.
func (w *Writer) Stats() WriterStats {
	w.counting.Lock()
	defer w.counting.Unlock()
	return w.stats
}

func (w *Writer) count(add WriterStats) {
	w.counting.Lock()
	defer w.counting.Unlock()
	w.stats.Blobs += add.Blobs
	w.stats.Bytes += add.Bytes
	w.stats.NewBlobs += add.NewBlobs
	w.stats.NewBytes += add.NewBytes
	w.stats.StoredBytes += add.StoredBytes
	w.stats.Packs += add.Packs
	w.stats.HealedBlobs += add.HealedBlobs
	w.stats.HealedBytes += add.HealedBytes
}

// Close ends a session without a snapshot, and waits for its uploads. The packs that are stored are left
// to later sessions. After Commit it does nothing.
func (w *Writer) Close() error {
	w.mu.Lock()
	if w.err == nil {
		w.err = ErrClosed
	}
	w.mu.Unlock()
	err := w.uploads.Wait()
	w.leavePacks()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// claim reports whether the blob is stored or claimed already. If not, it belongs to the caller, who
// must add it.
func (w *Writer) claim(ctx context.Context, ref blob.Ref, size int) (known bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	w.mu.Lock()
	_, mine := w.mine[ref.ID]
	w.mu.Unlock()
	var there []found
	lost := false
	if !mine {
		there = slices.DeleteFunc(w.repo.copies(ref), func(f found) bool { return w.repo.suspect.has(ref, f.number) })
		lost = len(there) == 0 && len(w.damaged) > 0 && (w.damaged[ref] || len(w.repo.everyCopy(ref)) > 0)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return false, w.err
	}
	if err := context.Cause(w.ctx); err != nil { // an upload failed, or the session's context ended
		return false, err
	}
	w.count(WriterStats{Blobs: 1, Bytes: int64(size)})
	if _, mine = w.mine[ref.ID]; mine {
		return true, nil
	}
	if len(there) > 0 && there[0].pack.Status == journal.LivePack {
		w.relied.Add(there[0].number)
		return true, nil
	}
	w.mine[ref.ID] = struct{}{}
	w.count(WriterStats{NewBlobs: 1, NewBytes: int64(size)})
	if lost {
		w.count(WriterStats{HealedBlobs: 1, HealedBytes: int64(size)})
	}
	return false, nil
}

// add puts a sealed blob into the open pack, and a full pack on its way.
func (w *Writer) add(ctx context.Context, s seal.Sealed) error {
	sent, err := w.put(s)
	if err != nil || !sent {
		return err
	}
	return w.deposit(ctx, w.depositEvery)
}

func (w *Writer) put(s seal.Sealed) (sent bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return false, w.err
	}
	open := &w.data
	if s.Ref.Class.HasLinks() {
		open = &w.nodes
	}
	(*open).Add(s)
	if (*open).Size() < w.repo.limits.Pack {
		return false, nil
	}
	full := *open
	*open = w.newPack()
	p, err := full.Finish()
	if err != nil {
		w.err = err
		return false, err
	}
	w.send(p)
	return true, nil
}

func (w *Writer) newPack() *pack.Builder { return pack.NewBuilder(w.repo.keys, w.session) }

// send records a pack as the session's own and uploads it. It waits while too many are on their way.
// It needs the lock.
func (w *Writer) send(p pack.Pack) {
	own := &ownPack{Added: journal.Added{Name: p.Name, Size: int64(len(p.Data)), Rows: blob.AppendRows(nil, p.Rows)}}
	w.own = append(w.own, own)
	w.count(WriterStats{StoredBytes: int64(len(p.Data)), Packs: 1})
	w.uploads.Go(func() error {
		err := w.repo.bucket.Create(w.ctx, journal.PackName(p.Name), p.Data)
		if errors.Is(err, storage.ErrExists) {
			err = nil // the name is the hash of the bytes: an earlier try of ours got through
		}
		if err != nil {
			return fmt.Errorf("store pack %s: %w", p.Name.Short(), err)
		}
		own.stored.Store(true)
		return nil
	})
}

// fail remembers the first failure, which every later call returns.
func (w *Writer) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return err
}
