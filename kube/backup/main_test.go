package backup

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/kubetest"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/snapshot"
)

// shared is the control plane that the tests of this package share.
var shared kubetest.Lazy

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// lab is the shared cluster and a repository of the test's own.
type lab struct {
	Deps
	t       *testing.T
	bucket  storage.Bucket
	Limits  repo.Limits
	catalog *kube.Catalog
}

func connect(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	var err error
	if l.Cluster, err = kube.New(shared.Cluster(t).Config()); err != nil {
		t.Fatal(err)
	}
	if l.catalog, err = l.Cluster.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// newLab is a lab without a cluster.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, bucket: mem.New()}
	ctx := context.Background()
	if _, err := repo.Init(ctx, l.bucket, repo.InitOptions{Password: "x", PasswordWork: 2}); err != nil {
		t.Fatal(err)
	}
	l.reopen()
	return l
}

// reopen opens the repository as another process would.
func (l *lab) reopen() {
	l.t.Helper()
	var err error
	if l.Repository, err = repo.Open(l.t.Context(), l.bucket, repo.OpenOptions{Password: "x", Limits: l.Limits}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) run(p Plan) Result {
	l.t.Helper()
	result, err := Run(l.t.Context(), l.Deps, p)
	if err != nil {
		l.t.Fatal(err)
	}
	return result
}

func (l *lab) load(r Result) *snapshot.Snapshot {
	l.t.Helper()
	s, err := snapshot.Find(l.t.Context(), l.Repository, r.ID.String())
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// create makes objects.
func (l *lab) create(format string, values ...any) {
	l.t.Helper()
	o, r := l.object(format, values...)
	if _, err := l.Cluster.Create(l.t.Context(), r, o, "test"); err != nil {
		l.t.Fatal(err)
	}
}

// apply makes an object be as given.
func (l *lab) apply(format string, values ...any) {
	l.t.Helper()
	o, r := l.object(format, values...)
	if _, err := l.Cluster.Apply(l.t.Context(), r, o, "test"); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) object(format string, values ...any) (kube.Object, kube.Resource) {
	l.t.Helper()
	o, err := kube.Decode(fmt.Appendf(nil, format, values...))
	if err != nil {
		l.t.Fatal(err)
	}
	r, ok := l.catalog.FindKind(o.APIVersion(), o.Kind())
	if !ok {
		l.t.Fatalf("the cluster has no kind %s %s", o.APIVersion(), o.Kind())
	}
	return o, r
}

// stored returns the sizes of what lies in the bucket, by name.
func (l *lab) stored() map[string]int64 {
	l.t.Helper()
	sizes := map[string]int64{}
	for info, err := range l.bucket.List(l.t.Context(), "", "") {
		if err != nil {
			l.t.Fatal(err)
		}
		sizes[info.Name] = info.Size
	}
	return sizes
}
