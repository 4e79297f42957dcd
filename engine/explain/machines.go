package explain

import (
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Machine is one that a desired state speaks of, on one subnet.
type Machine struct {
	Host   *schema.Host   // nil: any machine without a host block
	Subnet *schema.Subnet // nil: the host has no subnet that it could be on
	// Query has MAC, Host, Subnet and, where it is reserved, Address. A host whose
	// hardware address cannot be read has the zero MAC; a machine without a host
	// block one that no host has.
	Query provider.Query
	// Foreign says that nobody asks our DHCP server there.
	Foreign bool
}

// Machines lists every host on each subnet where it may boot, in the order of hosts,
// and then for each subnet that takes them a machine without a host block.
func Machines(want *schema.Desired) []Machine {
	foreign := map[schema.Addr]bool{} // by server
	for _, s := range want.Servers {
		foreign[s.Addr] = s.DHCP.Disabled
	}
	list := make([]Machine, 0, len(want.Hosts)+len(want.Subnets))
	known := make(map[provider.MAC]bool, len(want.Hosts))
	for _, h := range want.Hosts {
		q := provider.Query{Host: h.Addr, Address: h.Address}
		if mac, err := provider.ParseMAC(h.MAC); err == nil {
			q.MAC = mac
			known[mac] = true
		}
		placed := false
		for _, s := range want.Subnets {
			if h.Subnet == s.Addr || h.Subnet.IsZero() && want.Open(s) {
				placed, q.Subnet = true, s.Addr
				list = append(list, Machine{Host: h, Subnet: s, Query: q, Foreign: foreign[s.Server]})
			}
		}
		if !placed {
			list = append(list, Machine{Host: h, Query: q})
		}
	}
	mac := stranger(known)
	for _, s := range want.Subnets {
		if want.Open(s) {
			list = append(list, Machine{Subnet: s, Query: provider.Query{MAC: mac, Subnet: s.Addr}, Foreign: foreign[s.Server]})
		}
	}
	return list
}

// stranger gives a hardware address that no host has. It is locally administered,
// so no machine was built with it.
func stranger(known map[provider.MAC]bool) provider.MAC {
	mac := provider.MAC{0x02}
	for known[mac] {
		for i := len(mac) - 1; i > 0; i-- {
			if mac[i]++; mac[i] != 0 {
				break
			}
		}
	}
	return mac
}
