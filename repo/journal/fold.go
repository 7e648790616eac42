package journal

import (
	"fmt"
	"slices"
	"time"

	"github.com/varve-dev/varve/repo/blob"
)

// rules is the version of what this file does. A stored state of another version may tell something else
// than the entries would, so it is not used. Whoever changes what an entry does to a state counts it up.
const rules = 2

// ForgottenFor is how long the state remembers a snapshot that a prune has marked without, by the clocks
// of who wrote the entries. It bounds the state; nothing safe depends on it.
const ForgottenFor = 30 * 24 * time.Hour

// Apply folds one entry into the state. It fails only when the entry does not follow: wrong number or
// broken chain. An entry that follows but breaks a precondition is void: the state moves past it and
// takes nothing of it.
func (s *State) Apply(e *Stored) error {
	if e.Seq != s.Next {
		return fmt.Errorf("entry %d where %d was due: %w", e.Seq, s.Next, ErrDamaged)
	}
	if e.Prev != s.Head {
		return fmt.Errorf("entry %d does not follow entry %d as it was read before: %w", e.Seq, s.Next-1, ErrRolledBack)
	}
	if e.Seq == 0 {
		s.Rules = rules
	}
	if s.Validate(&e.Entry) == nil {
		s.take(e)
	}
	s.Next, s.Head = e.Seq+1, e.Hash
	return nil
}

// Validate reports with [ErrInvalid] and a reason why an entry at this position would be void.
func (s *State) Validate(e *Entry) error {
	for _, check := range []func(*Entry) error{
		s.validateGenesis, s.validateAdded, s.validateSegments, s.validateSnapshots, s.validateForgets, s.validatePrune,
	} {
		if err := check(e); err != nil {
			return fmt.Errorf("entry %d: %w", e.Seq, err)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func (s *State) validateGenesis(e *Entry) error {
	if (e.Genesis != nil) != (s.Next == 0) {
		return invalid("the header is bound in entry 0 and nowhere else")
	}
	return nil
}

// validateAdded: a pack's name is new, also among those dropped and given up, and its table is somewhere.
// Only one can be inline.
func (s *State) validateAdded(e *Entry) error {
	inline := 0
	seen := map[blob.Hash]bool{}
	for i, a := range e.Add {
		number := uint32(len(s.Packs) + i)
		if _, known := s.Number(a.Name); known || seen[a.Name] || s.IsGivenUp(a.Name) {
			return invalid("pack %s was there before", a.Name.Short())
		}
		if rows, err := blob.DecodeRows(a.Rows); err != nil || a.Size <= 0 || len(rows) == 0 && !e.covers(number) {
			return invalid("pack %s has no readable table", a.Name.Short())
		}
		seen[a.Name] = true
		if a.Inline {
			inline++
		}
	}
	if inline > 1 {
		return invalid("%d packs are inline", inline)
	}
	for _, c := range e.Damaged {
		if int(c.Pack) >= len(s.Packs) {
			return invalid("damage in pack %d, which is unknown", c.Pack)
		}
	}
	return nil
}

func (s *State) validateSegments(e *Entry) error {
	for _, g := range e.Segments {
		if s.segment(g.Name) >= 0 || s.IsGivenUp(g.Name) {
			return invalid("segment %s was there before", g.Name.Short())
		}
		if g.Packs == nil || g.Packs.IsEmpty() || int(g.Packs.Maximum()) >= len(s.Packs)+len(e.Add) {
			return invalid("segment %s covers unknown packs", g.Name.Short())
		}
	}
	if e.Checkpoint != nil && e.Checkpoint.Next > s.Next {
		return invalid("checkpoint of %d entries, there are %d", e.Checkpoint.Next, s.Next)
	}
	return nil
}

// validateSnapshots: what a snapshot relies on is there. Packs in refs are live, or revived by the
// same entry; inherited snapshots are live, or adopted before any prune marked without them.
func (s *State) validateSnapshots(e *Entry) error {
	for n := range Members(e.Revive) {
		if int(n) >= len(s.Packs) || s.Packs[n].Status != RetiredPack {
			return invalid("pack %d is revived but not retired", n)
		}
	}
	for i, sn := range e.Snapshots {
		if s.live(sn.ID) >= 0 || s.forgotten(sn.ID) >= 0 {
			return invalid("snapshot %v was there before", sn.ID)
		}
		if _, taken := s.OfUID(sn.UID); taken || slices.ContainsFunc(e.Snapshots[:i], func(o Snapshot) bool {
			return o.ID == sn.ID || (sn.UID != "" && o.UID == sn.UID)
		}) {
			return invalid("there is a snapshot of backup %s", sn.UID)
		}
		for n := range Members(sn.Refs) {
			if !s.reliable(n, e) {
				return invalid("snapshot %v relies on pack %d, which is not live", sn.ID, n)
			}
		}
		for _, p := range sn.Inherits {
			if s.live(p) < 0 && (!slices.Contains(sn.Adopts, p) || !s.CanAdopt(p)) {
				return invalid("snapshot %v builds on %v, which is not live", sn.ID, p)
			}
		}
	}
	return nil
}

// reliable reports whether a pack is live once the entry is folded.
func (s *State) reliable(pack uint32, e *Entry) bool {
	return s.Usable(pack) || (e.Revive != nil && e.Revive.Contains(pack))
}

// validateForgets: an entry does one thing to a snapshot, and one that is possible.
func (s *State) validateForgets(e *Entry) error {
	seen := map[SnapshotID]bool{}
	twice := func(id SnapshotID) bool {
		before := seen[id]
		seen[id] = true
		return before
	}
	for _, f := range e.Forget {
		if i := s.live(f.ID); i < 0 || s.Snapshots[i].Held || twice(f.ID) {
			return invalid("snapshot %v is not live, held, or named twice", f.ID)
		}
	}
	for _, u := range e.Unforget {
		adopted := u.Refs == nil || u.Refs.IsEmpty()
		if s.forgotten(u.ID) < 0 || (adopted && !s.CanAdopt(u.ID)) || twice(u.ID) {
			return invalid("snapshot %v cannot come back", u.ID)
		}
		for n := range Members(u.Refs) {
			if !s.reliable(n, e) {
				return invalid("snapshot %v relies on pack %d, which is not live", u.ID, n)
			}
		}
	}
	for _, id := range slices.Concat(e.Hold, e.Release) {
		if s.live(id) < 0 || twice(id) {
			return invalid("snapshot %v is not live, or named twice", id)
		}
	}
	return nil
}

// validatePrune: nothing came after this prune marked that it had to know, and what it does fits each
// pack's status. What it drops was retired before it marked. So whatever relies on such a pack and was not
// marked came after, had to take it back, and keeps it: then it is not retired any more, or since a
// later entry.
func (s *State) validatePrune(e *Entry) error {
	p := e.Prune
	if p == nil {
		return nil
	}
	if p.Base > s.Next || s.Overtaken(p.ID, p.Base) {
		return invalid("a prune of base %d was overtaken", p.Base)
	}
	if len(e.Snapshots)+len(e.Unforget) > 0 {
		return invalid("a snapshot came together with a prune that marked without it")
	}
	for n := range Members(p.Retire) {
		if !s.Usable(n) {
			return invalid("pack %d is retired but not live", n)
		}
	}
	for n := range Members(p.Drop) {
		if int(n) >= len(s.Packs) || s.Packs[n].Status != RetiredPack || s.Packs[n].RetiredIn >= p.Base ||
			(e.Revive != nil && e.Revive.Contains(n)) {
			return invalid("pack %d is dropped but was not retired before base %d, or is revived", n, p.Base)
		}
	}
	for _, o := range p.Orphans {
		if s.Needs(o) || e.adds(o) {
			return invalid("object %s is no orphan", o.Short())
		}
	}
	return s.validateReplaced(e)
}

// validateReplaced: the table of every pack that is not dropped stays in some segment, or loose.
func (s *State) validateReplaced(e *Entry) error {
	bare := NewPacks()
	for _, name := range e.Prune.Segments {
		i := s.segment(name)
		if i < 0 {
			return invalid("segment %s is replaced but not live", name.Short())
		}
		bare.Or(s.Segments[i].Packs)
	}
	for _, g := range s.Segments {
		if !slices.Contains(e.Prune.Segments, g.Name) {
			bare.AndNot(g.Packs)
		}
	}
	for n := range Members(bare) {
		if s.Packs[n].Status != DroppedPack && len(s.Packs[n].Rows) == 0 && !e.covers(n) {
			return invalid("the table of pack %d would be in no segment", n)
		}
	}
	return nil
}

// covers reports whether a segment of the entry holds the table of a pack.
func (e *Entry) covers(pack uint32) bool {
	return slices.ContainsFunc(e.Segments, func(g SegmentAdded) bool { return g.Packs != nil && g.Packs.Contains(pack) })
}

// adds reports whether the entry itself names an object for the first time.
func (e *Entry) adds(name blob.Hash) bool {
	return slices.ContainsFunc(e.Add, func(a Added) bool { return a.Name == name }) ||
		slices.ContainsFunc(e.Segments, func(g SegmentAdded) bool { return g.Name == name })
}

// take changes the state by a valid entry.
func (s *State) take(e *Stored) {
	if s.at.packs == nil {
		s.findPlaces()
	}
	if e.Genesis != nil {
		s.Header = e.Genesis.Header
	}
	s.Features = append(s.Features, e.Features...)
	s.takePacks(e)
	s.takeSnapshots(e)
	s.damage(e.Damaged)
	if len(e.Damaged) > 0 {
		s.Upset, s.Harmed = e.Seq, e.Seq
	}
	if e.Checkpoint != nil && e.Checkpoint.Next > s.Checkpoint.Next {
		s.Checkpoint = *e.Checkpoint
	}
	if e.Prune != nil {
		s.takePrune(e)
	}
}

func (s *State) takePacks(e *Stored) {
	for _, a := range e.Add {
		p := Pack{Name: a.Name, Size: a.Size, Entry: e.Seq, Rows: a.Rows}
		if a.Inline {
			p.Inline = e.Inline
		}
		s.addPack(p)
	}
	for _, g := range e.Segments {
		s.Segments = append(s.Segments, SegmentInfo(g))
		for n := range Members(g.Packs) {
			s.Packs[n].Rows = nil
		}
	}
	for n := range Members(e.Revive) {
		s.Packs[n].Status, s.Packs[n].Retired, s.Packs[n].RetiredIn = LivePack, 0, 0
	}
}

func (s *State) takeSnapshots(e *Stored) {
	for _, sn := range e.Snapshots {
		s.addSnapshot(Live{Snapshot: sn, Entry: e.Seq})
		if len(sn.Adopts) > 0 {
			s.Upset = e.Seq
		}
	}
	s.forget(e)
	for _, u := range e.Unforget {
		if u.Refs == nil || u.Refs.IsEmpty() {
			s.Upset = e.Seq
		}
	}
	s.unforget(e.Unforget)
	for _, id := range e.Hold {
		s.Snapshots[s.live(id)].Held = true
	}
	for _, id := range e.Release {
		s.Snapshots[s.live(id)].Held = false
	}
}

func (s *State) takePrune(e *Stored) {
	p := e.Prune
	s.Prunes = PruneMark{ID: p.ID, Last: e.Seq, Base: max(s.Prunes.Base, p.Base)}
	for n := range Members(p.Retire) {
		s.Packs[n].Status, s.Packs[n].Retired, s.Packs[n].RetiredIn = RetiredPack, e.Time, e.Seq
	}
	for n := range Members(p.Drop) {
		s.Packs[n] = Pack{Name: s.Packs[n].Name, Status: DroppedPack} // all that matters now is that the name was there
	}
	s.Segments = slices.DeleteFunc(s.Segments, func(i SegmentInfo) bool { return slices.Contains(p.Segments, i.Name) })
	s.giveUp(p.Orphans, e.Time)
	s.giveUp(p.Segments, e.Time)
	s.forgetDamage(p.Drop)
	s.thin(p.Base, e.Time)
}
