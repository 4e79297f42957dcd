package main

import (
	"fmt"
	"time"

	"github.com/hashicorp/hcl/v2"

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
	wait(b.Stall, &l.Stall, `a time such as "60s", from "5s" to "1h": a client that is gone holds its connection for so long`, 5*time.Second, time.Hour)
	if diags.HasErrors() || b.Connections == nil {
		return diags
	}
	for _, part := range []struct {
		a *hcl.Attribute
		n int
	}{{b.PerAddress, l.PerAddress}, {b.HalfOpen, l.HalfOpen}} {
		if part.a != nil && part.n > l.Connections {
			diags = append(diags, misset(part.a, fmt.Sprintf(
				"It is more than all connections together, which are %d: write at most that here, or more for connections.", l.Connections))...)
		}
	}
	return diags
}

// limits gives what the NBD server is told; what is not written has its default.
func (n *nbdBlock) limits() nbd.Limits {
	if n == nil || n.Limits == nil {
		return nbd.Limits{}
	}
	return n.Limits.limits
}
