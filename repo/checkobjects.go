package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
)

// shown is which of the objects that the state names a list of the bucket shows with their size. It
// takes some bits for each, and what it does not show is looked for one by one.
type shown struct {
	entries *journal.Packs // numbers
	packs   *journal.Packs // numbers
}

// objects compares the listing of the bucket with what the state names.
func (c *checker) objects(ctx context.Context) error {
	c.tell(CheckProgress{Step: "objects"})
	l := shown{entries: journal.NewPacks(), packs: journal.NewPacks()}
	segments := map[string]bool{}
	for _, g := range c.state.Segments {
		segments[journal.SegmentName(g.Name)] = true
	}
	for info, err := range c.repo.bucket.List(ctx, "", "") {
		if err != nil {
			return fmt.Errorf("list the objects: %w", err)
		}
		switch {
		case strings.HasPrefix(info.Name, journal.Folder):
			c.listedEntry(l, info)
		case strings.HasPrefix(info.Name, journal.PackFolder):
			c.listedPack(l, info)
		case strings.HasPrefix(info.Name, journal.SegmentFolder) && !segments[info.Name]:
			c.orphan(info)
		case strings.HasPrefix(info.Name, journal.CheckpointFolder):
			if _, ok := journal.ParseCheckpointName(info.Name); ok {
				c.checkpoints = append(c.checkpoints, info)
				c.report.Checkpoints++
			}
		}
	}
	return c.missing(ctx, l)
}

func (c *checker) listedEntry(l shown, info storage.Info) {
	n, ok := journal.ParseName(info.Name)
	switch {
	case !ok:
	case n >= uint64(len(c.sizes)):
		c.beyond = n
	case c.sizes[n] == info.Size:
		l.entries.Add(uint32(n))
	}
}

func (c *checker) listedPack(l shown, info storage.Info) {
	hash, err := blob.ParseHash(info.Name[strings.LastIndexByte(info.Name, '/')+1:])
	number, known := c.state.Number(hash)
	if err != nil || !known || info.Name != journal.PackName(hash) || c.state.Packs[number].Inline > 0 || c.state.Packs[number].Status == journal.DroppedPack {
		c.orphan(info)
	} else if c.state.Packs[number].Size == info.Size {
		l.packs.Add(number)
	}
}

func (c *checker) orphan(info storage.Info) {
	c.report.Orphans++
	c.report.OrphanBytes += info.Size
}

// missing looks one by one for what the listing does not show as it should be.
func (c *checker) missing(ctx context.Context, l shown) error {
	_, _, err := c.look(ctx, journal.Name(c.state.Next), func() error {
		if next, _ := c.repo.journal.Head(); c.beyond >= next {
			return flawed("entry %d is absent, but %s exists", next, journal.Name(c.beyond))
		}
		return nil
	})
	if err != nil {
		return err
	}
	always := func(*journal.State) bool { return true }
	for n, size := range c.sizes {
		if size == 0 || l.entries.Contains(uint32(n)) {
			continue // a damaged one was found by the fold
		}
		if _, _, err := c.present(ctx, journal.Name(uint64(n)), size, always); err != nil {
			return err
		}
	}
	for i, p := range c.state.Packs {
		number := uint32(i)
		if p.Status == journal.DroppedPack || c.state.IsDamaged(journal.Copy{Pack: number}) {
			continue // a pack that is known to be lost is a finding where a snapshot needs it
		}
		c.report.Packs++
		if l.packs.Contains(number) {
			continue
		}
		if err := c.missingPack(ctx, number, p); err != nil {
			return err
		}
	}
	return nil
}

// missingPack looks for a pack that was not listed with its size. That of an inline one is its entry's.
func (c *checker) missingPack(ctx context.Context, number uint32, p journal.Pack) error {
	name, _ := p.Object()
	if p.Inline > 0 {
		if finding, wrong := c.found[name]; wrong {
			c.suspects[number] = suspect{finding: finding}
		}
		return nil
	}
	finding, gone, err := c.present(ctx, name, p.Size, func(s *journal.State) bool { return s.Packs[number].Status != journal.DroppedPack })
	if finding != sound {
		c.suspects[number] = suspect{missing: gone, finding: finding}
	}
	return err
}

// present looks for an object that must be there with its size for as long as it is needed. It returns
// the finding, or sound.
func (c *checker) present(ctx context.Context, name string, size int64, needed func(*journal.State) bool) (finding int, gone bool, err error) {
	finding, wrong, err := c.look(ctx, name, func() error {
		gone = false
		if !c.now(needed) {
			return nil
		}
		info, err := c.repo.bucket.Stat(ctx, name)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			gone = true
			return flawed(itIsMissing)
		case err != nil:
			return fmt.Errorf("look for %s: %w", name, err)
		case info.Size != size:
			return flawed(notItsSize, info.Size, size)
		}
		return nil
	})
	if !wrong {
		return sound, false, err
	}
	return finding, gone, err
}

// segments reads every segment, which the local cache may hide.
func (c *checker) segments(ctx context.Context) error {
	for _, g := range c.state.Segments {
		c.report.Segments++
		same := func(o journal.SegmentInfo) bool { return o.Name == g.Name }
		_, _, err := c.look(ctx, journal.SegmentName(g.Name), func() error {
			if !c.now(func(s *journal.State) bool { return slices.ContainsFunc(s.Segments, same) }) {
				return nil // replaced meanwhile
			}
			_, err := c.repo.fetchSegment(ctx, g)
			if errors.Is(err, ErrDamaged) {
				return flawed("%s", problemOf(err))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
