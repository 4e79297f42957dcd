package dhcp4

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Conn is the socket of an endpoint.
type Conn struct {
	ep    Endpoint
	index int // of the endpoint's interface; 0: it names none
	udp   net.PacketConn
	pc    *ipv4.PacketConn
}

// Listen binds the socket of an endpoint, for itself alone: of two sockets that
// share a port (SO_REUSEADDR) Linux gives a unicast to the newer one only, so
// that another server on the port would lose its clients' renewals, or we ours.
func Listen(ctx context.Context, ep Endpoint) (*Conn, error) {
	if _, err := indexOf(ep); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var serr error
		err := rc.Control(func(fd uintptr) { serr = socketOptions(int(fd), ep.Interface) })
		return errors.Join(err, serr)
	}}
	udp, err := lc.ListenPacket(ctx, "udp4", ep.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	return newConn(ep, udp)
}

// Adopt makes the socket of an endpoint of one that Listen has bound before, in another
// process perhaps. It owns udp, which it closes when it gives an error.
func Adopt(ep Endpoint, udp *net.UDPConn) (*Conn, error) {
	raw, err := udp.SyscallConn()
	if err == nil {
		cerr := raw.Control(func(fd uintptr) { err = socketOptions(int(fd), ep.Interface) })
		err = errors.Join(err, cerr)
	}
	if err != nil {
		udp.Close()
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	return newConn(ep, udp)
}

// indexOf gives the index of an endpoint's interface, 0 when it names none.
func indexOf(ep Endpoint) (int, error) {
	if ep.Interface == "" {
		return 0, nil
	}
	ifi, err := net.InterfaceByName(ep.Interface)
	if err != nil {
		return 0, fmt.Errorf("dhcp: interface %s: %w", ep.Interface, err)
	}
	return ifi.Index, nil
}

func newConn(ep Endpoint, udp net.PacketConn) (*Conn, error) {
	index, err := indexOf(ep)
	if err != nil {
		udp.Close()
		return nil, err
	}
	c := &Conn{ep: ep, index: index, udp: udp, pc: ipv4.NewPacketConn(udp)}
	// Which interface a packet came in by decides where a broadcast goes out.
	if err := c.pc.SetControlMessage(ipv4.FlagInterface, true); err != nil {
		udp.Close()
		return nil, fmt.Errorf("dhcp: %w", err)
	}
	return c, nil
}

// receiveBuffer is how many bytes of packets wait in the kernel, several thousand
// packets with what it adds to each.
const receiveBuffer = 4 << 20

func socketOptions(fd int, name string) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return fmt.Errorf("SO_BROADCAST: %w", err)
	}
	// A room full of machines asks at once, and a disk that others keep busy has all of
	// them wait. Without CAP_NET_ADMIN the system's limit holds: some hundred packets.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	if name == "" {
		return nil
	}
	if err := unix.BindToDevice(fd, name); err != nil {
		return fmt.Errorf("bind to %s: %w", name, err)
	}
	return nil
}

// Lost says why the socket hears nothing any more: its interface is gone, or is another
// one of the same name, or somebody took it from the socket. nil: nothing like that.
func (c *Conn) Lost() error {
	if c.ep.Interface == "" {
		return nil
	}
	raw, err := c.udp.(syscall.Conn).SyscallConn()
	if err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	// The kernel knows by its number which interface it was, in the socket's own
	// network namespace: one of the same name is another one.
	var device string
	cerr := raw.Control(func(fd uintptr) { device, err = unix.GetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE) })
	switch {
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("dhcp: interface %s that the socket was bound to is gone", c.ep.Interface)
	case cerr != nil || err != nil:
		return errors.Join(cerr, err)
	case device != c.ep.Interface:
		return fmt.Errorf("dhcp: the socket is not bound to interface %s any more", c.ep.Interface)
	}
	return nil
}

// SyscallConn implements syscall.Conn.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.udp.(syscall.Conn).SyscallConn() }

// Close closes the socket. What Serve was doing with it ends.
func (c *Conn) Close() error { return c.udp.Close() }

// LocalAddr is what the socket is bound to.
func (c *Conn) LocalAddr() netip.AddrPort { return c.udp.LocalAddr().(*net.UDPAddr).AddrPort() }

// read waits for a packet. An oversized one has the length of b.
func (c *Conn) read(b []byte) (n, ifIndex int, src netip.AddrPort, err error) {
	n, cm, from, err := c.pc.ReadFrom(b)
	if err != nil {
		return 0, 0, netip.AddrPort{}, err
	}
	if cm != nil {
		ifIndex = cm.IfIndex
	}
	if u, ok := from.(*net.UDPAddr); ok {
		src = u.AddrPort()
		src = netip.AddrPortFrom(src.Addr().Unmap(), src.Port())
	}
	return n, ifIndex, src, nil
}

// strays reports whether a packet that came in by the interface with this index
// is from another wire than the socket's, and was not brought here by a relay
// agent.
func (c *Conn) strays(b []byte, ifIndex int) bool {
	const giaddr = 24 // RFC 2131 figure 1
	if c.index == 0 || ifIndex == 0 || ifIndex == c.index || len(b) < giaddr+4 {
		return false
	}
	return [4]byte(b[giaddr:giaddr+4]) == [4]byte{}
}

// write sends a packet from an address; from the one that the kernel chooses if
// that is the zero Addr. A broadcast goes out by the interface with this index.
func (c *Conn) write(b []byte, from netip.Addr, to netip.AddrPort, ifIndex int) error {
	cm := &ipv4.ControlMessage{}
	if from.Is4() {
		cm.Src = from.AsSlice()
	}
	if to.Addr() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		cm.IfIndex = ifIndex
	}
	_, err := c.pc.WriteTo(b, cm, net.UDPAddrFromAddrPort(to))
	return err
}
