package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot/tree"
)

// What a snapshot keeps at most.
const (
	maxName    = 253     // bytes of a name
	maxText    = 1000    // bytes of a result's item or message
	maxResults = 8000    // results, which fit into a part however long they are; all are counted
	maxSparse  = 100_000 // bundles to give up; the others are when it is their turn
	maxPart    = 16 << 20
	maxInline  = 512 // bytes of a part that stands in the manifest
)

// Writer is what a snapshot is written with; a *repo.Writer is one.
type Writer interface {
	Write(ctx context.Context, class blob.Class, data []byte) (blob.Ref, error)
	WriteNode(ctx context.Context, class blob.Class, n blob.Node) (blob.Ref, error)
	Stats() repo.WriterStats
	Commit(ctx context.Context, c repo.Commit) (journal.Snapshot, error)
}

// Draft is what a run has collected for its snapshot. All that it refers to was written by the same
// writer, or is in one of the snapshots that it inherits from.
type Draft struct {
	ID        ID     // of the snapshot that this is a copy of; zero: a new one is drawn
	Name      string // required; 1 to 253 bytes that print, without slashes
	Schedule  string
	Cluster   string
	Started   time.Time
	Completed time.Time // zero: now
	Expires   time.Time // zero: never
	Complete  bool      // nothing that was selected is missing

	Plan      []byte // what the run was made by, JSON
	Objects   Contents
	Volumes   []VolumeDraft // in any order
	Digests   *Digests      // of the objects; nil: none
	Discovery []byte        // what the cluster said of its API, JSON
	Results   []Result
	Unlisted  Unlisted
	Stats     Stats // what was new and stored is filled in from the writer

	UID      string   // of the Backup object; at most one snapshot is made for it
	Inherits []ID     // snapshots from which unchanged content was taken over, the parent
	TreeKey  [32]byte // the repository's, for "tree"
}

// Unlisted are results that are counted and no longer known one by one.
type Unlisted struct{ Errors, Warnings uint64 }

// Contents are a map and the bundles that its successor should give up, as content.Result has them.
type Contents struct {
	Root   tree.Root
	Sparse []blob.Ref
}

// VolumeDraft is a volume of a draft. Its Root is that of the contents.
type VolumeDraft struct {
	Volume
	Sparse []blob.Ref
}

// Commit stores the manifest of a draft and all that belongs to it, and makes it a snapshot. It ends
// the writer's session. If there is a snapshot with the draft's UID already, that is returned instead.
func Commit(ctx context.Context, w Writer, d Draft) (journal.Snapshot, error) {
	if err := d.validate(); err != nil {
		return journal.Snapshot{}, fmt.Errorf("commit snapshot %q: %w", d.Name, err)
	}
	m, err := d.manifest(ctx, w)
	if err != nil {
		return journal.Snapshot{}, fmt.Errorf("commit snapshot %q: %w", d.Name, err)
	}
	n, err := encodeManifest(m)
	if err != nil {
		return journal.Snapshot{}, fmt.Errorf("commit snapshot %q: encode its manifest: %w", d.Name, err)
	}
	ref, err := w.WriteNode(ctx, blob.Manifest, n)
	if err != nil {
		return journal.Snapshot{}, fmt.Errorf("commit snapshot %q: store its manifest: %w", d.Name, err)
	}
	s, err := w.Commit(ctx, repo.Commit{ID: m.ID, Manifest: ref, UID: d.UID, Started: d.Started, Inherits: d.Inherits})
	if err != nil {
		return journal.Snapshot{}, fmt.Errorf("commit snapshot %q: %w", d.Name, err)
	}
	return s, nil
}

func (d *Draft) validate() error {
	if d.Started.IsZero() {
		return errors.New("it does not say when it was started")
	}
	if err := checkName(d.Name); err != nil {
		return err
	}
	if word, _, _ := strings.Cut(d.Name, ":"); word == latest {
		return fmt.Errorf("the name %q is kept for the newest snapshot", d.Name)
	}
	if len(d.Schedule) > maxText || len(d.Cluster) > maxText || !utf8.ValidString(d.Schedule+d.Cluster) {
		return fmt.Errorf("the names of its schedule and cluster must be text of at most %d bytes", maxText)
	}
	if d.TreeKey == ([32]byte{}) {
		return errors.New("it has no key for its trees")
	}
	seen := map[string]bool{}
	for _, v := range d.Volumes {
		if err := checkName(v.Name); err != nil {
			return fmt.Errorf("volume: %w", err)
		}
		if seen[v.Name] {
			return fmt.Errorf("two volumes have the name %q", v.Name)
		}
		seen[v.Name] = true
	}
	return nil
}

// CheckName reports why a snapshot cannot have a name, so that a run need not begin. A name is what
// can be typed, printed and used as a word of an address, and does not mean the newest snapshot.
func CheckName(name string) error {
	if word, _, _ := strings.Cut(name, ":"); word == latest {
		return fmt.Errorf("the name %q is kept for the newest snapshot", name)
	}
	return checkName(name)
}

// checkName lets through what can be typed, printed and used as a word of an address.
func checkName(name string) error {
	unprintable := func(r rune) bool { return r == '/' || r == utf8.RuneError || !unicode.IsPrint(r) }
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, unprintable) {
		return fmt.Errorf("%q is no name of 1 to %d printable bytes without slashes", name, maxName)
	}
	return nil
}

// manifest stores the parts of the draft and returns the manifest that refers to them.
func (d *Draft) manifest(ctx context.Context, w Writer) (m Manifest, err error) {
	m = Manifest{
		ID: d.ID, Name: d.Name, Schedule: d.Schedule, Cluster: d.Cluster,
		Started: d.Started, Completed: d.Completed, Expires: d.Expires, Complete: d.Complete,
		Objects: d.Objects.Root,
	}
	if m.ID == (ID{}) {
		m.ID = journal.NewSnapshotID()
	}
	if m.Completed.IsZero() {
		m.Completed = time.Now()
	}
	if m.Volumes, err = d.storeVolumes(ctx, w); err != nil {
		return m, err
	}
	if d.Digests != nil {
		m.Digest = d.Digests.Whole()
		if m.DigestTable, err = d.Digests.store(ctx, w, d.TreeKey); err != nil {
			return m, err
		}
	}
	if m.Plan, err = storePart(ctx, w, "plan", d.Plan); err != nil {
		return m, err
	}
	if m.Discovery, err = storePart(ctx, w, "discovery data", d.Discovery); err != nil {
		return m, err
	}
	if m.Results, err = d.storeResults(ctx, w, &m); err != nil {
		return m, err
	}
	if m.Sparse, err = storeSparse(ctx, w, d.Objects.Sparse); err != nil {
		return m, err
	}
	m.Stats = d.Stats
	written := w.Stats()
	m.Stats.NewBlobs, m.Stats.NewBytes, m.Stats.StoredBytes =
		uint64(written.NewBlobs), uint64(written.NewBytes), uint64(written.StoredBytes)
	return m, nil
}

// storeVolumes writes the map of the volumes. It holds nothing that differs from run to run of
// itself, so that any number of unchanged volumes costs nothing.
func (d *Draft) storeVolumes(ctx context.Context, w Writer) (tree.Root, error) {
	sorted := slices.SortedFunc(slices.Values(d.Volumes), func(a, b VolumeDraft) int { return cmp.Compare(a.Name, b.Name) })
	b := tree.NewBuilder(w, d.TreeKey)
	for _, v := range sorted {
		var err error
		if v.sparse, err = storeSparse(ctx, w, v.Sparse); err != nil {
			return tree.Root{}, err
		}
		e, err := encodeVolume(v.Volume)
		if err == nil {
			err = b.Add(ctx, e)
		}
		if err != nil {
			return tree.Root{}, fmt.Errorf("store volume %q: %w", v.Name, err)
		}
	}
	return b.Finish(ctx)
}

// storeResults counts all results and stores the first ones.
func (d *Draft) storeResults(ctx context.Context, w Writer, m *Manifest) (Part, error) {
	var kept []Result
	m.Errors, m.Warnings = d.Unlisted.Errors, d.Unlisted.Warnings
	for _, r := range d.Results {
		switch r.Severity {
		case Error:
			m.Errors++
		case Warning:
			m.Warnings++
		default:
			return Part{}, fmt.Errorf("result of %q has no severity", r.Item)
		}
		if len(kept) < maxResults {
			kept = append(kept, Result{Severity: r.Severity, Item: clip(r.Item), Message: clip(r.Message)})
		}
	}
	if kept == nil {
		return Part{}, nil
	}
	data, err := encoding.Marshal(kept)
	if err != nil {
		return Part{}, fmt.Errorf("encode results: %w", err)
	}
	return storePart(ctx, w, "results", data)
}

// clip makes a text valid and short.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxText {
		return s
	}
	const more = "…"
	cut := maxText - len(more)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

func storeSparse(ctx context.Context, w Writer, refs []blob.Ref) (Part, error) {
	return storePart(ctx, w, "sparse bundles", encodeRefs(refs[:min(len(refs), maxSparse)]))
}

func storePart(ctx context.Context, w Writer, what string, data []byte) (Part, error) {
	if len(data) <= maxInline {
		return Part{Inline: data}, nil
	}
	if len(data) > maxPart {
		return Part{}, fmt.Errorf("%s of %d bytes: at most %d can be kept", what, len(data), maxPart)
	}
	ref, err := w.Write(ctx, blob.Data, data)
	if err != nil {
		return Part{}, fmt.Errorf("store %s: %w", what, err)
	}
	return Part{Blob: ref}, nil
}
