package snapshot

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot/tree"
)

var _ Damage = (*repo.CheckReport)(nil)

// damaged plays a check that has found some blobs lost, each by a finding of its own.
type damaged struct {
	lost    map[blob.Ref]int
	beneath map[blob.Ref][]int
}

func (d damaged) Touching(ref blob.Ref) ([]int, bool) {
	if number, lost := d.lost[ref]; lost {
		return []int{number}, true
	}
	return d.beneath[ref], false
}

// damage loses blobs, and finds all nodes of the repository's snapshots above them.
func damage(t *testing.T, r *repo.Repository, lost ...blob.Ref) damaged {
	t.Helper()
	d := damaged{map[blob.Ref]int{}, map[blob.Ref][]int{}}
	for i, ref := range lost {
		d.lost[ref] = i
	}
	var walk func(ref blob.Ref) []int
	walk = func(ref blob.Ref) (findings []int) {
		if number, lost := d.lost[ref]; lost {
			return []int{number}
		}
		if !ref.Class.HasLinks() {
			return nil
		}
		for _, link := range ok[blob.Node](t)(r.ReadNode(t.Context(), ref)).Links {
			findings = append(findings, walk(link)...)
		}
		slices.Sort(findings)
		d.beneath[ref] = slices.Compact(findings)
		return d.beneath[ref]
	}
	for _, l := range r.Snapshots() {
		walk(blob.Ref{Class: blob.Manifest, ID: l.Manifest})
	}
	return d
}

// withContents commits a snapshot with entries that rely on blobs.
func withContents(t *testing.T, r *repo.Repository, name string, objects, files []tree.Entry) {
	t.Helper()
	w := r.NewWriter(t.Context(), repo.WriterOptions{})
	defer w.Close()
	d := Draft{Name: name, Started: start, TreeKey: r.DeriveKey("tree")}
	build := func(entries []tree.Entry) tree.Root {
		b := tree.NewBuilder(w, d.TreeKey)
		for _, e := range entries {
			for i := range e.Refs {
				e.Refs[i] = ok[blob.Ref](t)(w.Write(t.Context(), blob.Data, e.Value))
			}
			if err := b.Add(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		return ok[tree.Root](t)(b.Finish(t.Context()))
	}
	d.Objects.Root = build(objects)
	d.Volumes = []VolumeDraft{{Volume: Volume{Name: "data", Namespace: "shop", Claim: "data", Root: build(files)}}}
	if _, err := Commit(t.Context(), w, d); err != nil {
		t.Fatal(err)
	}
}

func entry(key, content string) tree.Entry {
	return tree.Entry{Key: []byte(zeros(key)), Value: []byte(content), Refs: make([]blob.Ref, 1), Bytes: 1}
}

func TestHarmNamesWhatLostBlobsTouch(t *testing.T) {
	r := newRepository(t)
	web, site := entry("apps/deployments/shop/web", "web"), entry("www/index.html", "site")
	objects := []tree.Entry{entry("/configmaps/media/a", "a"), entry("/nodes//n", "n"), web}
	withContents(t, r, "one", objects, []tree.Entry{entry("www/a", "a file"), site})
	withContents(t, r, "two", objects, []tree.Entry{entry("www/a", "another"), site})
	withContents(t, r, "three", objects[:1], nil)
	d := damage(t, r, web.Refs[0], site.Refs[0], objects[1].Refs[0])
	got := ok[map[int]*Harm](t)(Harms(t.Context(), r, d, 5))
	want := map[int]*Harm{
		0: {Namespaces: []string{"shop"}, Items: []Harmed{{Name: "objects/apps/deployments/shop/web"}}, Count: 2},
		1: {Namespaces: []string{"shop"}, Items: []Harmed{{Name: "volumes/data/www/index.html"}}, Count: 2},
		2: {Items: []Harmed{{Name: "objects/core/nodes/_cluster/n"}}, Count: 2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("harm (-want +got):\n%s", diff)
	}
}

func TestHarmOfManyItemsIsCountedAndNotListed(t *testing.T) {
	r := newRepository(t)
	var files []tree.Entry
	for _, name := range []string{"a", "b", "c", "d"} {
		files = append(files, entry(name, "the same"))
	}
	withContents(t, r, "one", nil, files)
	got := ok[map[int]*Harm](t)(Harms(t.Context(), r, damage(t, r, files[0].Refs[0]), 2))
	want := map[int]*Harm{0: {Namespaces: []string{"shop"}, Items: []Harmed{{Name: "volumes/data/a"}, {Name: "volumes/data/b"}}, Count: 4}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("harm (-want +got):\n%s", diff)
	}
}

// A lost node takes the names of its entries along; its parent knows the first one and how many there were.
func TestHarmOfALostNodeIsAStretch(t *testing.T) {
	r := newRepository(t)
	in := run{objects: map[string]string{"/pods/shop/a": "1", "/pods/shop/b": "2"}, files: map[string]map[string]string{"data": {}}}
	for i := range 5000 {
		in.files["data"][fmt.Sprintf("folder/file-%d", i)] = fmt.Sprint("content ", i)
	}
	s := backup(t, r, in)
	volumes := ok[[]Volume](t)(s.Volumes(t.Context()))
	root := volumes[0].Root
	if root.Height < 2 {
		t.Fatalf("the map has %d levels", root.Height)
	}
	links := ok[blob.Node](t)(r.ReadNode(t.Context(), root.Ref)).Links
	got := ok[map[int]*Harm](t)(Harms(t.Context(), r, damage(t, r, links[1], s.Manifest.Objects.Ref), 5))
	if h := got[0]; len(h.Items) != 1 || h.Items[0].More+1 != h.Count || h.Count < 2 || h.Count >= root.Count {
		t.Errorf("harm of a lost node: %+v", h)
	}
	if h := got[1]; len(h.Items) != 1 || h.Items[0].Name != "objects" || h.Count != s.Manifest.Objects.Count {
		t.Errorf("harm of a lost root: %+v, want %d objects", h, s.Manifest.Objects.Count)
	}
	live := r.Snapshots()[0]
	got = ok[map[int]*Harm](t)(Harms(t.Context(), r, damage(t, r, blob.Ref{Class: blob.Manifest, ID: live.Manifest}), 5))
	if h := got[0]; len(h.Items) != 1 || h.Items[0].Name != "all of snapshot "+live.ID.String() {
		t.Errorf("harm of a lost manifest: %+v", h)
	}
}
