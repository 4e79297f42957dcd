package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// failpointsInSource gives the names of all points and where each stands.
func failpointsInSource(t testing.TB) map[string]string {
	t.Helper()
	valid := regexp.MustCompile(`^[a-z0-9]+(\.[a-z0-9]+)+$`)
	names := map[string]string{}
	eachSource(t, func(rel string, fset *token.FileSet, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || calls(call) != "failpoint.Hit" {
				return true
			}
			at := rel + ":" + strconv.Itoa(fset.Position(call.Pos()).Line)
			lit, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the name of a failpoint is not a literal", at)
				return true
			}
			name, err := strconv.Unquote(lit.Value)
			if err != nil || !valid.MatchString(name) {
				t.Errorf("%s: %s is not the name of a failpoint: want area.step.instant", at, lit.Value)
			}
			if names[name] != "" {
				t.Errorf("%s: the failpoint %s stands at %s too", at, name, names[name])
			}
			names[name] = at
			return true
		})
	})
	return names
}

// eachSource calls f with every Go file of the program's packages.
func eachSource(t testing.TB, f func(rel string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		if pkg == "engine/failpoint" {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			f(pkg+"/"+name, fset, file)
		}
	}
}

// calls gives what a call calls, as far as its last two names.
func calls(call *ast.CallExpr) string {
	fun := call.Fun
	if index, ok := fun.(*ast.IndexExpr); ok {
		fun = index.X
	}
	sel, ok := fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	switch x := sel.X.(type) {
	case *ast.Ident:
		return x.Name + "." + sel.Sel.Name
	case *ast.SelectorExpr:
		return x.Sel.Name + "." + sel.Sel.Name
	}
	return "." + sel.Sel.Name
}
