package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// maxHole is how many entries in a row may be absent in front of one that does not open. Whoever can write to
// the bucket can plant one of any number.
const maxHole = 64

// lostEntries is what lost/ has of journal entries, those of earlier repairs included.
type lostEntries struct {
	any         bool
	first, last uint64                      // numbers
	mute        map[uint64]silence          // those that do not open, nor the pack in them, by number
	made        map[journal.SnapshotID]bool // snapshots that those that open have made
	forgotten   map[journal.SnapshotID]bool // and forgotten
	settled     map[journal.SnapshotID]bool // snapshots that the journal as it is has forgotten since the first lost entry
	recovered   int                         // snapshots that repairs have made again though no lost entry that opens tells of them
	damaged     []journal.Copy              // that those that open call so, by the numbers of the lost history
}

// silence is how little is left of an entry.
type silence int

const (
	speaks silence = iota // it opens, or the pack in it does
	sealed                // all is there and does not open; what packs it added are objects of their own
	blank                 // it is absent, cut off, or had a pack that does not open
)

func newLostEntries() lostEntries {
	return lostEntries{mute: map[uint64]silence{}, made: map[journal.SnapshotID]bool{}, forgotten: map[journal.SnapshotID]bool{},
		settled: map[journal.SnapshotID]bool{}}
}

// note takes up what is left of one entry. They come in the order of their numbers.
func (l *lostEntries) note(n uint64, left journal.Remains, packed bool) {
	if !l.any {
		l.any, l.first, l.last = true, n, n
	}
	if left.Entry != nil || n <= l.last+maxHole {
		l.last = n
	}
	now := blank
	switch {
	case left.Entry != nil || packed:
		now = speaks
	case left.Bare:
		now = sealed
	}
	if before, known := l.mute[n]; !known || now < before { // of several objects the best counts
		l.mute[n] = now
	}
	if left.Entry == nil {
		return
	}
	for _, s := range left.Entry.Snapshots {
		l.made[s.ID] = true
	}
	for _, f := range left.Entry.Forget {
		l.forgotten[f.ID] = true
	}
	for _, u := range left.Entry.Unforget {
		delete(l.forgotten, u.ID)
	}
	l.damaged = append(l.damaged, left.Entry.Damaged...)
}

// follow takes up an entry of the journal as it is, of those since the first lost one, in their order. The state has
// forgotten most of what they forgot: what an earlier repair kept in lost/ is much older, perhaps.
func (l *lostEntries) follow(e *journal.Stored) {
	for _, s := range e.Snapshots {
		if len(e.Add) == 0 && !l.made[s.ID] { // a backup comes with packs
			l.recovered++
		}
	}
	for _, f := range e.Forget {
		l.settled[f.ID] = true
	}
	for _, u := range e.Unforget {
		delete(l.settled, u.ID)
	}
}

// muted names the lost entries of which nothing opens, in their order.
func (l *lostEntries) muted() (names []string) {
	for n, how := range l.mute {
		if how != speaks && n > 0 { // entry 0 says only what is in the header
			names = append(names, journal.Name(n))
		}
	}
	slices.Sort(names)
	return names
}

// keepHoles leaves an empty object in lost/ for each entry that is absent, so that the next repair knows too that
// it is lost.
func (x *journalRepair) keepHoles(ctx context.Context) error {
	if len(x.beyond) == 0 {
		return nil
	}
	there := map[uint64]bool{}
	end := max(x.report.From+1, x.seen)
	for _, name := range slices.Backward(x.beyond) {
		if n, ok := journal.ParseName(name); ok {
			there[n] = true
			if n <= end+maxHole {
				end = max(end, n+1)
			}
		}
	}
	for n := x.report.From; n < end; n++ {
		if there[n] {
			continue
		}
		if err := x.store(ctx, journal.Name(n), nil); err != nil {
			return err
		}
	}
	return nil
}

// unpack looks at the lost entries: for snapshots that they made, and for the packs inside of them, which become
// objects of their own.
func (x *journalRepair) unpack(ctx context.Context) error {
	names, err := x.list(ctx, LostFolder+journal.Folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		entry, _, _ := strings.Cut(strings.TrimPrefix(name, LostFolder), "-")
		n, ok := journal.ParseName(entry)
		if !ok {
			continue
		}
		data, err := x.repo.bucket.Get(ctx, name, 0, journal.MaxEntry)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		left := journal.Salvage(x.repo.keys, n, data)
		_, none := x.repo.packs.reader.Rows(left.Inline)
		x.entries.note(n, left, none == nil)
		if left.Entry != nil {
			for _, s := range left.Entry.Snapshots {
				x.lost[s.ID] = s
			}
		}
		if none != nil {
			continue
		}
		err = x.repo.bucket.Create(ctx, journal.PackName(seal.HashOf(left.Inline)), left.Inline)
		if err != nil && !errors.Is(err, storage.ErrExists) {
			return fmt.Errorf("store the pack in %s: %w", name, err)
		}
	}
	return nil
}

// bringBack makes snapshots of what was lost, where all that it reaches is there.
func (x *journalRepair) bringBack(ctx context.Context) error {
	if err := x.readJournal(ctx); err != nil {
		return err
	}
	if err := x.readManifests(ctx); err != nil {
		return err
	}
	lost := make([]journal.Snapshot, 0, len(x.lost))
	for _, s := range x.lost {
		if !x.entries.forgotten[s.ID] && !x.entries.settled[s.ID] {
			lost = append(lost, s)
		}
	}
	slices.SortFunc(lost, func(a, b journal.Snapshot) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), bytes.Compare(a.ID[:], b.ID[:]))
	})
	for _, s := range lost {
		if x.known(s.ID) {
			continue
		}
		found := RecoveredHistory{ID: s.ID, Time: s.Time}
		why, err := x.recommit(ctx, s)
		if err != nil {
			return err
		}
		found.Back, found.Why = why == "", why
		if found.Back && !x.entries.made[s.ID] {
			x.entries.recovered++
		}
		x.report.Snapshots = append(x.report.Snapshots, found)
	}
	return nil
}

// readJournal reads what the journal says since the first lost entry, some entries at a time.
func (x *journalRepair) readJournal(ctx context.Context) error {
	const atOnce = 64
	head, _ := x.repo.journal.Head()
	for n := x.entries.first; x.entries.any && n < head; n += atOnce {
		var some [atOnce]*journal.Stored
		group, ctx := errgroup.WithContext(ctx)
		for i := range min(atOnce, head-n) {
			group.Go(func() (err error) {
				some[i], err = x.repo.journal.Verify(ctx, n+i)
				if damagesJournal(err) { // a later checkpoint stands for it
					some[i], err = nil, nil
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for _, e := range some {
			if e != nil {
				x.entries.follow(e)
			}
		}
	}
	return nil
}

// known reports whether a snapshot is in the journal, live or forgotten.
func (x *journalRepair) known(id journal.SnapshotID) (yes bool) {
	x.repo.journal.View(func(s *journal.State) {
		_, live := s.Snapshot(id)
		_, forgotten := forgottenSnapshot(s, id)
		yes = live || forgotten
	})
	return yes
}

// readManifests looks for snapshots in all packs that were added since the first lost entry: whatever manifest
// is there and no snapshot's is one's that was lost.
func (x *journalRepair) readManifests(ctx context.Context) error {
	if x.Identify == nil {
		return nil
	}
	known := map[blob.ID]bool{}
	for _, s := range x.lost {
		known[s.Manifest] = true
	}
	for _, ref := range x.repo.manifests() {
		known[ref.ID] = true
	}
	var added []numbered
	x.repo.journal.View(func(s *journal.State) {
		for _, p := range s.Packs {
			if p.Entry >= x.entries.first && p.Status != journal.DroppedPack {
				added = append(added, numbered{Pack: p})
			}
		}
	})
	return x.repo.readTables(ctx, added, func(_ numbered, rows []blob.Row, _ error) error {
		for _, row := range rows {
			if row.Class != blob.Manifest || known[row.ID] {
				continue
			}
			known[row.ID] = true
			n, err := x.repo.ReadNode(ctx, row.Ref())
			if errors.Is(err, ErrDamaged) {
				continue
			}
			if err != nil {
				return err
			}
			if id, begun, ok := x.Identify(n); ok {
				x.lost[id] = journal.Snapshot{ID: id, Manifest: row.ID, Time: begun}
			}
		}
		return nil
	})
}

// recommit makes a snapshot again, which relies on every pack that it reaches; or it tells why that cannot be.
func (x *journalRepair) recommit(ctx context.Context, s journal.Snapshot) (why string, err error) {
	packs, missing, err := x.repo.packsBeneath(ctx, s.Manifest)
	if err != nil {
		return "", err
	}
	if missing != "" {
		return "no pack has " + missing + " any more", nil
	}
	err = x.repo.change(ctx, func(state *journal.State) (e journal.Entry, err error) {
		if other, taken := state.OfUID(s.UID); taken && s.UID != "" {
			why = "its backup has been made again, as snapshot " + other.ID.String()
			return e, errSettled
		}
		revive := journal.NewPacks()
		for _, n := range packs.ToArray() {
			if state.Packs[n].Status == journal.RetiredPack {
				revive.Add(n)
			}
		}
		if !revive.IsEmpty() {
			e.Revive = revive
		}
		e.Snapshots = []journal.Snapshot{{ID: s.ID, Manifest: s.Manifest, UID: s.UID, Time: s.Time, Part: s.Part, Refs: packs}}
		return e, nil
	})
	if errors.Is(err, journal.ErrInvalid) {
		return err.Error(), nil
	}
	return why, err
}
