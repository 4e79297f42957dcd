package dhcp

import (
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// Answer implements provider.Provider: one answer, whose Fields are what
// dhcp4.Fields says of the packet that the machine would get, and whose Name is
// the boot file in it. Nothing on a subnet whose DHCP server is somebody else.
func (p *Provider) Answer(q provider.Query) []provider.Answer {
	t := p.table(q.Generation)
	if t == nil {
		return nil
	}
	return p.answer(t, q)
}

func (p *Provider) answer(t *table, q provider.Query) []provider.Answer {
	h := t.byMAC[q.MAC]
	if h == nil && q.MAC.IsZero() {
		h = t.byAddr[q.Host]
	}
	if h != nil {
		q.MAC, q.Host = h.mac, h.Addr
	}
	if len(t.subnets) == 0 {
		return nil
	}
	a := provider.Answer{Kind: provider.AnswerDHCP, Provider: Name, Protocol: "dhcp"}
	if h != nil {
		a.Range = h.Range
	}
	s := p.subnetOf(t, h, q)
	if s == nil {
		a.Fail = "it is not known on which subnet the machine is"
		return []provider.Answer{a}
	}
	if h == nil {
		a.Range = s.Range
	}
	a.Server = netip.AddrPortFrom(s.wire.Server, s.wire.Endpoint.Listen.Port()).String()
	f := &dhcp4.Facts{
		Type:    dhcpv4.MessageTypeDiscover,
		MAC:     lease.MAC(q.MAC),
		Arch:    q.Arch,
		HasArch: q.Arch != 0,
		Vendor:  q.Vendor,
		Class:   q.Class,
		MaxSize: dhcp4.DefaultSize,
	}
	addr := q.Address
	if !addr.IsValid() {
		var err error
		if addr, err = p.leases.Peek(s.wire.Want(f.MAC, p.held)); err != nil {
			a.Fail = fmt.Sprintf("%s: %v", s.Addr, err)
			return []provider.Answer{a}
		}
	}
	a.Fields = dhcp4.Fields(dhcp4.Reply(s.wire, f, dhcpv4.MessageTypeOffer, dhcp4.Grant{Addr: addr, Time: s.LeaseTime}))
	boot := &s.wire.Boot
	if e := s.wire.Hosts[f.MAC]; e != nil {
		boot = &e.Boot
	}
	a.Name, a.Fail = boot.File(f)
	return []provider.Answer{a}
}

// subnetOf says where the machine of a query is: where it says; else where its
// address is; else where it has one reserved; else where it had its last lease;
// else on the only subnet there is.
func (p *Provider) subnetOf(t *table, h *host, q provider.Query) *subnet {
	if !q.Subnet.IsZero() {
		for _, s := range t.subnets {
			if s.Addr == q.Subnet {
				return s
			}
		}
		return nil
	}
	if q.Address.IsValid() {
		return t.holding(q.Address)
	}
	if h != nil && h.Address.IsValid() {
		return t.holding(h.Address)
	}
	if l, ok := p.leases.ByMAC(lease.MAC(q.MAC)); ok {
		if s := t.holding(l.Addr); s != nil {
			return s
		}
	}
	if len(t.subnets) == 1 {
		return t.subnets[0]
	}
	return nil
}
