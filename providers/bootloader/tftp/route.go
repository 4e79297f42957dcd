package tftp

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Bytes that IPv4, UDP and the TFTP data header take from a datagram.
const headers = 20 + 8 + 4

// ethernetBlock is the block that fills an Ethernet frame of 1500 bytes. Larger
// ones are not agreed to on a real network, even where this host's own interface
// carries jumbo frames: the segment of the client seldom does, and a fragment
// lost is a block lost.
const ethernetBlock = 1500 - headers

// route is how datagrams get from here to a client.
type route struct {
	source netip.Addr // what the kernel chooses when the sender does not
	mtu    int        // known path MTU
}

// maxBlock is the largest block that reaches the client in one piece.
func (r route) maxBlock() int {
	if r.source.IsLoopback() {
		return max(stdBlock, min(maxBlock, r.mtu-headers))
	}
	return max(stdBlock, min(ethernetBlock, r.mtu-headers))
}

// routeTo asks the kernel. It sends nothing.
func routeTo(client netip.AddrPort) (route, error) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(client))
	if err != nil {
		return route{}, fmt.Errorf("tftp: no route to %s: %w", client.Addr(), err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return route{}, fmt.Errorf("tftp: %w", err)
	}
	r := route{source: c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()}
	var serr error
	if err := raw.Control(func(fd uintptr) {
		r.mtu, serr = unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU)
	}); err != nil {
		return route{}, fmt.Errorf("tftp: %w", err)
	}
	if serr != nil {
		return route{}, fmt.Errorf("tftp: path MTU: %w", serr)
	}
	return r, nil
}
