package schema

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// sensitive is the mark of values that are never shown.
type sensitiveMark struct{}

var sensitive = sensitiveMark{}

// eval evaluates an expression that was compiled. The value is known and not too
// large; it may be null, and carry the sensitive mark. After a limit was hit nothing
// is evaluated any more.
func (l *loader) eval(e hclsyntax.Expression, ctx *hcl.EvalContext) (v cty.Value, diags hcl.Diagnostics) {
	if l.stopped {
		return cty.DynamicVal, hcl.Diagnostics{alreadyReported}
	}
	defer func() {
		if r := recover(); r != nil {
			x, ok := r.(exhausted)
			if !ok {
				panic(r)
			}
			l.stopped = l.stopped || x.final
			v, diags = cty.DynamicVal, hcl.Diagnostics{x.diag}
		}
	}()
	l.meter.failures = 0
	v, diags = e.Value(ctx)
	if diags.HasErrors() {
		return cty.DynamicVal, diags
	}
	if l.meter.weigh(v, e.Range()).unknown {
		return cty.DynamicVal, append(diags, mistake(e.Range(), "Value not known", "Everything must be known when the configuration is loaded."))
	}
	return v, diags
}

// link is a value on the way to the one being evaluated.
type link struct {
	name  string // "local.a", "for_each of host.ws", "server.main.address"
	at    hcl.Range
	depth int // nesting of its expression: how much stack it may take
}

// enter notes that the value called name, declared at at, is being evaluated. It
// fails when the value needs itself, and when following it could take too much stack.
func (l *loader) enter(name string, at hcl.Range, depth int) *hcl.Diagnostic {
	if i := slices.IndexFunc(l.chain, func(k link) bool { return k.name == name }); i >= 0 {
		var edges []string
		for _, k := range append(slices.Clone(l.chain[i:]), l.chain[i]) {
			edges = append(edges, fmt.Sprintf("%s (%s)", k.name, rangeOf(k.at)))
		}
		return mistake(l.chain[i].at, fmt.Sprintf("%s needs itself", name), fmt.Sprintf("The cycle is %s. Break one of the edges.", strings.Join(edges, " -> ")))
	}
	total := depth
	for _, k := range l.chain {
		total += k.depth
	}
	if len(l.chain) >= maxChain || total > 2*maxOperators {
		return mistake(at, "Chain of values too long", fmt.Sprintf("A value may need one that needs another, and so on %d times, with %d operators in all.", maxChain, 2*maxOperators))
	}
	l.chain = append(l.chain, link{name, at, depth})
	return nil
}

func (l *loader) leave() { l.chain = l.chain[:len(l.chain)-1] }

// noted collects the resources that an expression refers to, through locals too.
type noted struct{ addrs map[Addr]bool }

func (n *noted) add(a Addr) {
	if n == nil {
		return
	}
	if n.addrs == nil {
		n.addrs = map[Addr]bool{}
	}
	n.addrs[a] = true
}

func (n *noted) merge(from *noted) {
	for a := range from.addrs {
		n.add(a)
	}
}

// once is a value that is evaluated when first asked for.
type once struct {
	done   bool
	failed bool
	value  cty.Value
	noted  noted
}

// get gives the value, evaluating it with f the first time. A failure is reported
// where it happens, and only there.
func (o *once) get(l *loader, name string, at hcl.Range, depth int, f func() (cty.Value, hcl.Diagnostics)) (cty.Value, hcl.Diagnostics) {
	if !o.done {
		if d := l.enter(name, at, depth); d != nil {
			l.told(d)
			return cty.DynamicVal, hcl.Diagnostics{alreadyReported}
		}
		outer := l.noted
		l.noted = &o.noted
		v, diags := f()
		l.noted = outer
		l.leave()
		o.done, o.value, o.failed = true, v, diags.HasErrors()
		l.told(diags...)
	}
	if o.failed {
		return cty.DynamicVal, hcl.Diagnostics{alreadyReported}
	}
	l.noted.merge(&o.noted)
	return o.value, nil
}

// local is one attribute of a locals block.
type local struct {
	at    hcl.Range
	expr  hclsyntax.Expression
	depth int
	once
}

func (l *loader) localValue(name string) (cty.Value, hcl.Diagnostics) {
	v := l.locals[name]
	return v.get(l, l.title("local."+name), v.at, v.depth, func() (cty.Value, hcl.Diagnostics) { return l.eval(v.expr, l.root) })
}

// serverValue gives the address or the interface of a server, for expressions.
func (l *loader) serverValue(b *block, name string) (cty.Value, hcl.Diagnostics) {
	l.noted.add(b.addr)
	e := b.expressionOf(name)
	if e == nil {
		return cty.NullVal(cty.String), nil
	}
	o := b.values[name]
	if o == nil {
		o = &once{}
		b.values[name] = o
	}
	return o.get(l, b.addr.String()+"."+name, b.ranges[name], b.depth, func() (cty.Value, hcl.Diagnostics) {
		v, diags := l.eval(e, l.root)
		if diags.HasErrors() {
			return v, diags
		}
		v, err := convert.Convert(v, cty.String)
		if err != nil {
			return v, hcl.Diagnostics{alreadyReported} // decoding the server says so
		}
		return v, nil
	})
}

// keys is what the for_each of a block gave.
type keys struct {
	names []string // sorted
	each  map[string]cty.Value
	once
}

func (k *keys) has(name string) bool { _, ok := k.each[name]; return ok }

// keysOf gives the keys of a block with for_each.
func (l *loader) keysOf(b *block) (*keys, hcl.Diagnostics) {
	if b.keys == nil {
		b.keys = &keys{}
	}
	_, diags := b.keys.get(l, "for_each of "+b.addr.String(), b.forEach.Range(), b.depth, func() (cty.Value, hcl.Diagnostics) {
		v, diags := l.eval(b.forEach, l.root)
		if diags.HasErrors() {
			return v, diags
		}
		return v, l.readKeys(b, v)
	})
	return b.keys, diags
}

func (l *loader) readKeys(b *block, v cty.Value) hcl.Diagnostics {
	fail := func(summary, detail string) hcl.Diagnostics {
		return hcl.Diagnostics{mistake(b.forEach.Range(), summary, detail)}
	}
	if v.IsMarked() {
		return fail("A sensitive for_each", "Keys become part of addresses, which are shown everywhere.")
	}
	ty := v.Type()
	switch {
	case v.IsNull():
		return fail("for_each is null", "Give it {} to have none of these blocks.")
	case ty.IsListType() || ty.IsTupleType():
		return fail("for_each is a list", "Instances are told apart by key, so that taking one out does not renumber the others. Give a map, such as { for x in list : x.name => x }, or a set of text: toset(list).")
	case ty.IsSetType() && v.LengthInt() > 0 && ty.ElementType() != cty.String:
		return fail("for_each is a set of something else than text", "Give a map, or a set of text.")
	case !ty.IsMapType() && !ty.IsObjectType() && !ty.IsSetType():
		return fail(fmt.Sprintf("for_each is %s", article(ty.FriendlyName())), "Give a map, or a set of text.")
	}
	if b.addr.Kind == "module" && v.LengthInt() > maxModules {
		return fail("Too many modules", fmt.Sprintf("A configuration may have %d, counting what for_each makes.", maxModules))
	}
	if l.count += v.LengthInt(); l.count > maxInstances {
		l.stopped = true
		return fail("Too many blocks", fmt.Sprintf("There may be %d, counting what for_each makes.", maxInstances))
	}
	k := b.keys
	k.each = make(map[string]cty.Value, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		key, value := it.Element()
		if key.IsMarked() || key.IsNull() {
			return fail("A key of for_each is null or sensitive", "Keys become part of addresses, which are shown everywhere.")
		}
		name := key.AsString()
		if problem := checkKey(b.addr.Kind, name); problem != "" {
			return fail(fmt.Sprintf("Invalid for_each key %q", name), problem)
		}
		k.names = append(k.names, name)
		k.each[name] = cty.ObjectVal(map[string]cty.Value{"key": key, "value": value})
	}
	slices.Sort(k.names)
	return nil
}

// checkKey says what is wrong with a key, "" for nothing.
func checkKey(kind, key string) string {
	switch {
	case key == "":
		return "A key must not be empty."
	case len(key) > 253 || !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "A key is at most 253 bytes of printable text."
	case !wireName(key) && (kind == "image" || kind == "export" || kind == "entry" || kind == "bootloader" || kind == "module"):
		return fmt.Sprintf("The keys of %s are seen by machines (in export names, paths and menus): lower-case letters, digits and hyphens, at most 63.", article(kind))
	}
	return ""
}
