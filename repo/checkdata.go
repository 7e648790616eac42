package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// rememberEvery is how many bytes of packs are read before it is remembered which ones were right, so
// that a check that is interrupted need not read them first again.
const rememberEvery = 4 << 30

// readPacks reads packs and every blob in them.
func (c *checker) readPacks(ctx context.Context, subset Subset) (err error) {
	verified := c.repo.cache.Verified()
	chosen, total := subset.choose(c.state, verified)
	c.tell(CheckProgress{Step: "data", Total: total})
	right := map[blob.Hash]time.Time{}
	defer func() { c.remember(right) }()
	for unsaved := int64(0); len(chosen) > 0; chosen = chosen[1:] {
		number := chosen[0]
		p := c.state.Packs[number]
		if _, bad := c.suspects[number]; bad {
			continue
		}
		whole, err := c.readPack(ctx, number, p)
		if err != nil {
			return err
		}
		if whole {
			right[p.Name] = time.Now()
		}
		c.report.BytesRead += p.Size
		c.tell(CheckProgress{Step: "data", Read: c.report.BytesRead, Total: total})
		if unsaved += p.Size; unsaved > rememberEvery {
			c.remember(right)
			unsaved = 0
		}
	}
	return nil
}

// remember keeps in the local cache when packs were found right, and counts those that never were.
func (c *checker) remember(right map[blob.Hash]time.Time) {
	exists := func(pack blob.Hash) bool {
		number, known := c.state.Number(pack)
		return known && c.state.Packs[number].Status != journal.DroppedPack
	}
	c.repo.cache.SetVerified(right, exists)
	verified := c.repo.cache.Verified()
	c.report.NeverRead = 0
	for _, p := range c.state.Packs {
		if _, ever := verified[p.Name]; !ever && p.Status != journal.DroppedPack {
			c.report.NeverRead++
		}
	}
}

// opened is what a look into a pack has shown.
type opened struct {
	blobs   int
	right   []blob.Ref
	wrong   []blob.Ref
	unknown []blob.Row // that the index does not have there
	known   bool       // the journal knows of the damage
}

// readPack reads one pack and everything in it, and reports whether it is as it was stored.
func (c *checker) readPack(ctx context.Context, number uint32, p journal.Pack) (whole bool, err error) {
	name, _ := p.Object()
	var o opened
	dropped := false
	finding, wrong, err := c.look(ctx, name, func() error {
		o = opened{}
		dropped = c.now(func(s *journal.State) bool { return s.Packs[number].Status == journal.DroppedPack })
		if dropped {
			return nil
		}
		return c.openPack(ctx, number, p, &o)
	})
	if err == nil && !dropped {
		err = c.indexed(ctx, number, o.unknown)
	}
	if err != nil || dropped {
		return false, err
	}
	c.report.PacksRead++
	c.report.Blobs += o.blobs
	if wrong {
		c.suspects[number] = suspect{finding: finding}
		for _, ref := range o.right {
			c.tried[journal.Copy{Blob: ref, Pack: number}] = sound
		}
		for _, ref := range o.wrong {
			c.tried[journal.Copy{Blob: ref, Pack: number}] = finding
		}
	}
	return !wrong && !o.known, nil
}

// openPack reads a pack. One whose bytes are not those of its name may still have blobs that open, so
// each is tried.
func (c *checker) openPack(ctx context.Context, number uint32, p journal.Pack, o *opened) error {
	name, base := p.Object()
	data, err := c.repo.bucket.Get(ctx, name, base, p.Size)
	if errors.Is(err, storage.ErrNotFound) {
		return flawed(itIsMissing)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	hashes := seal.HashOf(data) == p.Name
	reader := c.repo.packs.reader
	rows, err := reader.Rows(data)
	if err != nil {
		return flawed(packUnread, p.Name.Short(), err)
	}
	var keys []seal.SessionKey
	head, err := reader.Head(data)
	if err == nil {
		keys, err = reader.SessionKeys(head)
	}
	if errors.Is(err, seal.ErrNoKey) {
		return fmt.Errorf("read the data of %s: %w", name, err)
	}
	if err != nil {
		return flawed(packUnread, p.Name.Short(), err)
	}
	for _, row := range rows {
		o.blobs++
		_, err := reader.OpenBlob(keys, row, data[row.Offset:][:row.Stored])
		switch {
		case c.now(func(s *journal.State) bool { return s.IsDamaged(journal.Copy{Blob: row.Ref(), Pack: number}) }):
			o.known = true
		case err != nil:
			o.wrong = append(o.wrong, row.Ref())
		default:
			o.right = append(o.right, row.Ref())
			if !c.repo.knows(number, row) {
				o.unknown = append(o.unknown, row)
			}
		}
	}
	switch {
	case len(o.wrong) > 0:
		return flawed(blobsUnopened, p.Name.Short(), len(rows), len(o.wrong), o.wrong[0])
	case !hashes && !o.known:
		return flawed(notItsName, p.Name.Short())
	}
	return nil
}

// indexed looks again for blobs of a pack that the index did not have there.
func (c *checker) indexed(ctx context.Context, pack uint32, unknown []blob.Row) error {
	if len(unknown) == 0 {
		return nil
	}
	_, _, err := c.look(ctx, c.indexOf(pack), func() error {
		if c.now(func(s *journal.State) bool { return s.Packs[pack].Status == journal.DroppedPack }) {
			return nil
		}
		for _, row := range unknown {
			if !c.repo.knows(pack, row) {
				return flawed("it does not know %v, which pack %s has", row.Ref(), c.state.Packs[pack].Name.Short())
			}
		}
		return nil
	})
	return err
}

// knows reports whether the index has a blob where a pack has it.
func (r *Repository) knows(pack uint32, row blob.Row) bool {
	return slices.ContainsFunc(r.everyCopy(row.Ref()), func(f found) bool { return f.number == pack && f.row == row })
}

// indexOf returns the object that holds the table of a pack for those who look for blobs.
func (c *checker) indexOf(pack uint32) string {
	for _, g := range c.state.Segments {
		if g.Packs != nil && g.Packs.Contains(pack) {
			return journal.SegmentName(g.Name)
		}
	}
	return journal.Name(c.state.Packs[pack].Entry)
}
