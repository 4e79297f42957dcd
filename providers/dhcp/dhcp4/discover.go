package dhcp4

import (
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// discover answers DISCOVER with OFFER (RFC 2131 section 4.3.1).
func (x *exchange) discover() *dhcpv4.DHCPv4 {
	saw := x.event(SawDiscover, x.f.Requested)
	x.want.Requested = x.f.Requested
	a, err := x.cfg.Leases.Offer(x.want)
	if err != nil {
		saw.Err = err.Error()
		x.cfg.Report(saw)
		x.failed("offer", err)
		return nil
	}
	x.cfg.Report(saw)
	return x.reply(dhcpv4.MessageTypeOffer, SentOffer, Grant{Addr: a, Time: x.sub.LeaseTime})
}

// bootp answers a client that does not speak DHCP (RFC 951; RFC 1534 section 2).
// It never renews, so what it gets it keeps.
func (x *exchange) bootp() *dhcpv4.DHCPv4 {
	if !x.sub.BOOTP {
		return nil
	}
	x.want.Requested = x.f.Client
	a, err := x.cfg.Leases.Offer(x.want)
	if err == nil {
		_, err = x.cfg.Leases.Bind(x.want, a, lease.Infinite)
	}
	if err != nil {
		x.failed("bootp", err)
		return nil
	}
	return x.reply(dhcpv4.MessageTypeNone, SentAck, Grant{Addr: a})
}

// inform answers INFORM (RFC 2131 section 4.3.5): options, but no address and no
// times.
func (x *exchange) inform() *dhcpv4.DHCPv4 {
	if !x.f.Client.IsValid() {
		return nil
	}
	return Reply(x.sub, x.f, dhcpv4.MessageTypeAck, Grant{})
}
