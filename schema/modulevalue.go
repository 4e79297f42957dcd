package schema

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// inputValue gives the value of a module's variable: what the module block says, in
// the scope of that block, or else the default.
func (l *loader) inputValue(name string, v *variable) (cty.Value, hcl.Diagnostics) {
	b := l.blocks["variable."+name]
	given := l.call.body.attrs[name]
	depth := b.depth
	if given != nil {
		v.at, depth = given.Expr.Range(), l.call.depth
	} else if e := b.expressionOf("default"); e != nil {
		v.at = e.Range()
	}
	return v.input.get(l, l.title("var."+name), v.at, depth, func() (raw cty.Value, diags hcl.Diagnostics) {
		if given != nil {
			raw, diags = l.eval(given.Expr, l.call.ctx)
		} else {
			raw, diags = l.eval(b.expressionOf("default"), l.root)
		}
		if diags.HasErrors() {
			if v.sensitive && untold(diags) {
				if diags = (hcl.Diagnostics{hidden(name, v.at)}); given != nil {
					diags = hcl.Diagnostics{hiddenInput(name, v.at)}
				}
			}
			return raw, diags
		}
		raw, d := l.fit(v, name, raw, v.at)
		if d != nil {
			diags = append(diags, d)
		}
		return raw, diags
	})
}

// outputValue gives what a module says of itself.
func (l *loader) outputValue(name string) (cty.Value, hcl.Diagnostics) {
	b := l.blocks["output."+name]
	e := b.expressionOf("value")
	if e == nil {
		return cty.DynamicVal, hcl.Diagnostics{alreadyReported}
	}
	o := b.values["value"]
	if o == nil {
		o = &once{}
		b.values["value"] = o
	}
	return o.get(l, l.title(name), e.Range(), b.depth, func() (cty.Value, hcl.Diagnostics) { return l.eval(e, l.root) })
}

// outputNames lists what a module says of itself.
func (l *loader) outputNames() []string {
	var names []string
	for _, b := range l.order {
		if b.addr.Kind == "output" {
			names = append(names, b.addr.Name)
		}
	}
	return names
}

// outputs gives all of a module, by name.
func (l *loader) outputs() (cty.Value, hcl.Diagnostics) {
	return l.everything.get(l, l.module, l.call.at, 0, func() (cty.Value, hcl.Diagnostics) {
		all := map[string]cty.Value{}
		for _, name := range l.outputNames() {
			v, diags := l.outputValue(name)
			if diags.HasErrors() {
				return cty.DynamicVal, diags
			}
			all[name] = v
		}
		return cty.ObjectVal(all), nil
	})
}

// modulesOf gives all of the modules of a block with for_each, by key.
func (l *loader) modulesOf(b *block) (cty.Value, hcl.Diagnostics) {
	keys, diags := l.keysOf(b)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	o := b.values["*"]
	if o == nil {
		o = &once{}
		b.values["*"] = o
	}
	return o.get(l, b.addr.String(), b.at, 0, func() (cty.Value, hcl.Diagnostics) {
		all := map[string]cty.Value{}
		for _, k := range keys.names {
			m, diags := l.child(b, k)
			if diags.HasErrors() {
				return cty.DynamicVal, diags
			}
			if all[k], diags = m.outputs(); diags.HasErrors() {
				return cty.DynamicVal, diags
			}
		}
		return cty.ObjectVal(all), nil
	})
}

// bindModule binds module.rack.entry, module.rack["a"].entry, module.rack.
func (l *loader) bindModule(e *hclsyntax.ScopeTraversalExpr, sc scope) hclsyntax.Expression {
	name := step(e.Traversal, 1)
	b := l.blocks["module."+name]
	if b == nil {
		return l.refuse(e, l.unknownName(e, "module", name, l.moduleNames()))
	}
	rest := e.Traversal[2:]
	if b.forEach == nil {
		if len(rest) > 0 {
			if key, ok := indexKey(rest[0]); ok {
				return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("%s has no keys", b), fmt.Sprintf("Its block has no for_each, so there is one of it: write %s without [%s].", b, keyText(key))))
			}
		}
		return l.bindOutput(e, sc, b, nil, rest)
	}
	if len(rest) == 0 {
		sc.usage.output(b, "")
		return &modulesExpr{Expression: e, s: l.shared, block: b.addr}
	}
	key, ok := indexKey(rest[0])
	if !ok {
		return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("Invalid reference to %s", b), fmt.Sprintf("%s has for_each, so it stands for many: say which with %s[\"…\"].", b, b)))
	}
	return l.bindOutput(e, sc, b, &hclsyntax.LiteralValueExpr{Val: key, SrcRange: e.SrcRange}, rest[1:])
}

// moduleIndex binds module.rack[each.key].entry, whose key is not constant. It gives
// nil for anything else.
func (l *loader) moduleIndex(e *hclsyntax.RelativeTraversalExpr, sc scope) hclsyntax.Expression {
	index, ok := e.Source.(*hclsyntax.IndexExpr)
	if !ok {
		return nil
	}
	t, ok := index.Collection.(*hclsyntax.ScopeTraversalExpr)
	if !ok || sc.template || sc.constant || t.Traversal.RootName() != "module" || slices.Contains(sc.names, "module") || len(t.Traversal) != 2 {
		return nil
	}
	b := l.blocks["module."+step(t.Traversal, 1)]
	if b == nil || b.forEach == nil {
		return nil
	}
	return l.bindOutput(e, sc, b, l.compile(index.Key, sc), e.Traversal)
}

// bindOutput binds what follows the name of a module.
func (l *loader) bindOutput(e hclsyntax.Expression, sc scope, b *block, key hclsyntax.Expression, rest hcl.Traversal) hclsyntax.Expression {
	f := l.folders[b.folder]
	if f == nil {
		return &failedExpr{e}
	}
	x := &moduleExpr{Expression: e, s: l.shared, block: b.addr, key: key}
	if len(rest) > 0 {
		x.output, x.rest = step(rest, 0), rest[1:]
		if f.blocks["output."+x.output] == nil {
			return l.refuse(e, l.noOutput(e.Range(), b, f, x.output))
		}
	}
	sc.usage.output(b, x.output)
	return x
}

// noOutput explains a name that a module does not give.
func (l *loader) noOutput(at hcl.Range, b *block, f *loader, name string) *hcl.Diagnostic {
	summary := fmt.Sprintf("%s has no output %q", b, name)
	switch {
	case slices.Contains(resourceKinds, name):
		return mistake(at, summary, fmt.Sprintf("What is in a module is named outside of it by its outputs only. Add one to %q: output \"name\" { value = %s }, on lines of their own.", f.dir, example(name)))
	case len(f.outputNames()) == 0:
		return mistake(at, summary, fmt.Sprintf("The module in %q has no outputs. Add one: output %q { value = … }, on lines of their own.", f.dir, name))
	}
	return mistake(at, summary, fmt.Sprintf("The outputs of the module in %q are %s.%s", f.dir, listed(slices.Sorted(slices.Values(f.outputNames())), "and"), l.hint(name, f.outputNames())))
}

// moduleExpr is an output of a module, or all of them.
type moduleExpr struct {
	hclsyntax.Expression
	s      *shared
	block  Addr
	key    hclsyntax.Expression // nil: it has no for_each
	output string               // "": all
	rest   hcl.Traversal
}

func (e *moduleExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	l := e.s.of(ctx)
	b, key := l.blockAt(e.block), ""
	if e.key != nil {
		var diags hcl.Diagnostics
		if key, diags = l.keyIn(b, e.key, ctx, e.Range()); diags.HasErrors() || key == "" {
			return cty.DynamicVal, diags
		}
	}
	m, diags := l.child(b, key)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	if e.output == "" {
		return m.outputs()
	}
	v, diags := m.outputValue(e.output)
	if diags.HasErrors() || len(e.rest) == 0 {
		return v, diags
	}
	return e.rest.TraverseRel(v)
}

// modulesExpr is every module of a block with for_each, by key.
type modulesExpr struct {
	hclsyntax.Expression
	s     *shared
	block Addr
}

func (e *modulesExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	l := e.s.of(ctx)
	return l.modulesOf(l.blockAt(e.block))
}
