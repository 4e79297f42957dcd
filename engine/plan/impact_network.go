package plan

import "github.com/dlreconcile/dlreconcile/schema"

// serverImpact: a new socket is bound before the old one closes, and the old one
// stays as long as a generation that declares it is needed.
func (c *comparison) serverImpact(i *impacts, ch *Change) {
	if ch.Action != Update {
		return // what stands on it is created or deleted with it, and tells
	}
	a := ch.Address
	d := c.serverDelta(a)
	for _, s := range c.want.bootable {
		if s.Server != a {
			continue
		}
		if (d.told || d.dhcp) && s.Mode != schema.ModeProxy {
			i.add(EffectLive, "", nextRenewal, c.onSubnet(s.Addr)...)
		}
		if d.told || d.tftp || d.http {
			i.add(EffectNextBoot, "", "", c.want.usedBy(s.Addr)...)
		}
	}
	for _, ex := range c.want.exports {
		if ex.Server == a && d.of(ex) {
			i.add(EffectNextBoot, "", "", c.want.usedBy(ex.Addr)...)
		}
	}
	for _, m := range c.seen.machines {
		ex := c.have.exportCalled(familyOf(m.export))
		if m.runs() && ex != nil && ex.Server == a && d.of(ex) {
			i.add(EffectKeeps, "", listener(c.have.servers[a], ex).Listen.String()+" for its root "+untilReboot, m.name())
		}
	}
}

// listener gives the socket that serves an export.
func listener(s *schema.Server, ex *schema.Export) schema.Listener {
	if ex.Addr.Type == schema.NFS {
		return s.NFS
	}
	return s.NBD
}

// exportCalled gives the export that machines call by a name, once it is known what has
// moved. One of each type may have it; of two, the first by address is meant: what is
// attached by name is NBD.
func (v *view) exportCalled(family string) *schema.Export {
	if v.called == nil {
		v.called = make(map[string]*schema.Export, len(v.exports))
		for _, ex := range v.exports {
			name := v.family(ex)
			if found := v.called[name]; found == nil || ex.Addr.Compare(found.Addr) < 0 {
				v.called[name] = ex
			}
		}
	}
	return v.called[family]
}

// onSubnet gives the hosts of a subnet and the machines seen on it.
func (c *comparison) onSubnet(a schema.Addr) []string {
	set := map[string]bool{}
	for addr, h := range c.want.hosts {
		if h.Subnet == a {
			set[addr.String()] = true
		}
	}
	for _, m := range c.seen.machines {
		if c.want.isOn(m, a) && (m.leased || m.runs()) {
			set[m.name()] = true
		}
	}
	return names(set)
}

// subnetImpact: lease options come with the next renewal, what concerns booting
// with the next boot; a lease outside of the new pools is honoured to its end.
func (c *comparison) subnetImpact(i *impacts, ch *Change) {
	a := ch.Address
	switch ch.Action {
	case Create:
		i.add(EffectNextBoot, "", "", c.want.usedBy(a)...)
		c.takesOver(i, c.want.subnets[a])
	case Delete:
		for _, o := range c.leasesOn(a) {
			if !c.want.renews(o) {
				i.add(EffectKeeps, "", o.Address+" "+untilLeaseEnd, c.holder(o))
			}
		}
		c.keeps(i, "", func(m *machine) bool { return c.have.isOn(m, a) && len(c.want.chainsOf(*m)) == 0 })
	default:
		own := c.own[a]
		if own["mode"] {
			c.modeImpact(i, a)
			return
		}
		for name := range own {
			switch name {
			case "boot", "boot_file_name", "next_server", "router_advertisement":
				// of a boot
			case "pool":
				// says which addresses there are
			default:
				// a lease option; of cidr, the netmask and the broadcast address are
				if c.want.subnets[a].Mode != schema.ModeProxy {
					i.add(EffectLive, "", nextRenewal, c.onSubnet(a)...)
				}
			}
		}
		switch {
		case own["boot"]:
			c.bootsOther(i, c.followers(a))
		case own["boot_file_name"], own["next_server"], own["router_advertisement"]:
			i.add(EffectNextBoot, "", "", c.want.usedBy(a)...)
		}
		if own["pool"] || own["cidr"] {
			c.poolImpact(i, c.want.subnets[a])
		}
		if own["cidr"] {
			c.shutOut(i, func(m *machine) bool { return c.have.isOn(m, a) })
		}
	}
}

// modeImpact: another server gives out the addresses from now on, or ours does. A
// machine keeps the one that it has until its lease ends.
func (c *comparison) modeImpact(i *impacts, a schema.Addr) {
	i.add(EffectNextBoot, "", "", c.want.usedBy(a)...)
	if c.want.subnets[a].Mode != schema.ModeProxy {
		i.add(EffectLive, "", "its address from here "+otherLeaseEnds, c.onSubnet(a)...)
		return
	}
	for _, o := range c.leasesOn(a) {
		i.add(EffectKeeps, "", o.Address+" "+untilLeaseEnd, c.holder(o))
	}
}

// followers gives the machines that boot what the subnet says.
func (c *comparison) followers(a schema.Addr) []string {
	list := []string{}
	for _, v := range []*view{c.have, c.want} { // before, for a boot that is taken away
		for _, n := range v.usedBy(a) {
			addr, err := schema.ParseAddr(n)
			if h := v.hosts[addr]; err == nil && h != nil && len(v.desired.WayOf(h, &schema.Subnet{}).Boot) > 0 {
				continue // it has a boot of its own, or of its group
			}
			list = append(list, n)
		}
	}
	return list
}

func (c *comparison) poolImpact(i *impacts, s *schema.Subnet) {
	if s == nil {
		return
	}
	for _, o := range c.leasesOn(s.Addr) {
		switch {
		case c.want.reservedFor(o) || inPools(s, o.Address):
		case c.takesBack(ipOf(o)):
			i.add(EffectInterrupts, "", "its next renewal of "+o.Address+" is refused", c.holder(o))
		default:
			i.add(EffectKeeps, "", o.Address+" "+untilLeaseEnd, c.holder(o))
		}
	}
}

// holder is the name of who has a lease.
func (c *comparison) holder(o Observation) string {
	if !o.Host.IsZero() {
		return o.Host.String()
	}
	if m := c.seen.byMAC[o.MAC]; m != nil {
		return m.name()
	}
	return o.MAC
}
