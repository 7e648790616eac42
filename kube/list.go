package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	// DefaultPageSize is how many objects one LIST request asks for.
	DefaultPageSize = 500

	// maxRestarts bounds how often a list whose continuation has expired begins again; after that it
	// is asked for in one page, which cannot expire.
	maxRestarts = 3

	tokenSecret = "kubernetes.io/service-account-token"
)

// Item is an object of a list. What decides about it is decoded, the rest still bytes.
type Item struct {
	Key        Key
	Attributes Attributes
	Labels     map[string]string

	raw         []byte
	resource    Resource
	terminating bool
	secretType  string
}

// Query says what to list of a resource. The zero value lists all of it.
type Query struct {
	Namespace string // one namespace; empty means all
	Selector  string // of labels
	PageSize  int    // objects a request, [DefaultPageSize] if zero
}

// List returns the objects of a resource in the order of their keys, all as they were at one moment. It
// holds them in memory.
//
// The order of the API server is nearly but not quite that of keys: it sorts by namespace/name, so
// team-a/x comes before team/x.
func (c *Cluster) List(ctx context.Context, r Resource, q Query) ([]Item, error) {
	size := q.PageSize
	if size == 0 {
		size = DefaultPageSize
	}
	for restarts := 0; ; restarts++ {
		if restarts > maxRestarts {
			size = 0
		}
		items, err := c.pages(ctx, r, q, size)
		if statusCode(err) == http.StatusGone && size > 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
		slices.SortFunc(items, func(a, b Item) int { return a.Key.Compare(b.Key) })
		return items, nil
	}
}

// pages reads a list page by page. All pages show the moment of the first.
func (c *Cluster) pages(ctx context.Context, r Resource, q Query, size int) (items []Item, err error) {
	attempt := "list " + r.String()
	if q.Namespace != "" {
		attempt += " of namespace " + q.Namespace
	}
	for next := ""; ; {
		request := c.client.Get().AbsPath(r.path(q.Namespace, ""))
		if q.Selector != "" {
			request.Param("labelSelector", q.Selector)
		}
		if size > 0 {
			request.Param("limit", strconv.Itoa(size))
		}
		if next != "" {
			request.Param("continue", next)
		}
		raw, err := c.raw(ctx, attempt, request)
		if err != nil {
			return nil, err
		}
		var page struct {
			Metadata struct{ Continue string }
			Items    []json.RawMessage
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, fmt.Errorf("%s: read the answer: %w", attempt, err)
		}
		for _, raw := range page.Items {
			item, err := r.Item(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: read the answer: %w", attempt, err)
			}
			items = append(items, item)
		}
		if next = page.Metadata.Continue; next == "" {
			return items, nil
		}
	}
}

// Item reads an object of the resource as it stands in a list: apiVersion and kind may be missing.
func (r Resource) Item(raw []byte) (Item, error) {
	var head struct {
		APIVersion string
		Type       string
		Metadata   struct {
			Name, Namespace, UID, ResourceVersion string
			DeletionTimestamp                     string
			Labels                                map[string]string
		}
	}
	// A kind may use a field called type in its own way; then it is not a Secret's and of no interest.
	if err := json.Unmarshal(raw, &head); err != nil && head.Metadata.Name == "" {
		return Item{}, err
	}
	version := r.Version
	if head.APIVersion != "" {
		version = head.APIVersion[strings.LastIndex(head.APIVersion, "/")+1:]
	}
	item := Item{
		Key:         r.key(head.Metadata.Namespace, head.Metadata.Name),
		Attributes:  Attributes{UID: head.Metadata.UID, ResourceVersion: head.Metadata.ResourceVersion, Version: version},
		Labels:      head.Metadata.Labels,
		raw:         raw,
		resource:    r,
		terminating: head.Metadata.DeletionTimestamp != "",
		secretType:  head.Type,
	}
	if _, err := item.Key.Encode(); err != nil {
		return Item{}, err
	}
	return item, nil
}

// Terminating reports whether the object has been deleted and only waits for its finalizers.
func (i Item) Terminating() bool { return i.terminating }

// Object decodes the object as a GET would have returned it: a list of a built-in kind leaves out
// what is the same for all, apiVersion and kind.
func (i Item) Object() (Object, error) {
	o, err := Decode(i.raw)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", i.Key, err)
	}
	if o.APIVersion() == "" {
		o["apiVersion"] = i.resource.APIVersion()
	}
	if o.Kind() == "" {
		o["kind"] = i.resource.Kind
	}
	return o, nil
}
