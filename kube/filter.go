package kube

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// Filter says in a user's words which objects are meant. The zero value means all of them.
//
// Resources are named as kubectl does, by plural, singular, kind or short name, with or without the
// group (deployments, deploy, Deployment, deployments.apps), or by globs over the name with its group
// (*.cert-manager.io). Namespaces are names or globs. An exclusion beats an inclusion.
type Filter struct {
	IncludedNamespaces []string `json:"includedNamespaces,omitempty"`
	ExcludedNamespaces []string `json:"excludedNamespaces,omitempty"`
	IncludedResources  []string `json:"includedResources,omitempty"`
	ExcludedResources  []string `json:"excludedResources,omitempty"`
	LabelSelector      string   `json:"labelSelector,omitempty"` // in kubectl's syntax: app=shop,tier!=cache

	// IncludeClusterResources is about objects of the whole cluster: true takes all of them, false none
	// but the Namespace objects. Unset takes all of them when every namespace is meant, and otherwise
	// those to which the chosen objects are related.
	IncludeClusterResources *bool `json:"includeClusterResources,omitempty"`

	// IgnoreUnknown takes an unknown name among the included resources as one that matches nothing.
	IgnoreUnknown bool `json:"ignoreUnknown,omitempty"`
}

// ErrFilter means that a filter contradicts itself or cannot be read.
var ErrFilter = errors.New("the filter cannot be used")

// UnknownResourceError says that a name means no resource of the cluster.
type UnknownResourceError struct {
	Name string
	Near []string // names that look like it
}

// Error names the unknown name, and what it may have been meant for.
func (e *UnknownResourceError) Error() string {
	if len(e.Near) == 0 {
		return fmt.Sprintf("the cluster has no resource %q", e.Name)
	}
	return fmt.Sprintf("the cluster has no resource %q; did you mean %s?", e.Name, strings.Join(e.Near, " or "))
}

// Globs matches names against those included, all if there are none, and not excluded.
type Globs struct{ included, excluded []string }

// NewGlobs checks the patterns of [path.Match] and that the two lists do not contradict each other.
func NewGlobs(included, excluded []string) (Globs, error) {
	for _, pattern := range slices.Concat(included, excluded) {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" || strings.Contains(pattern, "**") {
			return Globs{}, fmt.Errorf("%w: %q is not a name or a glob", ErrFilter, pattern)
		}
	}
	for _, pattern := range excluded {
		if pattern == "*" {
			return Globs{}, fmt.Errorf("%w: excluding * leaves nothing", ErrFilter)
		}
		if slices.Contains(included, pattern) {
			return Globs{}, fmt.Errorf("%w: %q is both included and excluded", ErrFilter, pattern)
		}
	}
	return Globs{included, excluded}, nil
}

// All reports whether no name is left out.
func (g Globs) All() bool {
	return len(g.excluded) == 0 && (len(g.included) == 0 || slices.Contains(g.included, "*"))
}

// Match reports whether the name is meant.
func (g Globs) Match(name string) bool {
	return (len(g.included) == 0 || matchAny(g.included, name)) && !matchAny(g.excluded, name)
}

// Names returns the included names that are not globs, and whether all of the inclusions are such.
func (g Globs) Names() (names []string, only bool) {
	for _, pattern := range g.included {
		if !isGlob(pattern) {
			names = append(names, pattern)
		}
	}
	return names, len(names) > 0 && len(names) == len(g.included)
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, err := path.Match(pattern, name)
		return ok && err == nil
	})
}

func isGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// Namespaces returns the filter's matcher of namespaces.
func (f Filter) Namespaces() (Globs, error) {
	g, err := NewGlobs(f.IncludedNamespaces, f.ExcludedNamespaces)
	if err != nil {
		return Globs{}, fmt.Errorf("namespaces: %w", err)
	}
	return g, nil
}

// Selector returns the filter's matcher of labels.
func (f Filter) Selector() (labels.Selector, error) {
	s, err := labels.Parse(f.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("label selector %q: %w: %w", f.LabelSelector, ErrFilter, err)
	}
	return s, nil
}

// Choice is which of a catalog's resources a filter means.
type Choice struct {
	included map[[2]string]bool // by group and name; nil means all
	excluded map[[2]string]bool
	asked    map[[2]string]bool // included by more than a bare *
	Unknown  []string           // names that mean nothing and were let pass
}

// Choose finds the resources that a filter names. An unknown name among the included is an
// [UnknownResourceError], for it would make a backup silently smaller than meant; one among the
// excluded is only noted.
func (f Filter) Choose(c *Catalog) (Choice, error) {
	if _, err := NewGlobs(f.IncludedResources, f.ExcludedResources); err != nil {
		return Choice{}, fmt.Errorf("resources: %w", err)
	}
	choice := Choice{excluded: map[[2]string]bool{}, asked: map[[2]string]bool{}}
	if len(f.IncludedResources) > 0 {
		choice.included = map[[2]string]bool{}
	}
	for _, pattern := range f.IncludedResources {
		if pattern == "*" {
			choice.included = nil
			continue
		}
		found := c.Match(pattern)
		if len(found) == 0 {
			if !f.IgnoreUnknown && !isGlob(pattern) {
				return Choice{}, &UnknownResourceError{Name: pattern, Near: c.near(pattern)}
			}
			choice.Unknown = append(choice.Unknown, pattern)
		}
		for _, r := range found {
			choice.asked[[2]string{r.Group, r.Name}] = true
			if choice.included != nil {
				choice.included[[2]string{r.Group, r.Name}] = true
			}
		}
	}
	for _, pattern := range f.ExcludedResources {
		found := c.Match(pattern)
		if len(found) == 0 {
			choice.Unknown = append(choice.Unknown, pattern)
		}
		for _, r := range found {
			choice.excluded[[2]string{r.Group, r.Name}] = true
		}
	}
	return choice, nil
}

// Has reports whether the resource of that group and name is meant.
func (c Choice) Has(group, name string) bool {
	at := [2]string{group, name}
	return (c.included == nil || c.included[at]) && !c.excluded[at]
}

// Asked reports whether the resource was named, and not just not left out.
func (c Choice) Asked(group, name string) bool {
	return c.asked[[2]string{group, name}] && c.Has(group, name)
}

// Excludes reports whether the resource was named among the excluded.
func (c Choice) Excludes(group, name string) bool { return c.excluded[[2]string{group, name}] }

// All reports whether every resource is meant.
func (c Choice) All() bool { return c.included == nil && len(c.excluded) == 0 }
