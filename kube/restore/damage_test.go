package restore

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

// unreadable returns the objects of a source that are damaged, by key, and how many there are in all.
func unreadable(t *testing.T, s source) (damaged map[kube.Key]bool, all int) {
	t.Helper()
	damaged, reader := map[kube.Key]bool{}, content.NewReader(s.repository)
	for e, err := range s.snapshot.Objects().Scan(t.Context(), tree.Range{}) {
		if err != nil {
			return nil, 0 // of the map itself
		}
		entry, err := kube.ParseEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		all++
		if _, err := entry.Object(t.Context(), reader); errors.Is(err, repo.ErrDamaged) {
			damaged[entry.Key] = true
		}
	}
	return damaged, all
}

// Whichever pack is lost: objects that are damaged fail, one by one and by their name, and all others
// come back.
func TestDamagedObjectsStopNoOther(t *testing.T) {
	s := connect(t)
	stored := store(t, s.catalog(), func(put func(kube.Key, kube.Object)) {
		for i := range 30 {
			noise := make([]byte, 100_000)
			_, _ = rand.Read(noise) // it never fails
			name := fmt.Sprintf("c%02d", i)
			put(kube.Key{Resource: "configmaps", Namespace: "damaged", Name: name}, object(t, fmt.Sprintf(
				`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s","namespace":"damaged","labels":{"a":"b"}},"data":{"noise":"%s"}}`, name, hex.EncodeToString(noise))))
		}
		put(kube.Key{Resource: "namespaces", Name: "damaged"}, object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"damaged"}}`))
		put(kube.Key{Resource: "secrets", Namespace: "damaged", Name: "s"}, object(t, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","namespace":"damaged"}}`))
		put(kube.Key{Resource: "services", Namespace: "damaged", Name: "web"}, object(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"damaged"},"spec":{"ports":[{"port":80}]}}`))
	})
	tried, partly := 0, 0
	for _, torn := range stored.spoiled(t) {
		damaged, all := unreadable(t, torn)
		if all == 0 {
			continue
		}
		tried++
		if len(damaged) > 0 && len(damaged) < all {
			partly++
		}
		target := fmt.Sprintf("damaged-%d", tried)
		plan := Plan{Filter: kube.Filter{LabelSelector: "a!=c"}, NamespaceMapping: map[string]string{"damaged": target}}
		prepared, err := Prepare(t.Context(), torn.deps(s), plan)
		if err != nil {
			t.Fatal(err)
		}
		r, err := prepared.Apply(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		failed := map[kube.Key]bool{}
		for _, o := range r.Failures() {
			failed[o.Key] = true
		}
		if diff := cmp.Diff(damaged, failed); diff != "" {
			t.Errorf("failed (-damaged +failed):\n%s", diff)
		}
		if got := r.Count(Created, Unchanged); got < all-len(damaged) {
			t.Errorf("%d of %d objects are restored, %d are damaged", got, all, len(damaged))
		}
		if r.Complete() != (len(damaged) == 0) {
			t.Errorf("with %d damaged objects, complete is %v", len(damaged), r.Complete())
		}
	}
	if tried < 2 || partly == 0 {
		t.Errorf("%d of the packs do not hold the map, %d hold some of the objects", tried, partly)
	}
}
