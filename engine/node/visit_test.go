package node

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// reserved is a lab where addrA is macA's by reservation, and whatever is in 10.1/16 the
// machine's with that end.
func reserved(t *testing.T, change ...func(*Config)) *lab {
	return newLab(t, append(change, func(c *Config) {
		c.Lookup = func(a netip.Addr) (provider.Client, bool) {
			b := a.As4()
			switch {
			case a == addrA:
				return provider.Client{MAC: macA, Host: ws01, Subnet: lan}, true
			case b[1] == 1:
				return provider.Client{MAC: provider.MAC{2, 0, 0, 0, b[2], b[3]}, Subnet: lan}, true
			}
			return provider.Client{}, false
		}
	})...)
}

func stagesOf(t *testing.T, n Node) string {
	t.Helper()
	var out bytes.Buffer
	for _, b := range n.Boots {
		if err := b.Text(&out); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// A machine with a reservation that only ever used an export was not among the nodes, and
// neither was that it was refused, or that its disk was full.
func TestVisitorIsSeen(t *testing.T) {
	l := reserved(t)
	l.attach(addrA, "aaaaaaaaaaaa", "", 1)
	n := l.node(macA)
	if n.Host != ws01 || n.Subnet != lan || n.Address != addrA || n.State != StateUp || n.Export != "arch@aaaaaaaaaaaa" || !n.Connected || n.Image != arch || n.Session != "" {
		t.Errorf("%+v", n)
	}
	if len(l.Nodes()) != 1 {
		t.Errorf("%+v", l.Nodes())
	}
	l.event(provider.Event{Kind: provider.EventFull, MAC: macA, Host: ws01, Name: "arch@aaaaaaaaaaaa", Err: "the overlay is full", Protocol: "nbd"})
	l.event(provider.Event{Kind: provider.EventDenied, Addr: addrA, Name: "secret", Err: "not in its list", Protocol: "nbd"})
	text := stagesOf(t, l.node(macA))
	for _, want := range []string{"not booted from here; first seen at ", "attach", "disk", "the overlay is full", "denied", "secret: not in its list"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s\nhas no %q", text, want)
		}
	}
	// It is no boot: nothing is tied to it, and nobody's answers change.
	l.wantLive()
	if c, ok := l.ByAddr(addrA); !ok || c.Session != "" || c.Generation != 0 {
		t.Errorf("%+v", c)
	}
	if l.Holds(addrA, macB) || len(l.Observe()) != 0 {
		t.Errorf("%+v", l.Observe())
	}
	l.attach(addrA, "aaaaaaaaaaaa", "", 1)
	l.detach(addrA, "aaaaaaaaaaaa", "")
	l.wantState(macA, StateUp)
	l.detach(addrA, "aaaaaaaaaaaa", "")
	l.wantState(macA, StateGone)
	l.pass(time.Hour)
	l.attach(addrA, "bbbbbbbbbbbb", "", 1)
	if text := stagesOf(t, l.node(macA)); strings.Contains(text, "secret") || !strings.Contains(text, "bbbbbbbbbbbb") {
		t.Errorf("an hour later:\n%s", text)
	}
	l.restart()
	if n, ok := l.Node(macA); ok {
		t.Errorf("it was written down: %+v", n)
	}
	// Booted, it is a machine like others.
	l.attach(addrA, "bbbbbbbbbbbb", "", 1)
	s := l.up(macA, addrA, "cccccccccccc", "b1")
	if n := l.node(macA); n.Session != s.ID || n.State != StateUp || n.Export != "arch@cccccccccccc" || len(n.Boots) != 1 {
		t.Errorf("%+v", n)
	}
}

// Who was only ever refused is seen; a stranger is not.
func TestRefusedVisitorIsSeen(t *testing.T) {
	l := reserved(t)
	l.event(provider.Event{Kind: provider.EventDenied, MAC: macA, Addr: addrA, Host: ws01, Name: "secret", Err: "not in its list", Protocol: "nbd"})
	if n := l.node(macA); n.State != StateGone || n.Host != ws01 || !strings.Contains(stagesOf(t, n), "secret: not in its list") {
		t.Errorf("%+v", n)
	}
	l.event(provider.Event{Kind: provider.EventDenied, Addr: addrB, Name: "secret", Err: "nobody is known there", Protocol: "nbd"})
	if len(l.Nodes()) != 1 {
		t.Errorf("%+v", l.Nodes())
	}
}

// Visitors take no more room than machines may, and none from machines that boot.
func TestVisitorsAreBounded(t *testing.T) {
	l := reserved(t, func(c *Config) { c.MaxMachines = 10 })
	l.up(macA, addrA, "aaaaaaaaaaaa", "b1")
	for i := range 50 {
		l.attach(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), "bbbbbbbbbbbb", "", 1)
	}
	if n := len(l.Nodes()); n != 10 {
		t.Errorf("%d machines", n)
	}
	l.wantState(macA, StateUp)
	if n := l.node(macA); n.Export != "arch@aaaaaaaaaaaa" {
		t.Errorf("%+v", n)
	}
}

// That the disk of a machine filled after it was up stood nowhere.
func TestDiskOfARunningMachineIsNoted(t *testing.T) {
	l := reserved(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "b1")
	l.event(provider.Event{Kind: provider.EventFull, MAC: macA, Host: ws01, Name: "arch@aaaaaaaaaaaa", Err: "the overlay is full", Protocol: "nbd"})
	l.event(provider.Event{Kind: provider.EventDenied, Addr: addrA, Name: "secret", Err: "not in its list", Protocol: "nbd"})
	for _, want := range []string{"the overlay is full", "secret: not in its list"} {
		if text := stagesOf(t, l.node(macA)); !strings.Contains(text, want) {
			t.Errorf("%s\nhas no %q", text, want)
		}
	}
}
