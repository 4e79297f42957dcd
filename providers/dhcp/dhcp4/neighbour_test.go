package dhcp4

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

func TestFindNeighbour(t *testing.T) {
	table := `IP address       HW type     Flags       HW address            Mask     Device
10.0.0.2         0x1         0x2         52:54:00:00:00:02     *        eth0
10.0.0.20        0x1         0x0         00:00:00:00:00:00     *        eth0
10.0.0.21        0x1         0x6         52:54:00:00:00:15     *        eth0
nonsense
10.0.0.22        0x1         x           y                     *        eth0
`
	for addr, want := range map[string]lease.MAC{
		"10.0.0.2":  {0x52, 0x54, 0, 0, 0, 2},
		"10.0.0.21": {0x52, 0x54, 0, 0, 0, 0x15},
		"10.0.0.20": {}, "10.0.0.22": {}, "10.0.0.3": {},
	} {
		got, ok := findNeighbour(strings.NewReader(table), netip.MustParseAddr(addr))
		if got != want || ok != (want != lease.MAC{}) {
			t.Errorf("%s: %s, %v", addr, got, ok)
		}
	}
}

// Nobody answers ARP on the loopback: this machine's own addresses tell nothing.
func TestNobodyAnswersARP(t *testing.T) {
	if who, ok := Answers(netip.MustParseAddr("127.0.0.9"), lease.MAC{}); ok {
		t.Errorf("%s answers", who)
	}
}
