package copies

import (
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// mapCopy is a map to be copied, beside that of the parent and the copy of that. Those two may be empty.
type mapCopy struct {
	next, last, kept *tree.Map
	giveUp           []blob.Ref // bundles that the copy shall no longer use
	streams          []string   // of the contents of an entry, by their places
	sums             *sums      // of objects; nil for files
}

// copyFunc does with a map what the run is for.
type copyFunc func(context.Context, mapCopy) (snapshot.Contents, error)

// stream returns the stream of a content by its place in the entry.
func (m mapCopy) stream(i int) string { return m.streams[min(i, len(m.streams)-1)] }

// maps hands on every map of the snapshot that is not that of the parent.
func (c *copying) maps(ctx context.Context, use copyFunc) error {
	if err := c.objects(ctx, use); err != nil {
		return fmt.Errorf("objects: %w", err)
	}
	for _, v := range c.volumes {
		if err := c.volume(ctx, v, use); err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
	}
	return nil
}

func (c *copying) objects(ctx context.Context, use copyFunc) (err error) {
	m := mapCopy{next: c.source.Objects(), last: c.none(), kept: c.none(), streams: []string{"body", "state"},
		sums: &sums{reader: c.reader, key: c.To.DeriveKey("digest")}}
	if m.next.Root().Empty() {
		return nil
	}
	if c.parent != nil {
		m.last = c.parent.Objects()
	}
	if c.copied != nil {
		m.kept = c.copied.Objects()
		if m.sums.digests, err = c.copied.Digests(ctx); err != nil {
			return err
		}
		if m.giveUp, err = c.copied.SparseObjects(ctx); err != nil {
			return err
		}
	} else {
		m.sums.digests = &snapshot.Digests{}
	}
	c.draft.Objects, err = c.hand(ctx, m, use)
	c.draft.Digests = m.sums.digests
	return err
}

func (c *copying) volume(ctx context.Context, v snapshot.Volume, use copyFunc) (err error) {
	m := mapCopy{next: c.source.Files(v), last: c.none(), kept: c.none(), streams: []string{"file"}}
	if c.parent != nil {
		last, err := c.parent.Volume(ctx, v.Name)
		if err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			return err
		}
		m.last = c.parent.Files(last)
	}
	if c.copied != nil && !m.last.Root().Empty() {
		kept, err := c.copied.Volume(ctx, v.Name)
		if err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			return err
		}
		m.kept = c.copied.Files(kept)
		if m.giveUp, err = c.copied.SparseFiles(ctx, kept); err != nil {
			return err
		}
	}
	made, err := c.hand(ctx, m, use)
	v.Root = made.Root
	c.draft.Volumes = append(c.draft.Volumes, snapshot.VolumeDraft{Volume: v, Sparse: made.Sparse})
	return err
}

// none is the map of a parent that has none.
func (c *copying) none() *tree.Map { return tree.Open(c.from, tree.Root{}) }

// hand passes a map on, unless it is that of the parent. A parent's copy that does not even have the size
// of the parent is not built on.
func (c *copying) hand(ctx context.Context, m mapCopy, use copyFunc) (snapshot.Contents, error) {
	last, kept := m.last.Root(), m.kept.Root()
	if !c.dry && (last.Count != kept.Count || last.Bytes != kept.Bytes) {
		m.last, m.kept, m.giveUp = c.none(), c.none(), nil
		if m.sums != nil {
			m.sums.digests = &snapshot.Digests{}
		}
	}
	if m.next.Root() == m.last.Root() {
		return snapshot.Contents{Root: m.kept.Root(), Sparse: m.giveUp}, nil
	}
	return use(ctx, m)
}

// estimate counts what copying a map would read.
func (c *copying) estimate(ctx context.Context, m mapCopy) (snapshot.Contents, error) {
	for change, err := range tree.Diff(ctx, m.last, m.next, tree.Range{}) {
		if err != nil {
			return snapshot.Contents{}, err
		}
		c.out.Entries++
		fresh, old, err := decodeBoth(change.New, change.Old)
		if err != nil {
			return snapshot.Contents{}, err
		}
		for i, ref := range fresh.contents {
			if !ref.Inline() && (i >= len(old.contents) || !ref.Equal(old.contents[i])) {
				c.out.Read += ref.Length()
			}
		}
		c.tell(func(p *Progress) { p.Entries++ })
	}
	return snapshot.Contents{}, nil
}

// decoded is an entry taken apart; the zero one is that of no entry.
type decoded struct {
	attrs    []byte
	contents []content.Ref
}

func decode(e *tree.Entry) (d decoded, err error) {
	if e != nil {
		d.attrs, d.contents, err = content.DecodeEntry(*e)
	}
	return d, err
}

func decodeBoth(a, b *tree.Entry) (x, y decoded, err error) {
	if x, err = decode(a); err == nil {
		y, err = decode(b)
	}
	return x, y, err
}
