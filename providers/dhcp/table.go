package dhcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/schema"
)

// table is one generation of subnets and hosts. It is immutable.
type table struct {
	wire    *dhcp4.Table
	subnets []*subnet        // those that are served
	silent  []*schema.Subnet // those whose server has DHCP switched off
	loaders *loaders
	byMAC   map[provider.MAC]*host
	byAddr  map[schema.Addr]*host
	// reserved holds the hosts with an address of their own, by that.
	reserved map[netip.Addr]*host
	// sockets holds every DHCP socket that the generation declares, by what
	// declares it.
	sockets map[dhcp4.Endpoint]declaration
	// advertise holds the interfaces on which router solicitations are answered.
	advertise map[string]bool
}

// subnet is a block, and what it became.
type subnet struct {
	*schema.Subnet
	wire *dhcp4.Subnet
}

// host is a block, and its key.
type host struct {
	*schema.Host
	mac provider.MAC
}

// declaration is what a socket is there for: a server; and for port 4011 one of its
// subnets, too.
type declaration struct {
	server *schema.Server
	subnet *schema.Subnet // nil for the server's own socket
}

// holding gives the subnet that an address is in, or nil.
func (t *table) holding(a netip.Addr) *subnet {
	for _, s := range t.subnets {
		if s.CIDR.Contains(a) {
			return s
		}
	}
	return nil
}

// compile makes the table of a generation. What it is made from was checked by
// schema and by place, so that it cannot fail on anything an author could mend. It
// shares with earlier tables what is the same in them.
func compile(in provider.Input, places map[schema.Addr]place, earlier []*table) (*table, error) {
	t := &table{
		wire:      &dhcp4.Table{Version: in.Generation},
		byMAC:     map[provider.MAC]*host{},
		byAddr:    map[schema.Addr]*host{},
		reserved:  map[netip.Addr]*host{},
		sockets:   map[dhcp4.Endpoint]declaration{},
		advertise: map[string]bool{},
	}
	t.loaders = newLoaders(in, earlier)
	athome := map[schema.Addr][]*host{} // by subnet
	servers := map[schema.Addr]*schema.Server{}
	static := map[netip.Addr]bool{} // where servers live, on whichever subnet
	for _, s := range in.Want.Servers {
		servers[s.Addr] = s
		static[s.Address] = true
		if !s.DHCP.Disabled {
			t.sockets[places[s.Addr].endpoint] = declaration{server: s}
		}
	}
	for _, h := range in.Want.Hosts {
		mac, err := provider.ParseMAC(h.MAC)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.Addr, err)
		}
		e := &host{Host: h, mac: mac}
		t.byMAC[mac], t.byAddr[h.Addr] = e, e
		if h.Address.IsValid() {
			t.reserved[h.Address] = e
		}
		athome[h.Subnet] = append(athome[h.Subnet], e)
	}
	for _, s := range in.Want.Subnets {
		srv := servers[s.Server]
		if srv == nil {
			return nil, fmt.Errorf("%s: its server %s does not exist", s.Addr, s.Server)
		}
		if srv.DHCP.Disabled {
			t.silent = append(t.silent, s) // somebody else's DHCP server answers there
			if name := places[srv.Addr].endpoint.Interface; s.RouterAdvertisement && name != "" {
				t.advertise[name] = true // its machines have the same iPXE
			}
			continue
		}
		w := t.compileSubnet(s, srv, places[srv.Addr], static, t.loaders, athome[s.Addr])
		t.subnets = append(t.subnets, &subnet{Subnet: s, wire: w})
		t.wire.Subnets = append(t.wire.Subnets, w)
		if w.Late != (dhcp4.Endpoint{}) && t.sockets[w.Late].server == nil {
			t.sockets[w.Late] = declaration{srv, s}
		}
		if s.RouterAdvertisement && w.Endpoint.Interface != "" {
			t.advertise[w.Endpoint.Interface] = true
		}
	}
	return t, nil
}

func (t *table) compileSubnet(s *schema.Subnet, srv *schema.Server, at place, static map[netip.Addr]bool, boots *loaders, athome []*host) *dhcp4.Subnet {
	w := &dhcp4.Subnet{
		Name:          s.Addr.String(),
		Endpoint:      at.endpoint,
		Source:        at.source,
		Prefix:        s.CIDR.Masked(),
		Authoritative: s.Authoritative,
		BOOTP:         s.BOOTP,
		Server:        srv.Address,
		NextServer:    s.NextServer,
		LeaseTime:     s.LeaseTime,
		Pool:          lease.Pool{Excluded: t.excluded(s, static)},
		Routers:       s.Routers,
		DNS:           s.DomainNameServers,
		NTP:           s.NTPServers,
		DomainName:    s.DomainName,
		MTU:           s.InterfaceMTU,
		Boot:          boots.of(s, nil),
		Hosts:         map[lease.MAC]*dhcp4.Host{},
	}
	if s.Mode == schema.ModeProxy {
		w.Proxy, w.Late = true, at.late()
	}
	if !w.NextServer.IsValid() {
		w.NextServer = srv.Address
	}
	for _, p := range s.Pools {
		w.Pool.Ranges = append(w.Pool.Ranges, lease.Range{From: p.From, To: p.To})
	}
	known := func(h *host) *dhcp4.Host {
		return &dhcp4.Host{Name: h.Addr.String(), Hostname: h.Hostname, Boot: boots.of(s, h.Host)}
	}
	for _, h := range athome {
		e := known(h)
		e.Address = h.Address
		w.Hosts[lease.MAC(h.mac)] = e
	}
	w.Guest = func(m lease.MAC) *dhcp4.Host {
		if h := t.byMAC[provider.MAC(m)]; h != nil {
			return known(h)
		}
		return nil
	}
	return w
}

// excluded lists the addresses of a subnet that no pool may give away: the two
// that mean the network itself, and those of machines that have them by
// configuration, whether they are named in a host block or as somebody's server.
func (t *table) excluded(s *schema.Subnet, static map[netip.Addr]bool) map[netip.Addr]bool {
	ex := map[netip.Addr]bool{}
	add := func(as ...netip.Addr) {
		for _, a := range as {
			if s.CIDR.Contains(a) {
				ex[a] = true
			}
		}
	}
	for a := range t.reserved {
		add(a)
	}
	for a := range static {
		add(a)
	}
	add(s.NextServer)
	add(s.Routers...)
	add(s.DomainNameServers...)
	add(s.NTPServers...)
	if s.CIDR.Bits() < 31 {
		first := s.CIDR.Masked().Addr().As4()
		last := binary.BigEndian.Uint32(first[:]) | ^uint32(0)>>s.CIDR.Bits()
		add(netip.AddrFrom4(first), netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last))))
	}
	return ex
}
