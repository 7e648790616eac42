package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A Resource is one collection that a server serves.
type Resource struct {
	Group      string // empty for the core
	Version    string
	Name       string // plural, as in paths: deployments
	Kind       string
	Namespaced bool
	Verbs      []string
}

// APIVersion returns the group and version as objects name them: apps/v1, or v1.
func (r Resource) APIVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// Path returns the path of an object, or without a name of the collection, in a namespace, or without
// one of the whole cluster.
func (r Resource) Path(namespace, name string) string {
	path := "/apis/" + r.APIVersion()
	if r.Group == "" {
		path = "/api/" + r.Version
	}
	if r.Namespaced && namespace != "" {
		path += "/namespaces/" + url.PathEscape(namespace)
	}
	path += "/" + r.Name
	if name != "" {
		path += "/" + url.PathEscape(name)
	}
	return path
}

// EveryVersion returns the collections that the server serves, in each version, without subresources:
// by group and name, and of one name the group's preferred version first.
func (c *Client) EveryVersion(ctx context.Context) ([]Resource, error) {
	var groups struct {
		Groups []struct {
			Name             string
			Versions         []struct{ Version string }
			PreferredVersion struct{ Version string }
		}
	}
	if err := c.Do(ctx, http.MethodGet, "/apis", nil, &groups); err != nil {
		return nil, err
	}
	all, err := c.resourcesOf(ctx, "", "v1")
	if err != nil {
		return nil, err
	}
	for _, g := range groups.Groups {
		versions := []string{g.PreferredVersion.Version}
		for _, v := range g.Versions {
			if v.Version != g.PreferredVersion.Version {
				versions = append(versions, v.Version)
			}
		}
		for _, version := range versions {
			resources, err := c.resourcesOf(ctx, g.Name, version)
			if err != nil {
				return nil, err
			}
			all = append(all, resources...)
		}
	}
	slices.SortStableFunc(all, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

// Resources returns the collections that the server serves, each once: in its group's preferred
// version, or the first that has it.
func (c *Client) Resources(ctx context.Context) ([]Resource, error) {
	all, err := c.EveryVersion(ctx)
	return slices.CompactFunc(all, func(a, b Resource) bool { return a.Group == b.Group && a.Name == b.Name }), err
}

// resourcesOf returns the collections of one group and version.
func (c *Client) resourcesOf(ctx context.Context, group, version string) ([]Resource, error) {
	var list struct{ Resources []Resource }
	r := Resource{Group: group, Version: version}
	path := strings.TrimSuffix(r.Path("", ""), "/")
	if err := c.Do(ctx, http.MethodGet, path, nil, &list); err != nil {
		return nil, err
	}
	var found []Resource
	for _, r := range list.Resources {
		if !strings.Contains(r.Name, "/") {
			r.Group, r.Version = group, version // the answer leaves them out where they are its own
			found = append(found, r)
		}
	}
	return found, nil
}

// Lasting returns the resources that can be listed and hold what lasts: not events and leases, which
// come and go by themselves, nor what is computed at each request.
func (c *Client) Lasting(ctx context.Context) ([]Resource, error) {
	all, err := c.Resources(ctx)
	return slices.DeleteFunc(all, func(r Resource) bool {
		passing := r.Kind == "Event" || r.Kind == "Lease" || r.Kind == "ComponentStatus"
		return passing || !slices.Contains(r.Verbs, "list")
	}), err
}
