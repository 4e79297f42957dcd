package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// exportImpact: the mode, and where and under which name it is served, are on the
// kernel line, so they come with the next boot, and a machine that runs keeps what it
// booted with, over reconnections too. Only who may attach is asked anew at every
// connection, and with NFS the options of that.
func (c *comparison) exportImpact(i *impacts, ch *Change) {
	a := ch.Address
	was, is := c.have.exports[a], c.want.exports[a]
	switch {
	case is == nil && was == nil:
	case was == nil:
		i.add(EffectNextBoot, "", "", c.want.uses[a]...)
	case is == nil:
		c.keeps(i, "", c.runs(was))
		c.discards(i, ch, was, nil)
	default:
		c.exportUpdate(i, ch, was, is)
		c.discards(i, ch, was, is)
	}
}

// runs gives what tells whether a machine runs from an export that is applied.
func (c *comparison) runs(was *schema.Export) func(*machine) bool {
	family := c.have.family(was)
	if c.have.exportCalled(family) != was {
		return func(*machine) bool { return false }
	}
	return func(m *machine) bool { return m.runs() && familyOf(m.export) == family }
}

func (c *comparison) exportUpdate(i *impacts, ch *Change, was, is *schema.Export) {
	own, runsIt := c.own[is.Addr], c.runs(was)
	for name := range own {
		switch name {
		case "allow", "clients", "options": // asked when a machine connects
		default:
			i.add(EffectNextBoot, "", "", c.want.uses[is.Addr]...)
		}
	}
	if c.have.family(was) != c.want.family(is) {
		i.add(EffectNextBoot, "", "", c.want.uses[is.Addr]...)
		for _, m := range c.seen.machines {
			if runsIt(m) && m.export != "" {
				i.add(EffectKeeps, "", withoutBoot(m.export)+" "+untilReboot, m.name())
			}
		}
	}
	if own["image"] {
		c.keeps(i, c.artifacts.after(c.want.images[is.Image]), runsIt)
	}
	if own["options"] {
		i.add(EffectLive, "", nextConnection, c.want.uses[is.Addr]...)
	}
	if own["allow"] || own["clients"] {
		c.allowImpact(i, is, runsIt)
	}
}

// allowImpact: at every connection, that of a running machine that comes back
// included, the lists of the current generation are asked.
func (c *comparison) allowImpact(i *impacts, ex *schema.Export, runsIt func(*machine) bool) {
	i.add(EffectLive, "", nextConnection, c.want.uses[ex.Addr]...)
	for _, m := range c.seen.machines {
		if runsIt(m) && !c.allowed(ex, m) {
			i.add(EffectInterrupts, m.artifact, "its next connection is refused", m.name())
		}
	}
}

func (c *comparison) allowed(ex *schema.Export, m *machine) bool {
	if len(ex.Clients) > 0 && m.address != "" && !slices.ContainsFunc(ex.Clients, func(client string) bool { return covers(client, m.address) }) {
		return false
	}
	if len(ex.Allow) == 0 {
		return true
	}
	subnet := m.subnet
	if h := c.want.hosts[m.host]; h != nil && !h.Subnet.IsZero() {
		subnet = h.Subnet
	}
	return !m.host.IsZero() && slices.Contains(ex.Allow, m.host) || !subnet.IsZero() && slices.Contains(ex.Allow, subnet)
}

// covers reports whether a client as exports(5) has it, "*", an address or a prefix,
// is or holds an address.
func covers(client, address string) bool {
	a, err := netip.ParseAddr(address)
	if err != nil || client == "*" || client == address {
		return true // an address that nobody can read is not said to be refused
	}
	p, err := netip.ParsePrefix(client)
	return err == nil && p.Contains(a)
}

// familyOf gives the schema.Export.WireFamily of a wire name: that of
// "arch@3f2a9c1d7e08" and "arch@3f2a9c1d7e08/ws01" is "arch".
func familyOf(wire string) string {
	for i := range len(wire) {
		if wire[i] == '@' || wire[i] == '/' || wire[i] == '+' {
			return wire[:i]
		}
	}
	return wire
}

// withoutBoot cuts the boot id off that a client may have appended to a wire name.
func withoutBoot(wire string) string {
	name, _, _ := strings.Cut(wire, "+")
	return name
}
