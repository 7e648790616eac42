// Package api speaks to a Kubernetes API server in plain HTTPS and JSON.
//
// It is for the test cluster's corpus and for the demo, which compares what a cluster holds before and
// after. That comparison must not rest on the code that it judges, nor on libraries that fill in or
// drop fields; so an object here is what the server sent, decoded and no more. It imports the standard
// library only, and compiles in a moment.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/varve-dev/varve/test/controlplane"
)

// A Client speaks to one API server. It may be used by many goroutines.
type Client struct {
	server string
	http   *http.Client
}

// NewClient returns a client of the server that access leads to.
func NewClient(access controlplane.Access) (*Client, error) {
	client, err := access.HTTPClient()
	if err != nil {
		return nil, err
	}
	return &Client{server: access.Server, http: client}, nil
}

// A StatusError is an answer that is no success.
type StatusError struct {
	Method, Path string
	Code         int    // of HTTP: 404
	Reason       string // of Kubernetes: NotFound
	Message      string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %s", e.Method, e.Path, e.Code, e.Reason, e.Message)
}

// maxAnswer bounds an answer, which is one object or one page of a list.
const maxAnswer = 256 << 20

// Do sends a request and decodes the answer into the value that into points to, unless that is nil.
// The body is nil, or Raw, or else sent as JSON.
func (c *Client) Do(ctx context.Context, method, path string, body, into any) error {
	return c.do(ctx, request{method, path, "application/json"}, body, into)
}

type request struct {
	method, path string
	accept       string // a media type
}

func (c *Client) do(ctx context.Context, r request, body, into any) error {
	method, path := r.method, r.path
	content, contentType, err := encode(body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	sent, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	sent.Header.Set("Accept", r.accept)
	if body != nil {
		sent.Header.Set("Content-Type", contentType)
	}
	answer, err := c.http.Do(sent)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer answer.Body.Close()
	content, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if answer.StatusCode/100 != 2 {
		failed := &StatusError{Method: method, Path: path, Code: answer.StatusCode}
		var status struct{ Reason, Message string }
		if json.Unmarshal(content, &status) == nil {
			failed.Reason, failed.Message = status.Reason, status.Message
		} else {
			failed.Message = string(content)
		}
		return failed
	}
	if into == nil {
		return nil
	}
	if err := decode(content, into); err != nil {
		return fmt.Errorf("%s %s: decode the answer: %w", method, path, err)
	}
	return nil
}

// Raw is a body that is encoded already.
type Raw struct {
	Content     []byte
	ContentType string // application/yaml
}

func encode(body any) (content []byte, contentType string, err error) {
	switch body := body.(type) {
	case nil:
		return nil, "", nil
	case Raw:
		return body.Content, body.ContentType, nil
	}
	content, err = json.Marshal(body)
	return content, "application/json", err
}

// decode keeps numbers as they were written, so that comparing them cannot round them.
func decode(content []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(content))
	d.UseNumber()
	return d.Decode(into)
}

// pageSize is the limit of one page of a list.
const pageSize = 500

// List returns all objects of a resource, in one namespace or, when that is empty, everywhere. A list's
// items come without the kind and version that the list has; they get them here.
func (c *Client) List(ctx context.Context, r Resource, namespace string) ([]Object, error) {
	return c.list(ctx, r, namespace, "application/json")
}

// ListMetadata is List for callers who need no more of an object than its metadata.
func (c *Client) ListMetadata(ctx context.Context, r Resource, namespace string) ([]Object, error) {
	return c.list(ctx, r, namespace, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
}

func (c *Client) list(ctx context.Context, r Resource, namespace, accept string) ([]Object, error) {
	var all []Object
	next := ""
	for {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []Object `json:"items"`
		}
		query := url.Values{"limit": {fmt.Sprint(pageSize)}}
		if next != "" {
			query.Set("continue", next)
		}
		path := r.Path(namespace, "") + "?" + query.Encode()
		if err := c.do(ctx, request{http.MethodGet, path, accept}, nil, &page); err != nil {
			return nil, err
		}
		for _, object := range page.Items {
			object["apiVersion"], object["kind"] = r.APIVersion(), r.Kind
		}
		all = append(all, page.Items...)
		if next = page.Metadata.Continue; next == "" {
			return all, nil
		}
	}
}
