package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
)

// Resource is one kind of object as an API server serves it.
type Resource struct {
	Group      string   `json:"group,omitempty"`
	Version    string   `json:"version"`            // the one the server prefers
	Name       string   `json:"name"`               // the plural that stands in URLs
	Kind       string   `json:"kind"`               //
	Singular   string   `json:"singular,omitempty"` //
	Short      []string `json:"short,omitempty"`    // short names, such as deploy
	Verbs      []string `json:"verbs,omitempty"`    // what can be done with it
	Versions   []string `json:"versions,omitempty"` // all that are served, the preferred first
	Twins      []string `json:"twins,omitempty"`    // other groups that serve the same objects
	Namespaced bool     `json:"namespaced,omitempty"`
}

// Catalog is what an API server serves, as far as it told.
type Catalog struct {
	Server    string     `json:"server"`    // the server's release, such as v1.36.3
	Resources []Resource `json:"resources"` // in the server's order, which decides what a bare name means
	Failed    []Failure  `json:"-"`         // groups that could not be asked
}

// Failure is a part of a cluster that could not be read, so that a result without it is incomplete.
type Failure struct {
	What string // a group and version, a resource, a namespace or an object
	Err  error
}

// errDown is what an aggregated API looks like whose server cannot be reached.
var errDown = errors.New("the server of this API does not answer")

// namespaces is the one resource that is needed before discovery.
var namespaces = Resource{Version: "v1", Name: "namespaces", Kind: "Namespace"}

// twins are the resources that two groups serve from the same stored objects. The first group's is taken.
var twins = []struct {
	resource string
	groups   []string
}{
	{"deployments", []string{"apps", "extensions"}},
	{"daemonsets", []string{"apps", "extensions"}},
	{"replicasets", []string{"apps", "extensions"}},
	{"events", []string{"events.k8s.io", ""}},
	{"ingresses", []string{"networking.k8s.io", "extensions"}},
	{"networkpolicies", []string{"networking.k8s.io", "extensions"}},
	{"podsecuritypolicies", []string{"policy", "extensions"}},
}

// Discover asks the API server what it serves. Groups whose own server does not answer are named in
// the catalog; only when nothing can be asked at all is it an error.
func (c *Cluster) Discover(ctx context.Context) (*Catalog, error) {
	const attempt = "discover what the cluster serves"
	info, err := c.discovery.ServerVersionWithContext(ctx)
	if err != nil {
		return nil, c.explain(ctx, attempt, err)
	}
	groups, lists, err := c.discovery.ServerGroupsAndResourcesWithContext(ctx)
	var failed *discovery.ErrGroupDiscoveryFailed
	if err != nil && !errors.As(err, &failed) {
		return nil, c.explain(ctx, attempt, err)
	}
	catalog := &Catalog{Server: info.GitVersion}
	if failed != nil {
		for _, gv := range slices.SortedFunc(maps.Keys(failed.Groups), func(a, b schema.GroupVersion) int {
			return strings.Compare(a.String(), b.String())
		}) {
			reason := failed.Groups[gv]
			if stale := (discovery.StaleGroupVersionError{}); errors.As(reason, &stale) {
				reason = errDown
			}
			catalog.Failed = append(catalog.Failed, Failure{What: gv.String(), Err: reason})
		}
	}
	served := make(map[string]*metav1.APIResourceList, len(lists))
	for _, list := range lists {
		served[list.GroupVersion] = list
	}
	for _, group := range groups {
		catalog.addGroup(group, served)
	}
	catalog.joinTwins()
	return catalog, nil
}

// addGroup adds the resources of a group, each in the first version that has it.
func (c *Catalog) addGroup(group *metav1.APIGroup, served map[string]*metav1.APIResourceList) {
	versions := []string{group.PreferredVersion.Version}
	for _, v := range group.Versions {
		if v.Version != group.PreferredVersion.Version {
			versions = append(versions, v.Version)
		}
	}
	place := map[string]int{}
	for _, version := range versions {
		list := served[schema.GroupVersion{Group: group.Name, Version: version}.String()]
		if list == nil {
			continue
		}
		for _, r := range list.APIResources {
			if strings.Contains(r.Name, "/") {
				continue // a subresource
			}
			if at, known := place[r.Name]; known {
				c.Resources[at].Versions = append(c.Resources[at].Versions, version)
				continue
			}
			place[r.Name] = len(c.Resources)
			c.Resources = append(c.Resources, Resource{
				Group: group.Name, Version: version, Name: r.Name, Kind: r.Kind, Singular: r.SingularName,
				Short: r.ShortNames, Verbs: slices.Sorted(slices.Values(r.Verbs)),
				Versions: []string{version}, Namespaced: r.Namespaced,
			})
		}
	}
}

// joinTwins leaves of resources that are the same objects in two groups only one.
func (c *Catalog) joinTwins() {
	for _, twin := range twins {
		keep := -1
		for _, group := range twin.groups {
			at := slices.IndexFunc(c.Resources, func(r Resource) bool { return r.Group == group && r.Name == twin.resource })
			switch {
			case at < 0:
			case keep < 0:
				keep = at
			default:
				c.Resources[keep].Twins = append(c.Resources[keep].Twins, group)
				c.Resources = slices.Delete(c.Resources, at, at+1)
				if at < keep {
					keep--
				}
			}
		}
	}
}

// ReadCatalog reads a catalog from the JSON that a snapshot keeps of it.
func ReadCatalog(text []byte) (*Catalog, error) {
	var c Catalog
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("read the catalog of resources: %w", err)
	}
	return &c, nil
}

// Find returns the resource of a group and plural name; a twin's group finds it too.
func (c *Catalog) Find(group, name string) (Resource, bool) {
	for _, r := range c.Resources {
		if r.Name == name && (r.Group == group || slices.Contains(r.Twins, group)) {
			return r, true
		}
	}
	return Resource{}, false
}

// FindKind returns the resource of an apiVersion and kind.
func (c *Catalog) FindKind(apiVersion, kind string) (Resource, bool) {
	group := groupOf(apiVersion)
	for _, r := range c.Resources {
		if r.Kind == kind && (r.Group == group || slices.Contains(r.Twins, group)) {
			return r, true
		}
	}
	return Resource{}, false
}

// DefinedBy returns the resource that a CustomResourceDefinition defines, before any server serves it.
func DefinedBy(definition Object) Resource {
	r := Resource{
		Group: definition.Text("spec", "group"), Name: definition.Text("spec", "names", "plural"),
		Kind: definition.Text("spec", "names", "kind"), Singular: definition.Text("spec", "names", "singular"),
		Namespaced: definition.Text("spec", "scope") == "Namespaced",
		Verbs:      []string{"create", "delete", "get", "list", "patch", "update"},
	}
	for _, version := range definition.Each("spec", "versions") {
		if served, _ := version["served"].(bool); served {
			r.Versions = append(r.Versions, version.Text("name"))
		}
	}
	if len(r.Versions) > 0 {
		r.Version = r.Versions[0]
	}
	return r
}

// String returns the resource as filters and messages name it: deployments.apps, pods.
func (r Resource) String() string { return Key{Group: r.Group, Resource: r.Name}.GroupResource() }

// APIVersion returns the group and version as objects name them: apps/v1, v1.
func (r Resource) APIVersion() string {
	return schema.GroupVersion{Group: r.Group, Version: r.Version}.String()
}

// At returns the resource in another version, if the server serves it.
func (r Resource) At(version string) (Resource, bool) {
	if !slices.Contains(r.Versions, version) {
		return Resource{}, false
	}
	r.Version = version
	return r, true
}

// Can reports whether the server allows all the verbs on the resource.
func (r Resource) Can(verbs ...string) bool {
	return !slices.ContainsFunc(verbs, func(v string) bool { return !slices.Contains(r.Verbs, v) })
}

func (r Resource) key(namespace, name string) Key {
	return Key{Group: r.Group, Resource: r.Name, Namespace: namespace, Name: name}
}

// path returns the URL path of the resource: of all objects, of a namespace's, or of one.
func (r Resource) path(namespace, name string) string {
	path := "/apis/" + r.Group + "/" + r.Version
	if r.Group == "" {
		path = "/api/" + r.Version
	}
	if r.Namespaced && namespace != "" {
		path += "/namespaces/" + namespace
	}
	path += "/" + r.Name
	if name != "" {
		path += "/" + name
	}
	return path
}
