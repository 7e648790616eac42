package restore

import (
	"reflect"

	"github.com/varve-dev/varve/kube"
)

// namespaceLabel is the label that every namespace has with its own name.
const namespaceLabel = "kubernetes.io/metadata.name"

// mapping gives namespaces other names.
type mapping map[string]string

func (m mapping) name(namespace string) string {
	if to, ok := m[namespace]; ok {
		return to
	}
	return namespace
}

// key returns where an object goes.
func (m mapping) key(k kube.Key) kube.Key {
	k.Namespace = m.name(k.Namespace)
	if k.Group == "" && k.Resource == "namespaces" {
		k.Name = m.name(k.Name)
	}
	return k
}

// object rewrites what in an object names a namespace: where it is, the subjects of bindings, the
// claim of a volume, the Services of webhooks and aggregated APIs, and namespaces that network policies
// select by name.
func (m mapping) object(k kube.Key, o kube.Object) {
	if len(m) == 0 {
		return
	}
	m.field(o, "metadata", "namespace")
	switch k.Group + "/" + k.Resource {
	case "/namespaces":
		m.field(o, "metadata", "name")
		m.field(o, "metadata", "labels", namespaceLabel)
	case "/persistentvolumes":
		m.field(o, "spec", "claimRef", "namespace")
	case "rbac.authorization.k8s.io/rolebindings", "rbac.authorization.k8s.io/clusterrolebindings":
		for _, subject := range o.Each("subjects") {
			m.field(subject, "namespace")
		}
	case "admissionregistration.k8s.io/validatingwebhookconfigurations", "admissionregistration.k8s.io/mutatingwebhookconfigurations":
		for _, webhook := range o.Each("webhooks") {
			m.field(webhook, "clientConfig", "service", "namespace")
			m.selector(webhook.Map("namespaceSelector"))
		}
	case "apiregistration.k8s.io/apiservices":
		m.field(o, "spec", "service", "namespace")
	case "apiextensions.k8s.io/customresourcedefinitions":
		m.field(o, "spec", "conversion", "webhook", "clientConfig", "service", "namespace")
	case "networking.k8s.io/networkpolicies":
		for _, direction := range [][2]string{{"ingress", "from"}, {"egress", "to"}} {
			for _, rule := range o.Each("spec", direction[0]) {
				for _, peer := range rule.Each(direction[1]) {
					m.selector(peer.Map("namespaceSelector"))
				}
			}
		}
	}
}

// reaches reports whether an object that is not moved itself points into a namespace that gets another
// name. In the cluster it serves the original namespace, which the restore leaves alone.
func (m mapping) reaches(k kube.Key, o kube.Object) bool {
	if len(m) == 0 || m.key(k) != k {
		return false
	}
	mapped := o.Clone()
	m.object(k, mapped)
	return !reflect.DeepEqual(mapped, o)
}

// field rewrites the namespace at a path.
func (m mapping) field(o kube.Object, path ...string) {
	if from := o.Text(path...); from != "" && m.name(from) != from {
		o.Set(m.name(from), path...)
	}
}

// selector rewrites the names by which a label selector selects namespaces.
func (m mapping) selector(s kube.Object) {
	m.field(s, "matchLabels", namespaceLabel)
	for _, expression := range s.Each("matchExpressions") {
		values, _ := expression.Value("values").([]any)
		if expression.Text("key") != namespaceLabel {
			continue
		}
		for i, value := range values {
			if from, ok := value.(string); ok {
				values[i] = m.name(from)
			}
		}
	}
}
