package plan

import (
	"fmt"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// What max_delete is where nobody wrote it: both must be passed.
const (
	defaultMaxCount   = 5
	defaultMaxPercent = 10
)

// denials tells which rules of the policy in force do not let the plan through. The
// policy in force is that of the generation that is served, so that no commit lets
// itself through, and the commit's own where nothing is.
func (c *comparison) denials() []Denial {
	list := []Denial{}
	served, gone, machines := len(c.have.resources), 0, 0
	for a, ch := range c.changes {
		switch {
		case ch.Action == Delete || ch.Action == Replace:
			gone++
		case c.losesMachine(a):
			machines++
		}
	}
	if d, ok := c.maxDelete(gone, machines, served); ok {
		list = append(list, d)
	}
	if len(c.want.resources) == 0 && (served > 0 || !c.base) && !c.policy.AllowEmpty {
		d := Denial{Rule: RuleAllowEmpty, Range: c.policy.Range, Summary: "Nothing would be left",
			Detail: fmt.Sprintf("The configuration declares no resource, and %s. An empty repo, a lost folder or another --path looks the same. %s",
				count(served, "one is served", "are served"), c.override(RuleAllowEmpty, "allow_empty = true"))}
		if served == 0 {
			d.Summary = "Nothing is declared"
			d.Detail = "The configuration declares no resource, and nothing is served. An empty repo, a lost folder or another --path looks the same. " +
				c.override(RuleAllowEmpty, "allow_empty = true")
		}
		list = append(list, d)
	}
	return list
}

// losesMachine reports whether a host stays and its machine goes: another one takes its
// place, and no other host has the hardware address of the former. Leases and overlays go
// by that, so for the machine it is as if its host was deleted. Two hosts that swap their
// machines lose none.
func (c *comparison) losesMachine(a schema.Addr) bool {
	was, is := c.have.hosts[a], c.want.hosts[a]
	return was != nil && is != nil && was.MAC != is.MAC && c.want.byMAC[was.MAC] == nil
}

// maxDelete: what is replaced counts too, for what was written to it is lost, and so do
// hosts that lose their machines.
func (c *comparison) maxDelete(gone, machines, served int) (Denial, bool) {
	gone += machines
	m := c.policy.MaxDelete
	d := Denial{Rule: RuleMaxDelete, Range: c.policy.Range}
	limit, fix := "", "a larger max_delete"
	switch {
	case gone == 0:
		return d, false
	case m == nil:
		if gone <= defaultMaxCount || gone*100 <= defaultMaxPercent*served {
			return d, false
		}
		limit = fmt.Sprintf("at most %d %%, or %d resources,", defaultMaxPercent, defaultMaxCount)
		if c.policy.Range == (schema.Range{}) {
			fix = "policy { max_delete = … }"
		}
	case m.Percent >= 0:
		if gone*100 <= m.Percent*served {
			return d, false
		}
		d.Range, limit = m.Range, fmt.Sprintf("at most %d %%", m.Percent)
	default:
		if gone <= m.Count {
			return d, false
		}
		d.Range, limit = m.Range, fmt.Sprintf("at most %d", m.Count)
	}
	d.Summary = fmt.Sprintf("%d of %s would be deleted or replaced", gone, count(served, "1 resource", "resources"))
	d.Detail = fmt.Sprintf("That is %s, and the policy in force lets %s through. %s", percent(gone, served), limit, c.override(RuleMaxDelete, fix))
	if machines > 0 {
		d.Summary = fmt.Sprintf("%d of %s would be deleted, replaced, or another machine", gone, count(served, "1 resource", "resources"))
		d.Detail = count(machines, "1 host stays, and another machine takes its place", "hosts stay, and other machines take their places") +
			": the mac is another one, and no host has the former. That counts like a deletion. " + d.Detail
	}
	return d, true
}

// override says what to do when a denied plan is meant.
func (c *comparison) override(rule Rule, fix string) string {
	if !c.base {
		return fmt.Sprintf("If it is meant, write %s into the configuration, or apply with --override %s.", fix, rule)
	}
	return fmt.Sprintf("If it is meant, apply with --override %s, or let a commit before this one say %s: the policy that is served decides.", rule, fix)
}

// percent spells a share with one digit, rounded up so that what is over a limit reads
// as being over it.
func percent(part, whole int) string {
	tenths := (part*1000 + whole - 1) / whole
	if tenths%10 == 0 {
		return fmt.Sprintf("%d %%", tenths/10)
	}
	return fmt.Sprintf("%d.%d %%", tenths/10, tenths%10)
}

func count(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// waits tells what the policy in force has a plan wait for that is pending.
func (c *comparison) waits(pending bool) []Wait {
	list := []Wait{}
	if !pending {
		return list
	}
	if c.policy.Approve {
		list = append(list, Wait{Rule: RuleApprove, Summary: "the approval of an operator: `dlreconcile apply`", Range: c.policy.Range})
	}
	if windows := windowsText(c.policy.Windows); windows != "" {
		list = append(list, Wait{Rule: RuleWindow, Summary: "a window: " + windows, Range: c.policy.Windows[0].Range})
	}
	return list
}

// windowText spells a window: "mon, tue 22:00-06:00 Europe/Berlin".
func windowText(w schema.Window) string {
	var days []string
	for _, d := range w.Days {
		days = append(days, strings.ToLower(d.String()[:3]))
	}
	when := fmt.Sprintf("%s-%s %s", clock(w.From), clock(w.To), w.Zone)
	if len(days) == 0 || len(days) == 7 {
		return when
	}
	return strings.Join(days, ", ") + " " + when
}

// clock spells a time of day, which is a time.Duration: nanoseconds.
func clock[T ~int64](d T) string {
	minutes := d / 60e9
	return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60)
}
