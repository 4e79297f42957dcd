package schema

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
)

// checkSubnets checks subnets and their pools, and gives the subnets by network. It
// also fills in the next server where it is not written.
func (l *loader) checkSubnets() []*Subnet {
	servers := byAddr(l.out.Servers, func(s *Server) Addr { return s.Addr })
	sorted := slices.Clone(l.out.Subnets)
	slices.SortStableFunc(sorted, func(a, b *Subnet) int { return a.CIDR.Addr().Compare(b.CIDR.Addr()) })
	var before *Subnet // the one that reaches furthest so far
	for _, s := range sorted {
		if before != nil && before.CIDR.Overlaps(s.CIDR) {
			l.wrong(s.Addr, "cidr", fmt.Sprintf("%s overlaps %s", s.Addr, before.Addr), fmt.Sprintf("%s and %s (%s) have addresses in common, so it is not clear which of them a machine is in.", s.CIDR, before.CIDR, before.At("cidr")))
		}
		if before == nil || broadcast(before.CIDR).Less(broadcast(s.CIDR)) {
			before = s
		}
		server := servers[s.Server]
		if server != nil && !s.NextServer.IsValid() {
			s.NextServer = server.Address
			m := l.made[s.Addr.String()]
			m.attrs = append(m.attrs, Attr{Name: "next_server", Value: canonical(s.NextServer.String())})
		}
		for _, r := range s.Routers {
			if why := unusable(s.CIDR, r); why != "" {
				l.wrong(s.Addr, "routers", fmt.Sprintf("Router %s cannot be reached", r), fmt.Sprintf("It %s %s, so machines of %s have no way to it.", why, s.CIDR, s.Addr))
			}
		}
		l.checkPools(s, server)
	}
	return sorted
}

// unusable says why no machine in the network can have the address, "" if one can.
func unusable(p netip.Prefix, a netip.Addr) string {
	switch {
	case !p.Contains(a):
		return "is outside of"
	case a == p.Addr():
		return "is the network address of"
	case a == broadcast(p):
		return "is the broadcast address of"
	}
	return ""
}

func (l *loader) checkPools(s *Subnet, server *Server) {
	type numbered struct {
		Pool
		attr string
	}
	pools := make([]numbered, len(s.Pools))
	for i, p := range s.Pools {
		pools[i] = numbered{p, fmt.Sprintf("pool[%d].range", i)}
	}
	slices.SortStableFunc(pools, func(a, b numbered) int { return a.From.Compare(b.From) })
	for i, p := range pools {
		for _, end := range []netip.Addr{p.From, p.To} {
			if why := unusable(s.CIDR, end); why != "" {
				l.wrong(s.Addr, p.attr, fmt.Sprintf("Pool %s-%s is not usable", p.From, p.To), fmt.Sprintf("%s %s %s.", end, why, s.CIDR))
				break
			}
		}
		if i > 0 && !pools[i-1].To.Less(p.From) {
			o := pools[i-1]
			l.wrong(s.Addr, p.attr, fmt.Sprintf("Pool %s-%s overlaps another", p.From, p.To), fmt.Sprintf("It has addresses in common with %s-%s (%s).", o.From, o.To, l.pointer(s.Addr, o.attr)))
			pools[i].To = maxAddr(o.To, p.To)
		}
		holds := func(a netip.Addr) bool { return a.IsValid() && !a.Less(p.From) && !p.To.Less(a) }
		if server != nil && holds(server.Address) {
			l.wrong(s.Addr, p.attr, fmt.Sprintf("Pool %s-%s has the server's address in it", p.From, p.To), fmt.Sprintf("%s is the address of %s, and would be given to a machine.", server.Address, server.Addr))
		}
		for _, r := range s.Routers {
			if holds(r) && (server == nil || r != server.Address) {
				l.wrong(s.Addr, p.attr, fmt.Sprintf("Pool %s-%s has a router's address in it", p.From, p.To), fmt.Sprintf("%s is a router of %s, and would be given to a machine.", r, s.Addr))
			}
		}
	}
}

func maxAddr(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

// pointer is where an attribute was written, for messages.
func (l *loader) pointer(a Addr, attr string) Range { return rangeOf(l.where(a, attr)) }

// checkHosts finds each host's subnet, and refuses addresses that are in use.
func (l *loader) checkHosts(subnets []*Subnet) {
	servers := map[netip.Addr]*Server{}
	for _, s := range l.out.Servers {
		servers[s.Address] = s
	}
	macs, addresses := map[string]*Host{}, map[netip.Addr]*Host{}
	complete := l.complete("subnet")
	for i, h := range l.out.Hosts {
		if old := macs[h.MAC]; old != nil {
			l.wrong(h.Addr, "mac", fmt.Sprintf("%s has the hardware address of %s", h.Addr, old.Addr), fmt.Sprintf("%s was written at %s already. Every machine has its own.", h.MAC, old.At("mac")))
		} else {
			macs[h.MAC] = h
		}
		if !h.Address.IsValid() {
			continue
		}
		if old := addresses[h.Address]; old != nil {
			l.wrong(h.Addr, "address", fmt.Sprintf("%s has the address of %s", h.Addr, old.Addr), fmt.Sprintf("%s was written at %s already. Two machines cannot have the same address.", h.Address, old.At("address")))
		} else {
			addresses[h.Address] = h
		}
		s := containing(subnets, h.Address)
		if s == nil {
			if !complete {
				continue // perhaps it is in one that failed
			}
			detail := "There is none."
			if len(subnets) == 1 {
				detail = fmt.Sprintf("%s has %s.", subnets[0].Addr, subnets[0].CIDR)
			} else if len(subnets) > 1 {
				detail = fmt.Sprintf("None of the %d subnets has it.", len(subnets))
			}
			l.wrong(h.Addr, "address", fmt.Sprintf("Address %s is in no subnet", h.Address), detail+" A reservation must be in a subnet, so that the machine can use it.")
			continue
		}
		if h.Subnet != s.Addr && l.kept.took[h] {
			h = new(*h) // others read the one that was taken over
			l.out.Hosts[i] = h
		}
		if h.Subnet != s.Addr {
			h.Subnet = s.Addr
		}
		if why := unusable(s.CIDR, h.Address); why != "" {
			l.wrong(h.Addr, "address", fmt.Sprintf("Address %s cannot be used", h.Address), fmt.Sprintf("It %s %s.", why, s.Addr))
		}
		if server := servers[h.Address]; server != nil {
			l.wrong(h.Addr, "address", fmt.Sprintf("Address %s is the server's", h.Address), fmt.Sprintf("%s has it. Two machines cannot have the same address.", server.Addr))
		}
	}
}

// containing finds the subnet of an address. The subnets are sorted, and do not
// overlap in a configuration that is accepted.
func containing(subnets []*Subnet, a netip.Addr) *Subnet {
	i := sort.Search(len(subnets), func(i int) bool { return a.Less(subnets[i].CIDR.Addr()) })
	if i > 0 && subnets[i-1].CIDR.Contains(a) {
		return subnets[i-1]
	}
	return nil
}
