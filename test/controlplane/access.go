package controlplane

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// Access is an API server's address and a client's credentials.
type Access struct {
	Server string // https://127.0.0.1:<port>
	CA     []byte // PEM: who signs the server's certificate
	Cert   []byte // PEM: the client's certificate
	Key    []byte // PEM: its private key
}

// kubeconfig is the part of the file format that Access needs.
type kubeconfig struct {
	APIVersion     string           `json:"apiVersion"`
	Kind           string           `json:"kind"`
	CurrentContext string           `json:"current-context"`
	Clusters       []kubeconfigItem `json:"clusters"`
	Users          []kubeconfigItem `json:"users"`
	Contexts       []kubeconfigItem `json:"contexts"`
}

type kubeconfigItem struct {
	Name    string             `json:"name"`
	Cluster *kubeconfigCluster `json:"cluster,omitempty"`
	User    *kubeconfigUser    `json:"user,omitempty"`
	Context *kubeconfigContext `json:"context,omitempty"`
}

type kubeconfigCluster struct {
	Server string `json:"server"`
	CA     []byte `json:"certificate-authority-data"`
}

type kubeconfigUser struct {
	Cert []byte `json:"client-certificate-data"`
	Key  []byte `json:"client-key-data"`
}

type kubeconfigContext struct {
	Cluster string `json:"cluster"`
	User    string `json:"user"`
}

// Kubeconfig returns a kubeconfig, in JSON.
func (a Access) Kubeconfig() []byte {
	const name = "test"
	content, err := json.MarshalIndent(kubeconfig{
		APIVersion: "v1", Kind: "Config", CurrentContext: name,
		Clusters: []kubeconfigItem{{Name: name, Cluster: &kubeconfigCluster{a.Server, a.CA}}},
		Users:    []kubeconfigItem{{Name: name, User: &kubeconfigUser{a.Cert, a.Key}}},
		Contexts: []kubeconfigItem{{Name: name, Context: &kubeconfigContext{name, name}}},
	}, "", "  ")
	if err != nil {
		panic(err) // strings and bytes always have a JSON form
	}
	return append(content, '\n')
}

// ReadKubeconfig reads a file that Kubeconfig wrote. It knows no other kubeconfigs.
func ReadKubeconfig(path string) (Access, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return Access{}, err
	}
	var k kubeconfig
	if err := json.Unmarshal(content, &k); err != nil {
		return Access{}, fmt.Errorf("read %s: %w", path, err)
	}
	if len(k.Clusters) != 1 || k.Clusters[0].Cluster == nil || len(k.Users) != 1 || k.Users[0].User == nil {
		return Access{}, fmt.Errorf("read %s: not a kubeconfig of a test's control plane", path)
	}
	cluster, user := k.Clusters[0].Cluster, k.Users[0].User
	return Access{Server: cluster.Server, CA: cluster.CA, Cert: user.Cert, Key: user.Key}, nil
}

// HTTPClient returns a client that trusts the server and presents the certificate.
func (a Access) HTTPClient() (*http.Client, error) {
	pair, err := tls.X509KeyPair(a.Cert, a.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.CA) {
		return nil, errors.New("the CA has no certificate")
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 32,
	}}, nil
}
