// Package restore brings the objects and volumes of a snapshot back into a cluster.
//
//	prepared, err := restore.Prepare(ctx, deps, plan)  // what would be done, object by object
//	report, err := prepared.Apply(ctx)                 // do it
//
// A [Plan] is what a user asks for, as plain data. [Prepare] finds the objects it means, looks at what
// the cluster has already, and decides for each object on one [Action] with a reason. Nothing is
// changed before [Prepared.Apply], which works through the actions wave by wave: definitions of custom
// resources first, then namespaces, storage, accounts and rights, settings, Services, workloads,
// custom resources, and admission last, so that everything finds what it relies on. What fails is tried
// again at the end, for some dependencies cannot be told from outside.
//
// Objects are cleaned on the way: of what another moment gave them nothing stays (UIDs, addresses,
// status). What a controller that is restored too makes again is left to it. References to owners
// are given the owners' new UIDs, and dropped where the owner is gone.
//
// A restore never deletes and, unless the plan says so, never changes what is there.
package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/files"
)

// Existing says what to do with an object that is there and differs from the backup.
type Existing string

// The policies for existing objects.
const (
	ExistingKeep   Existing = ""       // leave it and say so
	ExistingUpdate Existing = "Update" // make every field of the backup as it was, by server-side apply; others stay
)

// Jobs says what to do with Jobs that had not finished.
type Jobs string

// The policies for Jobs.
const (
	JobsRun     Jobs = ""        // they start over
	JobsSuspend Jobs = "Suspend" // they wait until somebody resumes them
	JobsSkip    Jobs = "Skip"    // they are not restored
)

// Plan is what to restore and how. It knows nothing of custom resources or flags. The zero value
// restores everything that is not there yet.
type Plan struct {
	// Name of the restore, for the labels of what it makes, so it must be able to stand in one:
	// <BACKUP>-<YYYYMMDDhhmmss> if empty.
	Name string `json:"name,omitempty"`
	// Filter says which objects of the backup are meant; namespaces by their names in the backup.
	Filter kube.Filter `json:"filter"`
	// AllowEmpty makes a selection of no object no error.
	AllowEmpty bool `json:"allowEmpty,omitempty"`
	// WithoutObjects restores volumes only and needs no cluster.
	WithoutObjects bool `json:"withoutObjects,omitempty"`
	// NamespaceMapping gives namespaces other names, from name in the backup to name in the cluster.
	NamespaceMapping map[string]string `json:"namespaceMapping,omitempty"`

	Existing          Existing `json:"existing,omitempty"`
	Jobs              Jobs     `json:"jobs,omitempty"`
	Completed         bool     `json:"completed,omitempty"`         // also Pods and Jobs that had finished
	PreserveNodePorts bool     `json:"preserveNodePorts,omitempty"` // of Services, instead of new ones

	Volumes       []Volume     `json:"volumes,omitempty"`       // written back before any object
	ExistingFiles files.Policy `json:"existingFiles,omitempty"` // what is done with files in their folders
}

// Volume is a volume of the snapshot and the folder that it is written back to.
type Volume struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// Deps are what a restore works with.
type Deps struct {
	Repository content.Loader // in which the snapshot is; *repo.Repository is one
	Snapshot   *snapshot.Snapshot
	Cluster    *kube.Cluster // the target; not needed without objects
	// Progress, if set, is told of every outcome. It is called by one goroutine at a time.
	Progress func(Outcome)
	// Waiting, if set, is told what the restore waits for to be gone, and of nothing when it goes on.
	// It is not called while Progress is.
	Waiting func(what string)
	// Patience is how long an object of the same name may take to vanish, 90 seconds if zero.
	Patience time.Duration
	// Files are told of the progress of volumes.
	Files files.Events
	// Parallel is how many objects are restored at the same time, 8 if zero.
	Parallel int
	// Now is the clock, [time.Now] if nil.
	Now func() time.Time
}

var (
	// ErrEmptySelection means that a plan means no object at all.
	ErrEmptySelection = errors.New("nothing of the backup is selected")
	// ErrPlan means that a plan contradicts itself, or the backup.
	ErrPlan = errors.New("the restore cannot be done as planned")
	// ErrNoObjects means that a plan asks for objects of a backup that has only volumes. It comes with
	// [ErrPlan].
	ErrNoObjects = errors.New("the backup has no objects")
	// ErrNamespace means of an object that the namespace it goes to could not be made.
	ErrNamespace = errors.New("its namespace cannot be made")
)

// fieldManager is the name under which the API server notes the fields we set.
const fieldManager = "varve"

// Run prepares a restore and applies it.
func Run(ctx context.Context, d Deps, p Plan) (Report, error) {
	prepared, err := Prepare(ctx, d, p)
	if err != nil {
		return Report{}, err
	}
	return prepared.Apply(ctx)
}

// check refuses a plan that contradicts itself.
func (p Plan) check() error {
	if why := validation.IsValidLabelValue(p.Name); len(why) > 0 {
		return fmt.Errorf("%w: %q cannot name a restore: %s", ErrPlan, p.Name, why[0])
	}
	switch p.Existing {
	case ExistingKeep, ExistingUpdate:
	default:
		return fmt.Errorf("%w: unknown policy %q for existing objects", ErrPlan, p.Existing)
	}
	switch p.Jobs {
	case JobsRun, JobsSuspend, JobsSkip:
	default:
		return fmt.Errorf("%w: unknown policy %q for Jobs", ErrPlan, p.Jobs)
	}
	if p.WithoutObjects && len(p.Volumes) == 0 {
		return fmt.Errorf("%w: neither objects nor volumes", ErrPlan)
	}
	for _, v := range p.Volumes {
		if v.Name == "" || v.Path == "" {
			return fmt.Errorf("%w: a volume needs a name and a path", ErrPlan)
		}
	}
	for from, to := range p.NamespaceMapping {
		if from == "" || strings.ContainsAny(from, "*?[") {
			return fmt.Errorf("%w: %q:%q does not map a namespace to another", ErrPlan, from, to)
		}
		if why := validation.IsDNS1123Label(to); len(why) > 0 {
			return fmt.Errorf("%w: %q cannot name a namespace: %s", ErrPlan, to, why[0])
		}
	}
	return nil
}

// labelValue makes a label's value of a name. Of one that cannot be a value as it is, what can stays,
// and six digits of its hash keep it apart from others.
func labelValue(name string) string {
	if len(validation.IsValidLabelValue(name)) == 0 {
		return name
	}
	clean := strings.TrimLeft(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '-'
	}, name), "-_.")
	sum := sha256.Sum256([]byte(name))
	return clean[:min(len(clean), validation.LabelValueMaxLength-6)] + hex.EncodeToString(sum[:3])
}
