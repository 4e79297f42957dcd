package dhcp4

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// Grant is what a client gets: an address, for a time.
type Grant struct {
	Addr netip.Addr    // zero for an answer to INFORM
	Time time.Duration // 0 for an answer to INFORM
}

// maxFile is what the file field holds, with the zero byte at its end.
const maxFile = 127

// Reply makes the answer of the given type (Offer or Ack; None for BOOTP) to a
// client of the subnet. It is a pure function, and the only place where answers
// are made.
//
// The options that a client gets do not depend on which it asks for (option 55):
// none of them hurts a client that does not know it, and what `explain` says
// about a machine is then true for whichever program of its boot is asking. Only
// a client with little room (option 57) gets less.
//
// Option 43 is never sent. With PXE sub-options in it firmware starts its own
// discovery of boot servers; without it, it takes siaddr and file, as it should.
// Option 52 (overload) is not used: `file` is needed for what it is.
func Reply(s *Subnet, f *Facts, kind dhcpv4.MessageType, g Grant) *dhcpv4.DHCPv4 {
	r := begin(s, f, kind)
	r.YourIPAddr = wire(g.Addr)
	host, boot := s.boot(f.MAC)

	if g.Time > 0 && f.Type != dhcpv4.MessageTypeNone {
		secs := uint32(min(g.Time, lease.Infinite) / time.Second)
		put(r, dhcpv4.OptionIPAddressLeaseTime, be32(secs))
		if secs != 0xffffffff {
			put(r, dhcpv4.OptionRenewTimeValue, be32(secs/2)) // RFC 2131 section 4.4.5
			put(r, dhcpv4.OptionRebindingTimeValue, be32(uint32(uint64(secs)*7/8)))
		}
	}
	put(r, dhcpv4.OptionSubnetMask, net.CIDRMask(s.Prefix.Bits(), 32))
	if s.Prefix.Bits() < 31 {
		put(r, dhcpv4.OptionBroadcastAddress, broadcast(s.Prefix))
	}
	put(r, dhcpv4.OptionRouter, list(s.Routers))
	put(r, dhcpv4.OptionDomainNameServer, list(s.DNS))
	put(r, dhcpv4.OptionNTPServers, list(s.NTP))
	put(r, dhcpv4.OptionDomainName, []byte(s.DomainName))
	if s.MTU > 0 {
		put(r, dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(s.MTU)))
	}
	if host != nil {
		put(r, dhcpv4.OptionHostName, []byte(host.Hostname))
	}
	r.ServerIPAddr = wire(s.NextServer)
	bootOptions(r, s, f, boot)
	fit(r, f.MaxSize)
	return r
}

// bootOptions adds what a machine needs that is about to boot.
func bootOptions(r *dhcpv4.DHCPv4, s *Subnet, f *Facts, boot *Boot) {
	target, _ := boot.File(f)
	nameFile(r, s, target)
	if f.Type == dhcpv4.MessageTypeNone {
		return
	}
	switch f.Vendor {
	case VendorPXE:
		// No option 60, although PXE 2.1 section 2.2.1 wants PXEClient there: with
		// it, and without option 43, EDK2 (OVMF 2022.11) takes the offer for one of
		// a BINL server, is silent after the ACK, and gives up (seen with QEMU; without
		// option 60 it goes on to TFTP).
		put(r, dhcpv4.OptionClientMachineIdentifier, f.MachineID) // RFC 4578 section 2.3
	case VendorHTTP:
		// UEFI 2.5: an offer without it is ignored by HTTP boot.
		put(r, dhcpv4.OptionClassIdentifier, []byte(VendorHTTP))
		put(r, dhcpv4.OptionClientMachineIdentifier, f.MachineID)
	}
	if f.pxe() {
		// iPXE waits 3.2 s for an offer of a proxy DHCP server unless told that
		// there is none: option 175, sub-option 176 (no-pxedhcp) = 1. Other
		// firmware ignores the option.
		put(r, dhcpv4.OptionEtherboot, []byte{0xb0, 0x01, 0x01})
	}
}

// Options of PXELINUX (RFC 5071).
const (
	optPXELINUXMagic  = dhcpv4.GenericOptionCode(208) // section 3
	optPXELINUXConfig = dhcpv4.GenericOptionCode(209) // section 4
	optPXELINUXPrefix = dhcpv4.GenericOptionCode(210) // section 5
)

// nameFile says what to load and where it is. BOOTP has room for the name only.
func nameFile(r *dhcpv4.DHCPv4, s *Subnet, t Target) {
	if len(t.File) <= maxFile {
		r.BootFileName = t.File
	}
	if t.File == "" || r.MessageType() == dhcpv4.MessageTypeNone {
		return
	}
	// Some clients look at `file`, some at 67: both say the same. No zero byte at
	// the end of 67; RFC 2132 section 9.5 does not ask for one.
	put(r, dhcpv4.OptionBootfileName, []byte(t.File))
	if !strings.Contains(t.File, "://") && s.NextServer.IsValid() {
		put(r, dhcpv4.OptionTFTPServerName, []byte(s.NextServer.String()))
	}
	if t.Prefix != "" || t.Config != "" {
		// The magic is deprecated (RFC 5071 section 3), and PXELINUX before 3.55
		// believes the other two only beside it.
		put(r, optPXELINUXMagic, []byte{0xf1, 0x00, 0x74, 0x7e})
		put(r, optPXELINUXConfig, []byte(t.Config))
		put(r, optPXELINUXPrefix, []byte(t.Prefix))
	}
}

// Nak makes the answer that says no. It carries as little as RFC 2131 table 3
// wants.
func Nak(s *Subnet, f *Facts, why string) *dhcpv4.DHCPv4 {
	r := begin(s, f, dhcpv4.MessageTypeNak)
	put(r, dhcpv4.OptionMessage, []byte(why))
	if f.Relay.IsValid() {
		// RFC 2131 section 4.3.2: the client may have a wrong address, so the relay
		// agent must broadcast.
		r.SetBroadcast()
	} else {
		r.ClientIPAddr = net.IPv4zero
	}
	fit(r, f.MaxSize)
	return r
}

// begin makes an answer with what all answers have: what the client said about
// itself, and who we are.
func begin(s *Subnet, f *Facts, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	r := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        iana.HWTypeEthernet,
		TransactionID: f.XID,
		Flags:         f.Flags,
		ClientIPAddr:  net.IPv4zero.To4(),
		YourIPAddr:    net.IPv4zero.To4(),
		ServerIPAddr:  net.IPv4zero.To4(),
		GatewayIPAddr: wire(f.Relay),
		ClientHWAddr:  net.HardwareAddr(f.MAC[:]),
		Options:       dhcpv4.Options{},
	}
	if kind == dhcpv4.MessageTypeAck {
		r.ClientIPAddr = wire(f.Client) // RFC 2131 table 3
	}
	put(r, dhcpv4.OptionRelayAgentInformation, f.RelayInfo) // RFC 3046 section 2.2
	if kind != dhcpv4.MessageTypeNone {
		put(r, dhcpv4.OptionDHCPMessageType, []byte{byte(kind)})
		put(r, dhcpv4.OptionServerIdentifier, wire(s.Server))
		put(r, dhcpv4.OptionClientIdentifier, f.ClientID) // RFC 6842 section 3
	}
	return r
}

// dispensable lists what is left out of an answer that does not fit, first to go
// first. 67 goes only while `file` says the same.
var dispensable = [...]uint8{208, 42, 28, 26, 66, 15, 12, 6, 97, 67, 175, 58, 59, 3}

// fit shortens an answer to size bytes.
func fit(r *dhcpv4.DHCPv4, size int) {
	for _, code := range dispensable {
		if len(r.ToBytes()) <= size {
			return
		}
		if code == dhcpv4.OptionBootfileName.Code() && r.BootFileName == "" {
			continue
		}
		delete(r.Options, code)
	}
}

// put sets an option. An empty value leaves it out.
func put(r *dhcpv4.DHCPv4, code dhcpv4.OptionCode, value []byte) {
	if len(value) > 0 {
		r.Options[code.Code()] = value
	}
}

// wire gives four bytes; 0.0.0.0 for the zero Addr.
func wire(a netip.Addr) net.IP {
	if !a.Is4() {
		return net.IP{0, 0, 0, 0}
	}
	return a.AsSlice()
}

func list(as []netip.Addr) []byte {
	var b []byte
	for _, a := range as {
		b = append(b, wire(a)...)
	}
	return b
}

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// broadcast gives the last address of a prefix.
func broadcast(p netip.Prefix) net.IP {
	b := p.Masked().Addr().As4()
	host := ^uint32(0) >> p.Bits()
	return be32(binary.BigEndian.Uint32(b[:]) | host)
}
