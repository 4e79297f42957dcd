package dhcp4

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

const (
	serverPort = 67
	clientPort = 68
)

// destination says where an answer goes (RFC 2131 section 4.1): to the relay
// agent; else to the address that the client has already; else to everybody.
//
// The clause's fourth case, unicast to an address that the client does not have
// yet, is left out on purpose: the kernel would ask by ARP who has it, nobody
// would answer, and the packet would be lost without a trace. No client minds a
// broadcast.
//
// A server on any other port than 67 is a demonstration without privileges, and
// answers whoever asked. So does port 4011, where clients that have an address ask
// from port 68 (iPXE) or 4011 (EDK2).
func destination(ep Endpoint, f *Facts, r *dhcpv4.DHCPv4, src netip.AddrPort) netip.AddrPort {
	if ep.Listen.Port() != serverPort && src.Addr().IsValid() && !src.Addr().IsUnspecified() {
		return src
	}
	if f.Relay.IsValid() {
		return netip.AddrPortFrom(f.Relay, serverPort)
	}
	// Its address may be what a client is refused.
	if f.Client.IsValid() && r.MessageType() != dhcpv4.MessageTypeNak {
		return netip.AddrPortFrom(f.Client, clientPort)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), clientPort)
}
