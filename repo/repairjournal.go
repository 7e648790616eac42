package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// An entry that cannot be read hides all that came after it, so nobody goes on by himself: that would be
// the way to make a repository forget. [RepairJournal] does it when it is told the number of the entry. It
// goes by these steps, each of which can be done again when the one before broke off:
//
//  1. Fold the journal up to the entry.
//  2. Copy it and all that follows to lost/, with the checkpoints that have seen it.
//  3. Delete these checkpoints, then the entries, the last one first. As long as any is left, the
//     journal is as unreadable as before.
//  4. Add the packs that no entry names any more, those inside of lost entries among them.
//  5. Bring back the snapshots that lost entries made, if all that they reach is there.
//
// From before the third step to the end of the last, an object in lost/ keeps prunes from their work.

// LostFolder is where a repair keeps what it takes out of the journal. The names end in a hash of the bytes.
const LostFolder = "lost/"

// ErrReadable means that a journal is not repaired because it can be read.
var ErrReadable = errors.New("the journal can be read")

// ErrUnconfirmed means that a journal is not repaired because the entry was not confirmed from which it
// cannot be read.
var ErrUnconfirmed = errors.New("not confirmed")

// JournalOptions say how to repair a journal.
type JournalOptions struct {
	DropFrom  uint64 // the first entry that cannot be read, as a confirmation
	Confirmed bool   // DropFrom is given
	DryRun    bool
	// Identify tells of a manifest which snapshot it is, and when that was begun, in milliseconds since
	// 1970. Without it, a snapshot comes back only if an entry that opens, or the local cache, names it.
	Identify func(blob.Node) (id journal.SnapshotID, begun int64, ok bool)
}

// JournalRepair says what a repair of the journal found and did.
type JournalRepair struct {
	From      uint64             `json:"from"`      // the first entry that cannot be read
	Problem   string             `json:"problem"`   // why, in words
	Moved     []string           `json:"moved"`     // objects that were moved to lost/
	Packs     int                `json:"packs"`     // that were added again
	Snapshots []RecoveredHistory `json:"snapshots"` // that were lost by it, as far as anything tells of them
}

// RecoveredHistory is a snapshot that an unreadable part of the journal had made.
type RecoveredHistory struct {
	ID   journal.SnapshotID `json:"id"`
	Time int64              `json:"time"` // when it was begun, milliseconds since 1970
	Back bool               `json:"back"` // it is a snapshot again
	Why  string             `json:"why,omitempty"`
}

// RepairJournal goes on from the last entry of a journal up to which all can be read, see above. While it
// works, nobody else must write to the repository.
func RepairJournal(ctx context.Context, b storage.Bucket, open OpenOptions, o JournalOptions) (JournalRepair, error) {
	report := JournalRepair{Moved: []string{}, Snapshots: []RecoveredHistory{}}
	r, header, err := withKeys(ctx, b, open)
	if err != nil {
		return report, err
	}
	x := &journalRepair{JournalOptions: o, repo: r, report: &report, lost: map[journal.SnapshotID]journal.Snapshot{},
		first: math.MaxUint64, forgotten: map[journal.SnapshotID]bool{}}
	if err := x.find(ctx, header); err != nil {
		return report, fmt.Errorf("repair journal: %w", err)
	}
	for _, step := range []func(context.Context) error{x.remember, x.moveAside, x.readd, x.bringBack, x.finish} {
		if err := step(ctx); err != nil {
			return report, fmt.Errorf("repair journal: %w", err)
		}
	}
	return report, nil
}

// journalRepair carries one repair through its steps.
type journalRepair struct {
	JournalOptions
	repo    *Repository
	report  *JournalRepair
	beyond  []string // objects that cannot be part of the history any more, in the order in which they go
	earlier []string // objects in lost/ of a repair that broke off
	lost    map[journal.SnapshotID]journal.Snapshot

	first     uint64                      // lost entry
	forgotten map[journal.SnapshotID]bool // by lost entries
}

// damagesJournal tells what no later version and no other store can make good.
func damagesJournal(err error) bool {
	return errors.Is(err, journal.ErrDamaged) || errors.Is(err, journal.ErrGap) || errors.Is(err, journal.ErrRolledBack)
}

// find folds the journal as far as it can be read, and refuses where that is not what was confirmed.
func (x *journalRepair) find(ctx context.Context, header blob.Hash) error {
	problem, err := x.fold(ctx)
	if err != nil {
		return err
	}
	x.report.From, _ = x.repo.journal.Head()
	if x.earlier, err = x.list(ctx, LostFolder+journal.Folder); err != nil {
		return err
	}
	var bound blob.Hash
	x.repo.journal.View(func(s *journal.State) { bound = s.Header })
	switch {
	case problem == nil && len(x.earlier) == 0:
		return ErrReadable
	case problem == nil:
		x.report.Problem = "an earlier repair broke off"
		return x.confirmShorter(ctx)
	case x.report.From > 0 && bound != header:
		return fmt.Errorf("%s is not the one that the journal begins with: %w", headerName, ErrDamaged)
	}
	x.report.Problem = problem.Error()
	if !x.DryRun && (!x.Confirmed || x.DropFrom != x.report.From) {
		return fmt.Errorf("entry %d is the first that cannot be read (%w): %w", x.report.From, problem, ErrUnconfirmed)
	}
	return nil
}

// confirmShorter lets a repair that broke off go on. What an earlier one has kept in lost/ stays there, and
// whoever can write to the bucket can leave something like it; so a journal that was seen longer is taken
// for the right one only by whoever names an entry that is no longer there or was made anew.
func (x *journalRepair) confirmShorter(ctx context.Context) error {
	if x.DryRun || x.Confirmed && x.DropFrom <= x.report.From {
		return nil
	}
	return x.repo.witness.compare(ctx, x.repo.journal)
}

// fold reads the journal to where it ends or cannot be read, whatever the local cache knows; problem tells
// why it goes no further.
func (x *journalRepair) fold(ctx context.Context) (problem, err error) {
	r := x.repo
	newest := uint64(0)
	for below := uint64(math.MaxUint64); ; {
		s, vouched, err := journal.FindCheckpoint(ctx, r.bucket, r.keys, below)
		if err != nil {
			return nil, err
		}
		r.journal = journal.New(r.bucket, r.keys, s)
		for range 2 { // what was spoiled on its way is read again
			if problem = r.journal.Sync(ctx); problem != nil && !damagesJournal(problem) {
				return nil, problem
			}
		}
		newest = max(newest, vouched.Next)
		if vouched.Next == 0 || r.journal.Vouches(vouched) {
			break
		}
		below = vouched.Next
	}
	next, _ := r.journal.Head()
	if problem == nil {
		if problem = journal.EntriesBeyond(ctx, r.bucket, next); problem != nil && !damagesJournal(problem) {
			return nil, problem
		}
	}
	if problem == nil && next < newest {
		problem = fmt.Errorf("a checkpoint has seen %d entries, there are %d: %w", newest, next, journal.ErrRolledBack)
	}
	return problem, nil
}

func (x *journalRepair) list(ctx context.Context, folder string) (names []string, err error) {
	for info, err := range x.repo.bucket.List(ctx, folder, "") {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", folder, err)
		}
		names = append(names, info.Name)
	}
	return names, nil
}

// remember notes what goes, and of which snapshots the local cache knows that they go with it.
func (x *journalRepair) remember(ctx context.Context) error {
	checkpoints, err := x.list(ctx, journal.CheckpointFolder)
	if err != nil {
		return err
	}
	entries, err := x.list(ctx, journal.Folder)
	if err != nil {
		return err
	}
	for _, name := range checkpoints {
		if next, ok := journal.ParseCheckpointName(name); ok && next > x.report.From {
			x.beyond = append(x.beyond, name)
		}
	}
	for _, name := range slices.Backward(entries) {
		if n, ok := journal.ParseName(name); ok && n >= x.report.From {
			x.beyond = append(x.beyond, name)
		}
	}
	if _, body, ok := x.repo.cache.State(); ok {
		if s, err := journal.DecodeState(body); err == nil {
			for _, l := range s.Snapshots {
				if l.Entry >= x.report.From {
					x.lost[l.ID] = l.Snapshot
				}
			}
		}
	}
	return nil
}

// moveAside copies all that goes to lost/, and only then deletes it, in order.
func (x *journalRepair) moveAside(ctx context.Context) error {
	x.report.Moved = append(x.report.Moved, x.beyond...)
	slices.Sort(x.report.Moved)
	if x.DryRun {
		return nil
	}
	for _, name := range x.beyond {
		if err := x.keep(ctx, name); err != nil {
			return err
		}
	}
	if err := x.begin(ctx); err != nil {
		return err
	}
	for _, name := range x.beyond {
		if err := x.repo.bucket.Delete(ctx, name); err != nil {
			return fmt.Errorf("move %s: %w", name, err)
		}
	}
	x.repo.cache.DropState()
	x.repo.witness.anew = true // who repairs has been told, and takes the shorter history for the right one
	if x.report.From > 0 {
		return x.repo.refresh(ctx)
	}
	raw, err := x.repo.bucket.Get(ctx, headerName, 0, maxHeader)
	if err == nil {
		err = writeGenesis(ctx, x.repo.journal, seal.HashOf(raw))
	}
	if err != nil {
		return err
	}
	return x.repo.refresh(ctx)
}

// keep copies an object to lost/ and makes sure of the copy.
func (x *journalRepair) keep(ctx context.Context, name string) error {
	data, err := x.repo.bucket.Get(ctx, name, 0, -1)
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	copied := LostFolder + name + "-" + seal.HashOf(data).Short()
	if err := x.repo.bucket.Create(ctx, copied, data); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("save %s: %w", name, err)
	}
	back, err := x.repo.bucket.Get(ctx, copied, 0, -1)
	if err == nil && !bytes.Equal(back, data) {
		err = fmt.Errorf("%s holds something else", copied)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

// readd adds the packs that nothing names any more and whose tables open. Backups that ran into the repair
// may have left some of them; a prune takes back what nobody needs.
func (x *journalRepair) readd(ctx context.Context) error {
	if err := x.unpack(ctx); err != nil || x.DryRun {
		return err
	}
	var found []numbered
	for info, err := range x.repo.bucket.List(ctx, journal.PackFolder, "") {
		if err != nil {
			return fmt.Errorf("list %s: %w", journal.PackFolder, err)
		}
		name, err := blob.ParseHash(info.Name[strings.LastIndex(info.Name, "/")+1:])
		known := err != nil || journal.PackName(name) != info.Name
		x.repo.journal.View(func(s *journal.State) {
			_, added := s.Number(name)
			known = known || added || s.IsGivenUp(name)
		})
		if !known {
			found = append(found, numbered{Pack: journal.Pack{Name: name, Size: info.Size}})
		}
	}
	for some := range slices.Chunk(found, tablesHeld) {
		var added []journal.Added
		err := x.repo.readTables(ctx, some, func(p numbered, rows []blob.Row, damage error) error {
			if damage == nil && len(rows) > 0 {
				added = append(added, journal.Added{Name: p.Name, Size: p.Size, Rows: blob.AppendRows(nil, rows)})
			}
			return nil
		})
		if err == nil && len(added) > 0 {
			err = x.add(ctx, added)
		}
		if err != nil {
			return err
		}
		x.report.Packs += len(added)
	}
	return nil
}

func (x *journalRepair) add(ctx context.Context, added []journal.Added) error {
	segment, _, err := x.repo.storeSegment(ctx, added)
	if err != nil {
		return err
	}
	return x.repo.change(ctx, func(s *journal.State) (journal.Entry, error) { return additions(s, added, segment) })
}

// unpack looks at the lost entries, those of an earlier repair included: for snapshots that they made, and for
// the packs inside of them, which become objects of their own.
func (x *journalRepair) unpack(ctx context.Context) error {
	names := x.beyond
	if !x.DryRun {
		var err error
		if names, err = x.list(ctx, LostFolder+journal.Folder); err != nil {
			return err
		}
	}
	slices.Sort(names)
	for _, name := range names {
		entry, _, _ := strings.Cut(strings.TrimPrefix(name, LostFolder), "-")
		n, ok := journal.ParseName(entry)
		if !ok {
			continue
		}
		x.first = min(x.first, n)
		data, err := x.repo.bucket.Get(ctx, name, 0, journal.MaxEntry)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		left := journal.Salvage(x.repo.keys, n, data)
		if left.Entry != nil {
			for _, s := range left.Entry.Snapshots {
				x.lost[s.ID] = s
			}
			for _, f := range left.Entry.Forget {
				x.forgotten[f.ID] = true
			}
		}
		if _, err := x.repo.packs.reader.Rows(left.Inline); err != nil || x.DryRun {
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
	if err := x.readManifests(ctx); err != nil {
		return err
	}
	lost := make([]journal.Snapshot, 0, len(x.lost))
	for _, s := range x.lost {
		if !x.forgotten[s.ID] {
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
		if !x.DryRun {
			err := x.recommit(ctx, s)
			if found.Back = err == nil; err != nil && !errors.Is(err, ErrGone) && !errors.Is(err, journal.ErrInvalid) {
				return err
			} else if err != nil {
				found.Why = err.Error()
			}
		}
		x.report.Snapshots = append(x.report.Snapshots, found)
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
	if x.Identify == nil || x.DryRun {
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
			if p.Entry >= x.first && p.Status != journal.DroppedPack {
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

// recommit makes a snapshot again, which relies on every pack that it reaches.
func (x *journalRepair) recommit(ctx context.Context, s journal.Snapshot) error {
	packs, err := x.repo.packsBeneath(ctx, s.Manifest)
	if err != nil {
		return err
	}
	return x.repo.change(ctx, func(state *journal.State) (e journal.Entry, err error) {
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
}
