package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// objects backs up the objects of the cluster.
func (r *run) objects(ctx context.Context) error {
	catalog, err := r.Cluster.Discover(ctx)
	if err != nil {
		return err
	}
	if r.draft.Discovery, err = json.Marshal(catalog); err != nil {
		return fmt.Errorf("record what the cluster serves: %w", err)
	}
	selection, err := r.Cluster.Select(ctx, catalog, r.plan.Filter)
	if err != nil {
		return err
	}
	for _, failure := range selection.Failures {
		r.fail(failure.What, failure.Err)
	}
	for _, warning := range selection.Warnings {
		r.warn("", warning)
	}
	if err := r.store(ctx, catalog, selection); err != nil {
		return err
	}
	switch r.claims {
	case 0:
	case 1:
		r.warn("persistentvolumeclaims", "the data of 1 PersistentVolumeClaim is not in this backup")
	default:
		r.warn("persistentvolumeclaims", fmt.Sprintf("the data of %d PersistentVolumeClaims is not in this backup", r.claims))
	}
	if r.result.Objects == 0 && !r.plan.AllowEmpty {
		return r.nothing()
	}
	return nil
}

// walker visits the objects to back up in the order of their keys. [kube.Selection] is one.
type walker interface {
	Walk(ctx context.Context, o kube.WalkOptions, visit func(kube.Listing) error) error
}

// store builds the map of the objects that a walk visits.
func (r *run) store(ctx context.Context, catalog *kube.Catalog, w walker) error {
	m, err := r.newMerge(ctx, catalog)
	if err != nil {
		return err
	}
	return m.walk(ctx, w)
}

// nothing says why no object is selected.
func (r *run) nothing() error {
	for _, result := range r.draft.Results {
		if result.Severity == snapshot.Error {
			return fmt.Errorf("%w: %s: %s", ErrEmptySelection, result.Item, result.Message)
		}
	}
	return ErrEmptySelection
}

// merge builds the map of the objects beside that of the parent.
type merge struct {
	*run
	assembler *content.Assembler
	digests   *snapshot.Digests
	hasher    *snapshot.Hasher
	old       *parentObjects
}

// newMerge starts the map. Where the API server is another release than it was then, objects may look
// different without having changed, so none is taken for unchanged.
func (r *run) newMerge(ctx context.Context, catalog *kube.Catalog) (*merge, error) {
	m := &merge{run: r, digests: &snapshot.Digests{}, hasher: snapshot.NewHasher(r.Repository.DeriveKey("digest"))}
	parent := r.parent
	if parent == nil || parent.Manifest.Objects.Empty() || r.objectsLost() {
		r.progress.stage(Progress{Stage: "objects"})
		m.assembler = r.assembler(nil)
		return m, nil
	}
	giveUp, err := parent.SparseObjects(ctx)
	if err != nil {
		return nil, err
	}
	if m.digests, err = parent.Digests(ctx); err != nil {
		return nil, err
	}
	m.old = &parentObjects{cursor: parent.Objects().Cursor(ctx), contents: content.NewReader(r.Repository)}
	if m.old.sameServer, err = sameServer(ctx, parent, catalog); err != nil {
		return nil, err
	}
	r.draft.Inherits = []snapshot.ID{parent.ID}
	root := parent.Manifest.Objects
	r.progress.stage(Progress{Stage: "objects", ExpectedItems: root.Count, ExpectedBytes: root.Bytes})
	m.assembler = r.assembler(giveUp)
	return m, nil
}

// objectsLost reports whether something is lost of what the parent knows of objects. All of them are listed
// anyway, so all are stored as if there were no parent; what the repository still has is not stored again.
func (r *run) objectsLost() bool {
	m := r.parent.Manifest
	return slices.ContainsFunc([]blob.Ref{m.Objects.Ref, m.DigestTable.Ref, m.Discovery.Blob, m.Sparse.Blob}, r.lost.Touches)
}

func sameServer(ctx context.Context, parent *snapshot.Snapshot, now *kube.Catalog) (bool, error) {
	text, err := parent.Discovery(ctx)
	if err != nil {
		return false, err
	}
	before, err := kube.ReadCatalog(text)
	if err != nil {
		return false, err
	}
	return before.Server == now.Server, nil
}

// walk adds every selected object and finishes the map.
func (m *merge) walk(ctx context.Context, w walker) error {
	defer m.assembler.Close()
	err := w.Walk(ctx, m.Walk, func(l kube.Listing) error {
		if l.Err != nil {
			m.fail(l.Resource.String(), l.Err)
			return nil
		}
		for _, item := range l.Items {
			if err := m.add(ctx, item); err != nil {
				return fmt.Errorf("back up %s: %w", item.Key, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := m.removeBefore(ctx, nil); err != nil {
		return err
	}
	finished, err := m.assembler.Finish(ctx)
	if err != nil {
		return err
	}
	m.draft.Objects = snapshot.Contents{Root: finished.Root, Sparse: finished.Sparse}
	m.draft.Digests = m.digests
	m.draft.Stats.Items += finished.Root.Count
	m.draft.Stats.Bytes += finished.Root.Bytes
	m.result.Objects, m.result.ObjectBytes = finished.Root.Count, finished.Root.Bytes
	m.result.Digest = m.digests.Whole()
	return nil
}

// lacksData reports whether an object is a claim whose data no volume of the plan brings along under the
// name NAMESPACE-NAME. The claim's name alone is not enough: many namespaces have a claim called data.
func (p Plan) lacksData(k kube.Key) bool {
	return k.Group == "" && k.Resource == "persistentvolumeclaims" && !slices.ContainsFunc(p.Volumes, func(v Volume) bool {
		return v.Name == k.Namespace+"-"+k.Name
	})
}

// add adds one object: as the parent has it, if nothing says that it has changed since, or with those of
// its contents that have.
func (m *merge) add(ctx context.Context, item kube.Item) error {
	if m.plan.lacksData(item.Key) {
		m.claims++
	}
	key, err := item.Key.Encode()
	if err != nil {
		return err
	}
	if err := m.removeBefore(ctx, key); err != nil {
		return err
	}
	old, logical, err := m.old.take(key)
	if err != nil {
		return err
	}
	if old != nil && m.old.sameServer && sameRevision(old.Attributes, item.Attributes) {
		kept, err := kube.NewItem(item.Key, kube.Stored{Attributes: item.Attributes}, &old.Body, &old.State)
		if err != nil {
			return err
		}
		kept.Bytes = logical
		m.result.Unchanged++
		m.progress.add(1, logical)
		return m.assembler.Add(ctx, kept)
	}
	o, err := item.Object()
	if err != nil {
		return err
	}
	stored, err := kube.Store(o)
	if err != nil {
		return err
	}
	var keptBody, keptState *content.Ref
	if old != nil {
		if keptBody, keptState, err = m.replace(ctx, *old, key, stored); err != nil {
			return err
		}
	}
	m.digests.Add(scope(item.Key), m.hasher.Object(key, stored.Body, stored.State))
	added, err := kube.NewItem(item.Key, stored, keptBody, keptState)
	if err != nil {
		return err
	}
	m.draft.Stats.ReadBytes += added.Bytes
	m.progress.add(1, added.Bytes)
	return m.assembler.Add(ctx, added)
}

// sameRevision reports whether an object is as it was. A server that numbers nothing cannot tell.
func sameRevision(before, now kube.Attributes) bool {
	return before == now && now.UID != "" && now.ResourceVersion != ""
}

// replace takes the old object out of the digests, and returns the places of those of its contents that
// are the same in the new one.
func (m *merge) replace(ctx context.Context, old kube.Entry, key []byte, now kube.Stored) (body, state *content.Ref, err error) {
	before, err := old.Read(ctx, m.old.contents)
	if err != nil {
		return nil, nil, err
	}
	if err := m.digests.Remove(scope(old.Key), m.hasher.Object(key, before.Body, before.State)); err != nil {
		return nil, nil, err
	}
	if bytes.Equal(before.Body, now.Body) {
		body = &old.Body
	}
	if bytes.Equal(before.State, now.State) {
		state = &old.State
	}
	return body, state, nil
}

// removeBefore takes out of the digests what the parent has before a key, or to its end, and the
// cluster no longer.
func (m *merge) removeBefore(ctx context.Context, key []byte) error {
	for {
		gone, err := m.old.takeBefore(key)
		if err != nil || gone == nil {
			return err
		}
		encoded, err := gone.Key.Encode()
		if err != nil {
			return err
		}
		if _, _, err := m.replace(ctx, *gone, encoded, kube.Stored{}); err != nil {
			return err
		}
	}
}

// scope is what digests are kept of: one resource in one namespace.
func scope(k kube.Key) string { return string(kube.Prefix(k.Group, k.Resource, k.Namespace)) }

// parentObjects is the parent's map, read in the order of keys. A nil one is empty.
type parentObjects struct {
	cursor     *tree.Cursor
	contents   *content.Reader
	sameServer bool

	ahead tree.Entry // read and not taken yet
	held  bool
	ended bool
}

// peek reads the next entry without taking it.
func (p *parentObjects) peek() (bool, error) {
	if !p.held && !p.ended {
		e, ok, err := p.cursor.Next()
		if err != nil {
			return false, fmt.Errorf("read the objects of the parent: %w", err)
		}
		p.ahead, p.held, p.ended = e, ok, !ok
	}
	return p.held, nil
}

// takeBefore takes the next entry if its key is before the one given; a nil key is after all.
func (p *parentObjects) takeBefore(key []byte) (*kube.Entry, error) {
	if p == nil {
		return nil, nil
	}
	ok, err := p.peek()
	if err != nil || !ok || key != nil && bytes.Compare(p.ahead.Key, key) >= 0 {
		return nil, err
	}
	e, _, err := p.next()
	return e, err
}

// take takes the next entry if its key is the one given. It returns its logical bytes, too.
func (p *parentObjects) take(key []byte) (*kube.Entry, uint64, error) {
	if p == nil {
		return nil, 0, nil
	}
	ok, err := p.peek()
	if err != nil || !ok || !bytes.Equal(p.ahead.Key, key) {
		return nil, 0, err
	}
	return p.next()
}

func (p *parentObjects) next() (*kube.Entry, uint64, error) {
	p.held = false
	e, err := kube.ParseEntry(p.ahead)
	if err != nil {
		return nil, 0, fmt.Errorf("read the objects of the parent: %w", err)
	}
	return &e, p.ahead.Bytes, nil
}
