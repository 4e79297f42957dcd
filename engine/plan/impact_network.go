package plan

import (
	"fmt"
	"slices"

	"github.com/dlreconcile/dlreconcile/schema"
)

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
			i.add(EffectNextBoot, "", "", c.want.uses[s.Addr]...)
		}
	}
	for _, ex := range c.want.exports {
		if ex.Server == a && d.of(ex) {
			i.add(EffectNextBoot, "", "", c.want.uses[ex.Addr]...)
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
		if m.subnet == a && (m.leased || m.runs()) {
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
		i.add(EffectNextBoot, "", "", c.want.uses[a]...)
	case Delete:
		for _, o := range c.seen.leases {
			if o.Subnet == a {
				i.add(EffectKeeps, "", o.Address+" "+untilLeaseEnd, c.holder(o))
			}
		}
		c.keeps(i, "", func(m *machine) bool { return m.subnet == a && len(c.want.chainsOf(*m)) == 0 })
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
			i.add(EffectNextBoot, "", "", c.want.uses[a]...)
		}
		if own["pool"] || own["cidr"] {
			c.poolImpact(i, c.want.subnets[a])
		}
	}
}

// modeImpact: another server gives out the addresses from now on, or ours does. A
// machine keeps the one that it has until its lease ends.
func (c *comparison) modeImpact(i *impacts, a schema.Addr) {
	i.add(EffectNextBoot, "", "", c.want.uses[a]...)
	if c.want.subnets[a].Mode != schema.ModeProxy {
		i.add(EffectLive, "", "its address from here "+otherLeaseEnds, c.onSubnet(a)...)
		return
	}
	for _, o := range c.seen.leases {
		if o.Subnet == a {
			i.add(EffectKeeps, "", o.Address+" "+untilLeaseEnd, c.holder(o))
		}
	}
}

// followers gives the machines that boot what the subnet says.
func (c *comparison) followers(a schema.Addr) []string {
	list := []string{}
	for _, v := range []*view{c.have, c.want} { // before, for a boot that is taken away
		for _, n := range v.uses[a] {
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
	for _, o := range c.seen.leases {
		if o.Subnet != s.Addr || c.reservedFor(o) || inPools(s, o.Address) {
			continue
		}
		i.add(EffectKeeps, "", o.Address+" "+untilLeaseEnd, c.holder(o))
	}
}

func inPools(s *schema.Subnet, address string) bool {
	for _, p := range s.Pools {
		addr := p.From
		if addr.UnmarshalText([]byte(address)) == nil && p.From.Compare(addr) <= 0 && addr.Compare(p.To) <= 0 {
			return true
		}
	}
	return false
}

// reservedFor reports whether a lease is that of a reservation.
func (c *comparison) reservedFor(o Observation) bool {
	h := c.want.byMAC[o.MAC]
	return h != nil && h.Address.IsValid() && h.Address.String() == o.Address
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

// hostImpact tells what happens to one machine.
func (c *comparison) hostImpact(i *impacts, ch *Change) {
	a := ch.Address
	name := a.String()
	was, is := c.have.hosts[a], c.want.hosts[a]
	switch {
	case is == nil && was == nil:
	case is == nil:
		detail := "boots as a machine without a host block"
		if h := c.want.byMAC[was.MAC]; h != nil {
			detail = "boots as " + h.Addr.String()
		} else if len(c.want.chainsOf(machine{mac: was.MAC, subnet: was.Subnet})) == 0 {
			detail = "boots nothing from here"
		}
		i.add(EffectNextBoot, "", detail, name)
		c.keepsAsHost(i, name, was, machine{mac: was.MAC, host: c.hostByMAC(was.MAC)})
	case was == nil:
		i.add(EffectNextBoot, "", "", name)
		if m := c.seen.byMAC[is.MAC]; m != nil && m.host != a {
			c.keepsAsHost(i, m.name(), is, machine{mac: is.MAC, host: a})
		}
		c.addressTaken(i, name, is)
	default:
		c.hostUpdate(i, name, was, is)
	}
}

func (c *comparison) hostByMAC(mac string) schema.Addr {
	if h := c.want.byMAC[mac]; h != nil {
		return h.Addr
	}
	return schema.Addr{}
}

func (c *comparison) hostUpdate(i *impacts, name string, was, is *schema.Host) {
	own := c.own[is.Addr]
	if _, moved := c.have.was[is.Addr]; moved && was.MAC == is.MAC {
		i.add(EffectKeeps, "", byMAC, name)
	}
	boots := false
	for attr := range own {
		switch attr {
		case "address": // it may be on another subnet, and boot there as that says
			boots = boots || !c.sameChains(was, is)
		case "mac", "hostname":
			boots = true
		default: // what was the default, or is the group's, may have been written down
			boots = boots || !c.sameBoot(was, is)
		}
	}
	had, has := c.have.leases(was), c.want.leases(is)
	if own["hostname"] && had && has {
		i.add(EffectLive, "", nextRenewal, name)
	}
	if own["address"] && (had || has) {
		when := oldLeaseEnds
		if !had {
			when = otherLeaseEnds
		}
		i.add(EffectLive, "", fmt.Sprintf("%s -> %s %s", c.have.addressOf(was), c.want.addressOf(is), when), name)
		c.addressTaken(i, name, is)
	}
	if !boots {
		return
	}
	if was.MAC == is.MAC {
		c.bootsOther(i, []string{name})
		return
	}
	i.add(EffectNextBoot, "", "is "+is.MAC+" now", name)
	c.keepsAsHost(i, name, was, machine{mac: was.MAC, host: c.hostByMAC(was.MAC)})
}

// leases reports whether a host may have a lease of ours.
func (v *view) leases(h *schema.Host) bool {
	list := v.subnetsOf(h)
	return len(list) == 0 || slices.ContainsFunc(list, v.desired.Leases)
}

// addressOf says in words which address a host gets.
func (v *view) addressOf(h *schema.Host) string {
	switch {
	case !v.leases(h):
		return "another server's address"
	case h.Address.IsValid():
		return h.Address.String()
	}
	return "a pool address"
}

// keepsAsHost tells that the machine with the hardware address of h runs something
// that it would not boot as next.
func (c *comparison) keepsAsHost(i *impacts, name string, h *schema.Host, next machine) {
	m := c.seen.byMAC[h.MAC]
	if m == nil || !m.runs() || m.artifact == "" {
		return
	}
	next.subnet = m.subnet
	after := ""
	if chains := c.want.chainsOf(next); len(chains) > 0 {
		after = c.artifacts.after(c.want.images[chains[0].image])
	}
	if after != m.artifact {
		i.add(EffectKeeps, m.artifact, untilReboot, name)
	}
}

// addressTaken tells who has the lease of an address that a host is to get.
func (c *comparison) addressTaken(i *impacts, name string, h *schema.Host) {
	if !h.Address.IsValid() || !c.want.leases(h) {
		return
	}
	want := h.Address.String()
	for _, o := range c.seen.leases {
		if o.Address != want || o.MAC == h.MAC {
			continue
		}
		i.add(EffectLive, "", fmt.Sprintf("a pool address while %s has the lease of %s", c.holder(o), want), name)
		i.add(EffectKeeps, "", want+" "+untilLeaseEnd, c.holder(o))
	}
}
