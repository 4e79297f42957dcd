package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// overridable are the rules of a policy that an order may pass by name. Approval needs
// no name: an order is one.
var overridable = [...]plan.Rule{plan.RuleMaxDelete, plan.RuleAllowEmpty, plan.RuleWindow}

// CheckOverrides says why a list of rules cannot be overridden; nil when it can.
func CheckOverrides(names []string) error {
	for _, name := range names {
		if !slices.Contains(overridable[:], plan.Rule(name)) {
			hint := ""
			if name == string(plan.RuleApprove) {
				hint = "; what an operator applies is approved by that"
			}
			return fmt.Errorf("%q is no rule that can be overridden: want %s, %s or %s%s", name, overridable[0], overridable[1], overridable[2], hint)
		}
	}
	return nil
}

// Waiting is why a revision is not applied yet, although nothing is wrong with it.
type Waiting struct {
	Revision string       `json:"revision"`
	For      string       `json:"for"` // "approval" or "window"
	Message  string       `json:"message"`
	Until    time.Time    `json:"until,omitzero"` // of a window: when it opens; zero: never, or it is not a window
	Command  string       `json:"command"`        // what an operator runs to have it applied at once
	Range    schema.Range `json:"range,omitzero"` // of the rule, in the tree whose policy is in force
}

// What a revision waits for.
const (
	WaitApproval = "approval"
	WaitWindow   = "window"
)

// waitError ends an attempt that is to be made again later.
type waitError struct{ Waiting }

func (w *waitError) Error() string { return w.Message }

// due reports whether a revision that waits is to be looked at again.
func (w *Waiting) due(now time.Time) bool {
	return w != nil && w.For == WaitWindow && !w.Until.IsZero() && !now.Before(w.Until)
}

// gate decides, from the policy in force, whether the plan may be brought about now.
// Its error is a *Failure with ReasonDenied or, for what the engine does by itself, a
// *waitError. A rollback is an operator's way out and passes always; what is made anew was let through before.
//
// The policy in force is that of the generation that is served, so that no commit
// lets itself through; while nothing is served, the commit's own. For a commit it is
// that of inForce.
func (a *attempt) gate(cur *applied, want *schema.Desired, own store.Files) error {
	if a.j.generation != 0 || a.j.trigger == store.TriggerDrift {
		return nil
	}
	operator := a.j.trigger != store.TriggerCommit
	denials := a.plan.Denied
	if !operator {
		judge, err := a.inForce(cur)
		if err != nil {
			return err
		}
		if judge != cur {
			denials = a.compareWith(judge, a.j.rev.Hash, want, nil, a.obs).Denied
			cur = judge
		}
	}
	policy, files := &want.Policy, own
	if cur != nil {
		policy, files = &cur.desired.Policy, cur.record.Files
	}
	open, next, unknown := openAt(policy.Windows, a.now())
	var denied hcl.Diagnostics
	for _, d := range denials {
		if !a.overrides(d.Rule) {
			denied = append(denied, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: d.Summary, Detail: d.Detail, Subject: subject(d.Range)})
		}
	}
	switch {
	case open || !operator && len(denied) > 0:
	case unknown != nil:
		if !a.overrides(plan.RuleWindow) {
			denied = append(denied, unknown)
		}
	case operator && !a.overrides(plan.RuleWindow):
		denied = append(denied, &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "No window for changes is open",
			Detail:  fmt.Sprintf("%s Apply it then, or now with --override %s.", opens(policy.Windows, next), plan.RuleWindow),
			Subject: subject(policy.Windows[0].Range),
		})
	}
	if len(denied) > 0 {
		return a.denial(denied, files)
	}
	if operator {
		return nil
	}
	command := "dlreconcile apply --rev " + short(a.j.rev.Hash)
	if !open {
		command += " --override " + string(plan.RuleWindow)
	}
	w := Waiting{Revision: a.j.rev.Hash, Command: command, Range: policy.Range}
	switch {
	case policy.Approve:
		w.For, w.Message = WaitApproval, "the policy wants an operator to apply each commit"
		if !open {
			w.Message += ", and no window is open: " + opens(policy.Windows, next)
		}
		return &waitError{w}
	case !open:
		w.For, w.Until, w.Range = WaitWindow, next, policy.Windows[0].Range
		w.Message = opens(policy.Windows, next)
		return &waitError{w}
	}
	return nil
}

// overrides reports whether the order passes a rule, and remembers that it had to.
func (a *attempt) overrides(rule plan.Rule) bool {
	name := string(rule)
	if !slices.Contains(a.j.overrides, name) {
		return false
	}
	if !slices.Contains(a.overridden, name) {
		a.overridden = append(a.overridden, name)
		slices.Sort(a.overridden)
	}
	return true
}

// denial makes the Failure of what the policy does not let through. files are those
// that the places speak of.
func (a *attempt) denial(diags hcl.Diagnostics, files store.Files) *Failure {
	f := &Failure{Revision: a.j.rev.Hash, Stage: PhaseGating, Reason: ReasonDenied, At: a.now(), Diagnostics: schema.ToDiagnostics(diags)}
	if a.missing != nil {
		f.Diagnostics = append(f.Diagnostics, schema.Diagnostic{Severity: "warning", Summary: "The commit has no configuration at all", Detail: a.missing.Error()})
	}
	var lines []string
	for i := range f.Diagnostics {
		d := &f.Diagnostics[i]
		lines = append(lines, d.String())
		if d.Source == "" {
			d.Source = lineOf(files, d.Range)
		}
	}
	f.Message = strings.Join(lines, "\n")
	return f
}

// opens says when changes are let through.
func opens(windows []schema.Window, next time.Time) string {
	var list []string
	for i := range windows {
		list = append(list, describeWindow(&windows[i]))
	}
	text := "The policy lets changes through " + strings.Join(list, "; ")
	if next.IsZero() {
		return text + ", which never comes."
	}
	return text + "; the next window opens at " + next.Format(time.RFC3339) + "."
}

func subject(r schema.Range) *hcl.Range {
	if r == (schema.Range{}) {
		return nil
	}
	return new(r.HCL())
}

// lineOf gives the line that a range begins on, "" when it is not there.
func lineOf(files store.Files, r schema.Range) string {
	lines := strings.Split(string(files[r.File]), "\n")
	if r.Line < 1 || r.Line > len(lines) {
		return ""
	}
	return strings.TrimRight(lines[r.Line-1], "\r")
}
