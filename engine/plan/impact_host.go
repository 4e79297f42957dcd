package plan

import (
	"fmt"
	"slices"

	"github.com/dlreconcile/dlreconcile/schema"
)

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
		c.leavesHost(i, name, was.MAC)
	case was == nil:
		i.add(EffectNextBoot, "", "", name)
		if m := c.seen.byMAC[is.MAC]; m != nil && m.host != a {
			c.keepsAsHost(i, m.name(), is, machine{mac: is.MAC, host: a})
		}
		c.renewal(i, name, is.MAC)
		c.addressTaken(i, name, is)
	default:
		c.hostUpdate(i, name, was, is)
	}
	c.shutOut(i, func(m *machine) bool {
		return m.mac != "" && (was != nil && m.mac == was.MAC || is != nil && m.mac == is.MAC)
	})
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
		case "mac": // another machine: below
		case "hostname":
			boots = true
		default: // what was the default, or is the group's, may have been written down
			boots = boots || !c.sameBoot(was, is)
		}
	}
	if was.MAC != is.MAC {
		i.add(EffectNextBoot, "", "is "+is.MAC+" now", name)
		c.keepsAsHost(i, name, was, machine{mac: was.MAC, host: c.hostByMAC(was.MAC)})
		c.leavesHost(i, was.MAC, was.MAC)
		c.renewal(i, is.MAC, is.MAC)
		c.addressTaken(i, name, is)
		return
	}
	had, has := c.have.leases(was), c.want.leases(is)
	if own["hostname"] && had && has {
		i.add(EffectLive, "", nextRenewal, name)
	}
	if own["address"] && (had || has) {
		when := oldLeaseEnds
		switch {
		case !had:
			when = otherLeaseEnds
		case c.takesBack(was.Address):
			when = "when its next renewal of the old one is refused"
		}
		i.add(EffectLive, "", fmt.Sprintf("%s -> %s %s", c.have.addressOf(was), c.want.addressOf(is), when), name)
		c.addressTaken(i, name, is)
	}
	if boots {
		c.bootsOther(i, []string{name})
	}
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
	next.subnet, next.ip = m.subnet, m.ip
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
		holder := c.holder(o)
		if holder == name {
			holder = o.MAC // that of the machine which was the host before
		}
		i.add(EffectLive, "", fmt.Sprintf("a pool address while %s has the lease of %s", holder, want), name)
		i.add(EffectKeeps, "", want+" "+untilLeaseEnd, holder)
	}
}
