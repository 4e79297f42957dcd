package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/providers/export/nbd"
)

// nbdLimitsBlock bounds what clients of the NBD server can take; see nbd.Limits, whose
// defaults hold for what is not written.
type nbdLimitsBlock struct {
	Connections *hcl.Attribute `hcl:"connections,optional"` // of machines, at once
	PerAddress  *hcl.Attribute `hcl:"per_address,optional"` // of them, from one address
	HalfOpen    *hcl.Attribute `hcl:"half_open,optional"`   // of them, in their handshake
	Local       *hcl.Attribute `hcl:"local,optional"`       // of programs of this machine, at the Unix socket
	Memory      *hcl.Attribute `hcl:"memory,optional"`      // bytes for payload that is copied, of all
	Handshake   *hcl.Attribute `hcl:"handshake,optional"`   // from accepted to attached
	Stall       *hcl.Attribute `hcl:"stall,optional"`       // of a client in the middle of a message

	limits nbd.Limits
}

// What lies beyond these is a slip of the hand.
const (
	mostNBDConnections = 65536
	leastNBDMemory     = 1 << 20
	mostNBDMemory      = 16 << 30
)

// check reads the values.
func (b *nbdLimitsBlock) check() hcl.Diagnostics {
	var diags hcl.Diagnostics
	count := func(a *hcl.Attribute, to *int) {
		diags = append(diags, readSetting(a, fmt.Sprintf("a whole number from 1 to %d", mostNBDConnections), func(text string) bool {
			n, ok := wholeOf(text)
			*to = int(n)
			return ok && n <= mostNBDConnections
		})...)
	}
	wait := func(a *hcl.Attribute, to *time.Duration, want string, least, most time.Duration) {
		diags = append(diags, readSetting(a, want, func(text string) bool {
			d, err := time.ParseDuration(text)
			*to = d
			return err == nil && d >= least && d <= most
		})...)
	}
	l := &b.limits
	count(b.Connections, &l.Connections)
	count(b.PerAddress, &l.PerAddress)
	count(b.HalfOpen, &l.HalfOpen)
	count(b.Local, &l.Local)
	diags = append(diags, readSetting(b.Memory, `a size such as "64MiB", from "1MiB" to "16GiB"`, func(text string) bool {
		n, ok := bytesOf(text)
		l.Memory = n
		return ok && n >= leastNBDMemory && n <= mostNBDMemory
	})...)
	wait(b.Handshake, &l.Handshake, `a time such as "15s", from "1s" to "5m": in it a client opens TLS and names its export`, time.Second, 5*time.Minute)
	wait(b.Stall, &l.Stall, `a time such as "60s", from "5s" to "1h": a client that is gone holds its connection for so long, and for 40s at least`, 5*time.Second, time.Hour)
	if diags.HasErrors() {
		return diags
	}
	all, which := l.WithDefaults().Connections, "which are %d"
	if b.Connections == nil {
		which = "which are %d where nothing is written for them"
	}
	for _, part := range []struct {
		a *hcl.Attribute
		n int
	}{{b.PerAddress, l.PerAddress}, {b.HalfOpen, l.HalfOpen}} {
		if part.a != nil && part.n > all {
			diags = append(diags, misset(part.a, fmt.Sprintf(
				"It is more than all connections together, "+which+": write at most that here, or more for connections.", all))...)
		}
	}
	return diags
}

// What files the daemon has open, at most. A machine with an overlay takes four: its
// connection, and data, live and flushed of the overlay. The rest is for everything else:
// the other servers, images, the state directory, builds.
const (
	filesPerMachine = 4
	filesBeside     = 1024
)

// checkFiles refuses more connections than a process that may have limit files open can
// serve: accept and open would fail for DHCP, TFTP, HTTP and the API too. A default that
// is more than that is only told of, as nobody wrote it.
func (n *nbdBlock) checkFiles(limit uint64, log *slog.Logger) hcl.Diagnostics {
	most := n.limits().WithDefaults()
	need := func(l nbd.Limits) uint64 {
		return uint64(l.Connections)*filesPerMachine + uint64(l.Local) + filesBeside
	}
	if need(most) <= limit {
		return nil
	}
	beside := most
	beside.Connections = 0
	room := (int64(limit) - int64(need(beside))) / filesPerMachine
	if n == nil || n.Limits == nil || n.Limits.Connections == nil {
		log.Warn("the limit of open files is too low for as many machines as are let in", "limit", limit, "connections", most.Connections, "enough_for", max(room, 0), "raise_to", need(most))
		return nil
	}
	raise := fmt.Sprintf("Raise it to %d (LimitNOFILE= of the systemd unit, or `ulimit -Hn`)", need(most))
	if room > 0 {
		raise += fmt.Sprintf(", or write at most %d here", room)
	}
	return misset(n.Limits.Connections, fmt.Sprintf(
		"A machine with an overlay takes %d open files, and this process may have %d, of which it keeps %d for other things: that is not enough for %d machines. %s.",
		filesPerMachine, limit, need(beside), most.Connections, raise))
}

// mayOpen gives how many files this process may have open. The soft limit is the hard one
// from its start on: Go sees to that.
func mayOpen() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("the limit of open files: %w", err)
	}
	return r.Cur, nil
}

// limits gives what the NBD server is told; what is not written has its default.
func (n *nbdBlock) limits() nbd.Limits {
	if n == nil || n.Limits == nil {
		return nbd.Limits{}
	}
	return n.Limits.limits
}
