package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestLanguageReference holds docs/language.md against the tables of package schema:
// every kind of block has a section, every attribute and nested block of it is told
// in that section, or in the one on settings, and so is every function.
func TestLanguageReference(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "language.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range regexp.MustCompile(`(?m)^## `).Split(string(text), -1)[1:] {
		title, body, _ := strings.Cut(s, "\n")
		sections[strings.ToLower(title)] = body
	}
	told := func(section, word string) bool {
		// Alone in quotes, or as the beginning of a block or a call.
		return regexp.MustCompile("`" + regexp.QuoteMeta(word) + "[` ]").MatchString(sections[section])
	}
	tables := tablesOf(t)
	language := elements(tables["language"])
	if len(language) < 8 {
		t.Fatalf("found %d kinds of blocks in the language table: the test does not read it right", len(language))
	}
	attributes := 0
	for kind, spec := range language {
		later := isIdent(spec, "notYet")
		if later {
			if !told("not yet", kind) {
				t.Errorf("docs/language.md does not say that %s is not there yet", kind)
			}
			continue
		}
		if _, ok := sections[kind]; !ok {
			t.Errorf("docs/language.md has no section %q", kind)
			continue
		}
		for _, name := range names(tables, spec) {
			attributes++
			if !told(kind, name) && !told("settings", name) && !told("not yet", name) {
				t.Errorf("docs/language.md, section %s, does not tell of %s", kind, name)
			}
		}
	}
	if attributes < 60 {
		t.Errorf("found %d attributes and blocks in the language table: the test does not read it right", attributes)
	}
	functions := functionNames(t)
	if len(functions) < 60 {
		t.Errorf("found %d functions: the test does not read them right", len(functions))
	}
	for _, name := range functions {
		if !told("functions", name) {
			t.Errorf("docs/language.md does not tell of the function %s", name)
		}
	}
	for _, m := range regexp.MustCompile("`([a-z0-9]+)`").FindAllStringSubmatch(sections["functions"], -1) {
		if !slices.Contains(functions, m[1]) {
			t.Errorf("docs/language.md tells of the function %s, which does not exist", m[1])
		}
	}
}

func parseSchema(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "schema", file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// tablesOf gives the variables of package schema that are in the files of the
// language table, by name.
func tablesOf(t *testing.T) map[string]ast.Expr {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "schema", "language*.go"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files of the language table, %v", len(files), err)
	}
	out := map[string]ast.Expr{}
	for _, file := range files {
		for _, d := range parseSchema(t, filepath.Base(file)).Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, name := range v.Names {
					out[name.Name] = v.Values[i]
				}
			}
		}
	}
	return out
}

// elements gives the elements of a composite literal by their key.
func elements(e ast.Expr) map[string]ast.Expr {
	if u, ok := e.(*ast.UnaryExpr); ok {
		e = u.X
	}
	out := map[string]ast.Expr{}
	lit, ok := e.(*ast.CompositeLit)
	if !ok {
		return out
	}
	for _, el := range lit.Elts {
		kv, ok := el.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		switch k := kv.Key.(type) {
		case *ast.BasicLit:
			if name, err := strconv.Unquote(k.Value); err == nil {
				out[name] = kv.Value
			}
		case *ast.Ident:
			out[k.Name] = kv.Value
		}
	}
	return out
}

// names lists the attributes and blocks that a block's specification allows, at any
// depth. A specification, and the parts of one, may be variables of their own.
func names(tables map[string]ast.Expr, spec ast.Expr) []string {
	fields := elements(resolved(tables, spec))
	var out []string
	for name := range elements(resolved(tables, fields["attrs"])) {
		out = append(out, name)
	}
	for name, sub := range elements(resolved(tables, fields["blocks"])) {
		out = append(append(out, name), names(tables, sub)...)
	}
	if fields["forEach"] != nil {
		out = append(out, "for_each")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// resolved gives what a variable of the table holds, and other expressions as they are.
func resolved(tables map[string]ast.Expr, e ast.Expr) ast.Expr {
	if id, ok := e.(*ast.Ident); ok && tables[id.Name] != nil {
		return tables[id.Name]
	}
	return e
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// functionNames lists the functions of the language: the keys of the map that
// functions returns, and those that are evaluated in their own way.
func functionNames(t *testing.T) []string {
	t.Helper()
	out := []string{"can", "templatefile", "try"}
	for _, d := range parseSchema(t, "functions.go").Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "functions" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok && len(out) == 3 {
				for name := range elements(lit) {
					out = append(out, name)
				}
			}
			return true
		})
	}
	slices.Sort(out)
	return out
}
