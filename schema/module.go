package schema

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// A folder that modules are made of is parsed and compiled once, however many module
// blocks and keys of for_each include it. What it declares is then copied for each:
// names in compiled expressions are looked up in whatever loader they are evaluated
// for.

// include reads the folders that module blocks name.
func (l *loader) include() {
	for _, b := range l.order {
		if b.addr.Kind != "module" {
			continue
		}
		b.folder = l.folderOf(b)
		f := l.folders[b.folder]
		if b.folder != "" && f == nil {
			f = l.loader(b.folder)
			l.folders[b.folder] = f
			if !f.readModule(b) {
				delete(l.folders, b.folder)
				b.folder = ""
			}
		}
		switch {
		case b.folder == "":
			b.broken = true
		case f.height >= maxModuleDepth && l.dir == "":
			l.report(mistake(b.at, "Modules nested too deep", fmt.Sprintf("A module may be %d deep, and %s includes modules that are deeper.", maxModuleDepth, b.folder)))
			b.broken = true
		default:
			l.height = max(l.height, f.height+1)
			l.checkInputs(b, f)
		}
	}
}

// folderOf gives the folder that a module block names, "" when it names none.
func (l *loader) folderOf(b *block) string {
	a := b.body.attrs["source"]
	if a == nil {
		return "" // reported when the block was collected
	}
	delete(b.body.attrs, "source") // what is left are inputs
	at := a.Expr.Range()
	text, ok := literal(a.Expr)
	if !ok {
		l.report(mistake(at, "source is not a constant", `Which modules there are is known before anything has a value: write the folder, in quotation marks: "./modules/rack".`))
		return ""
	}
	const where = "A module is a folder of the same repo, below the folder of the file that includes it: \"./modules/rack\"."
	clean := path.Clean(text)
	dir := path.Join(l.dir, clean)
	switch {
	case text == "" || path.IsAbs(text) || strings.Contains(text, ":") || slices.Contains(strings.Split(text, "/"), ".."):
		l.report(mistake(at, fmt.Sprintf("Invalid source %s", shown(text, false)), where))
		return ""
	case clean == ".":
		l.report(mistake(at, fmt.Sprintf("%s includes itself", b), where))
		return ""
	}
	if err := l.tree.findFolder(dir); err != nil {
		l.report(fromError(at, l.ofFile(err)))
		return ""
	}
	return dir
}

// readModule parses and compiles the folder of a module, and reports whether it is
// one. Folders are below the ones that include them, so that this ends.
func (l *loader) readModule(b *block) bool {
	names, err := l.configIn(l.dir)
	switch {
	case err != nil:
		l.report(mistake(b.at, fmt.Sprintf("Cannot read the folder %q", l.dir), cause(err)))
	case len(names) == 0:
		l.report(mistake(b.at, fmt.Sprintf("There is no configuration in %q", l.dir), "A module is a folder with files that end in .hcl or .hcl.json."))
	}
	l.readFolder(names)
	return len(names) > 0
}

// checkInputs holds what a module block gives against the variables of its folder.
func (l *loader) checkInputs(b *block, f *loader) {
	for _, name := range slices.Sorted(maps.Keys(b.body.attrs)) {
		if f.blocks["variable."+name] == nil && !l.unparsed {
			l.report(mistake(b.body.attrs[name].NameRange, fmt.Sprintf("Unknown input %q", name), fmt.Sprintf("The module in %q has no variable of this name.%s", f.dir, l.hint(name, f.variableNames()))))
			b.broken = true
		}
	}
	for _, name := range f.variableNames() {
		v := f.blocks["variable."+name]
		if b.body.attrs[name] == nil && v.body.attrs["default"] == nil {
			l.report(mistake(b.at, fmt.Sprintf("Missing input %q", name), fmt.Sprintf("%s needs it: var.%s has no default (%s).", b, name, rangeOf(v.at))))
			b.broken = true
		}
	}
}

// path gives the path in the tree of a file that this module names.
func (l *loader) path(name string) string {
	if l.dir == "" || !fs.ValidPath(name) {
		return name // finding it says what is wrong
	}
	return path.Join(l.dir, name)
}

// ofFile makes an error about a file one of this module.
func (l *loader) ofFile(err error) error {
	fe, ok := err.(*fileError)
	if !ok || l.dir == "" {
		return err
	}
	return &fileError{fe.summary, strings.Replace(fe.detail, relativeHint, moduleHint, 1)}
}

// call is a module block, and one key of it when it has for_each.
type call struct {
	*block
	from *loader          // whose block it is
	ctx  *hcl.EvalContext // for its attributes
}

// child gives the module of a block and a key.
func (l *loader) child(b *block, key string) (*loader, hcl.Diagnostics) {
	a := b.addr
	a.Key = key
	name := a.String()
	if m := l.modules[name]; m != nil {
		return m, nil
	}
	f := l.folders[b.folder]
	if b.broken || f == nil || l.stopped {
		return nil, hcl.Diagnostics{alreadyReported}
	}
	if why := l.affordModule(f); why != nil {
		why.Subject = &b.at
		l.stopped = true
		return nil, hcl.Diagnostics{why}
	}
	m := l.loader(f.dir)
	m.module, m.call = name, &call{block: b, from: l, ctx: l.root}
	if b.forEach != nil {
		m.call.ctx = l.eachContext(b, key)
	}
	m.root = &hcl.EvalContext{Functions: f.root.Functions}
	for _, b := range f.order {
		c := *b
		c.addr.Module, c.origin, c.values = name, b, map[string]*once{}
		m.blocks[b.addr.String()] = &c
		m.order = append(m.order, &c)
	}
	for name, v := range f.locals {
		m.locals[name] = &local{at: v.at, expr: v.expr, depth: v.depth}
	}
	for name, v := range f.variables {
		c := *v
		m.variables[name] = &c
	}
	l.scopes[m.root] = m
	l.modules[name] = m
	return m, nil
}

// copySteps is what a block or a local of a module costs, besides what it does.
const copySteps = 4 * loopSteps

// affordModule charges for a copy of what a folder declares.
func (l *loader) affordModule(f *loader) *hcl.Diagnostic {
	if len(l.modules) >= maxModules {
		return mistake(hcl.Range{}, "Too many modules", fmt.Sprintf("A configuration may have %d, counting what for_each makes.", maxModules))
	}
	l.count += len(f.order)
	if l.count > maxInstances {
		return mistake(hcl.Range{}, "Too many blocks", fmt.Sprintf("There may be %d, counting what for_each and modules make.", maxInstances))
	}
	if l.meter.afford(copySteps*int64(len(f.order)+len(f.locals)), 0) != nil {
		return mistake(hcl.Range{}, "The configuration takes too much work to evaluate", fmt.Sprintf("Loading is given up after %d steps. Look for modules in modules.", l.meter.limit))
	}
	return nil
}

// expand makes every module there is, in the order of the files and keys.
func (l *loader) expand() {
	l.all = append(l.all, l)
	for _, b := range l.order {
		if b.addr.Kind != "module" {
			continue
		}
		keys := []string{""}
		if b.forEach != nil && !b.broken {
			k, diags := l.keysOf(b)
			if diags.HasErrors() {
				continue
			}
			keys = k.names
		}
		for _, k := range keys {
			m, diags := l.child(b, k)
			if diags.HasErrors() {
				l.report(diags...)
				b.failures++
				break
			}
			m.expand()
		}
	}
}

// title is how messages call a value of this module.
func (l *loader) title(name string) string {
	if l.module == "" {
		return name
	}
	return l.module + "." + name
}

// place is a mistake, wherever it comes from.
type place struct {
	at      hcl.Range
	summary string
}

// told reports mistakes of values, and in which module they are. Of one that many
// modules share, the first few are told.
func (l *loader) told(diags ...*hcl.Diagnostic) {
	for _, d := range diags {
		if _, silent := d.Extra.(reported); silent || l.module == "" {
			l.report(d)
			continue
		}
		at := place{summary: d.Summary}
		if d.Subject != nil {
			at.at = *d.Subject
		}
		if l.repeats[at]++; l.repeats[at] > maxPerBlock {
			continue
		}
		c := *d
		c.Detail += fmt.Sprintf(" (In %s.)", l.module)
		l.report(&c)
	}
}

// eachContext is where the attributes of an instance of for_each are evaluated.
func (l *loader) eachContext(b *block, key string) *hcl.EvalContext {
	ctx := l.root.NewChild()
	ctx.Variables = map[string]cty.Value{"each": b.keys.each[key]}
	return ctx
}

// moduleNames lists the module blocks.
func (l *loader) moduleNames() []string {
	var names []string
	for _, b := range l.order {
		if b.addr.Kind == "module" {
			names = append(names, b.addr.Name)
		}
	}
	return names
}
