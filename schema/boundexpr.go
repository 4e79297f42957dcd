package schema

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// What names are bound to. Expressions are compiled once for all modules of a folder,
// so these ask for which of them they are evaluated.

// boundExpr is a name whose value is asked for when it is needed, and not before:
// that is what makes dependencies go by attribute and not by block.
type boundExpr struct {
	hclsyntax.Expression
	s    *shared
	get  func(*loader) (cty.Value, hcl.Diagnostics)
	rest hcl.Traversal
}

func (e *boundExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.get(e.s.of(ctx))
	if diags.HasErrors() || len(e.rest) == 0 {
		return v, diags
	}
	return e.rest.TraverseRel(v)
}

// keyedExpr is one instance of a block with for_each.
type keyedExpr struct {
	hclsyntax.Expression
	s     *shared
	block Addr
	key   hclsyntax.Expression
}

func (e *keyedExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	l := e.s.of(ctx)
	b := l.blockAt(e.block)
	key, diags := l.keyIn(b, e.key, ctx, e.Range())
	if diags.HasErrors() || key == "" {
		return cty.DynamicVal, diags
	}
	a := b.addr
	a.Key = key
	return l.reference(a), nil
}

// keyIn evaluates a key of a block with for_each, which must have it; "" when it is
// not known.
func (l *loader) keyIn(b *block, e hclsyntax.Expression, ctx *hcl.EvalContext, at hcl.Range) (string, hcl.Diagnostics) {
	v, diags := e.Value(ctx)
	if diags.HasErrors() {
		return "", diags
	}
	v, marks := v.Unmark()
	if !v.IsKnown() {
		return "", nil
	}
	if len(marks) > 0 {
		return "", hcl.Diagnostics{mistake(at, "A sensitive key in a reference", "Which resource is meant is shown in plans, so it cannot come from a sensitive value.")}
	}
	if v.Type() != cty.String || v.IsNull() {
		return "", hcl.Diagnostics{mistake(at, fmt.Sprintf("Invalid key for %s", b.addr), "Keys of for_each are text.")}
	}
	keys, diags := l.keysOf(b)
	if diags.HasErrors() {
		return "", diags
	}
	a := b.addr
	a.Key = v.AsString()
	if !keys.has(a.Key) {
		return "", hcl.Diagnostics{mistake(at, fmt.Sprintf("%s is not declared", a), fmt.Sprintf("The for_each of %s has no such key.%s", b.addr, l.hint(a.Key, keys.names)))}
	}
	return a.Key, nil
}

// allExpr is every instance of a block with for_each, by key.
type allExpr struct {
	hclsyntax.Expression
	s     *shared
	block Addr
}

func (e *allExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	l := e.s.of(ctx)
	b := l.blockAt(e.block)
	keys, diags := l.keysOf(b)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	l.meter.spend(int64(len(keys.names)), 0, e.Range())
	if len(keys.names) == 0 {
		return cty.MapValEmpty(refType), nil
	}
	all := make(map[string]cty.Value, len(keys.names))
	for _, k := range keys.names {
		a := b.addr
		a.Key = k
		all[k] = l.reference(a)
	}
	return cty.MapVal(all), nil
}
