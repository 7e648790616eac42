package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/varve-dev/varve/kube"
)

// do does one action. What went wrong is its error, and no reason is needed besides.
func (r *run) do(ctx context.Context, i int) Outcome {
	o := Outcome{Action: r.Actions[i]}
	if o.Result, o.Err = r.act(ctx, &o.Action, i); o.Err != nil {
		o.Result, o.Reason = Failed, ""
	}
	return o
}

// act does one action. Verb and reason become those of what was done in the end.
func (r *run) act(ctx context.Context, a *Action, i int) (Result, error) {
	switch a.Verb {
	case Skip:
		return Skipped, nil
	case Refuse:
		return Failed, a.refusal()
	}
	if a.uid != "" && a.entry != nil {
		r.owners.learn(a.entry.Attributes.UID, a.uid)
	}
	if a.Verb == Keep {
		return a.left(), nil
	}
	if err := r.lacksNamespace(a.Target.Namespace); err != nil {
		return Failed, err
	}
	source, err := r.source(ctx, a)
	if err != nil {
		return Failed, err
	}
	o := r.render(*a, source)
	if a.Verb != Create {
		return r.change(ctx, a, o)
	}
	references, later, err := r.owners.resolve(ctx, a.Target.Namespace, source, r.comes)
	if err != nil {
		return Failed, err
	}
	result, err := r.make(ctx, a, o, references)
	if result == Created && later {
		r.owners.postpone(i)
	}
	return result, err
}

// make brings an object of the backup into the cluster that was not there when the restore was prepared.
func (r *run) make(ctx context.Context, a *Action, o kube.Object, references []any) (Result, error) {
	made := o.Clone()
	r.label(made)
	if len(references) > 0 {
		made.Set(references, "metadata", "ownerReferences")
	}
	got, err := r.create(ctx, a, made)
	if errors.Is(err, kube.ErrExists) {
		var there kube.Object
		if there, err = r.settled(ctx, a); err != nil {
			return Failed, err
		}
		if there != nil {
			return r.meet(ctx, a, o, there)
		}
		got, err = r.create(ctx, a, made)
	}
	if err != nil {
		return Failed, err
	}
	if a.entry != nil {
		r.owners.learn(a.entry.Attributes.UID, got.UID())
	}
	return Created, nil
}

// lacksNamespace says why the namespace that an object goes to could not be made, if it could not.
func (r *run) lacksNamespace(name string) error {
	i, ok := r.spaces[name]
	if !ok {
		return nil
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if o := r.outcomes[i]; o.Result == Failed {
		return fmt.Errorf("%w: %w", ErrNamespace, o.Err)
	}
	return nil
}

// comes reports whether an owner, by its UID in the backup, is still to be restored.
func (r *run) comes(uid string) bool {
	i, ok := r.sources[uid]
	return ok && r.Actions[i].Verb != Skip && r.Actions[i].Verb != Refuse
}

// source reads the object from the backup.
func (r *run) source(ctx context.Context, a *Action) (kube.Object, error) {
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
func (r *run) create(ctx context.Context, a *Action, o kube.Object) (kube.Object, error) {
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
// somebody else.
func (r *run) meet(ctx context.Context, a *Action, o, there kube.Object) (Result, error) {
	if a.entry != nil {
		r.owners.learn(a.entry.Attributes.UID, there.UID())
	}
	var err error
	if a.Verb, a.Reason, err = r.compare(a, o, there); err != nil {
		return Failed, err
	}
	if a.Verb == Keep || a.Verb == Skip {
		return a.left(), nil
	}
	return r.change(ctx, a, o)
}

// change makes an object that is there like the one of the backup, as far as the verb says.
func (r *run) change(ctx context.Context, a *Action, o kube.Object) (Result, error) {
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
			return Failed, err
		}
		_, err = cluster.Merge(ctx, a.resource, a.Target.Namespace, a.Target.Name, missingOf(o, there))
	default:
		o = o.Clone()
		r.label(o)
		_, err = cluster.Apply(ctx, a.resource, o, fieldManager)
	}
	return Updated, err
}
