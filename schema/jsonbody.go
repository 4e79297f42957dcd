package schema

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
)

// parseJSON turns a *.hcl.json file into the native form, so that everything after
// it, the limits of evaluation included, knows one syntax only. JSON does not say
// what is a block: spec does.
func parseJSON(src []byte, name string, spec *blockSpec) (*hclsyntax.Body, hcl.Diagnostics) {
	if d := checkJSON(src, name); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	root, diags := hcljson.ParseExpression(src, name)
	if diags.HasErrors() {
		return nil, diags
	}
	j := &jsonReader{}
	body := j.body(root, spec)
	return body, append(diags, j.diags...)
}

type jsonReader struct{ diags hcl.Diagnostics }

func (j *jsonReader) fail(at hcl.Range, summary, detail string) {
	j.diags = append(j.diags, mistake(at, summary, detail))
}

// property is one member of an object.
type property struct {
	name  string
	at    hcl.Range
	value hcl.Expression
}

// properties gives the members of an object, or of every object of an array.
func (j *jsonReader) properties(e hcl.Expression, what string) []property {
	var objects []hcl.Expression
	switch jsonKind(e) {
	case '{':
		objects = []hcl.Expression{e}
	case '[':
		objects, _ = hcl.ExprList(e)
	case 'n':
		return nil
	}
	if objects == nil && jsonKind(e) != '[' {
		j.fail(e.Range(), "A JSON object is needed", "Here go "+what+".")
		return nil
	}
	var out []property
	for _, o := range objects {
		pairs, diags := hcl.ExprMap(o)
		if diags.HasErrors() {
			j.fail(o.Range(), "A JSON object is needed", "Here go "+what+".")
			continue
		}
		for _, p := range pairs {
			v, _ := p.Key.Value(nil)
			if name := v.AsString(); name != "//" { // the usual comment
				out = append(out, property{name: name, at: p.Key.Range(), value: p.Value})
			}
		}
	}
	return out
}

func (j *jsonReader) body(e hcl.Expression, spec *blockSpec) *hclsyntax.Body {
	b := &hclsyntax.Body{Attributes: hclsyntax.Attributes{}, SrcRange: e.Range(), EndRange: e.Range()}
	for _, p := range j.properties(e, "attributes and blocks") {
		if sub := spec.blocks[p.name]; sub != nil {
			j.blocks(b, p.name, p.at, nil, nil, p.value, sub, len(sub.labels))
			continue
		}
		if old := b.Attributes[p.name]; old != nil {
			j.fail(p.at, fmt.Sprintf("Attribute %q written twice", p.name), fmt.Sprintf("It was written at %s already.", rangeOf(old.NameRange)))
			continue
		}
		var expr hclsyntax.Expression
		if spec.attrs[p.name] == static {
			expr = j.static(p.value)
		} else {
			expr = j.native(p.value)
		}
		b.Attributes[p.name] = &hclsyntax.Attribute{
			Name: p.name, Expr: expr, NameRange: p.at,
			SrcRange: hcl.RangeBetween(p.at, p.value.Range()), EqualsRange: p.at,
		}
	}
	// In the order of the file, as the native parser gives them.
	slices.SortStableFunc(b.Blocks, func(a, c *hclsyntax.Block) int {
		return cmp.Compare(a.TypeRange.Start.Byte, c.TypeRange.Start.Byte)
	})
	return b
}

// blocks peels labels off, one level of objects each, and adds a block for every
// body below.
func (j *jsonReader) blocks(b *hclsyntax.Body, kind string, at hcl.Range, labels []string, ranges []hcl.Range, e hcl.Expression, spec *blockSpec, left int) {
	if left > 0 && !(spec.labelOptional && left == len(spec.labels) && !j.labelled(e, spec)) {
		for _, p := range j.properties(e, "blocks by their "+spec.labels[len(spec.labels)-left]) {
			j.blocks(b, kind, at, append(slices.Clone(labels), p.name), append(slices.Clone(ranges), p.at), p.value, spec, left-1)
		}
		return
	}
	bodies := []hcl.Expression{e}
	switch jsonKind(e) {
	case 'n':
		return
	case '[':
		bodies, _ = hcl.ExprList(e)
	}
	for _, one := range bodies {
		b.Blocks = append(b.Blocks, &hclsyntax.Block{
			Type: kind, Labels: labels, TypeRange: at, LabelRanges: ranges,
			Body: j.body(one, spec), OpenBraceRange: one.StartRange(), CloseBraceRange: one.Range(),
		})
	}
}

// labelled tells { "initramfs-tools": {…} } from { "modules": […] } where the label
// may be left out.
func (j *jsonReader) labelled(e hcl.Expression, spec *blockSpec) bool {
	pairs, diags := hcl.ExprMap(e)
	if diags.HasErrors() || len(pairs) == 0 {
		return false
	}
	for _, p := range pairs {
		v, _ := p.Key.Value(nil)
		if _, isAttr := spec.attrs[v.AsString()]; isAttr {
			return false
		}
	}
	return true
}

// static reads a string as an expression that is looked at, not evaluated.
func (j *jsonReader) static(e hcl.Expression) hclsyntax.Expression {
	v, _ := e.Value(nil)
	if jsonKind(e) != '"' {
		return j.native(e)
	}
	expr, diags := parseExpression([]byte(v.AsString()), e.Range().Filename, inside(e))
	if diags.HasErrors() {
		j.diags = append(j.diags, diags...)
		return &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: e.Range()}
	}
	return expr
}

// native gives the same expression in the native form. Strings are templates.
func (j *jsonReader) native(e hcl.Expression) hclsyntax.Expression {
	switch jsonKind(e) {
	case '[':
		list, _ := hcl.ExprList(e)
		out := &hclsyntax.TupleConsExpr{SrcRange: e.Range(), OpenRange: e.StartRange()}
		for _, el := range list {
			out.Exprs = append(out.Exprs, j.native(el))
		}
		return out
	case '{':
		out := &hclsyntax.ObjectConsExpr{SrcRange: e.Range(), OpenRange: e.StartRange()}
		pairs, _ := hcl.ExprMap(e)
		for _, p := range pairs {
			out.Items = append(out.Items, hclsyntax.ObjectConsItem{
				KeyExpr:   &hclsyntax.ObjectConsKeyExpr{Wrapped: j.template(p.Key), ForceNonLiteral: true},
				ValueExpr: j.native(p.Value),
			})
		}
		return out
	case '"':
		return j.template(e)
	}
	v, _ := e.Value(nil)
	return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: e.Range()}
}

func (j *jsonReader) template(e hcl.Expression) hclsyntax.Expression {
	v, _ := e.Value(nil)
	expr, diags := parseTemplate([]byte(v.AsString()), e.Range().Filename, inside(e))
	if diags.HasErrors() {
		j.diags = append(j.diags, diags...)
		return &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: e.Range()}
	}
	return expr
}

// inside is the position behind the opening quotation mark. Escapes shift what
// comes after them; the line is right.
func inside(e hcl.Expression) hcl.Pos {
	p := e.Range().Start
	p.Byte++
	p.Column++
	return p
}

// jsonKind is the first character of the value: '{', '[', '"', 'n' for null, or
// '0' for numbers and booleans.
func jsonKind(e hcl.Expression) byte {
	if m, diags := hcl.ExprMap(e); !diags.HasErrors() && m != nil {
		return '{'
	}
	if l, diags := hcl.ExprList(e); !diags.HasErrors() && l != nil {
		return '['
	}
	v, _ := e.Value(nil)
	switch {
	case v.IsNull():
		return 'n'
	case v.Type() == cty.String:
		return '"'
	}
	return '0'
}
