package kube

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
)

// served is a catalog in the order of a server with an operator's kinds that share names with built-in ones.
func served() *Catalog {
	all := []string{"create", "get", "list"}
	c := &Catalog{Resources: []Resource{
		{Version: "v1", Name: "pods", Singular: "pod", Kind: "Pod", Short: []string{"po"}, Namespaced: true, Verbs: all},
		{Version: "v1", Name: "services", Singular: "service", Kind: "Service", Short: []string{"svc"}, Namespaced: true, Verbs: all},
		{Version: "v1", Name: "events", Singular: "event", Kind: "Event", Namespaced: true, Verbs: all},
		{Group: "apps", Version: "v1", Name: "deployments", Singular: "deployment", Kind: "Deployment", Short: []string{"deploy"}, Namespaced: true, Verbs: all},
		{Group: "events.k8s.io", Version: "v1", Name: "events", Singular: "event", Kind: "Event", Namespaced: true, Verbs: all},
		{Group: "extensions", Version: "v1beta1", Name: "deployments", Singular: "deployment", Kind: "Deployment", Namespaced: true, Verbs: all},
		{Group: "cert-manager.io", Version: "v1", Name: "certificates", Singular: "certificate", Kind: "Certificate", Short: []string{"cert"}, Namespaced: true, Verbs: all},
		{Group: "cert-manager.io", Version: "v1", Name: "issuers", Singular: "issuer", Kind: "Issuer", Namespaced: true, Verbs: all},
		{Group: "serving.knative.dev", Version: "v1", Name: "services", Singular: "service", Kind: "Service", Short: []string{"ksvc"}, Namespaced: true, Verbs: all},
		{Group: "other.example.com", Version: "v1", Name: "deployments", Singular: "deployment", Kind: "Deployment", Namespaced: true, Verbs: all},
	}}
	c.joinTwins()
	return c
}

func TestCohabitingGroupsAreStoredOnce(t *testing.T) {
	var names []string
	for _, r := range served().Resources {
		names = append(names, r.String())
	}
	want := []string{
		"pods", "services", "deployments.apps", "events.events.k8s.io", "certificates.cert-manager.io",
		"issuers.cert-manager.io", "services.serving.knative.dev", "deployments.other.example.com",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

func TestNamesMeanWhatTheyMeanToKubectl(t *testing.T) {
	tests := map[string][]string{
		"pods":                    {"pods"},
		"Pod":                     {"pods"},
		"po":                      {"pods"},
		"deploy":                  {"deployments.apps"},
		"deployments.apps":        {"deployments.apps"},
		"Deployment.apps":         {"deployments.apps"},
		"deployments.extensions":  {"deployments.apps"}, // the same objects
		"services":                {"services"},         // and not knative's
		"ksvc":                    {"services.serving.knative.dev"},
		"deployments.*":           {"deployments.apps", "deployments.other.example.com"},
		"*.cert-manager.io":       {"certificates.cert-manager.io", "issuers.cert-manager.io"},
		"serv*":                   {"services", "services.serving.knative.dev"},
		"services.apps":           nil,
		"*.nowhere":               nil,
		"pod.":                    {"pods"},
		"certificates.cert-manag": nil,
	}
	catalog := served()
	for pattern, want := range tests {
		var got []string
		for _, r := range catalog.Match(pattern) {
			got = append(got, r.String())
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", pattern, diff)
		}
	}
}

func TestUnknownIncludedNameIsAnErrorThatNamesItsLikes(t *testing.T) {
	_, err := Filter{IncludedResources: []string{"pods", "deploymnts"}}.Choose(served())
	var unknown *UnknownResourceError
	if !errors.As(err, &unknown) || unknown.Name != "deploymnts" || !slices.Contains(unknown.Near, "deployments.apps") {
		t.Errorf("error %v, want one about deploymnts that proposes deployments.apps", err)
	}
	choice, err := Filter{IncludedResources: []string{"deploymnts"}, IgnoreUnknown: true}.Choose(served())
	if err != nil || choice.Has("", "pods") || choice.Has("apps", "deployments") {
		t.Errorf("ignored, the unknown name selects something, or %v", err)
	}
}

func TestUnknownExcludedNameIsNoted(t *testing.T) {
	choice, err := Filter{ExcludedResources: []string{"po", "nonsense"}}.Choose(served())
	if err != nil {
		t.Fatal(err)
	}
	if choice.Has("", "pods") || !choice.Has("", "services") || !slices.Equal(choice.Unknown, []string{"nonsense"}) {
		t.Errorf("choice %+v", choice)
	}
}

func TestGlobThatMatchesNothingSelectsNothing(t *testing.T) {
	choice, err := Filter{IncludedResources: []string{"*.nowhere"}}.Choose(served())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range served().Resources {
		if choice.Has(r.Group, r.Name) {
			t.Errorf("%s is selected", r)
		}
	}
}

func TestWildcardWinsOverNamesBesideIt(t *testing.T) {
	choice, err := Filter{IncludedResources: []string{"*", "events"}}.Choose(served())
	if err != nil {
		t.Fatal(err)
	}
	if !choice.Has("", "pods") || choice.Asked("", "pods") || !choice.Asked("events.k8s.io", "events") {
		t.Errorf("choice %+v", choice)
	}
}

func TestNamespaceGlobs(t *testing.T) {
	tests := map[string]struct {
		included, excluded []string
		match, miss        []string
		all                bool
	}{
		"nothing said":      {nil, nil, []string{"a", "kube-system"}, nil, true},
		"star":              {[]string{"*"}, nil, []string{"a"}, nil, true},
		"star beside names": {[]string{"*", "a"}, nil, []string{"a", "b"}, nil, true},
		"suffix":            {[]string{"*-x"}, nil, []string{"a-x"}, []string{"a", "a-xy"}, false},
		"one letter":        {[]string{"team-?"}, nil, []string{"team-a"}, []string{"team-ab", "team-"}, false},
		"letters":           {[]string{"[ab]"}, nil, []string{"a", "b"}, []string{"c"}, false},
		"excluded":          {nil, []string{"kube-*"}, []string{"a"}, []string{"kube-system"}, false},
		"exclusion wins":    {[]string{"a*"}, []string{"ab"}, []string{"aa"}, []string{"ab", "b"}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g, err := NewGlobs(test.included, test.excluded)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range test.match {
				if !g.Match(n) {
					t.Errorf("%s is not matched", n)
				}
			}
			for _, n := range test.miss {
				if g.Match(n) {
					t.Errorf("%s is matched", n)
				}
			}
			if g.All() != test.all {
				t.Errorf("All() = %v", g.All())
			}
		})
	}
}

func TestContradictoryGlobsAreRefused(t *testing.T) {
	for name, lists := range map[string][2][]string{
		"double star":           {{"**"}, nil},
		"open bracket":          {{"[a"}, nil},
		"empty":                 {{""}, nil},
		"everything excluded":   {nil, {"*"}},
		"included and excluded": {{"a"}, {"a"}},
	} {
		if _, err := NewGlobs(lists[0], lists[1]); !errors.Is(err, ErrFilter) {
			t.Errorf("%s: %v, want %v", name, err, ErrFilter)
		}
	}
}

// Whatever lists of patterns a user writes, they are refused or decide about every name: what is excluded by
// its own name is never meant, and a filter that means something means no more than was included.
func FuzzFilter(f *testing.F) {
	f.Add("shop,shop-*", "shop-test", "deploy,*.cert-manager.io", "events", "app=shop,tier!=cache", "shop-1")
	f.Add("*", "", "*", "pods", "", "kube-system")
	f.Add("[", "", "", "a\\", "a in (b,c)", "")
	c := served()
	f.Fuzz(func(t *testing.T, included, excluded, resources, without, selector, name string) {
		list := func(text string) []string {
			return slices.DeleteFunc(strings.Split(text, ","), func(s string) bool { return s == "" })
		}
		filter := Filter{IncludedNamespaces: list(included), ExcludedNamespaces: list(excluded),
			IncludedResources: list(resources), ExcludedResources: list(without), LabelSelector: selector, IgnoreUnknown: true}
		if g, err := filter.Namespaces(); err == nil {
			if g.Match(name) && slices.Contains(filter.ExcludedNamespaces, name) && !isGlob(name) {
				t.Errorf("%q is excluded and meant", name)
			}
			if g.All() && !g.Match(name) {
				t.Errorf("all are meant, and %q is not", name)
			}
		}
		if s, err := filter.Selector(); err == nil {
			if again, err := labels.Parse(s.String()); err != nil || again.String() != s.String() {
				t.Errorf("selector %q is written as %q, and that as %v, %v", selector, s, again, err)
			}
		}
		choice, err := filter.Choose(c)
		if err != nil {
			return
		}
		for _, r := range c.Resources {
			if choice.Has(r.Group, r.Name) && choice.Excludes(r.Group, r.Name) || choice.Asked(r.Group, r.Name) && !choice.Has(r.Group, r.Name) {
				t.Errorf("%v is meant and is not", r)
			}
			if choice.All() && !choice.Has(r.Group, r.Name) {
				t.Errorf("all are meant, and %v is not", r)
			}
		}
	})
}
