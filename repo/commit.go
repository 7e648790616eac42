package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
)

// Commit is what a writer's session becomes.
type Commit struct {
	ID       journal.SnapshotID   // drawn by the caller, since the manifest holds it too
	Manifest blob.Ref             // written by the same writer
	UID      string               // of the Backup object; at most one snapshot is ever committed for it
	Started  time.Time            // when the backup began
	Inherits []journal.SnapshotID // snapshots of which unchanged parts were taken over unread

	// Several writers make one snapshot by parts: each commits its share as a snapshot of its own, with the
	// UID of the owner in Part, and the last one names them in Parts. It builds on them, and its entry
	// forgets them, so that there is one snapshot or none.
	Part  string
	Parts []journal.SnapshotID
}

// Commit makes a snapshot of the session by one journal entry and ends the session. A small last pack
// travels inside the entry. When it returns nil, the snapshot is durable and was read back.
//
// If a snapshot of the same UID stands already, that one is returned and nothing is committed.
func (w *Writer) Commit(ctx context.Context, c Commit) (journal.Snapshot, error) {
	inline, err := w.finish()
	if err != nil {
		return journal.Snapshot{}, err
	}
	own := w.ownAdded()
	segment, stored, err := w.repo.storeSegment(ctx, own)
	if err != nil {
		return journal.Snapshot{}, err
	}
	w.count(WriterStats{StoredBytes: stored})
	snapshot := journal.Snapshot{ID: c.ID, Manifest: c.Manifest.ID, UID: c.UID, Time: c.Started.UnixMilli(),
		Inherits: slices.Concat(c.Inherits, c.Parts), Part: c.Part}
	var earlier *journal.Snapshot
	var checkpoint *journal.Vouched
	done := errors.New("there is a snapshot of this backup")
	committed, err := w.repo.journal.Commit(ctx, func(s *journal.State) (journal.Draft, error) {
		if l, ok := s.OfUID(c.UID); ok {
			earlier = &l.Snapshot
			return journal.Draft{}, done
		}
		e, err := w.draft(s, snapshot, own, segment)
		if err != nil {
			return journal.Draft{}, err
		}
		for _, id := range c.Parts {
			if l, live := s.Snapshot(id); live && !l.Held {
				e.Forget = append(e.Forget, journal.Forget{ID: id, Why: "joined"})
			}
		}
		if s.Next >= s.Checkpoint.Next+w.repo.limits.Checkpoint {
			if checkpoint == nil { // else it was stored before a race was lost, and serves as well
				if checkpoint, _ = w.repo.storeCheckpoint(ctx, s); checkpoint != nil {
					w.count(WriterStats{StoredBytes: checkpoint.Size})
				}
			}
			e.Checkpoint = checkpoint
		}
		return journal.Draft{Entry: e, Inline: inline}, nil
	})
	if errors.Is(err, ErrSuperseded) { // the next session need not store these again
		if left := w.leave(ctx, own, inline, segment); !errors.Is(left, ErrSuperseded) {
			err = errors.Join(err, left)
		}
	}
	if err == nil || earlier != nil {
		w.own = nil // else Close leaves them to later sessions
	}
	if err != nil && earlier == nil {
		return journal.Snapshot{}, fmt.Errorf("commit snapshot: %w", err)
	}
	w.count(WriterStats{StoredBytes: committed.Stored})
	// The snapshot stands, which no failure of the index to follow can change: it does at the next Sync.
	_ = w.repo.refresh(ctx)
	if earlier != nil {
		return *earlier, nil
	}
	return snapshot, nil
}

// finish closes the open packs, waits for all uploads and returns the bytes of the pack that is small
// enough to stand in the entry, if there is one.
func (w *Writer) finish() (inline []byte, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	w.err = ErrClosed
	open := []*pack.Builder{w.nodes, w.data}
	if w.nodes.Size()+w.data.Size() < w.repo.limits.Inline/2 { // far from where padding could decide
		w.data.Absorb(w.nodes)
		open = []*pack.Builder{w.data}
	}
	for _, builder := range open {
		if builder.Len() == 0 {
			continue
		}
		last, err := builder.Finish()
		if err != nil {
			return nil, err
		}
		if inline != nil || len(last.Data) > w.repo.limits.Inline {
			w.send(last)
			continue
		}
		inline = last.Data
		w.own = append(w.own, &ownPack{Added: journal.Added{Name: last.Name, Size: int64(len(last.Data)),
			Rows: blob.AppendRows(nil, last.Rows), Inline: true}})
	}
	if err := w.uploads.Wait(); err != nil {
		return nil, err
	}
	return inline, nil
}

// storeCheckpoint returns nil and an error when the state cannot be stored. A checkpoint only saves time, so a
// commit goes on without, and the next one makes it.
func (r *Repository) storeCheckpoint(ctx context.Context, s *journal.State) (*journal.Vouched, error) {
	v, err := journal.WriteCheckpoint(ctx, r.bucket, r.keys, s)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// additions is an entry that makes packs known, at exactly this state.
func additions(s *journal.State, packs []journal.Added, segment *gathered) (e journal.Entry, err error) {
	if err := refuse(s, true); err != nil {
		return e, err
	}
	for _, a := range packs {
		if _, known := s.Number(a.Name); known || s.IsGivenUp(a.Name) {
			return e, fmt.Errorf("pack %s: %w", a.Name.Short(), ErrSuperseded)
		}
		if segment != nil && segment.packs[a.Name] {
			a.Rows = nil
		}
		e.Add = append(e.Add, a)
	}
	if segment == nil {
		return e, nil
	}
	if s.IsGivenUp(segment.info.Name) {
		return e, fmt.Errorf("index segment %s: %w", segment.info.Name.Short(), ErrSuperseded)
	}
	e.Segments = segment.added(s, e.Add)
	return e, nil
}

// draft is the entry that is valid at exactly this state: everything the snapshot relies on is there.
func (w *Writer) draft(s *journal.State, snapshot journal.Snapshot, own []journal.Added, segment *gathered) (journal.Entry, error) {
	e, err := additions(s, own, segment)
	if err != nil {
		return e, err
	}
	refs, revive, err := w.rely(s)
	if err != nil {
		return e, err
	}
	if !refs.IsEmpty() {
		snapshot.Refs = refs
	}
	if !revive.IsEmpty() {
		e.Revive = revive
	}
	if len(snapshot.Inherits) > 0 && s.Harmed >= w.began {
		return e, fmt.Errorf("damage was found meanwhile, maybe in what was taken over unread: %w", ErrSuperseded)
	}
	for _, id := range snapshot.Inherits {
		if _, live := s.Snapshot(id); live {
			continue
		}
		if !s.CanAdopt(id) {
			return e, fmt.Errorf("snapshot %v: %w", id, ErrSuperseded)
		}
		snapshot.Adopts = append(slices.Clone(snapshot.Adopts), id)
	}
	e.Snapshots = []journal.Snapshot{snapshot}
	return e, nil
}

// rely makes sure, at this state, of the packs with what was there already and of those that the session has
// deposited. Which blobs of them it needs it does not remember, so it gives up when one of these packs
// is dropped, or when damage was found in it since the session looked: the next session looks again.
func (w *Writer) rely(s *journal.State) (refs, revive *journal.Packs, err error) {
	refs, revive = journal.NewPacks(), journal.NewPacks()
	harmed := journal.NewPacks() // packs with a damage that the session may not have known
	if s.Harmed >= w.began {
		for _, c := range s.Damaged {
			harmed.Add(c.Pack)
		}
	}
	for number := range journal.Members(w.reliance()) {
		status := s.Packs[number].Status
		if harmed.Contains(number) || status == journal.DroppedPack {
			return nil, nil, fmt.Errorf("pack %s: %w", s.Packs[number].Name.Short(), ErrSuperseded)
		}
		refs.Add(number)
		if status == journal.RetiredPack {
			revive.Add(number)
		}
	}
	return refs, revive, nil
}

// reliance are the packs in the journal on which the session builds.
func (w *Writer) reliance() *journal.Packs {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.deposited.Clone()
	all.Or(w.relied)
	return all
}

// added is the operation that announces a segment, with the numbers its packs have at this state.
func (g *gathered) added(s *journal.State, own []journal.Added) []journal.SegmentAdded {
	packs := journal.NewPacks()
	for name := range g.packs {
		if n, ok := s.Number(name); ok {
			packs.Add(n)
		}
	}
	for i, a := range own {
		if g.packs[a.Name] {
			packs.Add(uint32(len(s.Packs) + i))
		}
	}
	return []journal.SegmentAdded{{Name: g.info.Name, Size: g.info.Size, Packs: packs}}
}
