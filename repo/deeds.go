package repo

import "github.com/varve-dev/varve/repo/journal"

// deeds are what the entries of one prune have done, over all its markings. A later marking finds it done, and
// its report tells of it all the same.
type deeds struct {
	// By number. As long as these packs are what the prune has made of them, they are in that line of the report.
	retired, repacked, revived, copies *journal.Packs

	dropped, orphans   Amount // of which the state knows no sizes any more
	merged, mergedInto int
}

func newDeeds() *deeds {
	return &deeds{retired: journal.NewPacks(), repacked: journal.NewPacks(), revived: journal.NewPacks(), copies: journal.NewPacks()}
}

// note takes down an entry of this prune that stands, behind a state of so many packs.
func (p *pruning) note(e journal.Entry, packs int) {
	for n := range journal.Members(e.Prune.Retire) {
		if p.plan.retire.Contains(n) {
			p.done.retired.Add(n)
		} else {
			p.done.repacked.Add(n)
		}
	}
	for n := range journal.Members(e.Revive) {
		if p.plan.revive.Contains(n) {
			p.done.revived.Add(n)
		}
	}
	p.done.copies.AddRange(uint64(packs), uint64(packs+len(e.Add)))
	for n := range journal.Members(e.Prune.Drop) {
		p.done.dropped.add(p.state.Packs[n].Size)
	}
	for _, name := range e.Prune.Orphans {
		p.done.orphans.add(p.bucket.packs[name].Size + p.bucket.segments[name].Size)
	}
	if len(e.Prune.Segments) > 0 {
		p.done.merged += len(e.Prune.Segments)
		p.done.mergedInto += len(e.Segments)
	}
}

// settled puts a pack that stays as it is into its line of the report.
func (p *pruning) settled(number uint32, pk journal.Pack) {
	line := &p.report.Kept
	switch waits := pk.Status == journal.RetiredPack; {
	case waits && p.done.repacked.Contains(number):
		line = &p.report.Repacked
	case waits && p.done.retired.Contains(number):
		line = &p.report.Retired
	case waits:
		line = &p.report.Waiting
	case p.done.revived.Contains(number):
		line = &p.report.Revived
	case p.done.copies.Contains(number):
		line = &p.report.Copies
	}
	line.add(pk.Size)
}
