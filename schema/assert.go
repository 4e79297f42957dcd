package schema

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// checkVariables evaluates the validation blocks of variables, which may look at other
// variables too.
func (l *loader) checkVariables() {
	for _, b := range l.order {
		if b.addr.Kind != "variable" {
			continue
		}
		if _, diags := l.variableValue(b.addr.Name); diags.HasErrors() {
			continue
		}
		for _, n := range b.body.blocks {
			if n.kind != "validation" {
				continue
			}
			where := ""
			if at := l.variables[b.addr.Name].at; at.Filename != "" && !within(at, []hcl.Range{b.whole}) {
				where = fmt.Sprintf(" (Its value stands at %s.)", rangeOf(at))
			}
			l.assert(n, fmt.Sprintf("Invalid value for var.%s", b.addr.Name), where)
		}
	}
}

// checkAsserts evaluates the check blocks.
func (l *loader) checkAsserts() {
	for _, b := range l.order {
		if b.addr.Kind != "check" {
			continue
		}
		if len(b.body.blocks) == 0 && !b.broken {
			l.report(mistake(b.at, fmt.Sprintf("Check %q asserts nothing", b.addr.Name), "Say what must be true: assert { condition = …, error_message = \"…\" }, on lines of their own."))
		}
		for _, n := range b.body.blocks {
			l.assert(n, fmt.Sprintf("Check %q failed", b.addr.Name), "")
		}
	}
}

// maxMessage is how much of an error_message is shown.
const maxMessage = 1000

// assert evaluates a block that has a condition and a message. summary is said when it
// does not hold, and more after the message.
func (l *loader) assert(n *nested, summary, more string) {
	condition, message := n.body.attrs["condition"], n.body.attrs["error_message"]
	if condition == nil || message == nil {
		return // reported when the block was collected
	}
	at := condition.Expr.Range()
	v, diags := l.eval(condition.Expr, l.root)
	if l.told(diags...); diags.HasErrors() {
		return
	}
	v, _ = v.UnmarkDeep()
	ok, err := convert.Convert(v, cty.Bool)
	if err != nil || ok.IsNull() {
		l.told(mistake(at, "The condition is neither true nor false", fmt.Sprintf("It is %s. Compare something: var.name != \"\".", kindOf(v))))
		return
	}
	text, known := l.message(n)
	if known && ok.False() {
		l.told(mistake(at, summary, text+more))
	}
}

// message evaluates the error_message of a block, whether it is needed or not: so its
// mistakes are found before it is.
func (l *loader) message(n *nested) (string, bool) {
	e := n.body.attrs["error_message"].Expr
	v, diags := l.eval(e, l.root)
	if l.told(diags...); diags.HasErrors() {
		return "", false
	}
	v, marks := v.UnmarkDeep()
	text, err := convert.Convert(v, cty.String)
	if err != nil || text.IsNull() || text.AsString() == "" {
		l.told(mistake(e.Range(), "error_message is no text", "It tells people what is wrong, and how to mend it."))
		return "", false
	}
	if len(marks) > 0 {
		return "The message is not shown: it holds a sensitive value.", true
	}
	s := text.AsString()
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return sentence(s), true
}

// kindOf says what a value is, for messages.
func kindOf(v cty.Value) string {
	switch {
	case v.IsNull():
		return "null"
	case v.Type() == refType:
		return "a reference"
	}
	return article(v.Type().FriendlyName())
}
