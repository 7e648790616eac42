package restore

import (
	"errors"
	"slices"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/snapshot/files"
)

// Verb is what is to be done with an object.
type Verb string

// The verbs of actions.
const (
	Create Verb = "create" // it is not there
	Update Verb = "update" // it is there, differs, and the plan says to make it as it was
	Merge  Verb = "merge"  // it is there, and what the backup has beyond it is added
	Skip   Verb = "skip"   // it is not to be restored; the action's reason says why
	Keep   Verb = "keep"   // it is there; with a reason if it differs from the backup
	Refuse Verb = "refuse" // it cannot be restored; the action's reason says why
)

// Action is what is to be done with one object of the backup.
type Action struct {
	Key    kube.Key // of the object in the backup
	Target kube.Key // where it goes
	Verb   Verb
	Reason string // for people; empty where the verb says it all
	Wave   int    // actions of a lower wave are done before

	entry    *kube.Entry // nil for a namespace of which the backup has only the name
	resource kube.Resource
	depth    int // of owners, in the wave of custom resources
	owners   []kube.Owner
	uid      string // of the object that is there
	volume   bool   // a claim keeps the volume it names
	rebind   bool   // a released volume waits for the claim of the backup
	reaches  bool   // it points into a namespace that is mapped
	err      error  // why it is refused, where the reason is an error
}

// refused is the action when the object cannot be restored.
func (a Action) refused(reason string) Action {
	a.Verb, a.Reason = Refuse, reason
	return a
}

// damaged is the action when the backup of the object cannot be read.
func (a Action) damaged(err error) Action {
	a.err = err
	return a.refused(err.Error())
}

// refusal is why the object cannot be restored.
func (a Action) refusal() error {
	if a.err != nil {
		return a.err
	}
	return errors.New(a.Reason)
}

// left is what became of an object that is left as it is.
func (a Action) left() Result {
	switch {
	case a.Verb == Skip:
		return Skipped
	case a.Reason == "":
		return Unchanged
	}
	return Differs
}

// Result is what became of an object.
type Result string

// The results of actions.
const (
	Created   Result = "created"
	Updated   Result = "updated"
	Unchanged Result = "unchanged" // it was there already, just as in the backup
	Differs   Result = "differs"   // it was there already, other than in the backup, and was left
	Skipped   Result = "skipped"
	Failed    Result = "failed"
)

// Outcome is what became of one action.
type Outcome struct {
	Action
	Result Result
	Err    error // why it failed; then there is no reason
}

// Report is what became of a restore.
type Report struct {
	Name     string    // of the restore
	Outcomes []Outcome // in the order of waves and keys
	Warnings []string  // that make it not incomplete
	Volumes  []VolumeResult
}

// VolumeResult is what became of a volume.
type VolumeResult struct {
	Volume
	Files files.RestoreReport
}

// Count returns how many objects had one of the results.
func (r Report) Count(results ...Result) int {
	n := 0
	for _, o := range r.Outcomes {
		if slices.Contains(results, o.Result) {
			n++
		}
	}
	return n
}

// Failures returns the outcomes that failed.
func (r Report) Failures() []Outcome {
	return slices.DeleteFunc(slices.Clone(r.Outcomes), func(o Outcome) bool { return o.Result != Failed })
}

// Complete reports whether everything selected is in the cluster now, apart from what was left out for
// a reason.
func (r Report) Complete() bool {
	return r.Count(Failed) == 0 && !slices.ContainsFunc(r.Volumes, func(v VolumeResult) bool { return !v.Files.Complete() })
}
