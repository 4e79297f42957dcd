package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// impact prints one line that says everything, and below it who is meant where
// the line only says how many.
func (t *text) impact(list []Impact) {
	if len(list) == 0 {
		return
	}
	var parts []string
	for _, im := range list {
		parts = append(parts, impactText(im))
	}
	t.line("    " + strings.Join(parts, "; "))
	for _, im := range list {
		if len(im.Machines) > 1 {
			t.line("      " + effectText(im) + ": " + nameList(im.Machines))
		}
	}
}

func impactText(im Impact) string {
	who := ""
	switch {
	case len(im.Machines) == 0:
		return effectText(im)
	case len(im.Machines) == 1:
		who = printable(im.Machines[0])
	default:
		kind := "hosts"
		for _, m := range im.Machines {
			if !isHost(m) {
				kind = "machines"
			}
		}
		who = strconv.Itoa(len(im.Machines)) + " " + kind
	}
	if im.Effect == EffectKeeps && !im.suspended() {
		return who + " " + effectText(im)
	}
	return who + ": " + effectText(im)
}

// isHost reports whether a machine is named by its host block.
func isHost(machine string) bool {
	a, err := schema.ParseAddr(machine)
	return err == nil && a.Kind == kindHost
}

func isBlank(s string) bool { return s == "" }

// detail is the detail as it reads for the number of machines.
func detail(im Impact) string {
	d := printable(im.Detail)
	if len(im.Machines) == 1 {
		return d
	}
	return strings.NewReplacer(
		"suspended: stays", "suspended: stay",
		"until it reboots", "until they reboot",
		"until its lease ends", "until their leases end",
		"its next", "their next",
		"its root", "their roots",
		"its overlay, when it boots next", "their overlays, when they boot next",
	).Replace(d)
}

// effectText is the effect without who it is about.
func effectText(im Impact) string {
	words := effectWords(im.Effect)
	if im.suspended() {
		return detail(im)
	}
	if im.Effect == EffectKeeps {
		if len(im.Machines) != 1 {
			words = "keep"
		}
		return strings.Join(slices.DeleteFunc([]string{words, shortDigest(im.Artifact), detail(im)}, isBlank), " ")
	}
	if im.Detail != "" {
		words += ", " + detail(im)
	}
	return words
}

func effectWords(e Effect) string {
	switch e {
	case EffectNextBoot:
		return "next boot"
	case EffectDiscards:
		return "discards data"
	default:
		return string(e)
	}
}

// nameList joins names, and counts those past the twentieth.
func nameList(list []string) string {
	shown := list[:min(len(list), maxNames)]
	out := make([]string, 0, len(shown))
	for _, n := range shown {
		out = append(out, printable(n))
	}
	s := strings.Join(out, ", ")
	if more := len(list) - len(shown); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// warnings prints each as a line that begins with "Warning: ", or "Refused: ", and tells its place,
// below it what is wrong, and who is meant.
func (t *text) warnings(list []Warning) {
	for _, w := range list {
		word, color := "Warning: ", "\x1b[33m"
		if w.Refused {
			word, color = "Refused: ", "\x1b[31m"
		}
		t.notice(word, color, w.Summary, w.Range)
		t.line("  " + printable(w.Detail))
		if len(w.Machines) > 0 {
			t.line("  " + nameList(w.Machines))
		}
		t.line("")
	}
}

// denied prints each rule like a warning.
func (t *text) denied(list []Denial) {
	for _, d := range list {
		t.notice("Denied: ", "\x1b[31m", d.Summary, d.Range)
		t.line("  " + printable(d.Detail))
		t.line("")
	}
}

// waits prints a line for each thing that is waited for.
func (t *text) waits(list []Wait) {
	for _, w := range list {
		t.notice("Waits for: ", "\x1b[33m", w.Summary, w.Range)
	}
	if len(list) > 0 {
		t.line("")
	}
}

// targets says that the plan is not the whole one.
func (t *text) targets(list []schema.Addr) {
	if len(list) == 0 {
		return
	}
	t.line("Only " + nameList(spelled(list)) + " and what that needs. It is for looking: apply does the whole plan.")
	t.line("")
}

// notice prints a line that begins with a word and ends with a place.
func (t *text) notice(word, color, summary string, at schema.Range) {
	head := word + printable(summary)
	if t.opts.Color {
		head = color + head + "\x1b[0m"
	}
	if r := at.String(); r != "" {
		head += "     " + printable(r)
	}
	t.line(head)
}
