// Package corpus makes what a demo and a benchmark back up: a cluster full of objects, and a volume
// full of files, that look like those of a company.
//
// The objects are two dozen namespaces of teams and of platform software, with services, databases and
// workers, everything around them from quotas to webhook configurations, and custom resources of
// well-known projects, whose definitions are taken from those projects' Go modules. A control plane
// with its controllers running adds what it derives: ReplicaSets, Pods, EndpointSlices and so on.
//
// The same seed makes the same objects and the same files, byte for byte, except for what a server
// chooses itself, such as UIDs and addresses.
//
// The manifests are templates in the folder manifests. The digit before a file's name is its wave:
// all of a wave exists before the next one begins.
package corpus

import (
	"embed"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// A Document is one object as a person writes it.
type Document struct {
	APIVersion string
	Kind       string
	Namespace  string // empty for objects of the cluster
	Name       string
	Content    string // YAML
	HasStatus  bool   // Content has a status, which is applied apart
	wave       byte
}

//go:embed manifests/*.yaml
var manifests embed.FS

// platform are the namespaces of software that serves the others, and their services.
var platform = map[string][]string{
	"cert-manager":  {"cert-manager", "cert-manager-webhook", "cainjector"},
	"flux-system":   {"source-controller", "kustomize-controller", "helm-controller"},
	"ingress-nginx": {"controller", "default-backend"},
	"istio-system":  {"istiod", "ingressgateway"},
	"keda":          {"keda-operator", "metrics-apiserver"},
	"logging":       {"loki", "gateway"},
	"messaging":     {"rabbitmq", "operator"},
	"monitoring":    {"prometheus-operator", "grafana", "blackbox"},
}

// products are the namespaces of teams.
var products = []string{
	"billing", "catalog", "checkout", "ci", "identity", "inventory", "mail", "media",
	"payments", "pricing", "recommendations", "returns", "search", "shipping", "shop", "support",
}

// services and workers run in each namespace of a team, beside one database.
var (
	services = []string{"api", "web", "admin", "gateway", "events", "reports"}
	workers  = []string{"import", "mailer"}
)

// Namespaces returns the names of all namespaces of the corpus, in order.
func Namespaces() []string {
	names := slices.Clone(products)
	for name := range platform {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Documents returns all objects of a seed, wave by wave. The definitions of the custom resources
// among them are not: see Definitions.
func Documents(seed uint64) ([]Document, error) {
	templates, err := template.New("").Delims("[[", "]]").Funcs(functions).ParseFS(manifests, "manifests/*.yaml")
	if err != nil {
		return nil, err
	}
	var all []Document
	render := func(file string, s scene) error {
		s.seed(seed, file)
		var text strings.Builder
		if err := templates.ExecuteTemplate(&text, file, &s); err != nil {
			return err
		}
		for _, content := range split(text.String()) {
			d, err := parse(content)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			d.wave = file[0]
			all = append(all, d)
		}
		return nil
	}
	files, err := fs.Glob(manifests, "manifests/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, path := range files { // Glob sorts, so waves come in order
		file := strings.TrimPrefix(path, "manifests/")
		for _, s := range scenes(file) {
			if err := render(file, s); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// scenes returns what a file is rendered for: once, or for each namespace, or each app of a kind.
func scenes(file string) []scene {
	switch file {
	case "1-cluster.yaml", "5-platform.yaml", "7-admission.yaml":
		return []scene{{}}
	case "2-namespace.yaml", "3-tenancy.yaml", "5-pods.yaml":
		return eachApp(func(string) []string { return []string{""} })
	case "4-database.yaml":
		return eachApp(func(namespace string) []string {
			if platform[namespace] != nil {
				return nil
			}
			return []string{"database"}
		})
	case "4-worker.yaml":
		return eachApp(func(namespace string) []string {
			if platform[namespace] != nil {
				return nil
			}
			return workers
		})
	default:
		return eachApp(func(namespace string) []string {
			if apps := platform[namespace]; apps != nil {
				return apps
			}
			return services
		})
	}
}

func eachApp(apps func(namespace string) []string) []scene {
	var all []scene
	for _, namespace := range Namespaces() {
		for i, app := range apps(namespace) {
			all = append(all, scene{Name: namespace, Team: "team-" + namespace, App: app, Index: i})
		}
	}
	return all
}

// split separates the documents of a stream of YAML.
func split(stream string) []string {
	var all []string
	for _, content := range regexp.MustCompile(`(?m)^---.*$`).Split(stream, -1) {
		if strings.TrimSpace(content) != "" {
			all = append(all, strings.TrimSpace(content)+"\n")
		}
	}
	return all
}

var (
	apiVersionLine = regexp.MustCompile(`(?m)^apiVersion: (\S+)$`)
	kindLine       = regexp.MustCompile(`(?m)^kind: (\S+)$`)
	nameLine       = regexp.MustCompile(`(?m)^metadata:(?:\n  .*)*?\n  name: "?([^\s"]+)"?$`)
	namespaceLine  = regexp.MustCompile(`(?m)^metadata:(?:\n  .*)*?\n  namespace: (\S+)$`)
	statusLine     = regexp.MustCompile(`(?m)^status:`)
)

// parse finds what names an object. It reads block style with an indent of two, in which the
// manifests and the definitions of all projects are written.
func parse(content string) (Document, error) {
	first := func(line *regexp.Regexp) string {
		if found := line.FindStringSubmatch(content); found != nil {
			return found[1]
		}
		return ""
	}
	d := Document{
		APIVersion: first(apiVersionLine), Kind: first(kindLine),
		Namespace: first(namespaceLine), Name: first(nameLine),
		Content: content, HasStatus: statusLine.MatchString(content),
	}
	if d.APIVersion == "" || d.Kind == "" || d.Name == "" {
		return Document{}, fmt.Errorf("no apiVersion, kind or name in %.80q", content)
	}
	return d, nil
}
