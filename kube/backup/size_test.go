package backup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
)

// fleet is objects that look like those of a cluster, without an API server that would take minutes to
// take them in.
type fleet struct {
	resource kube.Resource
	revision []int // of each object
}

// Walk visits the objects in the order of their keys.
func (f fleet) Walk(_ context.Context, _ kube.WalkOptions, visit func(kube.Listing) error) error {
	l := kube.Listing{Resource: f.resource}
	for i, revision := range f.revision {
		item, err := f.resource.Item([]byte(f.text(i, revision)))
		if err != nil {
			return err
		}
		l.Items = append(l.Items, item)
	}
	return visit(l)
}

// text is an object of some 3 KB of which a third is what only this object has.
func (f fleet) text(i, revision int) string {
	random := rand.New(rand.NewPCG(uint64(i), 1))
	word := func(n int) string {
		const letters = "abcdefghijklmnopqrstuvwxyz"
		b := make([]byte, n)
		for j := range b {
			b[j] = letters[random.IntN(len(letters))]
		}
		return string(b)
	}
	var env, fields []string
	for j := range 12 {
		env = append(env, fmt.Sprintf(`{"name":"SETTING_%d","value":"%s"}`, j, word(25)))
		fields = append(fields, fmt.Sprintf(`"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"%s\"}":{".":{},"f:image":{},"f:env":{}}}}}}`, word(6)))
	}
	return fmt.Sprintf(`{"metadata":{"name":"app-%05d","namespace":"team-%02d","uid":"%08x-0000-4000-8000-%012x","resourceVersion":"%d","generation":%d,
		"creationTimestamp":"2026-01-02T03:04:05Z","labels":{"app":"app-%05d","tier":"%s"},"annotations":{"note":"%s"},
		"managedFields":[{"manager":"kubectl","operation":"Apply","apiVersion":"apps/v1","time":"2026-01-02T03:%02d:05Z","fieldsType":"FieldsV1","fieldsV1":{%s}}]},
		"spec":{"replicas":%d,"selector":{"matchLabels":{"app":"app-%05d"}},"template":{"spec":{"containers":[{"name":"main","image":"registry.example.com/%s:%s","env":[%s]}]}}},
		"status":{"observedGeneration":%d,"replicas":%d,"conditions":[{"type":"Available","status":"True","reason":"MinimumReplicasAvailable","message":"Deployment has minimum availability.","lastUpdateTime":"2026-01-02T03:%02d:06Z"}]}}`,
		i, i*50/len(f.revision), random.Uint32(), random.Uint64()>>16, 1000+i+revision*100_000, revision, i, word(6), word(60),
		revision%60, strings.Join(fields, ","), revision, i, word(12), word(40), strings.Join(env, ","), revision, revision, revision%60)
}

// backup makes a snapshot of what is visited and returns how many bytes that stored.
func (l *lab) backup(w walker) int64 {
	l.t.Helper()
	size := func() (sum int64) {
		for _, n := range l.stored() {
			sum += n
		}
		return sum
	}
	before := size()
	ctx := l.t.Context()
	l.reopen()
	r := &run{Deps: l.Deps, writer: l.Repository.NewWriter(ctx, repo.WriterOptions{})}
	r.Now = time.Now
	r.progress = &meter{written: r.writer.Stats}
	r.draft = snapshot.Draft{Name: "fleet", Cluster: "c", Started: time.Now(), TreeKey: l.Repository.DeriveKey("tree"), Discovery: []byte(`{"server":"v1"}`)}
	if err := r.buildOn(ctx, snapshot.ParentQuery{Cluster: "c", Name: "fleet", Objects: true}); err != nil {
		l.t.Fatal(err)
	}
	if err := r.store(ctx, &kube.Catalog{Server: "v1"}, w); err != nil {
		l.t.Fatal(err)
	}
	if _, err := r.commit(ctx); err != nil {
		l.t.Fatal(err)
	}
	return size() - before
}

func TestStoredBytesFollowWhatChanged(t *testing.T) {
	l := newLab(t)
	f := fleet{
		resource: kube.Resource{Group: "apps", Version: "v1", Name: "deployments", Kind: "Deployment", Namespaced: true},
		revision: make([]int, 10_000),
	}
	first := l.backup(f)
	random := rand.New(rand.NewPCG(7, 7))
	change := func(n int) {
		for _, i := range random.Perm(len(f.revision))[:n] {
			f.revision[i]++
		}
	}
	change(len(f.revision) / 100)
	percent := l.backup(f)
	change(5)
	five := l.backup(f)
	none := l.backup(f)
	t.Logf("10,000 objects: first %d KB, one percent changed %d KB, five changed %d KB, none %d bytes", first>>10, percent>>10, five>>10, none)
	if percent > 300<<10 {
		t.Errorf("one percent changed stored %d bytes, want at most 300 KiB", percent)
	}
	if five > 40<<10 {
		t.Errorf("five changed stored %d bytes, want at most 40 KiB", five)
	}
	if none > 4<<10 {
		t.Errorf("none changed stored %d bytes, want at most 4 KiB", none)
	}
}

// listed is objects of one kind as a list has them.
type listed []string

func (w listed) Walk(_ context.Context, _ kube.WalkOptions, visit func(kube.Listing) error) error {
	l := kube.Listing{Resource: kube.Resource{Group: "g", Version: "v1", Name: "things", Kind: "Thing"}}
	for _, text := range w {
		item, err := l.Resource.Item([]byte(text))
		if err != nil {
			return err
		}
		l.Items = append(l.Items, item)
	}
	return visit(l)
}

func TestObjectsThatNobodyNumbersAreReadAgain(t *testing.T) {
	for name, metadata := range map[string]string{
		"neither uid nor resourceVersion": `{"name":"a"}`,
		"no resourceVersion":              `{"name":"a","uid":"0f8fad5b-d9cb-469f-a165-70867728950e"}`,
		"no uid":                          `{"name":"a","resourceVersion":"1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.backup(listed{`{"metadata":` + metadata + `,"spec":"before"}`})
			l.backup(listed{`{"metadata":` + metadata + `,"spec":"after"}`})
			s, err := snapshot.Find(t.Context(), l.Repository, "latest")
			if err != nil {
				t.Fatal(err)
			}
			key, err := kube.Key{Group: "g", Resource: "things", Name: "a"}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			e, _, err := s.Objects().Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			entry, err := kube.ParseEntry(e)
			if err != nil {
				t.Fatal(err)
			}
			o, err := entry.Object(t.Context(), content.NewReader(l.Repository))
			if err != nil || o.Text("spec") != "after" {
				t.Errorf("the second snapshot has %q, %v", o.Text("spec"), err)
			}
		})
	}
}
