// Package formats_test holds a second reader of repositories. It is written from the pages of this
// folder alone and imports nothing of Varve, and it has to read what Varve writes. So the pages are
// complete, and a change of the format that is not written down is a failing test.
package formats_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/storage/dir"
	varve "github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/files"
)

const password = "correct horse battery staple"

func TestThePagesAreEnoughToReadARepository(t *testing.T) {
	bucket, source := t.TempDir(), t.TempDir()
	written := fill(t, source)
	w := newWriter(t, bucket)
	w.backup("first", source, objects("green"))
	if err := os.WriteFile(filepath.Join(source, "later"), []byte("a file of the second backup"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.backup("second", source, objects("blue"))

	r := newReader(t, os.DirFS(bucket), password)
	if len(r.snapshots) != 2 || r.segments == 0 {
		t.Fatalf("found %d snapshots and %d segments, want 2 and some", len(r.snapshots), r.segments)
	}
	for i, color := range []string{"green", "blue"} {
		s := r.load(r.snapshots[i])
		if want := []string{"first", "second"}[i]; s.name != want {
			t.Errorf("snapshot %d is called %q, want %q", i, s.name, want)
		}
		for path, want := range written {
			got := s.volumes["data"][path]
			if !bytes.Equal(got.content, want.content) {
				t.Errorf("%s: %s has other content", s.name, path)
			}
			got.content, want.content = nil, nil
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(file{})); diff != "" {
				t.Errorf("%s: %s (-want +got):\n%s", s.name, path, diff)
			}
		}
		if got, want := len(s.volumes["data"]), len(written)+i; got != want {
			t.Errorf("%s has %d files, want %d", s.name, got, want)
		}
		want := map[string]object{}
		for _, o := range objects(color) {
			want[o.path()] = o.want
		}
		if diff := cmp.Diff(want, s.objects, cmp.AllowUnexported(object{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
}

// fill makes a folder whose contents go to every place that there is, and returns what is in it.
func fill(t *testing.T, folder string) map[string]file {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	noise := func(n int) []byte {
		b := make([]byte, n)
		_, _ = random.Read(b) // never fails
		return b
	}
	written := map[string]file{
		".":            {kind: 2, mode: 0o750},
		"sub":          {kind: 2, mode: 0o700},
		"sub/dir":      {kind: 2, mode: 0o755},
		"empty":        {kind: 1, mode: 0o644, content: []byte{}},
		"inline":       {kind: 1, mode: 0o644, content: []byte("short")},
		"sub/chunks":   {kind: 1, mode: 0o600, content: noise(500_000)},
		"sub/dir/map":  {kind: 1, mode: 0o400, content: noise(3 << 20)},
		"sub/link":     {kind: 3, mode: 0o777, target: "../inline"},
		"z second":     {kind: 1, mode: 0o644, link: "inline"},
		"sub/set-uid":  {kind: 1, mode: 0o4755, content: []byte("#!/bin/sh\n")},
		"sub/compress": {kind: 1, mode: 0o644, content: bytes.Repeat([]byte("again and "), 40_000)},
	}
	for i := range 40 {
		written[fmt.Sprintf("bundled-%02d", i)] = file{kind: 1, mode: 0o644, content: noise(9_000 + i)}
	}
	for _, path := range []string{"sub", "sub/dir"} {
		must(t, os.Mkdir(filepath.Join(folder, path), 0o700))
	}
	for path, f := range written {
		at := filepath.Join(folder, path)
		switch {
		case f.kind == 3:
			must(t, os.Symlink(f.target, at))
		case f.kind == 1 && f.link == "":
			must(t, os.WriteFile(at, f.content, 0o600))
		}
	}
	must(t, os.Link(filepath.Join(folder, "inline"), filepath.Join(folder, "z second")))
	for path, f := range written {
		if f.kind != 3 {
			must(t, os.Chmod(filepath.Join(folder, path), os.FileMode(f.mode&0o777)|os.FileMode(f.mode&0o4000)<<12))
		}
	}
	return written
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A sample is an object as it is given to Varve, and as the pages say that it is stored.
type sample struct {
	key  kube.Key
	json string
	want object
}

func (s sample) path() string {
	return s.key.Group + "/" + s.key.Resource + "/" + s.key.Namespace + "/" + s.key.Name
}

func objects(color string) []sample {
	const uid = "0b2b9a5e-7f0e-4b56-9b43-3a2d1f0c9e88"
	return []sample{{
		kube.Key{Resource: "secrets", Namespace: "shop", Name: "db"},
		`{"kind":"Secret","apiVersion":"v1","metadata":{"name":"db","namespace":"shop","resourceVersion":"odd"},"data":{"p":"aHVudGVyMg=="}}`,
		object{
			revision: "odd", version: "v1", class: 3, state: []byte{},
			body: []byte(`{"apiVersion":"v1","data":{"p":"aHVudGVyMg=="},"kind":"Secret","metadata":{"name":"db","namespace":"shop"}}`),
		},
	}, {
		kube.Key{Group: "apps", Resource: "deployments", Namespace: "shop", Name: "web"},
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"uid":"` + uid + `","generation":2,"name":"web","resourceVersion":"42"},
		  "spec":{"replicas":3.0,"color":"` + color + `"},"status":{"replicas":3}}`,
		object{
			uid: uid, revision: "42", version: "v1", class: 1,
			body: []byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","uid":"` + uid +
				`"},"spec":{"color":"` + color + `","replicas":3.0}}`),
			state: []byte(`{"metadata":{"generation":2},"status":{"replicas":3}}`),
		},
	}}
}

// A writer backs up with Varve.
type writer struct {
	t          *testing.T
	repository *repo.Repository
}

func newWriter(t *testing.T, bucket string) *writer {
	t.Helper()
	b, err := dir.Open(bucket, dir.Options{Create: true})
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	_, err = repo.Init(t.Context(), b, repo.InitOptions{Password: password, PasswordWork: 1})
	must(t, err)
	r, err := repo.Open(t.Context(), b, repo.OpenOptions{Password: password})
	must(t, err)
	return &writer{t, r}
}

// backup makes a snapshot of objects and a folder. It stores enough else for an index segment.
func (w *writer) backup(name, folder string, objects []sample) {
	w.t.Helper()
	ctx, t := w.t.Context(), w.t
	session := w.repository.NewWriter(ctx, repo.WriterOptions{})
	defer func() { must(t, session.Close()) }()
	for i := range 8_500 {
		_, err := session.Write(ctx, blob.Data, fmt.Appendf(nil, "%s %d", name, i))
		must(t, err)
	}
	draft := varve.Draft{Name: name, Started: time.Now(), Complete: true, TreeKey: w.repository.DeriveKey("tree"), Digests: &varve.Digests{}}
	hasher := varve.NewHasher(w.repository.DeriveKey("digest"))
	draft.Objects.Root = w.assemble(session, func(a *content.Assembler) {
		for _, o := range objects {
			decoded, err := kube.Decode([]byte(o.json))
			must(t, err)
			stored, err := kube.Store(decoded)
			must(t, err)
			item, err := kube.NewItem(o.key, stored, nil, nil)
			must(t, err)
			must(t, a.Add(ctx, item))
			scope := string(kube.Prefix(o.key.Group, o.key.Resource, o.key.Namespace))
			draft.Digests.Add(scope, hasher.Object(item.Key, stored.Body, stored.State))
		}
	}).Root
	data := w.assemble(session, func(a *content.Assembler) {
		_, err := files.Backup(ctx, files.Source{Root: folder}, a, nil, files.Options{})
		must(t, err)
	})
	draft.Volumes = []varve.VolumeDraft{{Volume: varve.Volume{Name: "data", Root: data.Root}}}
	_, err := varve.Commit(ctx, session, draft)
	must(t, err)
}

func (w *writer) assemble(session *repo.Writer, fill func(*content.Assembler)) content.Result {
	w.t.Helper()
	a := content.NewAssembler(session, content.Options{Key: w.repository.DeriveKey, Chunks: w.repository.Chunker()})
	defer a.Close()
	fill(a)
	result, err := a.Finish(w.t.Context())
	must(w.t, err)
	return result
}
