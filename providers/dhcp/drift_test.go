package dhcp_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
)

// foreigners looks until the servers that count as drift are the ones in want.
func (s *segment) foreigners(t *testing.T, want ...string) []provider.Drift {
	t.Helper()
	var got []string
	var list []provider.Drift
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		s.clock.Add(2 * time.Second) // probes come at most once a second
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		s.Look(ctx) // ends with ctx
		cancel()
		got, list = nil, s.Drift()
		for _, d := range list {
			got = append(got, d.What)
			if d.Kind != provider.DriftDHCPForeign || d.Address != lan || d.Range.Line != 10 || d.Heals || d.How == "" {
				t.Errorf("%+v", d)
			}
		}
		if slices.Equal(got, want) {
			return list
		}
	}
	t.Fatalf("foreign servers: %q, want %q", got, want)
	return nil
}

// Another server answers what we ask the wire, though no machine has asked for
// anything; nothing is leased by that. It is forgotten when it is silent.
func TestForeignServerIsFoundByAsking(t *testing.T) {
	s := newSegment(t, desired())
	s.foreigners(t, "10.0.0.2")
	if obs, err := s.Observe(t.Context()); err != nil || slices.ContainsFunc(obs, func(o plan.Observation) bool { return o.Kind == plan.SawLease }) {
		t.Errorf("leases: %v, %v", obs, err)
	}
	s.nodes.mu.Lock()
	if len(s.nodes.boots) != 0 || len(s.nodes.events) != 0 {
		t.Errorf("our own question was taken for a machine's: %v, %v", s.nodes.boots, s.nodes.events)
	}
	s.nodes.mu.Unlock()
	s.clock.Add(dhcp4.RivalKeep + time.Second)
	if list := s.Drift(); len(list) != 0 {
		t.Errorf("after a long silence: %v", list)
	}
}

// A machine that takes the other server's offer names it, and is named itself.
func TestForeignServerIsFoundByItsClients(t *testing.T) {
	s := newSegment(t, desired())
	m := newMachine(t, s.client, mac1)
	offers, _ := m.discover(t, 2)
	theirs := offers["10.0.0.2"]
	if theirs == nil {
		t.Fatalf("offers: %v", offers)
	}
	req, err := dhcpv4.NewRequestFromOffer(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.SendAndRead(t.Context(), nclient4.DefaultServers, req, nclient4.IsMessageType(dhcpv4.MessageTypeAck)); err != nil {
		t.Fatal(err)
	}
	list := s.foreigners(t, "10.0.0.2")
	if !slices.Equal(list[0].Machines, []string{ws01.String()}) {
		t.Errorf("machines: %q", list[0].Machines)
	}
}

// In proxy mode the one other server is what is wanted, and a second one is not.
func TestSecondServerBesideAProxy(t *testing.T) {
	s := newSegment(t, proxying())
	m := newMachine(t, s.client, mac1)
	offers, _ := m.discover(t, 1)
	req, err := dhcpv4.NewRequestFromOffer(offers["10.0.0.2"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.SendAndRead(t.Context(), nclient4.DefaultServers, req, nclient4.IsMessageType(dhcpv4.MessageTypeAck)); err != nil {
		t.Fatal(err)
	}
	s.foreigners(t)
	foreign(t, s.net.Space("third", "10.0.0.3/24"))
	s.foreigners(t, "10.0.0.3")
}
