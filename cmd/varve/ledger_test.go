package main

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/google/go-cmp/cmp"
)

// A ledger is what the makers of backups know: what they have asked for, what they were told, and what
// they wanted to be forgotten.
type ledger struct {
	mu      sync.Mutex
	records []*record // in the order in which they were asked for
}

// A record is one backup.
type record struct {
	name string
	tree tree   // what it holds
	id   string // empty as long as nobody was told that it stands

	released  bool // somebody has asked to forget it, so it may be gone
	forgotten bool // somebody was told that it is forgotten
}

// attempt notes a backup before it is made, and returns its name.
func (l *ledger) attempt(writer string, tree tree) (name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name = fmt.Sprintf("%s-%d", writer, len(l.records))
	l.records = append(l.records, &record{name: name, tree: tree})
	return name
}

// acknowledge notes that a backup's maker was told that it stands.
func (l *ledger) acknowledge(name, id string) {
	one := l.named(name)
	l.mu.Lock()
	defer l.mu.Unlock()
	one.id = id
}

// release chooses some of the acknowledged backups if there are more than so many, any of them, and
// returns their IDs.
func (l *ledger) release(r *rand.Rand, most int) (ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.held()
	for ; len(held) > most; held = held[:len(held)-1] {
		i := r.IntN(len(held))
		held[i].released = true
		ids = append(ids, held[i].id)
		held[i] = held[len(held)-1]
	}
	return ids
}

// forgotten notes that somebody was told that backups are forgotten.
func (l *ledger) forgotten(ids []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		for _, one := range l.records {
			one.forgotten = one.forgotten || one.id == id
		}
	}
}

// any returns one of the backups that must be there.
func (l *ledger) any(r *rand.Rand) (one *record, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := l.held()
	if len(held) == 0 {
		return nil, false
	}
	return held[r.IntN(len(held))], true
}

func (l *ledger) isReleased(one *record) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return one.released
}

// held are the backups that must be there; the caller holds the lock.
func (l *ledger) held() (held []*record) {
	for _, one := range l.records {
		if one.id != "" && !one.released {
			held = append(held, one)
		}
	}
	return held
}

func (l *ledger) named(name string) *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.records {
		if one.name == name {
			return one
		}
	}
	return &record{name: name} // which nobody has asked for
}

// compare finds backups that are missing, and forgotten ones that are there.
func (l *ledger) compare(there []listed) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	stands := map[string]bool{}
	for _, one := range there {
		stands[one.ID] = true
	}
	for _, one := range l.held() {
		if !stands[one.id] {
			return fmt.Errorf("backup %s (%s) was acknowledged and is lost", one.name, one.id)
		}
	}
	for _, one := range l.records {
		if one.forgotten && stands[one.id] {
			return fmt.Errorf("backup %s (%s) was forgotten and is there", one.name, one.id)
		}
	}
	return nil
}

func (l *ledger) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var told, released int
	for _, one := range l.records {
		if one.id != "" {
			told++
		}
		if one.released {
			released++
		}
	}
	return fmt.Sprintf("%d backups asked for, %d acknowledged, %d forgotten", len(l.records), told, released)
}

// sameAs compares the backup with the folder into which it was restored.
func (one *record) sameAs(folder string) error {
	got, err := treeOf(folder)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(one.tree, got); diff != "" {
		return fmt.Errorf("backup %s (%s) is restored otherwise: -want +got\n%s", one.name, one.id, diff)
	}
	return nil
}
