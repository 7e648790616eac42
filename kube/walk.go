package kube

import (
	"context"
	"errors"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
)

// defaultAhead is how many resources are listed at the same time.
const defaultAhead = 4

// WalkOptions say how a selection is read. The zero value is the usual way.
type WalkOptions struct {
	PageSize int // objects a request, [DefaultPageSize] if zero
	Ahead    int // resources listed at the same time, 4 if zero
}

// Listing is the selected objects of one resource by key, or why they could not be read.
type Listing struct {
	Resource Resource
	Items    []Item
	Err      error
}

// Walk lists what is selected and visits it, resource by resource in the order of keys. A resource
// that cannot be read is visited with its error; an unreachable cluster ends the walk.
//
// A selection of whole namespaces streams: a few resources are in memory at a time. One by labels, or
// with objects of the whole cluster that must be related to the chosen ones, is in memory as a whole,
// because the objects that decide come after those they decide about.
func (s *Selection) Walk(ctx context.Context, o WalkOptions, visit func(Listing) error) error {
	if s.streams() {
		listed := slices.Concat(s.resources, []Resource{namespaces})
		slices.SortFunc(listed, func(a, b Resource) int { return a.key("", "").compareKind(b.key("", "")) })
		return s.list(ctx, o, listed, visit)
	}
	var decisive, related []Resource
	for _, r := range s.resources {
		if r.Namespaced {
			decisive = append(decisive, r)
		} else {
			related = append(related, r)
		}
	}
	var all []Listing
	relations := NewRelations()
	keep := func(l Listing) error {
		all = append(all, l)
		for _, item := range l.Items {
			if err := relations.Add(item.Key, item.Object); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.list(ctx, o, decisive, keep); err != nil {
		return err
	}
	slices.SortStableFunc(related, func(a, b Resource) int { return relations.Rank(a.key("", "")) - relations.Rank(b.key("", "")) })
	if err := s.list(ctx, o, related, func(l Listing) error {
		var err error
		l.Items, err = s.relatedItems(relations, l.Items)
		return errors.Join(err, keep(l))
	}); err != nil {
		return err
	}
	all = append(all, Listing{Resource: namespaces, Items: s.neededNamespaces(relations)})
	slices.SortFunc(all, func(a, b Listing) int { return a.Resource.key("", "").compareKind(b.Resource.key("", "")) })
	for _, l := range all {
		if err := visit(l); err != nil {
			return err
		}
	}
	return nil
}

// relatedItems returns those objects of the whole cluster that are related to chosen ones, or chosen
// themselves.
func (s *Selection) relatedItems(r *Relations, items []Item) ([]Item, error) {
	var kept []Item
	for _, item := range items {
		related, err := r.Relates(item.Key, item.Object)
		if err != nil {
			return nil, err
		}
		if related || s.scope == scopeAll && s.selector.Matches(labels.Set(item.Labels)) {
			kept = append(kept, item)
		}
	}
	return kept, nil
}

// streams reports whether every resource decides about its own objects alone.
func (s *Selection) streams() bool {
	return s.selector.Empty() && s.scope != scopeRelated && s.choice.Has(namespaces.Group, namespaces.Name)
}

// neededNamespaces returns the Namespace objects to take: of every namespace with something in it, and
// the chosen ones that match by themselves.
func (s *Selection) neededNamespaces(r *Relations) []Item {
	if s.choice.Excludes(namespaces.Group, namespaces.Name) {
		return nil
	}
	var needed []Item
	for _, item := range s.namespaces {
		itself := s.choice.Has(namespaces.Group, namespaces.Name) && s.selector.Matches(labels.Set(item.Labels))
		if itself || r.InNamespace(item.Key.Name) {
			needed = append(needed, item)
		}
	}
	return needed
}

// list lists resources, a few at the same time, and visits them in the order given.
func (s *Selection) list(ctx context.Context, o WalkOptions, resources []Resource, visit func(Listing) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	ahead := o.Ahead
	if ahead == 0 {
		ahead = defaultAhead
	}
	results := make(chan chan Listing, ahead) // in order; its capacity bounds what runs ahead
	running.Go(func() {
		defer close(results)
		for _, r := range resources {
			result := make(chan Listing, 1)
			select {
			case results <- result:
			case <-ctx.Done():
				return
			}
			running.Go(func() { result <- s.listOne(ctx, o, r) })
		}
	})
	for result := range results {
		listing := <-result
		if errors.Is(listing.Err, ErrUnreachable) || ctx.Err() != nil {
			return listing.Err
		}
		if err := visit(listing); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// listOne lists the selected objects of a resource; labels of objects of the whole cluster aside, about
// which relations decide too.
func (s *Selection) listOne(ctx context.Context, o WalkOptions, r Resource) Listing {
	l := Listing{Resource: r}
	if r.Group == namespaces.Group && r.Name == namespaces.Name {
		l.Items = s.namespaces
		return l
	}
	queries := []Query{{PageSize: o.PageSize}}
	if r.Namespaced {
		queries[0].Selector = s.selector.String()
		if !s.globs.All() && len(s.chosen) <= fewNamespaces {
			queries = nil
			for _, name := range s.Namespaces() {
				queries = append(queries, Query{Namespace: name, Selector: s.selector.String(), PageSize: o.PageSize})
			}
		}
	}
	for _, q := range queries {
		items, err := s.cluster.List(ctx, r, q)
		if err != nil {
			return Listing{Resource: r, Err: err}
		}
		for _, item := range items {
			if s.takes(item) {
				l.Items = append(l.Items, item)
			}
		}
	}
	return l
}
