package dhcp

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Answer implements provider.Provider: one answer, whose Fields are what
// dhcp4.Fields says of the packet that the machine would get, and whose Name is
// the boot file in it. Nothing on a subnet whose server has DHCP switched off. On
// one in proxy mode, Fields are those of the offer beside the other server's; to a
// client that hears nothing from us, Text says who answers it.
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
	if s == nil && t.isSilent(h, q) {
		return nil
	}
	if s == nil {
		a.Fail = "it is not known on which subnet the machine is"
		return []provider.Answer{a}
	}
	if h == nil {
		a.Range = s.Range
	}
	if _, nameless := q.MAC.Address(); q.MAC[0]&1 != 0 && !nameless {
		a.Fail = "the hardware address is of a group of machines (the lowest bit of its first byte is set), and none has it"
		return []provider.Answer{a}
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
	if f.Boots() {
		f.MaxSize = dhcp4.FirmwareSize
	}
	if s.wire.Proxy {
		s.proxied(&a, f)
		return []provider.Answer{a}
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
	a.Name, a.Fail = s.bootFile(f)
	return []provider.Answer{a}
}

// isSilent reports whether a machine that is on none of our subnets is on one whose
// server has DHCP switched off.
func (t *table) isSilent(h *host, q provider.Query) bool {
	if q.Subnet.IsZero() && !q.Address.IsValid() && h != nil {
		q.Subnet = h.Subnet
	}
	return slices.ContainsFunc(t.silent, func(s *schema.Subnet) bool {
		return s.Addr == q.Subnet || q.Subnet.IsZero() && s.CIDR.Contains(q.Address)
	})
}

// bootFile says which file the client must load, and why there is none.
func (s *subnet) bootFile(f *dhcp4.Facts) (file, why string) {
	boot := &s.wire.Boot
	if e := s.wire.Host(f.MAC); e != nil {
		boot = &e.Boot
	}
	target, why := boot.File(f)
	return target.File, why
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
