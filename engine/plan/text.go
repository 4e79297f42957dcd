package plan

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// TextOptions says how a plan is printed. The zero value is plain text without a
// line length.
type TextOptions struct {
	Color bool // ANSI colours
	Width int  // columns of the terminal; longer values are cut. 0: values are cut at 200
}

// Bounds of the text form. The JSON form has everything.
const (
	maxNames = 20
	maxValue = 200
	minValue = 24
)

// Text prints the plan for people: per change a line with its consequence below,
// per attribute that differs a line, or several for a list, a map or a long text, then
// the warnings, what is denied and waited for, and at last the counts. Of a created resource
// the attributes that are empty are left out, of a deleted one all are. Nothing in
// a plan reaches the terminal with control characters in it.
func (p *Plan) Text(w io.Writer, opts TextOptions) error {
	t := &text{w: bufio.NewWriter(w), opts: opts}
	for n := range p.Changes {
		t.change(&p.Changes[n])
		t.line("")
	}
	t.policy(p.Policy, p.BaseGeneration)
	t.variables(p.Variables)
	t.warnings(p.Warnings)
	t.denied(p.Denied)
	t.waits(p.Waits)
	t.targets(p.Targets)
	if !p.Pending() {
		t.line(p.unchanged())
	} else {
		t.line("Plan: " + p.Summary.String() + ".")
	}
	return t.w.Flush()
}

// String spells the counts: "1 to create, 0 to update, 0 to replace, 2 to delete".
// Moves are told when there are any.
func (s Summary) String() string {
	out := fmt.Sprintf("%d to create, %d to update, %d to replace, %d to delete", s.Create, s.Update, s.Replace, s.Delete)
	if s.Move > 0 {
		out += fmt.Sprintf(", %d moved", s.Move)
	}
	return out
}

type text struct {
	w    *bufio.Writer // keeps its first error for Flush
	opts TextOptions
}

func (t *text) line(s string) {
	t.w.WriteString(strings.TrimRight(s, " "))
	t.w.WriteByte('\n')
}

// unchanged says that there is nothing to do.
func (p *Plan) unchanged() string {
	what := p.planned()
	switch {
	case len(p.Targets) > 0 && p.BaseGeneration == 0:
		return "No changes of that. Nothing is applied."
	case len(p.Targets) > 0:
		return fmt.Sprintf("No changes of that. Generation %d is what %s describes there.", p.BaseGeneration, what)
	case p.BaseGeneration == 0:
		return "No changes. Nothing is applied, and " + what + " describes nothing."
	}
	return fmt.Sprintf("No changes. Generation %d is what %s describes.", p.BaseGeneration, what)
}

// planned names what the plan is of.
func (p *Plan) planned() string {
	if p.Revision == nil {
		return "this work tree"
	}
	return "revision " + printable(abbreviate(*p.Revision))
}

// abbreviate shortens a commit hash, and nothing else.
func abbreviate(rev string) string {
	if len(rev) < 40 {
		return rev
	}
	for _, r := range rev {
		if !strings.ContainsRune("0123456789abcdef", r) {
			return rev
		}
	}
	return rev[:12]
}

// sign gives the mark of an action and its ANSI colour.
func sign(a Action) (mark, color string) {
	switch a {
	case Create:
		return "+", "32"
	case Update:
		return "~", "33"
	case Replace:
		return "-/+", "31"
	case Delete:
		return "-", "31"
	default:
		return " ", "0"
	}
}

func (t *text) paint(a Action, s string) string {
	if !t.opts.Color {
		return s
	}
	_, c := sign(a)
	return "\x1b[" + c + "m" + s + "\x1b[0m"
}

func (t *text) change(ch *Change) {
	var head strings.Builder
	mark, _ := sign(ch.Action)
	if ch.Action == NoOp {
		mark = "#" // moved
	}
	head.WriteString(t.paint(ch.Action, mark+" "+printable(ch.Address.String())))
	if !ch.From.IsZero() {
		head.WriteString("   moved from " + printable(ch.From.String()))
	}
	for _, name := range [...]string{attrRecipe, attrArtifact, attrWireName} {
		if s := pseudoText(ch, name); s != "" {
			head.WriteString("   " + s)
			if slices.Contains(ch.ForcedBy, name) {
				head.WriteString(forcesReplacement)
			}
		}
	}
	if len(ch.Inputs) > 0 {
		var list []string
		for _, in := range ch.Inputs {
			list = append(list, in.String())
		}
		head.WriteString("   follows " + nameList(list))
	}
	switch ch.Reason {
	case Drift:
		head.WriteString("   what is served is no longer in the store")
	case Requested:
		head.WriteString("   built again")
	}
	if r := ch.Range.String(); r != "" {
		head.WriteString("     " + printable(r))
	}
	t.line(head.String())
	t.attributes(ch)
	t.impact(ch.Impact)
	if ch.Reason == Moved && ch.Action == NoOp && len(ch.Impact) == 0 {
		t.line("    nothing is lost, and no machine notices")
	}
}

// pseudoText spells a pseudo-attribute for the head line, or gives "".
func pseudoText(ch *Change, name string) string {
	// An image without the attribute's kind may have one of that name itself.
	switch {
	case name == attrWireName && ch.Address.Kind != kindExport,
		name != attrWireName && ch.Address.Kind != kindImage:
		return ""
	}
	before, after := pseudoValue(name, ch.Before[name]), pseudoValue(name, ch.After[name])
	if slices.Contains(ch.AfterUnknown, name) {
		after = "(known after build)"
	}
	label := name + " "
	if name == attrWireName {
		label = ""
	}
	switch {
	case before != "" && after != "":
		return label + before + " -> " + after
	case ch.Action == Delete && before != "":
		return label + before
	case after != "":
		return label + after
	default:
		return ""
	}
}

func pseudoValue(name string, raw json.RawMessage) string {
	var s string
	if len(raw) == 0 || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	switch {
	case name == attrWireName:
		return printable(s)
	case name == attrRecipe:
		return shortDigest(strings.TrimPrefix(s, "sha256:"))
	default:
		return shortDigest(s)
	}
}

// shortDigest cuts the hex digits of a digest to 12.
func shortDigest(s string) string {
	s = printable(s)
	prefix, hex, ok := strings.Cut(s, ":")
	if !ok {
		prefix, hex = "", s
	} else {
		prefix += ":"
	}
	if len(hex) > 12 {
		hex = hex[:12] + "…"
	}
	return prefix + hex
}

func isPseudo(ch *Change, name string) bool {
	switch ch.Address.Kind {
	case kindImage:
		return name == attrRecipe || name == attrArtifact
	case kindExport:
		return name == attrWireName
	}
	return false
}
