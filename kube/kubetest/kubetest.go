// Package kubetest gives a test a real Kubernetes API server, with etcd behind it and the controllers
// of a cluster without nodes beside it.
//
//	cluster := kubetest.Start(t)
//	client, err := dynamic.NewForConfig(cluster.Config())
//
// Each Start starts a control plane of its own in about three seconds. The tests of a package that can
// share one do so by a [Lazy].
//
// The programs come from the module in the folder test, whose command `go run ./assets` builds them
// once; `make test` does that first. What starts and stops them is the command controlplane beside
// them. It ends when the pipe breaks that this package holds, so a test that is killed leaves nothing.
package kubetest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Options say what a control plane has. The zero value is the usual one.
type Options struct {
	// WithoutWorkloads leaves out the controllers that make objects of Deployments, Jobs and the like.
	WithoutWorkloads bool
}

// A Cluster is a running control plane.
type Cluster struct {
	dir     string // a temporary one, for the kubeconfig
	command *exec.Cmd
	stdin   io.Closer     // its end is the command's end
	stderr  *bytes.Buffer // to be read after the command's end
	config  *rest.Config
}

// Start starts a control plane that stops at the end of the test. A failure ends the test.
func Start(tb testing.TB) *Cluster {
	tb.Helper()
	c, err := New(Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return c
}

// New starts a control plane. The caller stops it.
func New(o Options) (_ *Cluster, err error) {
	command, err := findCommand()
	if err != nil {
		return nil, err
	}
	c := &Cluster{stderr: new(bytes.Buffer)}
	if c.dir, err = os.MkdirTemp("", "varve-kubetest-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(c.dir))
		}
	}()
	args := []string{"run", "--until-eof", "--kubeconfig", c.Kubeconfig()}
	if o.WithoutWorkloads {
		args = append(args, "--without-workloads")
	}
	c.command = exec.Command(command, args...)
	c.command.Stderr = c.stderr
	// In its own process group an interrupt from the terminal reaches only the test.
	c.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.stdin, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.command.Start(); err != nil {
		return nil, fmt.Errorf("start a control plane: %w", err)
	}
	if line, _ := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		return nil, errors.Join(errors.New("the control plane did not start"), c.end())
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.Kubeconfig()); err != nil {
		return nil, errors.Join(err, c.end())
	}
	c.config.QPS, c.config.Burst = -1, -1 // the server is ours alone
	return c, nil
}

// Kubeconfig returns the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

// Config returns a copy of the administrator's configuration of a client, without a limit of rate.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Stop ends the control plane and returns when it is gone.
func (c *Cluster) Stop() error {
	return errors.Join(c.end(), os.RemoveAll(c.dir))
}

// end closes the pipe and waits for the command.
func (c *Cluster) end() error {
	if err := c.stdin.Close(); err != nil {
		return err
	}
	if err := c.command.Wait(); err != nil {
		return fmt.Errorf("stop the control plane: %w: %s", err, strings.TrimSpace(c.stderr.String()))
	}
	return nil
}

// findCommand returns the path of the command controlplane, in $VARVE_TEST_ASSETS or where the folder
// test puts it.
func findCommand() (string, error) {
	dir := os.Getenv("VARVE_TEST_ASSETS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "varve-test", "current")
	}
	path := filepath.Join(dir, "controlplane")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the control plane for tests is not built yet; run `make test`, which builds it once: %w", err)
	}
	return path, nil
}
