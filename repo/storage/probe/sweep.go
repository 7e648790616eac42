package probe

import (
	"context"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	sweepTime  = time.Minute // for removing all, after an interrupt too
	maxRefused = 16          // after so many refusals no more deletes are tried
	leftAge    = time.Hour   // of what an earlier run left: no probe takes so long
)

// sweep removes what this run and killed ones have stored, and returns what is left of this one. The end
// of ctx does not stop it.
func (p *prober) sweep(ctx context.Context) Left {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTime)
	defer cancel()
	p.remove(ctx)
	left := map[string]bool{}
	if !p.nothing { // else no create succeeded, and what cannot be deleted is not there
		left = maps.Clone(p.made)
	}
	for info, err := range p.bucket.List(ctx, Prefix, "") {
		if err != nil {
			break // then those in p.made are what is known
		}
		run, ours := runOf(info.Name)
		switch {
		case !ours:
		case run == p.folder:
			left[info.Name] = true // its delete lied
		case !p.stuck && info.ModTime.Before(p.clockOfStore.Add(-leftAge)):
			_ = p.bucket.Delete(ctx, info.Name) // if it stays, the next run will try again
		}
	}
	if len(left) == 0 {
		return Left{}
	}
	return Left{Folder: p.folder, Objects: len(left)}
}

// IsOurs reports whether an object was stored by a probe. Those that a killed or less privileged one has left
// do no harm, and no repository looks at them.
func IsOurs(name string) bool {
	_, ours := runOf(name)
	return ours
}

// runOf returns the folder of the run that stored an object. It is strict, since what it takes for ours is
// deleted, and a store may list what nobody asked for.
func runOf(name string) (folder string, ours bool) {
	digits, inside, ok := strings.Cut(strings.TrimPrefix(name, Prefix), "/")
	random, err := hex.DecodeString(digits)
	folder = Prefix + digits + "/"
	return folder, ok && err == nil && len(random) == randomBytes && name == folder+inside
}

// remove deletes all objects of this run as far as that is allowed, and the folders in which they were.
func (p *prober) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTime)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(atOnce)
	var refused atomic.Int32
	for _, name := range slices.Sorted(maps.Keys(p.made)) {
		group.Go(func() error {
			if refused.Load() < maxRefused && p.removeOne(ctx, name) != nil {
				refused.Add(1)
			}
			return nil
		})
	}
	_ = group.Wait() // it returns no error
	if b, ok := driver(p.bucket).(foldered); ok {
		_ = b.RemoveFolder(ctx, strings.TrimSuffix(p.folder, "/")) // an empty one is no harm
	}
}

// A foldered bucket has folders that stay when the objects in them are deleted.
type foldered interface {
	RemoveFolder(ctx context.Context, name string) error
}

// removeOne removes an object and forgets it.
func (p *prober) removeOne(ctx context.Context, name string) error {
	if err := p.bucket.Delete(ctx, name); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.made, name)
	return nil
}
