package kubetest

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

func TestStartedClusterAnswers(t *testing.T) {
	c := Start(t)
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	namespaces, err := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).
		List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, n := range namespaces.Items {
		names[n.GetName()] = true
	}
	if !names["default"] || !names["kube-system"] {
		t.Errorf("namespaces %v, want default and kube-system among them", names)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	c, err := New(Options{WithoutWorkloads: true})
	if err != nil {
		t.Fatal(err)
	}
	process := c.command.Process.Pid
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(process, 0); err != syscall.ESRCH {
		t.Errorf("signal to the command after Stop: %v, want %v", err, syscall.ESRCH)
	}
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("%s after Stop: %v, want that it does not exist", c.dir, err)
	}
}

func TestMissingProgramsNameTheRemedy(t *testing.T) {
	t.Setenv("VARVE_TEST_ASSETS", t.TempDir())
	_, err := New(Options{})
	if err == nil || !strings.Contains(err.Error(), "run `make test`") {
		t.Errorf("error %v, want one that says to run `make test`", err)
	}
}
