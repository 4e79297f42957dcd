package explain

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// JSON gives the result as indented JSON with a newline at its end.
func (r Result) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	return b.Bytes(), nil
}

// Text prints the boot for people: one numbered line per answer, with the place in
// the configuration that caused it, what the answer holds below it, and at last why
// it would not work. Files that are asked for in vain, as they may be, share a line.
func (r Result) Text(w io.Writer) error {
	out := bufio.NewWriter(w)
	line := func(s string) { fmt.Fprintln(out, strings.TrimRight(s, " ")) }
	line(r.head())
	n := 0
	for rest := r.Steps; len(rest) > 0; {
		a, absent := rest[0], leadingAbsent(rest)
		n++
		line("")
		s := fmt.Sprintf("%2d. %-6s  ", n, a.Kind)
		if len(absent) > 0 {
			line(s + notThere(absent))
			rest = rest[len(absent):]
			continue
		}
		rest = rest[1:]
		s += describe(a)
		if at := a.Range.String(); at != "" {
			s += "     " + printable(at)
		}
		line(s)
		for _, l := range details(a) {
			line("      " + l)
		}
	}
	if last := len(r.Steps) - 1; last >= 0 && len(r.Fails) == 0 && r.KernelLine == "" && r.Steps[last].Kind == provider.AnswerLoader {
		line("")
		line("What this program fetches is not known here.")
	}
	if len(r.Fails) > 0 {
		line("")
		line("This would not work:")
		for _, f := range r.Fails {
			line("  " + printable(f))
		}
	}
	return out.Flush()
}

// head says whose boot it is.
func (r Result) head() string {
	s := r.Machine
	if r.Machine != r.MAC.String() {
		if _, only := r.MAC.Address(); !only {
			s += "  " + r.MAC.String()
		}
	}
	if r.Host.IsZero() && !r.Subnet.IsZero() {
		s += "  on " + r.Subnet.String()
	}
	s += fmt.Sprintf("  client architecture %d (%s), %s", r.Arch, schema.ClientArchOf(r.Arch).Name, r.Vendor)
	if r.Class != "" {
		s += ", " + r.Class + " in its ROM"
	}
	return printable(s)
}

// leadingAbsent gives the answers at the beginning of a list that are of files which
// are not there and need not be.
func leadingAbsent(list []provider.Answer) []provider.Answer {
	n := 0
	for n < len(list) && list[n].Absent && list[n].Fail == "" {
		n++
	}
	return list[:n]
}

// notThere names files of which only the first of a folder is told with it.
func notThere(list []provider.Answer) string {
	var names []string
	dir := ""
	for _, a := range list {
		d, base := path.Split(a.Name)
		if d != dir || len(names) == 0 {
			base, dir = a.Name, d
		}
		names = append(names, printable(base))
	}
	return "asked for, not there, not needed: " + strings.Join(names, ", ") + ", " + printable(list[0].Protocol)
}

// describe is an answer in one line.
func describe(a provider.Answer) string {
	var parts []string
	add := func(s string) {
		if s != "" {
			parts = append(parts, printable(s))
		}
	}
	switch a.Kind {
	case provider.AnswerDHCP:
		if a.Server != "" {
			add("from " + a.Server)
		}
		if a.Name != "" {
			add("boot file " + a.Name)
		} else {
			add("no boot file")
		}
	default:
		add(a.Name)
		add(a.Mode)
		if a.Size > 0 {
			add(fmt.Sprintf("%d bytes", a.Size))
		}
		add(short(a.Digest))
		if a.Server != "" {
			add(a.Protocol + " from " + a.Server)
		} else {
			add(a.Protocol)
		}
	}
	return strings.Join(parts, ", ")
}

// details are the lines below an answer.
func details(a provider.Answer) []string {
	var list []string
	width := 0
	for name := range a.Fields {
		width = max(width, utf8.RuneCountInString(name))
	}
	for _, name := range slices.SortedFunc(maps.Keys(a.Fields), compareFields) {
		list = append(list, fmt.Sprintf("%-*s  %s", width, printable(name), printable(a.Fields[name])))
	}
	if a.Text != "" {
		for l := range strings.SplitSeq(strings.TrimRight(a.Text, "\n"), "\n") {
			list = append(list, printable(l))
		}
	}
	if a.Line != "" {
		list = append(list, printable(a.Line))
	}
	if a.Fail != "" {
		list = append(list, "FAILS: "+printable(a.Fail))
	}
	return list
}

// compareFields orders options ("option 51 lease time") by number, after the fields
// of the header.
func compareFields(a, b string) int {
	return cmp.Or(cmp.Compare(optionNumber(a), optionNumber(b)), cmp.Compare(a, b))
}

func optionNumber(name string) int {
	words := strings.Fields(name)
	if len(words) < 2 || words[0] != "option" {
		return -1
	}
	n, err := strconv.Atoi(words[1])
	if err != nil {
		return -1
	}
	return n
}

// short cuts a digest to 12 hex digits.
func short(digest string) string {
	prefix, hex, ok := strings.Cut(digest, ":")
	if !ok || len(hex) <= 12 {
		return digest
	}
	return prefix + ":" + hex[:12] + "…"
}

// printable makes text safe for a terminal: characters that do not print are
// escaped as in Go source.
func printable(s string) string {
	for _, r := range s {
		if !strconv.IsPrint(r) || r == utf8.RuneError {
			q := strconv.Quote(s)
			return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
		}
	}
	return s
}
