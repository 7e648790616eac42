package varve_test

import (
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// Limits of what a person keeps in mind at once. The aim is less: files of about 400 lines, functions
// of about 60.
const (
	maxFileLines     = 500
	maxFunctionLines = 80
	maxParameters    = 5 // besides a context
)

// drawers are names under which things are put that have no place.
var drawers = []string{"util", "utils", "common", "helper", "helpers", "base", "impl", "misc", "shared", "types", "manager", "pkg", "internal", "lib", "core"}

// nothingTooLarge finds files and functions over the limits, apart from tests, and functions that take so many
// parameters that a call does not say what they are.
func nothingTooLarge(all []pkg) []string {
	var findings []string
	for _, p := range all {
		for _, s := range p.written() {
			if s.lines > maxFileLines && !p.isTestPackage() {
				findings = append(findings, fmt.Sprintf("%s: has %d lines, the limit is %d", s.name, s.lines, maxFileLines))
			}
			for _, decl := range s.file.Decls {
				d, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				lines := s.fset.Position(d.End()).Line - s.fset.Position(d.Pos()).Line + 1
				if lines > maxFunctionLines && !p.isTestPackage() {
					findings = append(findings, fmt.Sprintf("%s: %s has %d lines, the limit is %d", s.at(d.Pos()), d.Name.Name, lines, maxFunctionLines))
				}
				if n := parameters(d); n > maxParameters {
					findings = append(findings, fmt.Sprintf("%s: %s takes %d parameters, the limit is %d; make them a struct", s.at(d.Pos()), d.Name.Name, n, maxParameters))
				}
			}
		}
	}
	return findings
}

// parameters counts the parameters of a function besides a leading context.
func parameters(d *ast.FuncDecl) int {
	n := d.Type.Params.NumFields()
	if n == 0 {
		return 0
	}
	if first, ok := d.Type.Params.List[0].Type.(*ast.SelectorExpr); ok && first.Sel.Name == "Context" {
		n--
	}
	return n
}

// nothingMisplaced finds names of drawers, types that are Managers or Helpers, and init functions,
// which change the program of everyone who imports them.
func nothingMisplaced(all []pkg) []string {
	var findings []string
	for _, p := range all {
		for element := range strings.SplitSeq(p.path, "/") {
			if slices.Contains(drawers, element) {
				findings = append(findings, fmt.Sprintf("package %s: %q says nothing of what is inside", p.path, element))
			}
		}
		for _, s := range p.written() {
			if stem := strings.TrimSuffix(path.Base(s.name), ".go"); slices.Contains(drawers, stem) {
				findings = append(findings, fmt.Sprintf("%s: %q says nothing of what is inside", s.name, stem))
			}
			for _, decl := range s.file.Decls {
				findings = append(findings, misplaced(s, decl)...)
			}
		}
	}
	return findings
}

func misplaced(s source, decl ast.Decl) []string {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.Name == "init" {
			return []string{fmt.Sprintf("%s: init runs for everyone who imports this; say it where it is needed", s.at(d.Pos()))}
		}
	case *ast.GenDecl:
		var findings []string
		for _, spec := range d.Specs {
			named, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			for _, suffix := range []string{"Manager", "Helper", "Impl", "Util", "Utils"} {
				if strings.HasSuffix(named.Name.Name, suffix) {
					findings = append(findings, fmt.Sprintf("%s: %s does not say what it is or does", s.at(named.Pos()), named.Name.Name))
				}
			}
		}
		return findings
	}
	return nil
}

func TestNothingIsTooLarge(t *testing.T) { uphold(t, nothingTooLarge, ".", "test") }

func TestEverythingHasItsPlace(t *testing.T) { uphold(t, nothingMisplaced, ".", "test") }

func TestWhatIsTooLargeIsFound(t *testing.T) {
	function := func(lines int) string { return "func f() {" + strings.Repeat("\n", lines-1) + "}\n" }
	catches(t, nothingTooLarge, []planting{
		{"file at the limit", map[string]string{"a/a.go": "package a" + strings.Repeat("\n", 500)}, ""},
		{"file over the limit", map[string]string{"a/a.go": "package a" + strings.Repeat("\n", 501)}, "a/a.go: has 501 lines"},
		{"test over the limit", map[string]string{"a/a_test.go": "package a" + strings.Repeat("\n", 501)}, ""},
		{"test package over the limit", map[string]string{"a/atest/a.go": "package atest" + strings.Repeat("\n", 501)}, ""},
		{"function at the limit", map[string]string{"a/a.go": "package a\n\n" + function(80)}, ""},
		{"function over the limit", map[string]string{"a/a.go": "package a\n\n" + function(81)}, "a/a.go:3: f has 81 lines"},
		{"five parameters and a context", map[string]string{"a/a.go": "package a\n\nfunc f(ctx context.Context, a, b, c, d, e int) {}\n"}, ""},
		{"six parameters", map[string]string{"a/a.go": "package a\n\nfunc f(a, b, c, d, e, f int) {}\n"}, "f takes 6 parameters"},
	})
}

func TestWhatIsMisplacedIsFound(t *testing.T) {
	catches(t, nothingMisplaced, []planting{
		{"clean", map[string]string{"repo/open.go": "package repo\n\ntype Writer struct{}\n\nfunc (Writer) init() {}\n"}, ""},
		{"drawer", map[string]string{"repo/util/a.go": "package util\n"}, "\"util\" says nothing"},
		{"file", map[string]string{"repo/helpers.go": "package repo\n"}, "\"helpers\" says nothing"},
		{"type", map[string]string{"repo/a.go": "package repo\n\ntype LockManager struct{}\n"}, "LockManager does not say"},
		{"init", map[string]string{"repo/a.go": "package repo\n\nfunc init() {}\n"}, "init runs for everyone"},
	})
}
