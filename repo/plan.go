package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
)

// Small packs, those in journal entries among them, are joined once there are many of them or they make up a
// pack worth having. The pack that they become is larger by far, so no blob is copied often for this.
const (
	smallShare  = 8  // a pack of less than a complete one's eighth is small
	enoughShare = 4  // a quarter of a complete one is worth having
	enoughSmall = 64 // so many packs are joined in any case
	fewKeys     = 64 // a pack of more session keys soon finds no room beside others, however small it is: a table holds 256
)

// maxOrphans bounds the orphans that one prune gives up: their names stand in its entry. The next takes more.
const maxOrphans = 1 << 15

// listing is what lies in the bucket under packs/ and index/, and of checkpoints.
type listing struct {
	packs, segments map[blob.Hash]storage.Info
	checkpoints     []storage.Info
	clock           time.Time // when the newest of all these was made, by the store's clock
	missing         *journal.Packs
}

// plan is what a prune is going to do, in numbers of packs and names of objects.
type plan struct {
	retire *journal.Packs
	revive *journal.Packs
	drop   *journal.Packs
	repack []uint32

	contents []content // by pack number
	before   Amount    // copies that an earlier marking made
	orphans  []blob.Hash
	merge    *merge
}

// list looks what is in the bucket and which packs of the state are not. A listing may be old, so of what
// it lacks the store is asked once more by name.
func (p *pruning) list(ctx context.Context) error {
	b := &p.bucket
	b.packs, b.segments, b.missing = map[blob.Hash]storage.Info{}, map[blob.Hash]storage.Info{}, journal.NewPacks()
	for _, folder := range []string{journal.PackFolder, journal.SegmentFolder, journal.CheckpointFolder} {
		for info, err := range p.repo.bucket.List(ctx, folder, "") {
			if err != nil {
				return fmt.Errorf("list %s: %w", folder, err)
			}
			b.note(folder, info)
		}
	}
	for number, pk := range p.state.Packs {
		if pk.Status == journal.DroppedPack || pk.Inline > 0 || b.packs[pk.Name].Size == pk.Size {
			continue
		}
		info, err := p.repo.bucket.Stat(ctx, journal.PackName(pk.Name))
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return fmt.Errorf("look for pack %s: %w", pk.Name.Short(), err)
		}
		if err != nil || info.Size != pk.Size {
			b.missing.Add(uint32(number))
		}
	}
	return nil
}

func (b *listing) note(folder string, info storage.Info) {
	if info.ModTime.After(b.clock) {
		b.clock = info.ModTime
	}
	if folder == journal.CheckpointFolder {
		b.checkpoints = append(b.checkpoints, info)
		return
	}
	digits := info.Name[max(0, len(info.Name)-2*len(blob.Hash{})):]
	name, err := blob.ParseHash(digits)
	switch {
	case err != nil || objectName(folder, name) != info.Name: // none of ours
	case folder == journal.PackFolder:
		b.packs[name] = info
	default:
		b.segments[name] = info
	}
}

// markAll marks what live snapshots reach.
func (p *pruning) markAll(ctx context.Context) (err error) {
	if p.mark, err = newMarking(ctx, p.repo, p.state, p.bucket.missing); err == nil {
		err = p.mark.all(ctx, p.report, func(done int64) {
			p.options.Progress(PruneProgress{Step: PruneMarking, Done: done, Total: int64(len(p.state.Snapshots))})
		})
	}
	if errors.Is(err, ErrDamaged) {
		return p.damaged(ctx, err)
	}
	return err
}

// makePlan decides about every pack and every object.
func (p *pruning) makePlan(ctx context.Context) (err error) {
	p.plan.retire, p.plan.revive = journal.NewPacks(), journal.NewPacks()
	p.plan.drop = journal.NewPacks()
	contents := p.mark.contents()
	p.plan.contents = contents
	var small []uint32
	smallBytes := int64(0)
	for i, pk := range p.state.Packs {
		number, c := uint32(i), contents[i]
		switch {
		case pk.Status == journal.RetiredPack:
			p.planRetired(number, pk, c)
		case pk.Status == journal.DroppedPack:
		case c.needed == 0 && p.mark.graves.Contains(number):
		case c.needed == 0:
			p.plan.retire.Add(number)
			p.report.Retired.add(pk.Size)
		case pk.Inline == 0 && float64(c.needed) < p.options.MinLive*float64(c.total):
			p.plan.repack = append(p.plan.repack, number)
		case pk.Size <= int64(p.repo.limits.Pack/smallShare) && c.keys <= fewKeys:
			small = append(small, number)
			smallBytes += c.needed
		}
	}
	if len(small) >= enoughSmall || smallBytes >= int64(p.repo.limits.Pack/enoughShare) {
		p.plan.repack = append(p.plan.repack, small...)
	}
	// In the order of their numbers: what was stored together stays together.
	slices.Sort(p.plan.repack)
	copied := int64(0)
	for i, pk := range p.state.Packs {
		number := uint32(i)
		if _, repacked := slices.BinarySearch(p.plan.repack, number); repacked {
			p.report.Repacked.add(pk.Size)
			copied += contents[i].needed
		} else if pk.Status == journal.LivePack && !p.plan.retire.Contains(number) {
			p.settled(number, pk)
		}
	}
	p.plan.before = p.report.Copies
	p.report.Copies.Bytes += copied
	p.planOrphans()
	p.plan.merge, err = p.planMerge(ctx)
	if errors.Is(err, ErrDamaged) {
		return p.damaged(ctx, err)
	}
	return err
}

func (p *pruning) planRetired(number uint32, pk journal.Pack, c content) {
	switch {
	case c.needed > 0:
		p.plan.revive.Add(number)
		p.report.Revived.add(pk.Size)
	case p.graceOver(pk.Retired) && !p.report.Blind && !p.mark.graves.Contains(number):
		p.plan.drop.Add(number)
		p.report.Dropped.add(pk.Size)
	default:
		p.settled(number, pk)
	}
}

// graceOver reports whether what was given up at a time, in milliseconds since 1970, has waited long enough.
// A time that has not come was told by a clock that is wrong, that one or ours: then what is given up waits,
// until it comes or a prune is told not to wait for clocks at all.
func (p *pruning) graceOver(at int64) bool {
	return p.options.Grace <= 0 || p.now-at >= p.options.Grace.Milliseconds()
}

// planOrphans finds objects that no entry names. They may be those of a backup that runs, so they are given
// up only when they are old by the store's own clock, which is at least as late as its newest object.
func (p *pruning) planOrphans() {
	for _, folder := range []map[blob.Hash]storage.Info{p.bucket.packs, p.bucket.segments} {
		for name, info := range folder {
			number, known := p.state.Number(name)
			known = known && p.state.Packs[number].Status == journal.DroppedPack
			if p.state.Needs(name) || known || p.state.IsGivenUp(name) {
				continue // needed, or a leftover, which sweep deletes
			}
			if p.options.OrphanAge > 0 && p.bucket.clock.Sub(info.ModTime) < p.options.OrphanAge {
				p.report.Young.add(info.Size)
				continue
			}
			p.plan.orphans = append(p.plan.orphans, name)
		}
	}
	slices.SortFunc(p.plan.orphans, func(a, b blob.Hash) int { return cmp.Compare(a.String(), b.String()) })
	p.plan.orphans = p.plan.orphans[:min(len(p.plan.orphans), maxOrphans)]
	for _, name := range p.plan.orphans {
		p.report.Orphans.add(p.bucket.packs[name].Size + p.bucket.segments[name].Size)
	}
}
