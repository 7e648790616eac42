package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// repacking copies what is needed of some packs into new ones, contents and nodes apart as a writer does,
// until they are full; then one entry adds the new packs and retires the old.
type repacking struct {
	data, nodes *pack.Joiner
	sources     *journal.Packs
}

func (p *pruning) newRepacking() *repacking {
	return &repacking{data: pack.NewJoiner(p.repo.keys), nodes: pack.NewJoiner(p.repo.keys), sources: journal.NewPacks()}
}

func (r *repacking) size() int { return r.data.Size() + r.nodes.Size() }

// repack carries out the part of the plan that copies.
func (p *pruning) repack(ctx context.Context) error {
	p.report.Copies = p.plan.before
	done := int64(0)
	batch := p.newRepacking()
	for _, number := range p.plan.repack {
		source, rows, err := p.source(ctx, number)
		if err != nil {
			return err
		}
		size := 0
		for _, row := range rows {
			size += int(row.Stored)
		}
		if !batch.sources.IsEmpty() && batch.size()+size > p.repo.limits.Pack || !batch.take(number, source, rows) {
			if err := p.settle(ctx, batch); err != nil {
				return err
			}
			batch = p.newRepacking()
			if !batch.take(number, source, rows) {
				return fmt.Errorf("the session keys of pack %s do not fit into a pack", p.state.Packs[number].Name.Short())
			}
		}
		done += p.state.Packs[number].Size
		p.options.Progress(PruneProgress{Step: PruneRepacking, Done: done, Total: p.report.Repacked.Bytes})
	}
	return p.settle(ctx, batch)
}

// take copies rows of a source; it reports false, and must not be used further than settled, when their
// keys do not fit.
func (r *repacking) take(number uint32, source pack.Source, rows []blob.Row) bool {
	var nodes []blob.Row
	rows = slices.DeleteFunc(slices.Clone(rows), func(row blob.Row) bool {
		if row.Class.HasLinks() {
			nodes = append(nodes, row)
		}
		return row.Class.HasLinks()
	})
	if !r.data.Fits(source) || !r.nodes.Fits(source) {
		return false
	}
	r.sources.Add(number)
	return (len(rows) == 0 || r.data.Take(source, rows)) && (len(nodes) == 0 || r.nodes.Take(source, nodes))
}

// source reads a whole pack, whose bytes must be those of its name, and tells which rows to copy.
func (p *pruning) source(ctx context.Context, number uint32) (pack.Source, []blob.Row, error) {
	pk := p.state.Packs[number]
	name, base := pk.Object()
	data, err := p.repo.bucket.Get(ctx, name, base, pk.Size)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return pack.Source{}, nil, fmt.Errorf("read %s: %w", name, err)
	}
	var source pack.Source
	if err == nil && seal.HashOf(data) != pk.Name {
		err = fmt.Errorf("pack %s does not hash to its name", pk.Name.Short())
	}
	if err == nil {
		source, err = p.repo.packs.reader.Source(data)
	}
	if err != nil {
		return pack.Source{}, nil, p.damaged(ctx, fmt.Errorf("copy %s: %w", name, err))
	}
	keep := slices.DeleteFunc(slices.Clone(source.Rows), func(row blob.Row) bool { return !p.mark.keeps(number, row) })
	found := int64(0)
	for _, row := range keep {
		found += int64(row.Stored)
	}
	if needed := p.plan.contents[number].needed; found != needed {
		return pack.Source{}, nil, p.damaged(ctx, fmt.Errorf("%s has %d bytes that are needed, and by the index %d", name, found, needed))
	}
	return source, keep, nil
}

// settle stores the new packs of a batch and commits the exchange. A crash between the two leaves orphans.
func (p *pruning) settle(ctx context.Context, batch *repacking) error {
	if batch.sources.IsEmpty() {
		return nil
	}
	var added []journal.Added
	for _, joiner := range []*pack.Joiner{batch.data, batch.nodes} {
		if joiner.Len() == 0 {
			continue
		}
		made, err := joiner.Finish()
		if err != nil {
			return err
		}
		err = p.repo.bucket.Create(ctx, journal.PackName(made.Name), made.Data)
		if err != nil && !errors.Is(err, storage.ErrExists) { // the name is the hash of the bytes
			return fmt.Errorf("store pack %s: %w", made.Name.Short(), err)
		}
		p.report.Copies.add(int64(len(made.Data)))
		added = append(added, journal.Added{Name: made.Name, Size: int64(len(made.Data)), Rows: blob.AppendRows(nil, made.Rows)})
	}
	segment, _, err := p.repo.storeSegment(ctx, added)
	if err != nil {
		return err
	}
	return p.commit(ctx, func(s *journal.State) (journal.Entry, error) {
		e, err := additions(s, added, segment)
		if errors.Is(err, ErrSuperseded) {
			return e, ErrOvertaken
		}
		e.Prune = &journal.Prune{Retire: p.stillIdle(s, batch.sources, journal.LivePack)}
		return e, err
	})
}
