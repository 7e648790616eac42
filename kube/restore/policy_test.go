package restore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/files"
)

// outcomes returns what became of the objects in a namespace, by their keys in the target.
func outcomes(r Report, namespace string) map[string]string {
	found := map[string]string{}
	for _, o := range r.Outcomes {
		if o.Target.Namespace == namespace {
			text := string(o.Result)
			if o.Reason != "" {
				text += ": " + o.Reason
			}
			found[o.Target.GroupResource()+"/"+o.Target.Name] = text
		}
	}
	return found
}

func TestNamespaceComesBackUnderAnotherName(t *testing.T) {
	t.Parallel()
	s := connect(t)
	s.create(
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"mapped","labels":{"team":"a"}}}`,
		`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"web","namespace":"mapped"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"mapped"},"data":{"a":"b"}}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"mapped"},"spec":{"type":"NodePort","ports":[{"port":80}]}}`,
		`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"web","namespace":"mapped"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"kind":"ServiceAccount","name":"web","namespace":"mapped"}]}`,
		`{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"mapped-pv"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"storageClassName":"none","persistentVolumeReclaimPolicy":"Retain","hostPath":{"path":"/tmp/x"}}}`,
		`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data","namespace":"mapped"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"none","volumeName":"mapped-pv","resources":{"requests":{"storage":"1Gi"}}}}`,
	)
	s.await("the claim is bound", func() bool {
		return s.get("v1", "PersistentVolumeClaim", "mapped", "data").Text("status", "phase") == "Bound"
	})
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"mapped"}})
	r, err := Run(t.Context(), stored.deps(s), Plan{Name: "copy", NamespaceMapping: map[string]string{"mapped": "copy"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range r.Failures() {
		t.Error(o.Err)
	}
	want := map[string]string{
		"configmaps/c": "created", "configmaps/kube-root-ca.crt": "skipped: the cluster publishes its own",
		"persistentvolumeclaims/data": "created", "rolebindings.rbac.authorization.k8s.io/web": "created",
		"serviceaccounts/default": "unchanged", "serviceaccounts/web": "created", "services/web": "created",
	}
	got := outcomes(r, "copy")
	if got["serviceaccounts/default"] == "created" { // before the controller made it
		want["serviceaccounts/default"] = "created"
	}
	for name := range got { // what controllers make
		if strings.HasPrefix(name, "endpoint") {
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if got, want := outcomes(r, "")["persistentvolumes/mapped-pv"], "skipped: it is there, and belongs to the original namespace"; got != want {
		t.Errorf("the volume is %s, want %s", got, want)
	}
	namespace := s.get("v1", "Namespace", "", "copy")
	if l := namespace.Labels(); l["kubernetes.io/metadata.name"] != "copy" || l["team"] != "a" || l["varve-restore"] != "copy" {
		t.Errorf("labels of the namespace: %v", l)
	}
	binding := s.get("rbac.authorization.k8s.io/v1", "RoleBinding", "copy", "web")
	if got := binding.Each("subjects")[0].Text("namespace"); got != "copy" {
		t.Errorf("the binding is for namespace %s", got)
	}
	if got := s.get("v1", "PersistentVolumeClaim", "copy", "data").Text("spec", "volumeName"); got != "" {
		t.Errorf("the copy claims volume %s, which the original has", got)
	}
	if got := s.get("v1", "PersistentVolumeClaim", "mapped", "data").Text("status", "phase"); got != "Bound" {
		t.Errorf("the original claim is %s", got)
	}
}

func TestAnyNameOfABackupFitsItsLabels(t *testing.T) {
	s := connect(t)
	s.create(
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"labelled"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"labelled"}}`,
	)
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"labelled"}, IncludedResources: []string{"configmaps"}})
	for _, name := range []string{"2026-11-22T12:00:00Z", "v1.2+build", "nightly-", "name with spaces", "Ärger"} {
		s.remove("v1", "ConfigMap", "labelled", "c")
		r, err := Run(t.Context(), stored.named(name).deps(s), Plan{})
		if err != nil {
			t.Fatal(err)
		}
		report(t, r)
		if !strings.HasPrefix(r.Name, name) || s.get("v1", "ConfigMap", "labelled", "c") == nil {
			t.Errorf("%q: nothing is restored by %q", name, r.Name)
		}
	}
}

func TestExistingObjects(t *testing.T) {
	s := connect(t)
	s.create(
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"existing"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"same","namespace":"existing"},"data":{"a":"b"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"changed","namespace":"existing"},"data":{"a":"b"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"gone","namespace":"existing"},"data":{"a":"b"}}`,
		`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"robot","namespace":"existing","annotations":{"old":"1","both":"backup"}},"imagePullSecrets":[{"name":"registry"}]}`,
		`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"existing"},"spec":{"type":"NodePort","ports":[{"port":80}]}}`,
	)
	filter := kube.Filter{IncludedNamespaces: []string{"existing"}, IncludedResources: []string{"cm", "sa", "svc"}}
	stored := s.snapshot(filter)
	patch := func(kind, name, text string) {
		t.Helper()
		if _, err := s.Merge(t.Context(), s.resource("v1", kind), "existing", name, object(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	patch("ConfigMap", "changed", `{"data":{"a":"c","more":"d"}}`)
	patch("ServiceAccount", "robot", `{"metadata":{"annotations":{"old":null,"new":"1","both":"cluster"}},"imagePullSecrets":[{"name":"other"}]}`)
	patch("ConfigMap", "same", `{"metadata":{"finalizers":["example.com/others-business"]}}`)
	s.remove("v1", "ConfigMap", "existing", "gone")
	state := func() string {
		text, err := kube.Canonical(s.get("v1", "ConfigMap", "existing", "changed"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := state()

	prepared, err := Prepare(t.Context(), stored.deps(s), Plan{})
	if err != nil {
		t.Fatal(err)
	}
	if s.get("v1", "ConfigMap", "existing", "gone") != nil || state() != before {
		t.Error("preparing a restore changed the cluster")
	}
	r, err := prepared.Apply(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"configmaps/same": "unchanged", "configmaps/changed": "differs: it exists and differs from the backup", "configmaps/gone": "created",
		"configmaps/kube-root-ca.crt": "skipped: the cluster publishes its own",
		"serviceaccounts/default":     "unchanged", "serviceaccounts/robot": "updated", "services/web": "unchanged",
	}
	if diff := cmp.Diff(want, outcomes(r, "existing")); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if !r.Complete() || state() != before {
		t.Error("the object that differs was touched, or the restore says that it is not complete")
	}
	robot := s.get("v1", "ServiceAccount", "existing", "robot")
	if diff := cmp.Diff(map[string]string{"old": "1", "new": "1", "both": "cluster"}, robot.Annotations()); diff != "" {
		t.Errorf("annotations of the account (-want +got):\n%s", diff)
	}
	if n := len(robot.Each("imagePullSecrets")); n != 2 {
		t.Errorf("the account has %d pull secrets, want those of the backup and of the cluster", n)
	}

	r, err = Run(t.Context(), stored.deps(s), Plan{Existing: ExistingUpdate})
	if err != nil {
		t.Fatal(err)
	}
	if got := outcomes(r, "existing")["configmaps/changed"]; got != "updated" {
		t.Errorf("updating, the object that differs is %s", got)
	}
	if got := s.get("v1", "ConfigMap", "existing", "changed").Text("data", "a"); got != "b" {
		t.Errorf("after the update it says %q", got)
	}
}

func TestReleasedVolumeIsBoundAgain(t *testing.T) {
	s := connect(t)
	s.create(
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"released"}}`,
		`{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"released-pv"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"storageClassName":"none","persistentVolumeReclaimPolicy":"Retain","hostPath":{"path":"/tmp/x"}}}`,
		`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data","namespace":"released"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"none","volumeName":"released-pv","resources":{"requests":{"storage":"1Gi"}}}}`,
	)
	bound := func() bool {
		return s.get("v1", "PersistentVolumeClaim", "released", "data").Text("status", "phase") == "Bound"
	}
	s.await("the claim is bound", bound)
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"released"}})
	s.remove("v1", "PersistentVolumeClaim", "released", "data")
	s.await("the volume is released", func() bool {
		return s.get("v1", "PersistentVolume", "", "released-pv").Text("status", "phase") == "Released"
	})
	r, err := Run(t.Context(), stored.deps(s), Plan{})
	if err != nil {
		t.Fatal(err)
	}
	report(t, r)
	s.await("the claim is bound again", bound)
}

func TestOneObjectThatCannotBeRestoredStopsNoOther(t *testing.T) {
	t.Parallel()
	s := connect(t)
	s.create(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bad"}}`)
	catalog := s.catalog()
	catalog.Resources = append(catalog.Resources, kube.Resource{Group: "lost.example.com", Version: "v1", Name: "things", Kind: "Thing", Namespaced: true})
	add := func(group, resource, name, text string) (kube.Key, kube.Object) {
		return kube.Key{Group: group, Resource: resource, Namespace: "bad", Name: name}, object(t, text)
	}
	stored := store(t, catalog, func(put func(kube.Key, kube.Object)) {
		put(add("", "configmaps", "bad", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"bad","namespace":"bad"},"data":{"a":7}}`))
		put(add("", "configmaps", "good", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"good","namespace":"bad"},"data":{"a":"7"}}`))
		put(add("apps", "deployments", "old", `{"apiVersion":"apps/v1beta1","kind":"Deployment","metadata":{"name":"old","namespace":"bad"}}`))
		put(add("lost.example.com", "things", "x", `{"apiVersion":"lost.example.com/v1","kind":"Thing","metadata":{"name":"x","namespace":"bad"}}`))
	})
	r, err := Run(t.Context(), stored.deps(s), Plan{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Complete() || r.Count(Created) != 1 || r.Count(Failed) != 3 {
		t.Errorf("complete %v, %d created, %d failed", r.Complete(), r.Count(Created), r.Count(Failed))
	}
	for name, want := range map[string]string{
		"bad": "create configmaps/bad/bad: ",
		"old": "stored in version v1beta1, and the cluster serves v1",
		"x":   "no kind Thing in lost.example.com/v1",
	} {
		if !slices.ContainsFunc(r.Failures(), func(o Outcome) bool { return o.Key.Name == name && strings.Contains(o.Err.Error(), want) }) {
			t.Errorf("no failure of %s says %q: %v", name, want, r.Failures())
		}
	}
}

func TestChosenObjectsBringTheirNamespaceAlong(t *testing.T) {
	s := connect(t)
	s.create(
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"along","annotations":{"note":"x"}}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"along","labels":{"app":"a"}}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b","namespace":"along"}}`,
	)
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"along"}})
	for target, filter := range map[string]kube.Filter{
		"along-by-label": {LabelSelector: "app=a"},
		"along-left-out": {IncludedResources: []string{"configmaps"}, ExcludedResources: []string{"namespaces"}, LabelSelector: "app=a"},
	} {
		r, err := Run(t.Context(), stored.deps(s), Plan{Filter: filter, NamespaceMapping: map[string]string{"along": target}})
		if err != nil {
			t.Fatal(err)
		}
		report(t, r)
		if s.get("v1", "ConfigMap", target, "a") == nil || s.get("v1", "ConfigMap", target, "b") != nil {
			t.Error("not the chosen object, or another, was restored")
		}
		if s.get("v1", "Namespace", "", target).Annotations()["note"] != "x" {
			t.Error("the namespace is not that of the backup")
		}
	}
}

func TestNamedNamespaceThatTheBackupHasNotIsAFailure(t *testing.T) {
	s := connect(t)
	s.create(
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"known"}}`,
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"known"}}`,
	)
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"known"}})
	r, err := Run(t.Context(), stored.deps(s), Plan{Filter: kube.Filter{IncludedNamespaces: []string{"known", "knwon", "none-*"}}})
	if err != nil {
		t.Fatal(err)
	}
	failures := r.Failures()
	if len(failures) != 1 || failures[0].Key.String() != "namespaces/knwon" || failures[0].Err.Error() != "the backup has no such namespace" || failures[0].Reason != "" {
		t.Errorf("failures: %+v", failures)
	}
	if r.Complete() || outcomes(r, "known")["configmaps/c"] != "unchanged" {
		t.Errorf("complete %v, %v", r.Complete(), outcomes(r, "known"))
	}
}

func TestPlansThatCannotBe(t *testing.T) {
	s := connect(t)
	stored := s.snapshot(kube.Filter{IncludedNamespaces: []string{"default"}})
	var unknown *kube.UnknownResourceError
	tests := map[string]struct {
		plan Plan
		is   func(error) bool
	}{
		"unknown resource": {Plan{Filter: kube.Filter{IncludedResources: []string{"deploymnts"}}}, func(err error) bool { return errors.As(err, &unknown) }},
		"no such namespace": {Plan{Filter: kube.Filter{IncludedNamespaces: []string{"nowhere"}}}, func(err error) bool {
			return errors.Is(err, ErrEmptySelection) && strings.Contains(err.Error(), "nowhere")
		}},
		"nothing fits":        {Plan{Filter: kube.Filter{LabelSelector: "app=nothing"}}, func(err error) bool { return errors.Is(err, ErrEmptySelection) }},
		"bad mapping":         {Plan{NamespaceMapping: map[string]string{"a": ""}}, func(err error) bool { return errors.Is(err, ErrPlan) }},
		"bad name":            {Plan{Name: "my restore!"}, func(err error) bool { return errors.Is(err, ErrPlan) }},
		"bad policy":          {Plan{Existing: "Overwrite"}, func(err error) bool { return errors.Is(err, ErrPlan) }},
		"bad policy for jobs": {Plan{Jobs: "Later"}, func(err error) bool { return errors.Is(err, ErrPlan) }},
		"nothing at all":      {Plan{WithoutObjects: true}, func(err error) bool { return errors.Is(err, ErrPlan) }},
		"no such volume":      {Plan{Volumes: []Volume{{"v", "/tmp/v"}}}, func(err error) bool { return errors.Is(err, snapshot.ErrNotFound) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := Prepare(t.Context(), stored.deps(s), test.plan); !test.is(err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestVolumesNeedNoCluster(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "a"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	stored := storeFolder(t, folder)
	target := filepath.Join(t.TempDir(), "new")
	plan := Plan{WithoutObjects: true, Volumes: []Volume{{"data", target}}}
	r, err := Run(t.Context(), Deps{Repository: stored.repository, Snapshot: stored.snapshot}, plan)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(target, "a"))
	if err != nil || string(got) != "hello" || !r.Complete() || len(r.Volumes) != 1 || r.Volumes[0].Files.Files != 1 {
		t.Errorf("the file says %q, %v; report %+v", got, err, r)
	}
	if _, err := Run(t.Context(), Deps{Repository: stored.repository, Snapshot: stored.snapshot}, plan); !errors.Is(err, files.ErrNotEmpty) {
		t.Errorf("into a folder with files: %v, want %v", err, files.ErrNotEmpty)
	}
}

func TestIncompleteBackupIsWarnedOf(t *testing.T) {
	folder := t.TempDir()
	bad := snapshot.Result{Severity: snapshot.Error, Item: "data:a", Message: "cannot be read"}
	for _, test := range []struct {
		results []snapshot.Result
		want    []string
	}{
		{nil, nil},
		{[]snapshot.Result{bad}, []string{"the backup is incomplete: 1 item could not be backed up"}},
		{[]snapshot.Result{bad, bad}, []string{"the backup is incomplete: 2 items could not be backed up"}},
	} {
		stored := storeFolder(t, folder, test.results...)
		plan := Plan{WithoutObjects: true, Volumes: []Volume{{"data", t.TempDir()}}}
		r, err := Run(t.Context(), Deps{Repository: stored.repository, Snapshot: stored.snapshot}, plan)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, r.Warnings); diff != "" {
			t.Errorf("warnings (-want +got):\n%s", diff)
		}
	}
}

// storeFolder makes a snapshot of a folder as volume data.
func storeFolder(t *testing.T, folder string, results ...snapshot.Result) source {
	t.Helper()
	bucket, repository := newRepository(t)
	writer := repository.NewWriter(t.Context(), repo.WriterOptions{})
	assembler := content.NewAssembler(writer, content.Options{Key: repository.DeriveKey})
	if _, err := files.Backup(t.Context(), files.Source{Root: folder}, assembler, nil, files.Options{}); err != nil {
		t.Fatal(err)
	}
	result, err := assembler.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return commit(t, bucket, repository, writer, snapshot.Draft{
		Name: "files", Started: time.Now(), Complete: len(results) == 0, Results: results, TreeKey: repository.DeriveKey("tree"),
		Volumes: []snapshot.VolumeDraft{{Volume: snapshot.Volume{Name: "data", Root: result.Root}}},
	})
}
