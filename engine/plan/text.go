package plan

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
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
// per attribute that differs a line, then the warnings, and at last the counts. Of a created resource
// the attributes that are empty are left out, of a deleted one all are. Nothing in
// a plan reaches the terminal with control characters in it.
func (p *Plan) Text(w io.Writer, opts TextOptions) error {
	t := &text{w: bufio.NewWriter(w), opts: opts}
	if len(p.Changes) == 0 {
		t.warnings(p.Warnings)
		t.unchanged(p)
		return t.w.Flush()
	}
	for n := range p.Changes {
		t.change(&p.Changes[n])
		t.line("")
	}
	t.warnings(p.Warnings)
	s := p.Summary
	t.line(fmt.Sprintf("Plan: %d to create, %d to update, %d to replace, %d to delete.", s.Create, s.Update, s.Replace, s.Delete))
	return t.w.Flush()
}

type text struct {
	w    *bufio.Writer // keeps its first error for Flush
	opts TextOptions
}

func (t *text) line(s string) {
	t.w.WriteString(strings.TrimRight(s, " "))
	t.w.WriteByte('\n')
}

func (t *text) unchanged(p *Plan) {
	what := "this work tree"
	if p.Revision != nil {
		what = "revision " + printable(abbreviate(*p.Revision))
	}
	if p.BaseGeneration == 0 {
		t.line("No changes. Nothing is applied, and " + what + " describes nothing.")
		return
	}
	t.line(fmt.Sprintf("No changes. Generation %d is what %s describes.", p.BaseGeneration, what))
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
	head.WriteString(t.paint(ch.Action, mark+" "+ch.Address.String()))
	for _, name := range [...]string{attrRecipe, attrArtifact, attrWireName} {
		if s := pseudoText(ch, name); s != "" {
			head.WriteString("   " + s)
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

func (t *text) attributes(ch *Change) {
	if ch.Action == Delete {
		return
	}
	set := map[string]bool{}
	for name := range maps.Keys(ch.Before) {
		set[name] = true
	}
	for name, raw := range ch.After {
		if _, was := ch.Before[name]; was || !empty(raw) {
			set[name] = true
		}
	}
	list := slices.Sorted(maps.Keys(set))
	list = slices.DeleteFunc(list, func(name string) bool { return isPseudo(ch, name) })
	width := 0
	for _, name := range list {
		width = max(width, utf8.RuneCountInString(printable(name)))
	}
	for _, name := range list {
		before, was := ch.Before[name]
		after, is := ch.After[name]
		name = fmt.Sprintf("%-*s", width, printable(name))
		room := t.room(width)
		switch {
		case was && is:
			b, a := cutBoth(printable(string(before)), printable(string(after)), (room-4)/2)
			t.line("  " + t.paint(Update, "~ "+name) + "  " + b + " -> " + a)
		case is:
			t.line("  " + t.paint(Create, "+ "+name) + "  " + cut(printable(string(after)), room))
		default:
			t.line("  " + t.paint(Delete, "- "+name) + "  " + cut(printable(string(before)), room))
		}
	}
}
