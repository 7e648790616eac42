package restore

import (
	"slices"
	"strings"

	"github.com/varve-dev/varve/kube"
)

// The waves of a restore, in order. What is in one wave does not need each other, as far as one can
// tell from the kind alone.
const (
	waveDefinitions = iota // CustomResourceDefinitions, which the API server needs to accept their objects
	waveNamespaces         //
	waveClasses            // storage classes, drivers
	waveVolumes            //
	waveClaims             // after volumes: a claim that names an absent volume is lost
	waveAccounts           // before Secrets, or tokens would be made twice
	waveRoles              //
	waveBindings           //
	waveSettings           // Secrets, ConfigMaps, limits, priority classes: what admission of pods looks at
	waveServices           //
	wavePods               // before controllers, which adopt them instead of making others
	waveReplicaSets        // before Deployments, likewise
	waveWorkloads          // every other built-in kind
	waveCustom             // custom resources, by depth of their owners
	waveJobs               // which begin to work at once
	waveAdmission          // webhooks last: their servers are among what is restored
	waveAPIServices        //
	waveCount
)

var waves = map[[2]string]int{
	{"apiextensions.k8s.io", "customresourcedefinitions"}: waveDefinitions,
	{"", "namespaces"}:                                   waveNamespaces,
	{"storage.k8s.io", "storageclasses"}:                 waveClasses,
	{"storage.k8s.io", "volumeattributesclasses"}:        waveClasses,
	{"storage.k8s.io", "csidrivers"}:                     waveClasses,
	{"snapshot.storage.k8s.io", "volumesnapshotclasses"}: waveClasses,
	{"", "persistentvolumes"}:                            waveVolumes,
	{"", "persistentvolumeclaims"}:                       waveClaims,
	{"", "serviceaccounts"}:                              waveAccounts,
	{"rbac.authorization.k8s.io", "roles"}:               waveRoles,
	{"rbac.authorization.k8s.io", "clusterroles"}:        waveRoles,
	{"rbac.authorization.k8s.io", "rolebindings"}:        waveBindings,
	{"rbac.authorization.k8s.io", "clusterrolebindings"}: waveBindings,
	{"", "secrets"}:                                      waveSettings,
	{"", "configmaps"}:                                   waveSettings,
	{"", "limitranges"}:                                  waveSettings,
	{"", "resourcequotas"}:                               waveSettings,
	{"scheduling.k8s.io", "priorityclasses"}:             waveSettings,
	{"node.k8s.io", "runtimeclasses"}:                    waveSettings,
	{"", "services"}:                                     waveServices,
	{"", "endpoints"}:                                    waveServices,
	{"discovery.k8s.io", "endpointslices"}:               waveServices,
	{"", "pods"}:                                         wavePods,
	{"apps", "replicasets"}:                              waveReplicaSets,
	{"apps", "controllerrevisions"}:                      waveReplicaSets,
	{"", "replicationcontrollers"}:                       waveReplicaSets,
	{"batch", "jobs"}:                                    waveJobs,
	{"apiregistration.k8s.io", "apiservices"}:            waveAPIServices,
}

// builtin are the groups of an API server without any custom resources.
var builtin = []string{
	"", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "authentication.k8s.io",
	"authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io",
	"events.k8s.io", "extensions", "flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io", "networking.k8s.io",
	"node.k8s.io", "policy", "rbac.authorization.k8s.io", "resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io",
	"storagemigration.k8s.io",
}

// waveOf returns the wave of a kind.
func waveOf(k kube.Key) int {
	if wave, ok := waves[[2]string{k.Group, k.Resource}]; ok {
		return wave
	}
	switch {
	case k.Group == "admissionregistration.k8s.io":
		return waveAdmission
	case !slices.Contains(builtin, k.Group):
		return waveCustom
	}
	return waveWorkloads
}

// never are kinds whose objects describe the machine they were on, or are made by the cluster alone.
var never = map[[2]string]string{
	{"", "nodes"}:                                         "a node registers itself",
	{"", "events"}:                                        "an event tells of the past",
	{"events.k8s.io", "events"}:                           "an event tells of the past",
	{"coordination.k8s.io", "leases"}:                     "a lease is held by who is alive",
	{"coordination.k8s.io", "leasecandidates"}:            "a lease is held by who is alive",
	{"storage.k8s.io", "csinodes"}:                        "a node registers itself",
	{"storage.k8s.io", "csistoragecapacities"}:            "a driver publishes it",
	{"storage.k8s.io", "volumeattachments"}:               "volumes are attached where their pods run",
	{"resource.k8s.io", "resourceslices"}:                 "a driver publishes it",
	{"networking.k8s.io", "ipaddresses"}:                  "the API server allocates addresses with their Services",
	{"certificates.k8s.io", "certificatesigningrequests"}: "a request is answered once",
	{"certificates.k8s.io", "podcertificaterequests"}:     "a request is answered once",
	{"internal.apiserver.k8s.io", "storageversions"}:      "the API server keeps it",
	{"varve.dev", "backups"}:                              "the repository itself brings it back",
	{"varve.dev", "restores"}:                             "a restore happens once",
	{"varve.dev", "volumebackups"}:                        "the work of another time",
	{"varve.dev", "volumerestores"}:                       "the work of another time",
}

// makers tells which controllers make their objects again, by the kinds of both.
var makers = map[string][]string{
	"Pod":                {"ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Job"},
	"ReplicaSet":         {"Deployment"},
	"Job":                {"CronJob"},
	"ControllerRevision": {"StatefulSet", "DaemonSet"},
	"EndpointSlice":      {"Service", "Endpoints"},
	"Endpoints":          {"Service"},
}

// makesAgain reports whether a controller, when it is restored, makes the object that it owns again.
func makesAgain(o kube.Object, controller kube.Owner) bool {
	group, _, _ := strings.Cut(controller.APIVersion, "/")
	return slices.Contains(makers[o.Kind()], controller.Kind) && (group == "v1" || slices.Contains(builtin, group))
}

// serverConfig are the ConfigMaps of kube-system that the API server writes itself.
var serverConfig = []string{"extension-apiserver-authentication", "kube-apiserver-legacy-service-account-token-tracking"}

// needless says why an object is not restored, judged by itself; nothing if it is.
func needless(k kube.Key, o kube.Object, completed bool) string {
	if reason := never[[2]string{k.Group, k.Resource}]; reason != "" {
		return reason
	}
	switch k.Group + "/" + k.Resource {
	case "/pods":
		if _, mirror := o.Annotations()["kubernetes.io/config.mirror"]; mirror {
			return "a kubelet runs it from a file"
		}
		if phase := o.Text("status", "phase"); !completed && (phase == "Succeeded" || phase == "Failed") {
			return "it has completed"
		}
	case "batch/jobs":
		if !completed && finished(o) {
			return "it has completed"
		}
	case "/configmaps":
		if k.Name == "kube-root-ca.crt" || k.Namespace == "kube-system" && slices.Contains(serverConfig, k.Name) {
			return "the cluster publishes its own"
		}
	case "/secrets":
		if o.Text("type") == "kubernetes.io/service-account-token" {
			return "a token is valid only where it was issued"
		}
	case "/services", "/endpoints", "discovery.k8s.io/endpointslices":
		if k.Namespace == "default" && k.Name == "kubernetes" {
			return "the API server publishes its own"
		}
		if strings.HasPrefix(o.Labels()["endpointslice.kubernetes.io/managed-by"], "endpointslice") {
			return "a controller makes it from its Service"
		}
	case "apiregistration.k8s.io/apiservices":
		if o.Labels()["kube-aggregator.kubernetes.io/automanaged"] != "" {
			return "the API server registers what it serves"
		}
	}
	return ""
}

// finished reports whether a Job has ended, well or not.
func finished(o kube.Object) bool {
	if o.Text("status", "completionTime") != "" {
		return true
	}
	return slices.ContainsFunc(o.Each("status", "conditions"), func(c kube.Object) bool {
		kind := c.Text("type")
		return c.Text("status") == "True" && (kind == "Complete" || kind == "Failed")
	})
}
