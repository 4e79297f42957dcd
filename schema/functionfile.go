package schema

import (
	"fmt"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// fileFunc gives the text of a file of the tree.
func (l *loader) fileFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{text("path")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := l.utf8File(args[0].AsString())
			if err != nil {
				return cty.NilVal, err
			}
			if err := l.meter.afford(1+int64(len(s))/bytesPerStep, int64(len(s))); err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(s), nil
		},
	})
}

func (l *loader) utf8File(name string) (string, error) {
	s, err := l.tree.text(l.path(name), maxDataBytes)
	if err == nil && !utf8.ValidString(s) {
		err = &fileError{fmt.Sprintf("%q is not UTF-8 text", name), "Only text can be used in expressions. To put the file into an image, write source = instead."}
	}
	return s, l.ofFile(err)
}

// template is a parsed and compiled template file.
type template struct {
	expr  hclsyntax.Expression
	words int64
	depth int
	diags hcl.Diagnostics
}

func (l *loader) template(given string) (*template, error) {
	name := l.path(given)
	// Paths in a template are those of the module that renders it.
	id := l.dir + "\x00" + name
	if t := l.templates[id]; t != nil {
		l.tree.note(name)
		return t, nil
	}
	s, err := l.utf8File(given)
	if err != nil {
		return nil, err
	}
	l.sources[name] = []byte(s)
	t := &template{words: int64(words(s))}
	if t.expr, t.diags = parseTemplate([]byte(s), name, firstByte); !t.diags.HasErrors() {
		depth, deepest, before := l.depth, l.deepest, len(l.diags)
		l.depth, l.deepest = 0, 0
		t.expr = l.compile(t.expr, scope{where: name, template: true})
		t.depth = l.deepest
		l.depth, l.deepest = depth, deepest
		t.diags = append(t.diags, l.diags[before:]...)
		l.diags = l.diags[:before:before]
	}
	l.templates[id] = t
	return t, nil
}

// templateExpr is a call of templatefile. It is no ordinary function, so that
// mistakes in the template are reported where they are in the template.
type templateExpr struct {
	hclsyntax.Expression
	s    *shared
	call *hclsyntax.FunctionCallExpr
}

func (e *templateExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	l := e.s.of(ctx)
	l.meter.spend(callSteps, 0, e.Range())
	path, diags := e.call.Args[0].Value(ctx)
	vars, more := e.call.Args[1].Value(ctx)
	if diags = append(diags, more...); diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	fail := func(summary, detail string) (cty.Value, hcl.Diagnostics) {
		return cty.DynamicVal, hcl.Diagnostics{mistake(e.Range(), summary, detail)}
	}
	if path.IsMarked() {
		return fail("A sensitive path for templatefile", "Which files are used is shown, so it cannot come from a sensitive value.")
	}
	vars, varMarks := vars.Unmark()
	if !path.IsKnown() || !vars.IsKnown() {
		return cty.UnknownVal(cty.String), nil
	}
	if path.IsNull() || path.Type() != cty.String {
		return fail("Invalid path for templatefile", "The first argument is the path of a file.")
	}
	if ty := vars.Type(); vars.IsNull() || !ty.IsObjectType() && !ty.IsMapType() {
		return fail("Invalid values for templatefile", "The second argument holds the values for the names in the template: { name = \"x\" }.")
	}
	names := make(map[string]cty.Value)
	for it := vars.ElementIterator(); it.Next(); {
		k, v := it.Element()
		names[k.AsString()] = v
	}
	name := path.AsString()
	t, err := l.template(name)
	if err != nil {
		return cty.DynamicVal, hcl.Diagnostics{fromError(e.Range(), err)}
	}
	if t.diags.HasErrors() {
		return cty.DynamicVal, t.diags
	}
	l.meter.spend(t.words/wordsPerStep, 0, e.Range())
	if d := l.enter("template "+l.path(name), e.Range(), t.depth); d != nil {
		return cty.DynamicVal, hcl.Diagnostics{d}
	}
	defer l.leave()
	child := l.root.NewChild()
	child.Variables = names
	v, diags := t.expr.Value(child)
	if diags.HasErrors() {
		return cty.DynamicVal, e.calledFrom(diags)
	}
	out, err := convert.Convert(v, cty.String)
	if err != nil {
		return fail(fmt.Sprintf("%q does not give text", name), sentence(err.Error()))
	}
	return out.WithMarks(varMarks), diags
}

// calledFrom adds, to mistakes in the template, where it is used.
func (e *templateExpr) calledFrom(diags hcl.Diagnostics) hcl.Diagnostics {
	out := make(hcl.Diagnostics, len(diags))
	for i, d := range diags {
		c := *d
		if _, silent := d.Extra.(reported); !silent {
			c.Detail += fmt.Sprintf(" (Rendered at %s.)", rangeOf(e.Range()))
		}
		out[i] = &c
	}
	return out
}
