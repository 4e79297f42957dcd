package schema

import (
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Options is what Load depends on besides the files.
type Options struct {
	// Vars gives values to variables, by name: the text itself for a variable
	// that is a string, otherwise an HCL expression without references. A name
	// that no variable has is a mistake.
	Vars map[string]string

	// Env is the name of a set of values: the file env/NAME.hcl, or env/NAME.hcl.json,
	// gives values to variables, each as an attribute. Vars come before it, and it
	// before defaults. "" is none.
	Env string

	// Recorded gives values as an earlier Desired.Variables has them. It comes
	// before Vars; names that no variable has are ignored.
	Recorded map[string]string

	// Cache is what is kept from one Load to the next; nil keeps nothing.
	Cache *Cache

	// Open decrypts what secret() names. Its error tells what the operator can do, and
	// nothing of what is encrypted. nil: nothing is decrypted, and text that changes
	// with the file stands for what is in it, which is enough to see what a commit
	// changes. Loads that share a Cache have the same Open.
	Open func(sealed []byte) ([]byte, error)

	// Digests gives, by path, files that need not be in the tree because only
	// their digest matters: what images are made of. It lets the record of a
	// generation be loaded again without the repo.
	Digests map[string]File
}

// Load reads the *.hcl and *.hcl.json files in the root of fsys and gives the
// desired state they describe. It reads no other folder, except for the files that
// the configuration names, and nothing outside of fsys. A tree without such files
// describes an empty desired state, with a warning.
//
// When the diagnostics have errors, the Desired is nil. They are sorted by place,
// and each carries its source line (see ToDiagnostics), but no part of the syntax
// tree. Every tree of files, however hostile, gives an answer in bounded time and
// memory.
func Load(fsys fs.FS, opts Options) (*Desired, hcl.Diagnostics) {
	l := newLoader(fsys, opts)
	d := l.run()
	return d, l.finish()
}

func newLoader(fsys fs.FS, opts Options) *loader {
	sh := &shared{
		opts: opts, tree: newTree(fsys, opts.Digests), meter: &meter{limit: maxSteps},
		sources: map[string][]byte{}, repeats: map[place]int{}, folders: map[string]*loader{},
		scopes: map[*hcl.EvalContext]*loader{}, modules: map[string]*loader{},
		secrets: map[string]string{},
		made:    map[string]*made{}, refs: map[Addr]cty.Value{}, templates: map[string]*template{}, kept: newRecollection(opts.Cache),
	}
	return sh.loader("")
}

// loader is the root, or a module: what is declared in one folder, and the values of
// it. Of the folder of modules there is one that is compiled and gives no values, and
// then one for every module block and key; see module.go. A loader is used by one
// goroutine and dropped, with the syntax tree, when Load returns.
type loader struct {
	*shared
	dir    string // its folder, "" for the root
	height int    // of the modules that it includes: 0 when it includes none
	module string // Addr.Module of what it declares, "" for the root
	call   *call  // of a module; nil for the root, and for a folder that is only compiled

	blocks    map[string]*block // by address, without the module
	order     []*block          // in the order of the files
	locals    map[string]*local
	variables map[string]*variable
	root      *hcl.EvalContext // functions only; names are bound when compiled

	everything once // of a module: all of its outputs
}

// shared is the state of one Load.
type shared struct {
	opts     Options
	tree     *tree
	meter    *meter
	sources  map[string][]byte // text of every parsed file, for diagnostics
	diags    hcl.Diagnostics
	repeats  map[place]int // diagnostics of modules, by what they say and where
	unparsed bool          // a file is not HCL
	stopped  bool          // a limit was hit: evaluate nothing more

	env         *envValues // nil: none
	serverAddrs []Addr     // of the server blocks, in the order of the files

	folders map[string]*loader           // of modules, compiled, by path
	scopes  map[*hcl.EvalContext]*loader // whose names are meant, by the root of the context
	modules map[string]*loader           // by address
	all     []*loader                    // the root, and all modules

	refs      map[Addr]cty.Value
	templates map[string]*template
	secrets   map[string]string // decrypted files, by path
	depth     int               // of the expression being compiled
	deepest   int
	chain     []link // values being evaluated
	noted     *noted // references of what is being evaluated

	kept  recollection
	made  map[string]*made // decoded instances, by address
	count int
	words int // of all files of configuration
	out   Desired
}

func (s *shared) loader(dir string) *loader {
	return &loader{
		shared: s, dir: dir,
		blocks: map[string]*block{}, locals: map[string]*local{}, variables: map[string]*variable{},
	}
}

// of gives the loader that an expression is evaluated for.
func (s *shared) of(ctx *hcl.EvalContext) *loader {
	for ctx.Parent() != nil {
		ctx = ctx.Parent()
	}
	return s.scopes[ctx]
}

// run does the work; l.diags says whether its result is worth anything.
func (l *loader) run() (d *Desired) {
	defer func() {
		if r := recover(); r != nil {
			// A fault in this program or a library must not take the daemon along.
			l.report(mistake(hcl.Range{}, "Internal error", sentence(fmt.Sprint("the configuration could not be evaluated because of a fault in this program: ", r))))
			d = nil
		}
	}()
	if l.readFolder(l.configFiles()); l.unparsed {
		return nil
	}
	l.decideVariables()
	l.expand()
	for _, m := range l.all {
		m.evaluate()
	}
	l.decodeAll()
	l.decodePolicy()
	l.decodeMoved()
	for _, m := range l.all {
		m.checkAsserts()
	}
	if !l.stopped {
		l.check()
	}
	if l.diags.HasErrors() {
		return nil
	}
	l.summarize()
	l.keepFiles()
	l.kept.keep()
	out := l.out // a copy: what points into the loader keeps all of it
	return &out
}

// readFolder parses files, collects what they declare, does the same for the modules
// that they include, and compiles them. A mistake of syntax anywhere is enough to leave
// it at that.
func (l *loader) readFolder(names []string) {
	l.root = &hcl.EvalContext{Functions: l.functions()}
	l.scopes[l.root] = l
	before := len(l.diags)
	bodies := l.parse(names)
	if l.unparsed = l.unparsed || l.diags[before:].HasErrors(); l.unparsed {
		return
	}
	l.collect(bodies)
	if l.include(); l.unparsed {
		return
	}
	l.compileAll()
	for _, b := range l.order {
		if b.addr.Kind == "variable" {
			l.variables[b.addr.Name] = l.declareVariable(b)
		}
	}
}

// evaluate asks for what nobody else may ask for, so that mistakes in it are found.
func (l *loader) evaluate() {
	for _, name := range slices.Sorted(maps.Keys(l.locals)) {
		l.localValue(name)
	}
	for _, b := range l.order {
		switch b.addr.Kind {
		case "variable":
			l.variableValue(b.addr.Name)
		case "output":
			l.outputValue(b.addr.Name)
		}
	}
	l.checkVariables()
}

// report adds diagnostics. Far beyond what is shown they are only counted as one.
func (l *loader) report(diags ...*hcl.Diagnostic) {
	if len(l.diags) < 100*maxDiagnostics {
		l.diags = append(l.diags, diags...)
	}
}

// hint is didYouMean, as long as somebody will read it.
func (l *loader) hint(given string, candidates []string) string {
	if len(l.diags) > maxDiagnostics {
		return ""
	}
	return didYouMean(given, candidates)
}

// compileAll binds the names of every expression. After it nothing is left in the
// syntax tree that evaluates without limit.
func (l *loader) compileAll() {
	for name, v := range l.locals {
		l.deepest = 0
		v.expr = l.compile(v.expr, scope{where: "local." + name})
		v.depth = l.deepest
	}
	for _, b := range l.order {
		if b.unread == nil {
			l.compileBlock(b)
		}
	}
}

func (l *loader) compileBlock(b *block) {
	l.deepest = 0
	sc := scope{where: b.String(), constant: b.addr.Kind == "variable"} // what it validates is not
	if b.addr.Kind == "host" {
		b.usage = newUsage()
	}
	if b.forEach != nil {
		b.forEach = l.compile(b.forEach, sc)
		sc.each = true
	}
	sc.usage = b.usage // not of for_each: what that gives is compared
	before := len(l.diags)
	l.compileBody(b.body, b.spec, sc)
	if b.addr.Kind == "variable" && b.body.attrs["sensitive"] != nil {
		l.hideDefault(b, before)
	}
	if b.addr.Kind == "module" {
		l.hideInputs(b, before)
	}
	b.depth = l.deepest
}

func (l *loader) compileBody(b *body, spec *blockSpec, sc scope) {
	for name, a := range b.attrs {
		if spec.attrs[name] != static {
			a.Expr = l.compile(a.Expr, sc)
		}
	}
	sc.constant = false
	for _, n := range b.blocks {
		l.compileBody(n.body, spec.blocks[n.kind], sc)
	}
}

// expressionOf is the compiled expression of an attribute in the root of a block.
func (b *block) expressionOf(name string) hclsyntax.Expression {
	if a := b.body.attrs[name]; a != nil {
		return a.Expr
	}
	return nil
}
