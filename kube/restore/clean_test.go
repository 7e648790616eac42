package restore

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
)

func TestClean(t *testing.T) {
	pods, services := kube.Key{Resource: "pods"}, kube.Key{Resource: "services"}
	claims, volumes := kube.Key{Resource: "persistentvolumeclaims"}, kube.Key{Resource: "persistentvolumes"}
	accounts, jobs := kube.Key{Resource: "serviceaccounts"}, kube.Key{Group: "batch", Resource: "jobs"}
	tests := map[string]struct {
		key      kube.Key
		cleaning cleaning
		object   string
		want     string
	}{
		"metadata keeps what its author wrote": {
			kube.Key{Resource: "configmaps"}, cleaning{},
			`{"metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"1","generation":2,"creationTimestamp":"t","managedFields":[],"deletionTimestamp":"t",
			"deletionGracePeriodSeconds":3,"selfLink":"s","generateName":"g","ownerReferences":[{}],"labels":{"a":"b","varve-restore":"x","varve.dev/restore-name":"x","varve.dev/backup-name":"y"},
			"annotations":{"c":"d"},"finalizers":["f"]},"data":{"status":"kept"},"status":{"phase":"x"}}`,
			`{"metadata":{"name":"a","namespace":"n","labels":{"a":"b"},"annotations":{"c":"d"},"finalizers":["f"]},"data":{"status":"kept"}}`,
		},
		"labels of an earlier restore leave no empty labels": {
			kube.Key{Resource: "configmaps"}, cleaning{}, `{"metadata":{"name":"a","labels":{"varve-restore":"x"}}}`, `{"metadata":{"name":"a"}}`,
		},
		"a pod forgets its node and what admission gave it": {
			pods, cleaning{},
			`{"metadata":{"name":"p"},"spec":{"nodeName":"n","priority":7,"preemptionPolicy":"Never","priorityClassName":"c","ephemeralContainers":[{}],"containers":[{"name":"a"}]}}`,
			`{"metadata":{"name":"p"},"spec":{"priorityClassName":"c","containers":[{"name":"a"}]}}`,
		},
		"a pod forgets the token of its account and keeps projected ones": {
			pods, cleaning{},
			`{"metadata":{"name":"p"},"spec":{"serviceAccountName":"web","volumes":[{"name":"web-token-x","secret":{}},{"name":"kube-api-access-x","projected":{}},{"name":"web-token-cache","emptyDir":{}}],
			"containers":[{"name":"a","volumeMounts":[{"name":"web-token-x"},{"name":"kube-api-access-x"}]}],"initContainers":[{"name":"i","volumeMounts":[{"name":"web-token-x"}]}]}}`,
			`{"metadata":{"name":"p"},"spec":{"serviceAccountName":"web","volumes":[{"name":"kube-api-access-x","projected":{}},{"name":"web-token-cache","emptyDir":{}}],
			"containers":[{"name":"a","volumeMounts":[{"name":"kube-api-access-x"}]}],"initContainers":[{"name":"i"}]}}`,
		},
		"a Service gets new addresses and ports": {
			services, cleaning{},
			`{"metadata":{"name":"s"},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"healthCheckNodePort":3,"ports":[{"port":80,"nodePort":30000},{"port":81}]},"status":{"loadBalancer":{}}}`,
			`{"metadata":{"name":"s"},"spec":{"type":"LoadBalancer","ports":[{"port":80},{"port":81}]}}`,
		},
		"a Service keeps its ports if it is said": {
			services, cleaning{nodePorts: true},
			`{"metadata":{"name":"s"},"spec":{"clusterIP":"10.0.0.1","healthCheckNodePort":3,"ports":[{"nodePort":30000}]}}`,
			`{"metadata":{"name":"s"},"spec":{"healthCheckNodePort":3,"ports":[{"nodePort":30000}]}}`,
		},
		"a headless Service stays headless": {
			services, cleaning{}, `{"metadata":{"name":"s"},"spec":{"clusterIP":"None","clusterIPs":["None"]}}`, `{"metadata":{"name":"s"},"spec":{"clusterIP":"None","clusterIPs":["None"]}}`,
		},
		"a claim is unbound": {
			claims, cleaning{},
			`{"metadata":{"name":"c","annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes","volume.kubernetes.io/selected-node":"n","volume.kubernetes.io/storage-provisioner":"p","volume.beta.kubernetes.io/storage-provisioner":"p","mine":"x"}},"spec":{"volumeName":"v","storageClassName":"s"}}`,
			`{"metadata":{"name":"c","annotations":{"mine":"x"}},"spec":{"storageClassName":"s"}}`,
		},
		"a claim keeps its volume where it is there": {
			claims, cleaning{volume: true}, `{"metadata":{"name":"c","annotations":{"pv.kubernetes.io/bind-completed":"yes"}},"spec":{"volumeName":"v"}}`, `{"metadata":{"name":"c"},"spec":{"volumeName":"v"}}`,
		},
		"a volume waits for its claim": {
			volumes, cleaning{}, `{"metadata":{"name":"v"},"spec":{"claimRef":{"namespace":"n","name":"c","uid":"u","resourceVersion":"1"}}}`, `{"metadata":{"name":"v"},"spec":{"claimRef":{"namespace":"n","name":"c"}}}`,
		},
		"an account forgets its tokens": {
			accounts, cleaning{}, `{"metadata":{"name":"web"},"secrets":[{"name":"web-token-x"},{"name":"mine"}]}`, `{"metadata":{"name":"web"},"secrets":[{"name":"mine"}]}`,
		},
		"an account with nothing but tokens": {
			accounts, cleaning{}, `{"metadata":{"name":"web"},"secrets":[{"name":"web-token-x"}]}`, `{"metadata":{"name":"web"}}`,
		},
		"a Job gets a selector of its own": {
			jobs, cleaning{},
			`{"metadata":{"name":"j","labels":{"batch.kubernetes.io/controller-uid":"u","mine":"x"}},"spec":{"selector":{"matchLabels":{"batch.kubernetes.io/controller-uid":"u"}},"template":{"metadata":{"labels":{"controller-uid":"u","batch.kubernetes.io/controller-uid":"u","job-name":"j"}}}}}`,
			`{"metadata":{"name":"j","labels":{"mine":"x"}},"spec":{"template":{"metadata":{"labels":{"job-name":"j"}}}}}`,
		},
		"a Job keeps a selector that its author wrote": {
			jobs, cleaning{}, `{"metadata":{"name":"j"},"spec":{"manualSelector":true,"selector":{"matchLabels":{"a":"b"}}}}`, `{"metadata":{"name":"j"},"spec":{"manualSelector":true,"selector":{"matchLabels":{"a":"b"}}}}`,
		},
		"a Job waits if it is said": {
			jobs, cleaning{suspend: true}, `{"metadata":{"name":"j"},"spec":{"x":1}}`, `{"metadata":{"name":"j"},"spec":{"x":1,"suspend":true}}`,
		},
		"a kind of the same name in another group is left alone": {
			kube.Key{Group: "serving.knative.dev", Resource: "services"}, cleaning{}, `{"metadata":{"name":"s"},"spec":{"clusterIP":"x"}}`, `{"metadata":{"name":"s"},"spec":{"clusterIP":"x"}}`,
		},
		"without metadata": {kube.Key{Resource: "configmaps"}, cleaning{}, `{"kind":"x"}`, `{"kind":"x"}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := object(t, test.object)
			clean(test.key, got, test.cleaning)
			if diff := cmp.Diff(object(t, test.want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMapping(t *testing.T) {
	m := mapping{"a": "b"}
	tests := map[string]struct {
		key          kube.Key
		object, want string
	}{
		"where an object is": {kube.Key{Resource: "configmaps", Namespace: "a"}, `{"metadata":{"namespace":"a"},"data":{"namespace":"a"}}`, `{"metadata":{"namespace":"b"},"data":{"namespace":"a"}}`},
		"other namespaces":   {kube.Key{Resource: "configmaps", Namespace: "c"}, `{"metadata":{"namespace":"c"}}`, `{"metadata":{"namespace":"c"}}`},
		"a namespace itself": {
			kube.Key{Resource: "namespaces", Name: "a"}, `{"metadata":{"name":"a","labels":{"kubernetes.io/metadata.name":"a","x":"a"}}}`, `{"metadata":{"name":"b","labels":{"kubernetes.io/metadata.name":"b","x":"a"}}}`,
		},
		"subjects of bindings": {
			kube.Key{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"},
			`{"subjects":[{"kind":"ServiceAccount","name":"x","namespace":"a"},{"kind":"User","name":"a"},{"kind":"ServiceAccount","name":"x","namespace":"c"}]}`,
			`{"subjects":[{"kind":"ServiceAccount","name":"x","namespace":"b"},{"kind":"User","name":"a"},{"kind":"ServiceAccount","name":"x","namespace":"c"}]}`,
		},
		"the claim of a volume":  {kube.Key{Resource: "persistentvolumes"}, `{"spec":{"claimRef":{"namespace":"a","name":"a"}}}`, `{"spec":{"claimRef":{"namespace":"b","name":"a"}}}`},
		"a volume without claim": {kube.Key{Resource: "persistentvolumes"}, `{"spec":{}}`, `{"spec":{}}`},
		"Services of webhooks": {
			kube.Key{Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"},
			`{"webhooks":[{"clientConfig":{"service":{"namespace":"a","name":"w"}},"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["a","c"]},{"key":"x","values":["a"]}]}},{"clientConfig":{"url":"https://a"}}]}`,
			`{"webhooks":[{"clientConfig":{"service":{"namespace":"b","name":"w"}},"namespaceSelector":{"matchExpressions":[{"key":"kubernetes.io/metadata.name","operator":"In","values":["b","c"]},{"key":"x","values":["a"]}]}},{"clientConfig":{"url":"https://a"}}]}`,
		},
		"Services of aggregated APIs": {kube.Key{Group: "apiregistration.k8s.io", Resource: "apiservices"}, `{"spec":{"service":{"namespace":"a"}}}`, `{"spec":{"service":{"namespace":"b"}}}`},
		"Services of conversion": {
			kube.Key{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
			`{"spec":{"conversion":{"webhook":{"clientConfig":{"service":{"namespace":"a"}}}}}}`, `{"spec":{"conversion":{"webhook":{"clientConfig":{"service":{"namespace":"b"}}}}}}`,
		},
		"namespaces of network policies": {
			kube.Key{Group: "networking.k8s.io", Resource: "networkpolicies", Namespace: "a"},
			`{"metadata":{"namespace":"a"},"spec":{"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"a"}}},{"podSelector":{}}]}],"egress":[{"to":[{"namespaceSelector":{"matchLabels":{"x":"a"}}}]}]}}`,
			`{"metadata":{"namespace":"b"},"spec":{"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"b"}}},{"podSelector":{}}]}],"egress":[{"to":[{"namespaceSelector":{"matchLabels":{"x":"a"}}}]}]}}`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := object(t, test.object)
			m.object(test.key, got)
			if diff := cmp.Diff(object(t, test.want), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLabelValueFits(t *testing.T) {
	long := "a-backup-with-quite-a-long-name-that-goes-on-and-on-for-more-than-63-characters"
	for name, want := range map[string]string{
		"short":   "short",
		long[:63]: long[:63],

		"2026-11-22T12:00:00Z": "2026-11-22T12-00-00Zab8fa5",
		"v1.2+build":           "v1.2-buildb4474f",
		"nightly-":             "nightly-92c663",
		"name with spaces":     "name-with-spaces78162a",
		"-._":                  "e09041",
		"Ärger":                "rger23c8ef",
	} {
		if got := labelValue(name); got != want {
			t.Errorf("labelValue(%q) = %q, want %q", name, got, want)
		}
	}
	a, b := labelValue(long+"1"), labelValue(long+"2")
	if len(a) != 63 || a[:57] != long[:57] || a == b {
		t.Errorf("long names become %q and %q", a, b)
	}
}

func TestWavesGoFromWhatIsReliedOnToWhatRelies(t *testing.T) {
	order := []kube.Key{
		{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"},
		{Resource: "namespaces"},
		{Group: "storage.k8s.io", Resource: "storageclasses"},
		{Resource: "persistentvolumes"},
		{Resource: "persistentvolumeclaims"},
		{Resource: "serviceaccounts"},
		{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
		{Group: "rbac.authorization.k8s.io", Resource: "rolebindings"},
		{Resource: "secrets"},
		{Resource: "services"},
		{Resource: "pods"},
		{Group: "apps", Resource: "replicasets"},
		{Group: "apps", Resource: "deployments"},
		{Group: "cert-manager.io", Resource: "certificates"},
		{Group: "batch", Resource: "jobs"},
		{Group: "admissionregistration.k8s.io", Resource: "validatingwebhookconfigurations"},
		{Group: "apiregistration.k8s.io", Resource: "apiservices"},
	}
	for i := 1; i < len(order); i++ {
		if waveOf(order[i-1]) >= waveOf(order[i]) {
			t.Errorf("%s is in wave %d, %s in wave %d", order[i-1].GroupResource(), waveOf(order[i-1]), order[i].GroupResource(), waveOf(order[i]))
		}
	}
	for _, k := range []kube.Key{{Group: "gateway.networking.k8s.io", Resource: "gateways"}, {Group: "shop.example.com", Resource: "services"}} {
		if waveOf(k) != waveCustom {
			t.Errorf("%s is in wave %d, want that of custom resources", k.GroupResource(), waveOf(k))
		}
	}
}

func TestNeedless(t *testing.T) {
	tests := map[string]struct {
		key       kube.Key
		object    string
		completed bool
		needless  bool
	}{
		"node":                   {kube.Key{Resource: "nodes", Name: "n"}, `{}`, false, true},
		"event":                  {kube.Key{Group: "events.k8s.io", Resource: "events", Name: "n"}, `{}`, false, true},
		"lease":                  {kube.Key{Group: "coordination.k8s.io", Resource: "leases", Name: "n"}, `{}`, false, true},
		"mirror pod":             {kube.Key{Resource: "pods"}, `{"metadata":{"annotations":{"kubernetes.io/config.mirror":"x"}}}`, true, true},
		"running pod":            {kube.Key{Resource: "pods"}, `{"status":{"phase":"Running"}}`, false, false},
		"succeeded pod":          {kube.Key{Resource: "pods"}, `{"status":{"phase":"Succeeded"}}`, false, true},
		"failed pod":             {kube.Key{Resource: "pods"}, `{"status":{"phase":"Failed"}}`, false, true},
		"succeeded pod, wanted":  {kube.Key{Resource: "pods"}, `{"status":{"phase":"Succeeded"}}`, true, false},
		"running job":            {kube.Key{Group: "batch", Resource: "jobs"}, `{"status":{"active":1}}`, false, false},
		"completed job":          {kube.Key{Group: "batch", Resource: "jobs"}, `{"status":{"completionTime":"t"}}`, false, true},
		"job without a time":     {kube.Key{Group: "batch", Resource: "jobs"}, `{"status":{"completionTime":""}}`, false, false},
		"failed job":             {kube.Key{Group: "batch", Resource: "jobs"}, `{"status":{"conditions":[{"type":"Failed","status":"True"}]}}`, false, true},
		"job that did not fail":  {kube.Key{Group: "batch", Resource: "jobs"}, `{"status":{"conditions":[{"type":"Failed","status":"False"}]}}`, false, false},
		"certificate bundle":     {kube.Key{Resource: "configmaps", Name: "kube-root-ca.crt"}, `{}`, false, true},
		"token":                  {kube.Key{Resource: "secrets"}, `{"type":"kubernetes.io/service-account-token"}`, false, true},
		"secret":                 {kube.Key{Resource: "secrets"}, `{"type":"Opaque"}`, false, false},
		"slice of a controller":  {kube.Key{Group: "discovery.k8s.io", Resource: "endpointslices"}, `{"metadata":{"labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io"}}}`, false, true},
		"slice of a person":      {kube.Key{Group: "discovery.k8s.io", Resource: "endpointslices"}, `{"metadata":{"labels":{"endpointslice.kubernetes.io/managed-by":"me"}}}`, false, false},
		"the API server's own":   {kube.Key{Resource: "endpoints", Namespace: "default", Name: "kubernetes"}, `{}`, false, true},
		"registered by itself":   {kube.Key{Group: "apiregistration.k8s.io", Resource: "apiservices"}, `{"metadata":{"labels":{"kube-aggregator.kubernetes.io/automanaged":"true"}}}`, false, true},
		"registered by a person": {kube.Key{Group: "apiregistration.k8s.io", Resource: "apiservices"}, `{}`, false, false},
	}
	for name, test := range tests {
		if reason := needless(test.key, object(t, test.object), test.completed); (reason != "") != test.needless {
			t.Errorf("%s: %q", name, reason)
		}
	}
}
