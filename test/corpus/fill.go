package corpus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/varve-dev/varve/test/api"
)

// parallel is how many requests are under way at once.
const parallel = 16

// Fill creates all objects of a seed, and returns when the controllers have answered and the cluster
// is at rest. It returns how many objects it created.
func Fill(ctx context.Context, client *api.Client, seed uint64) (int, error) {
	documents, err := Documents(seed)
	if err != nil {
		return 0, err
	}
	definitions, err := Definitions(ctx)
	if err != nil {
		return 0, err
	}
	f := &filler{client: client, uids: map[string]string{}}
	if err := f.define(ctx, definitions); err != nil {
		return 0, err
	}
	for first := 0; first < len(documents); {
		next := first
		for next < len(documents) && documents[next].wave == documents[first].wave {
			next++
		}
		if err := each(ctx, documents[first:next], f.apply); err != nil {
			return 0, err
		}
		first = next
	}
	return len(definitions) + len(documents), Settle(ctx, client)
}

// A filler creates objects.
type filler struct {
	client    *api.Client
	resources map[string]api.Resource // by apiVersion and kind

	mu   sync.Mutex
	uids map[string]string // by namespace, kind and name
}

// define creates custom resources and waits until the server serves them.
func (f *filler) define(ctx context.Context, definitions []Document) error {
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	err := each(ctx, definitions, func(ctx context.Context, d Document) error {
		return f.client.Do(ctx, http.MethodPost, path, api.Raw{Content: []byte(d.Content), ContentType: "application/yaml"}, nil)
	})
	if err != nil {
		return err
	}
	err = each(ctx, definitions, func(ctx context.Context, d Document) error {
		return retry(ctx, func() error {
			var now api.Object
			if err := f.client.Do(ctx, http.MethodGet, path+"/"+d.Name, nil, &now); err != nil {
				return err
			}
			if !hasCondition(now, "Established") {
				return fmt.Errorf("definition %s is not established", d.Name)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	resources, err := f.client.EveryVersion(ctx)
	if err != nil {
		return err
	}
	f.resources = map[string]api.Resource{}
	for _, r := range resources {
		f.resources[r.APIVersion()+" "+r.Kind] = r
	}
	return nil
}

func hasCondition(o api.Object, kind string) bool {
	conditions, _ := o.Field("status", "conditions").([]any)
	return slices.ContainsFunc(conditions, func(c any) bool {
		condition, _ := c.(map[string]any)
		return condition["type"] == kind && condition["status"] == "True"
	})
}

// uidOf stands in manifests for the UID of another object of the same namespace.
var uidOf = regexp.MustCompile(`uid of (\w+) ([a-z0-9.-]+)`)

// apply creates one object, and its status if the document has one.
func (f *filler) apply(ctx context.Context, d Document) error {
	r, ok := f.resources[d.APIVersion+" "+d.Kind]
	if !ok {
		return fmt.Errorf("the server has no %s %s", d.APIVersion, d.Kind)
	}
	content := uidOf.ReplaceAllStringFunc(d.Content, func(words string) string {
		found := uidOf.FindStringSubmatch(words)
		return f.uid(d.Namespace, found[1], found[2])
	})
	query := "?" + url.Values{"fieldManager": {"corpus"}, "fieldValidation": {"Strict"}}.Encode()
	var made api.Object
	// A quota that was just made refuses everything until its controller has counted, and a pod has
	// to wait for its service account.
	err := retry(ctx, func() error {
		body := api.Raw{Content: []byte(content), ContentType: "application/yaml"}
		return f.client.Do(ctx, http.MethodPost, r.Path(d.Namespace, "")+query, body, &made)
	})
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.uids[d.Namespace+"/"+d.Kind+"/"+d.Name] = made.String("metadata", "uid")
	f.mu.Unlock()
	if !d.HasStatus {
		return nil
	}
	// The server drops the status of an object that is posted.
	body := api.Raw{Content: []byte(content), ContentType: "application/apply-patch+yaml"}
	return f.client.Do(ctx, http.MethodPatch, r.Path(d.Namespace, d.Name)+"/status"+query, body, nil)
}

func (f *filler) uid(namespace, kind, name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.uids[namespace+"/"+kind+"/"+name]
}

// retry repeats what fails for reasons that pass, for a while.
func retry(ctx context.Context, attempt func() error) error {
	const attempts, pause = 50, 200 * time.Millisecond
	for n := 1; ; n++ {
		err := attempt()
		if err == nil || n == attempts || isRefused(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// isRefused tells whether the server found the request itself wrong.
func isRefused(err error) bool {
	status := new(api.StatusError)
	return errors.As(err, &status) &&
		(status.Code == http.StatusUnprocessableEntity || status.Code == http.StatusBadRequest)
}

// each calls do for all items, several at a time, and returns the first error.
func each[T any](ctx context.Context, items []T, do func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan T)
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for item := range queue {
				if err := do(ctx, item); err != nil {
					cancel(err) // only the first has an effect
				}
			}
		})
	}
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		queue <- item
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

// Settle waits until nothing has changed for a second: until the controllers have nothing left to do.
func Settle(ctx context.Context, client *api.Client) error {
	resources, err := client.Lasting(ctx)
	if err != nil {
		return err
	}
	var before map[string]string
	for range 120 {
		now, err := versions(ctx, client, resources)
		if err != nil {
			return err
		}
		if before != nil && maps.Equal(before, now) {
			return nil
		}
		before = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return errors.New("the cluster does not come to rest")
}

// versions returns the version of each object, by its UID.
func versions(ctx context.Context, client *api.Client, resources []api.Resource) (map[string]string, error) {
	all := map[string]string{}
	var mu sync.Mutex
	err := each(ctx, resources, func(ctx context.Context, r api.Resource) error {
		objects, err := client.ListMetadata(ctx, r, "")
		mu.Lock()
		defer mu.Unlock()
		for _, o := range objects {
			all[o.String("metadata", "uid")] = o.String("metadata", "resourceVersion")
		}
		return err
	})
	return all, err
}
