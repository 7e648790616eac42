package restore

import (
	"context"
	"errors"

	"github.com/varve-dev/varve/kube"
)

// fewNamespaces is up to how many namespaces are listed one by one, instead of all at once.
const fewNamespaces = 4

// present knows what the target has, of the kinds and namespaces that a restore touches. It lists each
// once, when it is first asked about.
type present struct {
	cluster    *kube.Cluster
	namespaces map[string]kube.Item                // by name
	spaces     map[[2]string]map[string]bool       // by group and resource: the namespaces it is restored to
	listed     map[kube.Key]map[kube.Key]kube.Item // by a key without name, then by the object's
}

var namespaceResource = kube.Resource{Version: "v1", Name: "namespaces", Kind: "Namespace", Versions: []string{"v1"}}

// newPresent looks at the target's namespaces. The targets are where the restore would put objects.
func newPresent(ctx context.Context, c *kube.Cluster, targets []kube.Key) (*present, error) {
	p := &present{
		cluster: c, namespaces: map[string]kube.Item{},
		spaces: map[[2]string]map[string]bool{}, listed: map[kube.Key]map[kube.Key]kube.Item{},
	}
	items, err := c.List(ctx, namespaceResource, kube.Query{})
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		p.namespaces[item.Key.Name] = item
	}
	for _, k := range targets {
		kind := [2]string{k.Group, k.Resource}
		if p.spaces[kind] == nil {
			p.spaces[kind] = map[string]bool{}
		}
		p.spaces[kind][k.Namespace] = true
	}
	return p, nil
}

// hasNamespace reports whether a namespace is there to stay.
func (p *present) hasNamespace(name string) bool {
	item, ok := p.namespaces[name]
	return ok && !item.Terminating()
}

// get returns the object of a key in the target. What is about to vanish is as good as absent.
func (p *present) get(ctx context.Context, r kube.Resource, k kube.Key) (kube.Object, error) {
	if k.Namespace != "" && !p.hasNamespace(k.Namespace) {
		return nil, nil
	}
	scope := kube.Key{Group: k.Group, Resource: k.Resource}
	if len(p.spaces[[2]string{k.Group, k.Resource}]) <= fewNamespaces {
		scope.Namespace = k.Namespace
	}
	objects, known := p.listed[scope]
	if !known {
		items, err := p.cluster.List(ctx, r, kube.Query{Namespace: scope.Namespace})
		if errors.Is(err, kube.ErrUnreachable) || ctx.Err() != nil {
			return nil, err
		}
		// What is not served yet or may not be listed is taken for absent; making it will tell.
		objects = make(map[kube.Key]kube.Item, len(items))
		for _, item := range items {
			objects[item.Key] = item
		}
		p.listed[scope] = objects
	}
	item, ok := objects[k]
	if !ok || item.Terminating() {
		return nil, nil
	}
	return item.Object()
}
