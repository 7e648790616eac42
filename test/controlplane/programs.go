package controlplane

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/varve-dev/varve/test/child"
)

// A layout is where one control plane keeps its files and listens.
type layout struct {
	assets, dir          string
	etcdPort, serverPort int
}

func (l layout) program(name string, args ...string) child.Program {
	return child.Program{Path: filepath.Join(l.assets, name), Args: args, Log: filepath.Join(l.dir, name+".log")}
}

func (l layout) file(name string) string { return filepath.Join(l.dir, name) }

func (l layout) etcd() child.Program {
	client := fmt.Sprintf("http://127.0.0.1:%d", l.etcdPort)
	const peer = "http://127.0.0.1:0" // there are no peers: any port will do
	return l.program("etcd",
		"--name=test",
		"--data-dir="+l.file("etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer,
		"--unsafe-no-fsync", // nothing survives Stop anyhow
	)
}

func (l layout) apiServer() child.Program {
	return l.program("kube-apiserver",
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", l.etcdPort),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", l.serverPort),
		"--endpoint-reconciler-type=none", // the endpoints of a Service may not be loopback addresses
		"--tls-cert-file="+l.file("apiserver.crt"), "--tls-private-key-file="+l.file("apiserver.key"),
		"--client-ca-file="+l.file("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+l.file("serviceaccounts.pub"),
		"--service-account-signing-key-file="+l.file("serviceaccounts.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--max-requests-inflight=1000", "--max-mutating-requests-inflight=500",
	)
}

// nodeControllers serve nodes, clouds and attached disks. Here there are none.
var nodeControllers = []string{
	"node-ipam-controller", "node-lifecycle-controller", "taint-eviction-controller",
	"persistentvolume-attach-detach-controller", "persistentvolume-expander-controller",
	"ttl-controller",
}

// workloadControllers make objects out of workloads.
var workloadControllers = []string{
	"deployment-controller", "replicaset-controller", "replicationcontroller-controller",
	"statefulset-controller", "daemonset-controller", "job-controller", "cronjob-controller",
}

func (l layout) controllerManager(o Options) child.Program {
	off := nodeControllers
	if o.WithoutWorkloads {
		off = append(off[:len(off):len(off)], workloadControllers...)
	}
	return l.program("kube-controller-manager",
		"--kubeconfig="+l.file("controller-manager.kubeconfig"),
		"--leader-elect=false", "--secure-port=0",
		"--controllers=*,-"+strings.Join(off, ",-"),
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+l.file("serviceaccounts.key"),
		"--root-ca-file="+l.file("ca.crt"),
		"--cluster-signing-cert-file="+l.file("ca.crt"), "--cluster-signing-key-file="+l.file("ca.key"),
		// The defaults are for one cluster that lives for years; here thousands of objects come at once.
		"--kube-api-qps=1000", "--kube-api-burst=2000",
		"--concurrent-namespace-syncs=20", "--concurrent-serviceaccount-token-syncs=10",
		// A claim made before its volume waits for the next look.
		"--pvclaimbinder-sync-period=1s",
	)
}
