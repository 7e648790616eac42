package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/varve-dev/varve/kube"
)

// clusterFlags say which cluster is meant and which of its objects. Their names are Ark's.
type clusterFlags struct {
	access  kube.Access
	filter  kube.Filter
	cluster choice // of the whole cluster: these objects
	objects choice // where objects come from or go to
}

// What --objects says.
const (
	fromCluster = "cluster"
	noObjects   = "none"
)

func (f *clusterFlags) add(c *cobra.Command) {
	f.objects.words = []string{fromCluster, noObjects}
	f.cluster.words = []string{"auto", "true", "false"}
	flags := c.Flags()
	flags.StringVar(&f.access.Kubeconfig, "kubeconfig", "", "the `FILE` that says how to reach the cluster (default as kubectl does)")
	flags.StringVar(&f.access.Context, "context", "", "the `CONTEXT` of the kubeconfig to use")
	flags.Var(&f.objects, "objects", "cluster, or none to leave Kubernetes out")
	flags.StringSliceVar(&f.filter.IncludedNamespaces, "include-namespaces", nil, "only these `NAMESPACES`, names or globs (default all)")
	flags.StringSliceVar(&f.filter.ExcludedNamespaces, "exclude-namespaces", nil, "none of these `NAMESPACES`, names or globs")
	flags.StringSliceVar(&f.filter.IncludedResources, "include-resources", nil,
		"only these `RESOURCES`, named as kubectl does or globs: deploy, cm, *.cert-manager.io (default all)")
	flags.StringSliceVar(&f.filter.ExcludedResources, "exclude-resources", nil, "none of these `RESOURCES`, named as kubectl does or globs")
	flags.StringVarP(&f.filter.LabelSelector, "selector", "l", "", "only objects with these `LABELS`: app=shop,tier!=cache")
	flags.Var(&f.cluster, "include-cluster-resources",
		"objects of the whole cluster: true takes all, false none,\nauto all with all namespaces, else those that are related to what is selected")
	flags.BoolVar(&f.filter.IgnoreUnknown, "ignore-unknown", false, "let an unknown name in --include-resources match nothing")
}

// withoutObjects reports whether Kubernetes is left out.
func (f *clusterFlags) withoutObjects() bool { return f.objects.String() == noObjects }

// resolve checks what can be checked without a cluster.
func (f *clusterFlags) resolve(c *cobra.Command) error {
	if f.cluster.at > 0 {
		all := f.cluster.String() == "true"
		f.filter.IncludeClusterResources = &all
	}
	for _, list := range []struct {
		flag  string
		names []string
	}{
		{"include-namespaces", f.filter.IncludedNamespaces}, {"exclude-namespaces", f.filter.ExcludedNamespaces},
		{"include-resources", f.filter.IncludedResources}, {"exclude-resources", f.filter.ExcludedResources},
		{"selector", []string{f.filter.LabelSelector}},
	} {
		// An empty list, often an unset variable in a script, must not become "all".
		given := c.Flags().Changed(list.flag)
		if given && (len(list.names) == 0 || slices.ContainsFunc(list.names, func(n string) bool { return strings.TrimSpace(n) == "" })) {
			return usage("--%s is given and empty", list.flag)
		}
		if given && f.withoutObjects() {
			return usage("--%s selects objects, and --objects none leaves them all out", list.flag)
		}
	}
	return nil
}

// connect prepares access to the cluster. What client-go says of one that is not configured does not
// name the place where it looked.
func connect(a kube.Access) (*kube.Cluster, error) {
	c, err := kube.Connect(a)
	if places := os.Getenv("KUBECONFIG"); errors.Is(err, kube.ErrNoAccess) && a.Kubeconfig == "" && places != "" {
		return nil, fmt.Errorf("%w; KUBECONFIG is %s", err, name(places))
	}
	return c, err
}

// volumeFlags are pairs NAME=PATH, in the order in which they were given.
type volumeFlags []volumePath

type volumePath struct{ name, path string }

// String implements pflag.Value.
func (f *volumeFlags) String() string {
	words := make([]string, len(*f))
	for i, v := range *f {
		words[i] = v.name + "=" + v.path
	}
	return strings.Join(words, ",")
}

// Type implements pflag.Value.
func (f *volumeFlags) Type() string { return "NAME=PATH" }

// Set implements pflag.Value.
func (f *volumeFlags) Set(s string) error {
	volume, path, ok := strings.Cut(s, "=")
	if !ok || volume == "" || path == "" {
		return fmt.Errorf("%q is not NAME=PATH", s)
	}
	if strings.Contains(volume, "/") || volume == "." || volume == ".." {
		return fmt.Errorf("%q cannot be the name of a volume: it is no \".\" or \"..\" and has no slash", volume)
	}
	for _, other := range *f {
		if other.name == volume {
			return fmt.Errorf("the volume %q is given twice", volume)
		}
	}
	*f = append(*f, volumePath{volume, path})
	return nil
}
