package dhcp4

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// ipv6Header is the size of a header without extensions (RFC 8200 section 3).
const ipv6Header = 40

// packetConn does without the kernel's IPv6: it makes whole packets.
type packetConn struct {
	conn *packet.Conn
	ifi  *net.Interface
	src  netip.Addr
	buf  [1500]byte
}

func openPacket(ifi *net.Interface) (*packetConn, error) {
	filter, err := bpf.Assemble([]bpf.Instruction{ // on the IPv6 header and what follows it
		bpf.LoadAbsolute{Off: 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protoICMPv6, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ipv6Header, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmpSolicitation, SkipTrue: 1},
		bpf.RetConstant{Val: 1500},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Datagram, unix.ETH_P_IPV6, &packet.Config{Filter: filter})
	if err != nil {
		return nil, err
	}
	if err := joinEthernet(conn, ifi, allRouters()); err != nil {
		conn.Close()
		return nil, err
	}
	return &packetConn{conn: conn, ifi: ifi, src: ownLinkLocal(ifi.HardwareAddr)}, nil
}

// ownLinkLocal makes a link-local address that is always the same on this
// interface, and not the one that the kernel would choose (RFC 4291 appendix A,
// RFC 7217): the kernel's belongs to a machine that may be a router.
func ownLinkLocal(mac net.HardwareAddr) netip.Addr {
	sum := sha256.Sum256(append([]byte("router advertisement without a router"), mac...))
	a := [16]byte{0: 0xfe, 1: 0x80}
	copy(a[8:], sum[:8])
	a[8] &^= 2 // made up here, not from a vendor's number
	return netip.AddrFrom16(a)
}

// ethernetGroup is where a multicast address goes on Ethernet (RFC 2464 section 7).
func ethernetGroup(a netip.Addr) net.HardwareAddr {
	b := a.As16()
	return append(net.HardwareAddr{0x33, 0x33}, b[12:]...)
}

// joinEthernet makes the network card let the group's frames through.
func joinEthernet(conn *packet.Conn, ifi *net.Interface, group netip.Addr) error {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	mreq := unix.PacketMreq{Ifindex: int32(ifi.Index), Type: unix.PACKET_MR_MULTICAST, Alen: 6}
	copy(mreq.Address[:], ethernetGroup(group))
	var serr error
	err = rc.Control(func(fd uintptr) {
		serr = unix.SetsockoptPacketMreq(int(fd), unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq)
	})
	return wrap("join ff02::2", errors.Join(err, serr))
}

func (c *packetConn) next() (bool, error) {
	n, _, err := c.conn.ReadFrom(c.buf[:])
	if err != nil {
		return false, err
	}
	return solicitationPacket(c.buf[:n]), nil
}

// solicitationPacket reports whether an IPv6 packet is a router solicitation.
func solicitationPacket(p []byte) bool {
	if len(p) < ipv6Header || p[0]>>4 != 6 || p[6] != protoICMPv6 || p[7] != ndHopLimit {
		return false
	}
	n := int(binary.BigEndian.Uint16(p[4:]))
	return n <= len(p)-ipv6Header && solicitation(p[ipv6Header:ipv6Header+n])
}

func (c *packetConn) advertise() error {
	_, err := c.conn.WriteTo(advertisementPacket(c.src, c.ifi.HardwareAddr), &packet.Addr{HardwareAddr: ethernetGroup(allNodes())})
	return err
}

// advertisementPacket makes the whole IPv6 packet.
func advertisementPacket(src netip.Addr, mac net.HardwareAddr) []byte {
	m, dst := advertisement(mac), allNodes()
	binary.BigEndian.PutUint16(m[2:], checksum(src, dst, m))
	s, d := src.As16(), dst.As16()
	p := make([]byte, 8, ipv6Header+len(m))
	p[0] = 6 << 4
	binary.BigEndian.PutUint16(p[4:], uint16(len(m)))
	p[6], p[7] = protoICMPv6, ndHopLimit
	p = append(p, s[:]...)
	p = append(p, d[:]...)
	return append(p, m...)
}

func (c *packetConn) Close() error { return c.conn.Close() }
