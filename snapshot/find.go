package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/varve-dev/varve/repo/journal"
)

// latest is the name of the newest snapshot.
const latest = "latest"

// minPrefix is how many digits of an ID at least must be given to find a snapshot by it.
const minPrefix = 4

// loadParallel is how many manifests are read at the same time.
const loadParallel = 8

// Filter selects snapshots. Its zero value selects all; what is set must fit.
type Filter struct {
	Name     string
	Schedule string
	Cluster  string
	Volume   string // has a volume with this name
}

// List returns the live snapshots that fit, the one that was started first first. One whose manifest
// cannot be read is left out and named in the error; the others are returned beside it.
func List(ctx context.Context, r Repository, f Filter) ([]*Snapshot, error) {
	live := byAge(r)
	found := make([]*Snapshot, len(live))
	failed := make([]error, len(live))
	var group errgroup.Group
	group.SetLimit(loadParallel)
	for i, l := range live {
		group.Go(func() error {
			s, err := Load(ctx, r, l)
			fits := false
			if err == nil {
				fits, err = f.fits(ctx, s)
			}
			if fits {
				found[i] = s
			}
			failed[i] = err
			return nil
		})
	}
	_ = group.Wait() // its functions return nil: one damaged manifest must not hide the others
	return slices.DeleteFunc(found, func(s *Snapshot) bool { return s == nil }), errors.Join(failed...)
}

func (f Filter) fits(ctx context.Context, s *Snapshot) (bool, error) {
	if (f.Name != "" && f.Name != s.Name) || (f.Schedule != "" && f.Schedule != s.Schedule) ||
		(f.Cluster != "" && f.Cluster != s.Cluster) {
		return false, nil
	}
	if f.Volume == "" {
		return true, nil
	}
	_, err := s.Volume(ctx, f.Volume)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// byAge returns the live snapshots, oldest first. Parts of snapshots that are still being made are
// none themselves.
func byAge(r Repository) []journal.Live {
	live := slices.DeleteFunc(slices.Clone(r.Snapshots()), func(l journal.Live) bool { return l.Part != "" })
	slices.SortStableFunc(live, func(a, b journal.Live) int { return cmp.Compare(a.Time, b.Time) })
	return live
}

// Find returns the snapshot that a person means: by its ID or the beginning of it, at least four
// digits; by its name, which goes before the beginning of an ID; or the newest one, "latest", or that
// of a schedule, "latest:SCHEDULE". The error is [ErrNotFound] or [ErrAmbiguous] if there is not
// exactly one.
func Find(ctx context.Context, r Repository, text string) (*Snapshot, error) {
	live := byAge(r)
	if len(live) == 0 {
		return nil, fmt.Errorf("snapshot %q: %w: the repository has no snapshots", text, ErrNotFound)
	}
	if word, schedule, _ := strings.Cut(text, ":"); word == latest {
		return newest(ctx, r, schedule)
	}
	for _, l := range live {
		if l.ID.String() == text {
			return Load(ctx, r, l)
		}
	}
	all, unreadable := List(ctx, r, Filter{})
	fits := choose(all, func(s *Snapshot) bool { return s.Name == text })
	if len(fits) == 0 && len(text) >= minPrefix {
		fits = choose(all, func(s *Snapshot) bool { return strings.HasPrefix(s.ID.String(), text) })
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) > 1:
		return nil, fmt.Errorf("snapshot %q: %w: it may be any of %s", text, ErrAmbiguous, describe(fits))
	case unreadable != nil:
		return nil, fmt.Errorf("snapshot %q: %w among those that can be read: %w", text, ErrNotFound, unreadable)
	}
	return nil, fmt.Errorf("snapshot %q: %w: the newest is %s", text, ErrNotFound, describe(all[len(all)-1:]))
}

// newest reads manifests from the newest one back, so that usually it reads one.
func newest(ctx context.Context, r Repository, schedule string) (*Snapshot, error) {
	live := byAge(r)
	for _, l := range slices.Backward(live) {
		s, err := Load(ctx, r, l)
		if err != nil {
			return nil, err // an older one instead would be a silent surprise
		}
		if schedule == "" || s.Schedule == schedule {
			return s, nil
		}
	}
	return nil, fmt.Errorf("snapshot of schedule %q: %w", schedule, ErrNotFound)
}

func choose(all []*Snapshot, fits func(*Snapshot) bool) (out []*Snapshot) {
	for _, s := range all {
		if fits(s) {
			out = append(out, s)
		}
	}
	return out
}

// describe names a few snapshots so that a person can choose.
func describe(all []*Snapshot) string {
	const most = 5
	var words []string
	for _, s := range all[max(0, len(all)-most):] {
		words = append(words, fmt.Sprintf("%s (%s, %s)", s.ID.String()[:12], s.Name, s.Started.Format("2006-01-02 15:04:05Z07:00")))
	}
	if len(all) > most {
		words = append(words, fmt.Sprintf("%d older ones", len(all)-most))
	}
	return strings.Join(words, ", ")
}
