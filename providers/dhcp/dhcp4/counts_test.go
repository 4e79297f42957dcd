package dhcp4

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Each packet is counted once, by what it is and what it got, and costs no memory.
func TestCounts(t *testing.T) {
	s := New(Config{})
	offer := &Answer{Packet: &dhcpv4.DHCPv4{Options: dhcpv4.OptionsFromList(dhcpv4.OptMessageType(dhcpv4.MessageTypeOffer))}}
	discover := &Facts{Type: dhcpv4.MessageTypeDiscover}
	s.counts.add(discover, offer)
	s.counts.add(discover, offer)
	s.counts.add(discover, nil)
	s.counts.add(&Facts{Type: dhcpv4.MessageTypeNone}, &Answer{Packet: &dhcpv4.DHCPv4{}})
	s.counts.add(&Facts{Type: 200}, nil)
	s.Handle(Endpoint{}, netip.AddrPort{}, []byte("x"))
	want := []Count{{"malformed", "none", 1}, {"bootp", "bootp", 1}, {"discover", "none", 1}, {"discover", "offer", 2}, {"other", "none", 1}}
	if got := s.Counts(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if n := testing.AllocsPerRun(100, func() { s.counts.add(discover, offer) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
