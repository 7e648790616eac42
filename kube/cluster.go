package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	// ErrNoAccess means that no kubeconfig names a cluster, or that it cannot be read.
	ErrNoAccess = errors.New("no access to a cluster is configured")
	// ErrUnreachable means that the API server did not answer at all.
	ErrUnreachable = errors.New("the cluster is unreachable")
	// ErrForbidden means that the API server knows the user, or does not, and refuses.
	ErrForbidden = errors.New("the cluster does not allow it")
	// ErrAbsent means that the object, or its kind, is not in the cluster.
	ErrAbsent = errors.New("not in the cluster")
	// ErrExists means that an object of that name is in the cluster already.
	ErrExists = errors.New("already in the cluster")
)

// dialTimeout bounds how long a silent address is waited for.
const dialTimeout = 15 * time.Second

// Access says how to reach a cluster. The zero value is what kubectl does without flags: $KUBECONFIG,
// ~/.kube/config, or inside a pod its service account.
type Access struct {
	Kubeconfig string // path of one file, instead of the usual places
	Context    string // in the kubeconfig, instead of its current one
}

// Cluster is an API server and the right to talk to it. It is safe for concurrent use.
type Cluster struct {
	host      string
	client    rest.Interface
	discovery *discovery.DiscoveryClient
}

// Connect prepares access to a cluster. It does not talk to it yet.
func Connect(a Access) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: a.Context}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAccess, err)
	}
	return New(config)
}

// New prepares access by a configuration of client-go. Limits of rate on this side are lifted: the API
// server's own priority and fairness knows better what it can bear.
func New(config *rest.Config) (*Cluster, error) {
	c := rest.CopyConfig(config)
	c.QPS, c.Burst, c.RateLimiter = -1, -1, nil
	c.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	c.ContentType, c.AcceptContentTypes = "application/json", "application/json"
	c.WarningHandlerWithContext = rest.NoWarnings{}
	if c.UserAgent == "" {
		c.UserAgent = "varve"
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext
	}
	transport, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAccess, err)
	}
	client, err := rest.UnversionedRESTClientForConfigAndClient(c, transport)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAccess, err)
	}
	return &Cluster{host: c.Host, client: client, discovery: discovery.NewDiscoveryClient(client)}, nil
}

// Host returns the address of the API server.
func (c *Cluster) Host() string { return c.host }

// ID returns what names the cluster wherever it is reached from: the UID of its namespace kube-system.
func (c *Cluster) ID(ctx context.Context) (string, error) {
	o, err := c.Get(ctx, namespaces, "", "kube-system")
	if err != nil {
		return "", fmt.Errorf("identify the cluster: %w", err)
	}
	return o.UID(), nil
}

// Get returns one object, in the version that the resource names.
func (c *Cluster) Get(ctx context.Context, r Resource, namespace, name string) (Object, error) {
	return c.do(ctx, "get "+r.key(namespace, name).String(), c.client.Get().AbsPath(r.path(namespace, name)))
}

// Create makes an object that is not there yet and returns it as the server keeps it. Owner is the
// field manager that the server notes for its fields.
func (c *Cluster) Create(ctx context.Context, r Resource, o Object, owner string) (Object, error) {
	body, err := Canonical(o)
	if err != nil {
		return nil, err
	}
	request := c.client.Post().AbsPath(r.path(o.Namespace(), "")).Param("fieldManager", owner)
	return c.do(ctx, "create "+r.key(o.Namespace(), o.Name()).String(), request.Body(body))
}

// Apply makes the fields that o names be as it says, by a forced server-side apply, and returns the
// object as the server keeps it.
func (c *Cluster) Apply(ctx context.Context, r Resource, o Object, owner string) (Object, error) {
	body, err := Canonical(o)
	if err != nil {
		return nil, err
	}
	request := c.client.Patch("application/apply-patch+yaml").AbsPath(r.path(o.Namespace(), o.Name())).
		Param("fieldManager", owner).Param("force", "true")
	return c.do(ctx, "apply "+r.key(o.Namespace(), o.Name()).String(), request.Body(body))
}

// Merge changes an object by a JSON merge patch (RFC 7386) and returns it as the server keeps it.
func (c *Cluster) Merge(ctx context.Context, r Resource, namespace, name string, patch Object) (Object, error) {
	return c.merge(ctx, r.key(namespace, name), r.path(namespace, name), patch)
}

// MergeStatus changes the status of an object as [Cluster.Merge] changes the rest.
func (c *Cluster) MergeStatus(ctx context.Context, r Resource, namespace, name string, patch Object) (Object, error) {
	return c.merge(ctx, r.key(namespace, name), r.path(namespace, name)+"/status", patch)
}

func (c *Cluster) merge(ctx context.Context, k Key, path string, patch Object) (Object, error) {
	body, err := Canonical(patch)
	if err != nil {
		return nil, err
	}
	return c.do(ctx, "patch "+k.String(), c.client.Patch("application/merge-patch+json").AbsPath(path).Body(body))
}

// Delete deletes an object; what it owns goes in the background.
func (c *Cluster) Delete(ctx context.Context, r Resource, namespace, name string) error {
	request := c.client.Delete().AbsPath(r.path(namespace, name)).Param("propagationPolicy", "Background")
	_, err := c.raw(ctx, "delete "+r.key(namespace, name).String(), request)
	return err
}

// do sends a request and decodes the object it is answered with.
func (c *Cluster) do(ctx context.Context, attempt string, request *rest.Request) (Object, error) {
	raw, err := c.raw(ctx, attempt, request)
	if err != nil {
		return nil, err
	}
	o, err := Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", attempt, err)
	}
	return o, nil
}

func (c *Cluster) raw(ctx context.Context, attempt string, request *rest.Request) ([]byte, error) {
	result := request.Do(ctx)
	if err := result.Error(); err != nil {
		return nil, c.explain(ctx, attempt, err)
	}
	raw, err := result.Raw()
	if err != nil {
		return nil, c.explain(ctx, attempt, err)
	}
	return raw, nil
}

// explain says what was attempted and puts the error into one of the classes that callers decide on.
func (c *Cluster) explain(ctx context.Context, attempt string, err error) error {
	var transport *url.Error
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", attempt, ctx.Err())
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: %w: %w", attempt, ErrForbidden, err)
	case apierrors.IsNotFound(err), statusCode(err) == http.StatusMethodNotAllowed:
		return fmt.Errorf("%s: %w: %w", attempt, ErrAbsent, err)
	case apierrors.IsAlreadyExists(err):
		return fmt.Errorf("%s: %w", attempt, ErrExists)
	case errors.As(err, &transport):
		return fmt.Errorf("%s: %w: %s: %w", attempt, ErrUnreachable, c.host, transport.Err)
	}
	return fmt.Errorf("%s: %w", attempt, err)
}

func statusCode(err error) int {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return int(status.Status().Code)
	}
	return 0
}
