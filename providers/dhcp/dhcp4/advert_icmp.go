package dhcp4

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const protoICMPv6 = 58

// allNodes and allRouters are ff02::1 and ff02::2 (RFC 4291 section 2.7.1).
func allNodes() netip.Addr { return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 1}) }

func allRouters() netip.Addr { return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 2}) }

// icmpConn is an ICMPv6 socket on one interface. The kernel makes checksums.
type icmpConn struct {
	pc  *ipv6.PacketConn
	ifi *net.Interface
	src netip.Addr
	buf [1500]byte
}

func openICMP(ifi *net.Interface, src netip.Addr) (*icmpConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var serr error
		err := rc.Control(func(fd uintptr) { serr = unix.BindToDevice(int(fd), ifi.Name) })
		return errors.Join(err, serr)
	}}
	conn, err := lc.ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, err
	}
	c := &icmpConn{pc: ipv6.NewPacketConn(conn), ifi: ifi, src: src}
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterSolicitation)
	err = errors.Join(
		wrap("filter", c.pc.SetICMPFilter(&only)),
		wrap("join ff02::2", c.pc.JoinGroup(ifi, &net.IPAddr{IP: allRouters().AsSlice()})),
		wrap("multicast interface", c.pc.SetMulticastInterface(ifi)),
		wrap("hop limit", c.pc.SetMulticastHopLimit(ndHopLimit)),
		wrap("loopback", c.pc.SetMulticastLoopback(false)),
		wrap("control messages", c.pc.SetControlMessage(ipv6.FlagHopLimit, true)),
	)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *icmpConn) next() (bool, error) {
	n, cm, _, err := c.pc.ReadFrom(c.buf[:])
	if err != nil {
		return false, err
	}
	return cm != nil && cm.HopLimit == ndHopLimit && solicitation(c.buf[:n]), nil
}

func (c *icmpConn) advertise() error {
	cm := &ipv6.ControlMessage{Src: c.src.AsSlice(), IfIndex: c.ifi.Index, HopLimit: ndHopLimit}
	_, err := c.pc.WriteTo(advertisement(c.ifi.HardwareAddr), cm, &net.IPAddr{IP: allNodes().AsSlice()})
	return err
}

func (c *icmpConn) Close() error { return c.pc.Close() }
