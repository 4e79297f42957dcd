package api

import (
	"cmp"
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// module is the path in front of our packages.
const module = "github.com/dlreconcile/dlreconcile/"

// schemaWriter writes OpenAPI schemas of Go types as encoding/json has them, with
// their comments.
type schemaWriter struct {
	t     *testing.T
	own   map[string]bool         // names that are written by hand
	named map[string]reflect.Type // what is written, by name
	docs  map[string]*packageDocs // by import path
}

// packageDocs are the comments and constants of a package.
type packageDocs struct {
	types  map[string]string   // comment by type
	fields map[string]string   // by "Type.Field"
	consts map[string][]string // values of the constants of a string type
}

var (
	textType = reflect.TypeFor[encoding.TextMarshaler]()
	jsonType = reflect.TypeFor[json.Marshaler]()
	timeType = reflect.TypeFor[time.Time]()
)

// of gives the schema of t in flow style, and sees to it that what it refers to is
// written.
func (w *schemaWriter) of(t reflect.Type) string {
	switch {
	case t == timeType:
		return "{type: string, format: date-time}"
	case w.own[t.Name()] && strings.HasPrefix(t.PkgPath(), module):
		return w.ref(t.Name())
	case t == reflect.TypeFor[json.RawMessage]():
		return "{}"
	case t.Implements(jsonType):
		w.t.Fatalf("%v writes its own JSON: describe it by hand in docs/openapi.yaml", t)
	case t.Implements(textType):
		return "{type: string}"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return w.of(t.Elem())
	case reflect.String:
		if t.PkgPath() != "" && len(w.docsOf(t).consts[t.Name()]) > 0 {
			return w.name(t)
		}
		return "{type: string}"
	case reflect.Bool:
		return "{type: boolean}"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "{type: integer}"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "{type: integer, minimum: 0}"
	case reflect.Float64:
		return "{type: number}"
	case reflect.Interface:
		return "{}"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "{type: string, format: byte}"
		}
		return "{type: array, items: " + w.of(t.Elem()) + "}"
	case reflect.Map:
		return "{type: object, additionalProperties: " + w.of(t.Elem()) + "}"
	case reflect.Struct:
		return w.name(t)
	}
	w.t.Fatalf("no schema for %v", t)
	return ""
}

func (w *schemaWriter) ref(name string) string {
	return `{$ref: "#/components/schemas/` + name + `"}`
}

// name refers to a type by its name; of two with one name, the second has its
// package's before it.
func (w *schemaWriter) name(t reflect.Type) string {
	name := t.Name()
	if have, ok := w.named[name]; ok && have != t {
		pkg := t.PkgPath()[strings.LastIndex(t.PkgPath(), "/")+1:]
		name = strings.ToUpper(pkg[:1]) + pkg[1:] + name
	}
	if have, ok := w.named[name]; ok && have != t {
		w.t.Fatalf("two types are called %s: %v and %v", name, have, t)
	} else if !ok {
		w.named[name] = t
		if t.Kind() == reflect.Struct { // what it refers to gets its names in the same order each time
			for f := range w.fields(t) {
				w.of(f.Type)
			}
		}
	}
	return w.ref(name)
}

// fields gives what encoding/json writes of a struct, with those of embedded ones.
func (w *schemaWriter) fields(t reflect.Type) func(func(reflect.StructField, string) bool) {
	return func(yield func(reflect.StructField, string) bool) {
		for _, f := range reflect.VisibleFields(t) {
			tag := f.Tag.Get("json")
			if f.Anonymous && tag == "" || !f.IsExported() || tag == "-" {
				continue
			}
			if tag == "" {
				tag = f.Name
			}
			if !yield(f, tag) {
				return
			}
		}
	}
}

// owner is the struct in which a field is written down.
func owner(t reflect.Type, f reflect.StructField) reflect.Type {
	for _, i := range f.Index[:len(f.Index)-1] {
		t = t.Field(i).Type
	}
	return t
}

// text writes all schemas that were named, sorted.
func (w *schemaWriter) text() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(w.named)) {
		t := w.named[name]
		d := w.docsOf(t)
		fmt.Fprintf(&b, "    %s:\n", name)
		if doc := d.types[t.Name()]; doc != "" {
			fmt.Fprintf(&b, "      description: %s\n", strconv.Quote(doc))
		}
		if t.Kind() == reflect.String {
			fmt.Fprintf(&b, "      type: string\n      enum: [%s]\n", strings.Join(quoted(d.consts[t.Name()]), ", "))
			continue
		}
		b.WriteString("      type: object\n")
		var required []string
		var props strings.Builder
		for f, tag := range w.fields(t) {
			prop, rest, _ := strings.Cut(tag, ",")
			optional := strings.Contains(rest, "omitempty") || strings.Contains(rest, "omitzero")
			if !optional {
				required = append(required, prop)
			}
			s := w.of(f.Type)
			o := owner(t, f)
			doc := w.docsOf(o).fields[o.Name()+"."+f.Name]
			null := f.Type.Kind() == reflect.Pointer && !optional
			ref := strings.Contains(s, "{$ref") && !strings.HasPrefix(s, "{type")
			if ref && (doc != "" || null) {
				s = "{allOf: [" + s + "]}" // beside a reference nothing else counts
			}
			if null {
				s = strings.TrimSuffix(s, "}") + ", nullable: true}"
			}
			if doc != "" && s != "{}" {
				s = strings.TrimSuffix(s, "}") + ", description: " + strconv.Quote(doc) + "}"
			}
			fmt.Fprintf(&props, "        %s: %s\n", prop, s)
		}
		if len(required) > 0 {
			fmt.Fprintf(&b, "      required: [%s]\n", strings.Join(required, ", "))
		}
		if props.Len() > 0 {
			b.WriteString("      properties:\n" + props.String())
		}
	}
	return b.String()
}

func quoted(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = strconv.Quote(s)
	}
	return out
}

// docsOf reads the package of a type.
func (w *schemaWriter) docsOf(t reflect.Type) *packageDocs {
	path := t.PkgPath()
	if d := w.docs[path]; d != nil {
		return d
	}
	d := &packageDocs{types: map[string]string{}, fields: map[string]string{}, consts: map[string][]string{}}
	w.docs[path] = d
	rel, ok := strings.CutPrefix(path, module)
	if !ok {
		return d
	}
	files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(rel), "*.go"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, decl := range f.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				d.read(g)
			}
		}
	}
	return d
}

func (d *packageDocs) read(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			d.types[spec.Name.Name] = flat(cmp.Or(spec.Doc, g.Doc))
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range s.Fields.List {
				for _, n := range f.Names {
					d.fields[spec.Name.Name+"."+n.Name] = strings.TrimSpace(flat(f.Doc) + " " + flat(f.Comment))
				}
			}
		case *ast.ValueSpec:
			of, ok := spec.Type.(*ast.Ident)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, _ := strconv.Unquote(lit.Value)
					d.consts[of.Name] = append(d.consts[of.Name], text)
				}
			}
		}
	}
}

// flat is a comment as one line.
func flat(c *ast.CommentGroup) string {
	return strings.Join(strings.Fields(c.Text()), " ")
}
