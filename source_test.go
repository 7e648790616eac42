// Package varve_test holds the rules of the house as tests: which package may import which
// (imports_test.go), what must be documented (doc_test.go), and how large and how named things may be
// (style_test.go).
//
// The rules read the source with go/parser instead of asking `go list`, because the result of a test
// that starts a program is cached as if the program's inputs had not changed. Each rule is a function
// from a file system to findings, so that a second test can plant a violation and see it found.
package varve_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// module is the path of the module whose root folder these tests stand in.
const module = "github.com/varve-dev/varve"

// A pkg is one folder with Go files in it, test files included.
type pkg struct {
	path    string // relative to the module, slash-separated; "." is the root
	sources []source
}

// A source is one parsed Go file.
type source struct {
	name  string // relative to the module: "repo/open.go"
	fset  *token.FileSet
	file  *ast.File
	lines int
}

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

// at names a place in the source as compilers do.
func (s source) at(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", s.name, s.fset.Position(pos).Line)
}

// imports yields each import path of the file and where it stands.
func (s source) imports() map[string]string {
	found := make(map[string]string, len(s.file.Imports))
	for _, spec := range s.file.Imports {
		found[strings.Trim(spec.Path.Value, "`\"")] = s.at(spec.Pos())
	}
	return found
}

// isTestPackage reports whether the package exists for tests: storagetest, kubetest.
func (p pkg) isTestPackage() bool { return strings.HasSuffix(path.Base(p.path), "test") }

// written returns the files that persons wrote and that are no tests.
func (p pkg) written() []source {
	return slices.DeleteFunc(slices.Clone(p.sources), func(s source) bool {
		return s.isTest() || ast.IsGenerated(s.file)
	})
}

// walk calls visit with every folder and file of the module: hidden ones, testdata and nested
// modules are not part of it.
func walk(fsys fs.FS, visit func(name string, d fs.DirEntry) error) error {
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case strings.HasPrefix(d.Name(), "."), d.IsDir() && d.Name() == "testdata":
		case d.IsDir() && exists(fsys, path.Join(name, "go.mod")):
		default:
			return visit(name, d)
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

func exists(fsys fs.FS, name string) bool {
	_, err := fs.Stat(fsys, name)
	return err == nil
}

// packages parses the module.
func packages(fsys fs.FS) ([]pkg, error) {
	found := make(map[string]*pkg)
	err := walk(fsys, func(name string, d fs.DirEntry) error {
		if d.IsDir() || path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		if found[dir] == nil {
			found[dir] = &pkg{path: dir}
		}
		lines := bytes.Count(text, []byte("\n"))
		found[dir].sources = append(found[dir].sources, source{name: name, fset: fset, file: file, lines: lines})
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []pkg
	for _, p := range found {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b pkg) int { return strings.Compare(a.path, b.path) })
	return all, nil
}

// A rule returns what it finds wrong in the packages, one line for each.
type rule func([]pkg) []string

// uphold reports every violation of the rule in the modules whose folders are given.
func uphold(t *testing.T, r rule, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		all, err := packages(os.DirFS(folder))
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < 2 {
			t.Fatalf("found %d packages in %s; the test runs in the wrong folder", len(all), folder)
		}
		for _, finding := range r(all) {
			t.Errorf("in %s: %s", folder, finding)
		}
	}
}

// A planting is a small module and the finding it must lead to; an empty finding means that there is
// none.
type planting struct {
	name  string
	files map[string]string
	want  string
}

// catches shows that the rule finds what is planted, and nothing where nothing is.
func catches(t *testing.T, r rule, plantings []planting) {
	t.Helper()
	for _, p := range plantings {
		t.Run(p.name, func(t *testing.T) {
			fsys := make(fstest.MapFS)
			for name, text := range p.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			all, err := packages(fsys)
			if err != nil {
				t.Fatal(err)
			}
			found := r(all)
			switch {
			case p.want == "" && len(found) > 0:
				t.Errorf("found %q where nothing is wrong", found)
			case p.want != "" && (len(found) != 1 || !strings.Contains(found[0], p.want)):
				t.Errorf("found %q, want one finding with %q", found, p.want)
			}
		})
	}
}

func TestSourceSkipsWhatIsNoPartOfTheModule(t *testing.T) {
	text := &fstest.MapFile{Data: []byte("package x\n")}
	all, err := packages(fstest.MapFS{
		"go.mod":            {},
		"a/a.go":            text,
		"a/b/b.go":          text,
		"a/testdata/t.go":   text,
		".cache/c.go":       text,
		"nested/go.mod":     {},
		"nested/deep/n.go":  text,
		"documents/text.md": {Data: []byte("package x")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, p := range all {
		paths = append(paths, p.path)
	}
	if want := []string{"a", "a/b"}; !slices.Equal(paths, want) {
		t.Errorf("packages are %q, want %q", paths, want)
	}
}
