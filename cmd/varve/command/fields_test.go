package command

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
)

func object(t *testing.T, text string) kube.Object {
	t.Helper()
	o, err := kube.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFieldChangesNameWhatDiffers(t *testing.T) {
	for _, test := range []struct {
		name, old, new string
		want           []string
	}{
		{"nothing", `{"a":1}`, `{"a":1}`, nil},
		{"value", `{"spec":{"replicas":2}}`, `{"spec":{"replicas":3}}`, []string{"spec.replicas: 2 > 3"}},
		{"added and removed", `{"a":{"x":1}}`, `{"a":{"y":null}}`, []string{"a.x: 1 > <nil>", "a.y: <nil> > <nil>"}},
		{"key with a dot", `{"m":{"a.b/c":"x"}}`, `{"m":{"a.b/c":"y"}}`, []string{`m["a.b/c"]: x > y`}},
		{"named elements that moved", `{"c":[{"name":"a","v":1},{"name":"b","v":2}]}`, `{"c":[{"name":"b","v":3},{"name":"a","v":1}]}`,
			[]string{"c[b].v: 2 > 3"}},
		{"numbered elements", `{"c":[1,2,3]}`, `{"c":[1,4]}`, []string{"c[1]: 2 > 4", "c[2]: 3 > <nil>"}},
		{"names that repeat", `{"c":[{"name":"a","v":1},{"name":"a","v":2}]}`, `{"c":[{"name":"a","v":1},{"name":"a","v":3}]}`,
			[]string{"c[1].v: 2 > 3"}},
		{"other type", `{"c":[1]}`, `{"c":{"0000":1}}`, []string{"c: [1] > map[0000:1]"}},
		{"digits of a number", `{"c":1.0}`, `{"c":1.00}`, []string{"c: 1.0 > 1.00"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, c := range fieldChanges(object(t, test.old), object(t, test.new)) {
				got = append(got, fmt.Sprintf("%s: %v > %v", c.Field, c.Old, c.New))
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSecretValuesAreHiddenAndStillDiffer(t *testing.T) {
	const (
		old = `{"kind":"Secret","data":{"same":"dG9wc2VjcmV0","key":"dG9wc2VjcmV0"},"stringData":{"s":"topsecret"},
			"metadata":{"annotations":{"note":"x","kubectl.kubernetes.io/last-applied-configuration":"topsecret"}}}`
		new = `{"kind":"Secret","data":{"same":"dG9wc2VjcmV0","key":"c2VjcmV0dG9w"},"stringData":{"s":"topsecret"},
			"metadata":{"annotations":{"note":"y","kubectl.kubernetes.io/last-applied-configuration":"secrettop"}}}`
	)
	k := kube.Key{Resource: "secrets", Namespace: "n", Name: "s"}
	shown, hidden := redact(k, object(t, old))
	if text := compact(shown); !hidden || strings.Contains(text, "dG9w") || strings.Contains(text, "topsecret") {
		t.Errorf("redact shows %s", text)
	}
	a, b := redactBoth(k, object(t, old), object(t, new))
	var fields []string
	for _, c := range fieldChanges(a, b) {
		fields = append(fields, c.Field)
		if text := compact(c.Old) + compact(c.New); strings.Contains(text, "c2Vj") || strings.Contains(text, "secret") {
			t.Errorf("%s shows %s", c.Field, text)
		}
	}
	want := []string{"data.key", `metadata.annotations["kubectl.kubernetes.io/last-applied-configuration"]`, "metadata.annotations.note"}
	if d := cmp.Diff(want, fields); d != "" {
		t.Error(d)
	}
	plain := object(t, `{"kind":"ConfigMap","data":{"key":"dG9wc2VjcmV0"}}`)
	if o, hidden := redact(kube.Key{Resource: "configmaps"}, plain); hidden || o.Text("data", "key") != "dG9wc2VjcmV0" {
		t.Errorf("redact changed a ConfigMap: %v", o)
	}
}
