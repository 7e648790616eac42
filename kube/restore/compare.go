package restore

import (
	"bytes"

	"github.com/varve-dev/varve/kube"
)

// Why an existing object was left.
const (
	reasonDiffers  = "it exists and differs from the backup"
	reasonOriginal = "it is there, and belongs to the original namespace"
)

// compare decides about an object that is there. Both are compared cleaned, and without what other
// parties attach to objects: owners and finalizers.
func (p *Prepared) compare(a *Action, wanted, there kube.Object) (Verb, string, error) {
	k := a.Key
	if k.Group == "" && k.Resource == "serviceaccounts" {
		if len(missingOf(wanted, there)) > 0 {
			return Merge, "", nil
		}
		return Keep, "", nil
	}
	same, err := equal(k, wanted, there, p.plan)
	switch {
	case err != nil:
		return "", "", err
	case same:
		return Keep, "", nil
	case a.reaches || p.mapping.reaches(k, there):
		return Skip, reasonOriginal, nil
	case claimOf(k, there) != "" && claimOf(k, there) != claimOf(k, wanted):
		return Skip, "it is there, and has the claim " + claimOf(k, there), nil
	case p.plan.Existing == ExistingUpdate:
		return Update, "", nil
	}
	return Keep, reasonDiffers, nil
}

// claimOf returns the claim that a volume is bound to, as NAMESPACE/NAME, or nothing. What a claim has
// is never given to another.
func claimOf(k kube.Key, o kube.Object) string {
	claim := o.Map("spec", "claimRef")
	if k.Group != "" || k.Resource != "persistentvolumes" || claim == nil {
		return ""
	}
	return claim.Text("namespace") + "/" + claim.Text("name")
}

func equal(k kube.Key, wanted, there kube.Object, p Plan) (bool, error) {
	var texts [2][]byte
	for i, o := range []kube.Object{wanted, there} {
		o = o.Clone()
		clean(k, o, cleaning{nodePorts: p.PreserveNodePorts})
		o.Remove("metadata", "finalizers")
		var err error
		if texts[i], err = kube.Canonical(o); err != nil {
			return false, err
		}
	}
	return bytes.Equal(texts[0], texts[1]), nil
}

// missingOf returns the merge patch that adds to a service account the labels, annotations and Secrets
// which only the backup has; empty if there are none. What is there wins over the backup.
func missingOf(wanted, there kube.Object) kube.Object {
	patch := kube.Object{}
	for _, field := range []string{"labels", "annotations"} {
		has := there.Map("metadata", field)
		for key, value := range wanted.Map("metadata", field) {
			if _, ok := has[key]; !ok {
				patch.Set(value, "metadata", field, key)
			}
		}
	}
	for _, field := range []string{"secrets", "imagePullSecrets"} {
		known := map[string]bool{}
		all, _ := there.Value(field).([]any)
		for _, s := range there.Each(field) {
			known[s.Text("name")] = true
		}
		before := len(all)
		for _, s := range wanted.Each(field) {
			if !known[s.Text("name")] {
				all = append(all, map[string]any(s))
			}
		}
		if len(all) > before {
			patch[field] = all
		}
	}
	return patch
}
