package kube

import (
	"slices"
	"strings"
)

// relations are the objects of the whole cluster that chosen objects rely on: volumes and storage
// classes of claims, priority classes of pods, roles bound to service accounts, the definitions of
// custom resources.
type relations struct {
	namespaces map[string]bool // with a chosen object in them
	accounts   map[string]bool // service accounts, as namespace/name
	needed     map[Key]bool    // objects of the whole cluster
}

const (
	rbacGroup       = "rbac.authorization.k8s.io"
	storageGroup    = "storage.k8s.io"
	schedulingGroup = "scheduling.k8s.io"
	extensionsGroup = "apiextensions.k8s.io"
)

func newRelations() *relations {
	return &relations{namespaces: map[string]bool{}, accounts: map[string]bool{}, needed: map[Key]bool{}}
}

// add notes what the objects of a listing rely on.
func (r *relations) add(l Listing) error {
	if len(l.Items) == 0 {
		return nil
	}
	resource := l.Resource
	r.needed[Key{Group: extensionsGroup, Resource: "customresourcedefinitions", Name: resource.Name + "." + resource.Group}] = true
	for _, item := range l.Items {
		if resource.Namespaced {
			r.namespaces[item.Key.Namespace] = true
		}
		if resource.Group == "" && resource.Name == "serviceaccounts" {
			r.accounts[item.Key.Namespace+"/"+item.Key.Name] = true
		}
		relied := reliedOn(resource)
		if relied == nil {
			continue
		}
		o, err := item.Object()
		if err != nil {
			return err
		}
		for _, key := range relied(o) {
			if key.Name != "" {
				r.needed[key] = true
			}
		}
	}
	return nil
}

// reliedOn returns what finds the objects of the whole cluster that an object of the resource relies
// on, or nil if it relies on none.
func reliedOn(r Resource) func(Object) []Key {
	switch r.Group {
	case "":
		switch r.Name {
		case "persistentvolumeclaims":
			return func(o Object) []Key {
				return []Key{
					{Resource: "persistentvolumes", Name: o.Text("spec", "volumeName")},
					{Group: storageGroup, Resource: "storageclasses", Name: o.Text("spec", "storageClassName")},
				}
			}
		case "persistentvolumes":
			return func(o Object) []Key {
				return []Key{{Group: storageGroup, Resource: "storageclasses", Name: o.Text("spec", "storageClassName")}}
			}
		case "pods":
			return priority("spec")
		case "replicationcontrollers":
			return priority("spec", "template", "spec")
		}
	case "apps":
		return func(o Object) []Key {
			keys := priority("spec", "template", "spec")(o)
			for _, claim := range o.Each("spec", "volumeClaimTemplates") {
				keys = append(keys, Key{Group: storageGroup, Resource: "storageclasses", Name: claim.Text("spec", "storageClassName")})
			}
			return keys
		}
	case "batch":
		if r.Name == "cronjobs" {
			return priority("spec", "jobTemplate", "spec", "template", "spec")
		}
		return priority("spec", "template", "spec")
	case rbacGroup:
		if strings.HasSuffix(r.Name, "bindings") {
			return func(o Object) []Key {
				if o.Text("roleRef", "kind") != "ClusterRole" {
					return nil
				}
				return []Key{{Group: rbacGroup, Resource: "clusterroles", Name: o.Text("roleRef", "name")}}
			}
		}
	}
	return nil
}

func priority(podSpec ...string) func(Object) []Key {
	return func(o Object) []Key {
		name := o.Text(append(slices.Clone(podSpec), "priorityClassName")...)
		return []Key{{Group: schedulingGroup, Resource: "priorityclasses", Name: name}}
	}
}

// order puts the bindings, which decide about roles, and the volumes, which decide about storage
// classes, before the rest.
func (r *relations) order(resources []Resource) []Resource {
	ordered := slices.Clone(resources)
	slices.SortStableFunc(ordered, func(a, b Resource) int { return rank(a) - rank(b) })
	return ordered
}

func rank(r Resource) int {
	switch r.Name {
	case "clusterrolebindings", "persistentvolumes":
		return 0
	case "customresourcedefinitions":
		return 2 // after the custom resources of the whole cluster, which rely on them
	}
	return 1
}

// relates reports whether an object of the whole cluster is relied on by a chosen one.
func (r *relations) relates(i Item) (bool, error) {
	if i.Key.Group != rbacGroup || i.Key.Resource != "clusterrolebindings" {
		return r.needed[i.Key], nil
	}
	o, err := i.Object()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(o.Each("subjects"), func(subject Object) bool {
		return subject.Text("kind") == "ServiceAccount" && r.accounts[subject.Text("namespace")+"/"+subject.Text("name")]
	}), nil
}
