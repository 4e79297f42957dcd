package schema

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// refType is the type of references in expressions: `image.arch` is a resource's
// identity, and has no attributes and no text.
var refType = cty.CapsuleWithOps("reference", reflect.TypeFor[Addr](), &cty.CapsuleOps{
	GoString:     func(v any) string { return v.(*Addr).String() },
	TypeGoString: func(reflect.Type) string { return "reference" },
	RawEquals:    func(a, b any) bool { return *a.(*Addr) == *b.(*Addr) },
	HashKey:      func(v any) string { return v.(*Addr).String() },
})

// serverValues are the attributes of a server that expressions may use.
var serverValues = []string{"address", "interface"}

// bind gives what a name stands for, or reports that it stands for nothing.
func (l *loader) bind(e *hclsyntax.ScopeTraversalExpr, sc scope) hclsyntax.Expression {
	t := e.Traversal
	root := t.RootName()
	if sc.template || slices.Contains(sc.names, root) {
		return e
	}
	switch {
	case sc.constant:
		return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("No names can be used here, but %q is", root), "What a variable is given depends on nothing else. Put text into quotation marks; compute values in locals."))
	case root == "each":
		return l.bindEach(e, sc)
	case root == "var":
		return l.bindVariable(e, sc)
	case root == "local":
		return l.bindLocal(e, sc)
	case root == "module":
		return l.bindModule(e, sc)
	case slices.Contains(resourceKinds, root):
		return l.bindResource(e, sc)
	}
	known := append([]string{"var", "local", "each", "module"}, resourceKinds...)
	known = append(known, sc.names...)
	detail := "Names begin with var, local, each, module, or a kind of block. Text stands in quotation marks."
	return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("Unknown name %q", root), detail+l.hint(root, known)))
}

func (l *loader) bindEach(e *hclsyntax.ScopeTraversalExpr, sc scope) hclsyntax.Expression {
	if !sc.each {
		return l.refuse(e, mistake(e.SrcRange, "each without for_each", fmt.Sprintf("each.key and each.value exist in blocks that have for_each; %s has none.", sc.where)))
	}
	if name := step(e.Traversal, 1); name != "key" && name != "value" {
		return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("Unknown name %q", "each."+name), "There are each.key and each.value."+l.hint(name, []string{"key", "value"})))
	}
	return e
}

func (l *loader) bindVariable(e *hclsyntax.ScopeTraversalExpr, sc scope) hclsyntax.Expression {
	name := step(e.Traversal, 1)
	if l.blocks["variable."+name] == nil {
		return l.refuse(e, l.unknownName(e, "variable", name, l.variableNames()))
	}
	if sc.usage != nil {
		sc.usage.variables[name] = true
	}
	get := func(l *loader) (cty.Value, hcl.Diagnostics) { return l.variableValue(name) }
	return &boundExpr{Expression: e, s: l.shared, get: get, rest: e.Traversal[2:]}
}

func (l *loader) bindLocal(e *hclsyntax.ScopeTraversalExpr, sc scope) hclsyntax.Expression {
	name := step(e.Traversal, 1)
	if l.locals[name] == nil {
		return l.refuse(e, l.unknownName(e, "local", name, slices.Collect(maps.Keys(l.locals))))
	}
	if sc.usage != nil {
		sc.usage.locals[name] = true
	}
	get := func(l *loader) (cty.Value, hcl.Diagnostics) { return l.localValue(name) }
	return &boundExpr{Expression: e, s: l.shared, get: get, rest: e.Traversal[2:]}
}

func (l *loader) unknownName(e *hclsyntax.ScopeTraversalExpr, what, name string, names []string) *hcl.Diagnostic {
	root := e.Traversal.RootName()
	if name == "" {
		return mistake(e.SrcRange, fmt.Sprintf("Incomplete name %q", root), fmt.Sprintf("Say which %s: %s.name.", what, root))
	}
	return mistake(e.SrcRange, fmt.Sprintf("%s.%s is not declared", root, name), fmt.Sprintf("No %s has this name.%s", what, l.hint(name, names)))
}

// bindResource binds image.arch, export.nbd.arch, host.ws["k"], server.main.address.
func (l *loader) bindResource(e *hclsyntax.ScopeTraversalExpr, sc scope) hclsyntax.Expression {
	b, rest := l.resolve(e)
	if b == nil {
		return &failedExpr{e}
	}
	if sc.usage != nil {
		sc.usage.resources[b.addr.String()] = true
	}
	if b.forEach != nil {
		if len(rest) == 0 {
			return &allExpr{Expression: e, s: l.shared, block: b.addr}
		}
		if key, ok := indexKey(rest[0]); ok && len(rest) == 1 {
			return &keyedExpr{Expression: e, s: l.shared, block: b.addr, key: &hclsyntax.LiteralValueExpr{Val: key, SrcRange: e.SrcRange}}
		}
		name := step(rest, 0)
		detail := fmt.Sprintf("%s has for_each, so it stands for many: say which with %s[\"…\"].", b.addr, b.addr)
		if name != "" {
			detail += fmt.Sprintf(" Did you mean %s[%q]?", b.addr, name)
		}
		return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("Invalid reference to %s", b.addr), detail))
	}
	if len(rest) == 0 {
		a := b.addr
		return &boundExpr{Expression: e, s: l.shared, get: func(l *loader) (cty.Value, hcl.Diagnostics) { return l.reference(l.here(a)), nil }}
	}
	if key, ok := indexKey(rest[0]); ok {
		return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("%s has no keys", b.addr), fmt.Sprintf("Its block has no for_each, so there is one of it: write %s without [%s].", b.addr, keyText(key))))
	}
	name := step(rest, 0)
	if b.addr.Kind == "server" {
		if slices.Contains(serverValues, name) {
			if sc.usage != nil {
				sc.usage.servers[serverName{b.addr.String(), name}] = true
			}
			get := func(l *loader) (cty.Value, hcl.Diagnostics) { return l.serverValue(b, name) }
			return &boundExpr{Expression: e, s: l.shared, get: get, rest: rest[1:]}
		}
		return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("%s has no value %q", b.addr, name), fmt.Sprintf("The values of a server are %s.%s", listed(serverValues, "and"), l.hint(name, serverValues))))
	}
	return l.refuse(e, mistake(e.SrcRange, fmt.Sprintf("%s has no value %q", b.addr, name), fmt.Sprintf("%s is a reference: it says which %s is meant, and gives none of its attributes. Put values that are needed twice into locals.", b.addr, b.addr.Kind)))
}

// resolve finds the block that a name of a resource begins with, and what follows.
func (l *loader) resolve(e *hclsyntax.ScopeTraversalExpr) (*block, hcl.Traversal) {
	t := e.Traversal
	a, used := Addr{Kind: t.RootName()}, 1
	form := a.Kind + ".name"
	if typed(a.Kind) {
		form = a.Kind + ".type.name"
		a.Type, used = step(t, 1), 2
		spec := language[a.Kind]
		switch {
		case a.Type == "":
			l.report(mistake(e.SrcRange, fmt.Sprintf("Incomplete reference %q", a.Kind), fmt.Sprintf("A reference to %s has the form %s.", article(a.Kind), form)))
			return nil, nil
		case !slices.Contains(spec.values, a.Type):
			detail := fmt.Sprintf("A reference to %s has the form %s.", article(a.Kind), form)
			if there := l.typesOf(a.Kind, a.Type); len(there) > 0 {
				detail += fmt.Sprintf(" Did you mean %s?", listed(there, "or"))
			} else {
				detail += l.hint(a.Type, spec.values)
			}
			l.report(mistake(e.SrcRange, fmt.Sprintf("Unknown %s type %q", a.Kind, a.Type), detail))
			return nil, nil
		}
	}
	a.Name = step(t, used)
	if a.Name == "" {
		l.report(mistake(e.SrcRange, fmt.Sprintf("Incomplete reference %q", a.Kind), fmt.Sprintf("A reference to %s has the form %s.", article(a.Kind), form)))
		return nil, nil
	}
	b := l.blockAt(a)
	if b == nil {
		l.report(mistake(e.SrcRange, fmt.Sprintf("%s is not declared", a), l.undeclared(a)))
		return nil, nil
	}
	return b, t[used+1:]
}

// typesOf gives the blocks of a name, whatever their type.
func (l *loader) typesOf(kind, name string) []string {
	var out []string
	for _, t := range language[kind].values {
		if b := l.blocks[kind+"."+t+"."+name]; b != nil {
			out = append(out, b.addr.String())
		}
	}
	return out
}

// undeclared explains a dangling reference.
func (l *loader) undeclared(a Addr) string {
	if l.dir == "" || l.module != "" {
		return l.unknownBlock(a)
	}
	return l.unknownBlock(a) + " A module names what is in its own folder; what is outside of it comes as an input."
}

func (l *loader) unknownBlock(a Addr) string {
	if len(l.diags) > maxDiagnostics {
		return fmt.Sprintf("No %s block has this name.", a.Kind)
	}
	var same, others []string
	for _, b := range l.order {
		switch {
		case b.addr.Kind == a.Kind && b.addr.Type == a.Type:
			same = append(same, b.addr.Name)
		case b.addr.Name == a.Name && slices.Contains(resourceKinds, b.addr.Kind):
			others = append(others, b.addr.String())
		}
	}
	a2 := a
	if a2.Name = suggest(a.Name, same); a2.Name != "" {
		return fmt.Sprintf("No %s block has this name. Did you mean %s?", a.Kind, a2)
	}
	if len(others) > 0 {
		return fmt.Sprintf("No %s block has this name, but there is %s.", a.Kind, listed(others, "and"))
	}
	if len(same) == 0 {
		return fmt.Sprintf("There is no %s block.", a.Kind)
	}
	return fmt.Sprintf("No %s block has this name.", a.Kind)
}

// collection gives the block with for_each that an index is taken of, if it is one.
func (l *loader) collection(e *hclsyntax.ScopeTraversalExpr, sc scope) *block {
	t := e.Traversal
	if sc.template || sc.constant || slices.Contains(sc.names, t.RootName()) || !slices.Contains(resourceKinds, t.RootName()) {
		return nil
	}
	a := Addr{Kind: t.RootName(), Name: step(t, 1)}
	n := 2
	if typed(a.Kind) {
		a.Type, a.Name, n = step(t, 1), step(t, 2), 3
	}
	if b := l.blockAt(a); b != nil && b.forEach != nil && len(t) == n {
		return b
	}
	return nil
}

// step gives the name of the n-th step of t, "" when it is not a name.
func step(t hcl.Traversal, n int) string {
	if n < len(t) {
		if s, ok := t[n].(hcl.TraverseAttr); ok {
			return s.Name
		}
	}
	return ""
}

func indexKey(s hcl.Traverser) (cty.Value, bool) {
	i, ok := s.(hcl.TraverseIndex)
	return i.Key, ok
}

func keyText(v cty.Value) string {
	switch v.Type() {
	case cty.String:
		return strconv.Quote(v.AsString())
	case cty.Number:
		return v.AsBigFloat().Text('g', 6)
	}
	return "…"
}

// here gives the address, in this module, of what a name in its files means.
func (l *loader) here(a Addr) Addr {
	a.Module = l.module
	return a
}

// blockAt gives the block that an address stands for in this module, or nil. The
// address may name the module, or none.
func (l *loader) blockAt(a Addr) *block {
	a.Module, a.Key = "", ""
	return l.blocks[a.String()]
}

// reference gives the value that stands for a resource in expressions.
func (l *loader) reference(a Addr) cty.Value {
	v, ok := l.refs[a]
	if !ok {
		v = cty.CapsuleVal(refType, &a)
		l.refs[a] = v
	}
	return v
}
