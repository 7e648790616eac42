// Package controlplane runs a real Kubernetes control plane for a test: etcd, kube-apiserver and
// kube-controller-manager, on loopback, with certificates and data of its own, in seconds.
//
// What it does is what a cluster without nodes does. Objects are validated, defaulted and admitted;
// namespaces are deleted, dependents collected, claims bound to volumes, service accounts made;
// a Deployment gets its ReplicaSet and that its Pods, which stay Pending for ever because there is no
// scheduler and no node. RBAC is on, and the one user, an administrator, comes with a client
// certificate.
//
//	cp, err := controlplane.Start(ctx, controlplane.Options{Assets: dir})
//	defer cp.Stop()
//	os.WriteFile("kubeconfig", cp.Kubeconfig(), 0o600)
//
// The programs come from the directory that the command test/assets makes. All state lies in one
// temporary directory. Stop kills the three, since nobody will read that state again, and removes it.
// On Linux they also die with the process that started them, however it ends.
//
// The package imports the standard library and test/child only.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/varve-dev/varve/test/child"
)

// Options say what to start. Only Assets is required.
type Options struct {
	// Assets is the directory with the programs etcd, kube-apiserver and kube-controller-manager.
	Assets string
	// WithoutWorkloads turns the controllers off that make objects of workloads: then a Deployment
	// gets no ReplicaSet, a Job no Pod, and what a test creates is all there is.
	WithoutWorkloads bool
	// Timeout bounds the start. Zero means two minutes.
	Timeout time.Duration
}

// A ControlPlane is running until Stop.
type ControlPlane struct {
	access   Access
	dir      string
	children []*child.Child
}

// attempts is how often a start is tried. A port that was free when it was chosen may be taken when
// it is used.
const attempts = 3

// Start starts a control plane and returns when it serves: the API server is ready, and the
// controllers have made the first service account. On an error nothing is left running.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager"} {
		if _, err := os.Stat(filepath.Join(o.Assets, name)); err != nil {
			return nil, fmt.Errorf("the control plane is not built: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	var failed error
	for range attempts {
		cp, err := start(ctx, o)
		if err == nil {
			return cp, nil
		}
		failed = err
		if ended := new(child.EndedError); !errors.As(err, &ended) || ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("start a control plane: %w", failed)
}

func start(ctx context.Context, o Options) (_ *ControlPlane, err error) {
	dir, err := os.MkdirTemp("", "varve-controlplane-")
	if err != nil {
		return nil, err
	}
	cp := &ControlPlane{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, cp.Stop())
		}
	}()
	ports, err := child.FreePorts(2)
	if err != nil {
		return nil, err
	}
	l := layout{assets: o.Assets, dir: dir, etcdPort: ports[0], serverPort: ports[1]}
	if cp.access, err = l.writeKeys(); err != nil {
		return nil, err
	}
	client, err := cp.access.HTTPClient()
	if err != nil {
		return nil, err
	}
	if err := cp.spawn(l.etcd(), l.apiServer()); err != nil {
		return nil, err
	}
	if err := cp.await(ctx, client, "/readyz"); err != nil {
		return nil, err
	}
	if err := cp.spawn(l.controllerManager(o)); err != nil {
		return nil, err
	}
	if err := cp.await(ctx, client, "/api/v1/namespaces/default/serviceaccounts/default"); err != nil {
		return nil, err
	}
	return cp, nil
}

func (cp *ControlPlane) spawn(programs ...child.Program) error {
	for _, p := range programs {
		c, err := child.Start(p)
		if err != nil {
			return err
		}
		cp.children = append(cp.children, c)
	}
	return nil
}

// Access returns the address and the administrator's credentials.
func (cp *ControlPlane) Access() Access { return cp.access }

// Kubeconfig returns the administrator's kubeconfig. It is written in JSON, which is YAML too.
func (cp *ControlPlane) Kubeconfig() []byte { return cp.access.Kubeconfig() }

// Logs returns the directory with one log file for each of the three programs. It goes with Stop.
func (cp *ControlPlane) Logs() string { return cp.dir }

// Stop ends the control plane, waits until its processes are gone, and removes its data.
func (cp *ControlPlane) Stop() error {
	for _, c := range cp.children {
		c.Kill()
	}
	cp.children = nil
	return os.RemoveAll(cp.dir)
}
