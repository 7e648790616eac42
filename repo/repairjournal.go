package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/seen"
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
//  6. Record as damaged what lost entries called so, and the packs whose objects are gone because a lost entry
//     had dropped them.
//  7. Make the journal longer than it was, so that who has folded lost entries cannot go on from them.
//
// From before the third step to the end of the last, an object in lost/ keeps prunes from their work. It stays
// there when something could not be brought back, until the user gives that up (repairunfinished.go).

// LostFolder is where a repair keeps what it takes out of the journal. The names end in a hash of the bytes.
const LostFolder = "lost/"

// ErrReadable means that a journal is not repaired because it can be read.
var ErrReadable = errors.New("the journal can be read")

// ErrOversized means that an object lies among those of the journal that is none: it is larger than any of them.
var ErrOversized = errors.New("it is larger than the journal writes any object, so somebody else has put it there")

// ErrUnconfirmed means that a journal is not repaired because the entry was not confirmed from which it
// cannot be read.
var ErrUnconfirmed = errors.New("not confirmed")

// JournalOptions say how to repair a journal.
type JournalOptions struct {
	DropFrom  uint64 // the first entry that cannot be read, as a confirmation
	Confirmed bool   // DropFrom is given
	GiveUp    bool   // let prunes work again, although an earlier repair could not bring back everything
	DryRun    bool   // play the repair on an image of the bucket, see imagined
	// Identify tells of a manifest which snapshot it is, and when that was begun, in milliseconds since
	// 1970. Without it, a snapshot comes back only if an entry that opens, or the local cache, names it.
	Identify func(blob.Node) (id journal.SnapshotID, begun int64, ok bool)
}

// JournalRepair says what a repair of the journal found and did.
type JournalRepair struct {
	From      uint64             `json:"from"`      // the first entry that cannot be read
	Problem   string             `json:"problem"`   // why, in words; none if it can be read, and an earlier repair is gone on with
	Moved     []string           `json:"moved"`     // objects that were moved to lost/
	Packs     int                `json:"packs"`     // that were added again
	Snapshots []RecoveredHistory `json:"snapshots"` // that were lost by it, as far as anything tells of them

	Unreadable []string `json:"unreadable"` // objects in packs/ that no entry names and whose tables cannot be read
	Silent     []string `json:"silent"`     // lost entries of which nothing tells what they said
	Waiting    bool     `json:"waiting"`    // prunes do not work until all is brought back, or given up

	Damage  int                  `json:"damage"`  // copies of blobs, and whole packs, that were recorded as damaged
	Damaged []journal.SnapshotID `json:"damaged"` // live snapshots that lack something because packs of theirs are gone
	Recheck bool                 `json:"recheck"` // a lost entry may have recorded damage: the data is to be read before the next backup
}

// Complete reports whether everything was brought back whole, as far as can be known.
func (r *JournalRepair) Complete() bool { return r.Found() && len(r.Damaged) == 0 }

// Found reports whether nothing is left that might be found and brought back by another repair.
func (r *JournalRepair) Found() bool {
	return len(r.Unreadable) == 0 && len(r.Silent) == 0 &&
		!slices.ContainsFunc(r.Snapshots, func(s RecoveredHistory) bool { return !s.Back })
}

// RecoveredHistory is a snapshot that an unreadable part of the journal had made.
type RecoveredHistory struct {
	ID   journal.SnapshotID `json:"id"`
	Time int64              `json:"time"` // when it was begun, milliseconds since 1970
	Back bool               `json:"back"` // it is a snapshot again
	Why  string             `json:"why,omitempty"`
}

// RepairJournal goes on from the last entry of a journal up to which all can be read, see above. While it
// works, nobody else should write to the repository: it ends with an error then, and is to be done again. Whoever
// has folded what is lost, and writes later, is refused with [journal.ErrRolledBack].
func RepairJournal(ctx context.Context, b storage.Bucket, open OpenOptions, o JournalOptions) (JournalRepair, error) {
	if !o.DryRun {
		return runJournalRepair(ctx, b, open, o)
	}
	image, err := imagine(b)
	if err != nil {
		return JournalRepair{}, fmt.Errorf("repair journal: %w", err)
	}
	report, err := runJournalRepair(ctx, image, open, o)
	return report, errors.Join(err, image.discard())
}

func runJournalRepair(ctx context.Context, b storage.Bucket, open OpenOptions, o JournalOptions) (JournalRepair, error) {
	report := JournalRepair{Moved: []string{}, Snapshots: []RecoveredHistory{}, Unreadable: []string{}, Silent: []string{},
		Damaged: []journal.SnapshotID{}}
	r, header, err := withKeys(ctx, b, open)
	if err != nil {
		return report, err
	}
	x := &journalRepair{JournalOptions: o, repo: r, report: &report, lost: map[journal.SnapshotID]journal.Snapshot{},
		entries: newLostEntries()}
	if err := x.find(ctx, header); err != nil {
		return report, fmt.Errorf("repair journal: %w", err)
	}
	for _, step := range []func(context.Context) error{x.remember, x.moveAside, x.readd, x.bringBack, x.harm, x.outgrow, x.finish} {
		err := step(ctx)
		if damagesJournal(err) {
			err = fmt.Errorf("somebody else has written to the repository meanwhile: %w", err)
		}
		if err != nil {
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
	entries lostEntries
	seen    uint64 // entries that a checkpoint has seen
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
		return x.confirmShorter(ctx)
	case x.report.From > 0 && bound != header:
		return fmt.Errorf("%s is not the one that the journal begins with: %w", headerName, ErrDamaged)
	}
	x.report.Problem = problem.Error()
	if !x.DryRun && (!x.Confirmed || x.DropFrom != x.report.From) {
		return fmt.Errorf("%s is the first entry that cannot be read (%w): %w", journal.Name(x.report.From), problem, ErrUnconfirmed)
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
		x.seen = max(x.seen, vouched.Next)
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
	if problem == nil && next < x.seen {
		problem = fmt.Errorf("a checkpoint has seen %d entries, there are %d: %w", x.seen, next, journal.ErrRolledBack)
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
	if x.DryRun { // what is only imagined is not to be remembered
		x.repo.cache, x.repo.inMemory = index.OpenCache("", x.repo.header.Repository.String()), true
		x.repo.witness = &witness{memory: seen.Open("")}
	}
	return nil
}

// moveAside copies all that goes to lost/, and only then deletes it, in order.
func (x *journalRepair) moveAside(ctx context.Context) error {
	x.report.Moved = append(x.report.Moved, x.beyond...)
	slices.Sort(x.report.Moved)
	for _, name := range x.beyond {
		if err := x.keep(ctx, name); err != nil {
			return err
		}
	}
	if err := x.keepHoles(ctx); err != nil {
		return err
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

// keep copies an object to lost/ and makes sure of the copy. Somebody may have planted one of any size, of which
// no more is read than the journal could have written.
func (x *journalRepair) keep(ctx context.Context, name string) error {
	most := int64(journal.MaxEntry)
	if _, ok := journal.ParseCheckpointName(name); ok {
		most = journal.MaxCheckpoint
	}
	data, err := x.repo.bucket.Get(ctx, name, 0, most+1)
	if err == nil && int64(len(data)) > most {
		err = ErrOversized
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return x.store(ctx, name, data)
}

// store puts the bytes of an object under its name in lost/.
func (x *journalRepair) store(ctx context.Context, name string, data []byte) error {
	copied := LostFolder + name + "-" + seal.HashOf(data).Short()
	if err := x.repo.bucket.Create(ctx, copied, data); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("save %s: %w", name, err)
	}
	back, err := x.repo.bucket.Get(ctx, copied, 0, int64(len(data))+1)
	if err == nil && !bytes.Equal(back, data) {
		err = fmt.Errorf("%s holds something else", copied)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}

// readd adds the packs that nothing names any more and whose tables open, and notes the others. Backups that ran
// into the repair may have left some of them; a prune takes back what nobody needs.
func (x *journalRepair) readd(ctx context.Context) error {
	if err := x.unpack(ctx); err != nil {
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
			if damage != nil || len(rows) == 0 {
				x.report.Unreadable = append(x.report.Unreadable, journal.PackName(p.Name))
				return nil
			}
			added = append(added, journal.Added{Name: p.Name, Size: p.Size, Rows: blob.AppendRows(nil, rows)})
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
