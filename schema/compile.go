package schema

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// scope says which names an expression may use.
type scope struct {
	where    string   // the address it is written in, for messages
	names    []string // of for expressions around it; they hide all others
	each     bool     // each.key and each.value
	constant bool     // no names at all: what variables are given
	template bool     // names come from templatefile's second argument
	usage    *usage   // where they are noted; nil: nowhere
}

func (s scope) with(names ...string) scope {
	s.names = slices.Concat(s.names, names)
	return s
}

// compile binds every name in an expression to what it means, checks calls, and
// wraps the nodes where work multiplies (see meter). It changes e, and returns what
// to evaluate in its place. Mistakes are reported once here, not once per instance.
func (l *loader) compile(e hclsyntax.Expression, sc scope) hclsyntax.Expression {
	l.depth++
	l.deepest = max(l.deepest, l.depth)
	defer func() { l.depth-- }()
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr, *hclsyntax.AnonSymbolExpr:
		return e
	case *hclsyntax.ParenthesesExpr:
		e.Expression = l.compile(e.Expression, sc)
		return e
	case *hclsyntax.ScopeTraversalExpr:
		return l.bind(e, sc)
	case *hclsyntax.RelativeTraversalExpr:
		if x := l.moduleIndex(e, sc); x != nil {
			return x
		}
		e.Source = l.compile(e.Source, sc)
		return e
	case *hclsyntax.FunctionCallExpr:
		return l.compileCall(e, sc)
	case *hclsyntax.ConditionalExpr:
		e.Condition = l.compile(e.Condition, sc)
		e.TrueResult = &branchExpr{l.compile(e.TrueResult, sc), l.meter}
		e.FalseResult = &branchExpr{l.compile(e.FalseResult, sc), l.meter}
		return e
	case *hclsyntax.IndexExpr:
		key := l.compile(e.Key, sc)
		if trav, ok := e.Collection.(*hclsyntax.ScopeTraversalExpr); ok {
			if b := l.collection(trav, sc); b != nil {
				if sc.usage != nil {
					sc.usage.resources[b.addr.String()] = true
				}
				return &keyedExpr{Expression: e, s: l.shared, block: b.addr, key: key}
			}
		}
		e.Collection, e.Key = l.compile(e.Collection, sc), &numberExpr{key, l.meter}
		return e
	case *hclsyntax.TupleConsExpr:
		for i := range e.Exprs {
			e.Exprs[i] = l.compile(e.Exprs[i], sc)
		}
		return e
	case *hclsyntax.ObjectConsExpr:
		for i := range e.Items {
			e.Items[i].KeyExpr = l.compile(e.Items[i].KeyExpr, sc)
			e.Items[i].ValueExpr = l.compile(e.Items[i].ValueExpr, sc)
		}
		return e
	case *hclsyntax.ObjectConsKeyExpr:
		// A bare word is text here, and the evaluator looks at it as written.
		if _, dotted := e.Wrapped.(*hclsyntax.ScopeTraversalExpr); !e.ForceNonLiteral && (dotted || hcl.ExprAsKeyword(e.Wrapped) != "") {
			return e
		}
		e.Wrapped = l.compile(e.Wrapped, sc)
		return e
	case *hclsyntax.ForExpr:
		e.CollExpr = &walkedExpr{l.compile(e.CollExpr, sc), l.meter}
		in := sc.with(e.KeyVar, e.ValVar)
		if e.KeyExpr != nil {
			e.KeyExpr = &keyExpr{stepExpr{l.compile(e.KeyExpr, in), l.meter}}
		}
		e.ValExpr = &stepExpr{l.compile(e.ValExpr, in), l.meter}
		if e.CondExpr != nil {
			e.CondExpr = &stepExpr{l.compile(e.CondExpr, in), l.meter}
		}
		return &forExpr{e, l.meter}
	case *hclsyntax.SplatExpr:
		e.Source = l.compile(e.Source, sc)
		e.Each = &stepExpr{l.compile(e.Each, sc), l.meter}
		return e
	case *hclsyntax.BinaryOpExpr:
		if e.Op == hclsyntax.OpEqual || e.Op == hclsyntax.OpNotEqual {
			e.LHS = &equalExpr{l.compile(e.LHS, sc), l.meter}
			e.RHS = &equalExpr{l.compile(e.RHS, sc), l.meter}
			return &opExpr{e, l.meter, opSteps}
		}
		e.LHS = &numberExpr{l.compile(e.LHS, sc), l.meter}
		e.RHS = &numberExpr{l.compile(e.RHS, sc), l.meter}
		if e.Op == hclsyntax.OpDivide || e.Op == hclsyntax.OpModulo {
			return &opExpr{&textExpr{e, l.meter}, l.meter, divideSteps}
		}
		return &opExpr{&textExpr{e, l.meter}, l.meter, opSteps}
	case *hclsyntax.UnaryOpExpr:
		e.Val = &numberExpr{l.compile(e.Val, sc), l.meter}
		return &opExpr{e, l.meter, opSteps}
	case *hclsyntax.TemplateExpr:
		if e.IsStringLiteral() {
			return e
		}
		for i := range e.Parts {
			e.Parts[i] = &textExpr{l.compile(e.Parts[i], sc), l.meter}
		}
		return e
	case *hclsyntax.TemplateWrapExpr:
		e.Wrapped = l.compile(e.Wrapped, sc)
		return e
	case *hclsyntax.TemplateJoinExpr:
		e.Tuple = l.compile(e.Tuple, sc)
		return e
	}
	return l.refuse(e, mistake(e.Range(), "Expression not understood", "This kind of expression cannot be used here."))
}

// refuse reports d and gives an expression that fails without another word.
func (l *loader) refuse(e hclsyntax.Expression, d *hcl.Diagnostic) hclsyntax.Expression {
	l.report(d)
	return &failedExpr{e}
}

// reported marks a diagnostic that only says: this failed, and the reason was given.
type reported struct{}

var alreadyReported = &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "This was reported already", Extra: reported{}}

type failedExpr struct{ hclsyntax.Expression }

func (e *failedExpr) Value(*hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	return cty.DynamicVal, hcl.Diagnostics{alreadyReported}
}

// compileCall checks that a function is there, and wraps the call.
func (l *loader) compileCall(e *hclsyntax.FunctionCallExpr, sc scope) hclsyntax.Expression {
	for i := range e.Args {
		e.Args[i] = l.compile(e.Args[i], sc)
	}
	switch e.Name {
	case "try", "can":
		if sc.usage != nil {
			sc.usage.unsure = true // a file that is not there may be what it depends on
		}
		if len(e.Args) == 0 || e.Name == "can" && len(e.Args) > 1 || e.ExpandFinal {
			return l.refuse(e, mistake(e.Range(), fmt.Sprintf("Wrong arguments of %s", e.Name), "try takes one or more expressions, can takes one."))
		}
		return &tryExpr{Expression: e, call: e, m: l.meter}
	case "templatefile":
		if len(e.Args) != 2 || e.ExpandFinal {
			return l.refuse(e, mistake(e.Range(), "Wrong arguments of templatefile", `It takes the path of a file and the values for the names in it: templatefile("motd.tmpl", { name = "x" }).`))
		}
		e.Args[1] = &argExpr{Expression: e.Args[1], m: l.meter}
		return &templateExpr{Expression: e, s: l.shared, call: e}
	}
	f, ok := l.root.Functions[e.Name]
	if !ok {
		return l.refuse(e, mistake(e.NameRange, fmt.Sprintf("Unknown function %q", e.Name), "There is no such function here."+l.hint(e.Name, functionNames(l.root.Functions))))
	}
	params, rest := f.Params(), f.VarParam()
	price := costs[e.Name]
	for i := range e.Args {
		want := cty.DynamicPseudoType
		switch {
		case i < len(params):
			want = params[i].Type
		case rest != nil:
			want = rest.Type
		}
		unified := want.IsCollectionType() || slices.Contains(unifying, e.Name)
		e.Args[i] = &argExpr{e.Args[i], l.meter, unified && !e.ExpandFinal, price}
		if want == cty.Number {
			e.Args[i] = &numberExpr{e.Args[i], l.meter}
		}
	}
	return &callExpr{Expression: e, call: e, m: l.meter, steps: callSteps + price.call}
}

// unifying are the functions that take anything, and make one type of its elements.
var unifying = []string{"tolist", "toset", "tomap", "setproduct", "coalescelist", "zipmap"}

func functionNames(fs map[string]function.Function) []string {
	out := []string{"try", "can", "templatefile"}
	for n := range fs {
		out = append(out, n)
	}
	return out
}

// callExpr is a function call.
type callExpr struct {
	hclsyntax.Expression
	call  *hclsyntax.FunctionCallExpr
	m     *meter
	steps int64
}

func (e *callExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e.m.spend(e.steps, 0, e.Range())
	secrets := e.m.secrets
	v, diags := e.call.Value(ctx)
	if diags.HasErrors() {
		e.m.spend(0, 0, e.Range()) // when a guard found that nothing is left
	}
	for i, d := range diags {
		extra, ok := d.Extra.(hclsyntax.FunctionCallDiagExtra)
		if !ok || extra.FunctionCallError() == nil {
			continue
		}
		at := e.call.Range()
		switch err := extra.FunctionCallError(); {
		case e.m.secrets != secrets:
			// The message of a function may quote its arguments.
			diags[i] = mistake(at, fmt.Sprintf("%s failed", e.call.Name), "An argument is sensitive, so the reason is not shown.")
		default:
			if d.Subject != nil {
				at = *d.Subject
				if at.Start == e.call.StartRange().Start {
					at = e.call.Range()
				}
			}
			diags[i] = functionFailed(at, e.call.Name, err)
		}
	}
	return v, diags
}

func functionFailed(at hcl.Range, name string, err error) *hcl.Diagnostic {
	if fe, ok := err.(*fileError); ok {
		return mistake(at, fe.summary, fe.detail)
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return mistake(at, name+" failed", sentence(text))
}

// tryExpr gives the first of its arguments that can be evaluated; as can(), whether
// there is one.
type tryExpr struct {
	hclsyntax.Expression
	call *hclsyntax.FunctionCallExpr
	m    *meter
}

func (e *tryExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e.m.spend(callSteps, 0, e.Range())
	var first hcl.Diagnostics
	for _, arg := range e.call.Args {
		failures := e.m.failures
		v, diags := arg.Value(ctx)
		if !diags.HasErrors() {
			if e.call.Name == "can" {
				return cty.True, nil
			}
			return v, diags
		}
		e.m.failures = failures
		if first == nil {
			first = diags
		}
	}
	if e.call.Name == "can" {
		return cty.False, nil
	}
	return cty.DynamicVal, first
}
