package dhcp

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/schema"
)

// place is where a server block answers DHCP.
type place struct {
	endpoint dhcp4.Endpoint
	source   netip.Addr // dhcp4.Subnet.Source
}

// late gives the socket on which firmware asks for its boot file after another
// server has given it an address; none where DHCP is not on its own port: no
// firmware finds the way there.
func (p place) late() dhcp4.Endpoint {
	if p.endpoint.Listen.Port() != dhcpPort {
		return dhcp4.Endpoint{}
	}
	ep := p.endpoint
	ep.Listen = netip.AddrPortFrom(ep.Listen.Addr(), dhcp4.BootPort)
	return ep
}

const dhcpPort = 67

// placesOf finds the place of every server that answers DHCP. One that names no
// interface gets the one that has its address: a socket bound to the address
// alone hears no broadcast, and one bound to nothing would answer on wires that
// nobody spoke of. Its error is hcl.Diagnostics when an author can mend it.
func placesOf(servers []*schema.Server) (map[schema.Addr]place, error) {
	places := map[schema.Addr]place{}
	var diags hcl.Diagnostics
	for _, s := range servers {
		listen := s.DHCP.Listen
		switch {
		case s.DHCP.Disabled:
			// No socket for DHCP; router solicitations are answered where it is known.
			name := s.Interface
			if name == "" && !s.Address.IsLoopback() {
				name, _ = interfaceOf(s.Address) // not worth a refusal
			}
			places[s.Addr] = place{endpoint: dhcp4.Endpoint{Interface: name}}
			continue
		case s.Interface == "" && listen.Addr().IsLoopback(): // a demonstration
			places[s.Addr] = place{dhcp4.Endpoint{Listen: listen}, listen.Addr()}
			continue
		}
		p := place{endpoint: dhcp4.Endpoint{Interface: s.Interface, Listen: netip.AddrPortFrom(netip.IPv4Unspecified(), listen.Port())}}
		if !listen.Addr().IsUnspecified() {
			p.source = listen.Addr()
		}
		if s.Interface == "" {
			name, err := interfaceOf(s.Address)
			if err != nil {
				return nil, fmt.Errorf("dhcp: network interfaces: %w", err)
			}
			if name == "" {
				diags = diags.Append(&hcl.Diagnostic{
					Severity: hcl.DiagError,
					Summary:  "No network interface has this address",
					Detail:   fmt.Sprintf("%s: no network interface has this address, %s; name one with interface = \"…\". `ip address` lists those that this machine has.", s.Addr, s.Address),
					Subject:  new(s.At("address").HCL()),
				})
				continue
			}
			p.endpoint.Interface = name
			if !p.source.IsValid() {
				p.source = s.Address
			}
		}
		places[s.Addr] = p
	}
	if diags.HasErrors() {
		return nil, diags
	}
	return places, nil
}

// interfaceOf gives the name of the interface that has an address, "" when none
// has.
func interfaceOf(a netip.Addr) (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", err
	}
	for _, ifi := range all {
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, has := range addrs {
			if p, err := netip.ParsePrefix(has.String()); err == nil && p.Addr().Unmap() == a {
				return ifi.Name, nil
			}
		}
	}
	return "", nil
}
