package simulation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
)

// rot damages a pack that is not dropped: flips a bit of it, cuts it, or lets it vanish.
func (g *ghost) rot(random *rand.Rand) (number uint32, ok bool) {
	g.world.mu.Lock()
	number, err := g.damage(random)
	g.world.mu.Unlock()
	if err != nil {
		return 0, false
	}
	g.observe()
	g.world.count("a pack rots")
	return number, true
}

// suspect draws a pack that is not dropped, the youngest more often than others: it is often a copy of
// them.
func (g *ghost) suspect(random *rand.Rand) (number uint32, ok bool) {
	which := random.Uint32()
	var there []uint32
	for n, p := range g.state.Packs {
		if p.Status != journal.DroppedPack && !g.rotten[p.Name] {
			there = append(there, uint32(n))
		}
	}
	switch {
	case len(there) == 0:
		return 0, false
	case which%3 > 0:
		return there[len(there)-1], true
	}
	return there[which%uint32(len(there))], true
}

// damage needs the lock.
func (g *ghost) damage(random *rand.Rand) (number uint32, err error) {
	how, where := random.IntN(3), random.Int64N(1<<20)
	number, ok := g.suspect(random)
	if !ok {
		return 0, errors.New("there is no pack")
	}
	p := g.state.Packs[number]
	name, offset := p.Object()
	if p.Inline > 0 {
		how = 0 // its entry must stay readable
	}
	from, to := where%p.Size, where%p.Size+1 // what is damaged
	err = g.world.store.Damage(name, func(data []byte) []byte {
		if how == 1 {
			from, to = p.Size/2, p.Size
			rest := data[:from]
			if from < pack.HeadSize {
				from = 0 // a reader asks for so much at once, for the keys
			}
			return rest
		}
		data[offset+from] ^= 1 << (where % 8)
		return data
	})
	if how == 2 {
		from, to = 0, p.Size
		err = g.world.store.Delete(context.Background(), name)
	}
	if err != nil {
		return 0, err
	}
	g.rotten[p.Name], g.rotting = true, true
	g.spoil(p.Name, from, to)
	g.world.note(fmt.Sprintf("    bytes %d to %d of pack %d rot", from, to, number))
	return number, nil
}

// slander draws a pack of which somebody will say that it is damaged, although it is not.
func (g *ghost) slander(random *rand.Rand) (number uint32, ok bool) {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	return g.suspect(random)
}

// copyOf is a blob in a pack.
type copyOf struct {
	pack blob.Hash
	ref  blob.Ref
}

// spoil notes what does not open any more when some bytes of a pack are not what they were. Before the
// first blob stand the keys of all.
func (g *ghost) spoil(name blob.Hash, from, to int64) {
	first := int64(math.MaxInt64)
	for _, row := range g.tables[name] {
		first = min(first, int64(row.Offset))
	}
	for _, row := range g.tables[name] {
		if from < first || from < int64(row.Offset)+int64(row.Stored) && to > int64(row.Offset) {
			g.spoiled[copyOf{name, row.Ref()}] = true
		}
	}
}
