package kube

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// faulty returns the shared cluster through a transport that may answer in the server's place: it does
// where answer returns something.
func faulty(t *testing.T, answer func(*http.Request) (*http.Response, error)) *Cluster {
	t.Helper()
	connect(t)
	config := shared.Cluster(t).Config()
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if response, err := answer(r); response != nil || err != nil {
				return response, err
			}
			return next.RoundTrip(r)
		})
	}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// gone is what an API server answers when the moment of a list has been compacted away.
func gone(r *http.Request) *http.Response {
	const text = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"The provided continue parameter is too old","reason":"Expired","code":410}`
	return &http.Response{
		StatusCode: http.StatusGone, Status: "410 Gone", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewBufferString(text)),
	}
}

func TestExpiredListBeginsAgain(t *testing.T) {
	for name, expired := range map[string]int64{"once": 1, "whenever it is continued": 1000} {
		t.Run(name, func(t *testing.T) {
			var continued atomic.Int64
			c := faulty(t, func(r *http.Request) (*http.Response, error) {
				if r.URL.Query().Has("continue") && continued.Add(1) <= expired {
					return gone(r), nil
				}
				return nil, nil
			})
			resource := Resource{Group: "rbac.authorization.k8s.io", Version: "v1", Name: "clusterroles"}
			items, err := c.List(t.Context(), resource, Query{PageSize: 10})
			if err != nil {
				t.Fatal(err)
			}
			seen := map[Key]bool{}
			for _, item := range items {
				if seen[item.Key] {
					t.Errorf("%s is listed twice", item.Key)
				}
				seen[item.Key] = true
			}
			if len(items) < 50 || continued.Load() < expired && continued.Load() < maxRestarts {
				t.Errorf("%d objects after %d continuations", len(items), continued.Load())
			}
		})
	}
}

func TestClusterThatVanishesEndsTheWalk(t *testing.T) {
	var requests atomic.Int64
	c := faulty(t, func(r *http.Request) (*http.Response, error) {
		if strings.Contains(r.URL.Path, "/apps/") && requests.Add(1) > 0 {
			return nil, errors.New("connection refused")
		}
		return nil, nil
	})
	_, catalog := connect(t)
	s, err := c.Select(t.Context(), catalog, Filter{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Walk(t.Context(), WalkOptions{}, func(l Listing) error { return l.Err })
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v, want %v", err, ErrUnreachable)
	}
}

func TestVisitorsErrorEndsTheWalk(t *testing.T) {
	c, catalog := connect(t)
	for _, f := range []Filter{{}, {LabelSelector: "!nothing"}} {
		s, err := c.Select(t.Context(), catalog, f)
		if err != nil {
			t.Fatal(err)
		}
		stop := errors.New("stop")
		visited := 0
		err = s.Walk(t.Context(), WalkOptions{}, func(Listing) error { visited++; return stop })
		if !errors.Is(err, stop) || visited != 1 {
			t.Errorf("error %v after %d visits", err, visited)
		}
	}
}

func TestGroupWhoseServerIsDownIsNamed(t *testing.T) {
	c, before := connect(t)
	create(t, c, before, object(t, `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1beta1.down.example.com"},
		"spec":{"group":"down.example.com","version":"v1beta1","groupPriorityMinimum":100,"versionPriority":100,"insecureSkipTLSVerify":true,"service":{"namespace":"default","name":"nowhere"}}}`))
	r, _ := before.Find("apiregistration.k8s.io", "apiservices")
	var catalog *Catalog
	discover := func(until func() bool) {
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			var err error
			if catalog, err = c.Discover(context.Background()); err != nil {
				t.Fatal(err)
			}
			if until() {
				return
			}
		}
		t.Fatal("discovery does not follow")
	}
	t.Cleanup(func() { // other tests share the cluster
		if err := c.Delete(context.Background(), r, "", "v1beta1.down.example.com"); err != nil {
			t.Error(err)
		}
		discover(func() bool { return len(catalog.Failed) == 0 })
	})
	discover(func() bool { return len(catalog.Failed) > 0 })
	tests := map[string]struct {
		filter Filter
		failed bool
	}{
		"everything":              {Filter{}, true},
		"the group by a glob":     {Filter{IncludedResources: []string{"*.down.example.com"}}, true},
		"a resource of the group": {Filter{IncludedResources: []string{"things.down.example.com"}, IgnoreUnknown: true}, true},
		"other resources":         {Filter{IncludedResources: []string{"pods"}}, false},
		"another group by a glob": {Filter{IncludedResources: []string{"*.apps"}}, false},
		"all without the group":   {Filter{ExcludedResources: []string{"*.down.example.com"}}, false},
		"all but another group":   {Filter{ExcludedResources: []string{"*.apps"}}, true},
	}
	for name, test := range tests {
		s, err := c.Select(t.Context(), catalog, test.filter)
		if err != nil {
			t.Fatal(err)
		}
		if failed := fmt.Sprint(s.Failures); (len(s.Failures) > 0) != test.failed || test.failed && !strings.Contains(failed, "down.example.com/v1beta1") {
			t.Errorf("%s: failures %s", name, failed)
		}
	}
}

func TestTooLittleRightToListNamespacesIsForbidden(t *testing.T) {
	_, catalog := connect(t)
	config := shared.Cluster(t).Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: "nobody"}
	c, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select(t.Context(), catalog, Filter{}); !errors.Is(err, ErrForbidden) {
		t.Errorf("error %v, want %v", err, ErrForbidden)
	}
}
