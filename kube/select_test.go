package kube

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
)

// selected returns the keys of what a filter selects, as text, the objects that a cluster makes by
// itself in every namespace aside.
func selected(t *testing.T, c *Cluster, catalog *Catalog, f Filter, o WalkOptions) []string {
	t.Helper()
	s, err := c.Select(t.Context(), catalog, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, failure := range s.Failures {
		t.Errorf("%s: %v", failure.What, failure.Err)
	}
	var keys []Key
	if err := s.Walk(t.Context(), o, func(l Listing) error {
		for _, item := range l.Items {
			if !madeByCluster(item.Key) {
				keys = append(keys, item.Key)
			}
		}
		return l.Err
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(keys, Key.Compare) {
		t.Errorf("objects are not in the order of their keys: %v", keys)
	}
	var names []string
	for _, key := range keys {
		names = append(names, key.String())
	}
	return names
}

// madeByCluster reports whether controllers make the object, at a time of their own.
func madeByCluster(k Key) bool {
	return k.Name == "kube-root-ca.crt" || k.Name == "default" || k.Resource == "replicasets" || k.Resource == "apiservices"
}

// shop is two namespaces with objects of the whole cluster that they rely on, and others.
func shop(t *testing.T, c *Cluster, catalog *Catalog) {
	t.Helper()
	create(t, c, catalog,
		object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"tier":"front"}}}`),
		object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop-old"}}`),
		object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop-hidden","labels":{"varve.dev/exclude-from-backup":"true"}}}`),
		object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"shop","labels":{"app":"web"}}}`),
		object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"hidden","namespace":"shop","labels":{"varve.dev/exclude-from-backup":"true"}}}`),
		object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"seen","namespace":"shop","labels":{"varve.dev/exclude-from-backup":"no"}}}`),
		object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"shop-old"}}`),
		object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"shop-hidden"}}`),
		object(t, `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"web","namespace":"shop"}}`),
		object(t, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"web-token","namespace":"shop","annotations":{"kubernetes.io/service-account.name":"web"}},"type":"kubernetes.io/service-account-token"}`),
		object(t, `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l","namespace":"shop"}}`),
		object(t, `{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"shop-fast"},"provisioner":"none"}`),
		object(t, `{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"shop-unused"},"provisioner":"none"}`),
		object(t, `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data","namespace":"shop","labels":{"app":"web"}},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"shop-fast","volumeName":"shop-pv","resources":{"requests":{"storage":"1Gi"}}}}`),
		object(t, `{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"shop-pv"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"storageClassName":"shop-fast","hostPath":{"path":"/tmp/x"}}}`),
		object(t, `{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"shop-other"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"storageClassName":"none","hostPath":{"path":"/tmp/x"}}}`),
		object(t, `{"apiVersion":"scheduling.k8s.io/v1","kind":"PriorityClass","metadata":{"name":"shop-high"},"value":5}`),
		object(t, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop"},"spec":{"replicas":0,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"priorityClassName":"shop-high","containers":[{"name":"a","image":"a"}]}}}}`),
		object(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"shop-bound"},"rules":[]}`),
		object(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"shop-in-namespace"},"rules":[]}`),
		object(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"shop-unbound"},"rules":[]}`),
		object(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"shop-all"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"shop-bound"},"subjects":[{"kind":"ServiceAccount","name":"web","namespace":"shop"}]}`),
		object(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"shop-strangers"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"shop-unbound"},"subjects":[{"kind":"ServiceAccount","name":"web","namespace":"elsewhere"}]}`),
		object(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"web","namespace":"shop"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"shop-in-namespace"},"subjects":[{"kind":"ServiceAccount","name":"web","namespace":"shop"}]}`),
		object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"dying","namespace":"shop","finalizers":["example.com/never"]}}`),
		object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop-dying"}}`),
		object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"dying","namespace":"shop-dying","finalizers":["example.com/never"]}}`),
		definition(t, "Basket", "baskets", "shop.example.com"),
		definition(t, "Crate", "crates", "shop.example.com"),
	)
	for _, k := range []Key{{Resource: "configmaps", Namespace: "shop", Name: "dying"}, {Resource: "namespaces", Name: "shop-dying"}} {
		r, _ := catalog.Find(k.Group, k.Resource)
		if err := c.Delete(t.Context(), r, k.Namespace, k.Name); err != nil {
			t.Fatal(err)
		}
	}
	waitServed(t, c, "shop.example.com", "baskets")
	fresh, err := c.Discover(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	*catalog = *fresh
	create(t, c, catalog, object(t, `{"apiVersion":"shop.example.com/v1","kind":"Basket","metadata":{"name":"b","namespace":"shop"},"spec":{"n":1.5}}`))
}

func definition(t *testing.T, kind, plural, group string) Object {
	t.Helper()
	return object(t, `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%s.%s"},
		"spec":{"group":"%[2]s","scope":"Namespaced","names":{"kind":"%[3]s","plural":"%[1]s"},
		"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`,
		plural, group, kind)
}

func waitServed(t *testing.T, c *Cluster, group, resource string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		catalog, err := c.Discover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := catalog.Find(group, resource); ok {
			return
		}
	}
	t.Fatalf("%s.%s is not served", resource, group)
}

func TestSelection(t *testing.T) {
	c, catalog := connect(t)
	shop(t, c, catalog)
	yes, no := true, false
	inShop := []string{
		"configmaps/shop/c", "configmaps/shop/seen", "persistentvolumeclaims/shop/data", "serviceaccounts/shop/web",
		"deployments.apps/shop/web", "rolebindings.rbac.authorization.k8s.io/shop/web", "baskets.shop.example.com/shop/b",
	}
	related := []string{
		"persistentvolumes/shop-pv", "storageclasses.storage.k8s.io/shop-fast", "priorityclasses.scheduling.k8s.io/shop-high",
		"clusterroles.rbac.authorization.k8s.io/shop-bound", "clusterroles.rbac.authorization.k8s.io/shop-in-namespace",
		"clusterrolebindings.rbac.authorization.k8s.io/shop-all", "customresourcedefinitions.apiextensions.k8s.io/baskets.shop.example.com",
	}
	unrelated := []string{
		"persistentvolumes/shop-other", "storageclasses.storage.k8s.io/shop-unused", "clusterroles.rbac.authorization.k8s.io/shop-unbound",
		"clusterrolebindings.rbac.authorization.k8s.io/shop-strangers", "customresourcedefinitions.apiextensions.k8s.io/crates.shop.example.com",
	}
	tests := map[string]struct {
		filter Filter
		want   []string // of the objects whose name or namespace says shop
	}{
		"no filter": {
			Filter{}, slices.Concat(inShop, related, unrelated, []string{"namespaces/shop", "namespaces/shop-old", "configmaps/shop-old/c"}),
		},
		"a namespace": {
			Filter{IncludedNamespaces: []string{"shop"}}, slices.Concat(inShop, related, []string{"namespaces/shop"}),
		},
		"a namespace by glob": {
			Filter{IncludedNamespaces: []string{"*hop"}}, slices.Concat(inShop, related, []string{"namespaces/shop"}),
		},
		"all namespaces but one": {
			Filter{ExcludedNamespaces: []string{"shop"}}, []string{"namespaces/shop-old", "configmaps/shop-old/c"},
		},
		"a namespace and the whole cluster's objects": {
			Filter{IncludedNamespaces: []string{"shop"}, IncludeClusterResources: &yes},
			slices.Concat(inShop, related, unrelated, []string{"namespaces/shop"}),
		},
		"a namespace and none of the cluster's objects": {
			Filter{IncludedNamespaces: []string{"shop"}, IncludeClusterResources: &no}, slices.Concat(inShop, []string{"namespaces/shop"}),
		},
		"no objects of the cluster": {
			Filter{IncludeClusterResources: &no},
			slices.Concat(inShop, []string{"namespaces/shop", "namespaces/shop-old", "configmaps/shop-old/c"}),
		},
		"a resource, with the namespaces it is in": {
			Filter{IncludedResources: []string{"deploy"}}, []string{"deployments.apps/shop/web", "namespaces/shop"},
		},
		"a resource without namespaces": {
			Filter{IncludedResources: []string{"deploy"}, ExcludedResources: []string{"ns"}}, []string{"deployments.apps/shop/web"},
		},
		"related objects only of included resources": {
			Filter{IncludedNamespaces: []string{"shop"}, IncludedResources: []string{"pvc", "pv"}},
			[]string{"persistentvolumeclaims/shop/data", "persistentvolumes/shop-pv", "namespaces/shop"},
		},
		"by label, with what that relies on": {
			Filter{LabelSelector: "app=web"},
			[]string{"configmaps/shop/c", "persistentvolumeclaims/shop/data", "persistentvolumes/shop-pv", "storageclasses.storage.k8s.io/shop-fast", "namespaces/shop"},
		},
		"a namespace by its own label": {Filter{LabelSelector: "tier=front"}, []string{"namespaces/shop"}},
		"leases when asked for":        {Filter{IncludedResources: []string{"leases"}}, []string{"leases.coordination.k8s.io/shop/l", "namespaces/shop"}},
		"an excluded group":            {Filter{IncludedNamespaces: []string{"shop"}, IncludedResources: []string{"*.example.com"}}, []string{"baskets.shop.example.com/shop/b", "namespaces/shop"}},
		"a namespace that a label hides": {
			Filter{IncludedNamespaces: []string{"shop-hidden"}}, nil,
		},
		"nothing": {Filter{IncludedNamespaces: []string{"nothing-*"}}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := slices.DeleteFunc(selected(t, c, catalog, test.filter, WalkOptions{PageSize: 3}), func(name string) bool {
				return !strings.Contains(name, "shop")
			})
			slices.Sort(got)
			slices.Sort(test.want)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("selected (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPageSizeAndParallelismChangeNothing(t *testing.T) {
	c, catalog := connect(t)
	want := selected(t, c, catalog, Filter{}, WalkOptions{})
	for _, o := range []WalkOptions{{PageSize: 1, Ahead: 1}, {PageSize: 2, Ahead: 16}, {PageSize: 10000}} {
		if diff := cmp.Diff(want, selected(t, c, catalog, Filter{}, o)); diff != "" {
			t.Errorf("%+v: selected (-want +got):\n%s", o, diff)
		}
	}
}

func TestMissingNamespaceIsAFailure(t *testing.T) {
	c, catalog := connect(t)
	s, err := c.Select(t.Context(), catalog, Filter{IncludedNamespaces: []string{"default", "nowhere"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Failures) != 1 || s.Failures[0].What != "namespace nowhere" || !errors.Is(s.Failures[0].Err, ErrAbsent) {
		t.Errorf("failures %v", s.Failures)
	}
	if !slices.Equal(s.Namespaces(), []string{"default"}) {
		t.Errorf("namespaces %v", s.Namespaces())
	}
}

func TestUnreachableClusterIsNamed(t *testing.T) {
	c, err := New(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Discover(t.Context())
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("error %v, want one that is %v and names the host", err, ErrUnreachable)
	}
}

func TestMissingKubeconfigIsNoAccess(t *testing.T) {
	for name, access := range map[string]Access{
		"no such file":    {Kubeconfig: "/nowhere/kubeconfig"},
		"no such context": {Context: "nowhere"},
	} {
		if _, err := Connect(access); !errors.Is(err, ErrNoAccess) {
			t.Errorf("%s: %v, want %v", name, err, ErrNoAccess)
		}
	}
}

func TestForbiddenResourceIsVisitedWithItsError(t *testing.T) {
	admin, catalog := connect(t)
	create(t, admin, catalog,
		object(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"partial"},"rules":[{"apiGroups":[""],"resources":["configmaps","namespaces"],"verbs":["list","get"]}]}`),
		object(t, `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"partial"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"partial"},"subjects":[{"kind":"User","name":"partial"}]}`),
	)
	config := shared.Cluster(t).Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: "partial"}
	user, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	var s *Selection
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) { // until the role is known
		if s, err = user.Select(t.Context(), catalog, Filter{IncludedResources: []string{"cm", "secrets"}}); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	refused := map[string]bool{}
	if err := s.Walk(t.Context(), WalkOptions{}, func(l Listing) error {
		refused[l.Resource.String()] = errors.Is(l.Err, ErrForbidden)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"configmaps": false, "namespaces": false, "secrets": true}, refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}
