package restore

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
)

// What a namespace shares with the whole cluster stays the original's, whatever the policy, when a copy
// of the namespace is made.
func TestCopyTakesNothingFromItsOriginal(t *testing.T) {
	s := connect(t)
	s.create(
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`,
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop-bank"}}`,
		`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"runner","namespace":"shop"}}`,
		`{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"shop-pv"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"storageClassName":"none","persistentVolumeReclaimPolicy":"Delete","hostPath":{"path":"/tmp/x"}}}`,
		`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data","namespace":"shop"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"none","volumeName":"shop-pv","resources":{"requests":{"storage":"1Gi"}}}}`,
		`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"shop-admin"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"kind":"ServiceAccount","name":"runner","namespace":"shop"}]}`,
		`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"shop-may-pay","namespace":"shop-bank"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"kind":"ServiceAccount","name":"runner","namespace":"shop"}]}`,
		`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"shop-guard"},"webhooks":[{"name":"guard.example.com","failurePolicy":"Ignore","sideEffects":"None","admissionReviewVersions":["v1"],"clientConfig":{"service":{"namespace":"shop","name":"guard"}},"rules":[{"apiGroups":["guard.example.com"],"apiVersions":["v1"],"resources":["things"],"operations":["CREATE"]}]}]}`,
	)
	s.await("the claim is bound", func() bool {
		return s.get("v1", "PersistentVolumeClaim", "shop", "data").Text("status", "phase") == "Bound"
	})
	all := true
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"shop", "shop-bank"}, IncludeClusterResources: &all})
	shared := map[string]func() kube.Object{
		"persistentvolumes/shop-pv": func() kube.Object { return s.get("v1", "PersistentVolume", "", "shop-pv") },
		"clusterrolebindings.rbac.authorization.k8s.io/shop-admin": func() kube.Object {
			return s.get("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "", "shop-admin")
		},
		"rolebindings.rbac.authorization.k8s.io/shop-may-pay": func() kube.Object {
			return s.get("rbac.authorization.k8s.io/v1", "RoleBinding", "shop-bank", "shop-may-pay")
		},
		"validatingwebhookconfigurations.admissionregistration.k8s.io/shop-guard": func() kube.Object {
			return s.get("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "", "shop-guard")
		},
	}
	before := map[string]kube.Object{}
	for name, get := range shared {
		before[name] = get()
	}
	plan := Plan{Existing: ExistingUpdate, NamespaceMapping: map[string]string{"shop": "shop-copy"}}
	r, err := Run(t.Context(), stored.deps(s), plan)
	if err != nil {
		t.Fatal(err)
	}
	found := outcomes(r, "")
	found["rolebindings.rbac.authorization.k8s.io/shop-may-pay"] = outcomes(r, "shop-bank")["rolebindings.rbac.authorization.k8s.io/shop-may-pay"]
	for name, get := range shared {
		if diff := cmp.Diff(before[name], get()); diff != "" {
			t.Errorf("%s changed (-before +after):\n%s", name, diff)
		}
		if want := "skipped: it is there, and belongs to the original namespace"; found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
	}
	if !slices.ContainsFunc(r.Warnings, func(w string) bool {
		return strings.Contains(w, "the copy goes without") && strings.Contains(w, "shop-may-pay")
	}) {
		t.Errorf("warnings %q do not say what the copy goes without", r.Warnings)
	}
	if s.get("v1", "PersistentVolumeClaim", "shop-copy", "data") == nil {
		t.Error("the copy has no claim")
	}

	s.remove("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "", "shop-admin")
	for _, want := range []string{"created", "unchanged"} { // for the copy, and it stays the copy's
		if r, err = Run(t.Context(), stored.deps(s), plan); err != nil {
			t.Fatal(err)
		}
		if got := outcomes(r, "")["clusterrolebindings.rbac.authorization.k8s.io/shop-admin"]; got != want {
			t.Errorf("the binding that was gone is %q, want %q", got, want)
		}
	}
}

func TestVolumeOfAnotherClaimIsNeverRebound(t *testing.T) {
	s := connect(t)
	volume := `{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"taken-pv"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"storageClassName":"none","persistentVolumeReclaimPolicy":"Retain","hostPath":{"path":"/tmp/x"},"claimRef":{"namespace":"taken","name":"CLAIM"}}}`
	claim := `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"CLAIM","namespace":"taken"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"none","volumeName":"taken-pv","resources":{"requests":{"storage":"1Gi"}}}}`
	named := func(text, name string) string { return strings.ReplaceAll(text, "CLAIM", name) }
	s.create(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"taken"}}`, named(volume, "before"), named(claim, "before"))
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"taken"}})
	s.remove("v1", "PersistentVolumeClaim", "taken", "before")
	s.remove("v1", "PersistentVolume", "", "taken-pv")
	s.create(named(volume, "after"), named(claim, "after"))
	s.await("the claim is bound", func() bool {
		return s.get("v1", "PersistentVolumeClaim", "taken", "after").Text("status", "phase") == "Bound"
	})
	r, err := Run(t.Context(), stored.deps(s), Plan{Existing: ExistingUpdate})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := outcomes(r, "")["persistentvolumes/taken-pv"], "skipped: it is there, and has the claim taken/after"; got != want {
		t.Errorf("the volume is %q, want %q", got, want)
	}
	if got := s.get("v1", "PersistentVolume", "", "taken-pv").Text("spec", "claimRef", "name"); got != "after" {
		t.Errorf("the volume has the claim %s", got)
	}
}

func TestMappingThatWouldMeetLiveNamespacesIsRefused(t *testing.T) {
	s := connect(t)
	for _, name := range []string{"meet-a", "meet-b", "meet-c"} {
		s.create(
			strings.ReplaceAll(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"NS"}}`, "NS", name),
			strings.ReplaceAll(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"NS"}}`, "NS", name),
		)
	}
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"meet-*"}, IncludedResources: []string{"configmaps"}})
	tests := map[string]struct {
		included []string
		mapping  map[string]string
		want     string // empty: it is right
	}{
		"a slip of the finger":        {nil, map[string]string{"meet-aa": "meet-x"}, `the backup has no namespace "meet-aa"`},
		"not selected":                {[]string{"meet-a"}, map[string]string{"meet-b": "meet-x"}, `namespace "meet-b" is mapped and not selected`},
		"two of one":                  {nil, map[string]string{"meet-a": "meet-x", "meet-b": "meet-x"}, `both "meet-a" and "meet-b" would become "meet-x"`},
		"onto one that is selected":   {nil, map[string]string{"meet-a": "meet-b"}, `both "meet-a" and "meet-b" would become "meet-b"`},
		"onto one that is not":        {[]string{"meet-a"}, map[string]string{"meet-a": "meet-b"}, ""},
		"in a circle":                 {nil, map[string]string{"meet-a": "meet-b", "meet-b": "meet-a"}, ""},
		"to what is no name":          {nil, map[string]string{"meet-a": "UPPER_x"}, `"UPPER_x" cannot name a namespace`},
		"to a name of 64 letters":     {nil, map[string]string{"meet-a": strings.Repeat("a", 64)}, "cannot name a namespace"},
		"to itself":                   {nil, map[string]string{"meet-a": "meet-a"}, ""},
		"one of a backup without any": {nil, map[string]string{"elsewhere": "x"}, `the backup has no namespace "elsewhere"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Prepare(t.Context(), stored.deps(s), Plan{Filter: kube.Filter{IncludedNamespaces: test.included}, NamespaceMapping: test.mapping})
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (!errors.Is(err, ErrPlan) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}
