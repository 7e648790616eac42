package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// marking is what the live snapshots of one state reach, in marks on the rows of its index. Besides the index
// itself, that and the packs are all that it holds in memory.
type marking struct {
	repo  *Repository
	state *journal.State
	set   *index.Set // of the state alone, whatever others add meanwhile
	live  *marks

	missing *journal.Packs          // packs whose object is not there
	damaged map[damagedRow]struct{} // copies known to be bad, as rows tell them
	graves  *journal.Packs          // packs in which what is lost lay; without them it would not be known to be lost
}

// damagedRow names a damaged copy by what a row knows of it.
type damagedRow struct {
	blob blob.ID // the first 16 bytes
	in   blob.Class
	pack uint32
}

// newMarking indexes a state.
func newMarking(ctx context.Context, r *Repository, s *journal.State, missing *journal.Packs) (*marking, error) {
	m := &marking{repo: r, state: s, set: new(index.Set), missing: missing, damaged: map[damagedRow]struct{}{}, graves: journal.NewPacks()}
	for _, info := range s.Segments {
		g, err := r.segment(ctx, info)
		if err != nil {
			return nil, err
		}
		m.set.AddSegment(g, s.Number)
	}
	for number, p := range s.Packs {
		rows, err := blob.DecodeRows(p.Rows)
		if err != nil {
			return nil, fmt.Errorf("table of pack %s: %w: %w", p.Name.Short(), ErrDamaged, err)
		}
		m.set.AddLoose(uint32(number), rows)
	}
	m.live = newMarks(m.set)
	for _, c := range s.Damaged {
		m.damaged[damagedRow{short(c.Blob.ID), c.Blob.Class, c.Pack}] = struct{}{}
	}
	return m, nil
}

// short leaves of an ID what a row keeps.
func short(id blob.ID) (s blob.ID) {
	copy(s[:16], id[:16])
	return s
}

// all marks what every live snapshot reaches. It reads links alone, for which the catalog key is enough.
func (m *marking) all(ctx context.Context, report *PruneReport, progress func(done int64)) error {
	reach := walk{met: m.live, enter: func(ctx context.Context, ref blob.Ref, copies []index.Location) ([]blob.Ref, error) {
		good, err := m.good(ref, copies)
		if err != nil {
			return nil, err
		}
		if len(good) == 0 {
			report.Lost++ // and known to be: repair has said of each copy that it is bad
			report.Blind = report.Blind || ref.Class.HasLinks()
			return nil, nil
		}
		if !ref.Class.HasLinks() {
			return nil, nil
		}
		report.Nodes++
		return m.links(ctx, ref, good)
	}}
	for i, l := range m.state.Snapshots {
		if err := reach.from(ctx, blob.Ref{Class: blob.Manifest, ID: l.Manifest}); err != nil {
			return fmt.Errorf("snapshot %v: %w", l.ID, err)
		}
		progress(int64(i + 1))
	}
	return nil
}

// good returns the copies of a blob that are there and not known to be bad. A blob of which no copy is
// there and none is known to be bad is missing.
func (m *marking) good(ref blob.Ref, copies []index.Location) (good []found, err error) {
	bad, unknown := journal.NewPacks(), false // a copy that is not there and of which nobody has said that it is bad
	for _, l := range copies {
		switch {
		case m.state.Packs[l.Pack].Status == journal.DroppedPack:
		case m.isDamaged(ref.ID, l):
			bad.Add(l.Pack)
		case m.missing.Contains(l.Pack):
			unknown = true
		default:
			good = append(good, found{number: l.Pack, pack: m.state.Packs[l.Pack], row: blob.Row{ID: ref.ID, Class: l.Class,
				Key: l.Key, Offset: l.Offset, Stored: l.Stored, Plain: l.Plain, Links: l.Links}})
		}
	}
	if len(good) == 0 {
		m.recorded(ref, bad)
	}
	if len(good) == 0 && (unknown || bad.IsEmpty()) {
		return nil, fmt.Errorf("%v is in no pack that is there: %w", ref, ErrDamaged)
	}
	if len(good) == 0 {
		m.graves.Or(bad)
	}
	return good, nil
}

// recorded adds the packs that are said to have had a copy of a blob, though no index knows it any more.
func (m *marking) recorded(ref blob.Ref, in *journal.Packs) {
	in.AddMany(m.state.DamagedIn(ref))
}

func (m *marking) isDamaged(id blob.ID, l index.Location) bool {
	_, single := m.damaged[damagedRow{short(id), l.Class, l.Pack}]
	_, whole := m.damaged[damagedRow{pack: l.Pack}]
	return single || whole
}

// links reads what a node links to from the first copy that opens.
func (m *marking) links(ctx context.Context, ref blob.Ref, copies []found) ([]blob.Ref, error) {
	var failed []error
	for _, f := range copies {
		links, err := m.repo.packs.links(ctx, f)
		if err == nil {
			return links, nil
		}
		if !isDamage(err) {
			return nil, fmt.Errorf("read links of %v from pack %s: %w", ref, f.pack.Name.Short(), err)
		}
		failed = append(failed, fmt.Errorf("pack %s: %w", f.pack.Name.Short(), err))
	}
	return nil, fmt.Errorf("read links of %v: %w: %w", ref, ErrDamaged, errors.Join(failed...))
}

// holder decides which copy of a marked blob is the one to keep: a good one, in a live pack rather than a
// retired one, the oldest of those. It returns the number of its row; ok is false if no copy is good.
func (m *marking) holder(id blob.ID, class blob.Class) (row int, at index.Location, ok bool) {
	for n, l := range m.set.Find(id) {
		p := m.state.Packs[l.Pack]
		if l.Class != class || p.Status == journal.DroppedPack || m.missing.Contains(l.Pack) || m.isDamaged(id, l) {
			continue
		}
		status := m.state.Packs[at.Pack].Status
		if !ok || p.Status < status || (p.Status == status && l.Pack < at.Pack) {
			row, at, ok = n, l, true
		}
	}
	return row, at, ok
}

// content is what a pack holds, in stored bytes of blobs.
type content struct {
	total  int64
	keys   int   // session keys that its rows name, at least
	needed int64 // of blobs that live snapshots reach and that this pack is to keep
}

// contents sums up what each pack holds, by pack number.
func (m *marking) contents() []content {
	packs := make([]content, len(m.state.Packs))
	for row, r := range m.set.All() {
		if m.repeated(row, r) {
			continue
		}
		c := &packs[r.Pack]
		c.total += int64(r.Stored)
		c.keys = max(c.keys, int(r.Key)+1)
		if !m.live.has(row) {
			continue
		}
		if n, _, ok := m.holder(r.ID, r.Class); ok && n == row {
			c.needed += int64(r.Stored)
		}
	}
	return packs
}

// repeated reports whether an earlier row tells the same copy: a pack's table can be in two segments.
func (m *marking) repeated(row int, r index.Row) bool {
	for n, l := range m.set.Find(r.ID) {
		if n < row && l == r.Location {
			return true
		}
	}
	return false
}

// keeps reports whether a pack is to keep the copy that a row of its own table tells of.
func (m *marking) keeps(pack uint32, row blob.Row) bool {
	n, at, ok := m.holder(row.ID, row.Class)
	return ok && m.live.has(n) && at.Pack == pack && at.Offset == row.Offset
}
