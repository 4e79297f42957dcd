package wire

import (
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// isDHCP reports whether a port is one of DHCP's (RFC 2131 section 4.1), or that of
// PXE boot servers.
func isDHCP(port uint16) bool { return port == 67 || port == 68 || port == 4011 }

// dhcp takes one DHCP packet.
func (d *decoder) dhcp(p packet) {
	// The parser keeps parts of its input.
	m, err := dhcpv4.FromBytes(append([]byte(nil), p.payload...))
	if err != nil {
		d.traffic.Malformed++
		return
	}
	e := &DHCP{
		At:         p.at,
		FromClient: m.OpCode == dhcpv4.OpcodeBootRequest,
		Src:        p.src,
		Dst:        p.dst,
		Packet:     m,
	}
	if len(m.ClientHWAddr) >= len(e.MAC) {
		e.MAC = provider.MAC(m.ClientHWAddr[:len(e.MAC)])
	}
	d.traffic.DHCP = append(d.traffic.DHCP, e)
}
