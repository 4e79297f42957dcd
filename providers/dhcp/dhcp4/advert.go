package dhcp4

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// Advertiser answers IPv6 router solicitations of one interface with "there is no
// router here": a router advertisement with a lifetime of 0 and no prefix (RFC
// 4861, sections 4.2 and 6.2.5).
//
// iPXE configures IPv6 beside IPv4 and waits 16 s for a router that does not
// exist; nothing that DHCP can say shortens that, any advertisement ends it. To
// machines that know of real routers it means nothing, because it comes from an
// address that no router has.
type Advertiser struct {
	name  string
	index int       // of the interface; 0: there was none
	conn  solicitor // nil: this interface cannot do it
	log   *slog.Logger

	once   sync.Once
	closed chan struct{}
}

// solicitor is a socket that hears router solicitations and can answer them.
type solicitor interface {
	// next waits for a router solicitation. Other packets that get through give
	// false.
	next() (bool, error)
	// advertise sends the answer to all nodes.
	advertise() error
	Close() error
}

// OpenAdvertiser opens the socket of an interface. Where that cannot be done the
// reason is logged, once, and the Advertiser does nothing: clients boot without
// it, only later.
func OpenAdvertiser(name string, log *slog.Logger) *Advertiser {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Advertiser{name: name, log: log, closed: make(chan struct{})}
	if ifi, err := net.InterfaceByName(name); err == nil {
		a.index = ifi.Index
	}
	conn, err := openSolicitor(name)
	if err != nil {
		log.Warn("dhcp: router solicitations are not answered; iPXE waits 16 s for that", "interface", name, "error", err)
		return a
	}
	a.conn = conn
	return a
}

// Lost says why the Advertiser hears nothing any more: its interface went, or came. It
// is asked in the network namespace where the Advertiser was opened.
func (a *Advertiser) Lost() error {
	index := 0
	if ifi, err := net.InterfaceByName(a.name); err == nil {
		index = ifi.Index
	}
	if index != a.index {
		return fmt.Errorf("dhcp: interface %s is another one than it was", a.name)
	}
	return nil
}

// openSolicitor prefers an ICMPv6 socket. An interface without IPv6 needs a raw
// one; so does a machine that routes IPv6 itself: its own address must not say
// that it is no router.
func openSolicitor(name string) (solicitor, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	if len(ifi.HardwareAddr) != 6 {
		return nil, errors.New("the interface has no Ethernet address")
	}
	if local, ok := linkLocal(ifi); ok && !forwards(name) {
		return openICMP(ifi, local)
	}
	return openPacket(ifi)
}

// linkLocal gives the IPv6 link-local address of an interface.
func linkLocal(ifi *net.Interface) (netip.Addr, bool) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// forwards reports whether the kernel routes IPv6 that comes in by an interface.
func forwards(name string) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/forwarding")
	return err == nil && strings.TrimSpace(string(b)) != "0"
}

// Close closes the socket; Serve returns. It may be called again.
func (a *Advertiser) Close() error {
	var err error
	a.once.Do(func() {
		close(a.closed)
		if a.conn != nil {
			err = a.conn.Close()
		}
	})
	return err
}

// Serve answers, as long as enabled says so at that moment, until ctx ends or the
// Advertiser is closed, and then closes it. Trouble with the interface does not
// end it. It returns nil, after all its goroutines are gone.
func (a *Advertiser) Serve(ctx context.Context, enabled func() bool) error {
	var wg sync.WaitGroup
	if a.conn != nil {
		wg.Go(func() { a.work(enabled) })
	}
	select {
	case <-ctx.Done():
	case <-a.closed:
	}
	a.Close()
	wg.Wait()
	return nil
}

func (a *Advertiser) work(enabled func() bool) {
	said := false
	for {
		ok, err := a.conn.next()
		if ok && enabled() {
			err = a.conn.advertise()
		}
		select {
		case <-a.closed:
			return
		default:
		}
		if err == nil {
			continue
		}
		if !said {
			said = true
			a.log.Warn("dhcp: a router solicitation was not heard, or not answered; an interface that was just made may not be ready, and it goes on being tried", "interface", a.name, "error", err)
		}
		select {
		case <-a.closed:
			return
		case <-time.After(retryAfter):
		}
	}
}

const (
	icmpSolicitation  = 133 // RFC 4861 section 4.1
	icmpAdvertisement = 134 // section 4.2
	ndHopLimit        = 255 // section 6.1: nobody beyond the wire can have sent it
)

// solicitation reports whether an ICMPv6 message is a valid router solicitation
// (RFC 4861 section 6.1.1), apart from its checksum: the kernel has looked at it,
// or it was left to hardware that a virtual wire does not have.
func solicitation(m []byte) bool {
	if len(m) < 8 || m[0] != icmpSolicitation || m[1] != 0 {
		return false
	}
	for opts := m[8:]; len(opts) > 0; {
		if len(opts) < 8 || opts[1] == 0 || int(opts[1])*8 > len(opts) {
			return false
		}
		opts = opts[int(opts[1])*8:]
	}
	return true
}

// advertisement makes the ICMPv6 message, without its checksum: hop limit
// unspecified, no flags, router lifetime 0, no timers, and one option, our
// Ethernet address (RFC 4861 section 4.6.1).
func advertisement(mac net.HardwareAddr) []byte {
	m := make([]byte, 24)
	m[0] = icmpAdvertisement
	m[16], m[17] = 1, 1
	copy(m[18:], mac)
	return m
}

// checksum is that of an ICMPv6 message (RFC 4443 section 2.3).
func checksum(src, dst netip.Addr, m []byte) uint16 {
	s, d := src.As16(), dst.As16()
	sum := uint32(len(m)) + protoICMPv6
	for _, b := range [][]byte{s[:], d[:], m} {
		for len(b) > 1 {
			sum += uint32(binary.BigEndian.Uint16(b))
			b = b[2:]
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
