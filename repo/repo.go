// Package repo is the repository: blobs go in under their names, snapshots are committed, and both
// come out verified. It joins the rooms below it (keys and sealing, packs, the index, the journal, a
// bucket) into a few things:
//
//   - [Init] and [Open] give a [Repository], which reads: [Repository.Read], [Repository.ReadNode],
//     [Repository.Snapshots].
//   - [Repository.NewWriter] starts a writing session. A [Writer] stores what is not stored yet, and
//     its Commit makes a snapshot of it by one journal entry. Before that entry nothing happened,
//     after it everything did.
//   - [Repository.Forget] lets snapshots be live no longer, [Repository.Unforget] brings them back, and
//     [Repository.Hold] keeps them from being forgotten.
//   - [Repository.Check] proves that everything is there and, on request, that every byte is right.
//
// A reader returns the bytes that were written or an error, never other bytes: every blob is hashed
// again and compared with its name whenever it is read.
package repo

import (
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"

	"filippo.io/age"

	"github.com/varve-dev/varve/chunker"
	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// Errors that a caller decides on. Those of packages journal, seal and storage come through as well.
var (
	// ErrNoRepository means that the bucket is there and holds no repository.
	ErrNoRepository = errors.New("no repository")
	// ErrExists means that there is a repository, or something else, where one was to be created.
	ErrExists = errors.New("bucket is not empty")
	// ErrWrongKey means that the password or key opens none of the key slots.
	ErrWrongKey = errors.New("password or key does not match")
	// ErrFingerprint means that the repository has another master key than the caller knows.
	ErrFingerprint = errors.New("master key is not the expected one")
	// ErrUnproven means that a key slot opens, and nothing shows that its master key is the repository's. Who
	// knows the fingerprint of that can say it.
	ErrUnproven = errors.New("a key slot opens and its key does not open the journal; it may be planted, or entry 0 is damaged")
	// ErrDamaged means that something that must be there is missing or wrong.
	ErrDamaged = errors.New("repository is damaged")
	// ErrIrreplaceable means that something is lost which no repair can make again: the header, or every
	// key slot.
	ErrIrreplaceable = errors.New("no repair can make it again")
	// ErrVersion means that the repository needs another version of varve.
	ErrVersion = journal.ErrVersion
	// ErrSuperseded means that what a writer built on was given up before it could commit. Running
	// the backup again succeeds and stores only what is missing.
	ErrSuperseded = errors.New("what the backup builds on was pruned or found damaged meanwhile; run it again")
	// ErrClosed means that a writer was used after its end.
	ErrClosed = errors.New("writer is closed")
)

// OpenOptions says how to open a repository. Of Password, Identities and Keeper one is needed; each is
// tried on the key slots of its kind.
type OpenOptions struct {
	Password    string
	Identities  []age.Identity
	Keeper      seal.Keeper     // a key that a service holds
	Fingerprint string          // of the master key, if known; another one is refused
	CacheDir    string          // folder of all local caches; empty: work in memory
	StateDir    string          // folder of what was seen, see package seen; empty: remember nothing
	Recovery    hpke.PrivateKey // reads what a write-only repository has sealed to it
	SkipVerify  bool            // do not open each blob again before it is stored
	Limits      Limits          // the defaults suit every repository

	// AcceptRollback takes the repository as it is, though it is not the one, or its journal not a
	// continuation of the one, that was seen before. From then on this is what was seen.
	AcceptRollback bool
}

// Repository is an open repository. It is safe for concurrent use and holds nothing that must be
// closed: the bucket stays with its owner.
type Repository struct {
	bucket  storage.Bucket
	header  Header
	keys    *seal.Keys
	slot    blob.Hash // the key slot that opened it
	journal *journal.Journal
	cache   *index.Cache
	packs   *packReader
	suspect suspects
	verify  bool
	limits  Limits
	witness *witness

	inMemory bool // there is no local cache, by choice

	mu       sync.RWMutex          // guards what follows
	set      *index.Set            // in step with the journal up to here:
	indexed  int                   // packs whose tables are in the set
	segments []journal.SegmentInfo // segments that are in the set

	refreshing sync.Mutex            // guards what follows
	kept       uint64                // entries in the state that the cache holds, as far as known
	standIns   map[blob.Hash]standIn // of segments that are missing or damaged
	mended     bool                  // a segment is there again for which the set has a stand-in
}

// Open opens the repository in a bucket and reads its journal to the head.
func Open(ctx context.Context, b storage.Bucket, o OpenOptions) (*Repository, error) {
	r, header, err := withKeys(ctx, b, o)
	if err != nil {
		return nil, err
	}
	if err := r.openJournal(ctx, header); err != nil {
		return nil, err
	}
	return r, nil
}

// withKeys returns a repository whose journal is not read yet, and the hash of its header.
func withKeys(ctx context.Context, b storage.Bucket, o OpenOptions) (_ *Repository, hash blob.Hash, err error) {
	header, raw, err := readHeader(ctx, b)
	if err != nil {
		return nil, hash, err
	}
	witness, err := recall(o, b.String(), header.Repository.String())
	if err != nil {
		return nil, hash, err
	}
	key, err := unlock(ctx, b, header.Repository, witness.fingerprint(o), o)
	if err != nil {
		return nil, hash, err
	}
	if f := witness.head.Fingerprint; witness.accept && f != "" && f != key.master.Fingerprint() {
		_ = witness.object(fmt.Errorf("the fingerprint was %s: %w", f, ErrFingerprint)) // noted, since it is accepted
	}
	r := &Repository{bucket: b, header: header, keys: seal.Derive(key.master, header.Repository), slot: key.slot, verify: !o.SkipVerify,
		limits: o.Limits.orDefaults(), witness: witness, inMemory: o.CacheDir == ""}
	cacheDir := ""
	if o.CacheDir != "" {
		url := seal.HashOf([]byte(b.String()))
		cacheDir = filepath.Join(o.CacheDir, header.Repository.String()+"-"+url.String()[:16])
	}
	r.cache = index.OpenCache(cacheDir, header.Repository.String())
	r.packs = newPackReader(b, pack.Reader{Keys: r.keys, Recovery: o.Recovery})
	return r, seal.HashOf(raw), nil
}

// openJournal folds the journal from the cache, else from a checkpoint, else from its beginning.
func (r *Repository) openJournal(ctx context.Context, header blob.Hash) error {
	if err := r.resume(ctx); err != nil {
		return err
	}
	var next uint64
	var bound blob.Hash
	r.journal.View(func(s *journal.State) { next, bound = s.Next, s.Header })
	if err := journal.EntriesBeyond(ctx, r.bucket, next); err != nil {
		return err
	}
	if err := r.witness.compare(ctx, r.journal); err != nil {
		return err
	}
	if next == 0 {
		return r.begin(ctx, header)
	}
	if bound != header {
		return fmt.Errorf("%s is not the one that the journal begins with: %w", headerName, ErrDamaged)
	}
	return r.refresh(ctx)
}

// resume folds up to the head: from the cached state, if that leads there, else from a checkpoint.
func (r *Repository) resume(ctx context.Context) error {
	if _, body, ok := r.cache.State(); ok {
		s, err := journal.DecodeState(body)
		if err == nil {
			r.journal, r.kept = journal.New(r.bucket, r.keys, s), s.Next
			if stands, err := r.stands(ctx); err != nil {
				return err
			} else if stands {
				return r.journal.Sync(ctx)
			}
		}
		if err != nil || !r.witness.attest(r.journal.Head()) {
			r.cache.DropState()
			r.kept = 0
		}
	}
	return r.resumeFromCheckpoint(ctx)
}

// stands looks whether the bucket still has the last entry of the cached state.
func (r *Repository) stands(ctx context.Context) (bool, error) {
	next, seen := r.journal.Head()
	if next == 0 {
		return true, nil
	}
	last, err := r.journal.Verify(ctx, next-1)
	if errors.Is(err, journal.ErrGap) {
		return false, nil
	}
	return err == nil && last.Hash == seen, err
}

// resumeFromCheckpoint folds from the newest checkpoint that an entry vouches for. One that does not lead
// to the head, or is ahead of it, has seen another history, which is told of.
func (r *Repository) resumeFromCheckpoint(ctx context.Context) error {
	newest, foreign := uint64(0), uint64(0) // entries that checkpoints have seen, of any history and of another one
	for below := uint64(math.MaxUint64); ; {
		s, vouched, err := journal.FindCheckpoint(ctx, r.bucket, r.keys, below)
		if err != nil {
			return err
		}
		r.journal = journal.New(r.bucket, r.keys, s)
		below, newest = vouched.Next, max(newest, vouched.Next)
		err = r.journal.Sync(ctx)
		if errors.Is(err, journal.ErrRolledBack) && vouched.Next > 0 {
			foreign = max(foreign, vouched.Next)
			continue
		}
		if err != nil {
			return err
		}
		if vouched.Next == 0 || r.journal.Vouches(vouched) {
			break
		}
	}
	next, _ := r.journal.Head()
	if newest > next {
		foreign = newest
	}
	return r.witness.ahead(foreign, next)
}

// ID returns the repository's random name.
func (r *Repository) ID() seal.RepositoryID { return r.header.Repository }

// URL returns where the repository is.
func (r *Repository) URL() string { return r.bucket.String() }

// Fingerprint identifies the master key, to be compared with what was written down at creation.
func (r *Repository) Fingerprint() string { return r.keys.Fingerprint() }

// Chunker returns how the repository cuts large contents.
func (r *Repository) Chunker() chunker.Params { return r.header.Chunker }

// CacheDegraded tells why the local cache is not used, or nil.
func (r *Repository) CacheDegraded() error { return r.cache.Degraded() }

// DeriveKey returns the key for a use above the repository: "chunker", "tree", "bundle", "digest".
func (r *Repository) DeriveKey(purpose string) [32]byte { return r.keys.Purpose(purpose) }

// Snapshots returns the live snapshots in the order in which they were committed.
func (r *Repository) Snapshots() (live []journal.Live) {
	r.journal.View(func(s *journal.State) { live = append(live, s.Snapshots...) })
	return live
}

// Stored returns the bytes of the packs that came with a live snapshot, as they lie in the bucket; 0 if
// there is no such snapshot. Other snapshots may rely on them as well.
func (r *Repository) Stored(id journal.SnapshotID) (bytes int64) {
	r.journal.View(func(s *journal.State) {
		l, ok := s.Snapshot(id)
		for _, p := range s.Packs {
			if ok && p.Entry == l.Entry {
				bytes += p.Size
			}
		}
	})
	return bytes
}

// Sync reads what others have committed since.
func (r *Repository) Sync(ctx context.Context) error {
	if err := r.journal.Sync(ctx); err != nil {
		return err
	}
	return r.refresh(ctx)
}

// Info is what a repository says of itself without reading data.
type Info struct {
	URL         string         `json:"url"`
	Repository  string         `json:"repository"`
	Version     int            `json:"version"`
	Fingerprint string         `json:"fingerprint"`
	Chunker     chunker.Params `json:"chunker"`
	Entries     uint64         `json:"entries"`
	Snapshots   int            `json:"snapshots"`
	Packs       int            `json:"packs"`       // live and retired
	PackBytes   int64          `json:"packBytes"`   // stored, in bytes
	InlineBytes int64          `json:"inlineBytes"` // of these inside the journal
	Segments    int            `json:"segments"`
	Checkpoint  uint64         `json:"checkpoint"` // entries in the newest one, 0 without
	Remembered  Remembered     `json:"remembered"`
}

// Info sums up the state.
func (r *Repository) Info() Info {
	i := Info{URL: r.bucket.String(), Repository: r.header.Repository.String(), Version: r.header.Version,
		Fingerprint: r.keys.Fingerprint(), Chunker: r.header.Chunker, Remembered: r.remembered()}
	r.journal.View(func(s *journal.State) {
		i.Entries, i.Snapshots, i.Segments, i.Checkpoint = s.Next, len(s.Snapshots), len(s.Segments), s.Checkpoint.Next
		for _, p := range s.Packs {
			if p.Status == journal.DroppedPack {
				continue
			}
			i.Packs++
			i.PackBytes += p.Size
			if p.Inline > 0 {
				i.InlineBytes += p.Size
			}
		}
	})
	return i
}
