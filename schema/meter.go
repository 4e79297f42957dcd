package schema

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Evaluation in hcl cannot be cancelled, and a few lines can ask for more than any
// machine has: loops in loops, text that doubles with every local, numbers with a
// billion digits. So the nodes where work and values multiply are wrapped before
// they are evaluated, and report to a meter. When it runs out, it unwinds to
// loader.eval with a panic, the only way out through the evaluator's loops.

// meter counts what evaluation costs. A step is about one loop turn, function call
// or element looked at.
type meter struct {
	limit    int64 // of steps
	steps    int64
	text     int64
	failures int   // of the expression being evaluated
	secrets  int64 // sensitive arguments seen; see callExpr
}

// exhausted is what the meter panics with. When it is not final, other expressions
// may still be evaluated.
type exhausted struct {
	diag  *hcl.Diagnostic
	final bool
}

func (m *meter) spend(steps, text int64, at hcl.Range) {
	m.steps += steps
	m.text += text
	if m.steps > m.limit || m.text > maxText {
		panic(exhausted{m.tooMuch(at), true})
	}
}

func (m *meter) tooMuch(at hcl.Range) *hcl.Diagnostic {
	return mistake(at, "The configuration takes too much work to evaluate",
		fmt.Sprintf("Loading is given up after %d steps or %s of text. Look for loops in loops, and keep what is computed more than once in a local.", m.limit, formatSize(maxText)))
}

// has reports whether so much can be spent. Where it cannot, spending it piece by piece
// finds the place at which there is too little left.
func (m *meter) has(steps, text int64) bool {
	return m.steps+steps <= m.limit && m.text+text <= maxText
}

// failed counts an error in something that may be repeated.
func (m *meter) failed(at hcl.Range) {
	if m.failures++; m.failures > maxFailures {
		panic(exhausted{mistake(at, "Too many mistakes in one expression", "The rest of it was not evaluated."), false})
	}
}

// weigh charges for everything in v, and refuses a value that is too large.
func (m *meter) weigh(v cty.Value, at hcl.Range) weight {
	w := weight{at: at}
	w.add(v, 0)
	m.spend(w.work+w.text/bytesPerStep, w.text, at)
	return w
}

// weight is what there is in a value.
type weight struct {
	at        hcl.Range
	nodes     int64
	text      int64
	work      int64 // steps of looking at it once
	pairs     int64 // of elements in tuples and objects: what finding a common type compares
	sensitive bool  // something is
	unknown   bool  // something is
}

func (w *weight) add(v cty.Value, depth int) {
	v, marks := v.Unmark()
	w.sensitive = w.sensitive || len(marks) > 0
	w.work++
	if w.nodes++; w.nodes > maxValueNodes || w.text > maxValueText || depth > maxDepth {
		panic(exhausted{mistake(w.at, "Value too large", fmt.Sprintf("A value may have %d elements, %s of text, and %d levels.", maxValueNodes, formatSize(maxValueText), maxDepth)), false})
	}
	if v == cty.NilVal || !v.IsKnown() {
		w.unknown = true
		return
	}
	if v.IsNull() {
		return
	}
	switch ty := v.Type(); {
	case ty == cty.String:
		w.text += int64(len(v.AsString()))
	case ty == cty.Number:
		f := v.AsBigFloat()
		if f.IsInf() || abs(f.MantExp(nil)) > maxExponent {
			panic(exhausted{mistake(w.at, "Number out of range", "A number this large or small takes too long to print."), false})
		}
	case ty.IsObjectType():
		n := int64(len(ty.AttributeTypes()))
		w.pairs += 2 * n * n
		w.work += attribute * n
		for name := range ty.AttributeTypes() {
			w.text += int64(len(name))
			w.add(v.GetAttr(name), depth+1)
		}
	case ty.IsCollectionType() || ty.IsTupleType():
		n := int64(v.LengthInt())
		switch {
		case ty.IsTupleType():
			w.pairs += pairsOf(ty.TupleElementTypes())
			w.work += listElement * n
		case ty.IsSetType():
			w.work += setElement * n
		case ty.IsMapType():
			w.work += mapElement * n
		default:
			w.work += listElement * n
		}
		for it := v.ElementIterator(); it.Next(); {
			key, el := it.Element()
			if ty.IsMapType() {
				w.text += int64(len(key.AsString()))
			}
			w.add(el, depth+1)
		}
	}
}

// pairsOf is what comparing each with each costs, in pairs of types that are the same.
func pairsOf(list []cty.Type) int64 {
	n := int64(len(list))
	for _, ty := range list {
		if !ty.Equals(list[0]) {
			return 2 * n * n
		}
	}
	return n * n / 2
}

// forExpr is a loop. When two of its keys are the same, the evaluator says which, as if
// keys were never sensitive.
type forExpr struct {
	hclsyntax.Expression
	m *meter
}

func (e *forExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	secrets := e.m.secrets
	v, diags := e.Expression.Value(ctx)
	if e.m.secrets == secrets {
		return v, diags
	}
	for i, d := range diags {
		if d.Summary == "Duplicate object key" {
			diags[i] = mistake(*d.Subject, d.Summary, "Two items give the same key, which is sensitive and not shown.")
		}
	}
	return v, diags
}

// keyExpr is the key of a loop.
type keyExpr struct{ stepExpr }

func (e *keyExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e.m.spend(keySteps, 0, e.Range())
	v, diags := e.stepExpr.Value(ctx)
	if v.IsMarked() {
		e.m.secrets++
	}
	return v, diags
}

// stepExpr is a node that a loop evaluates again and again.
type stepExpr struct {
	hclsyntax.Expression
	m *meter
}

func (e *stepExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e.m.spend(loopSteps, 0, e.Range())
	v, diags := e.Expression.Value(ctx)
	if diags.HasErrors() {
		e.m.failed(e.Range())
	}
	return v, diags
}

// textExpr is a part of a template: its text is copied into the result.
type textExpr struct {
	hclsyntax.Expression
	m *meter
}

func (e *textExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.Expression.Value(ctx)
	if v.Type().IsPrimitiveType() {
		e.m.weigh(v, e.Range())
	}
	return v, diags
}

// branchExpr is a branch of a conditional: the evaluator looks for a type that fits
// both, and compares each with each.
type branchExpr struct {
	hclsyntax.Expression
	m *meter
}

func (e *branchExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.Expression.Value(ctx)
	w := e.m.weigh(v, e.Range())
	e.m.spend(branchSteps+w.pairs/pairsPerStep, 0, e.Range())
	return v, diags
}

// equalExpr is a side of a comparison.
type equalExpr struct {
	hclsyntax.Expression
	m *meter
}

func (e *equalExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.Expression.Value(ctx)
	w := e.m.weigh(v, e.Range())
	e.m.spend(equalSteps*w.nodes+2*w.work, 0, e.Range())
	return v, diags
}

// argExpr is an argument of a function.
type argExpr struct {
	hclsyntax.Expression
	m *meter
	// collection says that the function takes lists, sets or maps. A tuple or object is
	// converted for it by comparing all element types with each other, which is avoided
	// where they are the same.
	collection bool
	cost       cost // of the function
}

func (e *argExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.Expression.Value(ctx)
	w := e.m.weigh(v, e.Range())
	e.m.spend(e.cost.of(w), 0, e.Range())
	if w.sensitive {
		e.m.secrets++
	}
	if e.collection && !w.unknown {
		same, ok := uniform(v)
		if ok {
			return same, diags
		}
		e.m.spend(w.pairs/pairsPerStep, 0, e.Range())
	}
	return v, diags
}

// uniform makes a list of a tuple, and a map of an object, whose elements have one
// type.
func uniform(v cty.Value) (cty.Value, bool) {
	raw, marks := v.Unmark()
	ty := raw.Type()
	if raw.IsNull() || !ty.IsTupleType() && !ty.IsObjectType() || raw.LengthInt() == 0 {
		return v, false
	}
	list, attrs := make([]cty.Value, 0, raw.LengthInt()), map[string]cty.Value{}
	for it := raw.ElementIterator(); it.Next(); {
		k, el := it.Element()
		if len(list) > 0 && !list[0].Type().Equals(el.Type()) {
			return v, false
		}
		list = append(list, el)
		if ty.IsObjectType() {
			attrs[k.AsString()] = el
		}
	}
	if list[0].Type() == cty.DynamicPseudoType {
		return v, false
	}
	if ty.IsObjectType() {
		return cty.MapVal(attrs).WithMarks(marks), true
	}
	return cty.ListVal(list).WithMarks(marks), true
}

// alike prepares a value for its conversion to a list, set or map, as argExpr does
// for arguments.
func (l *loader) alike(v cty.Value, at hcl.Range) (same cty.Value, d *hcl.Diagnostic) {
	if same, ok := uniform(v); ok {
		return same, nil
	}
	defer func() {
		if r := recover(); r != nil {
			x, ok := r.(exhausted)
			if !ok {
				panic(r)
			}
			l.stopped = l.stopped || x.final
			same, d = v, x.diag
		}
	}()
	l.meter.spend(l.meter.weigh(v, at).pairs/pairsPerStep, 0, at)
	return v, nil
}

// walkedExpr is what a loop goes through.
type walkedExpr struct {
	hclsyntax.Expression
	m *meter
}

func (e *walkedExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.Expression.Value(ctx)
	e.m.setSteps(v, e.Range())
	return v, diags
}

// opExpr is an operator.
type opExpr struct {
	hclsyntax.Expression
	m     *meter
	steps int64
}

func (e *opExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	e.m.spend(e.steps, 0, e.Range())
	return e.Expression.Value(ctx)
}

// numberExpr is an operand that becomes a number, or an index. Text with thousands
// of digits takes quadratic time to become one.
type numberExpr struct {
	hclsyntax.Expression
	m *meter
}

func (e *numberExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := e.Expression.Value(ctx)
	raw, _ := v.Unmark()
	if raw.Type() == cty.String && !raw.IsNull() && raw.IsKnown() && len(raw.AsString()) > maxNumberText {
		return cty.DynamicVal, append(diags, mistake(e.Range(), "Number out of range", "This text is too long for a number."))
	}
	if raw.Type() == cty.Number {
		e.m.weigh(raw, e.Range())
	}
	return v, diags
}

// maxNumberText is the longest text that is tried as a number.
const maxNumberText = 256
