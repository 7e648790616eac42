package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/varve-dev/varve/test/api"
)

// cluster decodes objects as a server sends them.
func cluster(t *testing.T, objects ...string) state {
	t.Helper()
	s := state{}
	for _, text := range objects {
		var o api.Object
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&o); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		s[id{groupOf(o.APIVersion()), o.Kind(), o.Namespace(), o.Name()}] = o
	}
	return s
}

const (
	namespaceShop = `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","uid":"1","labels":{"kubernetes.io/metadata.name":"shop"}},"status":{"phase":"Active"}}`
	certificate   = `{"apiVersion":"cert-manager.io/v1","kind":"Certificate","metadata":{"name":"web","namespace":"shop","uid":"2","resourceVersion":"7"},"spec":{"secretName":"tls"}}`
	request       = `{"apiVersion":"cert-manager.io/v1","kind":"CertificateRequest","metadata":{"name":"web-1","namespace":"shop","uid":"3","ownerReferences":[{"apiVersion":"cert-manager.io/v1","kind":"Certificate","name":"web","uid":"2","controller":true}]},"spec":{"n":12345678901234567890}}`
	binding       = `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"b","namespace":"shop","uid":"4"},"subjects":[{"kind":"ServiceAccount","name":"s","namespace":"shop"},{"kind":"ServiceAccount","name":"s","namespace":"other"}]}`
	deployment    = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop","uid":"5"},"spec":{"replicas":1}}`
	replicaSet    = `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web-1","namespace":"shop","uid":"6","ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"web","uid":"5","controller":true}]}}`
	podOfWeb      = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1-a","namespace":"shop","uid":"7","ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-1","uid":"6","controller":true}]}}`
	service       = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","uid":"8"},"spec":{"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],"ports":[{"port":80,"nodePort":30001}]}}`
	headless      = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"nodes","namespace":"shop","uid":"9"},"spec":{"clusterIP":"None","clusterIPs":["None"],"ports":[{"port":5432}]}}`
	pod           = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"shell","namespace":"shop","uid":"10"},"spec":{"containers":[{"name":"c","volumeMounts":[{"name":"kube-api-access-abcde"}]}],"volumes":[{"name":"kube-api-access-abcde"}]}}`
)

func shop(t *testing.T) state {
	return cluster(t, namespaceShop, certificate, request, binding, deployment, replicaSet, podOfWeb, service, headless, pod)
}

// edit returns objects with texts replaced in all of them.
func edit(oldnew ...string) []string {
	r := strings.NewReplacer(oldnew...)
	all := []string{namespaceShop, certificate, request, binding, deployment, replicaSet, podOfWeb, service, headless, pod}
	for i := range all {
		all[i] = r.Replace(all[i])
	}
	return all
}

func TestComparisonForgivesWhatARestoreMustChange(t *testing.T) {
	for name, after := range map[string][]string{
		"nothing":            edit(),
		"new UIDs":           edit(`"uid":"2"`, `"uid":"20"`, `"uid":"5"`, `"uid":"50"`),
		"new version":        edit(`"resourceVersion":"7"`, `"resourceVersion":"99","creationTimestamp":"2026-01-01T00:00:00Z","generation":3`),
		"marks":              edit(`"name":"web","namespace":"shop"`, `"name":"web","namespace":"shop","labels":{"varve-restore":"a","varve.dev/backup-name":"b"}`),
		"addresses":          edit(`10.96.0.9`, `10.96.0.10`, `"nodePort":30001`, `"nodePort":30002`),
		"token volumes":      edit(`kube-api-access-abcde`, `kube-api-access-vwxyz`),
		"status":             edit(`"phase":"Active"`, `"phase":"Terminating"`),
		"another ReplicaSet": edit(`"name":"web-1","namespace":"shop","uid":"6"`, `"name":"web-2","namespace":"shop","uid":"6"`),
	} {
		t.Run(name, func(t *testing.T) {
			c := compareObjects(normal(shop(t)), normal(cluster(t, after...)))
			for _, d := range c.differences {
				t.Error(d)
			}
			if c.compared != 8 || c.remade != 2 {
				t.Errorf("%d compared and %d left to controllers, want 8 and 2", c.compared, c.remade)
			}
		})
	}
}

func TestComparisonFindsWhatARestoreMustNotChange(t *testing.T) {
	for name, test := range map[string]struct {
		after []string
		want  string
	}{
		"value":            {edit(`"secretName":"tls"`, `"secretName":"other"`), `Certificate.cert-manager.io shop/web: .spec.secretName was "tls" and is "other"`},
		"rounded number":   {edit(`12345678901234567890`, `12345678901234567891`), `.spec.n was "12345678901234567890" and is "12345678901234567891"`},
		"number as string": {edit(`"port":80`, `"port":"80"`), `.spec.ports[0].port was "80" and is "80"`},
		"lost field":       {edit(`"secretName":"tls"`, ``), `.spec.secretName was "tls" and is gone`},
		"new field":        {edit(`"secretName":"tls"`, `"secretName":"tls","more":true`), `.spec.more was not there and is "true"`},
		"lost item":        {edit(`,{"kind":"ServiceAccount","name":"s","namespace":"other"}`, ``), `.subjects was`},
		"dangling owner":   {edit(`"name":"web","namespace":"shop","uid":"2"`, `"name":"web","namespace":"shop","uid":"20"`), `.metadata.ownerReferences[0].uid was "Certificate.cert-manager.io shop/web" and is "2"`},
		"headless":         {edit(`"clusterIP":"None"`, `"clusterIP":"10.96.0.9"`), `.spec.clusterIP was "None" and is gone`},
		"missing":          {edit()[1:], `Namespace shop: missing`},
		"more":             {append(edit(), strings.Replace(service, `"web"`, `"new"`, 1)), `Service shop/new: was not there before`},
	} {
		t.Run(name, func(t *testing.T) {
			c := compareObjects(normal(shop(t)), normal(cluster(t, test.after...)))
			if len(c.differences) != 1 || !strings.Contains(c.differences[0], test.want) {
				t.Errorf("differences %q, want one with %q", c.differences, test.want)
			}
		})
	}
}

func TestRenamedNamespaceIsExpectedUnderItsNewName(t *testing.T) {
	want := renamed(normal(shop(t)), "shop", "store")
	after := edit(`"namespace":"shop"`, `"namespace":"store"`, `"name":"shop"`, `"name":"store"`, `metadata.name":"shop"`, `metadata.name":"store"`)
	if c := compareObjects(want, normal(cluster(t, after...))); len(c.differences) > 0 {
		t.Errorf("differences %q, want none", c.differences)
	}
	after = edit(`"namespace":"shop","uid"`, `"namespace":"store","uid"`, `"name":"shop"`, `"name":"store"`, `metadata.name":"shop"`, `metadata.name":"store"`)
	c := compareObjects(want, normal(cluster(t, after...)))
	if len(c.differences) != 1 || !strings.Contains(c.differences[0], `.subjects[0].namespace was "store" and is "shop"`) {
		t.Errorf("differences %q, want the subject that was forgotten", c.differences)
	}
}

func TestWorkloadsWithTooFewPodsAreFound(t *testing.T) {
	if c := podShortages(shop(t)); len(c.differences) > 0 || c.compared != 1 {
		t.Errorf("shortages %q of %d workloads, want none of one", c.differences, c.compared)
	}
	found := podShortages(cluster(t, edit(`"replicas":1`, `"replicas":10`)...)).differences
	if len(found) != 1 || !strings.Contains(found[0], "shop/web: has 1 pods and wants 10") {
		t.Errorf("shortages %q, want that of web", found)
	}
}

func TestFileComparisonFindsEachDifference(t *testing.T) {
	when := time.Unix(1_700_000_000, 123456789)
	fill := func(t *testing.T) string {
		dir := t.TempDir()
		for name, content := range map[string]string{"folder/a": "one", "b": "two"} {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("b", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"folder/a", "folder", "b"} {
			if err := os.Chtimes(filepath.Join(dir, name), when, when); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	keepTime := func(path string, change func() error) error {
		if err := change(); err != nil {
			return err
		}
		return os.Chtimes(path, when, when)
	}
	for name, test := range map[string]struct {
		change func(dir string) error
		want   string
	}{
		"nothing": {func(string) error { return nil }, ""},
		"content": {func(dir string) error {
			return keepTime(dir+"/b", func() error { return os.WriteFile(dir+"/b", []byte("TWO"), 0) })
		}, `"b": content differs`},
		"size": {func(dir string) error {
			return keepTime(dir+"/b", func() error { return os.WriteFile(dir+"/b", nil, 0) })
		}, `"b": size was 3 and is 0`},
		"mode": {func(dir string) error { return os.Chmod(dir+"/b", 0o600) }, `"b": mode was -rw-r--r-- and is -rw-------`},
		"time": {func(dir string) error { return os.Chtimes(dir+"/folder", when, when.Add(1)) }, `"folder": time was`},
		"missing": {func(dir string) error {
			return keepTime(dir+"/folder", func() error { return os.Remove(dir + "/folder/a") })
		}, `"folder/a": missing`},
		"more": {func(dir string) error { return os.Mkdir(dir+"/new", 0o755) }, `"new": was not there before`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fill(t)
			before, err := readFiles(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.change(dir); err != nil {
				t.Fatal(err)
			}
			after, err := readFiles(dir)
			if err != nil {
				t.Fatal(err)
			}
			c := compareFiles(before, after)
			switch {
			case test.want == "" && (len(c.differences) > 0 || c.compared != 4):
				t.Errorf("differences %q of %d files, want none of 4", c.differences, c.compared)
			case test.want != "" && (len(c.differences) != 1 || !strings.HasPrefix(c.differences[0], test.want)):
				t.Errorf("differences %q, want one with %q", c.differences, test.want)
			}
		})
	}
}
