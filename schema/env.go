package schema

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// envFolder holds the sets of values that Options.Env names.
const envFolder = "env"

var envName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// envValues is a file of values for variables.
type envValues struct {
	file   string
	attrs  hclsyntax.Attributes
	failed bool // it could not be read: that variables have no value follows from that
}

// readEnv reads the set of values that Options.Env names. What is wrong with it is
// reported, and the values that can be used are kept.
func (l *loader) readEnv() {
	name := l.opts.Env
	if name == "" {
		return
	}
	l.env = &envValues{failed: true}
	if !envName.MatchString(name) {
		l.report(mistake(hcl.Range{}, fmt.Sprintf("Invalid name %q of an env file", name), fmt.Sprintf("It is the name of a file in %s/, without .hcl: letters, digits, dots, hyphens and underscores.", envFolder)))
		return
	}
	var found []string
	for _, n := range l.envNames() {
		if strings.TrimSuffix(strings.TrimSuffix(n, ".json"), ".hcl") == name {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		l.report(mistake(hcl.Range{}, fmt.Sprintf("There is no env file %q", name), fmt.Sprintf("It would be %s/%s.hcl, beside the configuration.%s", envFolder, name, didYouMean(name, l.envSets()))))
	case 1:
		l.parseEnv(envFolder + "/" + found[0])
	default:
		l.report(mistake(hcl.Range{}, fmt.Sprintf("There are two env files %q", name), fmt.Sprintf("Keep one of %s in %s/.", listed(found, "and"), envFolder)))
	}
}

// envNames lists the env files.
func (l *loader) envNames() []string {
	entries, err := fs.ReadDir(l.tree.fsys, envFolder)
	if err != nil {
		return nil // there is no such folder, or reading the file says what is wrong
	}
	var out []string
	for _, e := range entries {
		if n := e.Name(); strings.HasSuffix(n, ".hcl") || strings.HasSuffix(n, ".hcl.json") {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// envSets lists what Options.Env may be.
func (l *loader) envSets() []string {
	out := l.envNames()
	for i, n := range out {
		out[i] = strings.TrimSuffix(strings.TrimSuffix(n, ".json"), ".hcl")
	}
	return slices.Compact(out)
}

func (l *loader) parseEnv(file string) {
	text, err := l.tree.text(file, maxConfigBytes)
	at := hcl.Range{Filename: file, Start: firstByte, End: firstByte}
	if err != nil {
		l.report(fromError(at, err))
		return
	}
	if !utf8.ValidString(text) {
		l.report(mistake(at, "The file is not UTF-8", "Configuration is written in UTF-8."))
		return
	}
	l.sources[file] = []byte(text)
	l.env.file = file
	body, diags := parseBody(l.sources[file], file, &blockSpec{}, func(words int) *hcl.Diagnostic { return l.affordWords(file, words) })
	l.report(withoutSecrets(diags, l.sources[file], []hcl.Range{allLines(file)})...)
	if body == nil {
		return
	}
	for _, b := range body.Blocks {
		l.report(mistake(b.TypeRange, fmt.Sprintf("Block %q in an env file", b.Type), "An env file holds one attribute for each variable that it gives a value: name = value."))
	}
	l.env.attrs, l.env.failed = body.Attributes, diags.HasErrors()
	for _, name := range slices.Sorted(maps.Keys(body.Attributes)) {
		a := body.Attributes[name]
		if l.blocks["variable."+name] == nil {
			l.report(mistake(a.NameRange, fmt.Sprintf("A value is given for var.%s, which is not declared", name), "Declare it with a variable block, or take the value away."+l.hint(name, l.variableNames())))
		}
	}
}

// variableNames lists the variables in the order of the files.
func (l *loader) variableNames() []string {
	var names []string
	for _, b := range l.order {
		if b.addr.Kind == "variable" {
			names = append(names, b.addr.Name)
		}
	}
	return names
}

// envExpression gives what the env file says of a variable, ready to be evaluated; nil
// for nothing. It is asked for once.
func (l *loader) envExpression(name string, v *variable) hclsyntax.Expression {
	if l.env == nil || l.env.attrs[name] == nil {
		return nil
	}
	e, before := l.env.attrs[name].Expr, len(l.diags)
	compiled := l.compile(e, scope{where: "var." + name, constant: true})
	if v.sensitive && len(l.diags) > before {
		// What was taken for a name may be the secret, without quotation marks.
		l.diags = append(l.diags[:before], hidden(name, e.Range()))
	}
	return compiled
}

// hideDefault takes what was taken for a name in a sensitive default out of the
// diagnostics from the one that is numbered first.
func (l *loader) hideDefault(b *block, first int) {
	e := b.expressionOf("default")
	if e == nil {
		return
	}
	for i, d := range l.diags[first:] {
		if d.Subject != nil && within(*d.Subject, []hcl.Range{e.Range()}) {
			l.diags[first+i] = hidden(b.addr.Name, e.Range())
		}
	}
}

// hideInputs takes what was taken for a name in what the sensitive variables of a module
// are given out of the diagnostics from the one that is numbered first.
func (l *loader) hideInputs(b *block, first int) {
	for i, d := range l.diags[first:] {
		for name, a := range b.body.attrs {
			if at := a.Expr.Range(); d.Subject != nil && l.secretInput(b, name) && within(*d.Subject, []hcl.Range{at}) {
				l.diags[first+i] = hiddenInput(name, at)
			}
		}
	}
}

// secretInput reports whether what a module block gives may be a secret. All of it may
// when there is no such module.
func (l *loader) secretInput(b *block, name string) bool {
	f := l.folders[b.folder]
	if f == nil {
		return true
	}
	v := f.variables[name]
	return v != nil && v.sensitive
}

// hiddenInput says that something is wrong with what a sensitive variable of a module is
// given.
func hiddenInput(name string, at hcl.Range) *hcl.Diagnostic {
	return mistake(at, fmt.Sprintf("Invalid value for the input %q", name), `The variable is sensitive, so the reason is not shown. Text stands in quotation marks; names such as var.password must be declared.`)
}

// hidden says that something is wrong with the value of a sensitive variable.
func hidden(name string, at hcl.Range) *hcl.Diagnostic {
	return mistake(at, fmt.Sprintf("Invalid value for var.%s", name), `The variable is sensitive, so the reason is not shown. It must be a constant such as "text", 3, true or ["a"].`)
}

// shows reports whether a line may be quoted. In the file that is one with the values of
// variables that are known not to be secrets: what is not understood may be one.
func (e *envValues) shows(at hcl.Range, variables map[string]*variable) bool {
	if e == nil || at.Filename != e.file {
		return true
	}
	if e.failed {
		return false // one line may have given two values
	}
	plain := false
	for name, a := range e.attrs {
		if !within(at, []hcl.Range{a.SrcRange}) {
			continue
		}
		if v := variables[name]; v == nil || v.sensitive {
			return false // JSON has many on one line
		}
		plain = true
	}
	return plain
}
