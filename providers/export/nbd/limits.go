package nbd

import (
	"net/netip"
	"sync"
	"time"
)

// Limits bounds what clients can take. A zero field has the default.
//
// One connection holds at most a read buffer of 32 KiB, and while it works on
// requests up to 2 MiB for them, whatever their length: long payloads go through in pieces.
type Limits struct {
	Connections int           // at once; default 4096
	PerAddress  int           // of them from one address; default 64
	Handshake   time.Duration // from accept to attached; default 15 s
	// Stall is how long a client may take nothing of a reply, or give nothing of
	// a payload it announced; default 60 s. Being silent between requests is not
	// limited: an idle root file system is silent for hours.
	Stall time.Duration
	// DiskReads is how many READs wait for disks at once, of all connections; default
	// 64. Each is a thread.
	DiskReads int
	// Memory is for payload that has to be copied, of all connections, in bytes;
	// default 16 MiB. When it is lent, pieces of 64 KiB are lent beyond it.
	Memory int64
}

func (l Limits) withDefaults() Limits {
	if l.Connections <= 0 {
		l.Connections = 4096
	}
	if l.PerAddress <= 0 {
		l.PerAddress = 64
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
	if l.Memory <= 0 {
		l.Memory = 16 << 20
	}
	return l
}

// census counts the open connections.
type census struct {
	total, perAddr int // most

	mu     sync.Mutex // guards all below
	n      int
	byAddr map[netip.Addr]int
}

// enter admits one more connection, or says no.
func (c *census) enter(a netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	// A Unix socket has no addresses, and its permissions are its own guard.
	if c.n >= c.total || a.IsValid() && c.byAddr[a] >= c.perAddr {
		return false
	}
	c.n++
	c.byAddr[a]++
	return true
}

func (c *census) leave(a netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
	if c.byAddr[a]--; c.byAddr[a] == 0 {
		delete(c.byAddr, a)
	}
}
