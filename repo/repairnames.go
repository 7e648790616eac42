package repo

import (
	"context"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// naming finds out what lies in packs whose own tables are lost. The index alone does not do: it keeps no
// whole names, and only by its whole name can a blob be opened. Snapshots know the names, but a node that is
// lost hides those beneath it, and a new snapshot may need what none did before. So each pack asks anew, and
// the walk goes on with what is new and with the nodes that were lost.
type naming struct {
	walk   *lossWalk
	rows   map[uint32][]blob.Row // of suspects, by pack number
	next   uint64                // entries before it are taken into account
	hidden bool                  // nodes were lost, so that there may be blobs nobody knows of
}

// newNaming prepares to name blobs in some packs.
func newNaming(r *Repository, suspects []numbered) *naming {
	n := &naming{rows: map[uint32][]blob.Row{}}
	suspected := map[uint32]bool{}
	for _, p := range suspects {
		suspected[p.number] = true
	}
	known := map[journal.Copy]bool{}
	n.walk = r.newLossWalk(func(ref blob.Ref) {
		for _, f := range r.everyCopy(ref) {
			c := journal.Copy{Blob: ref, Pack: f.number}
			if suspected[f.number] && !known[c] {
				known[c] = true
				n.rows[f.number] = append(n.rows[f.number], f.row)
			}
		}
	})
	return n
}

// rowsOf returns what is known to lie in a pack by now.
func (n *naming) rowsOf(ctx context.Context, pack uint32) ([]blob.Row, error) {
	if err := n.update(ctx); err != nil {
		return nil, err
	}
	return n.rows[pack], nil
}

// update names all that snapshots reach by now, also forgotten ones, which may come back.
func (n *naming) update(ctx context.Context) error {
	n.next, _ = n.walk.repo.journal.Head()
	var lost []blob.Ref
	for ref := range n.walk.gone {
		if ref.Class.HasLinks() {
			lost = append(lost, ref)
		}
	}
	slices.SortFunc(lost, blob.Ref.Compare)
	for _, ref := range lost {
		delete(n.walk.gone, ref)
		n.walk.met.remove(ref)
	}
	for _, ref := range append(n.walk.repo.manifests(), lost...) {
		if err := n.walk.from(ctx, ref); err != nil {
			return err
		}
	}
	n.hidden = false
	for ref := range n.walk.gone {
		n.hidden = n.hidden || ref.Class.HasLinks()
	}
	return nil
}

// overtaken reports whether more may be known at a state than was when the naming was updated: by a new
// snapshot, or by a new pack if it holds a node that was lost.
func (n *naming) overtaken(s *journal.State) bool {
	for _, l := range s.Snapshots {
		if l.Entry >= n.next {
			return true
		}
	}
	return n.hidden && len(s.Packs) > 0 && s.Packs[len(s.Packs)-1].Entry >= n.next
}
