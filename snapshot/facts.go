package snapshot

import (
	"context"

	"github.com/varve-dev/varve/repo/journal"
)

// Facts are what retention knows of snapshots. All of it but whether they are held stands in their
// manifests, which never change.
type Facts map[ID]Fact

// ReadFacts reads the manifests of all live snapshots. Those that cannot be read are left out and named
// in the error; the others are returned beside it.
func ReadFacts(ctx context.Context, r Repository) (Facts, error) {
	all, damaged := List(ctx, r, Filter{})
	facts := make(Facts, len(all))
	for _, s := range all {
		facts[s.ID] = FactOf(s.Manifest)
	}
	return facts, damaged
}

// FactOf returns what a manifest says of its snapshot.
func FactOf(m Manifest) Fact {
	return Fact{ID: m.ID, Name: m.Name, Group: GroupOf(m), Started: m.Started, Expires: m.Expires, Complete: m.Complete}
}

// Of returns the facts of those snapshots that are live and known. One that is not, because its manifest
// cannot be read or it was made only now, counts for no rule and is not decided on: it stays.
func (f Facts) Of(live []journal.Live) (known []Fact) {
	for _, l := range live {
		if fact, ok := f[l.ID]; ok && l.Part == "" {
			fact.Held = l.Held
			known = append(known, fact)
		}
	}
	return known
}
