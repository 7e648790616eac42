package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// Errors about key slots that a caller decides on.
var (
	// ErrNoSlot means that there is no such key slot.
	ErrNoSlot = errors.New("no such key slot")
	// ErrOwnSlot means that the slot which opened the repository was to be removed without being told to.
	ErrOwnSlot = errors.New("the repository was opened by this key slot")
	// ErrLastSlot means that nobody could open the repository any more without this slot.
	ErrLastSlot = errors.New("it is the last key slot")
	// ErrTooManySlots means that the repository has as many slots as it may have.
	ErrTooManySlots = errors.New("too many key slots")
	// ErrNoSlots means that the bucket shows no key slot of a repository: they were deleted, or the list
	// that it gave does not show them yet.
	ErrNoSlots = errors.New("no key slot is listed, though there is a repository")
	// ErrPlanted means that there are more slots than a repository has.
	ErrPlanted = errors.New("there are more than a repository has, so somebody may have planted some")
)

// Slot is a key slot: the master key, sealed for one password, public key or KMS key.
type Slot struct {
	ID      blob.Hash     `json:"id"`
	Kind    seal.SlotKind `json:"kind,omitempty"`
	KMS     string        `json:"kms,omitempty"` // the key's URL, of a KMS slot
	Label   string        `json:"label,omitempty"`
	Vouched bool          `json:"vouched"` // added by somebody who held the master key
	Own     bool          `json:"own"`     // it opened this Repository
	Size    int64         `json:"size"`    // in bytes
	Added   time.Time     `json:"added"`   // by the store's clock
	Problem string        `json:"problem,omitempty"`

	object string
}

// opens reports whether there is reason to think that somebody can open the repository by the slot. Of a
// slot that nobody vouches for there is not: whoever can write to the bucket can leave one.
func (s Slot) opens() bool { return s.Problem == "" && (s.Vouched || s.Own) }

// SlotOptions says who a new slot is for: exactly one of a password, a recipient and a keeper.
type SlotOptions struct {
	Password     string
	PasswordWork int // see seal.PasswordRecipient; only tests set it
	Recipient    age.Recipient
	Keeper       seal.Keeper
	Label        string // of at most seal.MaxLabel bytes; only who opens the repository sees it

	// Before, if there is one, is told the new slot's ID before the slot is stored. Its error prevents that.
	Before func(id blob.Hash) error
}

// Slots lists the key slots, the oldest first. There may be more than it lists, which are not looked at:
// then somebody has planted some, since none are added beyond the bound.
func (r *Repository) Slots(ctx context.Context) (slots []Slot, more bool, err error) {
	all, err := listSlots(ctx, r.bucket)
	if err != nil {
		return nil, false, err
	}
	for _, l := range all.oldest {
		file, err := l.read(ctx, r.bucket)
		if err != nil {
			return nil, false, err
		}
		if file != nil {
			slots = append(slots, r.describe(l, file))
		}
	}
	return slots, all.more(), nil
}

func (r *Repository) describe(l listed, file []byte) Slot {
	s := Slot{ID: l.slot.id, Own: l.slot.id == r.slot, Size: l.Size, Added: l.ModTime, object: l.Name}
	label, err := r.keys.OpenLabel(s.ID.String(), l.slot.label)
	s.Label, s.Vouched = label, err == nil
	info, err := seal.InspectSlot(file)
	s.Kind, s.KMS = info.Kind, info.Keeper
	switch {
	case seal.HashOf(file) != l.slot.id:
		s.Problem = "the key slot does not hash to its name: what opened it no longer opens the repository"
	case err != nil:
		s.Problem = "the object is no key slot"
	}
	return s
}

// AddSlot seals the master key for one more. A crash leaves the slot whole or not there. Who makes a key
// and shows it does so in Before: a slot whose key nobody has would count as one that opens.
func (r *Repository) AddSlot(ctx context.Context, o SlotOptions) (Slot, error) {
	var refused error
	r.journal.View(func(s *journal.State) { refused = refuse(s, true) })
	if refused != nil {
		return Slot{}, refused
	}
	slots, more, err := r.Slots(ctx)
	if err != nil {
		return Slot{}, err
	}
	passwords := 0
	for _, s := range slots {
		if s.Kind == seal.PasswordSlot {
			passwords++
		}
	}
	if more || len(slots) >= maxSlots || (o.Password != "" && passwords >= maxPasswordSlots) {
		return Slot{}, fmt.Errorf("add key slot: %w: there are %d, %d of them for passwords; at most %d and %d are tried",
			ErrTooManySlots, len(slots), passwords, maxSlots, maxPasswordSlots)
	}
	file, err := r.sealSlot(ctx, o)
	if err != nil {
		return Slot{}, err
	}
	if o.Before != nil {
		if err := o.Before(seal.HashOf(file)); err != nil {
			return Slot{}, err
		}
	}
	name, err := storeSlot(ctx, r.bucket, r.keys, file, o.Label)
	if err != nil {
		return Slot{}, err
	}
	info, err := r.bucket.Stat(ctx, name.String())
	if err != nil {
		return Slot{}, fmt.Errorf("look at the new key slot: %w", err)
	}
	return r.describe(listed{info, name}, file), nil
}

func (r *Repository) sealSlot(ctx context.Context, o SlotOptions) ([]byte, error) {
	switch {
	case o.Keeper != nil:
		return r.keys.SealSlotBy(ctx, o.Keeper)
	case o.Recipient != nil:
		return r.keys.SealSlot(o.Recipient)
	}
	to, err := seal.PasswordRecipient(o.Password, o.PasswordWork)
	if err != nil {
		return nil, err
	}
	return r.keys.SealSlot(to)
}

// storeSlot creates the object of a slot. Its label is part of its name, so that slot and label appear
// and go together.
func storeSlot(ctx context.Context, b storage.Bucket, keys *seal.Keys, file []byte, label string) (slotName, error) {
	name := slotName{id: seal.HashOf(file)}
	var err error
	if name.label, err = keys.SealLabel(name.id.String(), label); err != nil {
		return name, err
	}
	if err := b.Create(ctx, name.String(), file); err != nil {
		return name, fmt.Errorf("store key slot: %w", err)
	}
	return name, nil
}

// RemoveSlot deletes a key slot. It refuses the last one by which anybody could open the repository,
// and, unless told to, the one that opened this Repository.
//
// It takes nothing back: who has opened the slot may have kept the master key, and who has kept a copy
// of the slot can open it for ever.
func (r *Repository) RemoveSlot(ctx context.Context, id blob.Hash, evenOwn bool) error {
	target, others, err := r.split(ctx, id)
	opening := slices.IndexFunc(target, Slot.opens) // beside it may lie what somebody has planted under the same ID
	needed := opening >= 0
	switch {
	case err != nil:
		return err
	case len(target) == 0:
		return fmt.Errorf("remove key slot %s: %w", id.Short(), ErrNoSlot)
	case needed && others == 0:
		return fmt.Errorf("remove key slot %s: %w that opens the repository", id.Short(), ErrLastSlot)
	case id == r.slot && !evenOwn:
		return fmt.Errorf("remove key slot %s: %w", id.Short(), ErrOwnSlot)
	}
	kept := target[max(0, opening)].object
	file, err := r.bucket.Get(ctx, kept, 0, seal.MaxSlot+1)
	if err != nil {
		return fmt.Errorf("read key slot %s: %w", id.Short(), err)
	}
	for _, t := range target {
		if err := r.bucket.Delete(ctx, t.object); err != nil {
			return fmt.Errorf("remove key slot %s: %w", id.Short(), err)
		}
	}
	if !needed {
		return nil
	}
	// Two who remove each other's slot at the same moment must not leave none.
	if _, others, err = r.split(ctx, id); err != nil || others > 0 {
		return err
	}
	if err := r.bucket.Create(ctx, kept, file); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("put key slot %s back: %w", id.Short(), err)
	}
	return fmt.Errorf("remove key slot %s: %w, because others were removed at the same time; it was put back", id.Short(), ErrLastSlot)
}

// split returns the objects of one slot, and how many other slots open the repository.
func (r *Repository) split(ctx context.Context, id blob.Hash) (target []Slot, others int, err error) {
	slots, _, err := r.Slots(ctx)
	for _, s := range slots {
		if s.ID == id {
			target = append(target, s)
		} else if s.opens() {
			others++
		}
	}
	return target, others, err
}
