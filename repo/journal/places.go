package journal

import (
	"cmp"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
)

// places says where things stand in the slices of a state, so that a fold of a year's half a million
// entries does not search them one by one. It follows from the slices and is not stored.
type places struct {
	packs   map[blob.Hash]uint32  // numbers
	live    map[SnapshotID]int    // positions in Snapshots
	gone    map[SnapshotID]int    // positions in Forgotten
	uids    map[string]SnapshotID // of Backups that have a snapshot, live or forgotten
	givenUp map[blob.Hash]int64   // GivenUp by name
	damaged map[Copy]struct{}     // Damaged as a set

	damagedIn map[blob.Ref][]uint32 // Damaged by blob, but for whole packs
}

// findPlaces makes the places of a state that was decoded or is new.
func (s *State) findPlaces() {
	s.at = places{
		packs: make(map[blob.Hash]uint32, len(s.Packs)),
		live:  map[SnapshotID]int{}, gone: map[SnapshotID]int{}, uids: map[string]SnapshotID{},
		givenUp: map[blob.Hash]int64{},
	}
	for i, p := range s.Packs {
		s.at.packs[p.Name] = uint32(i)
	}
	for _, g := range s.GivenUp {
		s.at.givenUp[g.Name] = g.Time
	}
	s.placeDamage()
	s.placeLive()
	s.placeForgotten()
}

func (s *State) placeLive() {
	clear(s.at.live)
	for i, l := range s.Snapshots {
		s.at.live[l.ID] = i
		s.noteUID(l)
	}
}

func (s *State) placeForgotten() {
	clear(s.at.gone)
	for i, f := range s.Forgotten {
		s.at.gone[f.ID] = i
		s.noteUID(f.Live)
	}
}

func (s *State) placeDamage() {
	s.at.damaged, s.at.damagedIn = map[Copy]struct{}{}, map[blob.Ref][]uint32{}
	for _, c := range s.Damaged {
		s.noteDamage(c)
	}
}

func (s *State) noteDamage(c Copy) {
	s.at.damaged[c] = struct{}{}
	if c.Blob != (blob.Ref{}) {
		s.at.damagedIn[c.Blob] = append(s.at.damagedIn[c.Blob], c.Pack)
	}
}

func (s *State) noteUID(l Live) {
	if l.UID != "" {
		s.at.uids[l.UID] = l.ID
	}
}

func (s *State) addPack(p Pack) {
	s.at.packs[p.Name] = uint32(len(s.Packs))
	s.Packs = append(s.Packs, p)
}

func (s *State) addSnapshot(l Live) {
	s.at.live[l.ID] = len(s.Snapshots)
	s.noteUID(l)
	s.Snapshots = append(s.Snapshots, l)
}

// forget moves snapshots to those forgotten, all of an entry in one pass.
func (s *State) forget(e *Stored) {
	if len(e.Forget) == 0 {
		return
	}
	for _, f := range e.Forget {
		s.at.gone[f.ID] = len(s.Forgotten)
		s.Forgotten = append(s.Forgotten, Forgotten{Live: s.Snapshots[s.at.live[f.ID]], Forget: f, At: e.Seq, Time: e.Time})
	}
	s.Snapshots = slices.DeleteFunc(s.Snapshots, func(l Live) bool { return s.forgotten(l.ID) >= 0 })
	s.placeLive()
}

// unforget moves snapshots back to where they were among the live ones.
func (s *State) unforget(which []Unforget) {
	if len(which) == 0 {
		return
	}
	for _, u := range which {
		s.Snapshots = append(s.Snapshots, s.Forgotten[s.at.gone[u.ID]].Live)
	}
	slices.SortStableFunc(s.Snapshots, func(a, b Live) int { return cmp.Compare(a.Entry, b.Entry) })
	s.placeLive()
	s.Forgotten = slices.DeleteFunc(s.Forgotten, func(f Forgotten) bool { return s.live(f.ID) >= 0 })
	s.placeForgotten()
}

// thin lets go of what a prune at the base has made useless: what snapshots before it rely on, since it has
// marked that, and those that were forgotten long ago.
func (s *State) thin(base uint64, now int64) {
	for i := range s.Snapshots {
		if l := &s.Snapshots[i]; l.Entry < base {
			l.Inherits, l.Adopts, l.Refs = nil, nil, nil
		}
	}
	kept := s.Forgotten[:0]
	for _, f := range s.Forgotten {
		if f.At < base && now-f.Time > ForgottenFor.Milliseconds() {
			delete(s.at.uids, f.UID)
			continue
		}
		if f.At < base {
			f.Inherits, f.Adopts, f.Refs = nil, nil, nil
		}
		kept = append(kept, f)
	}
	clear(s.Forgotten[len(kept):])
	s.Forgotten = kept
	s.placeForgotten()
}

func (s *State) giveUp(names []blob.Hash, at int64) {
	for _, name := range names {
		if !s.IsGivenUp(name) {
			s.at.givenUp[name] = at
			s.GivenUp = append(s.GivenUp, GivenUp{Name: name, Time: at})
		}
	}
}

func (s *State) damage(copies []Copy) {
	for _, c := range copies {
		if !s.IsDamaged(c) {
			s.noteDamage(c)
			s.Damaged = append(s.Damaged, c)
		}
	}
}

// forgetDamage forgets the damaged copies of packs that are dropped.
func (s *State) forgetDamage(dropped *Packs) {
	if dropped == nil || len(s.Damaged) == 0 {
		return
	}
	s.Damaged = slices.DeleteFunc(s.Damaged, func(c Copy) bool { return dropped.Contains(c.Pack) })
	s.placeDamage()
}

// live returns the position of a live snapshot, or -1.
func (s *State) live(id SnapshotID) int { return place(s.at.live, id) }

// forgotten returns the position of a forgotten snapshot, or -1.
func (s *State) forgotten(id SnapshotID) int { return place(s.at.gone, id) }

func place(in map[SnapshotID]int, id SnapshotID) int {
	if i, ok := in[id]; ok {
		return i
	}
	return -1
}
