package repo

import (
	"context"
	"encoding/binary"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// verdict is what a walk has found beneath a manifest. That nothing is lost holds until the next damage is
// recorded: prunes take nothing from a live snapshot. That something is lost holds until one blob of it is
// there again, whatever else is lost.
type verdict struct {
	harmed uint64   // State.Harmed, when the walk began
	lost   blob.Ref // zero: nothing is
}

// holds reports whether a verdict is still true.
func (r *Repository) holds(v verdict, harmed uint64) bool {
	if v.lost == (blob.Ref{}) {
		return v.harmed == harmed
	}
	return len(r.copies(v.lost)) == 0
}

// Damaged tells which manifests of live snapshots have lost something that they or anything beneath them need.
// The local cache remembers the answers, so that only snapshots are walked, all together, that are new or that
// damage or healing since may have touched; and none at all as long as no damage is recorded.
func (r *Repository) Damaged(ctx context.Context, manifests ...blob.Ref) (map[blob.Ref]bool, error) {
	var harmed uint64
	known := false
	r.journal.View(func(s *journal.State) { harmed, known = s.Harmed, len(s.Damaged) > 0 })
	if !known {
		return nil, nil
	}
	verdicts := decodeVerdicts(r.cache.Note(verdictsNote))
	var open []blob.Ref
	for _, ref := range manifests {
		if v, known := verdicts[ref.ID]; !known || !r.holds(v, harmed) {
			open = append(open, ref)
		}
	}
	if len(open) > 0 {
		losses, err := r.Losses(ctx, open...)
		if err != nil {
			return nil, err
		}
		for _, ref := range open {
			lost, _ := losses.one(ref)
			verdicts[ref.ID] = verdict{harmed, lost}
		}
	}
	live := r.liveManifests() // what a walk misses of a snapshot that was forgotten meanwhile may have been pruned
	if len(open) > 0 {
		r.cache.SetNote(verdictsNote, encodeVerdicts(verdicts, live))
	}
	damaged := map[blob.Ref]bool{}
	for _, ref := range manifests {
		if live[ref.ID] && verdicts[ref.ID].lost != (blob.Ref{}) {
			damaged[ref] = true
		}
	}
	return damaged, nil
}

// liveManifests are those of the snapshots that are live now.
func (r *Repository) liveManifests() map[blob.ID]bool {
	live := map[blob.ID]bool{}
	r.journal.View(func(s *journal.State) {
		for _, l := range s.Snapshots {
			live[l.Manifest] = true
		}
	})
	return live
}

// Verdicts are noted in the local cache:
//
//	manifest (32) │ harmed (8, big-endian) │ class of what is lost (1) │ ID of it (32)    for each live snapshot
const (
	verdictsNote = "losses"
	idSize       = len(blob.ID{})
	verdictSize  = idSize + 8 + 1 + idSize
)

func encodeVerdicts(all map[blob.ID]verdict, live map[blob.ID]bool) []byte {
	body := make([]byte, 0, len(all)*verdictSize)
	for manifest, v := range all {
		if !live[manifest] {
			continue
		}
		body = append(body, manifest[:]...)
		body = binary.BigEndian.AppendUint64(body, v.harmed)
		body = append(body, byte(v.lost.Class))
		body = append(body, v.lost.ID[:]...)
	}
	return body
}

// decodeVerdicts knows nothing of what encodeVerdicts did not write.
func decodeVerdicts(body []byte) map[blob.ID]verdict {
	all := make(map[blob.ID]verdict, len(body)/verdictSize)
	for ; len(body) >= verdictSize; body = body[verdictSize:] {
		rest := body[idSize:]
		all[blob.ID(body[:idSize])] = verdict{harmed: binary.BigEndian.Uint64(rest),
			lost: blob.Ref{Class: blob.Class(rest[8]), ID: blob.ID(rest[9:][:idSize])}}
	}
	return all
}
