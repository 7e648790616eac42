package repo

import (
	"context"
	"fmt"
	"math/bits"
	"slices"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
)

// Index segments are merged in levels: four of about one size become one of the next, so their number grows
// with the logarithm of what is stored and no row is written often. Very large ones stay as they are, since
// a merge holds its result in memory.
const (
	mergeAtOnce  = 4
	largeSegment = 64 << 20

	// levelSize is the size of a segment of the lowest level, and four times that of the next, and so on.
	levelSize = 64 << 10
)

// merge is a new segment in the place of others.
type merge struct {
	replaced []blob.Hash
	packs    []uint32            // whose tables the new one holds; none: there is no new one
	plain    []byte              // the new one
	info     journal.SegmentInfo // of the new one, once it is stored
}

func levelOf(size int64) int { return (bits.Len64(uint64(size)/levelSize) + 1) / 2 }

// mergeable decides which segments of a state to merge: levels that are full, and segments that speak mostly
// of packs that are dropped.
func mergeable(s *journal.State) (chosen []journal.SegmentInfo) {
	levels := map[int]int{}
	for _, g := range s.Segments {
		levels[levelOf(g.Size)]++
	}
	size := int64(0)
	for _, g := range s.Segments {
		if size >= 2*largeSegment {
			break // the next prune goes on
		}
		dropped := 0
		for n := range journal.Members(g.Packs) {
			if s.Packs[n].Status == journal.DroppedPack {
				dropped++
			}
		}
		full := levels[levelOf(g.Size)] >= mergeAtOnce && g.Size < largeSegment
		if full || uint64(2*dropped) > g.Packs.GetCardinality() {
			chosen = append(chosen, g)
			size += g.Size
		}
	}
	return chosen
}

// planMerge makes the merged segment, which leaves out only packs that were dropped before the base: of
// any other, somebody may still be about to rely on a table.
func (p *pruning) planMerge(ctx context.Context) (*merge, error) {
	chosen := mergeable(p.state)
	if len(chosen) == 0 {
		return nil, nil
	}
	m := &merge{}
	var parts []*index.Segment
	covered := journal.NewPacks()
	for _, info := range chosen {
		g, err := p.repo.segment(ctx, info)
		if err != nil {
			return nil, err
		}
		parts = append(parts, g)
		m.replaced = append(m.replaced, info.Name)
		covered.Or(info.Packs)
	}
	for n := range journal.Members(covered) {
		if p.state.Packs[n].Status != journal.DroppedPack {
			m.packs = append(m.packs, n)
		}
	}
	p.report.MergedSegments += len(chosen)
	if len(m.packs) == 0 {
		return m, nil // nothing is left of them
	}
	p.report.MergedInto++
	plain, err := index.MergeSegments(parts, func(name blob.Hash) bool {
		n, known := p.state.Number(name)
		return known && p.state.Packs[n].Status != journal.DroppedPack
	})
	if err != nil {
		return nil, fmt.Errorf("merge index segments: %w", err)
	}
	m.plain = plain
	name := seal.HashOf(sealSegment(p.repo.keys, plain))
	if slices.ContainsFunc(p.state.Segments, func(g journal.SegmentInfo) bool { return g.Name == name }) {
		p.noMerge()
		return nil, nil // it would be one that is there: nothing to gain
	}
	return m, nil
}

// noMerge takes the merge out of the plan.
func (p *pruning) noMerge() {
	p.plan.merge, p.report.MergedSegments, p.report.MergedInto = nil, p.done.merged, p.done.mergedInto
}

// storeMerged puts the merged segment into the bucket. A crash before its entry leaves an orphan.
func (p *pruning) storeMerged(ctx context.Context) (err error) {
	m := p.plan.merge
	if m == nil || len(m.packs) == 0 {
		return nil
	}
	m.info, err = p.repo.putSegment(ctx, m.plain)
	m.info.Packs, m.plain = journal.NewPacks(m.packs...), nil
	return err
}
