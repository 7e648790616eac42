package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

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

	known    map[journal.SnapshotID]whole // what may become a snapshot
	acked    []journal.SnapshotID
	released map[journal.SnapshotID]bool // somebody was told to forget them
	uids     map[string]journal.SnapshotID
	copies   map[blob.Ref][]uint32 // packs that have a blob
	tables   map[blob.Hash][]blob.Row
	rotten   map[blob.Hash]bool // packs that were damaged on purpose
	rotting  bool               // one was just now
	excused  map[blob.Ref]bool  // no good copy is left, by damage
	marked   map[blob.Ref]bool  // named damaged by the entry just folded
}

func newGhost(w *world) *ghost {
	return &ghost{world: w, state: new(journal.State),
		known: map[journal.SnapshotID]whole{}, released: map[journal.SnapshotID]bool{},
		uids: map[string]journal.SnapshotID{}, copies: map[blob.Ref][]uint32{}, tables: map[blob.Hash][]blob.Row{},
		rotten: map[blob.Hash]bool{}, excused: map[blob.Ref]bool{}, marked: map[blob.Ref]bool{}}
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
	return len(g.rotten) > 0 || len(g.excused) > 0
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
	g.paths(e)
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
		g.marked[c.Blob] = true
		for _, row := range g.tables[g.state.Packs[c.Pack].Name] {
			if c.Blob == (blob.Ref{}) {
				g.marked[row.Ref()] = true
			}
		}
	}
	return true, nil
}

// promised: only what was asked for becomes a snapshot, once, and only what was given free is forgotten.
func (g *ghost) promised(e *journal.Stored) error {
	for _, s := range e.Snapshots {
		if _, ok := g.known[s.ID]; !ok {
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
		if l, ok := g.state.Snapshot(f.ID); !ok || l.Held || !g.released[f.ID] {
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
	good := make([]bool, len(g.state.Packs))
	for number, p := range g.state.Packs {
		if p.Status == journal.DroppedPack {
			continue
		}
		name, _ := p.Object()
		if !stands(name) && !g.rotten[p.Name] {
			return fmt.Errorf("%s of pack %d is gone, which is not dropped", name, number)
		}
		good[number] = !g.rotten[p.Name]
	}
	for _, s := range g.state.Segments {
		if name := journal.SegmentName(s.Name); !stands(name) {
			return fmt.Errorf("%s is gone, which is in use", name)
		}
	}
	if len(g.marked) > 0 || g.rotting {
		g.rotting = false
		for ref := range g.copies { // those of forgotten snapshots too, which may come back
			_ = g.hasCopy(ref, good)
		}
	}
	for _, l := range g.state.Snapshots {
		if err := g.reaches(g.known[l.ID], good); err != nil {
			return fmt.Errorf("snapshot %v: %w", l.ID, err)
		}
	}
	return nil
}

// reaches looks for all blobs of a snapshot. What lies beneath a node that is lost is excused as well:
// nobody can tell any more that it is needed.
func (g *ghost) reaches(s whole, good []bool) error {
	var lost []blob.Ref // nodes above the blob at hand
	for _, ref := range s.blobs {
		switch ref.Class {
		case blob.Tree:
			lost = slices.DeleteFunc(lost, func(above blob.Ref) bool { return above.Class == blob.Tree })
		case blob.Manifest:
			lost = nil
		}
		err := g.hasCopy(ref, good)
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
func (g *ghost) hasCopy(ref blob.Ref, good []bool) error {
	unknown := false
	for _, number := range g.copies[ref] {
		if g.state.Packs[number].Status == journal.DroppedPack || g.state.IsDamaged(journal.Copy{Blob: ref, Pack: number}) {
			continue
		}
		if good[number] {
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

// paths counts what entries bring about.
func (g *ghost) paths(e *journal.Stored) {
	saw := func(what string, yes bool) {
		if yes {
			g.world.counts[what]++
		}
	}
	some := func(p *journal.Packs) bool { return p != nil && !p.IsEmpty() }
	inline := func(p *journal.Packs) bool {
		return some(p) && slices.ContainsFunc(p.ToArray(), func(n uint32) bool { return g.state.Packs[n].Inline > 0 })
	}
	for _, s := range e.Snapshots {
		saw("snapshot", true)
		saw("snapshot relies on others' packs", s.Refs != nil)
		saw("snapshot inherits", len(s.Inherits) > 0)
		saw("adopt", len(s.Adopts) > 0)
	}
	saw("pack is revived by a snapshot", some(e.Revive) && e.Prune == nil)
	for _, a := range e.Add {
		saw("inline pack", a.Inline)
		saw("pack", !a.Inline)
	}
	saw("deposit", len(e.Add) > 0 && len(e.Snapshots) == 0 && e.Prune == nil)
	saw("segment", len(e.Segments) > 0)
	saw("checkpoint", e.Checkpoint != nil)
	saw("forget", len(e.Forget) > 0)
	saw("unforget", len(e.Unforget) > 0)
	for _, u := range e.Unforget {
		saw("unforget looks for what is left", u.Refs != nil)
	}
	saw("hold", len(e.Hold) > 0)
	saw("release", len(e.Release) > 0)
	saw("damaged copy is marked", len(e.Damaged) > 0)
	if p := e.Prune; p != nil {
		saw("retire", some(p.Retire))
		saw("inline pack is given up", inline(p.Retire))
		saw("drop", some(p.Drop))
		saw("orphans are dropped", len(p.Orphans) > 0)
		saw("segments are merged", len(p.Segments) > 0)
		saw("repack", len(e.Add) > 0)
		saw("pack is revived by a prune", some(e.Revive))
	}
}

// rot damages a pack that is not dropped: flips a bit of it, cuts it, or lets it vanish.
func (g *ghost) rot(random *rand.Rand) (number uint32, ok bool) {
	which, how, where := random.Uint32(), random.IntN(3), random.Int64N(1<<20)
	var there []uint32
	for n, p := range g.state.Packs {
		if p.Status != journal.DroppedPack && !g.rotten[p.Name] {
			there = append(there, uint32(n))
		}
	}
	if len(there) == 0 {
		return 0, false
	}
	number = there[which%uint32(len(there))]
	p := g.state.Packs[number]
	name, offset := p.Object()
	if p.Inline > 0 {
		how = 0 // its entry must stay readable
	}
	err := g.world.store.Damage(name, func(data []byte) []byte {
		if how == 1 {
			return data[:len(data)/2]
		}
		data[offset+where%p.Size] ^= 1 << (where % 8)
		return data
	})
	if how == 2 {
		err = g.world.store.Delete(context.Background(), name)
	}
	if err != nil {
		g.world.fail("damage %s: %v", name, err)
		return 0, false
	}
	g.rotten[p.Name], g.rotting = true, true
	g.world.count("a pack rots")
	g.observe()
	return number, true
}

// describeEntry says in a line what an entry does.
func describeEntry(e *journal.Stored) string {
	var does []string
	say := func(what string, n int) {
		if n > 0 {
			does = append(does, fmt.Sprintf("%s %d", what, n))
		}
	}
	packs := func(what string, p *journal.Packs) {
		if p != nil && !p.IsEmpty() {
			does = append(does, fmt.Sprintf("%s %v", what, p.ToArray()))
		}
	}
	say("adds packs:", len(e.Add))
	for _, g := range e.Segments {
		packs("adds segment of", g.Packs)
	}
	for _, s := range e.Snapshots {
		does = append(does, fmt.Sprintf("snapshot %.4s inherits %.4s adopts %.4s", s.ID, s.Inherits, s.Adopts))
		packs("refs", s.Refs)
	}
	for _, f := range e.Forget {
		does = append(does, fmt.Sprintf("forgets %.4s", f.ID))
	}
	for _, u := range e.Unforget {
		does = append(does, fmt.Sprintf("unforgets %.4s", u.ID))
		packs("refs", u.Refs)
	}
	say("holds", len(e.Hold))
	say("releases", len(e.Release))
	packs("revives", e.Revive)
	for _, c := range e.Damaged {
		does = append(does, fmt.Sprintf("damaged %v in %d", c.Blob, c.Pack))
	}
	if p := e.Prune; p != nil {
		does = append(does, fmt.Sprintf("prune %x of base %d", p.ID[:2], p.Base))
		packs("retires", p.Retire)
		packs("drops", p.Drop)
		say("orphans", len(p.Orphans))
		say("segments replaced", len(p.Segments))
	}
	if e.Checkpoint != nil {
		does = append(does, fmt.Sprintf("checkpoint %d", e.Checkpoint.Next))
	}
	return fmt.Sprintf("    entry %d: %s", e.Seq, strings.Join(does, ", "))
}
