package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/varve-dev/varve/test/api"
)

// An id names an object.
type id struct{ group, kind, namespace, name string }

func (i id) String() string {
	kind := i.kind
	if i.group != "" {
		kind += "." + i.group
	}
	if i.namespace == "" {
		return kind + " " + i.name
	}
	return kind + " " + i.namespace + "/" + i.name
}

// A state is all that lasts in a cluster at one time.
type state map[id]api.Object

// readCluster reads all objects of all kinds from the server.
func readCluster(ctx context.Context, client *api.Client) (state, error) {
	resources, err := client.Lasting(ctx)
	if err != nil {
		return nil, err
	}
	all := state{}
	for _, r := range resources {
		objects, err := client.List(ctx, r, "")
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			all[id{r.Group, r.Kind, o.Namespace(), o.Name()}] = o
		}
	}
	return all, nil
}

// within returns the objects of some namespaces, and these namespaces themselves.
func (s state) within(namespaces ...string) state {
	return s.where(func(i id) bool {
		return slices.Contains(namespaces, i.namespace) || i.kind == "Namespace" && slices.Contains(namespaces, i.name)
	})
}

// outside returns the objects that within does not.
func (s state) outside(namespaces ...string) state {
	inside := s.within(namespaces...)
	return s.where(func(i id) bool { _, ok := inside[i]; return !ok })
}

func (s state) where(keep func(id) bool) state {
	kept := state{}
	for i, o := range s {
		if keep(i) {
			kept[i] = o
		}
	}
	return kept
}

// kinds counts the kinds in a state.
func (s state) kinds() int {
	seen := map[[2]string]bool{}
	for i := range s {
		seen[[2]string{i.group, i.kind}] = true
	}
	return len(seen)
}

// namespaces counts the namespaces in a state.
func (s state) namespaces() int {
	return len(s.where(func(i id) bool { return i.kind == "Namespace" && i.group == "" }))
}

// A comparison is what came out of comparing what should be with what is.
type comparison struct {
	compared    int // objects or files that are in both
	remade      int // objects that should be and that a controller makes itself: they are left to it
	differences []string
}

// compareObjects compares two states that both went through normal.
func compareObjects(want, got state) comparison {
	var c comparison
	both := maps.Clone(want)
	maps.Copy(both, got)
	ids := slices.SortedFunc(maps.Keys(both), func(a, b id) int { return cmp.Compare(a.String(), b.String()) })
	for _, i := range ids {
		wanted, isWanted := want[i]
		gotten, isThere := got[i]
		switch {
		case isWanted && remade(wanted):
			c.remade++
		case isThere && remade(gotten):
		case !isThere:
			c.differences = append(c.differences, fmt.Sprintf("%s: missing", i))
		case !isWanted:
			c.differences = append(c.differences, fmt.Sprintf("%s: was not there before", i))
		default:
			c.compared++
			for _, d := range differ("", map[string]any(wanted), map[string]any(gotten)) {
				c.differences = append(c.differences, fmt.Sprintf("%s: %s", i, d))
			}
		}
	}
	return c
}

// differ lists the places where two values differ.
func differ(path string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			return differMaps(path, want, got)
		}
	case []any:
		if got, ok := got.([]any); ok && len(got) == len(want) {
			var all []string
			for n := range want {
				all = append(all, differ(fmt.Sprintf("%s[%d]", path, n), want[n], got[n])...)
			}
			return all
		}
	default:
		if want == got {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s was %s and is %s", path, short(want), short(got))}
}

func differMaps(path string, want, got map[string]any) []string {
	both := maps.Clone(want)
	maps.Copy(both, got)
	var all []string
	for _, key := range slices.Sorted(maps.Keys(both)) {
		at := path + "." + key
		wanted, isWanted := want[key]
		gotten, isThere := got[key]
		switch {
		case !isThere:
			all = append(all, fmt.Sprintf("%s was %s and is gone", at, short(wanted)))
		case !isWanted:
			all = append(all, fmt.Sprintf("%s was not there and is %s", at, short(gotten)))
		default:
			all = append(all, differ(at, wanted, gotten)...)
		}
	}
	return all
}

// short prints a value so that it fits into a line.
func short(value any) string {
	text := fmt.Sprintf("%q", fmt.Sprint(value))
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return text
}

// workloads are the kinds that have pods made for them, as many as spec.replicas says.
var workloads = map[string]bool{"Deployment": true, "StatefulSet": true, "ReplicationController": true}

// podShortages compares the pods that workloads have with what they ask for.
func podShortages(s state) (c comparison) {
	pods := map[id]int{} // of each root owner
	for i, o := range s {
		if i.kind != "Pod" {
			continue
		}
		root := i
		for owner := o.Owner(); owner != nil; owner = s[root].Owner() {
			root = id{groupOf(owner.APIVersion()), owner.Kind(), i.namespace, owner.String("name")}
		}
		pods[root]++
	}
	for i, o := range s {
		if !workloads[i.kind] {
			continue
		}
		c.compared++
		replicas, _ := o.Field("spec", "replicas").(json.Number)
		if wanted, err := replicas.Int64(); err != nil || int64(pods[i]) < wanted {
			c.differences = append(c.differences, fmt.Sprintf("%s: has %d pods and wants %s", i, pods[i], replicas))
		}
	}
	slices.Sort(c.differences)
	return c
}
