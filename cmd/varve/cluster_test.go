package main

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/kubetest"
)

// TestScriptsWithCluster runs testdata/cluster/*.txtar against a real API server. Beside the commands
// of TestScripts they have
//
//	apply FILE                                    make the objects in a YAML file be as it says, and wait for
//	                                              what controllers make in new namespaces
//	remove RESOURCE.VERSION.GROUP NAMESPACE NAME  delete an object and wait until it is gone
//
// with "-" as the namespace of objects of the whole cluster.
func TestScriptsWithCluster(t *testing.T) {
	control := kubetest.Start(t)
	client, err := dynamic.NewForConfig(control.Config())
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := kube.New(control.Config())
	if err != nil {
		t.Fatal(err)
	}
	params := scripts("cluster")
	setup := params.Setup
	params.Setup = func(e *testscript.Env) error {
		e.Setenv("KUBECONFIG", control.Kubeconfig())
		return setup(e)
	}
	params.Cmds["apply"] = func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: apply FILE")
		}
		ts.Check(apply(t, cluster, client, []byte(ts.ReadFile(args[0]))))
	}
	params.Cmds["remove"] = func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 3 {
			ts.Fatalf("usage: remove RESOURCE.VERSION.GROUP NAMESPACE NAME")
		}
		ts.Check(remove(t, client, args))
	}
	testscript.Run(t, params)
}

// apply makes every object of a YAML file, whatever its kind.
func apply(t *testing.T, cluster *kube.Cluster, client dynamic.Interface, text []byte) error {
	catalog, err := cluster.Discover(t.Context())
	if err != nil {
		return err
	}
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var o unstructured.Unstructured
		if err := documents.Decode(&o.Object); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r, ok := catalog.FindKind(o.GetAPIVersion(), o.GetKind())
		if !ok {
			return errors.New("the cluster does not know the kind " + o.GetKind())
		}
		resource := client.Resource(schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Name})
		options := metav1.ApplyOptions{FieldManager: "script", Force: true}
		if _, err := resource.Namespace(o.GetNamespace()).Apply(t.Context(), o.GetName(), &o, options); err != nil {
			return err
		}
		if o.GetKind() == "Namespace" {
			if err := settle(t, client, o.GetName()); err != nil {
				return err
			}
		}
	}
}

// settle waits for the objects that controllers make in a new namespace.
func settle(t *testing.T, client dynamic.Interface, namespace string) error {
	for resource, name := range map[string]string{"serviceaccounts": "default", "configmaps": "kube-root-ca.crt"} {
		objects := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: resource}).Namespace(namespace)
		for {
			_, err := objects.Get(t.Context(), name, metav1.GetOptions{})
			if err == nil {
				break
			}
			if !apierrors.IsNotFound(err) {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// remove deletes an object and waits until it is gone.
func remove(t *testing.T, client dynamic.Interface, args []string) error {
	r, _ := schema.ParseResourceArg(args[0])
	if r == nil {
		return errors.New(args[0] + " is not RESOURCE.VERSION.GROUP")
	}
	namespace := args[1]
	if namespace == "-" {
		namespace = ""
	}
	resource := client.Resource(*r).Namespace(namespace)
	if err := resource.Delete(t.Context(), args[2], metav1.DeleteOptions{}); err != nil {
		return err
	}
	for {
		_, err := resource.Get(t.Context(), args[2], metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
