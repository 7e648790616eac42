package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// errForgotten ends the walk of a snapshot that was forgotten meanwhile, so that its blobs may go.
var errForgotten = errors.New("snapshot was forgotten meanwhile")

// snapshots walks everything that live snapshots reach and adds to the findings the snapshots that they
// touch. Memory is that of a walk and what damage touches.
func (c *checker) snapshots(ctx context.Context) error {
	c.progress()
	beneath := walk{met: c.repo.newMarks(), enter: c.enter, leave: c.leave}
	for _, l := range c.state.Snapshots {
		c.walking = l.ID
		manifest := blob.Ref{Class: blob.Manifest, ID: l.Manifest}
		err := beneath.from(ctx, manifest)
		if errors.Is(err, errForgotten) {
			continue
		}
		if err != nil {
			return err
		}
		c.report.Snapshots++
		damage := c.report.touched[manifest]
		if damage == nil {
			continue
		}
		for number := range roaring.Values(damage) {
			f := &c.report.Findings[number]
			f.Snapshots = append(f.Snapshots, l.ID)
		}
	}
	return nil
}

func (c *checker) progress() { c.tell(CheckProgress{Step: "snapshots", Nodes: c.report.Nodes}) }

// enter looks for a good copy of a blob, and reads it if it is a node.
func (c *checker) enter(ctx context.Context, ref blob.Ref, _ []index.Location) (links []blob.Ref, err error) {
	damage, err := c.noGoodCopy(ctx, ref)
	if err == nil && damage == nil && ref.Class.HasLinks() {
		links, damage, err = c.links(ctx, ref)
	}
	if damage != nil {
		c.report.lost[ref] = true
		c.report.touched[ref] = damage
	}
	return links, err
}

// links reads a node, or returns why that cannot be done.
func (c *checker) links(ctx context.Context, ref blob.Ref) (links []blob.Ref, damage *roaring.Bitmap, err error) {
	n, err := c.repo.ReadNode(ctx, ref)
	if errors.Is(err, ErrDamaged) {
		for _, f := range c.repo.copies(ref) { // none of which was suspect yet
			if _, already := c.suspects[f.number]; !already {
				c.suspects[f.number] = suspect{finding: sound}
			}
		}
		if damage, err = c.noGoodCopy(ctx, ref); damage != nil || err != nil {
			return nil, damage, err
		}
		n, err = c.repo.ReadNode(ctx, ref)
	}
	if err != nil {
		return nil, nil, err
	}
	c.report.Nodes++
	c.progress()
	return n.Links, nil, nil
}

// leave hands upwards what touches something beneath a node.
func (c *checker) leave(ref blob.Ref, links []blob.Ref) {
	for _, l := range links {
		under := c.report.touched[l]
		if under == nil {
			continue
		}
		if c.report.touched[ref] == nil {
			c.report.touched[ref] = roaring.New()
		}
		c.report.touched[ref].Or(under)
	}
}

// noGoodCopy returns why no good copy of a blob is left, or nil if there is one: a copy in a pack with
// which nothing is wrong, or one that opens all the same.
func (c *checker) noGoodCopy(ctx context.Context, ref blob.Ref) (*roaring.Bitmap, error) {
	for _, f := range c.repo.copies(ref) {
		if _, suspect := c.suspects[f.number]; !suspect {
			return nil, nil
		}
	}
	var bad []badCopy
	err := c.repo.certain(ctx, func() error {
		bad = nil
		for _, f := range c.repo.everyCopy(ref) {
			b, err := c.try(ctx, f)
			if err != nil || b.why == "" {
				return err
			}
			bad = append(bad, b)
		}
		return flawed("no good copy of %v", ref)
	})
	if _, none := errors.AsType[flaw](err); !none {
		return nil, err
	}
	if !c.now(func(s *journal.State) bool { _, live := s.Snapshot(c.walking); return live }) {
		return nil, errForgotten
	}
	damage := roaring.New()
	for _, b := range bad {
		damage.AddInt(c.convict(b))
	}
	if len(bad) == 0 {
		damage.AddInt(c.find(journal.SegmentFolder, "%v is in no pack, and a snapshot needs it", ref))
	}
	return damage, nil
}

// badCopy is a copy that does not open, and why.
type badCopy struct {
	found
	why string
}

// try opens a copy, unless it is known how that ends. The why is empty when it opens.
func (c *checker) try(ctx context.Context, f found) (badCopy, error) {
	pack, suspect := c.suspects[f.number]
	known, tried := c.tried[journal.Copy{Blob: f.row.Ref(), Pack: f.number}]
	switch {
	case f.damaged:
		return badCopy{f, "what it holds is known to be damaged, and a snapshot has no other copy"}, nil
	case tried && known == sound, !suspect:
		return badCopy{found: f}, nil
	case tried:
		return badCopy{f, c.report.Findings[known].Problem}, nil
	case pack.missing:
		return badCopy{f, c.report.Findings[pack.finding].Problem}, nil
	}
	_, err := c.repo.packs.open(ctx, f)
	if err == nil {
		c.tried[journal.Copy{Blob: f.row.Ref(), Pack: f.number}] = sound
		return badCopy{found: f}, nil
	}
	if !isDamage(err) {
		return badCopy{}, err
	}
	return badCopy{f, fmt.Sprintf("%v does not open: %v", f.row.Ref(), err)}, nil
}

// convict makes a bad copy a finding of the object that it is in.
func (c *checker) convict(b badCopy) (finding int) {
	object, _ := b.pack.Object()
	copied := journal.Copy{Blob: b.row.Ref(), Pack: b.number}
	if known, tried := c.tried[copied]; tried && known != sound {
		return known
	}
	if pack := c.suspects[b.number]; pack.missing {
		return pack.finding
	}
	finding = c.find(object, "%s", b.why)
	c.tried[copied] = finding
	return finding
}
