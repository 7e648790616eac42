// Package backup makes a snapshot of a cluster's objects and of volumes, end to end.
//
//	result, err := backup.Run(ctx, deps, plan)
//
// A [Plan] is what to back up, as plain data; it is recorded in the snapshot. Objects are listed kind
// by kind and volumes are walked file by file, both beside the map of an earlier snapshot, the parent:
// an object whose resourceVersion is known from there and a file whose attributes are keep their stored
// contents unread. Everything is written through one session, and one journal entry makes a snapshot
// of it. Before that entry nothing has happened.
//
// What is selected and cannot be read does not end a backup. It is named in the results, and the
// snapshot says that it is not complete.
package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/files"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Plan is what to back up. It knows nothing of custom resources or flags. Its zero value, with a name,
// backs up every object of the cluster.
type Plan struct {
	// Name of the snapshot: <SCHEDULE>-<YYYYMMDDhhmmss> or backup-<YYYYMMDDhhmmss> if empty.
	Name     string        `json:"-"`
	Schedule string        `json:"schedule,omitempty"` // that asked for the backup
	UID      string        `json:"-"`                  // of the Backup object; at most one snapshot is made for it
	Keep     time.Duration `json:"-"`                  // until the snapshot expires; zero means never

	WithoutObjects bool        `json:"withoutObjects,omitempty"` // needs no cluster
	Filter         kube.Filter `json:"filter,omitzero"`          // of objects
	AllowEmpty     bool        `json:"allowEmpty,omitempty"`     // a selection of no objects is no error

	Volumes         []Volume              `json:"volumes,omitempty"`
	ChangeDetection files.ChangeDetection `json:"changeDetection,omitempty"` // of files in volumes
}

// Volume is a folder to back up.
type Volume struct {
	Name string `json:"name"` // in the snapshot; the next backup's parent is found by it
	Path string `json:"path"`
}

// Deps are what a backup works with.
type Deps struct {
	Repository *repo.Repository
	Cluster    *kube.Cluster // not needed without objects
	Walk       kube.WalkOptions
	// Progress, if set, is told now and then how far the run is. It is called by one goroutine at a time.
	Progress func(Progress)
	// Now is the clock, [time.Now] if nil.
	Now func() time.Time
}

// Result is what became of a backup.
type Result struct {
	ID        snapshot.ID
	Name      string
	Started   time.Time
	Completed time.Time
	Parent    string // the snapshot that it was compared with, if any

	Objects     uint64 // in the snapshot
	ObjectBytes uint64 // their JSON
	Unchanged   uint64 // objects that were known and not read again
	Volumes     []VolumeResult
	Digest      snapshot.Sum      // of the objects
	Results     []snapshot.Result // errors and warnings
	Written     repo.WriterStats
}

// VolumeResult is what became of a volume.
type VolumeResult struct {
	Volume
	Files files.Report
}

// Complete reports whether nothing that was selected is missing.
func (r Result) Complete() bool {
	return !slices.ContainsFunc(r.Results, func(s snapshot.Result) bool { return s.Severity == snapshot.Error })
}

var (
	// ErrEmptySelection means that a plan selects no object at all.
	ErrEmptySelection = errors.New("no object of the cluster is selected")
	// ErrPlan means that a plan contradicts itself.
	ErrPlan = errors.New("the backup cannot be made as planned")
)

// maxAttempts bounds how often a run begins again because what it built on was pruned or found
// damaged meanwhile. What the first attempt stored is not stored again.
const maxAttempts = 3

// Run makes a backup and returns what became of it. An error means that there is no new snapshot,
// unless it is [github.com/varve-dev/varve/repo/journal.ErrUnsure]: then there may be one.
func Run(ctx context.Context, d Deps, p Plan) (Result, error) {
	if d.Now == nil {
		d.Now = time.Now
	}
	if err := p.complete(d); err != nil {
		return Result{}, err
	}
	var damage *parentDamage // met by an earlier attempt
	for attempt := 1; ; attempt++ {
		result, err := runOnce(ctx, d, p, damage)
		if met, ok := errors.AsType[*parentDamage](err); ok && damage == nil {
			damage = met
			continue
		}
		if !errors.Is(err, repo.ErrSuperseded) || attempt == maxAttempts {
			return result, err
		}
		if err := d.Repository.Sync(ctx); err != nil {
			return Result{}, err
		}
	}
}

// complete checks the plan and fills in what it left open.
func (p *Plan) complete(d Deps) error {
	if p.WithoutObjects && len(p.Volumes) == 0 {
		return fmt.Errorf("%w: neither objects nor volumes", ErrPlan)
	}
	if !p.WithoutObjects && d.Cluster == nil {
		return fmt.Errorf("%w: objects without a cluster", ErrPlan)
	}
	for i, v := range p.Volumes {
		if v.Name == "" || v.Path == "" {
			return fmt.Errorf("%w: a volume needs a name and a path", ErrPlan)
		}
		if slices.ContainsFunc(p.Volumes[:i], func(o Volume) bool { return o.Name == v.Name }) {
			return fmt.Errorf("%w: two volumes are called %q", ErrPlan, v.Name)
		}
	}
	if p.Name == "" {
		prefix := p.Schedule
		if prefix == "" {
			prefix = "backup"
		}
		p.Name = prefix + "-" + d.Now().UTC().Format("20060102150405")
	}
	if err := snapshot.CheckName(p.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrPlan, err)
	}
	return nil
}

// run is one attempt.
type run struct {
	Deps
	plan     Plan
	writer   *repo.Writer
	draft    snapshot.Draft
	result   Result
	parent   *snapshot.Snapshot // nil if there is none
	lost     *repo.Losses       // what of the parent must not be taken over
	damage   *parentDamage      // why there is no parent; nil if nothing is known against one
	progress *meter
	claims   int // whose data is not backed up
}

func runOnce(ctx context.Context, d Deps, p Plan, damage *parentDamage) (_ Result, err error) {
	recorded, err := json.Marshal(p)
	if err != nil {
		return Result{}, fmt.Errorf("record the plan: %w", err)
	}
	r := &run{Deps: d, plan: p, damage: damage, writer: d.Repository.NewWriter(ctx, repo.WriterOptions{})}
	defer func() {
		if err != nil { // which may be the very error that ended the session
			if closed := ignoreClosed(r.writer.Close()); closed != nil && !errors.Is(err, closed) {
				err = errors.Join(err, closed)
			}
		}
	}()
	r.progress = &meter{tell: d.Progress, written: r.writer.Stats}
	r.draft = snapshot.Draft{
		Name: p.Name, Schedule: p.Schedule, Started: d.Now(), Plan: recorded, UID: p.UID,
		TreeKey: d.Repository.DeriveKey("tree"),
	}
	if err := r.findParent(ctx); err != nil {
		return Result{}, r.blameParent(ctx, err)
	}
	if err := r.storeAll(ctx); err != nil {
		return Result{}, r.blameParent(ctx, err)
	}
	return r.commit(ctx)
}

// storeAll writes all that the plan selects.
func (r *run) storeAll(ctx context.Context) error {
	if !r.plan.WithoutObjects {
		if err := r.objects(ctx); err != nil {
			return err
		}
	}
	for _, v := range r.plan.Volumes {
		if err := r.volume(ctx, v); err != nil {
			return fmt.Errorf("back up volume %q: %w", v.Name, err)
		}
	}
	return nil
}

// parentDamage is damage that a run met in its parent. The repository's writers do not rely on what it met, so a
// run without a parent stores that again.
type parentDamage struct {
	parent string
	err    error
}

func (d *parentDamage) Error() string { return fmt.Sprintf("read the parent %s: %v", d.parent, d.err) }

func (d *parentDamage) Unwrap() error { return d.err }

// blameParent tells damage in the parent from a parent that was forgotten and pruned while the run compared with it.
func (r *run) blameParent(ctx context.Context, err error) error {
	if r.parent == nil {
		return err
	}
	if forgotten := r.Repository.Blame(ctx, r.parent.ID, err); errors.Is(forgotten, repo.ErrForgotten) {
		return fmt.Errorf("%w: %w", forgotten, repo.ErrSuperseded)
	}
	for _, damage := range []error{repo.ErrDamaged, snapshot.ErrMalformed, content.ErrMalformed, tree.ErrMalformed} {
		if errors.Is(err, damage) {
			return &parentDamage{r.parent.Name, err}
		}
	}
	return err
}

// findParent finds the snapshot that has most of what the run is about to store.
func (r *run) findParent(ctx context.Context) (err error) {
	q := snapshot.ParentQuery{Schedule: r.plan.Schedule, Name: r.plan.Name, Objects: !r.plan.WithoutObjects}
	if q.Objects {
		if r.draft.Cluster, err = r.Cluster.ID(ctx); err != nil {
			return err
		}
		q.Cluster = r.draft.Cluster
	}
	for _, v := range r.plan.Volumes {
		q.Volumes = append(q.Volumes, v.Name)
	}
	return r.buildOn(ctx, q)
}

// buildOn finds the parent and what of it is lost.
func (r *run) buildOn(ctx context.Context, q snapshot.ParentQuery) (err error) {
	if r.damage != nil {
		r.warn("", fmt.Sprintf("the backup was made without its parent, snapshot %s, which is damaged: %v; "+
			"varve repo check --read-data tells what else is, and varve repo repair packs saves what can be saved", r.damage.parent, r.damage.err))
		return nil
	}
	if r.parent, err = snapshot.Parent(ctx, r.Repository, q); r.parent != nil {
		r.result.Parent = r.parent.Name
	}
	if err != nil || r.parent == nil || !r.Repository.KnowsDamage() {
		return err
	}
	r.lost, err = r.Repository.Losses(ctx, r.parent.Ref())
	return err
}

// ignoreClosed lets pass that a failed commit has ended the session already.
func ignoreClosed(err error) error {
	if errors.Is(err, repo.ErrClosed) {
		return nil
	}
	return err
}

// commit makes the snapshot.
func (r *run) commit(ctx context.Context) (Result, error) {
	r.progress.stage(Progress{Stage: "commit"})
	r.draft.Completed = r.Now()
	if r.plan.Keep > 0 {
		r.draft.Expires = r.draft.Started.Add(r.plan.Keep)
	}
	r.draft.Complete = r.complete()
	committed, err := snapshot.Commit(ctx, r.writer, r.draft)
	if err != nil {
		return Result{}, err
	}
	result := r.result
	result.ID, result.Name = committed.ID, r.draft.Name
	result.Started, result.Completed = r.draft.Started, r.draft.Completed
	result.Results, result.Written = r.draft.Results, r.writer.Stats()
	return result, nil
}

func (r *run) complete() bool { return Result{Results: r.draft.Results}.Complete() }

// fail notes that something selected is missing.
func (r *run) fail(item string, err error) {
	r.draft.Results = append(r.draft.Results, snapshot.Result{Severity: snapshot.Error, Item: item, Message: err.Error()})
}

// warn notes something that makes the backup not incomplete.
func (r *run) warn(item, message string) {
	r.draft.Results = append(r.draft.Results, snapshot.Result{Severity: snapshot.Warning, Item: item, Message: message})
}

// assembler starts a map that does not use the bundles which the parent says to give up.
func (r *run) assembler(giveUp []blob.Ref) *content.Assembler {
	return content.NewAssembler(r.writer, content.Options{
		Key: r.Repository.DeriveKey, Chunks: r.Repository.Chunker(), Loader: r.Repository, GiveUp: giveUp,
	})
}
