package restore

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/varve-dev/varve/kube"
)

// owners gives references to owners the UIDs that the owners have now. It is safe for concurrent use.
type owners struct {
	cluster *kube.Cluster
	served  *kube.Catalog

	mutex sync.Mutex
	uids  map[string]string   // of restored objects: the UID in the backup, and in the cluster
	known map[ownerKey]string // owners that were looked up in the cluster; empty where there is none
	later []int               // actions whose objects have owners that come after them
}

type ownerKey struct{ apiVersion, kind, namespace, name string }

// learn notes the UID that an object of the backup has in the cluster.
func (o *owners) learn(before, now string) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.uids[before] = now
}

// postpone notes an action whose object gets its owners at the end.
func (o *owners) postpone(action int) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.later = append(o.later, action)
}

// resolve returns the object's references to owners with the owners' UIDs of now. A reference to an
// owner that neither is restored nor is in the cluster is dropped: with it, garbage collection would
// take the object away. One to an owner that is still to come is left out for now, which is said.
func (o *owners) resolve(ctx context.Context, namespace string, source kube.Object, comes func(uid string) bool) (references []any, later bool, err error) {
	for _, reference := range source.Each("metadata", "ownerReferences") {
		o.mutex.Lock()
		uid := o.uids[reference.Text("uid")]
		o.mutex.Unlock()
		switch {
		case uid != "":
		case comes(reference.Text("uid")):
			later = true
			continue
		default:
			if uid, err = o.find(ctx, namespace, reference); err != nil {
				return nil, false, err
			}
		}
		if uid != "" {
			reference = reference.Clone()
			reference["uid"] = uid
			references = append(references, map[string]any(reference))
		}
	}
	return references, later, nil
}

// find looks an owner up in the cluster by its name.
func (o *owners) find(ctx context.Context, namespace string, reference kube.Object) (string, error) {
	key := ownerKey{reference.Text("apiVersion"), reference.Text("kind"), namespace, reference.Text("name")}
	o.mutex.Lock()
	uid, known := o.known[key]
	o.mutex.Unlock()
	if known {
		return uid, nil
	}
	r, served := o.served.FindKind(key.apiVersion, key.kind)
	if served {
		owner, err := o.cluster.Get(ctx, r, namespace, key.name)
		if err != nil && !errors.Is(err, kube.ErrAbsent) {
			return "", err
		}
		if err == nil {
			uid = owner.UID()
		}
	}
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.known[key] = uid
	return uid, nil
}

// adopt gives the objects their owners that came after them.
func (r *run) adopt(ctx context.Context) error {
	slices.Sort(r.owners.later)
	for _, i := range r.owners.later {
		err := r.adoptOne(ctx, r.Actions[i])
		if errors.Is(err, kube.ErrUnreachable) || ctx.Err() != nil {
			return err
		}
		if err != nil {
			o := r.outcomes[i]
			o.Result, o.Reason, o.Err = Failed, "", err
			r.outcomes[i] = o
		}
	}
	return nil
}

func (r *run) adoptOne(ctx context.Context, a Action) error {
	source, err := r.source(ctx, &a)
	if err != nil {
		return err
	}
	references, _, err := r.owners.resolve(ctx, a.Target.Namespace, source, func(string) bool { return false })
	if err != nil {
		return err
	}
	there, err := r.deps.Cluster.Get(ctx, a.resource, a.Target.Namespace, a.Target.Name)
	if err != nil {
		return err
	}
	all, _ := there.Value("metadata", "ownerReferences").([]any)
	before := len(all)
	for _, reference := range references {
		uid := kube.Object(reference.(map[string]any)).Text("uid")
		if !slices.ContainsFunc(there.Owners(), func(o kube.Owner) bool { return o.UID == uid }) {
			all = append(all, reference)
		}
	}
	if len(all) == before {
		return nil
	}
	patch := kube.Object{}
	patch.Set(all, "metadata", "ownerReferences")
	_, err = r.deps.Cluster.Merge(ctx, a.resource, a.Target.Namespace, a.Target.Name, patch)
	return err
}
