package kube

import (
	"slices"
	"strings"
)

// Relations are the objects of the whole cluster that chosen objects rely on: volumes and storage
// classes of claims, priority classes of pods, roles bound to service accounts, the definitions of
// custom resources.
//
// All chosen objects of namespaces are added first. Then those of the whole cluster are asked about in
// the order of [Relations.Rank], and added if they are related, for they rely on others in turn.
type Relations struct {
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

// NewRelations returns those of no objects.
func NewRelations() *Relations {
	return &Relations{namespaces: map[string]bool{}, accounts: map[string]bool{}, needed: map[Key]bool{}}
}

// Add notes what a chosen object relies on. Only for some kinds the object is read.
func (r *Relations) Add(k Key, read func() (Object, error)) error {
	if k.Namespace != "" {
		r.namespaces[k.Namespace] = true
	}
	if k.Group != "" {
		r.needed[Key{Group: extensionsGroup, Resource: "customresourcedefinitions", Name: k.GroupResource()}] = true
	}
	if k.Group == "" && k.Resource == "serviceaccounts" {
		r.accounts[k.Namespace+"/"+k.Name] = true
	}
	relied := reliedOn(k)
	if relied == nil {
		return nil
	}
	o, err := read()
	if err != nil {
		return err
	}
	for _, key := range relied(o) {
		if key.Name != "" {
			r.needed[key] = true
		}
	}
	return nil
}

// Relates reports whether an object of the whole cluster is relied on by an added one.
func (r *Relations) Relates(k Key, read func() (Object, error)) (bool, error) {
	if k.Group != rbacGroup || k.Resource != "clusterrolebindings" {
		return r.needed[k], nil
	}
	o, err := read()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(o.Each("subjects"), func(subject Object) bool {
		return subject.Text("kind") == "ServiceAccount" && r.accounts[subject.Text("namespace")+"/"+subject.Text("name")]
	}), nil
}

// InNamespace reports whether an object of that namespace was added.
func (r *Relations) InNamespace(name string) bool { return r.namespaces[name] }

// Rank says when objects of the whole cluster are asked about: bindings, which decide about roles, and
// volumes, which decide about storage classes, before the rest, and definitions of resources last.
func (*Relations) Rank(k Key) int {
	switch k.Resource {
	case "clusterrolebindings", "persistentvolumes":
		return 0
	case "customresourcedefinitions":
		return 2
	}
	return 1
}

// reliedOn returns what finds the objects of the whole cluster that an object of the resource relies
// on, or nil if it relies on none.
func reliedOn(k Key) func(Object) []Key {
	switch k.Group {
	case "":
		switch k.Resource {
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
		if k.Resource == "cronjobs" {
			return priority("spec", "jobTemplate", "spec", "template", "spec")
		}
		return priority("spec", "template", "spec")
	case rbacGroup:
		if strings.HasSuffix(k.Resource, "bindings") {
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
