package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/schema"
)

// tableFor gives the table that a client is answered from: the one of the
// generation that its boot session stands on. A session that is not on disk gets
// no answer.
func (p *Provider) tableFor(f *dhcp4.Facts) (*dhcp4.Table, error) {
	var s provider.Session
	if f.Type == dhcpv4.MessageTypeDiscover || f.Type == dhcpv4.MessageTypeRequest || f.Late && f.Type == dhcpv4.MessageTypeInform {
		var err error
		s, err = p.sessions.Boot(provider.Contact{
			MAC:      provider.MAC(f.MAC),
			Discover: f.Type == dhcpv4.MessageTypeDiscover && !f.Late, // on port 4011 it goes on
			Vendor:   f.Vendor,
			Class:    f.Class,
			XID:      binary.BigEndian.Uint32(f.XID[:]),
		})
		if err != nil {
			return nil, fmt.Errorf("boot session: %w", err)
		}
	}
	pub := p.pub.Load() // after Boot, which may have opened a session on a newer one
	if t, ok := pub.Of(s.Generation); ok {
		return t.wire, nil
	}
	t, ok := pub.Of(0)
	if !ok {
		return nil, errors.New("nothing is published yet")
	}
	p.log.Warn("dhcp: a boot session stands on a generation that is gone; the current one answers", "mac", f.MAC, "session", s.ID, "generation", s.Generation)
	return t.wire, nil
}

// everyTable gives the tables of all generations that are published, the current one
// first, then from new to old.
func (p *Provider) everyTable(yield func(*dhcp4.Table) bool) {
	pub := p.pub.Load()
	if t, ok := pub.Of(0); ok && !yield(t.wire) {
		return
	}
	if len(pub.ByGen) < 2 {
		return
	}
	for _, gen := range slices.Backward(slices.Sorted(maps.Keys(pub.ByGen))) {
		if gen != pub.Current && !yield(pub.ByGen[gen].wire) {
			return
		}
	}
}

func (p *Provider) held(a netip.Addr, m lease.MAC) bool {
	return p.sessions.Holds(a, provider.MAC(m))
}

// report passes on what the server saw.
func (p *Provider) report(e dhcp4.Event) {
	if p.sink == nil {
		return
	}
	ev := provider.Event{
		Kind:       eventKind(e.Kind),
		At:         e.At,
		MAC:        provider.MAC(e.MAC),
		Addr:       e.Addr,
		Generation: e.Version,
		Protocol:   "dhcp",
		Name:       e.File,
		Class:      e.Class,
		Vendor:     e.Vendor,
		Arch:       e.Arch,
		HasArch:    e.HasArch,
		Err:        e.Err,
	}
	// Both were written by Addr.String.
	ev.Host, _ = schema.ParseAddr(e.Host)
	ev.Subnet, _ = schema.ParseAddr(e.Subnet)
	p.sink.Event(ev)
}

func eventKind(k dhcp4.EventKind) provider.EventKind {
	switch k {
	case dhcp4.SawDiscover:
		return provider.EventDiscover
	case dhcp4.SentOffer:
		return provider.EventOffer
	case dhcp4.SentAck:
		return provider.EventAck
	case dhcp4.SawTaken:
		return provider.EventTaken
	}
	return provider.EventNak
}
