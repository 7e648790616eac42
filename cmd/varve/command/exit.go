package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/backup"
	"github.com/varve-dev/varve/kube/restore"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/seal/kms"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/dial"
	"github.com/varve-dev/varve/repo/storage/probe"
	"github.com/varve-dev/varve/repo/storage/retry"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/copies"
	"github.com/varve-dev/varve/snapshot/files"
)

// The exit codes, which docs/exit-codes.md explains.
const (
	exitFailed       = 1 // nothing was changed
	exitUsage        = 2
	exitIncomplete   = 3
	exitDamaged      = 4
	exitWrongKey     = 5
	exitUnreachable  = 6
	exitPrecondition = 7
	exitChanged      = 8 // failed, and something may have been changed
	exitInterrupted  = 130
)

// failure is an error with what is said about it at the edge. What is zero is found by the cause.
type failure struct {
	err  error // nil: the exit code says it all
	code int
	hint string // what to do next
}

func (f failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f failure) Unwrap() error { return f.err }

// usage is an error in how the command was called.
func usage(format string, args ...any) error {
	return failure{err: fmt.Errorf(format, args...), code: exitUsage}
}

// asUsage makes an error one of usage, and points to the command's help.
func asUsage(c *cobra.Command, err error) error {
	return failure{err: err, code: exitUsage, hint: c.CommandPath() + " --help shows how it is used"}
}

// afterwards is an error that came when all was done and only to be told: the deed stands.
func afterwards(deed string, err error) error {
	if err == nil {
		return nil
	}
	return failure{err: fmt.Errorf("%s; its result could not be printed: %w", deed, err), code: exitChanged,
		hint: "what was done stays done; there is no need to do it again"}
}

var errInterrupted = errors.New("interrupted")

// interrupted replaces the error that an interrupt led to, whatever it was, and keeps its hint.
func interrupted(err error) error {
	var f failure
	errors.As(err, &f)
	return failure{err: errInterrupted, code: exitInterrupted, hint: f.hint}
}

// A cause is an error of the library that decides the exit code. The first that matches counts, so
// the more special ones stand first.
type cause struct {
	is   error
	code int
	hint string
}

func causes() []cause {
	return []cause{
		{journal.ErrUnsure, exitChanged, "varve backup get shows whether the backup was made"},
		{context.Canceled, exitInterrupted, ""},
		{dial.ErrBadURL, exitUsage, ""},
		{repo.ErrNoRepository, exitFailed, "create one with: varve repo init"},
		{repo.ErrExists, exitFailed, "to use the repository that is there, open it with its password; for a new one, name another place"},
		{probe.ErrUnfit, exitPrecondition, "varve repo probe tells what that means, and what to do"},
		{repo.ErrVersion, exitPrecondition, "use the version of varve that wrote it, or a newer one"},
		{repo.ErrGrace, exitUsage, "say --grace 30d or less; what must stay longer, varve snapshot hold keeps"},
		{repo.ErrOvertaken, exitPrecondition, "what was pruned is pruned, and the next prune goes on"},
		{repo.ErrSuperseded, exitPrecondition, "run it again: it stores only what is missing"},
		{journal.ErrRolledBack, exitPrecondition, "was an older copy put in its place? If that was meant, --accept-rollback takes it as it is; " + lookHint},
		{repo.ErrSwapped, exitPrecondition, "if that was meant, --accept-rollback takes it as it is; " + lookHint},
		{journal.ErrLost, exitChanged, "this store is not safe for several writers"},
		{kms.ErrBadURL, exitUsage, ""},
		{seal.ErrBadKey, exitUsage, "age-keygen makes a pair of keys"},
		{kms.ErrUnavailable, exitUnreachable, "are the provider's credentials there, and may they use the key?"},
		{kms.ErrMismatch, exitWrongKey, "is it the key that the slot was made for? varve key list shows it to who can open the repository"},
		{repo.ErrNoSlot, exitUsage, "varve key list shows the slots"},
		{repo.ErrLastSlot, exitPrecondition, "add another one first: varve key add"},
		{repo.ErrOwnSlot, exitPrecondition, "open the repository by another slot, or say --force"},
		{repo.ErrTooManySlots, exitPrecondition, "varve key list shows them, and varve key remove takes one away"},
		{repo.ErrUnproven, exitDamaged, unprovenHint},
		{repo.ErrFingerprint, exitWrongKey, "somebody may have put another repository in the place of yours"},
		{repo.ErrPlanted, exitWrongKey, "open it by an older key slot, or remove those that were planted, the newest first, by the store's own means"},
		{repo.ErrNoSlots, exitUnreachable, "a list may lag behind what is stored, so try again; if it stays so, put keys/ back from a copy of the bucket"},
		{repo.ErrWrongKey, exitWrongKey, "check --password-file, and that this is the repository you mean; an altered varve.json looks like this, too"},
		{seal.ErrWrongKey, exitWrongKey, ""},
		{seal.ErrNoKey, exitWrongKey, "the recovery key reads it"},
		{repo.ErrUnfinished, exitPrecondition, "say varve repo repair journal again: it goes on where it was, or tells what is missing"},
		{repo.ErrMassDrop, exitPrecondition, "if nothing was forgotten by mistake, say --max-drop 100%"},
		{repo.ErrHeld, exitPrecondition, "varve snapshot release lets it be forgotten"},
		{repo.ErrForgotten, exitFailed, "varve snapshot list --forgotten shows it, varve snapshot unforget brings it back"},
		{repo.ErrGone, exitFailed, "varve snapshot list shows which snapshots are left"},
		{repo.ErrNoSnapshot, exitUsage, "varve snapshot list shows the snapshots"},
		{repo.ErrIrreplaceable, exitDamaged, "put keys/ and varve.json back from a copy of the bucket"},
		{journal.ErrDamaged, exitDamaged, journalHint},
		{journal.ErrGap, exitDamaged, journalHint},
		{repo.ErrDamaged, exitDamaged, damageHint},
		{pack.ErrDamaged, exitDamaged, damageHint},
		{seal.ErrOpen, exitDamaged, damageHint},
		{seal.ErrMismatch, exitDamaged, damageHint},
		{snapshot.ErrMalformed, exitDamaged, damageHint},
		{copies.ErrSame, exitUsage, "--from names the repository to copy from, --repo the one to copy into; a clone of a repository is no second place"},
		{copies.ErrSelection, exitUsage, ""},
		{snapshot.ErrNotFound, exitUsage, "varve snapshot list shows the snapshots, varve snapshot ls SNAPSHOT what is in one"},
		{snapshot.ErrAmbiguous, exitUsage, "name it by its ID"},
		{kube.ErrNoAccess, exitUsage, "give --kubeconfig FILE, or leave Kubernetes out with --objects none"},
		{kube.ErrUnreachable, exitUnreachable, "is it the right --context, and does kubectl reach it?"},
		{kube.ErrForbidden, exitUnreachable, "the account of the kubeconfig needs the right to do this"},
		{kube.ErrFilter, exitUsage, ""},
		{backup.ErrPlan, exitUsage, ""},
		{backup.ErrEmptySelection, exitFailed, "no backup was made; --allow-empty makes an empty one"},
		{restore.ErrNoObjects, exitUsage, "to restore its files: --objects none --volume NAME=FOLDER"},
		{restore.ErrPlan, exitUsage, ""},
		{restore.ErrEmptySelection, exitFailed, "varve snapshot ls shows what the backup has"},
		{files.ErrNotEmpty, exitFailed, "name another folder, or say --files-policy overwrite or keep"},
		{retry.ErrGaveUp, exitUnreachable, "run it again when the store is there; --retry-for waits longer"},
		{storage.ErrNoBucket, exitUnreachable, "is the path right, and the disk mounted? varve repo init creates it"},
		{storage.ErrTemporary, exitUnreachable, ""},
		{storage.ErrCredentials, exitUnreachable, ""},
		{storage.ErrForbidden, exitUnreachable, ""},
		{storage.ErrClock, exitUnreachable, ""},
		{storage.ErrRegion, exitUnreachable, ""},
		{storage.ErrUntrusted, exitUnreachable, ""},
		{storage.ErrUnsupported, exitPrecondition, ""},
	}
}

// lookHint warns of what is lost by going on from an older state.
const lookHint = "what was backed up since is not in it, so look first whether the newer one still exists"

// What to do about damage.
const (
	damageHint   = "keep the bucket as it is; as far as it opens, varve repo check --read-data names every damage, and varve repo repair saves what it can"
	journalHint  = "keep the bucket as it is; varve repo repair journal --dry-run shows what can be done"
	unprovenHint = "say --fingerprint, as varve repo init showed it, which tells a planted slot from a damaged entry; for that one, " + journalHint
	keepHint     = "keep the bucket as it is; varve repo repair shows the steps that save what can be saved"
)

// explain finds the exit code and the hint for an error.
func explain(err error) (code int, hint string) {
	for _, c := range causes() {
		if errors.Is(err, c.is) {
			code, hint = c.code, c.hint
			break
		}
	}
	if refusal, ok := errors.AsType[*storage.Error](err); ok && refusal.Hint != "" {
		hint = refusal.Hint // what led to it is known to the driver alone
	}
	if _, unknown := errors.AsType[*kube.UnknownResourceError](err); unknown {
		code, hint = exitUsage, "kubectl api-resources lists them; --ignore-unknown lets the name pass"
	}
	if f, ok := errors.AsType[failure](err); ok {
		if f.code != 0 {
			code = f.code
		}
		if f.hint != "" {
			hint = f.hint
		}
	}
	if code == 0 {
		code = exitFailed
	}
	return code, hint
}

// problem is an error as JSON.
type problem struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// report says on standard error what went wrong and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	code, hint := explain(err)
	var f failure
	if errors.As(err, &f) && f.err == nil {
		return code
	}
	p := problem{Code: code, Message: err.Error(), Hint: hint}
	if a.output == asJSON {
		if text, err := json.Marshal(p); err == nil {
			fmt.Fprintf(a.Stderr, "%s\n", escapedJSON(string(text), asJSON))
			return code
		}
	}
	fmt.Fprintf(a.Stderr, "varve: %s\n", printable(p.Message))
	if hint != "" {
		fmt.Fprintf(a.Stderr, "hint: %s\n", printable(hint))
	}
	return code
}

// warn says on standard error what the user should know and what stops nothing.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.Stderr, "varve: warning: %s\n", printable(fmt.Sprintf(format, args...)))
}

// note says something on standard error that is no result.
func (a *app) note(text string) { fmt.Fprintln(a.Stderr, text) }

// printable escapes what would move a terminal's cursor, but for the ends of lines.
func printable(message string) string {
	lines := strings.Split(message, "\n")
	for i, line := range lines {
		lines[i] = escaped(line)
	}
	return strings.Join(lines, "\n")
}
