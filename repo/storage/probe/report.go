package probe

import (
	"errors"
	"fmt"
	"strings"

	"github.com/varve-dev/varve/repo/storage"
)

// Report is what a probe has found out.
type Report struct {
	URL      string    `json:"url"`
	Suitable bool      `json:"suitable"` // nothing speaks against it, and all that was tried was answered
	Findings []Finding `json:"findings"` // one for each capability, in the order they were tried
	Left     Left      `json:"left"`
}

// Left is what could not be removed.
type Left struct {
	Folder  string `json:"folder,omitempty"` // begins the names of these objects
	Objects int    `json:"objects"`
}

// Finding is what was found out about one capability.
type Finding struct {
	Capability Capability `json:"capability"`
	Verdict    Verdict    `json:"verdict"`
	Fault      Fault      `json:"fault,omitempty"` // what is missing or broken
	Unfit      bool       `json:"unfit,omitempty"` // and no repository can live with it
	Saw        string     `json:"saw"`             // in a sentence without its period
	Means      string     `json:"means,omitempty"` // what it means for the operator, and what to do, in sentences

	failure error // why it is unknown, if the store did not answer
}

// Err returns nil if the store can hold a repository, an error that wraps [ErrUnfit] and names the faults
// if it cannot, and otherwise that of the first request which was not answered.
func (r Report) Err() error {
	var faults []string
	for _, f := range r.Findings {
		if f.Unfit {
			faults = append(faults, string(f.Fault))
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s: %w: %s", r.URL, ErrUnfit, strings.Join(faults, ", "))
	}
	for _, f := range r.Findings {
		if f.failure != nil {
			return fmt.Errorf("probe %s of %s: %w", f.Capability, r.URL, f.failure)
		}
	}
	return nil
}

// Verdict says whether a store has a capability.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"      // it was shown
	Missing Verdict = "missing" // the store says that it does not have it
	Broken  Verdict = "broken"  // the store says that it has it, and does something else
	Unknown Verdict = "unknown" // it was left out, or there was no answer
)

// Capability is something that a repository or its operator wants of a store.
type Capability string

// The capabilities.
const (
	Create     Capability = "create"     // a name that is taken is refused
	Race       Capability = "race"       // of several creators of one name one wins
	Settled    Capability = "settled"    // and it is the same one some seconds later
	Read       Capability = "read"       // what was written can be read at once, and is what was written
	Ranges     Capability = "ranges"     // any part of an object can be read
	List       Capability = "list"       // what was written or deleted is listed so at once, in order
	Pages      Capability = "pages"      // more than 1,000 objects are listed whole
	Size       Capability = "size"       // an object of 32 MiB, like a pack, is stored whole and replaced by none
	Names      Capability = "names"      // names are kept as they are
	Delete     Capability = "delete"     // objects can be removed
	Clock      Capability = "clock"      // that of the store is near ours
	Versioning Capability = "versioning" // what is deleted can be brought back by the store's own means
	Lock       Capability = "lock"       // objects can be kept from being deleted
)

// flaw is a capability that a store does not have.
type flaw struct {
	fault Fault
	saw   string
	cause error // the refusal that was seen, if it was one
}

func (f *flaw) Error() string { return string(f.fault) + ": " + f.saw }
func (f *flaw) Unwrap() error { return f.cause }

// seen is the flaw that a fault was seen.
func seen(f Fault, format string, args ...any) error {
	return &flaw{fault: f, saw: fmt.Sprintf(format, args...)}
}

// isAnswer tells an error that is the store's answer to what was asked from one that would come to any
// request: no connection, no credentials.
func isAnswer(err error) bool {
	_, sorted := errors.AsType[*storage.Error](err)
	return !sorted || errors.Is(err, storage.ErrUnsupported)
}

// untold is why a capability was not tried.
type untold string

func (u untold) Error() string { return string(u) }

// finding turns what a check returned into a finding.
func finding(c Capability, saw string, err error) Finding {
	f := Finding{Capability: c, Verdict: OK, Saw: saw}
	if err == nil {
		return f
	}
	f.Verdict = Unknown
	if why, ok := errors.AsType[untold](err); ok {
		f.Saw = string(why)
		return f
	}
	if _, known := errors.AsType[*flaw](err); !known && errors.Is(err, storage.ErrUnsupported) {
		err = &flaw{UnusableAnswer, err.Error(), err}
	}
	if flaw, ok := errors.AsType[*flaw](err); ok {
		about := flaw.fault.about()
		f.Verdict, f.Fault, f.Unfit, f.Saw, f.Means = about.verdict, flaw.fault, !about.bearable, flaw.saw, about.means
		return f
	}
	f.Saw, f.failure = err.Error(), err
	f.Means = "The store did not answer this, or refused us. Probe again; if it stays so, ask whether the credential may do it."
	if e, ok := errors.AsType[*storage.Error](err); ok && e.Hint != "" {
		f.Means = strings.ToUpper(e.Hint[:1]) + e.Hint[1:] + "."
	}
	return f
}
