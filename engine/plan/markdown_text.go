package plan

import (
	"fmt"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// place tells where something was written.
func place(r schema.Range) string {
	if r.String() == "" {
		return ""
	}
	return " (" + code(r.String()) + ")"
}

func spelled(list []schema.Addr) []string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

// codeList joins names, and counts those past the twentieth.
func codeList(list []string) string {
	shown := list[:min(len(list), maxNames)]
	out := make([]string, 0, len(shown))
	for _, n := range shown {
		out = append(out, code(cut(n, maxValue)))
	}
	s := strings.Join(out, ", ")
	if more := len(list) - len(shown); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// code writes a name so that it reads as it is, whatever is in it.
func code(s string) string { return "<code>" + literal(printable(s), "") + "</code>" }

// prose writes text so that it reads as it is. GitHub looks for mentions in what is
// read, not in what is written, so a character without width keeps it from seeing any.
func prose(s string) string { return literal(printable(s), "&#8203;") }

// literal writes every character that means something in Markdown, HTML or GitHub's
// own additions (mentions, issues, emoji, mathematics, bare links) as a reference to
// it: CommonMark 0.31, section 2.5. breaker goes behind those that begin a mention.
func literal(s, breaker string) string {
	var b strings.Builder
	last := rune(0)
	for _, r := range s {
		switch {
		case strings.ContainsRune("&<>`*_[]|~\\:$", r), r == '.' && (last == 'w' || last == 'W'):
			fmt.Fprintf(&b, "&#%d;", r)
		case r == '@' || r == '#':
			fmt.Fprintf(&b, "&#%d;%s", r, breaker)
		default:
			b.WriteRune(r)
		}
		last = r
	}
	return b.String()
}
