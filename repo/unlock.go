package repo

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// keyFolder is where key slots lie: keys/<hash of the file>-<label, sealed>.
const keyFolder = "keys/"

// How many key slots a repository has at most, and how many of them for passwords. Whoever can write
// to the bucket can plant slots, and each that is tried costs a request or, for a password, up to some
// seconds and 1 GiB of memory. Who opens gives up beyond these bounds; who adds keeps to them.
//
// What counts are the oldest slots by the clock of the store: a planted one is younger than the
// repository's own, and as long as nobody adds one beyond these bounds, it stays behind them.
const (
	maxSlots         = 64
	maxPasswordSlots = 8
)

// maxListed bounds the names that are looked at to find the oldest slots, and so the requests for it.
const maxListed = 50_000

// slotName is the name of a slot's object, taken apart.
type slotName struct {
	id    blob.Hash
	label []byte // sealed; empty if nobody who held the master key has named it
}

func (n slotName) String() string {
	name := keyFolder + n.id.String()
	if len(n.label) > 0 {
		name += "-" + hex.EncodeToString(n.label)
	}
	return name
}

func parseSlotName(name string) (n slotName, ok bool) {
	id, label, labelled := strings.Cut(strings.TrimPrefix(name, keyFolder), "-")
	var err, bad error
	n.id, err = blob.ParseHash(id)
	if labelled {
		n.label, bad = hex.DecodeString(label)
	}
	sized := len(n.label) == 0 || len(n.label) == seal.MaxLabel+seal.Overhead
	return n, err == nil && bad == nil && sized && n.String() == name
}

// slotList is what a list shows of the slots of a repository.
type slotList struct {
	oldest []listed // at most maxSlots of them, the oldest first
	count  int      // all of them, as far as names were looked at
	cut    bool     // there are more names than that
}

// more reports whether there are slots beyond the oldest.
func (l slotList) more() bool { return l.cut || l.count > len(l.oldest) }

// trim forgets all but the oldest slots.
func (l *slotList) trim() {
	slices.SortFunc(l.oldest, func(a, b listed) int {
		return cmp.Or(a.ModTime.Compare(b.ModTime), strings.Compare(a.Name, b.Name))
	})
	l.oldest = l.oldest[:min(len(l.oldest), maxSlots)]
}

// listSlots lists the slots of a repository. What cannot be one by its name is passed over.
func listSlots(ctx context.Context, b storage.Bucket) (l slotList, err error) {
	names := 0
	for info, err := range b.List(ctx, keyFolder, "") {
		if err != nil {
			return l, fmt.Errorf("list key slots of %s: %w", b, err)
		}
		if names++; names > maxListed {
			l.cut = true
			break
		}
		name, ok := parseSlotName(info.Name)
		if !ok {
			continue
		}
		l.count++
		if l.oldest = append(l.oldest, listed{info, name}); len(l.oldest) == 2*maxSlots {
			l.trim()
		}
	}
	l.trim()
	return l, nil
}

// listed is a slot as a list shows it.
type listed struct {
	storage.Info
	slot slotName
}

// read returns the file of a slot, nil if it was removed meanwhile. No more is read than a slot may have.
func (l listed) read(ctx context.Context, b storage.Bucket) ([]byte, error) {
	file, err := b.Get(ctx, l.Name, 0, seal.MaxSlot+1)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read key slot %s: %w", l.slot.id.Short(), err)
	}
	return file, nil
}

// unlocked is a master key and the slot that it came from.
type unlocked struct {
	master seal.Master
	slot   blob.Hash
}

// An unlocker tries what its user has on one slot after the other.
type unlocker struct {
	options    OpenOptions
	identities []age.Identity // besides the password
	password   age.Identity   // nil without
	repository seal.RepositoryID
	known      string // fingerprint that the master key must have; empty: not known

	listed    slotList
	broken    int // slots that are none
	passwords int // slots that the password was tried on

	passedOver int // slots for passwords that it was not tried on any more

	foreign seal.Master // a key that a slot gave, and that is not this repository's
	found   bool        // such a one was met
	trouble error       // of a keeper that did not answer
}

// unlock finds the slot that the user's password, identity or keeper opens.
//
// A slot that opens is not yet one of this repository: whoever can write to the bucket and knows a
// public key can make one with a master key of his own. With the fingerprint known, a slot with any
// other key is passed over; otherwise one whose key does not open the journal.
func unlock(ctx context.Context, b storage.Bucket, id seal.RepositoryID, known string, o OpenOptions) (unlocked, error) {
	u := unlocker{options: o, identities: o.Identities, repository: id, known: known}
	if o.Password != "" {
		var err error
		if u.password, err = seal.PasswordIdentity(o.Password); err != nil {
			return unlocked{}, err
		}
	}
	var err error
	if u.listed, err = listSlots(ctx, b); err != nil {
		return unlocked{}, err
	}
	for _, l := range u.listed.oldest {
		file, err := l.read(ctx, b)
		if err != nil {
			return unlocked{}, err
		}
		if file == nil {
			continue
		}
		if seal.HashOf(file) != l.slot.id {
			u.broken++
			continue
		}
		master, ok := u.try(ctx, file)
		if !ok {
			continue
		}
		ours := known == master.Fingerprint()
		if known == "" {
			ours = true
			if u.listed.count > 1 { // of a single one the journal itself tells soon enough
				ours, err = opensJournal(ctx, b, seal.Derive(master, id))
			}
		}
		if err != nil {
			return unlocked{}, err
		}
		if ours {
			return unlocked{master: master, slot: l.slot.id}, nil
		}
		u.foreign, u.found = master, true
	}
	return unlocked{}, fmt.Errorf("open %s: %w", b, u.refusal())
}

// try opens one slot with what fits its kind.
func (u *unlocker) try(ctx context.Context, file []byte) (master seal.Master, ok bool) {
	info, err := seal.InspectSlot(file)
	if err != nil {
		u.broken++
		return master, false
	}
	var of seal.RepositoryID
	var identities []age.Identity
	switch info.Kind {
	case seal.KeeperSlot:
		if u.options.Keeper == nil || u.options.Keeper.Name() != info.Keeper {
			return master, false
		}
		master, of, err = seal.OpenSlotBy(ctx, file, u.options.Keeper)
		if err != nil && u.trouble == nil {
			u.trouble = err
		}
		return master, err == nil && of == u.repository
	case seal.PasswordSlot:
		switch {
		case u.password == nil:
		case u.passwords == maxPasswordSlots:
			u.passedOver++
		default:
			u.passwords++
			identities = []age.Identity{u.password}
		}
	default:
		identities = u.identities
	}
	for _, identity := range identities {
		if master, of, err = seal.OpenSlot(file, identity); err == nil && of == u.repository {
			return master, true
		}
	}
	return master, false
}

// refusal is why no slot opened.
func (u *unlocker) refusal() error {
	tried, of := len(u.listed.oldest), ""
	if u.listed.cut {
		of = "the first "
	}
	switch {
	case u.found && u.known != "":
		return fmt.Errorf("fingerprint is %s: %w", u.foreign.Fingerprint(), ErrFingerprint)
	case u.found:
		return fmt.Errorf("%w: %w", ErrUnproven, ErrDamaged)
	case u.trouble != nil:
		return u.trouble
	case u.listed.more() || u.passedOver > 0:
		return fmt.Errorf("%w any of the key slots that were tried, the oldest of %s%d: %w", ErrWrongKey, of, u.listed.count, ErrPlanted)
	case tried == 0:
		return ErrNoSlots
	case tried == u.broken:
		return fmt.Errorf("none of its %d key slots is intact: %w: %w", tried, ErrIrreplaceable, ErrDamaged)
	}
	return fmt.Errorf("%w any of %d key slots", ErrWrongKey, tried)
}

// opensJournal reports whether entry 0, if there is one yet, opens under the keys.
func opensJournal(ctx context.Context, b storage.Bucket, keys *seal.Keys) (bool, error) {
	_, err := journal.New(b, keys, new(journal.State)).Verify(ctx, 0)
	switch {
	case err == nil, errors.Is(err, journal.ErrGap), errors.Is(err, journal.ErrVersion):
		return true, nil
	case errors.Is(err, journal.ErrDamaged):
		return false, nil
	}
	return false, err
}
