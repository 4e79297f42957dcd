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
		i.add(EffectNextBoot, "", "", c.want.usedBy(a)...)
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
		case "allow", "clients", "options", "tls": // asked when a machine connects
		case "limit": // at every write
			i.add(EffectLive, "", nextWrite, c.want.usedBy(is.Addr)...)
		default:
			i.add(EffectNextBoot, "", "", c.want.usedBy(is.Addr)...)
		}
	}
	if c.have.family(was) != c.want.family(is) {
		i.add(EffectNextBoot, "", "", c.want.usedBy(is.Addr)...)
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
		i.add(EffectLive, "", nextConnection, c.want.usedBy(is.Addr)...)
	}
	if own["tls"] {
		c.tlsImpact(i, is, runsIt)
	}
	if own["allow"] || own["clients"] {
		c.allowImpact(i, is, runsIt)
	}
}

// allowImpact: at every connection, that of a running machine that comes back
// included, the lists of the current generation are asked.
func (c *comparison) allowImpact(i *impacts, ex *schema.Export, runsIt func(*machine) bool) {
	i.add(EffectLive, "", nextConnection, c.want.usedBy(ex.Addr)...)
	for _, m := range c.seen.machines {
		if runsIt(m) {
			c.refuses(i, ex, m)
		}
	}
}

// tlsImpact: machines attach their root in the clear. One that still runs from an export
// that is nobody's root any more cannot come back to it once it requires TLS.
func (c *comparison) tlsImpact(i *impacts, is *schema.Export, runsIt func(*machine) bool) {
	i.add(EffectLive, "", nextConnection, c.want.usedBy(is.Addr)...)
	if is.TLS != schema.TLSRequired {
		return
	}
	for _, m := range c.seen.machines {
		if runsIt(m) {
			i.add(EffectInterrupts, m.artifact, "its next connection is refused: it has no TLS", m.name())
		}
	}
}

// shutOut tells which of the machines that run something are not on the list of their
// export any more, although the list is as it was: its subnet, or the host block that
// is on it, is not theirs now.
func (c *comparison) shutOut(i *impacts, match func(*machine) bool) {
	for _, m := range c.seen.machines {
		if !m.runs() || m.export == "" || !match(m) {
			continue
		}
		was, is := c.have.exportCalled(familyOf(m.export)), c.want.exportCalled(familyOf(m.export))
		if was == nil || is == nil || c.own[is.Addr]["allow"] || c.own[is.Addr]["clients"] || !c.have.allows(was, m, m.ip) {
			continue
		}
		c.refuses(i, is, m)
	}
}

// refuses tells that a machine which runs from an export is refused when it connects
// again: as soon as that happens, or from the address that it gets next.
func (c *comparison) refuses(i *impacts, ex *schema.Export, m *machine) {
	if !c.want.allows(ex, m, m.ip) {
		i.add(EffectInterrupts, m.artifact, "its next connection is refused", m.name())
		return
	}
	h := c.want.byMAC[m.mac]
	if m.mac != "" && h != nil && h.Address.IsValid() && h.Address != m.ip && c.want.leases(h) && !c.want.allows(ex, m, h.Address) {
		i.add(EffectInterrupts, m.artifact, "its connections from "+h.Address.String()+" are refused", m.name())
	}
}

// allows reports whether a machine may attach to an export from an address: as the host
// that has its hardware address, and on the subnet that holds the address.
func (v *view) allows(ex *schema.Export, m *machine, from netip.Addr) bool {
	if len(ex.Clients) > 0 && from.IsValid() && !slices.ContainsFunc(ex.Clients, func(client string) bool { return covers(client, from) }) {
		return false
	}
	if len(ex.Allow) == 0 {
		return true
	}
	host := m.host
	if m.mac != "" {
		host = schema.Addr{}
		if h := v.byMAC[m.mac]; h != nil {
			host = h.Addr
		}
	}
	if !host.IsZero() && slices.Contains(ex.Allow, host) {
		return true
	}
	s := v.subnetAt(from, m.subnet)
	return s != nil && slices.Contains(ex.Allow, s.Addr)
}

// covers reports whether a client as exports(5) has it, "*", an address or a prefix,
// is or holds an address.
func covers(client string, address netip.Addr) bool {
	if client == "*" || client == address.String() {
		return true
	}
	p, err := netip.ParsePrefix(client)
	return err == nil && p.Contains(address)
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
