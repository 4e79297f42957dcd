package dhcp4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

const (
	// MaxPacket is the largest packet that is read, in bytes. A DHCP message that
	// fits into an Ethernet frame has 1472.
	MaxPacket = 2048

	headerSize = 236 // RFC 2131 figure 1, without the options field
	cookieSize = 4
	// udpOverhead is what option 57 counts besides our message. RFC 2132 section
	// 9.10 does not say so; every server and client takes it so.
	udpOverhead = 28
	minMessage  = 576 // RFC 2132 section 9.10
	maxMessage  = 1500
	bootpReply  = 300 // RFC 951: 64 bytes of vendor area

	// DefaultSize is what an answer may have when the client does not say (RFC
	// 2131 section 2), in bytes.
	DefaultSize = minMessage - udpOverhead
	// FirmwareSize is what it may have when it is to firmware or iPXE: they say 1472 in
	// option 57 (iPXE and EDK2, seen with QEMU).
	FirmwareSize = 1472 - udpOverhead
)

// Facts is what a packet says, as far as answers depend on it.
type Facts struct {
	Type dhcpv4.MessageType // option 53; MessageTypeNone: BOOTP
	MAC  lease.MAC

	XID   dhcpv4.TransactionID
	Hops  uint8
	Flags uint16 // bit 15: broadcast, please

	Relay     netip.Addr // giaddr; zero: none
	Client    netip.Addr // ciaddr; zero: none
	Requested netip.Addr // option 50; zero: none
	Server    netip.Addr // option 54; zero: none

	Arch    uint16   // option 93, the first of them; without it what option 60 says
	Others  []uint16 // the rest of option 93
	HasArch bool     // one of both was there: the client wants to boot
	Vendor  string   // option 60 up to the first colon: "PXEClient", "HTTPClient", ""
	Class   string   // option 77: "iPXE", ""

	// Late says that the packet came to port 4011. Server sets it: no packet says so
	// itself.
	Late bool

	// MaxSize is how many bytes an answer may have (option 57).
	MaxSize int

	// What the client or its relay agent wants to see again, as it came; nil when
	// it was not there.
	ClientID  []byte // option 61
	MachineID []byte // option 97
	RelayInfo []byte // option 82
}

// errNotForUs means that a packet is well-formed, and nothing that a server of
// Ethernet clients answers.
var errNotForUs = errors.New("not a request of an Ethernet client")

// Parse reads a packet. Any bytes may come; the error says what is wrong with
// them.
func Parse(b []byte) (*Facts, error) {
	p, bootp, err := decode(b)
	if err != nil {
		return nil, err
	}
	if p.OpCode != dhcpv4.OpcodeBootRequest || p.HWType != iana.HWTypeEthernet || len(p.ClientHWAddr) != len(lease.MAC{}) {
		return nil, errNotForUs
	}
	f := &Facts{
		MAC:       lease.MAC(p.ClientHWAddr),
		XID:       p.TransactionID,
		Hops:      p.HopCount,
		Flags:     p.Flags,
		Relay:     addr(p.GatewayIPAddr),
		Client:    addr(p.ClientIPAddr),
		Requested: addr(p.Options.Get(dhcpv4.OptionRequestedIPAddress)),
		Server:    addr(p.Options.Get(dhcpv4.OptionServerIdentifier)),
		ClientID:  p.Options.Get(dhcpv4.OptionClientIdentifier),
		MachineID: p.Options.Get(dhcpv4.OptionClientMachineIdentifier),
		RelayInfo: p.Options.Get(dhcpv4.OptionRelayAgentInformation),
		MaxSize:   DefaultSize,
	}
	if f.MAC == (lease.MAC{}) || f.MAC[0]&1 != 0 { // nobody, or a group
		return nil, errNotForUs
	}
	if bootp {
		f.MaxSize = bootpReply
		return f, nil
	}
	if f.Type = p.MessageType(); f.Type == dhcpv4.MessageTypeNone {
		f.MaxSize = bootpReply
	} else if v := p.Options.Get(dhcpv4.OptionMaximumDHCPMessageSize); len(v) == 2 {
		// OVMF says 65280 in its REQUEST; nobody wants the fragments.
		f.MaxSize = min(max(int(binary.BigEndian.Uint16(v)), minMessage), maxMessage) - udpOverhead
	}
	f.Class = userClass(p.Options.Get(dhcpv4.OptionUserClassInformation))
	vendor, rest, _ := strings.Cut(text(p.Options.Get(dhcpv4.OptionClassIdentifier)), ":")
	f.Vendor = vendor
	if v := p.Options.Get(dhcpv4.OptionClientSystemArchitectureType); len(v) >= 2 {
		f.Arch, f.HasArch = binary.BigEndian.Uint16(v), true
		for v = v[2:]; len(v) >= 2 && len(f.Others) < maxOthers; v = v[2:] {
			f.Others = append(f.Others, binary.BigEndian.Uint16(v))
		}
	} else if f.Boots() {
		f.Arch, f.HasArch = vendorArch(rest)
	}
	return f, nil
}

// maxOthers is how many architectures of a client are looked at beside the first.
const maxOthers = 7

// vendorArch reads what follows "PXEClient:", as in "Arch:00007:UNDI:003016" (RFC
// 4578 section 2.1 has the numbers). Firmware that leaves option 93 out says its
// architecture there.
func vendorArch(s string) (arch uint16, ok bool) {
	key, rest, _ := strings.Cut(s, ":")
	digits, _, _ := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(digits, 10, 16)
	if key != "Arch" || err != nil {
		return 0, false
	}
	return uint16(n), true
}

// decode is the codec's FromBytes, lenient where old clients need it: a BOOTP
// client may have anything in its vendor area (RFC 951 section 3), or options
// without an end.
func decode(b []byte) (p *dhcpv4.DHCPv4, bootp bool, err error) {
	if len(b) < headerSize || len(b) > MaxPacket {
		return nil, false, fmt.Errorf("a packet of %d bytes", len(b))
	}
	magic := []byte{99, 130, 83, 99}
	if len(b) < headerSize+cookieSize || [4]byte(b[headerSize:headerSize+cookieSize]) != [4]byte(magic) {
		bootp = true
		b = append(append(make([]byte, 0, headerSize+cookieSize+1), b[:headerSize]...), magic...)
	} else {
		b = append(make([]byte, 0, len(b)+1), b...)
	}
	p, err = dhcpv4.FromBytes(append(b, byte(dhcpv4.OptionEnd)))
	return p, bootp, err
}

// addr reads an address field; 0.0.0.0 and anything that is not four bytes long
// is the zero Addr.
func addr(ip net.IP) netip.Addr {
	if len(ip) != net.IPv4len {
		return netip.Addr{}
	}
	if a := netip.AddrFrom4([4]byte(ip)); !a.IsUnspecified() {
		return a
	}
	return netip.Addr{}
}

// maxText is how many characters of a client's words are kept: they end up in
// logs.
const maxText = 64

// text gives the printable ASCII characters at the beginning of an option.
func text(b []byte) string {
	for i, c := range b {
		if c < ' ' || c > '~' || i == maxText {
			return string(b[:i])
		}
	}
	return string(b)
}

// userClass reads option 77. RFC 3004 wants each class preceded by its length;
// iPXE sends four bare letters.
func userClass(b []byte) string {
	first, rest := "", b
	for len(rest) > 0 {
		n := int(rest[0])
		if n == 0 || n > len(rest)-1 {
			return text(b)
		}
		class := text(rest[1 : 1+n])
		if class == ClassIPXE {
			return class
		}
		if first == "" {
			first = class
		}
		rest = rest[1+n:]
	}
	return first
}
