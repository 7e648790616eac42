package backup

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo/seal"
)

// Whoever can read the bucket sees padded sizes and nothing of what was backed up: not a name, a label,
// a value, a path or a line of a file, in plain or in base64.
func TestBucketShowsNoWordOfTheCluster(t *testing.T) {
	l := connect(t)
	l.create(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"pelican-namespace"}}`)
	l.create(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"pelican-name","namespace":"pelican-namespace",
		"labels":{"pelican-label":"pelican-label-value"},"annotations":{"pelican.example/annotation":"pelican-annotation-value"}},
		"stringData":{"pelican-key":"pelican-value"}}`)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "pelican-file"), []byte(strings.Repeat("pelican-line\n", 20_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pelican-target", filepath.Join(folder, "pelican-link")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one from its parent
		l.run(Plan{Name: "pelican-backup", Filter: kube.Filter{IncludedNamespaces: []string{"pelican-namespace"}},
			Volumes: []Volume{{"pelican-volume", folder}}})
	}
	words := [][]byte{[]byte("pelican"), []byte(base64.StdEncoding.EncodeToString([]byte("pelican-value"))), []byte("configmaps")}
	for name, size := range l.stored() {
		data, err := l.bucket.Get(t.Context(), name, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range words {
			if bytes.Contains(bytes.ToLower(data), bytes.ToLower(word)) || strings.Contains(name, string(word)) {
				t.Errorf("%s shows %q", name, word)
			}
		}
		plain := name == "varve.json" || strings.HasPrefix(name, "keys/")
		if !plain && int(size) != seal.Padded(int(size)) {
			t.Errorf("%s has %d bytes, which is no padded size", name, size)
		}
	}
	restored := l.load(l.run(Plan{Filter: kube.Filter{IncludedNamespaces: []string{"pelican-namespace"}}}))
	if restored.Manifest.Objects.Count == 0 {
		t.Error("the words were not in the backup at all")
	}
}
