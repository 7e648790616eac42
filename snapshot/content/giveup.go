package content

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
)

// Bounds of what a run leaves to the next one to move, in bytes of contents, see outworn.
const (
	leastMoved = 24 << 10 // however little the run has written
	mapShare   = 1024     // and this part of the map, however large it is
	newShare   = 3        // and this part of what is new
)

// usage is how much of one bundle a map uses.
type usage struct {
	blob blob.Ref
	size uint64
	used uint64
	end  uint64 // behind the last place counted
}

// use counts a content's place in its bundle. Entries come in the order in which a bundle was
// filled, so a place before the last one is a second use of equal bytes and counts once.
func use(all map[blob.Ref]*usage, r Ref) {
	u := all[r.bundle.blob]
	if u == nil {
		u = &usage{blob: r.bundle.blob, size: r.bundle.size}
		all[r.bundle.blob] = u
	}
	if r.bundle.offset >= u.end {
		u.used += r.length
		u.end = r.bundle.offset + r.length
	}
}

// sparse returns the bundles that the next run should give up.
func (a *Assembler) sparse() []blob.Ref {
	if !a.moving {
		return slices.DeleteFunc(slices.Clone(a.opt.GiveUp), func(ref blob.Ref) bool { return a.usage[ref] == nil })
	}
	return outworn(a.usage, uint64(max(0, a.stats.BundleBytes-a.stats.MovedBytes)))
}

// outworn returns, in ascending order, the bundles to give up after a run that laid so many new bytes
// into bundles: of those that the map uses less than half of, the emptiest.
//
// Where everything changes a little in every run, all bundles come to that point at about the same
// time, and a run that moved them all would store many times what changed: the contents again, and the
// nodes that name them. So only a part is moved, in proportion to what is new, but never less than lets
// waste come to an end. What has to wait only gets emptier, and so cheaper to move.
func outworn(all map[blob.Ref]*usage, written uint64) []blob.Ref {
	var sparse []*usage
	total := uint64(0)
	for _, u := range all {
		total += u.used
		if 2*u.used < u.size {
			sparse = append(sparse, u)
		}
	}
	slices.SortFunc(sparse, func(x, y *usage) int {
		return cmp.Or(cmp.Compare(x.used*y.size, y.used*x.size), x.blob.Compare(y.blob))
	})
	var refs []blob.Ref
	left := max(leastMoved, total/mapShare, written/newShare)
	for _, u := range sparse {
		if u.used <= left {
			left -= u.used
			refs = append(refs, u.blob)
		}
	}
	slices.SortFunc(refs, blob.Ref.Compare)
	return refs
}

// A content in a bundle given up is moved only in a run that has something new to bundle, since one
// that finds nothing changed shall store nothing. Until something new comes, such contents are
// leaving: their entries wait, and with them all that follow.

// move moves what is leaving, in the order of the map, and lets all that comes be moved at once.
func (a *Assembler) move(ctx context.Context) error {
	a.moving = true
	for i := range a.waiting {
		p := &a.waiting[i]
		for k := range p.contents {
			if !p.states[k].leaving {
				continue
			}
			p.states[k].leaving = false
			a.stats.Kept--
			if err := a.moveOne(ctx, p, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// moveOne bundles a content again that is in a bundle given up.
func (a *Assembler) moveOne(ctx context.Context, p *pending, k int) error {
	data, err := a.reader.ReadAll(ctx, p.contents[k])
	if err != nil {
		return fmt.Errorf("move out of a bundle that is given up: %w", err)
	}
	a.stats.Moved++
	a.stats.MovedBytes += int64(len(data))
	return a.put(ctx, p, k, data)
}

// stay ends an entry's wait for something new: what is leaving keeps its place for this run.
func (p *pending) stay() {
	for k := range p.states {
		p.states[k].leaving = false
	}
}
