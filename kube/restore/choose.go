package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

var namespaceKey = kube.Key{Resource: "namespaces"}

// chooser finds the entries of a snapshot that a plan means.
type chooser struct {
	contents  *content.Reader
	filter    kube.Filter
	choice    kube.Choice
	globs     kube.Globs
	selector  labels.Selector
	relations *kube.Relations
	chosen    []kube.Entry
	spaces    map[string]kube.Entry // every Namespace object of the backup, by name
	names     map[string]bool       // namespaces of which the backup has anything
	damaged   map[kube.Key]error    // objects that were found to be damaged; they count as chosen
	catalog   error                 // what is damaged of what the cluster served, if anything
}

// choose returns the entries that the plan means, and every Namespace object of the backup.
func choose(ctx context.Context, d Deps, contents *content.Reader, p Plan) (*chooser, error) {
	c := &chooser{
		contents: contents, filter: p.Filter, relations: kube.NewRelations(),
		spaces: map[string]kube.Entry{}, names: map[string]bool{}, damaged: map[kube.Key]error{},
	}
	var err error
	if c.globs, err = p.Filter.Namespaces(); err != nil {
		return nil, err
	}
	if c.selector, err = p.Filter.Selector(); err != nil {
		return nil, err
	}
	catalog, err := catalogOf(ctx, d.Snapshot)
	if isDamage(err) { // then names mean what they mean now
		c.catalog = err
		catalog, err = d.Cluster.Discover(ctx)
	}
	if err != nil {
		return nil, err
	}
	if c.choice, err = p.Filter.Choose(catalog); err != nil {
		return nil, fmt.Errorf("in the backup: %w", err)
	}
	var global []kube.Entry
	for e, err := range d.Snapshot.Objects().Scan(ctx, tree.Range{}) {
		if err != nil {
			return nil, fmt.Errorf("read the objects of the backup: %w", err)
		}
		entry, err := kube.ParseEntry(e)
		if err != nil {
			return nil, fmt.Errorf("read the objects of the backup: %w", err)
		}
		if entry.Key.Namespace != "" {
			c.names[entry.Key.Namespace] = true
		}
		switch k := entry.Key; {
		case k.Group == "" && k.Resource == "namespaces":
			c.spaces[k.Name], c.names[k.Name] = entry, true
		case !c.choice.Has(k.Group, k.Resource):
		case k.Namespace == "":
			global = append(global, entry)
		case c.globs.Match(k.Namespace):
			if err := c.addMatching(ctx, entry); err != nil {
				return nil, err
			}
		}
	}
	if err := c.addGlobal(ctx, global); err != nil {
		return nil, err
	}
	if err := c.addNamespaces(ctx); err != nil {
		return nil, err
	}
	slices.SortFunc(c.chosen, func(a, b kube.Entry) int { return a.Key.Compare(b.Key) })
	return c, nil
}

// catalogOf returns what the cluster served when the backup was made.
func catalogOf(ctx context.Context, s *snapshot.Snapshot) (*kube.Catalog, error) {
	if s.Manifest.Objects.Empty() {
		return &kube.Catalog{}, nil
	}
	text, err := s.Discovery(ctx)
	if err != nil {
		return nil, err
	}
	return kube.ReadCatalog(text)
}

// missingNames returns the namespaces that the filter names and the backup does not have.
func (c *chooser) missingNames() []string {
	names, _ := c.globs.Names()
	return slices.DeleteFunc(names, func(name string) bool { return c.names[name] })
}

// checkMapping refuses a mapping that leaves a namespace where it should not go, or leads two into one.
func (c *chooser) checkMapping(m mapping) error {
	for _, from := range slices.Sorted(maps.Keys(m)) {
		switch {
		case !c.names[from]:
			return fmt.Errorf("%w: the backup has no namespace %q", ErrPlan, from)
		case !c.globs.Match(from):
			return fmt.Errorf("%w: namespace %q is mapped and not selected", ErrPlan, from)
		}
	}
	sources := map[string]string{}
	for _, from := range slices.Sorted(maps.Keys(c.names)) {
		if !c.globs.Match(from) {
			continue
		}
		to := m.name(from)
		if other, twice := sources[to]; twice {
			return fmt.Errorf("%w: both %q and %q would become %q", ErrPlan, other, from, to)
		}
		sources[to] = from
	}
	return nil
}

func (c *chooser) add(ctx context.Context, e kube.Entry) error {
	c.chosen = append(c.chosen, e)
	return c.relations.Add(e.Key, c.reader(ctx, e))
}

// addMatching adds the entry if the object has the labels that the filter asks for.
func (c *chooser) addMatching(ctx context.Context, e kube.Entry) error {
	matches, err := c.matches(ctx, e)
	if err != nil || !matches {
		return err
	}
	return c.add(ctx, e)
}

func (c *chooser) matches(ctx context.Context, e kube.Entry) (bool, error) {
	if c.selector.Empty() {
		return true, nil
	}
	o, err := c.object(ctx, &e)
	if err != nil {
		return false, err
	}
	return c.damaged[e.Key] != nil || c.selector.Matches(labels.Set(o.Labels())), nil
}

// object reads an object of the backup. One that is damaged is noted as such, and is empty.
func (c *chooser) object(ctx context.Context, e *kube.Entry) (kube.Object, error) {
	o, err := e.Object(ctx, c.contents)
	if isDamage(err) {
		c.damaged[e.Key] = err
		return kube.Object{}, nil
	}
	return o, err
}

func (c *chooser) reader(ctx context.Context, e kube.Entry) func() (kube.Object, error) {
	return func() (kube.Object, error) { return c.object(ctx, &e) }
}

// addGlobal adds the objects of the whole cluster: all, none, or those related to what is chosen.
func (c *chooser) addGlobal(ctx context.Context, global []kube.Entry) error {
	all, include := c.globs.All(), c.filter.IncludeClusterResources
	if include != nil {
		if all = *include; !all {
			return nil
		}
	}
	slices.SortStableFunc(global, func(a, b kube.Entry) int {
		return cmp.Compare(c.relations.Rank(a.Key), c.relations.Rank(b.Key))
	})
	for _, e := range global {
		related, err := c.relations.Relates(e.Key, c.reader(ctx, e))
		if err != nil {
			return err
		}
		switch {
		case related || c.damaged[e.Key] != nil:
			err = c.add(ctx, e)
		case all:
			err = c.addMatching(ctx, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// addNamespaces adds the Namespace objects of everything chosen, and those that are meant themselves.
func (c *chooser) addNamespaces(ctx context.Context) error {
	if c.choice.Excludes(namespaceKey.Group, namespaceKey.Resource) {
		return nil
	}
	for name, e := range c.spaces {
		needed := c.relations.InNamespace(name)
		if !needed && c.globs.Match(name) && c.choice.Has(namespaceKey.Group, namespaceKey.Resource) {
			var err error
			if needed, err = c.matches(ctx, e); err != nil {
				return err
			}
		}
		if needed {
			c.chosen = append(c.chosen, e)
		}
	}
	return nil
}

// checkEmpty refuses a selection of nothing.
func (c *chooser) checkEmpty(p Plan) error {
	if len(c.chosen) > 0 || p.AllowEmpty {
		return nil
	}
	if missing := c.missingNames(); len(missing) > 0 {
		return errors.Join(ErrEmptySelection, fmt.Errorf("the backup has no namespace %q", missing[0]))
	}
	return ErrEmptySelection
}

// isDamage tells an object that cannot be read ever again from a repository that does not answer.
func isDamage(err error) bool {
	return errors.Is(err, repo.ErrDamaged) || errors.Is(err, content.ErrMalformed) || errors.Is(err, kube.ErrNotObject)
}
