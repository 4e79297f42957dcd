package schema

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// Diagnostic is one mistake in the configuration, in the form that the command
// line, the API and the status show. Summary says what is wrong; Detail says why,
// and how to mend it.
type Diagnostic struct {
	Severity string `json:"severity"` // "error" or "warning"
	Summary  string `json:"summary"`
	Detail   string `json:"detail,omitempty"`
	Range    Range  `json:"range,omitzero"`   // zero: no place in the files is to blame
	End      Range  `json:"end,omitzero"`     // just behind the last character
	Source   string `json:"source,omitempty"` // the line that Range begins on; "" when it is secret or not known
}

// String gives the diagnostic in one line: "site.hcl:6,1: summary; detail".
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.Range != (Range{}) {
		b.WriteString(d.Range.String())
		b.WriteString(": ")
	}
	if d.Severity == "warning" {
		b.WriteString("warning: ")
	}
	b.WriteString(d.Summary)
	if d.Detail != "" {
		b.WriteString("; ")
		b.WriteString(d.Detail)
	}
	return b.String()
}

// sourceLine rides in hcl.Diagnostic.Extra, so that a diagnostic can still be
// shown when the files are gone. An empty one says that the line is secret.
type sourceLine struct{ text string }

// ToDiagnostics gives the same diagnostics in the form that is shown and sent.
// Diagnostics of Load carry their source line with them.
func ToDiagnostics(diags hcl.Diagnostics) []Diagnostic {
	out := make([]Diagnostic, 0, len(diags))
	for _, d := range diags {
		o := Diagnostic{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			o.Severity = "warning"
		}
		if d.Subject != nil {
			o.Range = rangeOf(*d.Subject)
			o.End = Range{File: d.Subject.Filename, Line: d.Subject.End.Line, Column: d.Subject.End.Column}
		}
		if line, ok := d.Extra.(sourceLine); ok {
			o.Source = line.text
		}
		out = append(out, o)
	}
	return out
}

// FormatDiagnostics writes diagnostics for people: one line each, and below it the
// source line with the place marked. A diagnostic without its source line gets it
// from files, which may be nil. What is written holds no control characters
// besides line ends and, with color, escape sequences of its own.
func FormatDiagnostics(w io.Writer, files fs.FS, diags hcl.Diagnostics, color bool) error {
	out := bufio.NewWriter(w)
	for i, d := range ToDiagnostics(diags) {
		text := printable(strings.TrimSpace(d.String()))
		if color {
			code := "31"
			if d.Severity == "warning" {
				code = "33"
			}
			text = "\x1b[" + code + "m" + text + "\x1b[0m"
		}
		out.WriteString(text)
		out.WriteByte('\n')
		if _, known := diags[i].Extra.(sourceLine); !known && files != nil {
			d.Source = readLine(files, d.Range)
		}
		if d.Source != "" {
			writeSource(out, d, color)
		}
	}
	return out.Flush()
}

// writeSource shows at most this many characters of a line.
const shownColumns = 160

func writeSource(out *bufio.Writer, d Diagnostic, color bool) {
	line := []rune(printable(strings.ReplaceAll(d.Source, "\t", " ")))
	from := min(max(d.Range.Column-1, 0), len(line))
	to := len(line)
	if d.End.Line == d.Range.Line {
		to = min(max(d.End.Column-1, from), len(line))
	}
	if from > shownColumns/2 {
		cut := from - shownColumns/2
		line, from, to = line[cut:], from-cut, to-cut
	}
	if len(line) > shownColumns {
		line, to = line[:shownColumns], min(to, shownColumns)
	}
	number := strconv.Itoa(d.Range.Line)
	fmt.Fprintf(out, "  %s | %s\n", number, strings.TrimRight(string(line), " "))
	mark := strings.Repeat("^", max(1, to-from))
	if color {
		mark = "\x1b[31m" + mark + "\x1b[0m"
	}
	fmt.Fprintf(out, "  %s | %s%s\n", strings.Repeat(" ", len(number)), strings.Repeat(" ", from), mark)
}

// printable replaces what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, s)
}

func readLine(files fs.FS, at Range) string {
	if at.File == "" || !fs.ValidPath(at.File) {
		return ""
	}
	f, err := files.Open(at.File)
	if err != nil {
		return ""
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxDataBytes))
	if err != nil {
		return ""
	}
	return lineAt(src, at.Line)
}

// lineAt gives the 1-based line of src without its line end, or "".
func lineAt(src []byte, n int) string {
	for line := range bytes.Lines(src) {
		if n--; n == 0 {
			return string(bytes.TrimRight(line, "\r\n"))
		}
	}
	return ""
}

func rangeOf(r hcl.Range) Range {
	if r.Filename == "" {
		return Range{}
	}
	return Range{File: r.Filename, Line: r.Start.Line, Column: r.Start.Column}
}

func mistake(at hcl.Range, summary, detail string) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail}
	if at.Filename != "" {
		d.Subject = &at
	}
	return d
}
