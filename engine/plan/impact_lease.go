package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/dlreconcile/dlreconcile/schema"
)

// subnetAt gives the subnet of ours that holds the address of a machine, whatever it
// was called when the machine was seen; else the one of that name; else nil.
func (v *view) subnetAt(ip netip.Addr, named schema.Addr) *schema.Subnet {
	if ip.IsValid() {
		for _, s := range v.bootable {
			if s.CIDR.Contains(ip) {
				return s
			}
		}
	}
	return v.subnets[named]
}

// isOn reports whether a machine is on a subnet.
func (v *view) isOn(m *machine, a schema.Addr) bool {
	s := v.subnetAt(m.ip, m.subnet)
	return s != nil && s.Addr == a
}

// leasesOn gives the leases of a subnet that is applied.
func (c *comparison) leasesOn(a schema.Addr) []Observation {
	var list []Observation
	for _, o := range c.seen.leases {
		if s := c.have.subnetAt(ipOf(o), o.Subnet); s != nil && s.Addr == a {
			list = append(list, o)
		}
	}
	return list
}

// ipOf gives the address of an observation; the zero Addr when it has none that can be
// read.
func ipOf(o Observation) netip.Addr {
	ip, _ := netip.ParseAddr(o.Address)
	return ip
}

func inPools(s *schema.Subnet, address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && slices.ContainsFunc(s.Pools, func(p schema.Pool) bool {
		return p.From.Compare(ip) <= 0 && ip.Compare(p.To) <= 0
	})
}

// reservedFor reports whether a lease is that of a reservation.
func (v *view) reservedFor(o Observation) bool {
	h := v.byMAC[o.MAC]
	return h != nil && h.Address.IsValid() && h.Address.String() == o.Address
}

// renews reports whether a lease goes on at its next renewal; one that does not is
// honoured to its end.
func (v *view) renews(o Observation) bool {
	s := v.subnetAt(ipOf(o), schema.Addr{})
	return s != nil && v.desired.Leases(s) && v.nextAddress(s, o) == o.Address
}

// takesBack reports whether the renewal of an address is refused: no subnet holds it any
// more, and the one that did is the authority on its wire. Another one keeps silent, and
// the lease runs to its end.
func (c *comparison) takesBack(ip netip.Addr) bool {
	was := c.have.subnetAt(ip, schema.Addr{})
	if was == nil || c.want.subnetAt(ip, schema.Addr{}) != nil {
		return false
	}
	is := c.want.subnets[was.Addr]
	return is != nil && is.Authoritative && c.want.desired.Leases(is)
}

// nextAddress says in words which address the holder of a lease on a subnet has once
// the server has had its way: the one that is reserved for it there; else its own as
// long as it is one of a pool that nobody else has reserved; else another one.
func (v *view) nextAddress(s *schema.Subnet, o Observation) string {
	if h := v.byMAC[o.MAC]; h != nil && h.Address.IsValid() && h.Subnet == s.Addr {
		return h.Address.String()
	}
	switch {
	case inPools(s, o.Address) && v.reserved()[o.Address] == nil:
		return o.Address
	case len(s.Pools) > 0:
		return "a pool address"
	}
	return "no address from here"
}

// reserved gives the hosts with an address of their own, by that.
func (v *view) reserved() map[string]*schema.Host {
	if v.byAddress == nil {
		v.byAddress = make(map[string]*schema.Host, len(v.hosts))
		for _, h := range v.hosts {
			if h.Address.IsValid() {
				v.byAddress[h.Address.String()] = h
			}
		}
	}
	return v.byAddress
}

// leavesHost tells what happens to the lease of a machine whose host block is gone.
// When another one has it now, that one tells.
func (c *comparison) leavesHost(i *impacts, name, mac string) {
	if c.want.byMAC[mac] == nil {
		c.renewal(i, name, mac)
	}
}

// renewal tells what changes for a machine that is here already, because another host
// block than before is its own, or none. Its renewals are answered from what is served
// then: they carry its host name, and an address that is not its own any more is
// honoured until the lease ends.
func (c *comparison) renewal(i *impacts, name, mac string) {
	m := c.seen.byMAC[mac]
	if m == nil || !m.leased && !m.runs() {
		return
	}
	s := c.want.subnetAt(m.ip, m.subnet)
	if s == nil || !c.want.desired.Leases(s) {
		return
	}
	switch had, has := c.have.hostname(mac), c.want.hostname(mac); {
	case had == has:
	case has == "":
		i.add(EffectLive, "", "no host name from here "+nextRenewal, name)
	default:
		i.add(EffectLive, "", "its host name "+nextRenewal, name)
	}
	for _, o := range c.seen.leases {
		if o.MAC != mac || !s.CIDR.Contains(ipOf(o)) {
			continue
		}
		next := c.want.nextAddress(s, o)
		if was := c.have.subnetAt(ipOf(o), o.Subnet); next == o.Address || was != nil && c.have.nextAddress(was, o) == next {
			continue
		}
		i.add(EffectLive, "", fmt.Sprintf("%s -> %s %s", o.Address, next, oldLeaseEnds), name)
	}
}

// hostname gives what the machine with a hardware address is told to be called; "" for
// one without a host block.
func (v *view) hostname(mac string) string {
	if h := v.byMAC[mac]; h != nil {
		return h.Hostname
	}
	return ""
}

// takesOver tells who gets the options of a new subnet while it is up: the machines
// with addresses that were another subnet's.
func (c *comparison) takesOver(i *impacts, s *schema.Subnet) {
	if s == nil || !c.want.desired.Leases(s) {
		return
	}
	for _, m := range c.seen.machines {
		if !m.leased && !m.runs() || !m.ip.IsValid() || !s.CIDR.Contains(m.ip) {
			continue
		}
		if was := c.have.subnetAt(m.ip, schema.Addr{}); was != nil && c.have.desired.Leases(was) && !sameOptions(was, s) {
			i.add(EffectLive, "", nextRenewal, m.name())
		}
	}
}

// sameOptions reports whether renewals on two subnets say the same.
func sameOptions(a, b *schema.Subnet) bool {
	return a.CIDR == b.CIDR && a.LeaseTime == b.LeaseTime && a.DomainName == b.DomainName && a.InterfaceMTU == b.InterfaceMTU && a.Server == b.Server &&
		slices.Equal(a.Routers, b.Routers) && slices.Equal(a.DomainNameServers, b.DomainNameServers) && slices.Equal(a.NTPServers, b.NTPServers)
}
