package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/snapshot/files"
)

const (
	defaultParallel = 8

	// What failed is tried again this many times at the end, while it helps.
	maxRounds  = 3
	roundPause = 300 * time.Millisecond

	pollPause = 100 * time.Millisecond
	// definitionTimeout is how long the API server may take to serve a new kind.
	definitionTimeout = time.Minute
	// terminatingTimeout is how long a namespace of the same name may take to vanish.
	terminatingTimeout = 10 * time.Minute
)

// run is a restore under way.
type run struct {
	*Prepared
	owners owners

	mutex    sync.Mutex
	outcomes map[int]Outcome // by action
}

// Apply does what was prepared and reports what became of every action. It returns an error only when
// it could not go on; a single object that fails is in the report. Volumes come first, so that nothing
// that is restored works on them before they are complete.
func (p *Prepared) Apply(ctx context.Context) (Report, error) {
	report := Report{Name: p.Name, Warnings: p.Warnings}
	for i, v := range p.plan.Volumes {
		written, err := files.Restore(ctx, p.deps.Snapshot.Files(p.Volumes[i]), p.contents, v.Path,
			files.RestoreOptions{Policy: p.plan.ExistingFiles, Events: p.deps.Files})
		report.Volumes = append(report.Volumes, VolumeResult{Volume: v, Files: written})
		if err != nil {
			return report, fmt.Errorf("restore volume %q: %w", v.Name, err)
		}
	}
	r := &run{Prepared: p, outcomes: map[int]Outcome{}}
	r.owners = owners{cluster: p.deps.Cluster, served: p.served, uids: map[string]string{}, known: map[ownerKey]string{}}
	err := r.objects(ctx)
	for i := range p.Actions {
		if o, ok := r.outcomes[i]; ok {
			report.Outcomes = append(report.Outcomes, o)
			if o.Result == Failed {
				r.tell(o)
			}
		}
	}
	return report, err
}

// objects does all actions, and again what failed, while there is hope.
func (r *run) objects(ctx context.Context) error {
	all := make([]int, len(r.Actions))
	for i := range all {
		all[i] = i
	}
	if err := r.waves(ctx, all); err != nil {
		return err
	}
	for round := 1; round <= maxRounds; round++ {
		failed := r.failed()
		if len(failed) == 0 {
			break
		}
		if err := sleep(ctx, time.Duration(round)*roundPause); err != nil {
			return err
		}
		if err := r.waves(ctx, failed); err != nil {
			return err
		}
	}
	return r.adopt(ctx)
}

// failed returns the actions that failed and may succeed when tried again.
func (r *run) failed() []int {
	var failed []int
	for i, a := range r.Actions {
		if r.outcomes[i].Result == Failed && a.Verb != Refuse {
			failed = append(failed, i)
		}
	}
	return failed
}

// waves does actions, in parallel where they are of one wave.
func (r *run) waves(ctx context.Context, actions []int) error {
	for len(actions) > 0 {
		first := r.Actions[actions[0]]
		n := slices.IndexFunc(actions, func(i int) bool {
			return r.Actions[i].Wave != first.Wave || r.Actions[i].depth != first.depth
		})
		if n < 0 {
			n = len(actions)
		}
		if err := r.wave(ctx, actions[:n]); err != nil {
			return err
		}
		if first.Wave == waveDefinitions {
			if err := r.waitEstablished(ctx, actions[:n]); err != nil {
				return err
			}
		}
		actions = actions[n:]
	}
	return nil
}

// wave does actions in parallel and waits for them. It ends early when the cluster cannot be reached.
func (r *run) wave(ctx context.Context, actions []int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan int)
	var workers sync.WaitGroup
	parallel := r.deps.Parallel
	if parallel == 0 {
		parallel = defaultParallel
	}
	for range min(parallel, len(actions)) {
		workers.Go(func() {
			for i := range queue {
				o := r.do(ctx, i)
				if errors.Is(o.Err, kube.ErrUnreachable) {
					cancel(o.Err)
				}
				r.note(i, o)
			}
		})
	}
	for _, i := range actions {
		if ctx.Err() != nil {
			break
		}
		queue <- i
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

func (r *run) note(i int, o Outcome) {
	r.mutex.Lock()
	r.outcomes[i] = o
	r.mutex.Unlock()
	if o.Result != Failed { // what failed may be tried again
		r.tell(o)
	}
}

func (r *run) tell(o Outcome) {
	if r.deps.Progress == nil {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.deps.Progress(o)
}

// do does one action.
func (r *run) do(ctx context.Context, i int) Outcome {
	a := r.Actions[i]
	switch a.Verb {
	case Skip:
		return Outcome{Action: a, Result: Skipped}
	case Refuse:
		return Outcome{Action: a, Result: Failed, Err: fmt.Errorf("restore %s: %s", a.Target, a.Reason)}
	}
	if a.uid != "" && a.entry != nil {
		r.owners.learn(a.entry.Attributes.UID, a.uid)
	}
	if a.Verb == Keep {
		result := Unchanged
		if a.Reason != "" {
			result = Differs
		}
		return Outcome{Action: a, Result: result}
	}
	result, reason, err := r.make(ctx, a, i)
	if err != nil {
		return Outcome{Action: a, Result: Failed, Err: err}
	}
	if reason != "" {
		a.Reason = reason
	}
	return Outcome{Action: a, Result: result}
}

// make brings one object into the cluster.
func (r *run) make(ctx context.Context, a Action, i int) (Result, string, error) {
	source, err := r.source(ctx, a)
	if err != nil {
		return "", "", err
	}
	o := r.render(a, source)
	if a.Verb != Create {
		return r.change(ctx, a, o)
	}
	made := o.Clone()
	r.label(made)
	references, later, err := r.owners.resolve(ctx, a.Target.Namespace, source, r.comes)
	if err != nil {
		return "", "", err
	}
	if len(references) > 0 {
		made.Set(references, "metadata", "ownerReferences")
	}
	got, err := r.create(ctx, a, made)
	if errors.Is(err, kube.ErrExists) {
		return r.meet(ctx, a, o)
	}
	if err != nil {
		return "", "", err
	}
	if a.entry != nil {
		r.owners.learn(a.entry.Attributes.UID, got.UID())
	}
	if later {
		r.owners.postpone(i)
	}
	return Created, "", nil
}

// comes reports whether an owner, by its UID in the backup, is still to be restored.
func (r *run) comes(uid string) bool {
	i, ok := r.sources[uid]
	return ok && r.Actions[i].Verb != Skip && r.Actions[i].Verb != Refuse
}

// source reads the object from the backup.
func (r *run) source(ctx context.Context, a Action) (kube.Object, error) {
	if a.entry != nil {
		return a.entry.Object(ctx, r.contents)
	}
	return kube.Object{
		"apiVersion": a.resource.APIVersion(), "kind": a.resource.Kind,
		"metadata": map[string]any{"name": a.Key.Name},
	}, nil
}

// label notes on an object which restore made it.
func (r *run) label(o kube.Object) {
	o.Set(labelValue(r.Name), "metadata", "labels", labelRestore)
	o.Set(labelValue(r.Name), "metadata", "labels", labelRestoreName)
	o.Set(labelValue(r.deps.Snapshot.Name), "metadata", "labels", labelBackupName)
}

// create makes the object. A kind whose definition is new may take a moment to be served.
func (r *run) create(ctx context.Context, a Action, o kube.Object) (kube.Object, error) {
	deadline := time.Now().Add(definitionTimeout)
	for {
		got, err := r.deps.Cluster.Create(ctx, a.resource, o, fieldManager)
		_, served := r.served.Find(a.Key.Group, a.Key.Resource)
		if !errors.Is(err, kube.ErrAbsent) || served || time.Now().After(deadline) {
			return got, err
		}
		if err := sleep(ctx, pollPause); err != nil {
			return nil, err
		}
	}
}

// meet deals with an object that appeared since the restore was prepared, made by a controller or by
// somebody else. A namespace that is on its way out is waited for.
func (r *run) meet(ctx context.Context, a Action, o kube.Object) (Result, string, error) {
	deadline := time.Now().Add(terminatingTimeout)
	for {
		there, err := r.deps.Cluster.Get(ctx, a.resource, a.Target.Namespace, a.Target.Name)
		vanishing := err == nil && there.Text("metadata", "deletionTimestamp") != ""
		switch {
		case errors.Is(err, kube.ErrAbsent):
			made := o.Clone()
			r.label(made)
			got, err := r.create(ctx, a, made)
			if errors.Is(err, kube.ErrExists) && time.Now().Before(deadline) {
				continue
			}
			if err == nil && a.entry != nil {
				r.owners.learn(a.entry.Attributes.UID, got.UID())
			}
			return Created, "", err
		case err != nil:
			return "", "", err
		case vanishing && time.Now().Before(deadline):
			if err := sleep(ctx, pollPause); err != nil {
				return "", "", err
			}
			continue
		case vanishing:
			return "", "", fmt.Errorf("create %s: the one before it is still being deleted", a.Target)
		}
		if a.entry != nil {
			r.owners.learn(a.entry.Attributes.UID, there.UID())
		}
		if a.Verb, a.Reason, err = compare(a.Key, o, there, r.plan); err != nil {
			return "", "", err
		}
		switch {
		case a.Verb == Keep && a.Reason == "":
			return Unchanged, "", nil
		case a.Verb == Keep:
			return Differs, a.Reason, nil
		}
		return r.change(ctx, a, o)
	}
}

// change makes an object that is there like the one of the backup, as far as the verb says.
func (r *run) change(ctx context.Context, a Action, o kube.Object) (Result, string, error) {
	cluster := r.deps.Cluster
	var err error
	switch {
	case a.rebind:
		patch := kube.Object{}
		patch.Set(nil, "spec", "claimRef", "uid")
		patch.Set(nil, "spec", "claimRef", "resourceVersion")
		_, err = cluster.Merge(ctx, a.resource, a.Target.Namespace, a.Target.Name, patch)
	case a.Verb == Merge:
		var there kube.Object
		if there, err = cluster.Get(ctx, a.resource, a.Target.Namespace, a.Target.Name); err != nil {
			return "", "", err
		}
		_, err = cluster.Merge(ctx, a.resource, a.Target.Namespace, a.Target.Name, missingOf(o, there))
	default:
		o = o.Clone()
		r.label(o)
		_, err = cluster.Apply(ctx, a.resource, o, fieldManager)
	}
	return Updated, "", err
}

// waitEstablished waits until the API server has taken up the definitions that were made. It takes its
// time for each, but for all of them at once.
func (r *run) waitEstablished(ctx context.Context, actions []int) error {
	deadline := time.Now().Add(definitionTimeout)
	for _, i := range actions {
		for r.outcomes[i].Result == Created {
			ok, err := r.established(ctx, r.Actions[i])
			if errors.Is(err, kube.ErrUnreachable) {
				return err
			}
			if ok {
				break
			}
			if err == nil && time.Now().After(deadline) {
				err = fmt.Errorf("%s: the API server does not serve it after %v", r.Actions[i].Target, definitionTimeout)
			}
			if err != nil {
				r.outcomes[i] = Outcome{Action: r.Actions[i], Result: Failed, Err: err}
				break
			}
			if err := sleep(ctx, pollPause); err != nil {
				return err
			}
		}
	}
	return nil
}

// established reports whether the API server serves what a definition defines.
func (r *run) established(ctx context.Context, a Action) (bool, error) {
	o, err := r.deps.Cluster.Get(ctx, a.resource, "", a.Target.Name)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(o.Each("status", "conditions"), func(c kube.Object) bool {
		return c.Text("type") == "Established" && c.Text("status") == "True"
	}), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
