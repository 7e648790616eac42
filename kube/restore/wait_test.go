package restore

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
)

// leaving makes a namespace that is being deleted and cannot vanish, and returns what it had before.
func leaving(s site, name string) source {
	s.t.Helper()
	in := func(text string) string { return strings.ReplaceAll(text, "NS", name) }
	s.create(
		in(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"NS"}}`),
		in(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"NS"}}`),
		in(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"holds","namespace":"NS","finalizers":["example.com/hold"]}}`),
	)
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{name}, IncludedResources: []string{"configmaps", "namespaces"}})
	if err := s.Delete(s.t.Context(), s.resource("v1", "Namespace"), "", name); err != nil {
		s.t.Fatal(err)
	}
	return stored
}

func TestNamespaceThatDoesNotVanishFailsItsObjects(t *testing.T) {
	s := connect(t)
	deps := leaving(s, "stuck").deps(s)
	var told []string
	deps.Waiting = func(what string) { told = append(told, what) }
	deps.Patience = 300 * time.Millisecond
	started := time.Now()
	r, err := Run(t.Context(), deps, Plan{Filter: kube.Filter{ExcludedResources: []string{"secrets"}}})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(started); took > 3*time.Second {
		t.Errorf("it took %v, although what waited once in vain need not wait again", took)
	}
	if diff := cmp.Diff([]string{"namespaces/stuck is being deleted", ""}, told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	for _, o := range r.Outcomes {
		switch {
		case o.Result == Skipped:
		case o.Result != Failed || !strings.Contains(o.Err.Error(), "create namespaces/stuck: it is being deleted"):
			t.Errorf("%s: %s, %v", o.Target, o.Result, o.Err)
		case errors.Is(o.Err, ErrNamespace) != (o.Target.Namespace != ""):
			t.Errorf("%s fails because of its namespace: %v", o.Target, o.Err)
		}
	}
	if r.Count(Failed) < 3 {
		t.Errorf("%d failed, want the namespace and two objects", r.Count(Failed))
	}
}

func TestNamespaceThatVanishesIsWaitedFor(t *testing.T) {
	s := connect(t)
	deps := leaving(s, "slow").deps(s)
	settings := s.resource("v1", "ConfigMap")
	released := make(chan error, 1)
	deps.Waiting = func(what string) {
		if what == "" {
			return
		}
		patch := kube.Object{}
		patch.Set(nil, "metadata", "finalizers")
		_, err := s.Merge(t.Context(), settings, "slow", "holds", patch)
		released <- err
	}
	r, err := Run(t.Context(), deps, Plan{})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-released; err != nil {
		t.Fatal(err)
	}
	report(t, r)
	if s.get("v1", "ConfigMap", "slow", "a") == nil {
		t.Error("the object of the namespace is not there")
	}
}

func TestNamespaceThatCannotBeMadeIsTheOneCause(t *testing.T) {
	s := connect(t)
	stored := store(t, s.catalog(), func(put func(kube.Key, kube.Object)) {
		put(kube.Key{Resource: "configmaps", Namespace: "unmakable", Name: "c"},
			object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"unmakable"}}`))
		put(kube.Key{Resource: "namespaces", Name: "unmakable"},
			object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"unmakable","labels":{"a":"no label value!"}}}`))
	})
	r, err := Run(t.Context(), stored.deps(s), Plan{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range r.Failures() {
		if errors.Is(o.Err, ErrNamespace) != (o.Key.Resource == "configmaps") || !strings.Contains(o.Err.Error(), "no label value!") {
			t.Errorf("%s: %v", o.Target, o.Err)
		}
	}
	if r.Count(Failed) != 2 {
		t.Errorf("%d failed, want the namespace and its object", r.Count(Failed))
	}
}
