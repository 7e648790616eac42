package simulation

import (
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// announce tells the ghost what a snapshot will be, before anybody can see it.
func (g *ghost) announce(s whole, manifest blob.Ref) {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	s.blobs = []blob.Ref{manifest}
	for folder, set := range s.picture {
		if set == 0 {
			continue
		}
		s.blobs = append(s.blobs, s.roots[folder])
		for file := range files {
			if class, data := content(folder, file); set&(1<<file) != 0 {
				s.blobs = append(s.blobs, blob.Ref{Class: class, ID: g.keys.BlobID(class, data)})
			}
		}
	}
	g.known[manifest.ID] = s
}

func (g *ghost) acknowledge(s journal.Snapshot) {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	g.acked = append(g.acked, s.ID)
}

// release gives a snapshot free to be forgotten.
func (g *ghost) release(id journal.SnapshotID) {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	g.released[id] = true
}

func (g *ghost) pictureOf(manifest blob.ID) picture {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	return g.known[manifest].picture
}

// declare lets somebody say of a whole pack that it is damaged, although some of it may be good.
func (g *ghost) declare(number uint32) {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	g.declared[number] = true
}

// mayBeGone reports whether a snapshot is no longer live, or has a blob without a good copy.
func (g *ghost) mayBeGone(l journal.Live) bool {
	g.world.mu.Lock()
	defer g.world.mu.Unlock()
	if _, live := g.state.Snapshot(l.ID); !live {
		return true
	}
	for _, ref := range g.known[l.Manifest].blobs {
		if g.excused[ref] {
			return true
		}
	}
	return false
}
