package snapshot

import (
	"context"
	"errors"
	"slices"
)

// maxCandidates bounds how many manifests are read in search of a parent.
const maxCandidates = 32

// ParentQuery says what a new run is about to back up.
type ParentQuery struct {
	Cluster  string
	Schedule string   // empty: a single run
	Name     string   // of the run
	Objects  bool     // it backs up objects
	Volumes  []string // names of the volumes that it backs up
}

// Parent returns the snapshot on which a new run should build, or nil if there is none. What the run
// finds unchanged there it takes over unread, so the parent must be of the same cluster; otherwise it
// only decides how much is taken over, never what is right.
//
// Of the snapshots of the cluster, among the newest 32 of the repository, it is the one that
//
//  1. has the most of what the run backs up: the objects, and each volume by name;
//  2. then, is complete; what an incomplete one has is as good, or one file that can never be read
//     would make every run a first one;
//  3. then, is of the same schedule or, for a single run, of the same name, because that is likely to
//     have selected the same;
//  4. then, is the newest.
//
// A snapshot that cannot be read is passed over: a run without a parent is slow, not wrong.
func Parent(ctx context.Context, r Repository, q ParentQuery) (*Snapshot, error) {
	var best *Snapshot
	var most rank
	live := byAge(r)
	for _, l := range slices.Backward(live[max(0, len(live)-maxCandidates):]) {
		s, err := Load(ctx, r, l)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil || s.Cluster != q.Cluster {
			continue
		}
		k, err := q.rank(ctx, s)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil || k.covered == 0 {
			continue
		}
		if best == nil || most.less(k) {
			best, most = s, k
		}
		if most == q.perfect() {
			break
		}
	}
	return best, nil
}

// rank is how well a snapshot serves as a parent.
type rank struct {
	covered  int // maps of the run that it has, too
	complete bool
	kin      bool
}

func (k rank) less(o rank) bool {
	switch {
	case k.covered != o.covered:
		return k.covered < o.covered
	case k.complete != o.complete:
		return o.complete
	}
	return !k.kin && o.kin
}

func (q ParentQuery) perfect() rank {
	k := rank{covered: len(q.Volumes), complete: true, kin: true}
	if q.Objects {
		k.covered++
	}
	return k
}

func (q ParentQuery) rank(ctx context.Context, s *Snapshot) (k rank, err error) {
	k.complete = s.Complete
	k.kin = s.Schedule == q.Schedule && (q.Schedule != "" || s.Name == q.Name)
	if q.Objects && !s.Manifest.Objects.Empty() {
		k.covered++
	}
	for _, name := range q.Volumes {
		_, err := s.Volume(ctx, name)
		if err == nil {
			k.covered++
		} else if !errors.Is(err, ErrNotFound) {
			return k, err
		}
	}
	return k, nil
}
