package wire

import (
	"net/netip"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Exchange is what one client and the servers said to each other in one DHCP
// transaction, or to one port of it: with a proxy (PXE 2.1, section 2.2) the boot
// server's port 4011 is asked after the transaction itself.
type Exchange struct {
	MAC     provider.MAC
	XID     dhcpv4.TransactionID
	Port    uint16  // of the servers: 67, or 4011
	Asked   []*DHCP // at least one, unless the capture began in the middle
	Answers []*DHCP
}

// Ports of servers.
const (
	portServer = 67
	portPXE    = 4011
)

// Exchanges sorts DHCP packets by transaction, in the order in which these began.
func (t *Traffic) Exchanges() []*Exchange {
	type key struct {
		mac  provider.MAC
		xid  dhcpv4.TransactionID
		port uint16
	}
	var list []*Exchange
	open := map[key]*Exchange{}
	for _, p := range t.DHCP {
		k := key{p.MAC, p.Packet.TransactionID, portServer}
		if p.Src.Port() == portPXE || p.Dst.Port() == portPXE {
			k.port = portPXE
		}
		x := open[k]
		if x == nil {
			x = &Exchange{MAC: k.mac, XID: k.xid, Port: k.port}
			open[k] = x
			list = append(list, x)
		}
		if p.FromClient {
			x.Asked = append(x.Asked, p)
		} else {
			x.Answers = append(x.Answers, p)
		}
	}
	return list
}

// From gives the answers of one server.
func (x *Exchange) From(server netip.Addr) []*DHCP {
	return only(x.Answers, func(p *DHCP) bool { return p.Src.Addr() == server })
}

// Said gives what the client says of itself: option 60 up to the first colon, option
// 77, and option 93.
func (x *Exchange) Said() (vendor, class string, arch uint16) {
	if len(x.Asked) == 0 {
		return "", "", 0
	}
	p := x.Asked[0].Packet
	vendor, _, _ = strings.Cut(p.ClassIdentifier(), ":")
	if archs := p.ClientArch(); len(archs) > 0 {
		arch = uint16(archs[0])
	}
	return vendor, strings.Join(p.UserClass(), " "), arch
}

// Acknowledged says that a server other than a proxy has given the client its
// address.
func (x *Exchange) Acknowledged() (*DHCP, bool) {
	for _, p := range x.Answers {
		if p.Packet.MessageType() == dhcpv4.MessageTypeAck && !p.Packet.YourIPAddr.IsUnspecified() {
			return p, true
		}
	}
	return nil, false
}
