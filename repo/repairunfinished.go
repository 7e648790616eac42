package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
)

// unfinished is there while a repair is at work, has broken off, or could not bring back everything; from
// before it deletes anything until all is back or the user has given up the rest. Till then nothing but lost/
// tells what packs are for that no snapshot needs, and a prune would take them for leftovers: those that lost
// entries have added, those that cannot be read now, and those of snapshots that lack something which may be found.
const unfinished = LostFolder + "unfinished"

// ErrUnfinished means that a repair of the journal has not come to its end.
var ErrUnfinished = errors.New("a repair of the journal is at work, broke off, or could not bring back everything")

// begin keeps prunes away before anything is deleted.
func (x *journalRepair) begin(ctx context.Context) error {
	if len(x.beyond) == 0 {
		return nil
	}
	err := x.repo.bucket.Create(ctx, unfinished, []byte(journal.Name(x.report.From)))
	if err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("store %s: %w", unfinished, err)
	}
	return nil
}

// outgrow makes the journal longer than it was, by entries that say nothing. Whoever has folded a lost entry, and
// sleeps since, would create the next one: far behind the end of a shorter journal, where it would be a gap for
// everyone. So there is something at each of these places, and he learns that his history is gone. One who
// wakes up before is met here, and the repair ends with an error; the next one takes his entry for lost, too.
func (x *journalRepair) outgrow(ctx context.Context) error {
	if !x.entries.any || x.DryRun {
		return nil
	}
	long := errors.New("long enough")
	for {
		_, err := x.repo.journal.Commit(ctx, func(s *journal.State) (journal.Draft, error) {
			if s.Next > x.entries.last+1 && s.Next > x.seen {
				return journal.Draft{}, long
			}
			return journal.Draft{}, refuse(s, true)
		})
		if errors.Is(err, long) {
			return x.repo.refresh(ctx)
		}
		if err != nil {
			return fmt.Errorf("make the journal as long as it was: %w", err)
		}
	}
}

// finish lets prunes work again, if all is back. What is not may be found, in a copy of the bucket perhaps, so
// only who has seen the report of an earlier repair can give it up.
func (x *journalRepair) finish(ctx context.Context) error {
	_, err := x.repo.bucket.Stat(ctx, unfinished)
	if errors.Is(err, storage.ErrNotFound) {
		return nil // prunes work since an earlier repair, and what they have done hides what entries were for
	}
	if err != nil {
		return fmt.Errorf("look for %s: %w", unfinished, err)
	}
	x.report.Silent = x.silent()
	if x.report.Waiting = !x.report.Found() && (!x.GiveUp || len(x.beyond) > 0); x.report.Waiting {
		return nil
	}
	if err := x.repo.bucket.Delete(ctx, unfinished); err != nil {
		return fmt.Errorf("delete %s: %w", unfinished, err)
	}
	return nil
}

// silent names the lost entries that do not open, if any of them may hide something. That is not so when snapshots
// need all packs that were added again, and as many are back of which no other entry tells: then these are what
// such entries have made. Nor is it when all bytes of the entries are there, so that what they added are objects.
// A pack that nobody needs may be of a snapshot whose manifest is lost, though another is found that was never
// committed.
func (x *journalRepair) silent() []string {
	mute, worst := x.entries.muted(), speaks
	for n, how := range x.entries.mute {
		if n > 0 {
			worst = max(worst, how)
		}
	}
	idle := false
	x.repo.journal.View(func(s *journal.State) { idle = x.entries.idle(s) })
	if !idle && (x.entries.recovered >= len(mute) || worst == sealed) {
		return []string{}
	}
	return append([]string{}, mute...)
}

// idle reports whether any pack that a repair has added again is needed by no snapshot.
func (l *lostEntries) idle(s *journal.State) bool {
	making, refs := map[uint64]bool{}, journal.NewPacks()
	note := func(one journal.Live) {
		making[one.Entry] = true
		if one.Refs != nil {
			refs.Or(one.Refs)
		}
	}
	for _, one := range s.Snapshots {
		note(one)
	}
	for _, one := range s.Forgotten {
		note(one.Live)
	}
	for n, p := range s.Packs {
		again := l.any && p.Entry >= max(l.first, s.Prunes.Base) && !making[p.Entry] // a prune has looked at those before
		if again && p.Status == journal.LivePack && !refs.Contains(uint32(n)) {
			return true
		}
	}
	return false
}

// refuseUnfinished keeps prunes away from a repair that has not come to its end.
func (r *Repository) refuseUnfinished(ctx context.Context) error {
	_, err := r.bucket.Stat(ctx, unfinished)
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for %s: %w", unfinished, err)
	}
	return fmt.Errorf("%s is there: %w", unfinished, ErrUnfinished)
}
