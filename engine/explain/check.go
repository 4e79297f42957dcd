package explain

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// maxDiagnostics bounds what Check returns: a mistake that hits a thousand hosts in
// a thousand words is told for the first of them.
const maxDiagnostics = 50

// Check is the self-test before a generation is published. Every host, and on each
// subnet that takes them a machine without a host block, is walked from its first
// packet to its root as each kind of client that its boot loaders are made for. The
// diagnostics are errors, with the range of the host or subnet:
//
//   - whoever is told a boot file must get from it to kernel, initrd and root;
//   - some firmware must be told one: a machine of which no kind gets any is refused.
//
// A kind that is told no file is no error as long as another is: a site of BIOS
// machines needs no loader for UEFI, and plans warn of machines that were seen to be
// of such a kind. An iPXE in the ROM does not count as firmware here, or a boot loader
// without any of its programs would pass. iPXE itself comes whole: where it has its
// program for BIOS, the one for UEFI x86-64 must not be missing, nor the other way
// round, for whatever kernel runs on one runs on the other.
//
// Where nothing boots from here (a subnet without boot) an address is enough; what a
// boot file written by hand leads to is not followed. Behind a DHCP server that is not
// ours, the files that it has to name are walked.
//
// Machines that boot the same way get the same files but for their own arguments, so
// of all kinds only the first machine of a way is walked, and the others as one of
// each set of kinds that went alike.
func Check(ask func(provider.Query) []provider.Answer, want *schema.Desired) hcl.Diagnostics {
	c := &check{ask: ask, want: want, ways: map[string]way{}, byText: map[string]*problem{}}
	for _, m := range Machines(want) {
		switch {
		case m.Host == nil:
			c.machine(m, "a machine without a host block on "+m.Subnet.Addr.String(), m.Subnet.Range)
		case m.Query.MAC.IsZero():
			c.report(m.Host.Addr.String(), m.Host.At("mac"), fmt.Sprintf("%q is no hardware address", m.Host.MAC))
		case m.Subnet != nil:
			c.machine(m, m.Host.Addr.String(), m.Host.Range)
		case len(want.Subnets) > 0:
			c.report(m.Host.Addr.String(), m.Host.Range, "no subnet gives it an address: it has no reservation, and there is no pool")
		}
	}
	return c.diagnostics()
}

type check struct {
	ask  func(provider.Query) []provider.Answer
	want *schema.Desired
	ways map[string]way

	problems []*problem
	byText   map[string]*problem
}

type problem struct {
	text string // what is wrong, one line per failure
	who  []string
	at   schema.Range
}

func (c *check) report(who string, at schema.Range, text string) {
	p := c.byText[text]
	if p == nil {
		p = &problem{text: text, at: at}
		c.byText[text] = p
		c.problems = append(c.problems, p)
	}
	p.who = append(p.who, who)
}

// machine walks one machine as every kind of client that matters.
func (c *check) machine(m Machine, who string, at schema.Range) {
	w := c.wayOf(m)
	if m.Foreign && len(w.boot) == 0 {
		return // it gets nothing from here
	}
	one := c.as(m, w)
	var t tally
	var untold *route // the firmware that is told no file
	told := false
	for n, r := range w.routes {
		if !r.told {
			if r.firmware() {
				untold = &w.routes[n]
			}
			continue
		}
		fails, _, _ := one.boot(r.kinds[0])
		t.add(fails, r.kinds)
		told = told || r.firmware()
	}
	if half := w.half(m.Subnet); half != nil {
		fails, _, _ := one.boot(*half)
		t.add(fails, []kind{*half})
	}
	lines := t.lines(w.kinds)
	if !told && untold != nil && len(w.boot) > 0 {
		fails, _, _ := one.boot(untold.kinds[0])
		for _, f := range fails {
			lines = append(lines, fmt.Sprintf("no kind of firmware is told a boot file; %s: %s", untold.kinds[0], f))
		}
	}
	if len(lines) > 0 {
		c.report(who, at, strings.Join(lines, "\n"))
	}
}

func (c *check) diagnostics() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for n, p := range c.problems {
		if n == maxDiagnostics {
			last := diags[len(diags)-1]
			last.Detail += fmt.Sprintf("\n\n%d more problems are not shown.", len(c.problems)-n)
			break
		}
		detail := "Before a generation is published, every machine is walked from its first packet to its root. This one would not get there:\n\n" + p.text
		if more := len(p.who) - 1; more > 0 {
			const shown = 5
			rest := p.who[1:min(len(p.who), 1+shown)]
			detail += "\n\nThe same holds for " + strings.Join(rest, ", ")
			if more > shown {
				detail += fmt.Sprintf(" and %d more", more-shown)
			}
			detail += "."
		}
		diag := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: p.who[0] + " would not boot", Detail: detail}
		if p.at != (schema.Range{}) {
			diag.Subject = new(p.at.HCL())
		}
		diags = append(diags, diag)
	}
	return diags
}
