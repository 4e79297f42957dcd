package explain

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// probe is one kind of client that Check plays.
type probe struct {
	arch  uint16
	class string
}

func (p probe) String() string {
	if p.class != "" {
		return p.class + " on " + ArchName(p.arch)
	}
	return ArchName(p.arch) + " firmware"
}

// probes are the clients that every machine is checked as: BIOS and UEFI firmware,
// and an iPXE in the ROM of either.
func probes() []probe {
	return []probe{{0, ""}, {7, ""}, {0, ipxeClass}, {7, ipxeClass}}
}

// maxDiagnostics bounds what Check returns: a mistake that hits a thousand hosts in
// a thousand words is told for the first of them.
const maxDiagnostics = 50

// Check is the self-test before a generation is published: every host, and on each
// subnet with a pool a machine without a host block, must get from DHCP to a boot
// file, kernel, initrd and root, as each kind of client. Where nothing boots from
// here (a subnet without boot, a boot file written by hand) it must get an address.
// A subnet whose server has DHCP switched off is not checked. The diagnostics are
// errors, with the range of the host or subnet.
func Check(ask func(provider.Query) []provider.Answer, want *schema.Desired) hcl.Diagnostics {
	c := &check{ask: ask, want: want, loaders: map[schema.Addr]bool{}, dhcp: map[schema.Addr]bool{}, byText: map[string]*problem{}}
	hosts := map[string]bool{}
	for _, b := range want.Bootloaders {
		c.loaders[b.Addr] = true
	}
	for _, s := range want.Servers {
		c.dhcp[s.Addr] = !s.DHCP.Disabled
	}
	for _, h := range want.Hosts {
		hosts[h.MAC] = true
		c.host(h)
	}
	for _, s := range want.Subnets {
		if !c.dhcp[s.Server] || len(s.Pools) == 0 {
			continue
		}
		q := provider.Query{MAC: stranger(hosts), Subnet: s.Addr}
		c.machine(q, s, s.Boot, "a machine without a host block on "+s.Addr.String(), s.Range)
	}
	return c.diagnostics()
}

// stranger gives a hardware address that no host has. It is locally administered,
// so no machine was built with it.
func stranger(hosts map[string]bool) provider.MAC {
	mac := provider.MAC{0x02}
	for hosts[mac.String()] {
		for i := len(mac) - 1; i > 0; i-- {
			if mac[i]++; mac[i] != 0 {
				break
			}
		}
	}
	return mac
}

type check struct {
	ask     func(provider.Query) []provider.Answer
	want    *schema.Desired
	loaders map[schema.Addr]bool
	dhcp    map[schema.Addr]bool // by server: it answers DHCP

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

func (c *check) host(h *schema.Host) {
	name := h.Addr.String()
	mac, err := provider.ParseMAC(h.MAC)
	if err != nil {
		c.report(name, h.At("mac"), err.Error())
		return
	}
	checked, skipped := false, false
	for _, s := range c.want.Subnets {
		if !h.Subnet.IsZero() && s.Addr != h.Subnet || h.Subnet.IsZero() && len(s.Pools) == 0 {
			continue
		}
		if !c.dhcp[s.Server] {
			skipped = true
			continue
		}
		checked = true
		boot := s.Boot
		if !h.Boot.IsZero() {
			boot = h.Boot
		}
		c.machine(provider.Query{MAC: mac, Host: h.Addr, Subnet: s.Addr, Address: h.Address}, s, boot, name, h.Range)
	}
	if !checked && !skipped && len(c.want.Subnets) > 0 {
		c.report(name, h.Range, "no subnet gives it an address: it has no reservation, and there is no pool")
	}
}

// machine walks every kind of boot of one machine on one subnet.
func (c *check) machine(q provider.Query, s *schema.Subnet, boot schema.Addr, who string, at schema.Range) {
	if !q.Address.IsValid() && len(s.Pools) > 0 {
		// Whether a pool is full is the moment's affair: no reason to refuse a
		// commit, and least of all a rollback.
		q.Address = s.Pools[0].From
	}
	as := map[string][]string{} // the kinds of client that fail, by why
	var whys []string
	all := probes()
	for _, p := range all {
		q.Arch, q.Class = p.arch, p.class
		res := Walk(c.ask, q)
		if c.byHand(res, s, p) {
			continue
		}
		fails := res.Fails
		if len(fails) == 0 && c.loaders[boot] && res.KernelLine == "" {
			fails = []string{"it gets an address and no boot file"}
		}
		for _, f := range fails {
			if as[f] == nil {
				whys = append(whys, f)
			}
			as[f] = append(as[f], p.String())
		}
	}
	var lines []string
	for _, why := range whys {
		kinds := strings.Join(as[why], ", ")
		if len(as[why]) == len(all) {
			kinds = "every kind of client"
		}
		lines = append(lines, kinds+": "+why)
	}
	if len(lines) > 0 {
		c.report(who, at, strings.Join(lines, "\n"))
	}
}

// byHand reports whether the machine is told a boot file that the configuration
// spells out: what that loads is not ours to know.
func (c *check) byHand(res Result, s *schema.Subnet, p probe) bool {
	if len(res.Steps) == 0 {
		return false
	}
	a := res.Steps[0]
	return a.Kind == provider.AnswerDHCP && a.Fail == "" && a.Name != "" && a.Name == s.BootFileName[p.arch]
}

func (c *check) diagnostics() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for n, p := range c.problems {
		if n == maxDiagnostics {
			last := diags[len(diags)-1]
			last.Detail += fmt.Sprintf("\n\n%d more problems are not shown.", len(c.problems)-n)
			break
		}
		detail := "Before a generation is published, every machine is walked from its first DHCP packet to its root. This one would not get there:\n\n" + p.text
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
