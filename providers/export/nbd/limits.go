package nbd

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits bounds what clients can take. A zero field has the default.
//
// A connection on which nothing happens holds no buffer, or one of 4 KiB with TLS. One
// whose client takes nothing holds none for payload that is sent from where it lies;
// for what has to be copied, 64 KiB, and more only within Memory. Long payloads go
// through in pieces.
type Limits struct {
	Connections int // at once, of machines; default 4096
	PerAddress  int // of them from one address; default 64
	// HalfOpen is how many of them may be in their handshake; default 512. One more
	// takes the place of the one that has been there longest, as it does when there are
	// too many Connections: who means to attach needs a moment.
	HalfOpen int
	// Local is how many connections programs of this machine may have at once, at a Unix
	// socket; default 64. They take none of those above from machines.
	Local     int
	Handshake time.Duration // from accept to attached; default 15 s
	// Stall is how long a client may take nothing of a reply, or give nothing of
	// a payload it announced; default 60 s. One that takes or gives a byte in each
	// may take ten for every piece of up to 1 MiB. Being silent between requests is not
	// limited: an idle root file system is silent for hours. A client that is gone holds
	// its connection for as long, and for 40 s at least.
	Stall time.Duration
	// DiskReads is how many READs, and writes that read first, wait for disks at once, of
	// all connections; default 64. Each is a thread. Of one connection 16 do, and 64 more wait for their turn; one
	// address has at most as many as it leaves free, and all Unix sockets count as one.
	// Disks that hang for seven addresses take all of 64.
	DiskReads int
	// DiskWrites is how many WRITEs, TRIMs and WRITE_ZEROES are with the backends at once,
	// of all connections, and as many syncs; default 512. Each is a thread while a disk
	// hangs.
	DiskWrites int
	// Memory is for payload that has to be copied, of all connections, in bytes;
	// default 16 MiB. When it is lent, pieces of 64 KiB are lent beyond it.
	Memory int64
}

// WithDefaults gives the limits that hold: what is not set has its default.
func (l Limits) WithDefaults() Limits {
	if l.Connections <= 0 {
		l.Connections = 4096
	}
	if l.PerAddress <= 0 {
		l.PerAddress = 64
	}
	if l.HalfOpen <= 0 {
		l.HalfOpen = 512
	}
	if l.Local <= 0 {
		l.Local = 64
	}
	if l.Handshake <= 0 {
		l.Handshake = 15 * time.Second
	}
	if l.Stall <= 0 {
		l.Stall = 60 * time.Second
	}
	if l.DiskReads <= 0 {
		l.DiskReads = 64
	}
	if l.DiskWrites <= 0 {
		l.DiskWrites = 512
	}
	if l.Memory <= 0 {
		l.Memory = 16 << 20
	}
	return l
}

// census counts the open connections of machines, or of programs of this machine.
type census struct {
	total, perAddr, halfOpen int // most

	mu      sync.Mutex // guards all below
	n       int
	byAddr  map[netip.Addr]int
	opening list.List // of net.Conn in their handshake, the oldest first
}

// enter admits one more connection, or says no. The caller closes instead, which gives
// its place to this one; nil if there is no need. place is for attached and leave.
func (c *census) enter(a netip.Addr, nc net.Conn) (place *list.Element, instead net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	full := c.n >= c.total && c.opening.Len() == 0
	// Programs of this machine have no address.
	if full || a.IsValid() && c.byAddr[a] >= c.perAddr {
		return nil, nil, false
	}
	if c.n >= c.total || c.opening.Len() >= c.halfOpen {
		instead = c.opening.Remove(c.opening.Front()).(net.Conn)
	}
	c.n++
	c.byAddr[a]++
	return c.opening.PushBack(nc), instead, true
}

// attached says that a handshake is over.
func (c *census) attached(place *list.Element) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening.Remove(place) // nothing, when it lost its place
}

func (c *census) leave(a netip.Addr, place *list.Element) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening.Remove(place)
	c.n--
	if c.byAddr[a]--; c.byAddr[a] == 0 {
		delete(c.byAddr, a)
	}
}
