// Package kube is Kubernetes as a source and a sink of objects: what an API server serves, which of
// its objects a filter selects, and how an object is written down so that it can be joined again to
// exactly what the server returned.
//
//	cluster, err := kube.Connect(kube.Access{})            // a kubeconfig, or the pod's own account
//	catalog, err := cluster.Discover(ctx)                  // which kinds it serves
//	selection, err := cluster.Select(ctx, catalog, filter) // names and globs become kinds and namespaces
//	err = selection.Walk(ctx, options, visit)              // every selected object, kind by kind
//
// An [Object] is decoded JSON, never a Go type of its kind: a backup has to carry kinds that nobody
// compiled in, and fields that a newer server added. Numbers keep the digits they came with.
//
// In a snapshot the objects of a cluster are one map. The key of an object is its [Key], group and
// resource first because neighbours that look alike compress best. Its attributes are [Attributes].
// Its contents are two JSON texts, body and state, see [Stored].
package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Object is one API object as decoded JSON: maps, slices, strings, booleans, nil, and [json.Number],
// which keeps 1 and 1.0 and integers beyond 64 bits apart.
type Object map[string]any

// Owner is one entry of an object's metadata.ownerReferences.
type Owner struct {
	APIVersion, Kind, Name, UID string
	Controller                  bool // it manages the object, so it would make it again
}

// ErrNotObject means that bytes hold something else than one JSON object.
var ErrNotObject = errors.New("not a JSON object")

// Decode reads one JSON object.
func Decode(raw []byte) (Object, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var o Object
	if err := d.Decode(&o); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotObject, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows it", ErrNotObject)
	}
	if o == nil {
		return nil, fmt.Errorf("%w: null", ErrNotObject)
	}
	return o, nil
}

// Clone returns a copy that shares nothing with o.
func (o Object) Clone() Object { return cloneValue(map[string]any(o)).(map[string]any) }

// APIVersion returns the group and version the object is written in, such as apps/v1.
func (o Object) APIVersion() string { return o.Text("apiVersion") }

// Kind returns the object's kind, such as Deployment.
func (o Object) Kind() string { return o.Text("kind") }

// Name returns metadata.name.
func (o Object) Name() string { return o.Text("metadata", "name") }

// Namespace returns metadata.namespace, empty for objects of the whole cluster.
func (o Object) Namespace() string { return o.Text("metadata", "namespace") }

// UID returns metadata.uid.
func (o Object) UID() string { return o.Text("metadata", "uid") }

// ResourceVersion returns metadata.resourceVersion.
func (o Object) ResourceVersion() string { return o.Text("metadata", "resourceVersion") }

// Labels returns a copy of metadata.labels.
func (o Object) Labels() map[string]string { return o.texts("metadata", "labels") }

// Annotations returns a copy of metadata.annotations.
func (o Object) Annotations() map[string]string { return o.texts("metadata", "annotations") }

// Text returns the string at a path of field names, or nothing where there is none.
func (o Object) Text(path ...string) string {
	s, _ := o.Value(path...).(string)
	return s
}

// Value returns what stands at a path of field names, or nil.
func (o Object) Value(path ...string) any {
	v, found, err := unstructured.NestedFieldNoCopy(o, path...)
	if !found || err != nil {
		return nil
	}
	return v
}

// Map returns the JSON object at a path of field names, or nil. It is not a copy.
func (o Object) Map(path ...string) Object {
	m, _ := o.Value(path...).(map[string]any)
	return m
}

// Each returns the JSON objects in the list at a path of field names. They are not copies.
func (o Object) Each(path ...string) []Object {
	list, _ := o.Value(path...).([]any)
	var found []Object
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			found = append(found, m)
		}
	}
	return found
}

// Set puts a value at a path of field names and makes the objects on the way.
func (o Object) Set(value any, path ...string) {
	m := map[string]any(o)
	for _, field := range path[:len(path)-1] {
		next, ok := m[field].(map[string]any)
		if !ok {
			next = map[string]any{}
			m[field] = next
		}
		m = next
	}
	m[path[len(path)-1]] = value
}

// Remove takes away the field at a path, and the objects on the way that it leaves empty.
func (o Object) Remove(path ...string) {
	inner := o
	if len(path) > 1 {
		if inner = o.Map(path[0]); inner == nil {
			return
		}
		before := len(inner)
		inner.Remove(path[1:]...)
		if before == 0 || len(inner) > 0 {
			return
		}
	}
	delete(o, path[0])
}

// Owners returns the owners the object names.
func (o Object) Owners() []Owner {
	var owners []Owner
	for _, r := range o.Each("metadata", "ownerReferences") {
		controller, _ := r["controller"].(bool)
		owners = append(owners, Owner{
			APIVersion: r.Text("apiVersion"), Kind: r.Text("kind"),
			Name: r.Text("name"), UID: r.Text("uid"), Controller: controller,
		})
	}
	return owners
}

func (o Object) texts(path ...string) map[string]string {
	found := map[string]string{}
	for key, value := range o.Map(path...) {
		if s, ok := value.(string); ok {
			found[key] = s
		}
	}
	return found
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for key, value := range v {
			m[key] = cloneValue(value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, value := range v {
			list[i] = cloneValue(value)
		}
		return list
	}
	return v
}

// groupOf returns the group of an apiVersion: apps of apps/v1, nothing of v1.
func groupOf(apiVersion string) string {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return group
}
