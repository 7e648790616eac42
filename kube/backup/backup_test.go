package backup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

const configMap = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s","namespace":"%s"},"data":{"text":"%s"}}`

// fill makes a namespace with a number of ConfigMaps that look alike.
func fill(l *lab, namespace string, n int) {
	l.t.Helper()
	l.create(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s"}}`, namespace)
	for i := range n {
		l.create(configMap, fmt.Sprintf("c%04d", i), namespace, fmt.Sprintf("value %d %s", i*i, strings.Repeat("some text ", i%50)))
	}
	l.create(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"%s"},"stringData":{"password":"hunter2"}}`, namespace)
}

func TestUnchangedClusterCostsOneEntry(t *testing.T) {
	l := connect(t)
	fill(l, "unchanged", 50)
	plan := Plan{}
	first := l.run(plan)
	if !first.Complete() || first.Objects < 150 || first.Unchanged != 0 {
		t.Errorf("first backup: %+v", first)
	}
	before := l.stored()
	l.reopen()
	second := l.run(plan)
	if second.Unchanged != second.Objects || second.Objects != first.Objects || second.Digest != first.Digest {
		t.Errorf("second backup: %d objects of which %d unchanged, first %d", second.Objects, second.Unchanged, first.Objects)
	}
	for name, size := range l.stored() {
		if _, known := before[name]; known {
			continue
		}
		if !strings.HasPrefix(name, "journal/") || size > 4096 {
			t.Errorf("the second backup stored %s of %d bytes", name, size)
		}
	}
	if n := len(l.stored()) - len(before); n != 1 {
		t.Errorf("the second backup stored %d objects, want one entry", n)
	}
	if a, b := l.load(first).Manifest.Objects, l.load(second).Manifest.Objects; a != b {
		t.Errorf("roots differ: %+v and %+v", a, b)
	}
}

func TestDataOfClaimsIsSaidToBeMissing(t *testing.T) {
	l := connect(t)
	l.create(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"claims"}}`)
	for _, name := range []string{"data", "logs"} {
		l.create(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"%s","namespace":"claims"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`, name)
	}
	folder, filter := t.TempDir(), kube.Filter{IncludedNamespaces: []string{"claims"}}
	for _, test := range []struct {
		volumes []Volume
		want    []snapshot.Result
	}{
		{nil, []snapshot.Result{{Severity: snapshot.Warning, Item: "persistentvolumeclaims", Message: "the data of 2 PersistentVolumeClaims is not in this backup"}}},
		{[]Volume{{"data", folder}, {"claims-data", folder}}, []snapshot.Result{{Severity: snapshot.Warning, Item: "persistentvolumeclaims", Message: "the data of 1 PersistentVolumeClaim is not in this backup"}}},
		{[]Volume{{"claims-data", folder}, {"claims-logs", folder}}, nil},
	} {
		result := l.run(Plan{Filter: filter, Volumes: test.volumes})
		if diff := cmp.Diff(test.want, result.Results, cmp.AllowUnexported(snapshot.Result{})); diff != "" || !result.Complete() {
			t.Errorf("with %d volumes: complete %v, results (-want +got):\n%s", len(test.volumes), result.Complete(), diff)
		}
	}
}

// digest sums the objects of a snapshot up anew.
func digest(t *testing.T, l *lab, s *snapshot.Snapshot, key [32]byte) *snapshot.Digests {
	t.Helper()
	hasher, reader, sums := snapshot.NewHasher(key), content.NewReader(l.Repository), &snapshot.Digests{}
	for e, err := range s.Objects().Scan(t.Context(), tree.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		entry, err := kube.ParseEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := entry.Read(t.Context(), reader)
		if err != nil {
			t.Fatal(err)
		}
		sums.Add(scope(entry.Key), hasher.Object(e.Key, stored.Body, stored.State))
	}
	return sums
}

func sums(d *snapshot.Digests) map[string]snapshot.Sum {
	return maps.Collect(d.All())
}

func TestDigestsDependOnContentAlone(t *testing.T) {
	l := connect(t)
	fill(l, "digests", 30)
	plan := Plan{Filter: kube.Filter{IncludedNamespaces: []string{"digests"}}}
	first := l.run(plan)

	l.apply(configMap, "c0003", "digests", "changed")
	l.create(configMap, "c0001a", "digests", "new")
	r, _ := l.catalog.Find("", "configmaps")
	if err := l.Cluster.Delete(t.Context(), r, "digests", "c0007"); err != nil {
		t.Fatal(err)
	}
	second := l.run(plan)
	if first.Digest == second.Digest {
		t.Error("changes leave the digest as it is")
	}
	if got := second.Objects - second.Unchanged; got != 2 {
		t.Errorf("%d objects were read again, want 2", got)
	}
	kept, err := l.load(second).Digests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	anew := digest(t, l, l.load(second), l.Repository.DeriveKey("digest"))
	if diff := cmp.Diff(sums(anew), sums(kept)); diff != "" {
		t.Errorf("digests (-of the content +kept from run to run):\n%s", diff)
	}

	other := connect(t) // another repository: no history; other pages
	other.Walk = kube.WalkOptions{PageSize: 3, Ahead: 1}
	third := other.run(plan)
	key := [32]byte{1}
	if diff := cmp.Diff(sums(digest(t, l, l.load(second), key)), sums(digest(t, other, other.load(third), key))); diff != "" {
		t.Errorf("digests (-with a history +without):\n%s", diff)
	}
}

func TestChangedStatusStoresNoBody(t *testing.T) {
	l := connect(t)
	l.create(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"status"}}`)
	l.create(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"p","namespace":"status","annotations":{"note":"%s"}},
		"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"none","resources":{"requests":{"storage":"1Gi"}}}}`, strings.Repeat("x", 1000))
	plan := Plan{Filter: kube.Filter{IncludedNamespaces: []string{"status"}, IncludedResources: []string{"pvc"}}}
	entry := func(r Result) kube.Entry {
		key, err := kube.Key{Resource: "persistentvolumeclaims", Namespace: "status", Name: "p"}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		e, ok, err := l.load(r).Objects().Get(t.Context(), key)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		entry, err := kube.ParseEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		return entry
	}
	before := entry(l.run(plan))
	r, _ := l.catalog.Find("", "persistentvolumeclaims")
	patch := kube.Object{}
	patch.Set("Lost", "status", "phase")
	if _, err := l.Cluster.MergeStatus(t.Context(), r, "status", "p", patch); err != nil {
		t.Fatal(err)
	}
	after := entry(l.run(plan))
	if !before.Body.Equal(after.Body) {
		t.Error("the body has another place")
	}
	if before.State.Equal(after.State) || before.Attributes == after.Attributes {
		t.Error("the state has not changed")
	}
}

func TestSecretsHaveAClassOfTheirOwn(t *testing.T) {
	l := connect(t)
	fill(l, "secrets", 3)
	s := l.load(l.run(Plan{Filter: kube.Filter{IncludedNamespaces: []string{"secrets"}}}))
	for e, err := range s.Objects().Scan(t.Context(), tree.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		entry, err := kube.ParseEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range e.Refs {
			if (ref.Class == blob.Secrets) != (entry.Key.Resource == "secrets") {
				t.Errorf("%s refers to %v", entry.Key, e.Refs)
			}
		}
	}
}

func TestWhatCannotBeReadMakesABackupIncomplete(t *testing.T) {
	l := connect(t)
	fill(l, "partial", 3)
	l.create(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"part"},"rules":[{"apiGroups":[""],"resources":["configmaps","namespaces"],"verbs":["list","get"]}]}`)
	l.create(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"part"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"part"},"subjects":[{"kind":"User","name":"part"}]}`)
	config := shared.Cluster(t).Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: "part"}
	var err error
	if l.Cluster, err = kube.New(config); err != nil {
		t.Fatal(err)
	}
	r := l.run(Plan{Filter: kube.Filter{IncludedNamespaces: []string{"partial", "nowhere"}, IncludedResources: []string{"cm", "secrets"}}})
	var items []string
	for _, result := range r.Results {
		items = append(items, result.Item)
	}
	if diff := cmp.Diff([]string{"namespace nowhere", "secrets"}, items); diff != "" || r.Complete() || l.load(r).Complete {
		t.Errorf("complete %v, failed (-want +got):\n%s", r.Complete(), diff)
	}
	if r.Objects < 4 { // the namespace, three ConfigMaps and, perhaps already, the cluster's own
		t.Errorf("%d objects, want the ConfigMaps and their namespace", r.Objects)
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	l := connect(t)
	unreachable, err := kube.New(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	var unknown *kube.UnknownResourceError
	tests := map[string]struct {
		plan    Plan
		cluster *kube.Cluster
		is      func(error) bool
	}{
		"nothing":           {Plan{WithoutObjects: true}, l.Cluster, func(err error) bool { return errors.Is(err, ErrPlan) }},
		"objects of nobody": {Plan{}, nil, func(err error) bool { return errors.Is(err, ErrPlan) }},
		"empty selection":   {Plan{Filter: kube.Filter{IncludedNamespaces: []string{"no-*"}}}, l.Cluster, func(err error) bool { return errors.Is(err, ErrEmptySelection) }},
		"missing namespace": {Plan{Filter: kube.Filter{IncludedNamespaces: []string{"nowhere"}}}, l.Cluster, func(err error) bool {
			return errors.Is(err, ErrEmptySelection) && strings.Contains(err.Error(), "nowhere")
		}},
		"unknown resource":    {Plan{Filter: kube.Filter{IncludedResources: []string{"deploymnts"}}}, l.Cluster, func(err error) bool { return errors.As(err, &unknown) }},
		"unreachable cluster": {Plan{}, unreachable, func(err error) bool { return errors.Is(err, kube.ErrUnreachable) }},
		"bad selector":        {Plan{Filter: kube.Filter{LabelSelector: "a in"}}, l.Cluster, func(err error) bool { return errors.Is(err, kube.ErrFilter) }},
		"no folder":           {Plan{WithoutObjects: true, Volumes: []Volume{{"v", "/nowhere"}}}, nil, func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		"volumes of one name": {Plan{Volumes: []Volume{{"v", "/a"}, {"v", "/b"}}}, l.Cluster, func(err error) bool { return errors.Is(err, ErrPlan) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			d := l.Deps
			d.Cluster = test.cluster
			if _, err := Run(t.Context(), d, test.plan); !test.is(err) {
				t.Errorf("error %v", err)
			}
		})
	}
	if n := len(l.Repository.Snapshots()); n != 0 {
		t.Errorf("%d snapshots were made", n)
	}
}

func TestVolumesNeedNoCluster(t *testing.T) {
	l := newLab(t)
	folder := t.TempDir()
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), []byte(strings.Repeat("x", i*1000)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var told []Progress
	l.Progress = func(p Progress) { told = append(told, p) }
	plan := Plan{Name: "files", WithoutObjects: true, Volumes: []Volume{{"data", folder}}}
	first := l.run(plan)
	if !first.Complete() || len(first.Volumes) != 1 || first.Volumes[0].Files.Files != 20 || first.Volumes[0].Files.Read != 20 {
		t.Errorf("first backup: %+v", first)
	}
	second := l.run(plan)
	if second.Volumes[0].Files.Read != 0 {
		t.Errorf("second backup read %d files", second.Volumes[0].Files.Read)
	}
	if len(told) == 0 || told[len(told)-1].Stage != "commit" {
		t.Errorf("progress %+v", told)
	}
}
