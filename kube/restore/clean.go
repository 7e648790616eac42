package restore

import (
	"slices"
	"strings"

	"github.com/varve-dev/varve/kube"
)

// kept are the fields of metadata that a restored object has from its backup. Owners are put back when
// their new UIDs are known.
var kept = []string{"name", "namespace", "labels", "annotations", "finalizers"}

// The labels that tell which restore made an object.
const (
	labelRestore     = "varve-restore" // <BACKUP>-<TIMESTAMP>
	labelRestoreName = "varve.dev/restore-name"
	labelBackupName  = "varve.dev/backup-name"
)

// claimAnnotations are how the volume controller remembers what it has done for a claim.
var claimAnnotations = []string{
	"pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller",
	"volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner",
	"volume.kubernetes.io/selected-node",
}

// cleaning says what of an object may stay that is usually given anew.
type cleaning struct {
	nodePorts bool // of Services
	volume    bool // the volume of a claim
	suspend   bool // makes Jobs wait
}

// clean takes away from an object what another moment or another cluster gave it: what the API server
// numbers, what controllers allocate, and its status. It is the same for the object to restore and for
// the one it is compared with.
func clean(k kube.Key, o kube.Object, c cleaning) {
	metadata := o.Map("metadata")
	for field := range metadata {
		if !slices.Contains(kept, field) {
			delete(metadata, field)
		}
	}
	for _, label := range []string{labelRestore, labelRestoreName, labelBackupName} {
		o.Remove("metadata", "labels", label)
	}
	delete(o, "status")
	switch k.Group + "/" + k.Resource {
	case "/pods":
		cleanPod(o)
	case "/services":
		cleanService(o, c.nodePorts)
	case "/persistentvolumeclaims":
		for _, annotation := range claimAnnotations {
			o.Remove("metadata", "annotations", annotation)
		}
		if !c.volume {
			o.Remove("spec", "volumeName")
		}
	case "/persistentvolumes":
		o.Remove("spec", "claimRef", "uid")
		o.Remove("spec", "claimRef", "resourceVersion")
	case "/serviceaccounts":
		cleanAccount(o)
	case "batch/jobs":
		cleanJob(o)
		if c.suspend {
			o.Set(true, "spec", "suspend")
		}
	}
}

// cleanPod takes away where the pod ran and what admission gave it. A pod cannot be made with
// ephemeral containers.
func cleanPod(o kube.Object) {
	for _, field := range []string{"nodeName", "priority", "preemptionPolicy", "ephemeralContainers"} {
		o.Remove("spec", field)
	}
	account := o.Text("spec", "serviceAccountName")
	if account == "" {
		account = "default"
	}
	isToken := func(name string) bool { return strings.HasPrefix(name, account+"-token-") }
	filter(o, func(v kube.Object) bool { return !isToken(v.Text("name")) || v.Map("secret") == nil }, "spec", "volumes")
	for _, containers := range []string{"containers", "initContainers"} {
		for _, container := range o.Each("spec", containers) {
			filter(container, func(m kube.Object) bool { return !isToken(m.Text("name")) }, "volumeMounts")
		}
	}
}

// cleanService lets addresses and ports be allocated anew, so that the Service can be made wherever
// another has taken them. A headless Service stays headless.
func cleanService(o kube.Object, nodePorts bool) {
	if o.Text("spec", "clusterIP") != "None" && o.Text("spec", "type") != "ExternalName" {
		o.Remove("spec", "clusterIP")
		o.Remove("spec", "clusterIPs")
	}
	if nodePorts {
		return
	}
	o.Remove("spec", "healthCheckNodePort")
	for _, port := range o.Each("spec", "ports") {
		delete(port, "nodePort")
	}
}

// cleanAccount forgets the tokens that older clusters made for the account.
func cleanAccount(o kube.Object) {
	token := o.Name() + "-token-"
	filter(o, func(s kube.Object) bool { return !strings.HasPrefix(s.Text("name"), token) }, "secrets")
}

// cleanJob takes away the selector by the UID the Job had, unless its author wrote it.
func cleanJob(o kube.Object) {
	if manual, _ := o.Value("spec", "manualSelector").(bool); manual {
		return
	}
	o.Remove("spec", "selector")
	for _, label := range []string{"controller-uid", "batch.kubernetes.io/controller-uid"} {
		o.Remove("spec", "template", "metadata", "labels", label)
		o.Remove("metadata", "labels", label)
	}
}

// filter keeps of the list at a path only what is wanted, and no list where nothing is left.
func filter(o kube.Object, wanted func(kube.Object) bool, path ...string) {
	list, ok := o.Value(path...).([]any)
	if !ok {
		return
	}
	left := slices.DeleteFunc(slices.Clone(list), func(v any) bool {
		m, ok := v.(map[string]any)
		return ok && !wanted(m)
	})
	switch {
	case len(left) == len(list):
	case len(left) == 0:
		o.Remove(path...)
	default:
		o.Set(left, path...)
	}
}
