package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

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

// Find opens the snapshot that a person means, as [Locate] finds it.
func Find(ctx context.Context, r Repository, text string) (*Snapshot, error) {
	l, err := Locate(ctx, r, text)
	if err != nil {
		return nil, err
	}
	return Load(ctx, r, l)
}

// Locate returns the live snapshot that a person means: by its ID or the beginning of it, at least four
// digits; by its name, which goes before the beginning of an ID; or the newest one, "latest", or that
// of a schedule, "latest:SCHEDULE". The error is [ErrNotFound] or [ErrAmbiguous] if there is not
// exactly one. By its ID a snapshot is found even if its manifest cannot be read.
func Locate(ctx context.Context, r Repository, text string) (journal.Live, error) {
	live := byAge(r)
	if len(live) == 0 {
		return journal.Live{}, fmt.Errorf("snapshot %q: %w: the repository has no snapshots", text, ErrNotFound)
	}
	if word, schedule, _ := strings.Cut(text, ":"); word == latest {
		return newest(ctx, r, schedule)
	}
	for _, l := range live {
		if l.ID.String() == text {
			return l, nil
		}
	}
	all, unreadable := List(ctx, r, Filter{})
	names := map[ID]string{}
	for _, s := range all {
		names[s.ID] = s.Name
	}
	fits := choose(live, func(l journal.Live) bool { return text != "" && names[l.ID] == text })
	if len(fits) == 0 && len(text) >= minPrefix {
		fits = choose(live, func(l journal.Live) bool { return strings.HasPrefix(l.ID.String(), text) })
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(fits) > 1:
		return journal.Live{}, fmt.Errorf("snapshot %q: %w: it may be any of %s", text, ErrAmbiguous, describe(fits, names))
	case unreadable != nil:
		return journal.Live{}, fmt.Errorf("snapshot %q: %w among those that can be read: %w", text, ErrNotFound, unreadable)
	}
	return journal.Live{}, fmt.Errorf("snapshot %q: %w: the newest is %s", text, ErrNotFound, describe(live[len(live)-1:], names))
}

// newest reads manifests from the newest one back, so that usually it reads one.
func newest(ctx context.Context, r Repository, schedule string) (journal.Live, error) {
	live := byAge(r)
	for _, l := range slices.Backward(live) {
		s, err := Load(ctx, r, l)
		if err != nil {
			return journal.Live{}, err // an older one instead would be a silent surprise
		}
		if schedule == "" || s.Schedule == schedule {
			return l, nil
		}
	}
	return journal.Live{}, fmt.Errorf("snapshot of schedule %q: %w", schedule, ErrNotFound)
}

func choose(live []journal.Live, fits func(journal.Live) bool) (out []journal.Live) {
	for _, l := range live {
		if fits(l) {
			out = append(out, l)
		}
	}
	return out
}

// describe names a few snapshots so that a person can choose.
func describe(all []journal.Live, names map[ID]string) string {
	const most = 5
	var words []string
	for _, l := range all[max(0, len(all)-most):] {
		started := time.UnixMilli(l.Time).UTC().Format("2006-01-02 15:04:05Z07:00")
		words = append(words, fmt.Sprintf("%s (%s, %s)", l.ID.String()[:12], cmp.Or(names[l.ID], "unreadable"), started))
	}
	if len(all) > most {
		words = append(words, fmt.Sprintf("%d older ones", len(all)-most))
	}
	return strings.Join(words, ", ")
}
