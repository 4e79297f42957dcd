package dhcp4

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

// listenIPv6 opens a raw socket that sees every IPv6 packet on a machine's wire.
func listenIPv6(t *testing.T, s *faultnet.Space) (*packet.Conn, *net.Interface) {
	t.Helper()
	var conn *packet.Conn
	var ifi *net.Interface
	err := s.Do(func() (err error) {
		if ifi, err = net.InterfaceByName(faultnet.Interface); err == nil {
			conn, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_IPV6, nil)
		}
		return
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, ifi
}

// solicit makes a router solicitation as iPXE sends it.
func solicit(src netip.Addr, mac net.HardwareAddr) []byte {
	m := append([]byte{icmpSolicitation, 0, 0, 0, 0, 0, 0, 0, 1, 1}, mac...)
	sum := checksum(src, allRouters(), m)
	m[2], m[3] = byte(sum>>8), byte(sum)
	s, d := src.As16(), allRouters().As16()
	p := append([]byte{6 << 4, 0, 0, 0, 0, byte(len(m)), protoICMPv6, ndHopLimit}, s[:]...)
	return append(append(p, d[:]...), m...)
}

func TestAdvertiser(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*faultnet.Space)
		kind    solicitor
	}{
		"link-local address":   {func(*faultnet.Space) {}, &icmpConn{}},
		"IPv6 is off":          {func(s *faultnet.Space) { s.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1") }, &packetConn{}},
		"a router by itself":   {func(s *faultnet.Space) { s.Sysctl("net/ipv6/conf/eth0/forwarding", "1") }, &packetConn{}},
		"no address of IPv4's": {func(s *faultnet.Space) { s.Run("ip", "-6", "addr", "flush", "dev", "eth0") }, &packetConn{}},
	} {
		t.Run(name, func(t *testing.T) {
			n := faultnet.New(t)
			server, client := n.Space("server"), n.Space("client")
			c.prepare(server)
			var a *Advertiser
			if err := server.Do(func() error {
				a = OpenAdvertiser(faultnet.Interface, slog.New(slog.NewTextHandler(t.Output(), nil)))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			switch a.conn.(type) {
			case *icmpConn:
				if _, ok := c.kind.(*icmpConn); !ok {
					t.Error("an ICMPv6 socket")
				}
			case *packetConn:
				if _, ok := c.kind.(*packetConn); !ok {
					t.Error("a raw socket")
				}
			default:
				t.Fatal("cannot do it")
			}
			var enabled atomic.Bool
			asked := make(chan struct{}, 10)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() {
				done <- a.Serve(ctx, func() bool { asked <- struct{}{}; return enabled.Load() })
			}()
			defer func() { cancel(); <-done }()

			conn, ifi := listenIPv6(t, client)
			rs := solicit(netip.MustParseAddr("fe80::5054:ff:fe00:1"), ifi.HardwareAddr)
			send := func(p []byte) {
				if _, err := conn.WriteTo(p, &packet.Addr{HardwareAddr: ethernetGroup(allRouters())}); err != nil {
					t.Fatal(err)
				}
			}
			wait := func() {
				select {
				case <-asked:
				case <-time.After(5 * time.Second):
					t.Fatal("the solicitation was not heard")
				}
			}
			send(rs)
			wait() // switched off: nothing may come before what follows
			far := bytes.Clone(rs)
			far[7] = 64 // routed
			send(far)
			enabled.Store(true)
			send(rs)
			wait()

			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			b := make([]byte, 1500)
			for {
				got, _, err := conn.ReadFrom(b)
				if err != nil {
					t.Fatal(err)
				}
				if p := b[:got]; got > ipv6Header && p[6] == protoICMPv6 && p[ipv6Header] == icmpAdvertisement {
					checkAdvertisement(t, p, server.MAC)
					break
				}
			}
			if len(asked) > 0 {
				t.Error("a solicitation from beyond the wire was heard")
			}
		})
	}
}

// checkAdvertisement looks at every byte (RFC 4861 sections 4.2, 6.1.2, 4.6.1).
func checkAdvertisement(t *testing.T, p []byte, mac [6]byte) {
	t.Helper()
	src, dst := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
	m := p[ipv6Header:]
	if !src.IsLinkLocalUnicast() || dst != netip.MustParseAddr("ff02::1") || p[7] != 255 {
		t.Errorf("from %s to %s, hop limit %d", src, dst, p[7])
	}
	if checksum(src, dst, m) != 0 {
		t.Errorf("wrong checksum in %x", m)
	}
	want := append(make([]byte, 16), append([]byte{1, 1}, mac[:]...)...)
	want[0], want[2], want[3] = byte(ipv6.ICMPTypeRouterAdvertisement), m[2], m[3]
	if !bytes.Equal(m, want) {
		t.Errorf("got  %x\nwant %x", m, want)
	}
}

func TestAdvertiserThatCannot(t *testing.T) {
	a := OpenAdvertiser("nosuch0", nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Serve(ctx, func() bool { return true }); err != nil {
		t.Error(err)
	}
}

func FuzzSolicitation(f *testing.F) {
	f.Add(solicit(netip.MustParseAddr("fe80::1"), net.HardwareAddr{2, 0, 0, 0, 0, 1}))
	f.Add(solicit(netip.IPv6Unspecified(), nil)[:48])
	f.Fuzz(func(t *testing.T, b []byte) {
		if solicitationPacket(b) && len(b) < ipv6Header+8 {
			t.Error("too short, and taken for a solicitation")
		}
	})
}

// unready is a socket of an interface that was just made: sending fails at first.
type unready struct {
	times  int
	sent   chan struct{} // closed when it worked
	closed chan struct{}
}

func (u *unready) next() (bool, error) {
	select {
	case <-u.sent:
		<-u.closed
		return false, net.ErrClosed
	default:
		return true, nil
	}
}

func (u *unready) advertise() error {
	if u.times++; u.times == 1 {
		return errors.New("sendmsg: invalid argument")
	}
	close(u.sent)
	return nil
}

func (u *unready) Close() error { close(u.closed); return nil }

// What fails while an interface comes up is told once, with the word that it is tried again.
func TestAdvertiserSaysThatItGoesOn(t *testing.T) {
	var log bytes.Buffer
	u := &unready{sent: make(chan struct{}), closed: make(chan struct{})}
	a := &Advertiser{name: "br0", conn: u, log: slog.New(slog.NewTextHandler(&log, nil)), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Serve(ctx, func() bool { return true }) }()
	<-u.sent
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "goes on being tried") || !strings.Contains(got, "invalid argument") {
		t.Error(got)
	}
}
