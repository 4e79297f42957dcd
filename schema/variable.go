package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// variable is a variable block and the value it has in this Load.
type variable struct {
	ty        cty.Type
	defaults  *typeexpr.Defaults // of optional attributes of object types
	sensitive bool
	value     cty.Value // of the root: unmarked
	failed    bool      // it was declared wrong, or, in the root, has no value
	whole     hcl.Range // the block
	at        hcl.Range // what gave the value; zero: not the files
	input     once      // of a module: the value; see loader.variableValue
}

// decideVariables gives every variable of the root its value.
func (l *loader) decideVariables() {
	l.readEnv()
	l.out.Variables = map[string]string{}
	for _, b := range l.order {
		if b.addr.Kind == "variable" {
			l.decideVariable(b, l.variables[b.addr.Name])
		}
	}
	for _, given := range slices.Sorted(maps.Keys(l.opts.Vars)) {
		if l.variables[given] == nil {
			l.report(mistake(hcl.Range{}, fmt.Sprintf("A value is given for var.%s, which is not declared", given), "Declare it with a variable block, or take the value away."+l.hint(given, l.variableNames())))
		}
	}
}

// declareVariable reads what a variable block says besides its value.
func (l *loader) declareVariable(b *block) *variable {
	v := &variable{ty: cty.String, whole: b.whole}
	if l.dir != "" {
		v.ty = cty.DynamicPseudoType // what a module is given has a type of its own
	}
	// A value of the wrong kind counts as sensitive until it is mended.
	v.sensitive = b.expressionOf("sensitive") != nil
	for _, plain := range []string{"description", "sensitive"} {
		want := cty.String
		if plain == "sensitive" {
			want = cty.Bool
		}
		e := b.expressionOf(plain)
		if e == nil {
			continue
		}
		got, diags := l.eval(e, l.root)
		if l.report(diags...); diags.HasErrors() {
			continue
		}
		if got, err := convert.Convert(got, want); err != nil || got.IsNull() {
			l.report(mistake(e.Range(), fmt.Sprintf("Invalid %s", plain), fmt.Sprintf("It must be %s.", article(want.FriendlyName()))))
		} else if plain == "sensitive" {
			v.sensitive = got.True()
		}
	}
	if a := b.body.attrs["type"]; a != nil {
		ty, defaults, diags := typeexpr.TypeConstraintWithDefaults(a.Expr)
		if diags.HasErrors() {
			l.report(mistake(a.Expr.Range(), "Invalid type", "A type is string, number, bool, list(string), set(string), map(string), object({ a = string }), tuple([string]), or any."))
			v.failed = true
			return v
		}
		v.ty, v.defaults = ty, defaults
	}
	return v
}

// fit makes a value one of the variable's type.
func (l *loader) fit(v *variable, name string, raw cty.Value, at hcl.Range) (cty.Value, *hcl.Diagnostic) {
	if v.defaults != nil && !raw.IsNull() {
		raw = v.defaults.Apply(raw)
	}
	if v.ty.IsCollectionType() {
		same, d := l.alike(raw, at)
		if d != nil {
			return raw, d
		}
		raw = same
		if bare, _ := raw.Unmark(); bare.IsKnown() && !bare.Type().Equals(v.ty) {
			l.charge(convertSteps*int64(length(bare)), at)
		}
	}
	value, err := convert.Convert(raw, v.ty)
	if err != nil {
		return raw, mistake(at, fmt.Sprintf("The value of var.%s has the wrong type", name), fmt.Sprintf("It must be %s: %s", article(typeexpr.TypeString(v.ty)), sentence(mismatch(err))))
	}
	return value, nil
}

func (l *loader) decideVariable(b *block, v *variable) {
	name := b.addr.Name
	if v.failed {
		return
	}
	v.failed = true
	raw, at, ok := l.givenValue(b, v)
	if !ok {
		return
	}
	if at != b.at {
		v.at = at
	}
	value, d := l.fit(v, name, raw, at)
	if d != nil {
		l.report(d)
		return
	}
	v.value = value
	if !v.sensitive {
		text, err := ctyjson.Marshal(value, v.ty)
		if err != nil {
			l.report(mistake(at, fmt.Sprintf("The value of var.%s cannot be recorded", name), "Variables hold text, numbers, booleans, and lists and maps of these."))
			return
		}
		l.out.Variables[name] = string(text)
	}
	v.failed = false
}

// givenValue gives the value of a variable before it is converted to its type, and
// what to blame when it does not fit.
func (l *loader) givenValue(b *block, v *variable) (cty.Value, hcl.Range, bool) {
	name := b.addr.Name
	e := l.envExpression(name, v)
	if text, ok := l.opts.Recorded[name]; ok {
		value, err := ctyjson.Unmarshal([]byte(text), v.ty)
		if err != nil {
			l.report(mistake(b.at, fmt.Sprintf("The recorded value of var.%s has the wrong type", name), sentence(mismatch(err))))
			return cty.NilVal, b.at, false
		}
		return value, b.at, true
	}
	if text, ok := l.opts.Vars[name]; ok {
		if v.ty == cty.String {
			return cty.StringVal(text), b.at, true
		}
		value, why := l.literal(text)
		if why != nil {
			detail := fmt.Sprintf("The value that was given for it must be an expression such as 3, true or [\"a\"]: %s", sentence(why.Error()))
			if v.sensitive {
				detail = "The value that was given for it must be an expression such as 3, true or [\"a\"]."
			}
			l.report(mistake(b.at, fmt.Sprintf("Invalid value for var.%s", name), detail))
			return cty.NilVal, b.at, false
		}
		return value, b.at, true
	}
	if e == nil {
		e = b.expressionOf("default")
	}
	if e == nil && l.env != nil && l.env.failed {
		return cty.NilVal, b.at, false
	}
	if e == nil {
		l.report(mistake(b.at, fmt.Sprintf("var.%s has no value", name), fmt.Sprintf("Give it one with --var %s=…, in the vars of daemon.hcl, in an env file, or with a default in its block.", name)))
		return cty.NilVal, b.at, false
	}
	value, diags := l.eval(e, l.root)
	if v.sensitive && untold(diags) {
		diags = hcl.Diagnostics{hidden(name, e.Range())}
	}
	l.report(diags...)
	return value, e.Range(), !diags.HasErrors()
}

// untold reports whether there is something in diagnostics that was not reported before.
func untold(diags hcl.Diagnostics) bool {
	return slices.ContainsFunc(diags, func(d *hcl.Diagnostic) bool { return d.Extra != any(reported{}) })
}

// literal evaluates text from outside the files. It may use functions, but no names.
func (l *loader) literal(text string) (cty.Value, error) {
	if len(text) > maxConfigBytes {
		return cty.NilVal, errors.New("the text is too long")
	}
	e, diags := parseExpression([]byte(text), "", firstByte)
	if !diags.HasErrors() {
		before := len(l.diags)
		e = l.compile(e, scope{where: "a given value", constant: true})
		diags = slices.Clone(l.diags[before:])
		l.diags = l.diags[:before]
	}
	var v cty.Value
	if !diags.HasErrors() {
		v, diags = l.eval(e, l.root)
	}
	if diags.HasErrors() {
		return cty.NilVal, errors.New(diags[0].Summary + ". " + diags[0].Detail)
	}
	return v, nil
}

// mismatch gives the text of a conversion error with its path.
func mismatch(err error) string {
	var pe cty.PathError
	if errors.As(err, &pe) && len(pe.Path) > 0 {
		return fmt.Sprintf("at %s, %s", pathText(pe.Path), err)
	}
	return err.Error()
}

func pathText(p cty.Path) string {
	out := "value"
	for _, s := range p {
		switch s := s.(type) {
		case cty.GetAttrStep:
			out += "." + s.Name
		case cty.IndexStep:
			out += "[" + keyText(s.Key) + "]"
		}
	}
	return out
}

// variableValue gives the value of a variable, for expressions. Of a module, it is
// asked of the module block when it is first needed.
func (l *loader) variableValue(name string) (cty.Value, hcl.Diagnostics) {
	v := l.variables[name]
	if v == nil || v.failed {
		return cty.DynamicVal, hcl.Diagnostics{alreadyReported}
	}
	value := v.value
	if l.call != nil {
		given, diags := l.inputValue(name, v)
		if diags.HasErrors() {
			return cty.DynamicVal, diags
		}
		value = given
	}
	if v.sensitive {
		return value.Mark(sensitive), nil
	}
	return value, nil
}
