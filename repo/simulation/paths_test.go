package simulation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
)

// paths are what the protocol does in answer to others, each of which occurs as well.
var paths = []string{
	"snapshot relies on others' packs", "snapshot inherits", "adopt", "backup was made before", "parts are joined",
	"deposit", "session ends without a snapshot", "inline pack", "pack", "segment", "checkpoint",
	"forget", "unforget", "unforget looks for what is left", "hold", "release",
	"prune", "a prune marks again", "retire", "repack", "drop", "orphans are dropped", "segments are merged", "inline pack is given up",
	"pack is revived by a snapshot", repo.ErrSuperseded.Error(), repo.ErrGone.Error(),
	"a pack rots", "damaged copy is marked", "packs are repaired", "damage is healed",
	"a cache of an older image", "late effect lands",
	"restore", "a read finds its pack elsewhere", "check", "a checkpoint is read",
}

// follow counts what entries bring about.
func (g *ghost) follow(e *journal.Stored) {
	saw := func(what string, yes bool) {
		if yes {
			g.world.counts[what]++
		}
	}
	some := func(p *journal.Packs) bool { return p != nil && !p.IsEmpty() }
	inline := func(p *journal.Packs) bool {
		return some(p) && slices.ContainsFunc(p.ToArray(), func(n uint32) bool { return g.state.Packs[n].Inline > 0 })
	}
	for _, s := range e.Snapshots {
		saw("snapshot", true)
		saw("snapshot relies on others' packs", s.Refs != nil)
		saw("snapshot inherits", len(s.Inherits) > 0)
		saw("adopt", len(s.Adopts) > 0)
	}
	saw("pack is revived by a snapshot", some(e.Revive) && e.Prune == nil)
	for _, a := range e.Add {
		saw("inline pack", a.Inline)
		saw("pack", !a.Inline)
	}
	saw("deposit", len(e.Add) > 0 && len(e.Snapshots) == 0 && e.Prune == nil)
	saw("segment", len(e.Segments) > 0)
	saw("checkpoint", e.Checkpoint != nil)
	saw("forget", len(e.Forget) > 0)
	saw("unforget", len(e.Unforget) > 0)
	for _, u := range e.Unforget {
		saw("unforget looks for what is left", u.Refs != nil)
	}
	saw("hold", len(e.Hold) > 0)
	saw("release", len(e.Release) > 0)
	saw("damaged copy is marked", len(e.Damaged) > 0)
	if p := e.Prune; p != nil {
		saw("retire", some(p.Retire))
		saw("inline pack is given up", inline(p.Retire))
		saw("drop", some(p.Drop))
		saw("orphans are dropped", len(p.Orphans) > 0)
		saw("segments are merged", len(p.Segments) > 0)
		saw("repack", len(e.Add) > 0)
		saw("pack is revived by a prune", some(e.Revive))
	}
}

// describeEntry says in a line what an entry does.
func describeEntry(e *journal.Stored) string {
	var does []string
	say := func(what string, n int) {
		if n > 0 {
			does = append(does, fmt.Sprintf("%s %d", what, n))
		}
	}
	packs := func(what string, p *journal.Packs) {
		if p != nil && !p.IsEmpty() {
			does = append(does, fmt.Sprintf("%s %v", what, p.ToArray()))
		}
	}
	say("adds packs:", len(e.Add))
	for _, g := range e.Segments {
		packs("adds segment of", g.Packs)
	}
	for _, s := range e.Snapshots {
		does = append(does, fmt.Sprintf("snapshot %.4s inherits %.4s adopts %.4s", s.ID, s.Inherits, s.Adopts))
		packs("refs", s.Refs)
	}
	for _, f := range e.Forget {
		does = append(does, fmt.Sprintf("forgets %.4s", f.ID))
	}
	for _, u := range e.Unforget {
		does = append(does, fmt.Sprintf("unforgets %.4s", u.ID))
		packs("refs", u.Refs)
	}
	say("holds", len(e.Hold))
	say("releases", len(e.Release))
	packs("revives", e.Revive)
	for _, c := range e.Damaged {
		does = append(does, fmt.Sprintf("damaged %v in %d", c.Blob, c.Pack))
	}
	if p := e.Prune; p != nil {
		does = append(does, fmt.Sprintf("prune %x of base %d", p.ID[:2], p.Base))
		packs("retires", p.Retire)
		packs("drops", p.Drop)
		say("orphans", len(p.Orphans))
		say("segments replaced", len(p.Segments))
	}
	if e.Checkpoint != nil {
		does = append(does, fmt.Sprintf("checkpoint %d", e.Checkpoint.Next))
	}
	return fmt.Sprintf("    entry %d: %s", e.Seq, strings.Join(does, ", "))
}
