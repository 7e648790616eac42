package varve_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// onePackageComment finds packages without a comment, with two, or with one that says next to
// nothing. Two would be shown in an order that nobody chose.
func onePackageComment(all []pkg) []string {
	var findings []string
	for _, p := range all {
		var comments []string
		var where []string
		files := 0
		for _, s := range p.sources {
			if s.isTest() {
				continue
			}
			files++
			if s.file.Doc != nil && s.file.Doc.Text() != "" {
				comments = append(comments, s.file.Doc.Text())
				where = append(where, s.name)
			}
		}
		switch {
		case files == 0:
		case len(comments) == 0:
			findings = append(findings, fmt.Sprintf("package %s has no package comment", p.path))
		case len(comments) > 1:
			findings = append(findings, fmt.Sprintf("package %s has %d package comments: %s", p.path, len(comments), strings.Join(where, ", ")))
		case !isProse(comments[0]):
			findings = append(findings, fmt.Sprintf("%s: the package comment tells a newcomer too little: %q", where[0], comments[0]))
		}
	}
	return findings
}

// isProse asks for two sentences or 80 characters, the least that can say what a package is for and
// what it leaves to others.
func isProse(comment string) bool {
	text := strings.Join(strings.Fields(comment), " ")
	return len(text) >= 80 || strings.Count(text+" ", ". ") >= 2
}

// everyExportedNameDocumented finds exported names without a comment. A group of constants or
// variables may share one; methods count when their type is exported.
func everyExportedNameDocumented(all []pkg) []string {
	var findings []string
	for _, p := range all {
		for _, s := range p.written() {
			for _, decl := range s.file.Decls {
				for _, name := range undocumented(decl) {
					findings = append(findings, fmt.Sprintf("%s: %s has no comment", s.at(name.Pos()), name.Name))
				}
			}
		}
	}
	return findings
}

func undocumented(decl ast.Decl) []*ast.Ident {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || receiver(d).IsExported() && !saysItself(d)) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		var names []*ast.Ident
		for _, spec := range d.Specs {
			names = append(names, undocumentedSpec(d, spec)...)
		}
		return names
	}
	return nil
}

func undocumentedSpec(d *ast.GenDecl, spec ast.Spec) []*ast.Ident {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		switch {
		case !s.Name.IsExported():
		case s.Doc == nil && s.Comment == nil && (d.Doc == nil || d.Lparen.IsValid()):
			return []*ast.Ident{s.Name}
		default:
			return undocumentedMethods(s)
		}
	case *ast.ValueSpec:
		if d.Doc != nil || s.Doc != nil || s.Comment != nil {
			return nil
		}
		for _, name := range s.Names {
			if name.IsExported() {
				return []*ast.Ident{name}
			}
		}
	}
	return nil
}

// saysItself reports whether a method is one that everybody knows from errors and from fmt.
func saysItself(d *ast.FuncDecl) bool {
	return slices.Contains([]string{"Error", "Unwrap", "String"}, d.Name.Name)
}

// undocumentedMethods returns the methods of an exported interface without a comment. An interface of
// up to five methods is one that a consumer declares; it says above whom it describes. Whoever
// implements a larger one has nothing else to go by.
func undocumentedMethods(s *ast.TypeSpec) []*ast.Ident {
	declared, ok := s.Type.(*ast.InterfaceType)
	if !ok || declared.Methods.NumFields() <= 5 {
		return nil
	}
	var names []*ast.Ident
	for _, method := range declared.Methods.List {
		if method.Doc == nil && method.Comment == nil && len(method.Names) > 0 && method.Names[0].IsExported() {
			names = append(names, method.Names[0])
		}
	}
	return names
}

// receiver returns the name of the type that a method belongs to.
func receiver(d *ast.FuncDecl) *ast.Ident {
	expr := d.Recv.List[0].Type
	for {
		switch t := expr.(type) {
		case *ast.StarExpr:
			expr = t.X
		case *ast.IndexExpr:
			expr = t.X
		case *ast.IndexListExpr:
			expr = t.X
		case *ast.Ident:
			return t
		default:
			return ast.NewIdent(token.ILLEGAL.String())
		}
	}
}

// link matches the target of a Markdown link.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// brokenLinks finds relative links in Markdown files that lead nowhere.
func brokenLinks(fsys fs.FS) ([]string, error) {
	var findings []string
	err := walk(fsys, func(name string, d fs.DirEntry) error {
		if d.IsDir() || path.Ext(name) != ".md" {
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		for number, line := range strings.Split(string(text), "\n") {
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				target, _, _ := strings.Cut(match[1], "#")
				if target == "" || strings.Contains(target, ":") {
					continue
				}
				if !exists(fsys, path.Join(path.Dir(name), target)) {
					findings = append(findings, fmt.Sprintf("%s:%d: the link to %s leads nowhere", name, number+1, match[1]))
				}
			}
		}
		return nil
	})
	return findings, err
}

func TestEveryPackageHasOnePackageComment(t *testing.T) { uphold(t, onePackageComment, ".", "test") }

func TestEveryExportedNameIsDocumented(t *testing.T) {
	uphold(t, everyExportedNameDocumented, ".", "test")
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	findings, err := brokenLinks(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range findings {
		t.Error(finding)
	}
}

func TestPackageCommentsThatFailAreFound(t *testing.T) {
	const long = "// Package a cuts a stream of bytes into pieces at places that depend on the bytes alone, so that they are found again.\n"
	catches(t, onePackageComment, []planting{
		{"long", map[string]string{"a/a.go": long + "package a\n", "a/b.go": "package a\n"}, ""},
		{"two sentences", map[string]string{"a/a.go": "// Package a cuts bytes. It reads them once.\npackage a\n"}, ""},
		{"only tests", map[string]string{"a/a_test.go": "package a\n"}, ""},
		{"none", map[string]string{"a/a.go": "package a\n"}, "package a has no package comment"},
		{"a comment above it that is not its own", map[string]string{"a/a.go": long + "\npackage a\n"}, "package a has no package comment"},
		{"only a test has one", map[string]string{"a/a.go": "package a\n", "a/a_test.go": long + "package a\n"}, "package a has no package comment"},
		{"only a directive", map[string]string{"a/a.go": "//go:build linux\npackage a\n"}, "package a has no package comment"},
		{"two", map[string]string{"a/a.go": long + "package a\n", "a/b.go": long + "package a\n"}, "2 package comments: a/a.go, a/b.go"},
		{"next to nothing", map[string]string{"a/a.go": "// Package a is for a.\npackage a\n"}, "tells a newcomer too little"},
	})
}

func TestUndocumentedNamesAreFound(t *testing.T) {
	in := func(text string) map[string]string { return map[string]string{"a/a.go": "package a\n\n" + text + "\n"} }
	catches(t, everyExportedNameDocumented, []planting{
		{"func", in("func Open() {}"), "a/a.go:3: Open has no comment"},
		{"documented func", in("// Open opens.\nfunc Open() {}"), ""},
		{"unexported func", in("func open() {}"), ""},
		{"method", in("func (r *Reader) Close() {}"), "Close has no comment"},
		{"method that everybody knows", in("func (e *Failure) Error() string { return e.text }"), ""},
		{"function of that name", in("func Error() {}"), "Error has no comment"},
		{"method of a generic type", in("func (r *Reader[T]) Close() {}"), "Close has no comment"},
		{"method of an unexported type", in("func (r reader) Close() {}"), ""},
		{"type", in("type Reader struct{}"), "Reader has no comment"},
		{"type in a group whose comment speaks of all", in("// These are types.\ntype (\n\tReader struct{}\n)"), "Reader has no comment"},
		{"interface", in("// Store keeps.\ntype Store interface {\n\tGet()\n\tPut() // Put puts.\n\t// Size counts.\n\tA()\n\tB() // b\n\tC() // c\n\tD() // d\n}"), "Get has no comment"},
		{"small interface", in("// Store gets and puts.\ntype Store interface {\n\tGet()\n\tPut()\n}"), ""},
		{"constant", in("const Max = 1"), "Max has no comment"},
		{"constants under one comment", in("// Limits.\nconst (\n\tMax = 1\n\tMin = 0\n)"), ""},
		{"one constant of a group", in("const (\n\tMax = 1 // the most\n\tMin = 0\n)"), "Min has no comment"},
		{"variable", in("var ErrGone = error(nil)"), "ErrGone has no comment"},
		{"generated", map[string]string{"a/z.go": "// Code generated by hand. DO NOT EDIT.\n\npackage a\n\nfunc Open() {}\n"}, ""},
		{"test", map[string]string{"a/a_test.go": "package a\n\nfunc Open() {}\n"}, ""},
	})
}

func TestBrokenLinksAreFound(t *testing.T) {
	found, err := brokenLinks(fstest.MapFS{
		"README.md":     {Data: []byte("[a](docs/a.md) [b](docs/b.md#part) [c](https://example.com/x) [d](#here)\n")},
		"docs/a.md":     {Data: []byte("[up](../README.md) [folder](.)\n\n[gone](b.md)\n")},
		"docs/x/a.md":   {Data: []byte("[up](../a.md)")},
		"nested/go.mod": {},
		"nested/a.md":   {Data: []byte("[gone](gone.md)")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"README.md:1: the link to docs/b.md#part leads nowhere",
		"docs/a.md:3: the link to b.md leads nowhere",
	}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("found %q, want %q", found, want)
	}
}
