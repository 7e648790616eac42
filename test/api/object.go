package api

// An Object is a Kubernetes object as the server sent it: maps, slices, strings, bools, nil and
// json.Number.
type Object map[string]any

// Field returns what a path of keys leads to, or nil.
func (o Object) Field(path ...string) any {
	var at any = map[string]any(o)
	for _, key := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[key]
	}
	return at
}

// String returns the string that a path of keys leads to, or "".
func (o Object) String(path ...string) string {
	s, _ := o.Field(path...).(string)
	return s
}

// Name returns metadata.name.
func (o Object) Name() string { return o.String("metadata", "name") }

// Namespace returns metadata.namespace, which is empty for objects of the cluster.
func (o Object) Namespace() string { return o.String("metadata", "namespace") }

// APIVersion returns the group and version: apps/v1.
func (o Object) APIVersion() string { return o.String("apiVersion") }

// Kind returns the kind: Deployment.
func (o Object) Kind() string { return o.String("kind") }

// Owner returns the owner reference that says it controls the object, or nil.
func (o Object) Owner() Object {
	references, _ := o.Field("metadata", "ownerReferences").([]any)
	for _, r := range references {
		if reference, ok := r.(map[string]any); ok && reference["controller"] == true {
			return reference
		}
	}
	return nil
}
