package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// end looks, without any faults, at what all this has come to.
func (w *world) end() {
	ctx := context.Background()
	w.drawFrom(rand.NewChaCha8([32]byte{1})) // that of no process before
	for held := w.store.Held(); len(held) > 0; held = w.store.Held() {
		_ = w.store.Release(w.schedule.IntN(len(held))) // whatever becomes of it
		w.ghost.observe()
	}
	var mu sync.Mutex
	watched := w.store.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Delete || op.Kind == mem.Create && strings.HasPrefix(op.Name, journal.Folder) {
			mu.Lock()
			defer mu.Unlock()
			w.ghost.observe() // what came before
		}
		return mem.Fault{}
	})
	r, err := repo.Open(ctx, watched, options(drawLimits(w.schedule)))
	for _, step := range []func(context.Context, *repo.Repository) error{w.restoreAll, w.checkAll, w.work, w.pruneAll, w.restoreAll, w.checkAll} {
		if err != nil || w.failed() {
			break
		}
		err = step(ctx, r)
		w.ghost.observe()
	}
	if err != nil {
		w.fail("at the end: %v", err)
	}
}

// restoreAll restores every live snapshot.
func (w *world) restoreAll(ctx context.Context, r *repo.Repository) error {
	for _, l := range r.Snapshots() {
		err := restore(ctx, nil, r, l.Manifest, w.ghost.pictureOf(l.Manifest), l.ID)
		if err != nil && !(errors.Is(err, repo.ErrDamaged) && w.ghost.mayBeGone(l)) {
			return fmt.Errorf("restore %v: %w", l.ID, err)
		}
	}
	return nil
}

func (w *world) checkAll(ctx context.Context, r *repo.Repository) error {
	report, err := r.Check(ctx, repo.CheckOptions{ReadData: true})
	if err == nil && len(report.Findings) > 0 && !w.ghost.wasDamaged() {
		err = fmt.Errorf("a check finds %+v", report.Findings)
	}
	return err
}

// work does what everybody does: it backs up, holds, forgets and brings back.
func (w *world) work(ctx context.Context, r *repo.Repository) (err error) {
	session := r.NewWriter(ctx, repo.WriterOptions{})
	defer func() { err = errors.Join(err, session.Close()) }()
	id := journal.NewSnapshotID()
	manifest, s, _, err := write(ctx, nil, session, picture{15, 6, 9}, id, nil)
	if err != nil {
		return err
	}
	w.ghost.announce(s, manifest)
	w.ghost.release(id)
	if _, err := session.Commit(ctx, repo.Commit{ID: id, Manifest: manifest, UID: "the last"}); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return r.Hold(ctx, id) },
		func() error { return r.Release(ctx, id) },
		func() error {
			_, err := r.Forget(ctx, func([]journal.Live) []journal.Forget { return []journal.Forget{{ID: id}} })
			return err
		},
		func() error { return r.Unforget(ctx, id) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// pruneAll prunes twice without grace, after which nothing must be left that no live snapshot needs.
func (w *world) pruneAll(ctx context.Context, r *repo.Repository) error {
	for range 2 {
		report, err := r.Prune(ctx, repo.PruneOptions{MaxDrop: 1})
		if errors.Is(err, repo.ErrDamaged) && w.ghost.wasDamaged() {
			w.count("prune refuses what is damaged")
			return nil
		}
		if err != nil {
			return err
		}
		w.ghost.observe()
		if report.Blind && w.ghost.wasDamaged() {
			w.count("prune drops nothing while it is blind")
			return nil
		}
	}
	return w.ghost.nothingLeft(ctx)
}

// nothingLeft compares what lies in the bucket with what is needed.
func (g *ghost) nothingLeft(ctx context.Context) error {
	needed := map[blob.Ref]bool{}
	for _, l := range g.state.Snapshots {
		for _, ref := range g.known[l.Manifest].blobs {
			needed[ref] = true
		}
	}
	objects := map[string]bool{}
	for number, p := range g.state.Packs {
		if p.Status == journal.DroppedPack {
			continue
		}
		if !slices.ContainsFunc(g.tables[p.Name], func(row blob.Row) bool { return needed[row.Ref()] }) {
			return fmt.Errorf("pack %d holds nothing that is needed and is still there", number)
		}
		name, _ := p.Object()
		objects[name] = true
	}
	for _, s := range g.state.Segments {
		objects[journal.SegmentName(s.Name)] = true
	}
	for info, err := range g.world.store.List(ctx, "", "") {
		if err != nil {
			return err
		}
		counts := strings.HasPrefix(info.Name, journal.PackFolder) || strings.HasPrefix(info.Name, journal.SegmentFolder)
		if counts && !objects[info.Name] {
			return fmt.Errorf("%s is left, which nothing needs", info.Name)
		}
	}
	return nil
}
