package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStoredObjectJoinsToTheSameValue(t *testing.T) {
	tests := map[string]string{
		"usual":                    `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop","uid":"0f8fad5b-d9cb-469f-a165-70867728950e","resourceVersion":"1234","generation":3,"managedFields":[{"manager":"kubectl"}]},"spec":{"replicas":2},"status":{"replicas":2}}`,
		"without state":            `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","resourceVersion":"5"},"data":{"a":"<&>\u2028\u0001\"\\/"}}`,
		"without metadata":         `{"kind":"Odd","spec":{}}`,
		"metadata no object":       `{"kind":"Odd","metadata":["generation"],"status":1}`,
		"metadata null":            `{"kind":"Odd","metadata":null}`,
		"status a string":          `{"kind":"Odd","metadata":{"name":"x"},"status":"fine"}`,
		"status null":              `{"kind":"Odd","metadata":{"name":"x"},"status":null}`,
		"resourceVersion a number": `{"kind":"Odd","metadata":{"name":"x","resourceVersion":7}}`,
		"resourceVersion empty":    `{"kind":"Odd","metadata":{"name":"x","resourceVersion":""}}`,
		"resourceVersion a word":   `{"kind":"Odd","metadata":{"name":"x","resourceVersion":"007"}}`,
		"uid a word":               `{"kind":"Odd","metadata":{"name":"x","uid":"UPPER-0F8FAD5B"}}`,
		"only moving metadata":     `{"metadata":{"generation":1}}`,
		"empty metadata":           `{"metadata":{},"status":{}}`,
		"numbers":                  `{"metadata":{"name":"x"},"n":[1,1.0,-0,1e3,9223372036854775807,18446744073709551616,0.1,123456789012345678901234567890]}`,
		"nested status":            `{"metadata":{"name":"x","status":1},"spec":{"status":{"metadata":{"generation":2}}}}`,
		"nothing":                  `{}`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			original, err := Decode([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			stored, err := Store(original)
			if err != nil {
				t.Fatal(err)
			}
			attributes, err := ParseAttributes(stored.Attributes.Encode())
			if err != nil {
				t.Fatal(err)
			}
			stored.Attributes = attributes
			joined, err := stored.Object()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(original, joined); diff != "" {
				t.Errorf("joined object differs (-stored +joined):\n%s", diff)
			}
		})
	}
}

func TestStatusAndGenerationMoveNoBody(t *testing.T) {
	before := object(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","resourceVersion":"1","generation":1},"spec":{"x":1},"status":{"phase":"Pending"}}`)
	after := object(t, `{"status":{"phase":"Running"},"kind":"Pod","spec":{"x":1},"metadata":{"generation":2,"resourceVersion":"2","name":"p","managedFields":[]},"apiVersion":"v1"}`)
	a, err := Store(before)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Store(after)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Body, b.Body) {
		t.Errorf("bodies differ: %s and %s", a.Body, b.Body)
	}
	if bytes.Equal(a.State, b.State) {
		t.Errorf("states are the same: %s", a.State)
	}
}

func TestStoreLeavesItsArgumentAlone(t *testing.T) {
	const text = `{"kind":"A","metadata":{"generation":1,"name":"a","resourceVersion":"1"},"status":{}}`
	o := object(t, text)
	if _, err := Store(o); err != nil {
		t.Fatal(err)
	}
	if got, _ := Canonical(o); string(got) != text {
		t.Errorf("after Store the object is %s", got)
	}
}

func TestEveryObjectOfAClusterJoinsToWhatItReturned(t *testing.T) {
	cluster, catalog := connect(t)
	create(t, cluster, catalog,
		object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"joins"}}`),
		object(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"odd","namespace":"joins"},"data":{"html":"<a href=\"x\">&</a>\u2028","zero":"\u0000é😀"}}`),
		object(t, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"joins"},"stringData":{"password":"x"}}`),
		object(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s","namespace":"joins"},"spec":{"ports":[{"port":80}]}}`),
	)
	selection, err := cluster.Select(t.Context(), catalog, Filter{IncludedResources: []string{"*", "leases", "events"}})
	if err != nil {
		t.Fatal(err)
	}
	kinds, objects := 0, 0
	err = selection.Walk(t.Context(), WalkOptions{PageSize: 7}, func(l Listing) error {
		if l.Err != nil {
			return l.Err
		}
		kinds++
		for _, item := range l.Items {
			listed, err := item.Object()
			if err != nil {
				return err
			}
			stored, err := Store(listed)
			if err != nil {
				return err
			}
			if diff := cmp.Diff(item.Attributes, stored.Attributes); diff != "" {
				t.Errorf("%s: attributes (-listed +stored):\n%s", item.Key, diff)
			}
			joined, err := stored.Object()
			if err != nil {
				return err
			}
			raw, err := cluster.raw(t.Context(), "get", cluster.client.Get().AbsPath(l.Resource.path(item.Key.Namespace, item.Key.Name)))
			if err != nil {
				return err
			}
			var want, got any
			text, err := Canonical(joined)
			if err != nil {
				return err
			}
			if err := errors.Join(unmarshal(raw, &want), unmarshal(text, &got)); err != nil {
				return err
			}
			if joined.ResourceVersion() != want.(map[string]any)["metadata"].(map[string]any)["resourceVersion"] {
				continue // it changed between the two
			}
			objects++
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: (-returned +joined):\n%s", item.Key, diff)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if kinds < 30 || objects < 100 {
		t.Errorf("compared %d objects of %d kinds; a fresh cluster has more", objects, kinds)
	}
}

// unmarshal decodes as strictly as this package, but by the standard library alone.
func unmarshal(raw []byte, v *any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(v)
}

func FuzzStoredObjectJoins(f *testing.F) {
	f.Add([]byte(`{"metadata":{"name":"x","generation":1,"resourceVersion":"1"},"status":{}}`))
	f.Add([]byte(`{"metadata":[],"status":"\ud800"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := Decode(raw)
		if err != nil {
			t.Skip()
		}
		stored, err := Store(o)
		if err != nil {
			t.Fatal(err)
		}
		joined, err := stored.Object()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, joined); diff != "" {
			t.Error(diff)
		}
	})
}
