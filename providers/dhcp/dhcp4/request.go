package dhcp4

import (
	"errors"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// request answers REQUEST with ACK or NAK (RFC 2131 section 4.3.2). Which of the
// four states the client is in shows in the fields it fills (table 4):
//
//	SELECTING    option 54, option 50, no ciaddr
//	INIT-REBOOT  option 50, no option 54, no ciaddr
//	RENEWING     ciaddr, neither option; to us alone
//	REBINDING    ciaddr, neither option; to everybody
//
// Some clients fill ciaddr and an option at once; ciaddr is where they are, so it
// is believed first.
func (x *exchange) request() *dhcpv4.DHCPv4 {
	a := x.f.Client
	if !a.IsValid() {
		a = x.f.Requested
	}
	selecting := x.f.Server.IsValid()
	if selecting && x.f.Server != x.sub.Server {
		x.cfg.Leases.Withdraw(x.f.MAC) // it took another server's offer
		return nil
	}
	if !a.IsValid() {
		return nil // malformed
	}
	if !x.sub.Prefix.Contains(a) {
		return x.refuse(a, selecting, "the address does not belong to this network")
	}
	known := x.knows()
	if !known && !selecting && !x.sub.Authoritative {
		// RFC 2131: no record of the client, so another server may have one.
		return nil
	}
	// Offers live in memory, so a client whose offer was forgotten is judged by
	// the same rules as any other: whether it may have the address, and whether
	// somebody else has it.
	d, err := x.cfg.Leases.Bind(x.want, a, x.sub.LeaseTime)
	switch {
	case err == nil:
		return x.reply(dhcpv4.MessageTypeAck, SentAck, Grant{Addr: a, Time: d})
	case errors.Is(err, lease.ErrTaken), errors.Is(err, lease.ErrNotAllowed):
		return x.refuse(a, selecting || known, err.Error())
	}
	x.failed("lease", err) // a promise that is not on disk is not made
	return nil
}

// knows reports whether there is a reason to believe that the client is ours.
func (x *exchange) knows() bool {
	if x.want.Reserved.IsValid() {
		return true
	}
	_, ok := x.cfg.Leases.ByMAC(x.f.MAC)
	return ok
}

// refuse says no, if that is ours to say: we are the authority here, or the
// client spoke to us.
func (x *exchange) refuse(a netip.Addr, ours bool, why string) *dhcpv4.DHCPv4 {
	if !ours && !x.sub.Authoritative {
		return nil
	}
	return x.nak(a, why)
}

// decline takes an address out of use that the client found occupied (RFC 2131
// section 4.3.3). A machine whose root is attached from the address is who lives
// there: a DECLINE in its name comes from somebody else, and would cost it its
// lease.
func (x *exchange) decline() {
	if x.f.Server.IsValid() && x.f.Server != x.sub.Server {
		return
	}
	if x.livesOn(x.f.Requested) {
		x.warn("decline "+x.sub.Name, "dhcp: DECLINE ignored: the machine has its root attached from the address", "address", x.f.Requested, "mac", x.f.MAC, "subnet", x.sub.Name)
		return
	}
	done, err := x.cfg.Leases.Decline(x.f.MAC, x.f.Requested)
	if err != nil {
		x.failed("decline", err)
	}
	if done {
		x.cfg.Log.Warn("dhcp: an address is in use by somebody unknown", "address", x.f.Requested, "found by", x.f.MAC, "subnet", x.sub.Name)
	}
}

// livesOn reports whether the client itself, and not another machine, lives on an
// address by Config.Held.
func (x *exchange) livesOn(a netip.Addr) bool {
	return x.cfg.Held != nil && x.cfg.Held(a, lease.MAC{}) && !x.cfg.Held(a, x.f.MAC)
}

// release ends a lease (RFC 2131 section 4.3.4).
func (x *exchange) release() {
	if x.f.Server.IsValid() && x.f.Server != x.sub.Server {
		return
	}
	if err := x.cfg.Leases.Release(x.f.MAC, x.f.Client); err != nil {
		x.failed("release", err)
	}
}
