package dhcp4

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// BootPort is where firmware asks for its boot file after another server has given
// it an address (PXE 2.1 section 2.2).
const BootPort = 4011

// proxy answers on a subnet whose addresses another server gives out (PXE 2.1,
// section 2.2): beside that server's offer clients that boot get one without an
// address, with their boot file, and those that ask again on port 4011 get it
// acknowledged. Everything else is between the client and that server: nothing
// here acknowledges or refuses an address, and no lease is kept.
func (x *exchange) proxy() *dhcpv4.DHCPv4 {
	switch {
	case x.f.Late:
		return x.proxyLate()
	case x.f.Type == dhcpv4.MessageTypeDiscover && x.f.Boots():
		saw, sent := x.event(SawDiscover, x.f.Requested), x.event(SentOffer, netip.Addr{})
		x.nameFile(&sent)
		saw.Err = sent.Err
		x.cfg.Report(saw)
		return x.proxied(dhcpv4.MessageTypeOffer, sent)
	case x.f.Type == dhcpv4.MessageTypeRequest:
		x.taken()
	}
	return nil
}

// isFrom reports whether a packet on port 4011, that came from src, can be the one of
// the client at ciaddr: a machine has its address by then, on this subnet, and sends
// from it. Others speak in its name. A client may have none, too.
func (s *Subnet) isFrom(ciaddr netip.Addr, src netip.AddrPort) bool {
	return !ciaddr.IsValid() || ciaddr == src.Addr().Unmap() && s.Prefix.Contains(ciaddr)
}

// proxyLate answers on port 4011. EDK2 and iPXE send a REQUEST there. An INFORM asks
// for the same, and to a DISCOVER a client expects an offer (RFC 2131 table 4).
func (x *exchange) proxyLate() *dhcpv4.DHCPv4 {
	kind, sent := dhcpv4.MessageTypeAck, SentAck
	switch x.f.Type {
	case dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform:
	case dhcpv4.MessageTypeDiscover:
		kind, sent = dhcpv4.MessageTypeOffer, SentOffer
	default:
		return nil
	}
	if !x.f.Boots() {
		return nil
	}
	e := x.event(sent, x.f.Client)
	x.nameFile(&e)
	return x.proxied(kind, e)
}

// proxied makes the answer that names the boot file, and reports it. A client that
// there is none for hears nothing, and goes on with what the other server says.
func (x *exchange) proxied(kind dhcpv4.MessageType, sent Event) *dhcpv4.DHCPv4 {
	r := ProxyReply(x.sub, x.f, kind)
	if r != nil {
		x.cfg.Report(sent)
	}
	return r
}

// taken reports which address a client asks another server for. That server may
// still refuse it; whoever is told must take it for what the client believes.
func (x *exchange) taken() {
	a := x.f.Client // where it is; see request
	if !a.IsValid() {
		a = x.f.Requested
	}
	if x.f.Server == x.sub.Server || !x.sub.Prefix.Contains(a) {
		return
	}
	x.note(x.sub.Name, x.f.Server, x.f.MAC)
	x.cfg.Report(x.event(SawTaken, a))
}

// ProxyReply makes the answer of a proxy DHCP server of the given type (Offer, or
// Ack on port 4011); nil when there is nothing that the client should load. It is
// to a subnet with Proxy what Reply is to others: pure, and the only place where
// such answers are made.
//
// By option 60 and the lack of an address clients know a proxy's offer. Option 43 is
// not sent here either. With a discovery control of 8 in it, OVMF 2022.11 spares
// itself the request to port 4011, and with that a second; but older EDK2 throws
// such an offer away (PxeBcCacheDhcp4Offer keeps it only if there is one already),
// and the machine does not boot. Without 43, both ask on port 4011. iPXE takes the
// file from the offer either way.
//
// Option 175 is not sent: no-pxedhcp in it would have iPXE ignore this very answer.
func ProxyReply(s *Subnet, f *Facts, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	_, boot := s.boot(f.MAC)
	target, _ := boot.File(f)
	if target.File == "" || !f.Boots() {
		return nil
	}
	r := begin(s, f, kind)
	r.ServerIPAddr = wire(s.NextServer)
	if kind == dhcpv4.MessageTypeOffer && f.Vendor == VendorPXE && f.Class != ClassIPXE && f.Arch != 0 {
		// EDK2 asks on port 4011 of that address, not of the server identifier
		// (PxeBcRetryBinlOffer). What it is told there says where the file is.
		r.ServerIPAddr = wire(s.Server)
	}
	vendor := VendorPXE
	if f.Vendor == VendorHTTP {
		vendor = VendorHTTP
	}
	put(r, dhcpv4.OptionClassIdentifier, []byte(vendor))
	put(r, dhcpv4.OptionClientMachineIdentifier, f.MachineID)
	nameFile(r, s, target)
	fit(r, f.MaxSize)
	return r
}
