// Package snapshot is what a backup leaves behind: a manifest, which is the record of one run, and
// the maps that it is the root of. It knows neither how objects and files became entries nor what
// their values mean; it makes snapshots, finds them again, and opens what is in them.
//
//	journal entry → manifest ─┬→ map of objects        group, resource, namespace, name → entry
//	                          ├→ map of volumes        name → claim, root ─→ map of files
//	                          ├→ map of digests        group, resource, namespace → sums
//	                          └→ plan, discovery, results, bundles to give up
//
// A run collects all of that in a [Draft], and [Commit] stores it and makes it a snapshot by one
// journal entry. [List] and [Find] lead back to it, [Load] opens it, and [Snapshot] hands out its
// maps. [Parent] chooses the snapshot that a new run should build on. [Digests] tell whether two
// snapshots hold the same, and [Diff] where they do not.
//
// The manifest stays small however large the backup is: whatever is bulky is a map or a blob of its
// own, which costs nothing when it is as it was the last time.
package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot/tree"
)

var (
	// ErrNotFound means that no snapshot fits, or that a snapshot does not have what is asked of it.
	ErrNotFound = errors.New("not found")
	// ErrAmbiguous means that several snapshots fit.
	ErrAmbiguous = errors.New("ambiguous")
	// ErrMalformed means that a manifest or a part of it is not what this package writes.
	ErrMalformed = errors.New("malformed manifest")
)

// ID names a snapshot: 16 random bytes, printed as 32 hexadecimal digits.
type ID = journal.SnapshotID

// Repository is what snapshots are read from; a *repo.Repository is one.
type Repository interface {
	Read(ctx context.Context, ref blob.Ref) ([]byte, error)
	ReadNode(ctx context.Context, ref blob.Ref) (blob.Node, error)
	Snapshots() []journal.Live
}

// Snapshot is an open snapshot. It is safe for concurrent use.
type Snapshot struct {
	Manifest
	ref  blob.Ref
	repo Repository
}

// Ref names the blob of the manifest, beneath which lies all that the snapshot holds.
func (s *Snapshot) Ref() blob.Ref { return s.ref }

// Load opens the snapshot that a journal entry names.
func Load(ctx context.Context, r Repository, live journal.Live) (*Snapshot, error) {
	ref := blob.Ref{Class: blob.Manifest, ID: live.Manifest}
	n, err := r.ReadNode(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("load snapshot %s: %w", live.ID, err)
	}
	m, err := decodeManifest(n)
	if err == nil && m.ID != live.ID {
		err = fmt.Errorf("it says that it is %s", m.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("load snapshot %s: %v: %w: %w", live.ID, ref, ErrMalformed, err)
	}
	return &Snapshot{Manifest: m, ref: ref, repo: r}, nil
}

// Objects returns the map of the objects; an empty one if the snapshot has none.
func (s *Snapshot) Objects() *tree.Map { return tree.Open(s.repo, s.Manifest.Objects) }

// Volumes returns the volumes in the order of their names.
func (s *Snapshot) Volumes(ctx context.Context) (volumes []Volume, err error) {
	for e, err := range s.volumes().Scan(ctx, tree.Range{}) {
		if err != nil {
			return nil, fmt.Errorf("volumes of snapshot %s: %w", s.ID, err)
		}
		v, err := decodeVolume(e)
		if err != nil {
			return nil, fmt.Errorf("volumes of snapshot %s: %q: %w: %w", s.ID, e.Key, ErrMalformed, err)
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// Volume returns the volume with the name, or [ErrNotFound].
func (s *Snapshot) Volume(ctx context.Context, name string) (Volume, error) {
	e, ok, err := s.volumes().Get(ctx, []byte(name))
	if err != nil {
		return Volume{}, fmt.Errorf("volume %q of snapshot %s: %w", name, s.ID, err)
	}
	if !ok {
		return Volume{}, fmt.Errorf("volume %q of snapshot %s: %w", name, s.ID, ErrNotFound)
	}
	v, err := decodeVolume(e)
	if err != nil {
		return Volume{}, fmt.Errorf("volume %q of snapshot %s: %w: %w", name, s.ID, ErrMalformed, err)
	}
	return v, nil
}

// Files returns the map of a volume's files.
func (s *Snapshot) Files(v Volume) *tree.Map { return tree.Open(s.repo, v.Root) }

func (s *Snapshot) volumes() *tree.Map { return tree.Open(s.repo, s.Manifest.Volumes) }

// Plan returns what the snapshot was made by, as it was given to [Commit].
func (s *Snapshot) Plan(ctx context.Context) ([]byte, error) {
	return s.part(ctx, "plan", s.Manifest.Plan)
}

// Discovery returns what the cluster said of its API, as it was given to [Commit].
func (s *Snapshot) Discovery(ctx context.Context) ([]byte, error) {
	return s.part(ctx, "discovery data", s.Manifest.Discovery)
}

// Results returns what went wrong, item by item, as far as it was kept; the manifest has the counts
// of all.
func (s *Snapshot) Results(ctx context.Context) (results []Result, err error) {
	data, err := s.part(ctx, "results", s.Manifest.Results)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	if err := unmarshal(data, &results); err != nil {
		return nil, fmt.Errorf("results of snapshot %s: %w: %w", s.ID, ErrMalformed, err)
	}
	return results, nil
}

// SparseObjects returns the bundles of the objects that the next run should give up.
func (s *Snapshot) SparseObjects(ctx context.Context) ([]blob.Ref, error) {
	return s.sparse(ctx, s.Manifest.Sparse)
}

// SparseFiles returns the bundles of a volume that the next run should give up.
func (s *Snapshot) SparseFiles(ctx context.Context, v Volume) ([]blob.Ref, error) {
	return s.sparse(ctx, v.sparse)
}

func (s *Snapshot) sparse(ctx context.Context, p Part) ([]blob.Ref, error) {
	data, err := s.part(ctx, "sparse bundles", p)
	if err != nil {
		return nil, err
	}
	refs, err := decodeRefs(data)
	if err != nil {
		return nil, fmt.Errorf("sparse bundles of snapshot %s: %w: %w", s.ID, ErrMalformed, err)
	}
	return refs, nil
}

func (s *Snapshot) part(ctx context.Context, what string, p Part) ([]byte, error) {
	if p.Blob.IsZero() {
		return bytes.Clone(p.Inline), nil
	}
	data, err := s.repo.Read(ctx, p.Blob)
	if err != nil {
		return nil, fmt.Errorf("%s of snapshot %s: %w", what, s.ID, err)
	}
	return data, nil
}
