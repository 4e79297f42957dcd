package plan

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"strings"
)

// MarkdownOptions says how a plan is written as Markdown. The zero value is right for a
// comment on GitHub.
type MarkdownOptions struct {
	// Limit is the most bytes that may come out; 0 means 65,536, what a comment on
	// GitHub may have in characters, of which there are no more than bytes. Less
	// than 4,096 counts as that.
	Limit int
}

// Bounds of the Markdown form.
const (
	commentLimit   = 65_536
	leastLimit     = 4_096
	maxChangeBytes = 8_192 // of the text of one change
	endBytes       = 512   // kept free for what says that something is missing
)

// Markdown writes the plan for a comment on a pull request: counts, what the policy
// says, a table of the consequences for machines, warnings, and each change in a part
// that opens. What does not fit is left out, and counted at the end. Whatever names and
// values hold, they are text: no markup, link, mention or HTML comes of them.
func (p *Plan) Markdown(w io.Writer, opts MarkdownOptions) error {
	limit := cmp.Or(opts.Limit, commentLimit)
	m := &markdown{room: max(limit, leastLimit) - endBytes}
	m.head(p)
	m.consequences(p.Changes)
	m.warnings(p.Warnings)
	m.changes(p.Changes)
	if m.left != "" {
		m.buf.WriteString("\n**Cut here:** " + m.left + " A comment has no room for more; `dlreconcile plan` shows everything.\n")
	}
	_, err := w.Write(m.buf.Bytes())
	return err
}

type markdown struct {
	buf  bytes.Buffer
	room int
	left string // what was left out, in words; "" while everything fits
}

// add writes s if all of it fits and nothing was left out yet.
func (m *markdown) add(s string) bool {
	if m.left != "" || m.buf.Len()+len(s) > m.room {
		return false
	}
	m.buf.WriteString(s)
	return true
}

func (m *markdown) head(p *Plan) {
	title := p.Summary.String()
	if !p.Pending() {
		title = "no changes"
	}
	m.add("### dlreconcile plan: " + title + "\n\n")
	what := "This work tree"
	if p.Revision != nil {
		what = "Revision " + code(cut(abbreviate(*p.Revision), maxValue))
	}
	switch {
	case p.BaseGeneration == 0:
		m.add(what + ", compared with nothing.\n")
	default:
		m.add(fmt.Sprintf("%s, compared with generation %d.\n", what, p.BaseGeneration))
	}
	if len(p.Targets) > 0 {
		m.add("\nOnly " + codeList(spelled(p.Targets)) + " and what that needs. It is for looking: apply does the whole plan.\n")
	}
	for _, c := range p.Policy {
		m.add("\n> **Policy:** " + code(string(c.Rule)) + " " + says(c.Before) + " -> " + says(c.After) + place(c.Range) + "\n")
	}
	for _, v := range p.Variables {
		m.add("\n> **Variable:** " + code("var."+v.Name) + " " + prose(v.detail()) + ".\n")
	}
	for _, d := range p.Denied {
		m.add("\n> **Denied:** " + prose(d.Summary) + place(d.Range) + "<br>" + prose(d.Detail) + "\n")
	}
	for _, w := range p.Waits {
		m.add("\n> **Waits for:** " + prose(cut(w.Summary, 1000)) + place(w.Range) + "\n")
	}
}

// says is one side of a rule of the policy.
func says(s string) string {
	if s == "" {
		return "(none)"
	}
	return code(cut(s, maxValue))
}

func (m *markdown) warnings(list []Warning) {
	for n, w := range list {
		word := "Warning:"
		if w.Refused {
			word = "Refused:"
		}
		text := "\n> **" + word + "** " + prose(w.Summary) + place(w.Range) + "<br>" + prose(w.Detail)
		if len(w.Machines) > 0 {
			text += "<br>" + codeList(w.Machines)
		}
		if !m.add(text + "\n") {
			m.leave(len(list)-n, "warning", "warnings", "and all changes")
			return
		}
	}
}

func (m *markdown) changes(list []Change) {
	for n := range list {
		if !m.add(details(&list[n])) {
			m.leave(len(list)-n, "change", "changes", "")
			return
		}
	}
}

// leave notes what does not fit; only the first such thing is told.
func (m *markdown) leave(n int, one, many, more string) {
	if m.left != "" {
		return
	}
	verb := "are"
	if n == 1 && more == "" {
		verb = "is"
	}
	if n == 1 {
		many = one
	}
	m.left = strings.Join(strings.Fields(fmt.Sprintf("%d more %s %s %s not shown.", n, many, more, verb)), " ")
}

// details writes one change as a part that opens.
func details(ch *Change) string {
	var plain bytes.Buffer
	t := &text{w: bufio.NewWriter(&plain)}
	t.change(ch)
	_ = t.w.Flush() // a bytes.Buffer takes everything
	all := strings.Split(strings.TrimSuffix(plain.String(), "\n"), "\n")
	size, fence := 0, 3
	for n, l := range all {
		if size += len(l) + 1; size > maxChangeBytes {
			all = append(all[:n:n], fmt.Sprintf("  … and %s", count(len(all)-n, "one line more", "more lines")))
			break
		}
		all[n] = diffLine(l)
	}
	body := strings.Join(all, "\n")
	for run, r := 0, 0; r < len(body); r++ {
		if run++; body[r] != '`' {
			run = 0
		}
		fence = max(fence, run+1)
	}
	ticks := strings.Repeat("`", fence)
	what := string(ch.Action)
	if ch.Reason == Moved {
		what = "move"
		if ch.Action != NoOp {
			what += " and " + string(ch.Action)
		}
	}
	return "\n<details><summary>" + what + " " + code(cut(ch.Address.String(), 2*maxValue)) + "</summary>\n\n" +
		ticks + "diff\n" + body + "\n" + ticks + "\n\n</details>\n"
}

// diffLine puts the mark of a line of text in front of it, where a diff has it, with
// "!" for what is different.
func diffLine(l string) string {
	indent := len(l) - len(strings.TrimLeft(l, " "))
	if indent != 0 && indent != 2 && indent != 6 || indent+1 >= len(l) || l[indent+1] != ' ' {
		return l
	}
	space, rest := l[:indent], l[indent+1:]
	switch l[indent] {
	case '+', '-':
		return l[indent:indent+1] + space + rest
	case '~':
		return "!" + space + rest
	}
	return l
}
