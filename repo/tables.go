package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
)

// Every pack ends with a table of what it holds, so an index segment that is missing or damaged costs
// time and nothing else: a repository opens without it, by the tables of the packs that the segment
// covered, and goes on that way until [Repository.RepairIndex] has made the segment anew.

const (
	tablesAtOnce = 8       // packs whose tables are read at the same time
	tablesHeld   = 64      // packs whose tables are read before the next step
	rebuiltRows  = 1 << 20 // rows gathered in one segment, which bounds the memory of it
)

// numbered is a pack with its number in the fold.
type numbered struct {
	number uint32
	journal.Pack
}

// readTable reads the table of a pack from its start and its end.
func (r *Repository) readTable(ctx context.Context, p journal.Pack) ([]blob.Row, error) {
	name, base := p.Object()
	rows, err := r.packs.reader.RowsBy(p.Size, func(offset, length int64) ([]byte, error) {
		return r.bucket.Get(ctx, name, base+offset, length)
	})
	if err != nil {
		return nil, fmt.Errorf("table of pack %s: %w", p.Name.Short(), err)
	}
	return rows, nil
}

// readHead reads the start of a pack.
func (r *Repository) readHead(ctx context.Context, p journal.Pack) (pack.Head, error) {
	name, base := p.Object()
	return r.packs.reader.HeadBy(p.Size, func(offset, length int64) ([]byte, error) {
		return r.bucket.Get(ctx, name, base+offset, length)
	})
}

// readTables reads the tables of packs, some at a time, and hands each to use in the order of the packs:
// its rows, or what is wrong with the stored bytes. A bucket that does not answer ends it.
func (r *Repository) readTables(ctx context.Context, packs []numbered, use func(numbered, []blob.Row, error) error) error {
	for some := range slices.Chunk(packs, tablesHeld) {
		tables, damages := make([][]blob.Row, len(some)), make([]error, len(some))
		group, within := errgroup.WithContext(ctx)
		group.SetLimit(tablesAtOnce)
		for i, p := range some {
			group.Go(func() (err error) {
				if tables[i], err = r.readTable(within, p.Pack); err != nil && isDamage(err) {
					damages[i], err = err, nil
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for i, p := range some {
			if err := use(p, tables[i], damages[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// present are the packs of a set that are not dropped.
func present(s *journal.State, packs *journal.Packs) (there []numbered) {
	for _, n := range packs.ToArray() {
		if s.Packs[n].Status != journal.DroppedPack {
			there = append(there, numbered{n, s.Packs[n]})
		}
	}
	return there
}

// stand in for a segment that is missing or damaged: segments in memory, made from the tables of its
// packs. Those of packs that are themselves not there stay unknown, so their blobs are in no pack. It
// needs the lock on refreshing.
func (r *Repository) standIn(ctx context.Context, info journal.SegmentInfo, why error) ([]*index.Segment, error) {
	if made, ok := r.standIns[info.Name]; ok {
		return made.segments, nil
	}
	var packs []numbered
	r.journal.View(func(s *journal.State) { packs = present(s, info.Packs) })
	var made []*index.Segment
	var tables []index.Table
	gathered := 0
	finish := func() error {
		plain, err := index.EncodeSegment(tables)
		if err != nil {
			return fmt.Errorf("gather tables: %w", err)
		}
		segment, err := index.ParseSegment(plain)
		made, tables, gathered = append(made, segment), nil, 0
		return err
	}
	err := r.readTables(ctx, packs, func(p numbered, rows []blob.Row, damage error) error {
		if damage != nil {
			return nil
		}
		tables = append(tables, index.Table{Pack: p.Name, Entries: rows})
		if gathered += len(rows); gathered < rebuiltRows {
			return nil
		}
		return finish()
	})
	if err == nil && len(tables) > 0 {
		err = finish()
	}
	if err != nil {
		return nil, errors.Join(why, err)
	}
	if r.standIns == nil {
		r.standIns = map[blob.Hash]standIn{}
	}
	r.standIns[info.Name] = standIn{segments: made, why: why}
	return made, nil
}

// standIn is what takes the place of a segment in memory, and why.
type standIn struct {
	segments []*index.Segment
	why      error
}

// IndexDegraded tells what is wrong with the index segments in whose place the tables of packs were read,
// or nil. It is meant for a warning: reading goes on as ever, and opening takes longer.
func (r *Repository) IndexDegraded() error {
	r.refreshing.Lock()
	defer r.refreshing.Unlock()
	var all []error
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, g := range r.segments {
		if in, ok := r.standIns[g.Name]; ok {
			all = append(all, in.why)
		}
	}
	return errors.Join(all...)
}
