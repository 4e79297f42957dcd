package schema

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// made is one instance of a block: what for_each made, or the block itself.
type made struct {
	addr    Addr
	block   *block
	attrs   []Attr
	secrets map[string]bool // names of those that are sensitive
	noted   noted
	// resource is what plans compare, once that is known; it is not written to.
	resource *Resource
	nulls    []string // attributes that were written and are null
	failed   bool
}

// item is where attributes of an instance are read from: its block, or a block
// nested in it. Reading records the attribute in the form that plans compare, so
// that what is decoded and what is planned cannot differ.
type item struct {
	l      *loader
	made   *made
	body   *body
	ctx    *hcl.EvalContext
	prefix string // "filesystem."
	at     hcl.Range
}

// instances calls decode for every instance of a block, in the order of its keys.
// After a few of one block have failed for their own reasons, the others are left.
func (l *loader) instances(b *block, decode func(*item)) {
	if b.origin != nil && b.origin.failures >= maxPerBlock {
		b.failures++
		if !b.broken {
			l.report(mistake(b.at, "Other instances of this block were not looked at", fmt.Sprintf("%s is in a module that is there more than once, and was wrong in others; mend these first.", b.origin.addr)))
		}
		return
	}
	l.ask(b)
	if b.forEach == nil {
		l.instance(b, b.addr, l.root, decode)
		return
	}
	keys, diags := l.keysOf(b)
	if diags.HasErrors() {
		return
	}
	for i, k := range keys.names {
		if l.stopped {
			return
		}
		if b.failures >= maxPerBlock {
			if b.broken {
				return
			}
			l.report(mistake(b.at, fmt.Sprintf("%d of %d %s blocks were not looked at", len(keys.names)-i, len(keys.names), b.addr), "Others of the same block were wrong; mend these first."))
			return
		}
		a := b.addr
		a.Key = k
		l.instance(b, a, l.eachContext(b, k), decode)
	}
}

func (l *loader) instance(b *block, a Addr, ctx *hcl.EvalContext, decode func(*item)) {
	m := &made{addr: a, block: b, failed: b.broken}
	l.charge(instanceSteps, b.at)
	if b.forEach != nil {
		m.noted.merge(&b.keys.once.noted)
	}
	for c := l.call; c != nil; c = c.from.call {
		if c.keys != nil {
			m.noted.merge(&c.keys.once.noted)
		}
	}
	whole := func() { decode(&item{l: l, made: m, body: b.body, ctx: ctx, at: b.at}) }
	if l.kept.cache != nil && b.usage != nil && !m.failed {
		l.recall(b, m, ctx, whole)
	} else {
		whole()
	}
	if m.failed {
		b.failures++
		if b.origin != nil {
			b.origin.failures++
		}
		return
	}
	l.made[a.String()] = m
}

// meta is what every block has. It is asked for when all attributes have been read.
func (it *item) meta() Meta {
	return Meta{Addr: it.made.addr, Range: rangeOf(it.made.block.at), Attrs: it.made.places()}
}

// places gives Meta.Attrs. Instances of one block share it.
func (m *made) places() map[string]Range {
	if len(m.nulls) == 0 {
		return m.block.places
	}
	out := maps.Clone(m.block.places)
	for _, n := range m.nulls {
		delete(out, n)
	}
	return out
}

// nested gives the blocks of a kind inside, in the order of the file.
func (it *item) nested(kind string) []*item {
	var out []*item
	for _, n := range it.body.blocks {
		if n.kind == kind {
			it.l.charge(nestedSteps, n.at)
			out = append(out, &item{l: it.l, made: it.made, body: n.body, ctx: it.ctx, prefix: n.path + ".", at: n.at})
		}
	}
	return out
}

// only gives the one block of a kind inside, or nil.
func (it *item) only(kind string) *item {
	if all := it.nested(kind); len(all) > 0 {
		return all[0]
	}
	return nil
}

// fail reports a mistake in this instance.
func (it *item) fail(at hcl.Range, summary, detail string) {
	it.made.failed = true
	it.l.report(mistake(at, summary, detail+it.made.which(summary)))
}

// which says, for an instance of a for_each or in a module, which one is meant.
func (m *made) which(summary string) string {
	if m.addr.Key == "" && m.addr.Module == "" || strings.Contains(summary, m.addr.String()) {
		return ""
	}
	return fmt.Sprintf(" (In %s.)", m.addr)
}

// place is where an attribute was written, or else the block.
func (it *item) place(name string) hcl.Range {
	if r, ok := it.made.block.ranges[it.prefix+name]; ok {
		return r
	}
	return it.at
}

// value evaluates an attribute. It gives ok false when the attribute is not written,
// null, or wrong; the last has then been reported.
func (it *item) value(name string) (v cty.Value, secret, ok bool) {
	a := it.body.attrs[name]
	if a == nil {
		return cty.NilVal, false, false
	}
	it.l.noted = &it.made.noted
	v, diags := it.l.eval(a.Expr, it.ctx)
	it.l.noted = nil
	for _, d := range diags {
		if _, silent := d.Extra.(reported); !silent {
			c := *d
			c.Detail += it.made.which(c.Summary)
			d = &c
		}
		it.l.report(d)
	}
	if diags.HasErrors() {
		it.made.failed = true
		return v, false, false
	}
	v, marks := v.UnmarkDeep()
	if v.IsNull() {
		it.made.nulls = append(it.made.nulls, it.prefix+name)
		return v, false, false
	}
	return v, len(marks) > 0, true
}

// convert fits a value to a type, and reports when it does not.
func (it *item) convert(name string, at hcl.Range, v cty.Value, ty cty.Type, what string) (cty.Value, bool) {
	raw := v
	if raw.Type() == refType {
		it.fail(at, fmt.Sprintf("%s%s is not a reference", it.prefix, name), fmt.Sprintf("It must be %s, but %s says which %s is meant.", what, raw.EncapsulatedValue().(*Addr), raw.EncapsulatedValue().(*Addr).Kind))
		return v, false
	}
	if ty == cty.Number && v.Type() == cty.String && len(v.AsString()) > maxNumberText {
		it.fail(at, fmt.Sprintf("Invalid %s%s", it.prefix, name), fmt.Sprintf("It must be %s.", what))
		return v, false
	}
	if ty.IsCollectionType() {
		same, d := it.l.alike(v, at)
		if d != nil {
			it.fail(at, d.Summary, d.Detail)
			return v, false
		}
		raw = same
	}
	v, err := convert.Convert(raw, ty)
	if err != nil {
		it.fail(at, fmt.Sprintf("Invalid %s%s", it.prefix, name), fmt.Sprintf("It must be %s: %s", what, sentence(mismatch(err))))
		return v, false
	}
	return v, true
}

// record keeps an attribute for plans. Empty ones are left out, written or not.
func (it *item) record(name string, v any, secret bool) { it.recordFrom(name, name, v, secret) }

// recordFrom records what follows from an attribute that is called differently.
func (it *item) recordFrom(name, from string, v any, secret bool) {
	if secret {
		if it.made.secrets == nil {
			it.made.secrets = map[string]bool{}
		}
		it.made.secrets[it.prefix+name] = true
	}
	switch v := v.(type) {
	case nil:
		return
	case string:
		if v == "" {
			return
		}
	case []string:
		if len(v) == 0 {
			return
		}
	case map[string]string:
		if len(v) == 0 {
			return
		}
	}
	a := Attr{Name: it.prefix + name, Value: canonical(v), Sensitive: secret}
	from = it.prefix + from
	if at, written := it.made.block.places[from]; written && !slices.Contains(it.made.nulls, from) {
		a.Range = at
	}
	it.made.attrs = append(it.made.attrs, a)
}

// shown is a value as messages quote it.
func shown(s string, secret bool) string {
	if secret {
		return "(sensitive value)"
	}
	if len(s) > 60 {
		s = s[:60] + "…"
	}
	return strconv.Quote(s)
}

// reason is why a value is wrong. What was probably meant is like what was written, so
// of a secret it is left out.
func reason(err error, secret bool) string {
	why := err.Error()
	if secret {
		why, _, _ = strings.Cut(why, " Did you mean")
	}
	return why
}

// read gives an attribute that is written as text. parse turns the text into what it
// means, or says why not, without quoting the text; show turns it back into the one
// spelling that plans compare.
func read[T any](it *item, name string, otherwise T, parse func(string) (T, error), show func(T) any) T {
	v, secret, ok := it.value(name)
	if !ok {
		it.record(name, show(otherwise), false)
		return otherwise
	}
	at := it.expression(name).Range()
	if v, ok = it.convert(name, at, v, cty.String, "text"); !ok {
		return otherwise
	}
	t, err := parse(v.AsString())
	if err != nil {
		it.fail(at, fmt.Sprintf("Invalid %s%s %s", it.prefix, name, shown(v.AsString(), secret)), reason(err, secret))
		return otherwise
	}
	it.record(name, show(t), secret)
	return t
}

// has reports whether an attribute is written and not null. It is asked after the
// attribute was read.
func (it *item) has(name string) bool {
	return it.body.attrs[name] != nil && !slices.Contains(it.made.nulls, it.prefix+name)
}

// fine runs f, and reports whether it found no mistake.
func (it *item) fine(f func()) bool {
	before := it.made.failed
	it.made.failed = false
	f()
	ok := !it.made.failed
	it.made.failed = before || !ok
	return ok
}

// needed reports an attribute that must be there but is null. That it is written
// was checked before.
func (it *item) needed(name string) {
	if slices.Contains(it.made.nulls, it.prefix+name) {
		it.fail(it.place(name), fmt.Sprintf("%s%s is null", it.prefix, name), "It is needed here.")
	}
}

func (it *item) expression(name string) hclsyntax.Expression { return it.body.attrs[name].Expr }

func plain(s string) any { return s }

// text reads text; check says what is wrong with it, nil for nothing.
func (it *item) text(name, otherwise string, check func(string) error) string {
	return read(it, name, otherwise, func(s string) (string, error) { return s, check(s) }, plain)
}

// address reads an IPv4 address; the zero Addr when it is not written.
func (it *item) address(name string, otherwise netip.Addr) netip.Addr {
	return read(it, name, otherwise, parseIPv4, showAddr)
}

func showAddr(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return a.String()
}

func (it *item) boolean(name string, otherwise bool) bool {
	v, secret, ok := it.value(name)
	if ok {
		v, ok = it.convert(name, it.expression(name).Range(), v, cty.Bool, "true or false")
	}
	if ok {
		otherwise = v.True()
	}
	it.record(name, otherwise, secret)
	return otherwise
}

func (it *item) integer(name string, otherwise, low, high int) int {
	v, secret, ok := it.value(name)
	if ok {
		v, ok = it.convert(name, it.expression(name).Range(), v, cty.Number, "a whole number")
	}
	if ok {
		n, err := whole(v)
		if err != nil || n < low || n > high {
			it.fail(it.expression(name).Range(), fmt.Sprintf("Invalid %s%s", it.prefix, name), fmt.Sprintf("It must be a whole number between %d and %d.", low, high))
			return otherwise
		}
		otherwise = n
	}
	it.record(name, otherwise, secret)
	return otherwise
}

// list reads a list of texts. Each is checked, and blamed, by itself. A null element
// is left out.
func list[T any](it *item, name string, otherwise []T, parse func(string) (T, error), show func(T) string, order func([]T) []T) []T {
	out := otherwise
	v, secret, ok := it.value(name)
	if ok {
		at := it.expression(name).Range()
		if v, ok = it.convert(name, at, v, cty.List(cty.String), "a list of text"); !ok {
			return otherwise
		}
		out = nil
		it.l.charge(elementSteps*int64(v.LengthInt()), at)
		for i, el := range v.AsValueSlice() {
			if el.IsNull() {
				continue
			}
			t, err := parse(el.AsString())
			if err != nil {
				it.fail(elementRange(it.expression(name), i), fmt.Sprintf("Invalid element %s in %s%s", shown(el.AsString(), secret), it.prefix, name), reason(err, secret))
				continue
			}
			out = append(out, t)
		}
	}
	if order != nil {
		out = order(out)
	}
	texts := make([]string, len(out))
	for i, t := range out {
		texts[i] = show(t)
	}
	it.record(name, texts, secret)
	return out
}

// texts reads a list of texts in the order in which it is written.
func (it *item) texts(name string, otherwise []string, check func(string) error) []string {
	return list(it, name, otherwise, func(s string) (string, error) { return s, check(s) }, func(s string) string { return s }, nil)
}

// set reads a list of texts whose order and repeats mean nothing.
func (it *item) set(name string, otherwise []string, check func(string) error) []string {
	order := func(l []string) []string { slices.Sort(l); return slices.Compact(l) }
	return list(it, name, otherwise, func(s string) (string, error) { return s, check(s) }, func(s string) string { return s }, order)
}

// addresses reads a list of IPv4 addresses.
func (it *item) addresses(name string) []netip.Addr {
	return list(it, name, nil, parseIPv4, netip.Addr.String, nil)
}

// elementRange is where the i-th element of a list is written, if the list is.
func elementRange(e hclsyntax.Expression, i int) hcl.Range {
	if t, ok := e.(*hclsyntax.TupleConsExpr); ok && i < len(t.Exprs) {
		return t.Exprs[i].Range()
	}
	return e.Range()
}
