package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// IndexRepair says what a repair of the index found and did. No segments means that the index was right.
type IndexRepair struct {
	Packs      int             `json:"packs"`      // whose tables were read
	Segments   []SegmentRepair `json:"segments"`   // made anew
	Unreadable []Unreadable    `json:"unreadable"` // packs whose tables do not open: RepairPacks is for them
}

// Unreadable is a pack whose table does not open.
type Unreadable struct {
	Pack   string `json:"pack"`   // its name
	Object string `json:"object"` // where its bytes are
}

// SegmentRepair is a segment that was made anew from the tables of its packs.
type SegmentRepair struct {
	Object  string `json:"object"`  // in the bucket; empty for tables that no segment held
	Problem string `json:"problem"` // in words
	Blobs   int    `json:"blobs"`   // rows of the segments in its place
}

// RepairIndex reads the table of every pack and makes anew what of the index is missing, damaged, or
// says something else. Every segment is a step of its own: what is done when it breaks off stays done.
func (r *Repository) RepairIndex(ctx context.Context, o RepairOptions) (IndexRepair, error) {
	report := IndexRepair{Segments: []SegmentRepair{}, Unreadable: []Unreadable{}}
	if err := r.Sync(ctx); err != nil {
		return report, err
	}
	x := &indexRepair{repo: r, report: &report, counted: map[uint32][]int{}, wrong: journal.NewPacks()}
	if err := x.look(ctx); err != nil {
		return report, fmt.Errorf("repair index: %w", err)
	}
	for _, sick := range x.toMake() {
		made := SegmentRepair{Problem: sick.problem}
		if !sick.info.Name.IsZero() {
			made.Object = journal.SegmentName(sick.info.Name)
		}
		var err error
		if !o.DryRun {
			made.Blobs, err = x.make(ctx, sick)
		}
		if err != nil {
			return report, fmt.Errorf("repair index: %w", err)
		}
		report.Segments = append(report.Segments, made)
	}
	r.refreshing.Lock()
	clear(r.standIns)
	r.refreshing.Unlock()
	return report, r.refresh(ctx)
}

// indexRepair carries one repair through its steps.
type indexRepair struct {
	repo     *Repository
	report   *IndexRepair
	segments []sickSegment    // all of the state, sick or not
	loose    []numbered       // packs whose tables stand in the state
	counted  map[uint32][]int // by pack: rows that each segment has of it
	wrong    *journal.Packs   // packs of which the index says something else than they do
}

// sickSegment is a segment with what is wrong with it, if anything.
type sickSegment struct {
	info    journal.SegmentInfo // zero for tables that no segment held
	packs   []numbered          // whose tables it holds, and that are not dropped
	problem string
}

// look compares the index with the packs.
func (x *indexRepair) look(ctx context.Context) error {
	var packs []numbered
	x.repo.journal.View(func(s *journal.State) {
		for _, info := range s.Segments {
			x.segments = append(x.segments, sickSegment{info: info, packs: present(s, info.Packs)})
		}
		for n, p := range s.Packs {
			if p.Status != journal.DroppedPack && !s.IsDamaged(journal.Copy{Pack: uint32(n)}) {
				packs = append(packs, numbered{uint32(n), p})
			}
			if len(p.Rows) > 0 {
				x.loose = append(x.loose, numbered{uint32(n), p})
			}
		}
	})
	for i := range x.segments {
		if err := x.count(ctx, &x.segments[i]); err != nil {
			return err
		}
	}
	x.report.Packs = len(packs)
	return x.repo.readTables(ctx, packs, func(p numbered, rows []blob.Row, damage error) error {
		switch {
		case damage != nil:
			object, _ := p.Object()
			x.report.Unreadable = append(x.report.Unreadable, Unreadable{p.Name.String(), object})
		case !x.knows(p, rows):
			x.wrong.Add(p.number)
		}
		return nil
	})
}

// count reads a segment as it lies in the bucket and counts its rows.
func (x *indexRepair) count(ctx context.Context, g *sickSegment) error {
	plain, err := x.repo.fetchSegment(ctx, g.info)
	if errors.Is(err, ErrDamaged) {
		g.problem = problemOf(err)
		return nil
	}
	if err != nil {
		return err
	}
	segment, err := index.ParseSegment(plain)
	if err != nil {
		g.problem = problemOf(err)
		return nil
	}
	rows := map[blob.Hash]int{}
	for name := range segment.All() {
		rows[name]++
	}
	for _, p := range g.packs {
		x.counted[p.number] = append(x.counted[p.number], rows[p.Name])
	}
	return nil
}

// knows reports whether the index says of a pack exactly what its own table does.
func (x *indexRepair) knows(p numbered, rows []blob.Row) bool {
	if slices.ContainsFunc(x.counted[p.number], func(n int) bool { return n != len(rows) }) {
		return false
	}
	x.repo.mu.RLock()
	set := x.repo.set
	x.repo.mu.RUnlock()
	return !slices.ContainsFunc(rows, func(row blob.Row) bool {
		return !slices.ContainsFunc(set.Lookup(row.ID), func(l index.Location) bool {
			return l == index.Location{Pack: p.number, Offset: row.Offset, Stored: row.Stored, Plain: row.Plain,
				Links: row.Links, Class: row.Class, Key: row.Key}
		})
	})
}

// toMake are the segments to make anew: those that are damaged themselves, those that say something
// wrong of a pack, and one for what loose tables say wrong.
func (x *indexRepair) toMake() (sick []sickSegment) {
	left := x.wrong.Clone()
	for _, g := range x.segments {
		for _, p := range g.packs {
			if g.problem == "" && x.wrong.Contains(p.number) {
				g.problem = fmt.Sprintf("it does not say what pack %s holds", p.Name.Short())
			}
		}
		if g.problem != "" {
			sick = append(sick, g)
			left.AndNot(g.info.Packs)
		}
	}
	rest := sickSegment{problem: "no index segment says what a pack holds"}
	x.repo.journal.View(func(s *journal.State) { rest.packs = present(s, left) })
	if len(rest.packs) > 0 {
		sick = append(sick, rest)
	}
	return sick
}

// make stores the segments that take the place of one and commits them, as a prune does that merges. If
// the only one is the very same, it is put where it was missing, and nothing has to be said.
func (x *indexRepair) make(ctx context.Context, sick sickSegment) (blobs int, err error) {
	known, err := x.tablesOf(ctx, sick)
	if err != nil {
		return 0, err
	}
	var made []*gathered
	var tables []index.Table
	rows := 0
	finish := func() error {
		g, err := x.store(ctx, tables)
		made, tables, rows = append(made, g), nil, 0
		return err
	}
	err = x.repo.readTables(ctx, sick.packs, func(p numbered, table []blob.Row, damage error) error {
		if damage != nil {
			table = known[p.Name]
		}
		tables = append(tables, index.Table{Pack: p.Name, Entries: table})
		blobs += len(table)
		if rows += len(table); rows < rebuiltRows {
			return nil
		}
		return finish()
	})
	if err == nil && len(tables) > 0 {
		err = finish()
	}
	if err != nil || len(made) == 1 && made[0].info.Name == sick.info.Name {
		return blobs, err
	}
	return blobs, x.repo.change(ctx, func(s *journal.State) (journal.Entry, error) {
		return replacement(s, sick.info.Name, made)
	})
}

// tablesOf returns what a segment that is to be made anew says of its packs, if it can be read: for packs
// whose own tables cannot.
func (x *indexRepair) tablesOf(ctx context.Context, sick sickSegment) (map[blob.Hash][]blob.Row, error) {
	known := map[blob.Hash][]blob.Row{}
	lost := func(p numbered) bool {
		return slices.ContainsFunc(x.report.Unreadable, func(u Unreadable) bool { return u.Pack == p.Name.String() })
	}
	if sick.info.Name.IsZero() || !slices.ContainsFunc(sick.packs, lost) {
		return known, nil
	}
	segment, err := x.repo.segment(ctx, sick.info) // maybe the local cache has it still
	if errors.Is(err, ErrDamaged) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	wanted := map[blob.Hash]bool{}
	for _, p := range sick.packs {
		wanted[p.Name] = lost(p)
	}
	for name, row := range segment.All() {
		if wanted[name] {
			known[name] = append(known[name], row)
		}
	}
	return known, nil
}

// store stores a segment of the tables.
func (x *indexRepair) store(ctx context.Context, tables []index.Table) (*gathered, error) {
	plain, err := index.EncodeSegment(tables)
	if err != nil {
		return nil, fmt.Errorf("make index segment: %w", err)
	}
	g := &gathered{packs: map[blob.Hash]bool{}}
	for _, t := range tables {
		g.packs[t.Pack] = true
	}
	g.info, err = x.repo.putSegment(ctx, plain)
	return g, err
}

// replacement is the entry by which new segments take the place of one, or of none. It is written as a
// prune of the oldest base that is still valid, so that it gets in the way of as few others as possible.
// If the segment is no longer in the state, somebody else has made it anew.
func replacement(s *journal.State, old blob.Hash, made []*gathered) (e journal.Entry, err error) {
	live := func(name blob.Hash) bool {
		return slices.ContainsFunc(s.Segments, func(i journal.SegmentInfo) bool { return i.Name == name })
	}
	if !old.IsZero() && !live(old) {
		return e, errSettled
	}
	for _, g := range made {
		if !live(g.info.Name) {
			e.Segments = append(e.Segments, g.added(s, nil)...)
		}
	}
	if old.IsZero() && len(e.Segments) == 0 {
		return e, errSettled
	}
	if !old.IsZero() {
		e.Prune = &journal.Prune{ID: journal.NewTxID(), Base: max(s.Prunes.Last, s.Upset) + 1, Segments: []blob.Hash{old}}
	}
	return e, nil
}
