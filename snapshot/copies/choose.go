package copies

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
)

// ErrSelection means that a selection contradicts itself or says nothing.
var ErrSelection = errors.New("no snapshots are selected")

// Selection is which snapshots of the source to copy. One field is set.
type Selection struct {
	Snapshots []string // as people name them, see [snapshot.Find]
	All       bool
	LatestPer Group // the newest of each group
}

// Group is what snapshots are told apart by.
type Group string

// The groups.
const (
	PerCluster  Group = "cluster"
	PerSchedule Group = "schedule" // in each cluster
	PerName     Group = "name"     // in each cluster
)

// Validate reports with [ErrSelection] why a selection cannot be used.
func (s Selection) Validate() error {
	set := 0
	for _, is := range []bool{len(s.Snapshots) > 0, s.All, s.LatestPer != ""} {
		if is {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("%w: name some, or say all, or say the latest of each of something", ErrSelection)
	}
	if s.LatestPer != "" && !slices.Contains([]Group{PerCluster, PerSchedule, PerName}, s.LatestPer) {
		return fmt.Errorf("%w: there is no latest of each %q", ErrSelection, s.LatestPer)
	}
	return nil
}

// choose returns the selected snapshots, oldest first.
func (s Selection) choose(ctx context.Context, from snapshot.Repository) (chosen []journal.Live, err error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	chosen = slices.DeleteFunc(slices.Clone(from.Snapshots()), func(l journal.Live) bool { return l.Part != "" })
	slices.SortStableFunc(chosen, func(a, b journal.Live) int { return cmp.Compare(a.Time, b.Time) })
	switch {
	case s.All:
		return chosen, nil
	case s.LatestPer != "":
		return s.LatestPer.newest(ctx, from, chosen)
	}
	wanted := map[snapshot.ID]bool{}
	for _, text := range s.Snapshots {
		found, err := snapshot.Find(ctx, from, text)
		if err != nil {
			return nil, err
		}
		wanted[found.ID] = true
	}
	return slices.DeleteFunc(chosen, func(l journal.Live) bool { return !wanted[l.ID] }), nil
}

// newest keeps the newest of each group. A snapshot that cannot be read is kept as well: that it fails
// says why.
func (g Group) newest(ctx context.Context, from snapshot.Repository, all []journal.Live) (chosen []journal.Live, err error) {
	seen := map[[2]string]bool{}
	for _, live := range slices.Backward(all) {
		s, err := snapshot.Load(ctx, from, live)
		if err != nil && !isDamage(err) {
			return nil, err
		}
		if err == nil {
			key := [2]string{s.Cluster}
			switch g {
			case PerCluster:
			case PerSchedule:
				key[1] = s.Schedule
			case PerName:
				key[1] = s.Name
			}
			if seen[key] {
				continue
			}
			seen[key] = true
		}
		chosen = append(chosen, live)
	}
	slices.Reverse(chosen)
	return chosen, nil
}
