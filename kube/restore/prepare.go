package restore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/files"
)

// Prepared is a restore whose every action is decided.
type Prepared struct {
	Name     string            // of the restore
	Actions  []Action          // in the order in which they are done
	Volumes  []snapshot.Volume // to be written back, in the order of the plan
	Warnings []string          // that do not make it incomplete

	deps     Deps
	contents *content.Reader
	plan     Plan
	mapping  mapping
	served   *kube.Catalog
	sources  map[string]int // actions by the UID their object had in the backup
}

// preparer is what is known while actions are decided.
type preparer struct {
	*Prepared
	chosen   *chooser
	present  *present
	byUID    map[string]kube.Key      // what is chosen, by the UID in the backup
	byKey    map[kube.Key]bool        // what is chosen
	defined  map[string]kube.Resource // by definitions that are chosen too, by resource.group
	selector map[kube.Key]bool        // chosen Services with a selector, which have endpoints made for them
}

// Prepare decides what a plan means for every object it selects. It changes nothing.
func Prepare(ctx context.Context, d Deps, p Plan) (*Prepared, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	prepared := &Prepared{
		Name: p.Name, deps: d, plan: p, mapping: p.NamespaceMapping, sources: map[string]int{},
		contents: content.NewReader(d.Repository),
	}
	if prepared.Name == "" {
		now := d.Now
		if now == nil {
			now = time.Now
		}
		prepared.Name = d.Snapshot.Name + "-" + now().UTC().Format("20060102150405")
	}
	if m := d.Snapshot.Manifest; !m.Complete {
		items := "items"
		if m.Errors == 1 {
			items = "item"
		}
		prepared.Warnings = append(prepared.Warnings, fmt.Sprintf("the backup is incomplete: %d %s could not be backed up", m.Errors, items))
	}
	for _, v := range p.Volumes {
		stored, err := d.Snapshot.Volume(ctx, v.Name)
		if err != nil {
			return nil, err
		}
		if err := files.Admit(v.Path, p.ExistingFiles); err != nil {
			return nil, fmt.Errorf("restore volume %q to %s: %w", v.Name, v.Path, err)
		}
		prepared.Volumes = append(prepared.Volumes, stored)
	}
	if p.WithoutObjects {
		return prepared, nil
	}
	if d.Snapshot.Manifest.Objects.Empty() {
		if len(p.Volumes) == 0 && !p.AllowEmpty {
			return nil, fmt.Errorf("%w: %w", ErrPlan, ErrNoObjects)
		}
		return prepared, nil
	}
	if d.Cluster == nil {
		return nil, fmt.Errorf("%w: objects without a cluster", ErrPlan)
	}
	chosen, err := choose(ctx, d, prepared.contents, p)
	if err != nil {
		return nil, err
	}
	if err := chosen.checkMapping(prepared.mapping); err != nil {
		return nil, err
	}
	if err := chosen.checkEmpty(p); err != nil {
		return nil, err
	}
	b := &preparer{
		Prepared: prepared, chosen: chosen, byUID: map[string]kube.Key{}, byKey: map[kube.Key]bool{},
		defined: map[string]kube.Resource{}, selector: map[kube.Key]bool{},
	}
	return prepared, b.prepare(ctx)
}

// warnOfOriginals names what a copy of a namespace has to do without, such as rights and volumes, since
// it serves the original.
func (b *preparer) warnOfOriginals() {
	var left []string
	for _, a := range b.Actions {
		if a.Reason == reasonOriginal {
			left = append(left, a.Key.String())
		}
	}
	if len(left) > 0 {
		b.Warnings = append(b.Warnings, fmt.Sprintf("what serves the original namespace is left to it, and the copy goes without: %s", strings.Join(left, ", ")))
	}
}

// prepare decides on the actions and puts them in order.
func (b *preparer) prepare(ctx context.Context) error {
	if err := b.look(ctx); err != nil {
		return err
	}
	for i := range b.chosen.chosen {
		a, err := b.decide(ctx, &b.chosen.chosen[i])
		if err != nil {
			return err
		}
		b.Actions = append(b.Actions, a)
	}
	for _, name := range b.chosen.missingNames() {
		k := kube.Key{Resource: "namespaces", Name: name}
		b.Actions = append(b.Actions, Action{Key: k, Target: b.mapping.key(k), Wave: waveNamespaces}.refused("the backup has no such namespace"))
	}
	b.warnOfOriginals()
	b.addNamespaces()
	b.setDepths()
	slices.SortStableFunc(b.Actions, func(x, y Action) int {
		return cmp.Or(cmp.Compare(x.Wave, y.Wave), cmp.Compare(x.depth, y.depth), x.Target.Compare(y.Target))
	})
	for i, a := range b.Actions {
		if a.entry != nil {
			b.sources[a.entry.Attributes.UID] = i
		}
	}
	return nil
}

// look gathers what decisions about one object need to know of the others and of the target.
func (b *preparer) look(ctx context.Context) (err error) {
	if b.served, err = b.deps.Cluster.Discover(ctx); err != nil {
		return err
	}
	for _, failure := range b.served.Failed {
		b.Warnings = append(b.Warnings, fmt.Sprintf("the cluster cannot say what it serves in %s: %v", failure.What, failure.Err))
	}
	if err := b.chosen.catalog; err != nil {
		b.Warnings = append(b.Warnings, fmt.Sprintf("names of resources are taken for those of this cluster: %v", err))
	}
	for _, name := range b.chosen.choice.Unknown {
		b.Warnings = append(b.Warnings, fmt.Sprintf("the backup has no resource %q", name))
	}
	var targets []kube.Key
	for i := range b.chosen.chosen {
		e := &b.chosen.chosen[i]
		b.byUID[e.Attributes.UID] = e.Key
		b.byKey[e.Key] = true
		targets = append(targets, b.mapping.key(e.Key))
		switch {
		case e.Key.Resource == "customresourcedefinitions":
			o, err := b.chosen.object(ctx, e)
			if err != nil {
				return err
			}
			if b.chosen.damaged[e.Key] == nil {
				b.defined[e.Key.Name] = kube.DefinedBy(o)
			}
		case e.Key.Group == "" && e.Key.Resource == "services":
			o, err := b.chosen.object(ctx, e)
			if err != nil {
				return err
			}
			b.selector[e.Key] = len(o.Map("spec", "selector")) > 0
		}
	}
	b.present, err = newPresent(ctx, b.deps.Cluster, targets)
	return err
}

// decide finds out what is to be done with one object.
func (b *preparer) decide(ctx context.Context, e *kube.Entry) (Action, error) {
	a := Action{Key: e.Key, Target: b.mapping.key(e.Key), Wave: waveOf(e.Key), entry: e}
	o, err := b.chosen.object(ctx, e)
	if err != nil {
		return Action{}, err
	}
	if err := b.chosen.damaged[e.Key]; err != nil {
		return a.damaged(err), nil
	}
	a.owners, a.reaches = o.Owners(), b.mapping.reaches(e.Key, o)
	if a.Reason = b.leaveOut(e.Key, o); a.Reason != "" {
		a.Verb = Skip
		return a, nil
	}
	var ok bool
	if a.resource, ok = b.served.Find(e.Key.Group, e.Key.Resource); !ok {
		if a.resource, ok = b.defined[e.Key.GroupResource()]; !ok {
			return a.refused("the cluster has no kind " + o.Kind() + " in " + o.APIVersion()), nil
		}
	}
	served := strings.Join(a.resource.Versions, ", ")
	if a.resource, ok = a.resource.At(e.Attributes.Version); !ok {
		return a.refused(fmt.Sprintf("it is stored in version %s, and the cluster serves %s", e.Attributes.Version, served)), nil
	}
	there, err := b.present.get(ctx, a.resource, a.Target)
	if err != nil {
		return Action{}, err
	}
	if e.Key.Group == "" && e.Key.Resource == "persistentvolumeclaims" {
		if a.volume, err = b.keepsVolume(ctx, a, o); err != nil {
			return Action{}, err
		}
	}
	if there == nil {
		a.Verb = Create
		return a, nil
	}
	a.uid = there.UID()
	wanted := b.render(a, o)
	if a.rebind = b.released(a, wanted, there); a.rebind {
		a.Verb, a.Reason = Merge, "its claim is restored, too"
		return a, nil
	}
	a.Verb, a.Reason, err = b.compare(&a, wanted, there)
	return a, err
}

// leaveOut says why an object is not restored, or nothing.
func (b *preparer) leaveOut(k kube.Key, o kube.Object) string {
	if reason := needless(k, o, b.plan.Completed); reason != "" {
		return reason
	}
	if b.plan.Jobs == JobsSkip && k.Group == "batch" && k.Resource == "jobs" {
		return "the plan leaves Jobs out"
	}
	for _, owner := range o.Owners() {
		if _, chosen := b.byUID[owner.UID]; chosen && owner.Controller && makesAgain(o, owner) {
			return "its " + owner.Kind + " " + owner.Name + " makes it again"
		}
	}
	service := kube.Key{Resource: "services", Namespace: k.Namespace, Name: k.Name}
	if k.Group == "" && k.Resource == "endpoints" && b.selector[service] {
		return "its Service makes it again"
	}
	return ""
}

// keepsVolume reports whether a claim finds the volume it was bound to: one that is restored, or one
// that is there and free or waiting for this very claim.
func (b *preparer) keepsVolume(ctx context.Context, a Action, claim kube.Object) (bool, error) {
	k := kube.Key{Resource: "persistentvolumes", Name: claim.Text("spec", "volumeName")}
	if k.Name == "" {
		return false, nil
	}
	resource, ok := b.served.Find(k.Group, k.Resource)
	if !ok {
		return false, nil
	}
	there, err := b.present.get(ctx, resource, k)
	if err != nil {
		return false, err
	}
	if there == nil {
		return b.byKey[k], nil
	}
	if there.Map("spec", "claimRef") == nil {
		return true, nil
	}
	mine := there.Text("spec", "claimRef", "namespace") == a.Target.Namespace && there.Text("spec", "claimRef", "name") == a.Target.Name
	return mine && (there.Text("status", "phase") != "Released" || b.byKey[k]), nil
}

// released reports whether a volume has lost its claim, and the same claim is restored.
func (b *preparer) released(a Action, wanted, there kube.Object) bool {
	if a.Key.Group != "" || a.Key.Resource != "persistentvolumes" || there.Text("status", "phase") != "Released" {
		return false
	}
	if claimOf(a.Key, there) != claimOf(a.Key, wanted) {
		return false
	}
	target := kube.Key{Resource: "persistentvolumeclaims", Namespace: wanted.Text("spec", "claimRef", "namespace"), Name: wanted.Text("spec", "claimRef", "name")}
	return slices.ContainsFunc(b.chosen.chosen, func(e kube.Entry) bool { return b.mapping.key(e.Key) == target })
}

// addNamespaces adds the namespaces that objects go to and that nobody would make otherwise: as they
// are in the backup, or with nothing but their name.
func (b *preparer) addNamespaces() {
	made := map[string]bool{}
	for _, a := range b.Actions {
		if a.Key.Group == "" && a.Key.Resource == "namespaces" && a.Verb != Refuse {
			made[a.Target.Name] = true
		}
	}
	for _, a := range b.Actions {
		to := a.Target.Namespace
		if to == "" || made[to] || a.Verb != Create || b.present.hasNamespace(to) {
			continue
		}
		made[to] = true
		added := Action{
			Key: kube.Key{Resource: "namespaces", Name: a.Key.Namespace}, Target: kube.Key{Resource: "namespaces", Name: to},
			Wave: waveNamespaces, Verb: Create, Reason: "objects are restored into it", resource: namespaceResource,
		}
		if e, ok := b.chosen.spaces[a.Key.Namespace]; ok && b.chosen.damaged[e.Key] == nil {
			added.entry = &e
		}
		b.Actions = append(b.Actions, added)
	}
}

// setDepths finds out how many owners stand above each custom resource, so that owners come first.
func (b *preparer) setDepths() {
	at := map[string]int{}
	for i, a := range b.Actions {
		if a.entry != nil {
			at[a.entry.Attributes.UID] = i
		}
	}
	for i := range b.Actions {
		if b.Actions[i].Wave == waveCustom {
			b.Actions[i].depth = b.depth(i, at, len(b.Actions))
		}
	}
}

// depth follows owners upwards; most bounds it where they go in a circle.
func (b *preparer) depth(i int, at map[string]int, most int) int {
	deepest := 0
	for _, owner := range b.Actions[i].owners {
		if up, ok := at[owner.UID]; ok && up != i && most > 0 {
			deepest = max(deepest, 1+b.depth(up, at, min(most, maxDepth)-1))
		}
	}
	return deepest
}

// maxDepth is how long a chain of owners is followed.
const maxDepth = 16

// render makes of an object of the backup the one to be made: mapped and cleaned, without owners.
func (p *Prepared) render(a Action, o kube.Object) kube.Object {
	o = o.Clone()
	p.mapping.object(a.Key, o)
	clean(a.Key, o, cleaning{
		nodePorts: p.plan.PreserveNodePorts, volume: a.volume, suspend: p.plan.Jobs == JobsSuspend,
	})
	return o
}
