package main

import (
	"slices"
	"strings"

	"github.com/varve-dev/varve/test/api"
)

// What a restore cannot or must not bring back is left out of the comparison. All of it is listed
// here; everything else has to be equal.

// A left-out field may differ in objects of a kind, or of all kinds.
type leftOut struct {
	kind string // or empty
	path []string
	why  string
}

var leftOuts = []leftOut{
	{"", p("metadata", "resourceVersion"), "the server counts"},
	{"", p("metadata", "generation"), "the server counts"},
	{"", p("metadata", "creationTimestamp"), "it was created again"},
	{"", p("metadata", "uid"), "it was created again; references to it are compared by what they refer to"},
	{"", p("metadata", "managedFields"), "it was written by somebody else"},
	{"", p("metadata", "labels", "varve-restore"), "the restore's mark"},
	{"", p("metadata", "labels", "varve.dev/restore-name"), "the restore's mark"},
	{"", p("metadata", "labels", "varve.dev/backup-name"), "the restore's mark"},
	{"", p("status"), "controllers report it; a restore leaves it to them unless told otherwise"},

	{"Service", p("spec", "clusterIP"), "the server assigns it, unless it is None"},
	{"Service", p("spec", "clusterIPs"), "the server assigns them"},
	{"Service", p("spec", "healthCheckNodePort"), "the server assigns it"},
	{"Service", p("spec", "ports", "nodePort"), "the server assigns it, unless told to preserve it"},
	{"Endpoints", p("metadata", "annotations", "endpoints.kubernetes.io/last-change-trigger-time"), "a time"},
	{"Deployment", p("metadata", "annotations", "deployment.kubernetes.io/revision"), "its controller counts"},
	{"DaemonSet", p("metadata", "annotations", "deprecated.daemonset.template.generation"), "the server counts"},
	{"PersistentVolumeClaim", p("metadata", "annotations", "pv.kubernetes.io/bind-completed"), "the binder's note"},
	{"PersistentVolumeClaim", p("metadata", "annotations", "pv.kubernetes.io/bound-by-controller"), "the binder's note"},
	{"PersistentVolumeClaim", p("spec", "volumeName"), "the binder's choice; the old volume may be gone"},
	{"PersistentVolume", p("metadata", "annotations", "pv.kubernetes.io/bound-by-controller"), "the binder's note"},
	{"PersistentVolume", p("spec", "claimRef"), "a volume that outlived its claim may be bound to the new one or not"},
	{"Job", p("spec", "selector"), "it names the Job's UID"},
	{"Job", p("metadata", "labels", "controller-uid"), "it is the Job's UID"},
	{"Job", p("metadata", "labels", "batch.kubernetes.io/controller-uid"), "it is the Job's UID"},
	{"Job", p("spec", "template", "metadata", "labels", "controller-uid"), "it is the Job's UID"},
	{"Job", p("spec", "template", "metadata", "labels", "batch.kubernetes.io/controller-uid"), "it is the Job's UID"},
	{"Pod", p("spec", "volumes", tokenVolume), "each pod has a token of its own"},
	{"Pod", p("spec", "containers", "volumeMounts", tokenVolume), "each pod has a token of its own"},
	{"Pod", p("spec", "initContainers", "volumeMounts", tokenVolume), "each pod has a token of its own"},
}

func p(keys ...string) []string { return keys }

// tokenVolume stands in a path for the items of a list whose name begins so.
const tokenVolume = "kube-api-access-"

// makers are kinds whose controllers make objects again as soon as they are there themselves.
var makers = []string{"CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "Service", "StatefulSet"}

// remade tells whether an object is one that a controller makes for its owner.
func remade(o api.Object) bool {
	owner := o.Owner()
	return owner != nil && slices.Contains(makers, owner.Kind())
}

// normal returns a copy of a state without what may differ. References by UID become references to what
// has that UID, so that they are equal exactly if they refer to the same thing.
func normal(s state) state {
	uids := map[string]id{}
	for i, o := range s {
		uids[o.String("metadata", "uid")] = i
	}
	result := state{}
	for i, o := range s {
		o = deepCopy(map[string]any(o)).(map[string]any)
		headless := i.kind == "Service" && o.String("spec", "clusterIP") == "None"
		for _, l := range leftOuts {
			if headless && slices.Contains(l.path, "clusterIP") {
				continue // to have no address is a decision
			}
			if l.kind == "" || l.kind == i.kind {
				remove(map[string]any(o), l.path)
			}
		}
		for _, reference := range list(o.Field("metadata", "ownerReferences")) {
			if owner, ok := uids[api.Object(reference).String("uid")]; ok {
				reference["uid"] = owner.String()
			}
		}
		result[i] = o
	}
	return result
}

// renamed returns a copy of a normal state as it should be when a namespace has got another name.
func renamed(s state, from, to string) state {
	result := state{}
	for i, o := range s {
		o = deepCopy(map[string]any(o)).(map[string]any)
		if i.kind == "Namespace" && i.name == from {
			i.name = to
			set(o, "name", to, "metadata")
			set(o, "kubernetes.io/metadata.name", to, "metadata", "labels")
		}
		if i.namespace == from {
			i.namespace = to
			set(o, "namespace", to, "metadata")
		}
		if strings.HasSuffix(i.kind, "RoleBinding") {
			for _, subject := range list(o["subjects"]) {
				replace(subject, "namespace", from, to)
			}
		}
		for _, reference := range list(o.Field("metadata", "ownerReferences")) {
			owner, _ := reference["uid"].(string) // what normal put there
			reference["uid"] = strings.Replace(owner, " "+from+"/", " "+to+"/", 1)
		}
		result[i] = o
	}
	return result
}

// remove removes what a path leads to, in every item where it leads through a list, and containers that
// become empty by it.
func remove(at map[string]any, path []string) {
	key := path[0]
	if len(path) == 1 {
		delete(at, key)
		return
	}
	switch next := at[key].(type) {
	case map[string]any:
		remove(next, path[1:])
		if len(next) == 0 {
			delete(at, key)
		}
	case []any:
		if path[1] == tokenVolume {
			next = slices.DeleteFunc(next, func(item any) bool {
				volume, _ := item.(map[string]any)
				name, _ := volume["name"].(string)
				return strings.HasPrefix(name, tokenVolume)
			})
			at[key] = next
			if len(next) == 0 {
				delete(at, key)
			}
			return
		}
		for _, item := range next {
			if item, ok := item.(map[string]any); ok {
				remove(item, path[1:])
			}
		}
	}
}

func set(o api.Object, key, value string, path ...string) {
	if at, ok := o.Field(path...).(map[string]any); ok {
		at[key] = value
	}
}

func replace(at map[string]any, key, from, to string) {
	if at[key] == from {
		at[key] = to
	}
}

// list returns the items of a list that are maps.
func list(value any) []map[string]any {
	items, _ := value.([]any)
	var maps []map[string]any
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			maps = append(maps, m)
		}
	}
	return maps
}

func deepCopy(value any) any {
	switch value := value.(type) {
	case map[string]any:
		result := make(map[string]any, len(value))
		for key, item := range value {
			result[key] = deepCopy(item)
		}
		return result
	case []any:
		result := make([]any, len(value))
		for i, item := range value {
			result[i] = deepCopy(item)
		}
		return result
	default:
		return value
	}
}

// groupOf returns the group of an apiVersion.
func groupOf(apiVersion string) string {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return group
}
