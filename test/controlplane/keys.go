package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// writeKeys makes an authority and all keys and certificates of one control plane, writes the files
// that its programs read, and returns the administrator's access.
func (l layout) writeKeys() (Access, error) {
	ca, err := newAuthority()
	if err != nil {
		return Access{}, err
	}
	server, err := ca.issue(pkix.Name{CommonName: "kube-apiserver"}, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return Access{}, err
	}
	manager, err := ca.issue(pkix.Name{CommonName: "system:kube-controller-manager"}, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return Access{}, err
	}
	admin, err := ca.issue(pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return Access{}, err
	}
	tokens, tokensPublic, err := newTokenKey()
	if err != nil {
		return Access{}, err
	}
	access := func(p pair) Access {
		return Access{Server: fmt.Sprintf("https://127.0.0.1:%d", l.serverPort), CA: ca.cert, Cert: p.cert, Key: p.key}
	}
	for name, content := range map[string][]byte{
		"ca.crt": ca.cert, "ca.key": ca.key,
		"apiserver.crt": server.cert, "apiserver.key": server.key,
		"serviceaccounts.key": tokens, "serviceaccounts.pub": tokensPublic,
		"controller-manager.kubeconfig": access(manager).Kubeconfig(),
	} {
		if err := os.WriteFile(l.file(name), content, 0o600); err != nil {
			return Access{}, err
		}
	}
	return access(admin), nil
}

// A pair is a certificate and its private key, in PEM.
type pair struct{ cert, key []byte }

// An authority signs certificates.
type authority struct {
	pair
	parsed *x509.Certificate
	signer *ecdsa.PrivateKey
}

// lifetime is that of all certificates, from an hour ago, so that no clock step matters.
const lifetime = 7 * 24 * time.Hour

func newAuthority() (*authority, error) {
	a := new(authority)
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "varve test"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	var err error
	if a.pair, a.signer, err = sign(template, nil); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(a.cert)
	a.parsed, err = x509.ParseCertificate(block.Bytes)
	return a, err
}

// issue makes a certificate that is good for one use. A server's is good for the names that clients
// and pods know the API server by.
func (a *authority) issue(subject pkix.Name, use x509.ExtKeyUsage) (pair, error) {
	template := &x509.Certificate{
		Subject:     subject,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{use},
	}
	if use == x509.ExtKeyUsageServerAuth {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)}
		template.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	}
	p, _, err := sign(template, a)
	return p, err
}

// sign makes a key and a certificate for it, by the authority or, without one, by the key itself.
func sign(template *x509.Certificate, by *authority) (pair, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return pair{}, nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = template.NotBefore.Add(lifetime)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.parsed, by.signer
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return pair{}, nil, err
	}
	keyPEM, err := encodeKey(key)
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), keyPEM}, key, err
}

// newTokenKey makes the key pair that signs the tokens of service accounts.
func newTokenKey() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if private, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
