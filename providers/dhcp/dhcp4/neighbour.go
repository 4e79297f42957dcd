package dhcp4

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

const (
	// neighbourWait is how long a machine may take to answer ARP. One that is up does in
	// a millisecond; RFC 5227 section 1.1 waits longer for machines that claim one.
	neighbourWait  = 300 * time.Millisecond
	neighbourCheck = 10 * time.Millisecond
	neighboursFile = "/proc/thread-self/net/arp" // see proc_net(5)
	// mostNeighbours bounds what is read of it, in bytes.
	mostNeighbours = 8 << 20
	discardPort    = 9 // RFC 863
)

// Answers says whether a machine other than the one with this hardware address answers
// from an address, and which: whether the kernel, which is given a datagram for it, finds
// somebody by ARP (RFC 826). Behind a relay nobody answers ARP; there it is false.
func Answers(a netip.Addr, m lease.MAC) (lease.MAC, bool) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, discardPort)))
	if err != nil {
		return lease.MAC{}, false
	}
	defer c.Close()
	for began := time.Now(); ; time.Sleep(neighbourCheck) {
		if other, ok := neighbour(a); ok {
			return other, other != m
		}
		if time.Since(began) > neighbourWait {
			return lease.MAC{}, false
		}
		_, _ = c.Write(nil) // the table says what came of it
	}
}

// neighbour looks an address up in the kernel's table.
func neighbour(a netip.Addr) (lease.MAC, bool) {
	f, err := os.Open(neighboursFile)
	if err != nil {
		return lease.MAC{}, false
	}
	defer f.Close()
	return findNeighbour(io.LimitReader(f, mostNeighbours), a)
}

// findNeighbour reads lines of: address, type, flags, hardware address, mask, device.
func findNeighbour(r io.Reader, a netip.Addr) (lease.MAC, bool) {
	const complete = 0x2 // ATF_COM of arp(7)
	text := a.String()
	for sc := bufio.NewScanner(r); sc.Scan(); {
		w := strings.Fields(sc.Text())
		if len(w) < 6 || w[0] != text {
			continue
		}
		flags, err := strconv.ParseUint(w[2], 0, 32)
		hw, herr := net.ParseMAC(w[3])
		if err == nil && herr == nil && flags&complete != 0 && len(hw) == len(lease.MAC{}) {
			return lease.MAC(hw), true
		}
	}
	return lease.MAC{}, false
}
