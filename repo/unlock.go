package repo

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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
const (
	maxSlots         = 64
	maxPasswordSlots = 8
)

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
	return n, err == nil && bad == nil && n.String() == name
}

// listSlots lists the slots of a repository, up to maxSlots, and tells whether there are more.
func listSlots(ctx context.Context, b storage.Bucket) (all []listed, tooMany bool, err error) {
	count := 0
	for info, err := range b.List(ctx, keyFolder, "") {
		if err != nil {
			return nil, false, fmt.Errorf("list key slots of %s: %w", b, err)
		}
		if count++; count > maxSlots {
			return all, true, nil
		}
		if name, ok := parseSlotName(info.Name); ok {
			all = append(all, listed{info, name})
		}
	}
	return all, false, nil
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

	broken    int         // slots that are none
	passwords int         // slots that the password was tried on
	foreign   seal.Master // a key that a slot gave, and that is not this repository's
	found     bool        // such a one was met
	trouble   error       // of a keeper that did not answer
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
	slots, tooMany, err := listSlots(ctx, b)
	if err != nil {
		return unlocked{}, err
	}
	for _, l := range slots {
		file, err := l.read(ctx, b)
		if err != nil {
			return unlocked{}, err
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
			if len(slots) > 1 { // of a single one the journal itself tells soon enough
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
	return unlocked{}, fmt.Errorf("open %s: %w", b, u.refusal(len(slots), tooMany))
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
		if u.password != nil && u.passwords < maxPasswordSlots {
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
func (u *unlocker) refusal(slots int, tooMany bool) error {
	const planted = "there are more than a repository has, so somebody may have planted some"
	switch {
	case u.found && u.known != "":
		return fmt.Errorf("fingerprint is %s: %w", u.foreign.Fingerprint(), ErrFingerprint)
	case u.found:
		return fmt.Errorf("%w: %w", ErrUnproven, ErrDamaged)
	case u.trouble != nil:
		return u.trouble
	case slots == u.broken && !tooMany:
		return fmt.Errorf("none of its %d key slots is intact: %w: %w", slots, ErrIrreplaceable, ErrDamaged)
	case tooMany:
		return fmt.Errorf("%w any of the first %d key slots; %s", ErrWrongKey, maxSlots, planted)
	}
	return fmt.Errorf("%w any of %d key slots", ErrWrongKey, slots)
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
