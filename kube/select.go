package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// ExcludeLabel set to "true" on an object, or on the namespace it is in, keeps it out of backups.
const ExcludeLabel = "varve.dev/exclude-from-backup"

// fewNamespaces is up to how many chosen namespaces are listed one by one, which costs the API server
// less than listing all and needs no rights beyond them.
const fewNamespaces = 8

// uninteresting are resources that a backup leaves out unless they are asked for by name: they move
// all the time and mean nothing after a restore, or would change by the backup itself.
var uninteresting = [][2]string{
	{"", "events"}, {"events.k8s.io", "events"},
	{"coordination.k8s.io", "leases"},
	{"varve.dev", "backups"}, {"varve.dev", "restores"},
	{"varve.dev", "volumebackups"}, {"varve.dev", "volumerestores"},
}

// Selection is what a filter means in a cluster: resources and namespaces, resolved.
type Selection struct {
	// Warnings are remarks that make the selection not incomplete: names that excluded nothing.
	Warnings []string
	// Failures are what the filter means and could not be read.
	Failures []Failure

	cluster    *Cluster
	choice     Choice
	resources  []Resource // to list, by key
	globs      Globs
	selector   labels.Selector
	scope      scope
	namespaces []Item          // the chosen ones
	chosen     map[string]bool // their names
}

// scope says which objects of the whole cluster are taken, Namespace objects aside.
type scope int

const (
	scopeAll scope = iota
	scopeRelated
	scopeNone
)

// Select resolves a filter against the cluster.
func (c *Cluster) Select(ctx context.Context, catalog *Catalog, f Filter) (*Selection, error) {
	s := &Selection{cluster: c, chosen: map[string]bool{}}
	var err error
	if s.globs, err = f.Namespaces(); err != nil {
		return nil, err
	}
	if s.selector, err = f.Selector(); err != nil {
		return nil, err
	}
	if s.choice, err = f.Choose(catalog); err != nil {
		return nil, err
	}
	switch {
	case f.IncludeClusterResources != nil && *f.IncludeClusterResources:
		s.scope = scopeAll
	case f.IncludeClusterResources != nil:
		s.scope = scopeNone
	case !s.globs.All():
		s.scope = scopeRelated
	}
	for _, name := range s.choice.Unknown {
		s.Warnings = append(s.Warnings, fmt.Sprintf("the cluster has no resource %q", name))
	}
	s.failedGroups(catalog, f)
	for _, r := range catalog.Resources {
		if s.wants(r) {
			s.resources = append(s.resources, r)
		}
	}
	slices.SortFunc(s.resources, func(a, b Resource) int { return a.key("", "").compareKind(b.key("", "")) })
	if err := s.findNamespaces(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// wants reports whether objects of the resource are to be listed.
func (s *Selection) wants(r Resource) bool {
	if r.Group == namespaces.Group && r.Name == namespaces.Name {
		return false // they come by themselves
	}
	if !r.Can("list", "get", "create") || !s.choice.Has(r.Group, r.Name) {
		return false
	}
	if !r.Namespaced && s.scope == scopeNone {
		return false
	}
	return !slices.Contains(uninteresting, [2]string{r.Group, r.Name}) || s.choice.Asked(r.Group, r.Name)
}

// failedGroups names the groups that could not be asked and may hold what the filter means.
func (s *Selection) failedGroups(catalog *Catalog, f Filter) {
	for _, failure := range catalog.Failed {
		group := groupOf(failure.What)
		meant := len(f.IncludedResources) == 0 || slices.ContainsFunc(f.IncludedResources, func(pattern string) bool {
			return pattern == "*" || (isGlob(pattern) || len(catalog.Match(pattern)) == 0) && couldMatch(pattern, group)
		})
		if meant && !matchAny(f.ExcludedResources, "x."+group) {
			s.Failures = append(s.Failures, failure)
		}
	}
}

// findNamespaces reads the namespaces and keeps the chosen ones. Where only names are given they are
// read one by one, which needs no right to list them all.
func (s *Selection) findNamespaces(ctx context.Context) error {
	names, only := s.globs.Names()
	var found []Item
	if only && len(names) <= fewNamespaces {
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			raw, err := s.cluster.raw(ctx, "get namespace "+name, s.cluster.client.Get().AbsPath(namespaces.path("", name)))
			if errors.Is(err, ErrAbsent) {
				continue // named below
			}
			if err != nil {
				return err
			}
			item, err := namespaces.Item(raw)
			if err != nil {
				return fmt.Errorf("get namespace %s: %w", name, err)
			}
			found = append(found, item)
		}
	} else {
		var err error
		if found, err = s.cluster.List(ctx, namespaces, Query{}); err != nil {
			return err
		}
	}
	exists := map[string]bool{}
	for _, item := range found {
		name := item.Key.Name
		exists[name] = true
		if s.globs.Match(name) && !item.terminating && item.Labels[ExcludeLabel] != "true" {
			s.chosen[name] = true
			s.namespaces = append(s.namespaces, item)
		}
	}
	for _, name := range names {
		if !exists[name] {
			s.Failures = append(s.Failures, Failure{What: "namespace " + name, Err: ErrAbsent})
		}
	}
	return nil
}

// Namespaces returns the names of the chosen namespaces in order.
func (s *Selection) Namespaces() []string { return slices.Sorted(maps.Keys(s.chosen)) }

// Resources returns the resources of which objects are looked for, by key, Namespaces aside.
func (s *Selection) Resources() []Resource { return slices.Clone(s.resources) }

// takes reports whether an object is selected by where it is and what it is; labels aside.
func (s *Selection) takes(i Item) bool {
	if i.terminating || i.Labels[ExcludeLabel] == "true" {
		return false
	}
	if i.resource.Namespaced && !s.chosen[i.Key.Namespace] {
		return false
	}
	return i.Key.Group != "" || i.Key.Resource != "secrets" || i.secretType != tokenSecret
}
