package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

// silence is how long a connection may say nothing, in either direction, before it counts as broken.
// Stores answer a large PUT within seconds of its last byte.
const silence = time.Minute

// connections bounds the idle connections that are kept for the next requests.
const connections = 64

// newTransport returns what carries the requests to the store and to those who hand out credentials.
func newTransport(a address, wrap func(net.Conn) net.Conn) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial(wrap),
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   15 * time.Second,
		IdleConnTimeout:       silence,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          connections,
		MaxIdleConnsPerHost:   connections,
		DisableCompression:    true, // sealed bytes do not shrink
	}
	if a.proxy != nil {
		t.Proxy = http.ProxyURL(a.proxy)
	}
	if a.ca == "" {
		return t, nil
	}
	pem, err := os.ReadFile(a.ca)
	if err != nil {
		return nil, fmt.Errorf("%w: option ca: %w", ErrAddress, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, &storage.Error{Class: storage.ErrUntrusted, Err: fmt.Errorf("read the certificates of the system: %w", err)}
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: option ca: %s holds no certificates in PEM", ErrAddress, a.ca)
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// newHTTPClient returns a client that takes a redirect for an answer: whoever follows one sends signed
// requests to where an answer says.
func newHTTPClient(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: stay}
}

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// dial returns what makes connections: watched, and wrapped by who opened the bucket.
func dial(wrap func(net.Conn) net.Conn) func(ctx context.Context, network, host string) (net.Conn, error) {
	d := net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}
	return func(ctx context.Context, network, host string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, host)
		switch {
		case err != nil:
			return nil, err
		case wrap == nil:
			return watched{c}, nil
		}
		return wrap(watched{c}), nil
	}
}

// watched is a connection that breaks off when nothing moves on it. Each read and write pushes both
// deadlines on: while a body goes up, the read of its answer is waiting all the time.
type watched struct{ net.Conn }

func (c watched) Read(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c watched) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
