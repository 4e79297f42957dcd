package schema

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// decodeMoved reads the moved blocks, and holds them against what is declared.
func (l *loader) decodeMoved() {
	var all []Move
	from, to, whole := newMoves(), newMoves(), l.complete("module")
	for _, b := range l.order {
		if b.addr.Kind != "moved" || b.broken {
			continue
		}
		m, ok1, ok2 := Move{Range: rangeOf(b.at)}, false, false
		m.From, ok1 = l.movedAddr(b, "from")
		m.To, ok2 = l.movedAddr(b, "to")
		if !ok1 || !ok2 {
			continue
		}
		d := checkMoves(b, m, from, to)
		if d == nil && whole {
			d = l.checkMove(b, m)
		}
		if d != nil {
			l.report(d)
			continue
		}
		from.add(m.From, m)
		to.add(m.To, m)
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Move) int { return a.To.Compare(b.To) })
	l.out.Moved = all
}

// movedAddr reads one address of a moved block: as it is written, because the one in
// from is of nothing that is there.
func (l *loader) movedAddr(b *block, name string) (Addr, bool) {
	a := b.body.attrs[name]
	if a == nil {
		l.report(mistake(b.at, fmt.Sprintf("Missing attribute %q", name), "A moved block says from = host.old and to = host.new, the address before and the one now."))
		return Addr{}, false
	}
	out, why := addrOf(a.Expr)
	if why != "" {
		l.report(mistake(a.Expr.Range(), fmt.Sprintf("%s is not the address of a resource", name), why))
		return Addr{}, false
	}
	return out, true
}

// addrOf reads the address that an expression spells, or says why it spells none.
func addrOf(e hclsyntax.Expression) (a Addr, why string) {
	t, diags := hcl.AbsTraversalForExpr(e)
	if diags.HasErrors() {
		why := `An address is written as in references, without quotation marks: host.a, host.ws["ws02"].`
		if text, ok := literal(e); ok {
			if a, err := ParseAddr(text); err == nil && slices.Contains(resourceKinds, a.Kind) {
				why += fmt.Sprintf(" Did you mean %s?", a)
			}
		}
		return a, why
	}
	var spelled strings.Builder
	for _, s := range t {
		switch s := s.(type) {
		case hcl.TraverseRoot:
			spelled.WriteString(s.Name)
		case hcl.TraverseAttr:
			spelled.WriteString("." + s.Name)
		case hcl.TraverseIndex:
			if s.Key.Type() != cty.String {
				return a, `Keys of for_each are text: host.ws["1"].`
			}
			fmt.Fprintf(&spelled, "[%q]", s.Key.AsString())
		}
	}
	a, err := ParseAddr(spelled.String())
	switch {
	case err != nil && t.RootName() == "module":
		return a, `A resource in a module is meant: module.rack.host.a, module.rack["a"].host.ws["ws02"].`
	case err != nil:
		return a, `The form of an address is kind.name, or kind.type.name for exports and bootloaders, and perhaps a key: host.a, export.nbd.arch, host.ws["ws02"].`
	case a.Kind == "module":
		return a, "This is a module. Say which resource in it has moved, one block for each: " + spelled.String() + ".host.a."
	case !slices.Contains(resourceKinds, a.Kind):
		return a, fmt.Sprintf("There are no resources of kind %q.%s", a.Kind, didYouMean(a.Kind, resourceKinds))
	case typed(a.Kind) != (a.Type != ""):
		return a, fmt.Sprintf("The address of %s has the form %s.", article(a.Kind), example(a.Kind))
	}
	return a, ""
}

// whole reports whether m is about all instances of a block, however many.
func (m Move) whole() bool { return m.From.Key == "" && m.To.Key == "" }

// moves finds moved blocks by one of their addresses.
type moves struct {
	exact map[Addr]Move
	whole map[Addr]Move // by block
	some  map[Addr]Move // by block: the first one of exact
}

func newMoves() *moves {
	return &moves{map[Addr]Move{}, map[Addr]Move{}, map[Addr]Move{}}
}

func (all *moves) add(a Addr, m Move) {
	if m.whole() {
		all.whole[a] = m
		return
	}
	all.exact[a] = m
	if _, ok := all.some[declared(a)]; !ok {
		all.some[declared(a)] = m
	}
}

// of gives a move that is about a too, or about an instance of its block when a stands
// for all of them.
func (all *moves) of(a Addr, whole bool) (Move, bool) {
	if m, ok := all.whole[declared(a)]; ok {
		return m, true
	}
	if whole {
		m, ok := all.some[a]
		return m, ok
	}
	m, ok := all.exact[a]
	return m, ok
}

// checkMoves says what is wrong with m beside the ones before it, nil for nothing.
func checkMoves(b *block, m Move, from, to *moves) *hcl.Diagnostic {
	fromAt, toAt := b.body.attrs["from"].Expr.Range(), b.body.attrs["to"].Expr.Range()
	switch {
	case m.From == m.To:
		return mistake(toAt, fmt.Sprintf("%s moves to itself", m.From), "Take the block away.")
	case m.From.Kind != m.To.Kind || m.From.Type != m.To.Type:
		return mistake(toAt, fmt.Sprintf("%s cannot become %s", m.From, m.To), "A resource moves to another name, key or module, and stays what it is. Without the moved block it is deleted, and the other one created.")
	}
	if o, ok := from.of(m.From, m.whole()); ok {
		return mistake(fromAt, fmt.Sprintf("%s moves twice", m.From), fmt.Sprintf("The block at %s says that %s is now %s.", o.Range, o.From, o.To))
	}
	if o, ok := to.of(m.To, m.whole()); ok {
		return mistake(toAt, fmt.Sprintf("Two resources move to %s", m.To), fmt.Sprintf("The block at %s moves %s there.", o.Range, o.From))
	}
	o, ok := to.of(m.From, m.whole())
	if !ok {
		o, ok = from.of(m.To, m.whole())
	}
	if ok {
		return mistake(fromAt, "A chain of moved blocks", fmt.Sprintf("The block at %s moves %s to %s. Write where each resource is now, in one step, to an address that was free.", o.Range, o.From, o.To))
	}
	return nil
}

// checkMove holds a move against what is declared.
func (l *loader) checkMove(b *block, m Move) *hcl.Diagnostic {
	from, to := b.body.attrs["from"].Expr.Range(), b.body.attrs["to"].Expr.Range()
	if home := l.home(m.From); home != nil {
		if b := home.blockAt(m.From); b != nil && (m.whole() || home.instanceOf(b, m.From) == present) {
			return mistake(from, fmt.Sprintf("%s is still declared", m.From), fmt.Sprintf("It is at %s, so it has not moved. Take that block away, or this one.", rangeOf(b.at)))
		}
	}
	home := l.home(m.To)
	if home == nil {
		return mistake(to, fmt.Sprintf("%s is not declared", m.To), fmt.Sprintf("There is no %s.%s", m.To.Module, l.hint(m.To.Module, l.moduleAddrs())))
	}
	b = home.blockAt(m.To)
	if b == nil {
		return mistake(to, fmt.Sprintf("%s is not declared", m.To), home.undeclared(m.To))
	}
	if m.whole() || home.instanceOf(b, m.To) != missing {
		return nil
	}
	switch {
	case b.forEach == nil:
		return mistake(to, fmt.Sprintf("%s has no keys", declared(m.To)), "Its block has no for_each, so there is one of it: write it without the key.")
	case m.To.Key == "":
		return mistake(to, fmt.Sprintf("Invalid address %s", m.To), fmt.Sprintf("%s has for_each, so it stands for many: say which with %s[\"…\"].", m.To, m.To))
	}
	return mistake(to, fmt.Sprintf("%s is not declared", m.To), fmt.Sprintf("The for_each of %s has no such key.%s", b.addr, l.hint(m.To.Key, b.keys.names)))
}

// moduleAddrs lists the modules, as long as somebody will read it.
func (l *loader) moduleAddrs() []string {
	if len(l.diags) > maxDiagnostics {
		return nil
	}
	return slices.Collect(maps.Keys(l.modules))
}

// home gives the module that an address is in, or nil when there is none.
func (l *loader) home(a Addr) *loader {
	if a.Module == "" {
		return l
	}
	return l.modules[a.Module]
}

// presence says whether a block has an instance.
type presence int

const (
	missing presence = iota
	present
	unclear // its for_each is wrong
)

func (l *loader) instanceOf(b *block, a Addr) presence {
	if b.forEach == nil {
		if a.Key == "" {
			return present
		}
		return missing
	}
	keys, diags := l.keysOf(b)
	switch {
	case diags.HasErrors():
		return unclear
	case a.Key != "" && keys.has(a.Key):
		return present
	}
	return missing
}
