package repo

import (
	"cmp"

	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
)

// Limits say how much comes together before a client makes another object of it. A zero field means
// the default, which suits every repository; small limits lead a small repository through all that a
// large one goes through. They bind nobody else: clients with different limits share a repository.
type Limits struct {
	Pack       int    // bytes at which a pack is complete; 0: [pack.Target]
	Inline     int    // bytes up to which a session's last pack stands in its entry; 0, and at most: [journal.MaxInline]
	Deposit    int    // stored packs that a session deposits together; 0: 16, which is half a gigabyte
	Loose      int    // rows of pack tables outside of segments before a commit gathers them; 0: 8192
	Checkpoint uint64 // entries that a reader without a cache folds besides a checkpoint; 0: 1000
}

// The defaults that have no other name.
const (
	// depositEvery is how many stored packs make a deposit: half a gigabyte.
	depositEvery = 16

	// maxLoose is how many rows stay in journal entries and checkpoints before a commit gathers them in
	// a segment: it bounds the size of the state and the memory of every reader.
	maxLoose = 8192

	// checkpointEvery is how many entries a reader without a cache folds at most, besides a checkpoint.
	checkpointEvery = 1000
)

// orDefaults fills in the fields that are zero.
func (l Limits) orDefaults() Limits {
	return Limits{
		Pack:       cmp.Or(l.Pack, pack.Target),
		Inline:     min(cmp.Or(l.Inline, journal.MaxInline), journal.MaxInline),
		Deposit:    cmp.Or(l.Deposit, depositEvery),
		Loose:      cmp.Or(l.Loose, maxLoose),
		Checkpoint: cmp.Or(l.Checkpoint, checkpointEvery),
	}
}
