package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/seal/kms"
)

func (a *app) key() *cobra.Command {
	return noun("key", "Keys: who can open the repository",
		`The data of a repository is sealed under one master key, which never changes. It lies in key slots, each
sealed for a password, for a public key of age, or by a key of a key management service (KMS). Any slot
opens the repository, and all open all of it.`,
		a.keyList(), a.keyAdd(), a.keyRemove(), a.keyRecovery())
}

func (a *app) keyList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the key slots",
		Long: `List the key slots. The one that opened the repository just now is marked with a star. A slot is NOT
VOUCHED FOR when nobody who held the master key has added it: an interrupted repo init leaves one, and so
can whoever is able to write to the bucket. It opens nothing of this repository and can be removed.`,
		Example: "  varve key list",
		Args:    arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				slots, more, err := s.Slots(c.Context())
				if err != nil {
					return err
				}
				if more {
					a.warn("there are more slots than a repository has; somebody may have planted some")
				}
				return a.show(slots, func(t *sheet) { writeSlots(t, slots) })
			})
		},
	}
}

func writeSlots(t *sheet, slots []repo.Slot) {
	t.row("", "ID", "KIND", "ADDED", "LABEL")
	for _, s := range slots {
		own, what := "", kindText(s)
		if s.Own {
			own = "*"
		}
		label := ""
		switch {
		case s.Problem != "":
			label = "DAMAGED: " + s.Problem
		case !s.Vouched:
			label = "NOT VOUCHED FOR"
		case s.Label != "":
			label = name(s.Label)
		}
		t.row(own, short(s.ID.String()), what, moment(s.Added), label)
	}
}

func kindText(s repo.Slot) string {
	if s.KMS != "" {
		return name(s.KMS)
	}
	return string(s.Kind)
}

// newKey says who a new slot is for.
type newKey struct {
	passwordFile, recipient, kms, label string
}

// valid finds what is wrong before anybody is asked for a password.
func (k newKey) valid() error {
	named := 0
	for _, one := range []string{k.passwordFile, k.recipient, k.kms} {
		if one != "" {
			named++
		}
	}
	switch {
	case named > 1:
		return usage("a slot is for one: give --new-password-file, --recipient or --new-kms")
	case len(k.label) > seal.MaxLabel:
		return usage("the label has %d bytes, and %d are the most", len(k.label), seal.MaxLabel)
	}
	return nil
}

func (a *app) keyAdd() *cobra.Command {
	var k newKey
	c := &cobra.Command{
		Use:   "add",
		Short: "Let one more password or key open the repository",
		Long: `Add a key slot: for a new password (from --new-password-file, or asked for twice), for a public key of
age, or for a key of a KMS. What opened the repository so far still does.

A public key suits machines: the program that makes backups in a cluster holds the identity, and opening
costs neither a second nor 256 MiB of memory, as a password does. age-keygen makes a pair; age-keygen -pq
one that stays closed to a quantum computer.

A KMS key is named by a URL, which later opens the repository as --kms. It is stored in plain:
  awskms://alias/NAME?region=REGION
  gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K
  azurekeyvault://VAULT.vault.azure.net/keys/KEY?algorithm=RSA-OAEP-256
  base64key:///FILE    a file with 32 random bytes in base64`,
		Example: `  varve key add --new-password-file ~/.new-password --label "on call"
  varve key add --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p --label mover
  varve key add --new-kms 'awskms://alias/backups?region=eu-central-1'`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := k.valid(); err != nil {
				return err
			}
			return a.withRepository(c.Context(), func(s *session) error { return a.addKey(c.Context(), s, k) })
		},
	}
	c.Flags().StringVar(&k.passwordFile, "new-password-file", "", "the `FILE` that holds the new password")
	c.Flags().StringVar(&k.recipient, "recipient", "", "the public `KEY` of age, age1…")
	c.Flags().StringVar(&k.kms, "new-kms", "", "the `URL` of the KMS key")
	c.Flags().StringVar(&k.label, "label", "", fmt.Sprintf("what the slot is called, at most %d bytes of `TEXT`; sealed, so that only who opens the repository sees it", seal.MaxLabel))
	return c
}

func (a *app) addKey(ctx context.Context, s *session, k newKey) (err error) {
	o := repo.SlotOptions{Label: k.label, PasswordWork: a.PasswordWork}
	switch {
	case k.recipient != "":
		o.Recipient, err = seal.ParseRecipient(k.recipient)
	case k.kms != "":
		key, e := kms.Open(ctx, k.kms)
		if e != nil {
			return e
		}
		defer func() { err = errors.Join(err, key.Close()) }()
		o.Keeper = key
	default:
		o.Password, err = a.newPassword(ctx, k.passwordFile, question{prompt: "New password: ", instead: "--new-password-file FILE"})
	}
	if err != nil {
		return err
	}
	slot, err := s.AddSlot(ctx, o)
	if err != nil {
		return err
	}
	err = a.show(slot, func(t *sheet) {
		t.row("Slot:", short(slot.ID.String()))
		t.row("Kind:", kindText(slot))
		if slot.Label != "" {
			t.row("Label:", name(slot.Label))
		}
	})
	return afterwards("the key was added", err)
}

func (a *app) keyRemove() *cobra.Command {
	force := false
	c := &cobra.Command{
		Use:   "remove SLOT",
		Short: "Remove a key slot",
		Long: `Remove a key slot, named by the first digits of its ID. The last slot that opens the repository is never
removed, and the one that opened it just now only with --force.

Removing takes nothing back. Who has opened the repository may have kept the master key, and who has a
copy of the slot opens it for ever. When a password or key has leaked, make a new repository, copy into
it what is needed, and destroy this one.`,
		Example: "  varve key remove 3f2a9c",
		Args:    arguments(1, 1, "one SLOT"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.withRepository(c.Context(), func(s *session) error {
				slot, err := slotCalled(c.Context(), s, args[0])
				if err != nil {
					return err
				}
				if err := s.RemoveSlot(c.Context(), slot.ID, force); err != nil {
					return err
				}
				removed := struct {
					Removed blob.Hash `json:"removed"`
				}{slot.ID}
				err = a.show(removed, func(t *sheet) { t.row("Removed:", short(slot.ID.String()), kindText(slot)) })
				if err == nil && a.output == asTable {
					a.note("What was read by it, or can be by a copy of it, stays readable: docs/keys.md tells what to do when it leaked.")
				}
				return afterwards("the slot was removed", err)
			})
		},
	}
	c.Flags().BoolVar(&force, "force", false, "also the slot that opened the repository just now")
	return c
}

// slotCalled finds a slot by the first digits of its ID.
func slotCalled(ctx context.Context, s *session, digits string) (found repo.Slot, err error) {
	slots, _, err := s.Slots(ctx)
	if err != nil {
		return found, err
	}
	matches := map[blob.Hash]bool{}
	for _, slot := range slots {
		if strings.HasPrefix(slot.ID.String(), strings.ToLower(digits)) {
			found, matches[slot.ID] = slot, true
		}
	}
	switch {
	case len(digits) < minDigits:
		return found, usage("%q is too short: give at least %d digits of the slot's ID", digits, minDigits)
	case len(matches) == 0:
		return found, fmt.Errorf("key slot %q: %w", digits, repo.ErrNoSlot)
	case len(matches) > 1:
		return found, usage("%q is the beginning of several slots' IDs", digits)
	}
	return found, nil
}

// minDigits keeps a slip of the finger from naming a slot.
const minDigits = 4

// recovered is a recovery key, shown once.
type recovered struct {
	Slot        blob.Hash `json:"slot"`
	Repository  string    `json:"repository"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
	Identity    string    `json:"identity"`
}

func (a *app) keyRecovery() *cobra.Command {
	return &cobra.Command{
		Use:   "recovery",
		Short: "Make a recovery key, to be kept offline",
		Long: `Make a recovery key, print it, and add a slot for it. It is shown this once and stored nowhere: print it
on paper, or write it to a medium that you put away where the backups are not. The key comes first, so that no
slot is without its key; it is good when the command has ended well.

What is printed is a file for --identity-file, and for the age command as well. The key is hybrid: a
copy of the bucket that somebody takes today stays closed to a quantum computer of tomorrow.`,
		Example: `  varve key recovery > /media/usb/varve-recovery.txt
  varve repo info --identity-file /media/usb/varve-recovery.txt`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withRepository(c.Context(), func(s *session) error { return a.makeRecovery(c.Context(), s) })
		},
	}
}

// makeRecovery shows the key before there is a slot for it. Whoever is killed in between has a key that
// opens nothing, and sees that when he tries it. The other way round there would be a slot that looks as
// good as any and whose key nobody has.
func (a *app) makeRecovery(ctx context.Context, s *session) error {
	identity, to, err := seal.NewIdentity()
	if err != nil {
		return err
	}
	shown := false
	show := func(slot blob.Hash) error {
		shown = true
		r := recovered{slot, s.ID().String(), s.Fingerprint(), time.Now().UTC(), identity}
		if err := a.show(r, func(t *sheet) { writeRecovery(t, r) }); err != nil {
			return err
		}
		return synced(a.Stdout)
	}
	_, err = s.AddSlot(ctx, repo.SlotOptions{Recipient: to, Label: "recovery", Before: show})
	if err != nil && shown {
		err = failure{err: err, hint: "throw away what was printed, unless varve repo info --identity-file FILE opens the repository by it"}
	}
	if err == nil && a.output == asTable {
		a.note("\nThe key opens the repository from now on. It is shown once and stored nowhere. Put it where\n" +
			"the backups are not, and try it: varve repo info --identity-file FILE")
	}
	return err
}

func writeRecovery(t *sheet, r recovered) {
	t.line("# Recovery key of a Varve repository. Keep it offline; who has it reads every backup.")
	t.line("# Repository:  %s", r.Repository)
	t.line("# Fingerprint: %s", r.Fingerprint)
	t.line("# Slot:        %s, %s", short(r.Slot.String()), moment(r.Created))
	t.line("# To use it:   varve repo info --repo URL --identity-file THIS-FILE --fingerprint FINGERPRINT")
	t.line("%s", r.Identity)
}

// synced sees to it that what was written outlives a power cut, if it went into a file.
func synced(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
