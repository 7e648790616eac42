package repo

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

func mustImagine(t *testing.T, b storage.Bucket) *imagined {
	t.Helper()
	image, err := imagine(b)
	must(t, err)
	t.Cleanup(func() { must(t, image.discard()) })
	return image
}

func TestImaginedBucketIsABucket(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket { return mustImagine(t, mem.New()) })
}

// What is changed in an imagined bucket is seen in it, among what is really there, and nowhere else.
func TestImaginedChangesAreNotMade(t *testing.T) {
	b := mem.New()
	for _, name := range []string{"a", "c", "d", "f"} {
		must(t, b.Put(name, []byte(name)))
	}
	image := mustImagine(t, b)
	for _, name := range []string{"c", "d"} {
		must(t, image.Delete(t.Context(), name))
	}
	for _, name := range []string{"b", "d", "e", "g"} {
		must(t, image.Create(t.Context(), name, []byte("new")))
	}
	var seen []string
	for info, err := range image.List(t.Context(), "", "") {
		must(t, err)
		data, err := image.Get(t.Context(), info.Name, 0, -1)
		must(t, err)
		seen = append(seen, info.Name+" "+string(data))
	}
	if diff := cmp.Diff([]string{"a a", "b new", "d new", "e new", "f f", "g new"}, seen); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	var left []string
	for name := range names(t, b) {
		left = append(left, name)
	}
	slices.Sort(left)
	if diff := cmp.Diff([]string{"a", "c", "d", "f"}, left); diff != "" {
		t.Errorf("the real bucket: -want +got\n%s", diff)
	}
}
