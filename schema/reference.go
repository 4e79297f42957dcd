package schema

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// ref reads a reference to a resource of one of the kinds; the zero Addr when it is
// not written.
func (it *item) ref(name string, kinds ...string) Addr {
	v, secret, ok := it.value(name)
	if !ok {
		return Addr{}
	}
	a, ok := it.target(name, it.expression(name).Range(), v, secret, kinds)
	if ok {
		it.record(name, a.String(), secret)
	}
	return a
}

// refs reads a list of references: in the order in which it is written when that
// means something, else sorted.
func (it *item) refs(name string, ordered bool, kinds ...string) []Addr {
	v, secret, ok := it.value(name)
	if !ok {
		return nil
	}
	out := it.references(name, v, secret, ordered, kinds...)
	it.record(name, addrTexts(out), secret)
	return out
}

// references reads the elements of a list of references.
func (it *item) references(name string, v cty.Value, secret, ordered bool, kinds ...string) []Addr {
	at := it.expression(name).Range()
	if ty := v.Type(); !ty.IsTupleType() && !ty.IsListType() && !ty.IsSetType() {
		detail := fmt.Sprintf("It must be a list of references: %s = [%s].", name, example(kinds[0]))
		if ty.IsMapType() && ty.ElementType() == refType {
			detail = fmt.Sprintf("It must be a list, but a block with for_each stands for a map of references. Write %s = values(…).", name)
		}
		it.fail(at, fmt.Sprintf("%s%s is not a list", it.prefix, name), detail)
		return nil
	}
	var out []Addr
	seen := map[Addr]bool{}
	i := 0
	for el := v.ElementIterator(); el.Next(); i++ {
		_, one := el.Element()
		if one.IsNull() {
			continue
		}
		where := elementRange(it.expression(name), i)
		a, ok := it.target(name, where, one, secret, kinds)
		switch {
		case !ok:
		case seen[a]:
			it.fail(where, fmt.Sprintf("%s is written twice in %s%s", a, it.prefix, name), "Once is enough.")
		default:
			seen[a] = true
			out = append(out, a)
		}
	}
	if !ordered {
		slices.SortFunc(out, Addr.Compare)
	}
	return out
}

func addrTexts(all []Addr) []string {
	texts := make([]string, len(all))
	for i, a := range all {
		texts[i] = a.String()
	}
	return texts
}

// target checks one reference.
func (it *item) target(name string, at hcl.Range, v cty.Value, secret bool, kinds []string) (Addr, bool) {
	nouns := make([]string, len(kinds))
	for i, k := range kinds {
		nouns[i] = article(k)
	}
	want := listed(nouns, "or")
	summary := fmt.Sprintf("%s%s does not name %s", it.prefix, name, want)
	switch ty := v.Type(); {
	case ty == refType:
	case ty == cty.String:
		detail := fmt.Sprintf("It must be a reference, but this is text. References are written without quotation marks: %s.", example(kinds[0]))
		if a, err := ParseAddr(v.AsString()); err == nil && !secret && slices.Contains(kinds, a.Kind) {
			detail = fmt.Sprintf("It must be a reference, but this is text. Take away the quotation marks: %s.", a)
		}
		it.fail(at, summary, detail)
		return Addr{}, false
	case ty.IsMapType() && ty.ElementType() == refType:
		it.fail(at, summary, "A block with for_each stands for many resources: say which, with its key in brackets.")
		return Addr{}, false
	default:
		it.fail(at, summary, fmt.Sprintf("It must be a reference such as %s, but this is %s.", example(kinds[0]), article(ty.FriendlyName())))
		return Addr{}, false
	}
	a := *v.EncapsulatedValue().(*Addr)
	if !slices.Contains(kinds, a.Kind) {
		detail := fmt.Sprintf("%s is %s.", a, article(a.Kind))
		for _, k := range kinds {
			for _, ty := range append([]string{""}, language[k].values...) {
				if other := (Addr{Kind: k, Type: ty, Name: a.Name}); it.l.blockAt(other) != nil {
					it.fail(at, summary, fmt.Sprintf("%s Did you mean %s?", detail, other))
					return Addr{}, false
				}
			}
		}
		it.fail(at, summary, detail+fmt.Sprintf(" A reference to %s looks like %s.", article(kinds[0]), example(kinds[0])))
		return Addr{}, false
	}
	it.made.noted.add(a)
	return a, true
}

// example is how a reference to a kind looks like.
func example(kind string) string {
	if typed(kind) {
		return kind + "." + language[kind].values[0] + ".name"
	}
	return kind + ".name"
}

// server reads the attribute server, which may be left out while there is one.
func (it *item) server() Addr {
	if a := it.ref("server", "server"); !a.IsZero() || it.has("server") {
		return a
	}
	all := it.l.serverAddrs
	switch len(all) {
	case 1:
		a := all[0]
		it.made.noted.add(a)
		it.record("server", a.String(), false)
		return a
	case 0:
		it.fail(it.at, "There is no server", sentence(article(it.made.addr.Kind)+" needs a server block: its address and the sockets that exist"))
	default:
		how := fmt.Sprintf("say which with server = %s.", listed(addrTexts(all), "or"))
		if it.l.dir != "" {
			how = fmt.Sprintf("say which with server = var.server, and give that to the module: server = %s.", listed(addrTexts(all), "or"))
		}
		it.fail(it.at, `Missing attribute "server"`, "There is more than one server: "+how)
	}
	return Addr{}
}
