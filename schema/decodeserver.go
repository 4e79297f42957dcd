package schema

import (
	"fmt"
	"net/netip"
)

// The standard ports: RFC 2131 section 4.1, RFC 1350 section 4, RFC 9110 section
// 4.2.1, the one that IANA gave to NBD, and RFC 8881 section 2.9.
var standardPorts = []struct {
	protocol string
	port     uint16
}{{"dhcp", 67}, {"tftp", 69}, {"http", 80}, {"nbd", 10809}, {"nfs", 2049}}

func (l *loader) server(it *item) {
	s := &Server{
		Interface: it.text("interface", "", checkInterface),
		Address:   it.address("address", netip.Addr{}),
	}
	it.needed("address")
	if s.Address.IsUnspecified() || s.Address.IsMulticast() || s.Address == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		it.fail(it.place("address"), fmt.Sprintf("Invalid address %s", s.Address), "Clients are told this address, so it must be one that a machine can have.")
	}
	for _, p := range standardPorts {
		if p.protocol == "nfs" && it.only("nfs") == nil {
			// An export may switch it on; see nfsListeners.
			s.NFS = Listener{Listen: netip.AddrPortFrom(s.Address, p.port), Disabled: true}
			continue
		}
		*s.listener(p.protocol) = it.listener(p.protocol, netip.AddrPortFrom(s.Address, p.port))
	}
	it.public()
	if it.made.failed {
		return
	}
	s.Meta = it.meta()
	l.out.Servers = append(l.out.Servers, s)
}

func (s *Server) listener(protocol string) *Listener {
	switch protocol {
	case "dhcp":
		return &s.DHCP
	case "tftp":
		return &s.TFTP
	case "http":
		return &s.HTTP
	case "nfs":
		return &s.NFS
	}
	return &s.NBD
}

// listener reads the block of one protocol; it may be left out.
func (it *item) listener(protocol string, standard netip.AddrPort) Listener {
	sub := it.only(protocol)
	if sub == nil {
		sub = &item{l: it.l, made: it.made, body: &body{}, ctx: it.ctx, prefix: protocol + ".", at: it.at}
	}
	show := func(a netip.AddrPort) any { return a.String() }
	return Listener{
		Listen:   read(sub, "listen", standard, parseListen(standard.Addr()), show),
		Disabled: !sub.boolean("enabled", true),
	}
}
