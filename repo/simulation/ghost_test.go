package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// ghost knows what was written and what was promised. It reads the bucket itself, never through a
// process, and folds each entry at the moment at which it appears.
type ghost struct {
	world   *world
	keys    *seal.Keys // nil until the repository exists
	reader  pack.Reader
	journal *journal.Journal // opens entries
	state   *journal.State   // the true one

	known    map[blob.ID]whole // what may become a snapshot, by its manifest
	acked    []journal.SnapshotID
	released map[journal.SnapshotID]bool // somebody was told to forget them
	uids     map[string]journal.SnapshotID
	copies   map[blob.Ref][]uint32 // packs that have a blob
	tables   map[blob.Hash][]blob.Row
	rotten   map[blob.Hash]bool // packs that were damaged on purpose
	spoiled  map[copyOf]bool    // what of them does not open any more
	declared map[uint32]bool    // packs of which somebody says as a whole that they are damaged
	rotting  bool               // one was just now
	excused  map[blob.Ref]bool  // no good copy is left, by damage
	marked   map[blob.Ref]bool  // named damaged by the entry just folded
}

func newGhost(w *world) *ghost {
	return &ghost{world: w, state: new(journal.State),
		known: map[blob.ID]whole{}, released: map[journal.SnapshotID]bool{},
		uids: map[string]journal.SnapshotID{}, copies: map[blob.Ref][]uint32{}, tables: map[blob.Hash][]blob.Row{},
		rotten: map[blob.Hash]bool{}, spoiled: map[copyOf]bool{}, declared: map[uint32]bool{}, excused: map[blob.Ref]bool{}, marked: map[blob.Ref]bool{}}
}

// slot stands for a password: it opens every key slot at no cost.
type slot struct{}

// Wrap implements [age.Recipient].
func (slot) Wrap(key []byte) ([]*age.Stanza, error) {
	return []*age.Stanza{{Type: "simulation", Body: key}}, nil
}

// Unwrap implements [age.Identity].
func (slot) Unwrap(stanzas []*age.Stanza) ([]byte, error) { return stanzas[0].Body, nil }

// unlock takes the master key out of its slot, once the repository exists. Creations that were broken off
// may have left slots with other keys.
func (g *ghost) unlock(ctx context.Context) error {
	header, err := g.world.store.Get(ctx, "varve.json", 0, -1)
	if err != nil {
		return err
	}
	for info, err := range g.world.store.List(ctx, "keys/", "") {
		if err != nil {
			return err
		}
		file, err := g.world.store.Get(ctx, info.Name, 0, -1)
		if err != nil {
			return err
		}
		master, id, err := seal.OpenSlot(file, slot{})
		if err != nil {
			return err
		}
		if bytes.Contains(header, []byte(id.String())) {
			g.keys = seal.Derive(master, id)
		}
	}
	g.reader = pack.Reader{Keys: g.keys}
	g.journal = journal.New(g.world.store, g.keys, new(journal.State))
	return nil
}

func (g *ghost) wasDamaged() bool {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	return len(g.rotten)+len(g.declared) > 0
}

// observe looks at what has changed and whether all promises hold.
func (g *ghost) observe() {
	if g.keys == nil || g.world.failed() {
		return
	}
	if err := g.look(context.Background()); err != nil {
		g.world.fail("%v", err)
	}
}

func (g *ghost) look(ctx context.Context) error {
	for {
		clear(g.marked)
		folded, err := g.fold(ctx)
		if err != nil {
			return err
		}
		if err := g.whole(ctx); err != nil {
			return err
		}
		if !folded {
			return nil
		}
	}
}

// fold takes the next entry, if it stands.
func (g *ghost) fold(ctx context.Context) (bool, error) {
	if _, err := g.world.store.Stat(ctx, journal.Name(g.state.Next)); errors.Is(err, storage.ErrNotFound) {
		return false, nil
	}
	e, err := g.journal.Verify(ctx, g.state.Next)
	if err != nil {
		return false, fmt.Errorf("entry %d cannot be read: %w", g.state.Next, err)
	}
	if err := g.state.Validate(&e.Entry); err != nil {
		return false, fmt.Errorf("a void entry stands: %w", err)
	}
	if err := g.promised(e); err != nil {
		return false, err
	}
	g.follow(e)
	g.world.note(describeEntry(e))
	first := len(g.state.Packs)
	if err := g.state.Apply(e); err != nil {
		return false, err
	}
	for number := first; number < len(g.state.Packs); number++ {
		if err := g.addPack(ctx, uint32(number)); err != nil {
			return false, fmt.Errorf("entry %d adds pack %d: %w", e.Seq, number, err)
		}
	}
	for _, c := range e.Damaged {
		for _, row := range g.tables[g.state.Packs[c.Pack].Name] {
			if g.declared[c.Pack] {
				g.marked[row.Ref()] = true
			}
		}
	}
	return true, nil
}

// promised: only what was asked for becomes a snapshot, once, and only what was given free is forgotten.
func (g *ghost) promised(e *journal.Stored) error {
	for _, s := range e.Snapshots {
		if _, ok := g.known[s.Manifest]; !ok {
			return fmt.Errorf("entry %d: nobody has written snapshot %v", e.Seq, s.ID)
		}
		if s.UID == "" {
			continue
		}
		if other, twice := g.uids[s.UID]; twice {
			return fmt.Errorf("entry %d: backup %s has snapshot %v already", e.Seq, s.UID, other)
		}
		g.uids[s.UID] = s.ID
	}
	for _, f := range e.Forget {
		l, ok := g.state.Snapshot(f.ID)
		if ok && l.Part != "" { // its joiner takes long, for a prune that waits for nobody
			g.released[f.ID] = true
		}
		if !ok || l.Held || !g.released[f.ID] {
			return fmt.Errorf("entry %d forgets %v, which is held or which nobody gave free", e.Seq, f.ID)
		}
	}
	return nil
}

// addPack reads the table of a pack that an entry has just added: it must stand by then.
func (g *ghost) addPack(ctx context.Context, number uint32) error {
	p := g.state.Packs[number]
	name, offset := p.Object()
	data, err := g.world.store.Get(ctx, name, offset, p.Size)
	if err != nil {
		return err
	}
	if seal.HashOf(data) != p.Name {
		return errors.New("its bytes are others")
	}
	rows, err := g.reader.Rows(data)
	if err != nil {
		return err
	}
	g.tables[p.Name] = rows
	for _, row := range rows {
		g.copies[row.Ref()] = append(g.copies[row.Ref()], number)
	}
	return nil
}

// whole looks whether all that must be there is there.
func (g *ghost) whole(ctx context.Context) error {
	for _, id := range g.acked {
		if _, live := g.state.Snapshot(id); !live && !g.released[id] {
			return fmt.Errorf("acknowledged snapshot %v is not in the journal", id)
		}
	}
	stands := func(name string) bool {
		_, err := g.world.store.Stat(ctx, name)
		return err == nil
	}
	for number, p := range g.state.Packs {
		if p.Status == journal.DroppedPack {
			continue
		}
		name, _ := p.Object()
		if !stands(name) && !g.rotten[p.Name] {
			return fmt.Errorf("%s of pack %d is gone, which is not dropped", name, number)
		}
	}
	for _, s := range g.state.Segments {
		if name := journal.SegmentName(s.Name); !stands(name) {
			return fmt.Errorf("%s is gone, which is in use", name)
		}
	}
	if len(g.marked) > 0 || g.rotting {
		g.rotting = false
		for ref := range g.copies { // those of forgotten snapshots too, which may come back
			_ = g.hasCopy(ref)
		}
	}
	for _, l := range g.state.Snapshots {
		if err := g.reaches(g.known[l.Manifest]); err != nil {
			return fmt.Errorf("snapshot %v: %w", l.ID, err)
		}
	}
	return nil
}

// reaches looks for all blobs of a snapshot. What lies beneath a node that is lost is excused as well:
// nobody can tell any more that it is needed.
func (g *ghost) reaches(s whole) error {
	var lost []blob.Ref // nodes above the blob at hand
	for _, ref := range s.blobs {
		switch ref.Class {
		case blob.Tree:
			lost = slices.DeleteFunc(lost, func(above blob.Ref) bool { return above.Class == blob.Tree })
		case blob.Manifest:
			lost = nil
		}
		err := g.hasCopy(ref)
		if err != nil && len(lost) > 0 {
			g.excused[ref], err = true, nil
		}
		if err != nil {
			return err
		}
		if g.excused[ref] && ref.Class.HasLinks() {
			lost = append(lost, ref)
		}
	}
	return nil
}

// hasCopy looks for a good copy of a blob. What has none is excused if the last one was damaged, or
// might have been without that anybody knew.
func (g *ghost) hasCopy(ref blob.Ref) error {
	unknown := false
	for _, number := range g.copies[ref] {
		if g.state.Packs[number].Status == journal.DroppedPack || g.state.IsDamaged(journal.Copy{Blob: ref, Pack: number}) {
			continue
		}
		if !g.spoiled[copyOf{g.state.Packs[number].Name, ref}] {
			if g.excused[ref] {
				delete(g.excused, ref)
				g.world.count("damage is healed")
			}
			return nil
		}
		unknown = true
	}
	if unknown || g.marked[ref] {
		g.excused[ref] = true
	}
	if g.excused[ref] {
		return nil
	}
	return fmt.Errorf("blob %v has no good copy", ref)
}
