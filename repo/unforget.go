package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// errMoved means that what was found before a commit does not hold at the place of its entry.
var errMoved = errors.New("the packs it needs have changed again and again")

// maxUnforgets bounds how often what a snapshot needs is looked for anew. Each time a prune has dropped
// some of it meanwhile, or a damage was found, so that soon it is either there or gone.
const maxUnforgets = 5

// Unforget makes forgotten snapshots live again, all by one entry. As long as no prune has marked
// without a snapshot, that costs nothing. After that everything it reaches is looked for: what is in
// live packs is relied on, what is only in retired packs revives them, and if anything is gone the error
// is [ErrGone] and names it, for one snapshot after the other. One that is live stays so. A snapshot
// that the journal does not know, or not any more, is [ErrNoSnapshot].
func (r *Repository) Unforget(ctx context.Context, ids ...journal.SnapshotID) error {
	ids = distinct(ids)
	for attempt := 1; ; attempt++ {
		found, err := r.findNeeded(ctx, ids)
		if err == nil {
			err = r.change(ctx, func(s *journal.State) (journal.Entry, error) { return comeBack(s, ids, found) })
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errMoved) || attempt == maxUnforgets {
			return fmt.Errorf("bring snapshots back: %w", err)
		}
	}
}

// needed are the packs that hold all that a snapshot reaches, chosen when these copies were known to be
// damaged.
type needed struct {
	packs   *journal.Packs
	damaged []journal.Copy
}

// comeBack is the entry by which snapshots are live again, valid at exactly this state.
func comeBack(s *journal.State, ids []journal.SnapshotID, found map[journal.SnapshotID]needed) (e journal.Entry, err error) {
	revive := journal.NewPacks()
	for _, id := range ids {
		if _, live := s.Snapshot(id); live {
			continue
		}
		if _, ok := forgottenSnapshot(s, id); !ok {
			return e, fmt.Errorf("snapshot %v: %w", id, ErrNoSnapshot)
		}
		if s.CanAdopt(id) {
			e.Unforget = append(e.Unforget, journal.Unforget{ID: id})
			continue
		}
		need, ok := found[id]
		if !ok || !slices.Equal(need.damaged, s.Damaged) {
			return e, fmt.Errorf("snapshot %v: %w", id, errMoved)
		}
		for _, number := range need.packs.ToArray() {
			switch s.Packs[number].Status {
			case journal.RetiredPack:
				revive.Add(number)
			case journal.DroppedPack:
				return e, fmt.Errorf("snapshot %v: %w", id, errMoved)
			}
		}
		e.Unforget = append(e.Unforget, journal.Unforget{ID: id, Refs: need.packs})
	}
	if len(e.Unforget) == 0 {
		return e, errSettled
	}
	if !revive.IsEmpty() {
		e.Revive = revive
	}
	return e, nil
}

// findNeeded finds the packs of those snapshots without which a prune has marked.
func (r *Repository) findNeeded(ctx context.Context, ids []journal.SnapshotID) (map[journal.SnapshotID]needed, error) {
	if err := r.Sync(ctx); err != nil {
		return nil, err
	}
	found := map[journal.SnapshotID]needed{}
	for _, id := range ids {
		var walk bool
		var manifest blob.ID
		var need needed
		r.journal.View(func(s *journal.State) {
			f, ok := forgottenSnapshot(s, id)
			walk, manifest, need.damaged = ok && !s.CanAdopt(id), f.Manifest, slices.Clone(s.Damaged)
		})
		if !walk {
			continue
		}
		var missing string
		var err error
		need.packs, missing, err = r.packsBeneath(ctx, manifest)
		if err == nil && missing != "" {
			err = fmt.Errorf("%w: the grace period is over, and a prune has deleted, or damage has taken, what it needs: %s", ErrGone, missing)
		}
		if err != nil {
			return nil, fmt.Errorf("snapshot %v: %w", id, err)
		}
		found[id] = need
	}
	return found, nil
}

// gathering is the packs that hold what a walk has met.
type gathering struct {
	repo  *Repository
	packs *journal.Packs
	gone  []string // blobs that are nowhere, by name; of many only the first
	more  int      // of those without a name
}

// packsBeneath walks everything beneath a manifest and gathers the packs that it needs, or names what is in none. Nodes
// are opened as whole, so that a snapshot which nobody could read does not come back.
func (r *Repository) packsBeneath(ctx context.Context, manifest blob.ID) (packs *journal.Packs, missing string, err error) {
	g := gathering{repo: r, packs: journal.NewPacks()}
	beneath := walk{met: r.newMarks(), enter: g.enter}
	if err := beneath.from(ctx, blob.Ref{Class: blob.Manifest, ID: manifest}); err != nil {
		return nil, "", err
	}
	missing = strings.Join(g.gone, ", ")
	if g.more > 0 {
		missing = fmt.Sprintf("%s and %d more blobs", missing, g.more)
	}
	return g.packs, missing, nil
}

func (g *gathering) enter(ctx context.Context, ref blob.Ref, _ []index.Location) ([]blob.Ref, error) {
	if !g.choose(ref) {
		g.miss(ref)
		return nil, nil
	}
	if !ref.Class.HasLinks() {
		return nil, nil
	}
	n, err := g.repo.ReadNode(ctx, ref)
	if errors.Is(err, ErrDamaged) {
		g.miss(ref)
		return nil, nil
	}
	return n.Links, err
}

// choose takes a pack with a good copy of a blob: a live one or else a retired one, and of these one that
// is needed anyway.
func (g *gathering) choose(ref blob.Ref) bool {
	copies := g.repo.copies(ref) // live ones first
	if len(copies) == 0 {
		return false
	}
	chosen := copies[0]
	for _, c := range copies {
		if c.pack.Status == chosen.pack.Status && g.packs.Contains(c.number) {
			return true
		}
	}
	g.packs.Add(chosen.number)
	return true
}

// miss notes a blob that is nowhere.
func (g *gathering) miss(ref blob.Ref) {
	const most = 3
	if len(g.gone) == most {
		g.more++
		return
	}
	g.gone = append(g.gone, ref.String())
}
