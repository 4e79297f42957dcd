package dhcp4_test

import (
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Who speaks on port 4011 in the name of a machine that is elsewhere was told what it
// boots, and made it be taken for being there.
func TestLateRequestIsFromItsClient(t *testing.T) {
	for name, c := range map[string]struct {
		src, ciaddr string
		answered    bool
	}{
		"its own":             {"10.0.0.77", "10.0.0.77", true},
		"its own, mapped":     {"::ffff:10.0.0.77", "10.0.0.77", true},
		"another's":           {"10.0.0.66", "10.0.0.77", false},
		"of another network":  {"192.168.1.77", "192.168.1.77", false},
		"the server's, alone": {"10.0.0.77", "10.0.0.1", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, proxied())
			src := netip.AddrPortFrom(netip.MustParseAddr(c.src), 4011)
			got, _ := r.sendTo(late, src, packet(2, request, romPXE(7), from(c.ciaddr)))
			if (got != nil) != c.answered || (len(r.events) > 0) != c.answered {
				t.Errorf("answered %v, reported %+v", got, r.events)
			}
			if got != nil && got.MessageType() != dhcpv4.MessageTypeAck {
				t.Errorf("answered %s", got.MessageType())
			}
		})
	}
}
