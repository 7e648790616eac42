package restore

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// harbour fills a namespace with objects of many kinds and waits until controllers are done with them.
func harbour(s site, ns string) {
	s.t.Helper()
	in := func(text string) string { return strings.ReplaceAll(text, "NS", ns) }
	s.create(
		in(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"NS","labels":{"team":"a"},"annotations":{"note":"x"}}}`),
		in(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"boats.NS.example.com"},
			"spec":{"group":"NS.example.com","scope":"Namespaced","names":{"kind":"Boat","plural":"boats"},
			"versions":[{"name":"v1","served":true,"storage":true,"subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`),
		in(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"NS"},"data":{"a":"<b>&"}}`),
		in(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"password","namespace":"NS"},"stringData":{"password":"hunter2"}}`),
		in(`{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"web","namespace":"NS"}}`),
		in(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"NS-all"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`),
		in(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"NS-all"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"NS-all"},"subjects":[{"kind":"ServiceAccount","name":"web","namespace":"NS"}]}`),
		in(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"web","namespace":"NS"},"rules":[]}`),
		in(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"web","namespace":"NS"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"web"},"subjects":[{"kind":"ServiceAccount","name":"web","namespace":"NS"}]}`),
		in(`{"apiVersion":"v1","kind":"LimitRange","metadata":{"name":"limits","namespace":"NS"},"spec":{"limits":[{"type":"Container","default":{"cpu":"1"}}]}}`),
		in(`{"apiVersion":"v1","kind":"ResourceQuota","metadata":{"name":"quota","namespace":"NS"},"spec":{"hard":{"pods":"50"}}}`),
		in(`{"apiVersion":"scheduling.k8s.io/v1","kind":"PriorityClass","metadata":{"name":"NS-high"},"value":7}`),
		in(`{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"NS-fast"},"provisioner":"none","volumeBindingMode":"Immediate"}`),
		in(`{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"NS-pv"},"spec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"storageClassName":"NS-fast","persistentVolumeReclaimPolicy":"Retain","hostPath":{"path":"/tmp/x"}}}`),
		in(`{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data","namespace":"NS"},"spec":{"accessModes":["ReadWriteOnce"],"storageClassName":"NS-fast","volumeName":"NS-pv","resources":{"requests":{"storage":"1Gi"}}}}`),
		in(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"NS"},"spec":{"type":"NodePort","selector":{"app":"web"},"ports":[{"port":80}]}}`),
		in(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"headless","namespace":"NS"},"spec":{"clusterIP":"None","selector":{"app":"web"},"ports":[{"port":80}]}}`),
		in(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"outside","namespace":"NS"},"spec":{"ports":[{"port":80}]}}`),
		in(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"outside-1","namespace":"NS","labels":{"kubernetes.io/service-name":"outside"}},"addressType":"IPv4","endpoints":[{"addresses":["10.1.2.3"]}],"ports":[{"port":80}]}`),
		in(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"NS"},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"priorityClassName":"NS-high","serviceAccountName":"web","containers":[{"name":"a","image":"a"}]}}}}`),
		in(`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"db","namespace":"NS"},"spec":{"serviceName":"headless","replicas":1,"selector":{"matchLabels":{"app":"db"}},"template":{"metadata":{"labels":{"app":"db"}},"spec":{"containers":[{"name":"a","image":"a"}]}}}}`),
		in(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"lone","namespace":"NS"},"spec":{"containers":[{"name":"a","image":"a"}]}}`),
		in(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"once","namespace":"NS"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"a","image":"a"}]}}}}`),
		in(`{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"daily","namespace":"NS"},"spec":{"schedule":"0 0 * * *","jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"a","image":"a"}]}}}}}}`),
		in(`{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"web","namespace":"NS"},"spec":{"defaultBackend":{"service":{"name":"web","port":{"number":80}}}}}`),
		in(`{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"web","namespace":"NS"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"app":"web"}}}}`),
		in(`{"apiVersion":"autoscaling/v2","kind":"HorizontalPodAutoscaler","metadata":{"name":"web","namespace":"NS"},"spec":{"maxReplicas":3,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"}}}`),
		in(`{"apiVersion":"NS.example.com/v1","kind":"Boat","metadata":{"name":"big","namespace":"NS","finalizers":["NS.example.com/anchor"]},"spec":{"length":12.50,"crew":9007199254740993}}`),
	)
	fleet := s.get(ns+".example.com/v1", "Boat", ns, "big")
	s.create(
		in(`{"apiVersion":"NS.example.com/v1","kind":"Boat","metadata":{"name":"a-dinghy","namespace":"NS","ownerReferences":[{"apiVersion":"NS.example.com/v1","kind":"Boat","name":"big","uid":"`+fleet.UID()+`","controller":true}]},"spec":{}}`),
		in(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"log","namespace":"NS","ownerReferences":[{"apiVersion":"NS.example.com/v1","kind":"Boat","name":"big","uid":"`+fleet.UID()+`"}]}}`),
	)
	s.await("pods are there, the claim is bound", func() bool {
		bound := s.get("v1", "PersistentVolumeClaim", ns, "data").Text("status", "phase") == "Bound"
		pods, err := s.List(s.t.Context(), s.resource("v1", "Pod"), kube.Query{Namespace: ns})
		if err != nil {
			s.t.Fatal(err)
		}
		return bound && len(pods) == 5 // two of the Deployment, one of the StatefulSet, one of the Job, and lone
	})
}

// lose deletes the namespace and everything of the whole cluster that harbour made.
func lose(s site, ns string) {
	s.t.Helper()
	patch := kube.Object{}
	patch.Set(nil, "metadata", "finalizers")
	if _, err := s.Merge(s.t.Context(), s.resource(ns+".example.com/v1", "Boat"), ns, "big", patch); err != nil {
		s.t.Fatal(err)
	}
	// The namespace controller waits long where something takes its time; it finds nothing such.
	s.remove("v1", "PersistentVolumeClaim", ns, "data")
	s.remove(ns+".example.com/v1", "Boat", ns, "big")
	s.remove("apps/v1", "Deployment", ns, "web")
	s.remove("apps/v1", "StatefulSet", ns, "db")
	s.remove("batch/v1", "Job", ns, "once")
	s.remove("v1", "Pod", ns, "lone")
	s.await("pods are gone", func() bool {
		pods, err := s.List(s.t.Context(), s.resource("v1", "Pod"), kube.Query{Namespace: ns})
		return err == nil && len(pods) == 0
	})
	s.remove("v1", "Namespace", "", ns)
	s.remove("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "boats."+ns+".example.com")
	s.remove("v1", "PersistentVolume", "", ns+"-pv")
	s.remove("storage.k8s.io/v1", "StorageClass", "", ns+"-fast")
	s.remove("scheduling.k8s.io/v1", "PriorityClass", "", ns+"-high")
	s.remove("rbac.authorization.k8s.io/v1", "ClusterRole", "", ns+"-all")
	s.remove("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "", ns+"-all")
}

// contents returns the objects of a source by key, cleaned, as JSON text.
func contents(t *testing.T, s source, keep func(kube.Key) bool) map[string]string {
	t.Helper()
	found, reader := map[string]string{}, content.NewReader(s.repository)
	for e, err := range s.snapshot.Objects().Scan(t.Context(), tree.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		entry, err := kube.ParseEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		if !keep(entry.Key) {
			continue
		}
		o, err := entry.Object(t.Context(), reader)
		if err != nil {
			t.Fatal(err)
		}
		clean(entry.Key, o, cleaning{volume: true})
		text, err := kube.Canonical(o)
		if err != nil {
			t.Fatal(err)
		}
		found[entry.Key.String()] = string(text)
	}
	return found
}

func report(t *testing.T, r Report) {
	t.Helper()
	for _, o := range r.Failures() {
		t.Errorf("failed: %v", o.Err)
	}
	for _, o := range r.Outcomes {
		if o.Result == Differs {
			t.Errorf("%s: %s", o.Target, o.Reason)
		}
	}
	if !r.Complete() {
		t.Error("the restore is not complete")
	}
}

func TestLostNamespaceComesBack(t *testing.T) {
	t.Parallel()
	s := connect(t)
	harbour(s, "harbour")
	source := s.snapshot(kube.Filter{IncludedNamespaces: []string{"harbour"}})
	lose(s, "harbour")

	r, err := Run(t.Context(), source.deps(s), Plan{})
	if err != nil {
		t.Fatal(err)
	}
	report(t, r)
	left := map[string]int{}
	for _, o := range r.Outcomes {
		if o.Result == Skipped && strings.HasSuffix(o.Reason, "makes it again") {
			left[o.Target.Resource]++
		}
	}
	want := map[string]int{"pods": 4, "replicasets": 1, "controllerrevisions": 1, "endpoints": 2}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left to controllers (-want +got):\n%s", diff)
	}

	s.await("the claim is bound again", func() bool {
		return s.get("v1", "PersistentVolumeClaim", "harbour", "data").Text("status", "phase") == "Bound"
	})
	authored := func(k kube.Key) bool {
		switch k.Resource { // what controllers make has other names now
		case "pods", "endpointslices":
			return k.Name == "lone" || k.Name == "outside-1"
		case "endpoints": // note when they changed
			return false
		}
		return true
	}
	s.await("controllers made their objects again", func() bool {
		now := contents(t, s.snapshot(kube.Filter{IncludedNamespaces: []string{"harbour"}}), authored)
		return len(now) >= len(contents(t, source, authored))
	})
	now := s.snapshot(kube.Filter{IncludedNamespaces: []string{"harbour"}})
	if diff := cmp.Diff(contents(t, source, authored), contents(t, now, authored)); diff != "" {
		t.Errorf("objects (-backup +restored):\n%s", diff)
	}

	big := s.get("harbour.example.com/v1", "Boat", "harbour", "big")
	for kind, name := range map[string]string{"Boat": "a-dinghy", "ConfigMap": "log"} {
		apiVersion := "v1"
		if kind == "Boat" {
			apiVersion = big.APIVersion()
		}
		owners := s.get(apiVersion, kind, "harbour", name).Owners()
		if len(owners) != 1 || owners[0].UID != big.UID() || owners[0].Controller != (kind == "Boat") {
			t.Errorf("%s %s is owned by %+v, want by %s", kind, name, owners, big.UID())
		}
	}
	labels := s.get("v1", "ConfigMap", "harbour", "settings").Labels()
	if !strings.HasPrefix(labels["varve-restore"], "nightly-20") || labels["varve.dev/backup-name"] != "nightly" {
		t.Errorf("labels of a restored object: %v", labels)
	}

	again, err := Run(t.Context(), source.deps(s), Plan{})
	if err != nil {
		t.Fatal(err)
	}
	report(t, again)
	if n := again.Count(Created, Updated); n != 0 {
		t.Errorf("a second restore changed %d objects", n)
	}
}
