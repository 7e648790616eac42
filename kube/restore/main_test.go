package restore

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/kubetest"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
)

// shared is the control plane that the tests of this package share.
var shared kubetest.Lazy

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// site is the shared cluster, as a test uses it.
type site struct {
	*kube.Cluster
	t *testing.T
}

func connect(t *testing.T) site {
	t.Helper()
	cluster, err := kube.New(shared.Cluster(t).Config())
	if err != nil {
		t.Fatal(err)
	}
	return site{cluster, t}
}

func (s site) catalog() *kube.Catalog {
	s.t.Helper()
	catalog, err := s.Discover(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return catalog
}

func (s site) resource(apiVersion, kind string) kube.Resource {
	s.t.Helper()
	r, ok := s.catalog().FindKind(apiVersion, kind)
	if !ok {
		s.t.Fatalf("the cluster has no kind %s %s", apiVersion, kind)
	}
	return r
}

// create makes objects; those of a new kind when it is served.
func (s site) create(texts ...string) {
	s.t.Helper()
	catalog := s.catalog()
	for _, text := range texts {
		o := object(s.t, text)
		r, ok := catalog.FindKind(o.APIVersion(), o.Kind())
		for deadline := time.Now().Add(20 * time.Second); !ok && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			catalog = s.catalog()
			r, ok = catalog.FindKind(o.APIVersion(), o.Kind())
		}
		if _, err := s.Create(s.t.Context(), r, o, "test"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// get returns an object of the cluster, or nil.
func (s site) get(apiVersion, kind, namespace, name string) kube.Object {
	s.t.Helper()
	o, err := s.Get(s.t.Context(), s.resource(apiVersion, kind), namespace, name)
	if err != nil {
		return nil
	}
	return o
}

// remove deletes an object and waits until it is gone.
func (s site) remove(apiVersion, kind, namespace, name string) {
	s.t.Helper()
	r := s.resource(apiVersion, kind)
	if err := s.Delete(s.t.Context(), r, namespace, name); err != nil {
		s.t.Fatal(err)
	}
	s.await("it is gone: "+name, func() bool {
		_, err := s.Get(s.t.Context(), r, namespace, name)
		return err != nil
	})
}

// await waits until something is so.
func (s site) await(what string, so func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if so() {
			return
		}
	}
	s.t.Fatalf("after half a minute not so: %s", what)
}

// source is a snapshot in a repository in memory.
type source struct {
	bucket     *mem.Bucket
	repository *repo.Repository
	snapshot   *snapshot.Snapshot
}

func (s source) deps(to site) Deps {
	return Deps{Repository: s.repository, Snapshot: s.snapshot, Cluster: to.Cluster}
}

// snapshot stores what a filter selects.
func (s site) snapshot(f kube.Filter) source {
	s.t.Helper()
	catalog := s.catalog()
	selection, err := s.Select(s.t.Context(), catalog, f)
	if err != nil {
		s.t.Fatal(err)
	}
	return store(s.t, catalog, func(add func(kube.Key, kube.Object)) {
		if err := selection.Walk(s.t.Context(), kube.WalkOptions{}, func(l kube.Listing) error {
			for _, item := range l.Items {
				o, err := item.Object()
				if err != nil {
					return err
				}
				add(item.Key, o)
			}
			return l.Err
		}); err != nil {
			s.t.Fatal(err)
		}
	})
}

// store stores objects, which come in the order of their keys.
func store(t *testing.T, catalog *kube.Catalog, produce func(add func(kube.Key, kube.Object))) source {
	t.Helper()
	ctx := t.Context()
	bucket, repository := newRepository(t)
	writer := repository.NewWriter(ctx, repo.WriterOptions{})
	assembler := content.NewAssembler(writer, content.Options{Key: repository.DeriveKey})
	produce(func(k kube.Key, o kube.Object) {
		stored, err := kube.Store(o)
		if err != nil {
			t.Fatal(err)
		}
		item, err := kube.NewItem(k, stored, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := assembler.Add(ctx, item); err != nil {
			t.Fatal(err)
		}
	})
	result, err := assembler.Finish(ctx)
	if err != nil {
		t.Fatal(err)
	}
	served, err := json.Marshal(catalog)
	if err != nil {
		t.Fatal(err)
	}
	return commit(t, bucket, repository, writer, snapshot.Draft{
		Name: "nightly", Started: time.Now(), Complete: true, Discovery: served, TreeKey: repository.DeriveKey("tree"),
		Objects: snapshot.Contents{Root: result.Root, Sparse: result.Sparse},
	})
}

func newRepository(t *testing.T) (*mem.Bucket, *repo.Repository) {
	t.Helper()
	bucket := mem.New()
	if _, err := repo.Init(t.Context(), bucket, repo.InitOptions{Password: "x", PasswordWork: 2}); err != nil {
		t.Fatal(err)
	}
	return bucket, open(t, bucket)
}

func open(t *testing.T, bucket *mem.Bucket) *repo.Repository {
	t.Helper()
	repository, err := repo.Open(t.Context(), bucket, repo.OpenOptions{Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	return repository
}

// spoiled returns copies of a source, in each of which some of one pack is damaged, or all of it.
func (s source) spoiled(t *testing.T) []source {
	t.Helper()
	var spoiled []source
	half := func(data []byte) []byte { clear(data[len(data)/4 : len(data)/2]); return data }
	all := func(data []byte) []byte { clear(data); return data }
	for info, err := range s.bucket.List(t.Context(), "packs/", "") {
		if err != nil {
			t.Fatal(err)
		}
		for _, spoil := range []func([]byte) []byte{half, all} {
			torn := s.bucket.Clone()
			if err := torn.Damage(info.Name, spoil); err != nil {
				t.Fatal(err)
			}
			repository := open(t, torn)
			if stored, err := snapshot.Find(t.Context(), repository, s.snapshot.Name); err == nil {
				spoiled = append(spoiled, source{torn, repository, stored})
			}
		}
	}
	return spoiled
}

// named is the same objects as a backup of another name.
func (s source) named(name string) source {
	s.snapshot.Name = name
	return s
}

func commit(t *testing.T, b *mem.Bucket, r *repo.Repository, w *repo.Writer, d snapshot.Draft) source {
	t.Helper()
	if _, err := snapshot.Commit(t.Context(), w, d); err != nil {
		t.Fatal(err)
	}
	stored, err := snapshot.Find(t.Context(), r, d.Name)
	if err != nil {
		t.Fatal(err)
	}
	return source{b, r, stored}
}

func object(t *testing.T, text string) kube.Object {
	t.Helper()
	o, err := kube.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}
