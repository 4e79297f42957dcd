package plan

import (
	"slices"
	"strconv"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// PolicyChange is a rule that the policy has otherwise than before. It decides from
// the commit after this one on, and while nothing is served at once. Before and After are "" where nobody says anything.
type PolicyChange struct {
	Rule   Rule         `json:"rule"`
	Before string       `json:"before"`
	After  string       `json:"after"`
	Range  schema.Range `json:"range"` // of the policy; where there is none any more, of the one before
}

// Pending reports whether there is anything to apply: a change, another policy, or
// another value of a sensitive variable.
func (p *Plan) Pending() bool {
	return len(p.Changes) > 0 || len(p.Policy) > 0 || len(p.Variables) > 0
}

// policyChanges compares the rules of two policies, in the order of their names.
func policyChanges(was, is *schema.Policy) []PolicyChange {
	at := is.Range
	if at == (schema.Range{}) {
		at = was.Range
	}
	var list []PolicyChange
	for _, rule := range [...]Rule{RuleAllowEmpty, RuleApprove, RuleMaxDelete, RuleWindow} {
		if before, after := ruleText(was, rule), ruleText(is, rule); before != after {
			list = append(list, PolicyChange{rule, before, after, at})
		}
	}
	return list
}

// ruleText spells one rule of a policy; "" for what it is without one.
func ruleText(p *schema.Policy, rule Rule) string {
	switch rule {
	case RuleAllowEmpty:
		if p.AllowEmpty {
			return "true"
		}
	case RuleApprove:
		if p.Approve {
			return "required"
		}
	case RuleMaxDelete:
		switch {
		case p.MaxDelete == nil:
		case p.MaxDelete.Percent >= 0:
			return strconv.Itoa(p.MaxDelete.Percent) + "%"
		default:
			return strconv.Itoa(p.MaxDelete.Count)
		}
	case RuleWindow:
		return windowsText(p.Windows)
	}
	return ""
}

func windowsText(list []schema.Window) string {
	var out []string
	for _, w := range list {
		out = append(out, windowText(w))
	}
	return strings.Join(out, "; or ")
}

// policy prints a policy that changes. base is the generation that is served; while
// there is none, the policy decides at once.
func (t *text) policy(list []PolicyChange, base uint64) {
	if len(list) == 0 {
		return
	}
	action := Update
	switch {
	case !slices.ContainsFunc(list, func(c PolicyChange) bool { return c.Before != "" }):
		action = Create
	case !slices.ContainsFunc(list, func(c PolicyChange) bool { return c.After != "" }):
		action = Delete
	}
	mark, _ := sign(action)
	head := t.paint(action, mark+" policy")
	if r := list[0].Range.String(); r != "" {
		head += "     " + printable(r)
	}
	t.line(head)
	width := 0
	for _, c := range list {
		width = max(width, len(c.Rule))
	}
	room := t.room(width)
	for _, c := range list {
		name := string(c.Rule) + strings.Repeat(" ", width-len(c.Rule)) + "  "
		before, after := printable(c.Before), printable(c.After)
		switch {
		case c.Before == "":
			t.line("  " + t.paint(Create, "+ "+name) + cut(after, room))
		case c.After == "":
			t.line("  " + t.paint(Delete, "- "+name) + cut(before, room))
		default:
			b, a := cutBoth(before, after, (room-4)/2)
			t.line("  " + t.paint(Update, "~ "+name) + b + " -> " + a)
		}
	}
	if base > 0 {
		t.line("    decides from the next commit on")
	}
	t.line("")
}
