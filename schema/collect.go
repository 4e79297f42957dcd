package schema

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// block is one block in the root of a file as it was declared, before for_each.
type block struct {
	addr    Addr      // Key is ""; Name too for a block that nothing refers to
	at      hcl.Range // its header
	whole   hcl.Range
	spec    *blockSpec
	body    *body
	forEach hclsyntax.Expression // nil: it stands for itself
	keys    *keys                // once asked for; see loader.keysOf
	values  map[string]*once     // of a server; see loader.serverValue
	depth   int                  // nesting of its deepest expression
	usage   *usage               // of a host, once compiled
	unread  *knownFile           // where its body is, when it has none yet; see loader.read
	folder  string               // of a module block: what it includes; "" when that is wrong
	origin  *block               // of a module: the same block of its folder
	broken  bool                 // something in it is unknown to the language, or missing

	ranges   map[string]hcl.Range // where each attribute was written, by dotted name
	places   map[string]Range     // the same, for Meta.Attrs
	failures int                  // instances that could not be decoded
}

// String is how messages call the block.
func (b *block) String() string {
	if b.addr.Name == "" {
		return b.addr.Kind
	}
	return b.addr.String()
}

// body is the inside of a block after the checks that need no values: everything
// in it is known to the language.
type body struct {
	attrs  map[string]*hclsyntax.Attribute
	blocks []*nested
}

// nested is a block within a block.
type nested struct {
	kind, path string // path is the beginning of its attributes' names: `file["/etc/motd"]`
	label      string
	labelAt    hcl.Range
	at         hcl.Range
	body       *body
}

// collect sorts the blocks of all files by what they declare.
func (l *loader) collect(files []parsed) {
	for _, f := range files {
		if f.known != nil {
			l.declareKnown(f.known)
			continue
		}
		b := f.body
		for _, a := range b.Attributes {
			detail := "Attributes stand in blocks. Values to use in several places stand in a locals block."
			if _, ok := language[a.Name]; ok {
				detail = fmt.Sprintf("%s is a block: write it without the equals sign.", a.Name)
			}
			l.report(mistake(a.NameRange, fmt.Sprintf("Attribute %q outside of a block", a.Name), detail))
		}
		for _, blk := range b.Blocks {
			l.declare(blk)
		}
	}
}

func (l *loader) declare(blk *hclsyntax.Block) {
	root := &blockSpec{blocks: language}
	spec, ok := l.checkHeader(blk, root, "The language")
	if !ok {
		return
	}
	if d := l.misplaced(blk); d != nil {
		l.report(d)
		return
	}
	if blk.Type == "locals" {
		for name, a := range blk.Body.Attributes {
			if old := l.locals[name]; old != nil {
				l.report(mistake(a.NameRange, fmt.Sprintf("local.%s is declared twice", name), fmt.Sprintf("It was declared at %s.", rangeOf(old.at))))
				continue
			}
			l.locals[name] = &local{at: a.NameRange, expr: a.Expr}
		}
		for _, inner := range blk.Body.Blocks {
			l.report(mistake(inner.TypeRange, fmt.Sprintf("Block %q in locals", inner.Type), "A locals block holds attributes only."))
		}
		return
	}
	b := &block{at: blk.DefRange(), whole: hcl.RangeBetween(blk.TypeRange, blk.CloseBraceRange), spec: spec, ranges: map[string]hcl.Range{}, values: map[string]*once{}}
	b.addr = Addr{Kind: blk.Type}
	if len(spec.labels) == 0 {
		l.declareNameless(b, blk)
		return
	}
	b.addr.Name = blk.Labels[len(blk.Labels)-1]
	if len(blk.Labels) == 2 {
		b.addr.Type = blk.Labels[0]
	}
	if !l.checkName(b.addr, blk.LabelRanges[len(blk.LabelRanges)-1]) {
		return
	}
	if !l.declared(b) {
		return
	}
	if b.addr.Kind == "server" {
		l.serverAddrs = append(l.serverAddrs, b.addr)
	}
	if a := blk.Body.Attributes["for_each"]; a != nil {
		if spec.forEach {
			b.forEach = a.Expr
		} else {
			l.report(mistake(a.NameRange, fmt.Sprintf("A %s has no for_each", blk.Type), "Write one block for each of them."))
		}
		delete(blk.Body.Attributes, "for_each")
	}
	l.checkBlock(b, blk)
}

// declared enters a block under its address, or reports that there is one.
func (l *loader) declared(b *block) bool {
	key := b.addr.String()
	if old := l.blocks[key]; old != nil {
		l.report(mistake(b.at, fmt.Sprintf("%s is declared twice", key), fmt.Sprintf("It was declared at %s. Give one of them another name.", rangeOf(old.at))))
		return false
	}
	l.blocks[key] = b
	l.order = append(l.order, b)
	return true
}

// misplaced says why a block does not belong into the root, or into a module.
func (l *loader) misplaced(blk *hclsyntax.Block) *hcl.Diagnostic {
	detail := ""
	switch blk.Type {
	case "output":
		if l.dir == "" {
			return mistake(blk.DefRange(), "An output outside of a module", "Outputs say what a module gives to the configuration that includes it; nothing would read this one. Take it away.")
		}
	case "variable":
		if name := blk.Labels[0]; l.dir != "" && (name == "source" || name == "for_each") {
			return mistake(blk.DefRange(), fmt.Sprintf("A variable of a module called %q", name), "A module block has that attribute for itself, so nothing could be given to the variable. Call it something else.")
		}
	case "server":
		detail = "Which sockets exist is said in the root. With one server, what is in modules is on it; otherwise give the reference as an input: server = var.server."
	case "policy":
		detail = "What may be brought about is said in the root, for everything."
	case "moved":
		detail = "Moves are written in the root, with whole addresses: to = module.rack.host.a."
	}
	if l.dir == "" || detail == "" {
		return nil
	}
	return mistake(blk.DefRange(), fmt.Sprintf("A %s block in a module", blk.Type), detail)
}

// declareNameless notes a block that nothing refers to.
func (l *loader) declareNameless(b *block, blk *hclsyntax.Block) {
	if b.spec.once {
		for _, old := range l.order {
			if old.addr.Kind == blk.Type {
				l.report(mistake(b.at, fmt.Sprintf("Block %q written twice", blk.Type), fmt.Sprintf("There is one. It was written at %s already.", rangeOf(old.at))))
				return
			}
		}
	}
	l.order = append(l.order, b)
	l.checkBlock(b, blk)
}

// checkBlock fills in what needs no values of a block that was declared.
func (l *loader) checkBlock(b *block, blk *hclsyntax.Block) {
	spec, before := b.spec, len(l.diags)
	b.body = l.checkBody(blk.Body, spec, blk.Type, b.at, "", b.ranges)
	if spec.blocks["state"] != nil {
		l.checkPaths(b.body)
	}
	b.broken = len(l.diags) > before
	b.places = make(map[string]Range, len(b.ranges))
	for n, r := range b.ranges {
		b.places[n] = rangeOf(r)
	}
}

// checkHeader checks a block's kind and labels. owner begins the sentence about
// what is allowed: "A host block".
func (l *loader) checkHeader(blk *hclsyntax.Block, parent *blockSpec, owner string) (*blockSpec, bool) {
	spec := parent.blocks[blk.Type]
	switch {
	case spec == nil && parent.attrs[blk.Type] != 0:
		l.report(mistake(blk.TypeRange, fmt.Sprintf("%q is an attribute", blk.Type), fmt.Sprintf("Write %s = …, with an equals sign.", blk.Type)))
		return nil, false
	case spec == nil:
		l.report(mistake(blk.TypeRange, fmt.Sprintf("Unknown block %q", blk.Type), fmt.Sprintf("%s has no such block.%s", owner, l.hint(blk.Type, parent.kinds()))))
		return nil, false
	}
	if len(blk.Labels) > 0 && spec.values != nil {
		kind, at := blk.Labels[0], blk.LabelRanges[0]
		what := strings.ToUpper(blk.Type[:1]) + blk.Type[1:] + " " + spec.labels[0]
		switch {
		case slices.Contains(spec.values, kind):
		case slices.Contains(spec.laterValues, kind):
			l.report(mistake(at, fmt.Sprintf("%s %q is not supported by this version yet", what, kind),
				fmt.Sprintf("The language has it, but nothing here serves it. This version has %s today.", listed(quoted(spec.values), "and"))))
			return nil, false
		default:
			l.report(mistake(at, fmt.Sprintf("Unknown %s %q", strings.ToLower(what[:1])+what[1:], kind),
				fmt.Sprintf("It may be %s.%s", listed(quoted(spec.values), "or"), l.hint(kind, spec.values))))
			return nil, false
		}
	}
	if n, want := len(blk.Labels), len(spec.labels); n != want && !(n == 0 && spec.labelOptional) {
		form := blk.Type
		for i, label := range spec.labels {
			if i < n {
				label = blk.Labels[i]
			}
			form += " " + strconv.Quote(label)
		}
		at := blk.DefRange()
		if n > want {
			at = blk.LabelRanges[want]
		}
		l.report(mistake(at, fmt.Sprintf("Wrong number of labels on this %s", blk.Type), fmt.Sprintf("Its form is: %s { … }", form)))
		return nil, false
	}
	return spec, true
}

// checkBody keeps what the language knows of a body, reports the rest, and notes in
// ranges where each attribute stands.
func (l *loader) checkBody(in *hclsyntax.Body, spec *blockSpec, noun string, at hcl.Range, prefix string, ranges map[string]hcl.Range) *body {
	out := &body{attrs: map[string]*hclsyntax.Attribute{}}
	owner := sentence(article(noun) + " block")
	owner = strings.TrimSuffix(owner, ".")
	for name, a := range in.Attributes {
		switch {
		case spec.attrs[name] != 0 || spec.open:
			out.attrs[name] = a
			ranges[prefix+name] = a.SrcRange
		case spec.blocks[name] != nil:
			l.report(mistake(a.NameRange, fmt.Sprintf("%q is a block", name), fmt.Sprintf("Write %s { … }, without an equals sign.", name)))
		default:
			l.report(mistake(a.NameRange, fmt.Sprintf("Unknown attribute %q", name), fmt.Sprintf("%s has no such attribute.%s", owner, l.hint(name, append(spec.names(), spec.kinds()...)))))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(spec.attrs)) {
		if spec.attrs[name] == required && in.Attributes[name] == nil {
			l.report(mistake(at, fmt.Sprintf("Missing attribute %q", name), fmt.Sprintf("%s needs it.", owner)))
		}
	}
	count := map[string]int{}
	seen := map[string]hcl.Range{}
	for _, blk := range in.Blocks {
		sub, ok := l.checkHeader(blk, spec, owner)
		if !ok {
			continue
		}
		n := &nested{kind: blk.Type, path: blk.Type, at: blk.DefRange()}
		if len(blk.Labels) > 0 {
			n.label, n.labelAt = blk.Labels[0], blk.LabelRanges[0]
		}
		switch {
		case sub.once:
			if old, twice := seen[blk.Type]; twice {
				l.report(mistake(n.at, fmt.Sprintf("Block %q written twice", blk.Type), fmt.Sprintf("%s has one. It was written at %s already.", owner, rangeOf(old))))
				continue
			}
			seen[blk.Type] = n.at
		case len(sub.labels) > 0:
			n.path = blk.Type + "[" + strconv.Quote(n.label) + "]"
		default:
			n.path = fmt.Sprintf("%s[%d]", blk.Type, count[blk.Type])
			count[blk.Type]++
		}
		if old, twice := ranges[n.path]; twice {
			l.report(mistake(n.at, fmt.Sprintf("Block %s %q written twice", blk.Type, n.label), fmt.Sprintf("It was written at %s already.", rangeOf(old))))
			continue
		}
		ranges[n.path] = n.at
		if n.label != "" {
			for _, label := range sub.labels {
				ranges[n.path+"."+label] = n.labelAt
			}
		}
		n.body = l.checkBody(blk.Body, sub, blk.Type, n.at, n.path+".", ranges)
		out.blocks = append(out.blocks, n)
	}
	return out
}

// checkName checks the name of a block. Some names become part of what is sent to
// machines, and these have fewer characters to choose from.
func (l *loader) checkName(a Addr, at hcl.Range) bool {
	switch a.Kind {
	case "image", "export", "entry", "bootloader", "module":
		if !wireName(a.Name) || a.Name[0] >= '0' && a.Name[0] <= '9' {
			l.report(mistake(at, fmt.Sprintf("Invalid block name %q", a.Name), fmt.Sprintf("The name of %s is seen by machines (in export names, paths and menus): a lower-case letter, then up to 62 lower-case letters, digits and hyphens.", article(a.Kind))))
			return false
		}
	default:
		if !hclsyntax.ValidIdentifier(a.Name) || len(a.Name) > 63 || strings.ContainsFunc(a.Name, func(r rune) bool { return r > 0x7e }) {
			l.report(mistake(at, fmt.Sprintf("Invalid block name %q", a.Name), "A name is a letter, then up to 62 letters, digits, hyphens and underscores, so that it can be referred to."))
			return false
		}
	}
	return true
}

// wireName reports whether s may be part of an export name, a path and a menu.
func wireName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}
