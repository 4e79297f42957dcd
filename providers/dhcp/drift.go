package dhcp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
)

var _ provider.Watcher = (*Provider)(nil)

// firstProbe is how long after a start it is first asked who else is there.
const firstProbe = 10 * time.Second

// probe asks again and again who else gives out addresses, until ctx ends.
func (p *Provider) probe(ctx context.Context) error {
	if p.every < 0 {
		return nil
	}
	timer := time.NewTimer(min(firstProbe, p.every))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := p.ask(); err != nil {
			p.log.Debug("dhcp: looking for other servers", "error", err)
		}
		timer.Reset(p.every + rand.N(p.every/10+1))
	}
}

// ask sends one probe on each subnet, and reports whether there is one to send it on.
func (p *Provider) ask() (asked bool, err error) {
	p.socks.Each(func(_ dhcp4.Endpoint, c *dhcp4.Conn) {
		one, perr := p.server.Probe(c)
		asked, err = asked || one, errors.Join(err, perr)
	})
	return asked, err
}

// Look implements provider.Watcher: it asks who else gives out addresses, and waits for
// answers until ctx ends, since a server may try an address before it offers it.
func (p *Provider) Look(ctx context.Context) error {
	if p.every < 0 {
		return nil
	}
	if asked, err := p.ask(); !asked || err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// Drift implements provider.Watcher. Beside a subnet in proxy mode one other server is
// expected: the one that was noticed first.
func (p *Provider) Drift() []provider.Drift {
	t := p.table(0)
	if t == nil {
		return nil
	}
	var list []provider.Drift
	rivals := p.server.Rivals()
	for _, s := range t.subnets {
		expected := s.wire.Proxy
		var first dhcp4.Rival
		for _, r := range rivals {
			if r.Subnet != s.wire.Name {
				continue
			}
			if expected {
				expected, first = false, r
				continue
			}
			d := provider.Drift{
				Kind: provider.DriftDHCPForeign, Address: s.Addr, Range: s.Range, What: r.Server.String(), Since: r.First.UTC(),
				Message: fmt.Sprintf("%s gives out addresses on %s too: a machine takes whichever answer it likes", r.Server, s.Addr),
				How:     "switch that server off there, or leave addresses to it with mode = \"proxy\" on the subnet",
			}
			if first.Server.IsValid() {
				d.Message = fmt.Sprintf("%s gives out addresses on %s beside %s: there should be one such server", r.Server, s.Addr, first.Server)
				d.How = "switch one of the two off there"
			}
			for _, m := range r.Clients {
				name := provider.MAC(m).String()
				if h := t.byMAC[provider.MAC(m)]; h != nil {
					name = h.Addr.String()
				}
				d.Machines = append(d.Machines, name)
			}
			slices.Sort(d.Machines)
			list = append(list, d)
		}
	}
	list = append(list, p.lost(t)...)
	slices.SortFunc(list, provider.CompareDrift)
	return list
}

// lost gives the sockets that machines cannot reach.
func (p *Provider) lost(t *table) []provider.Drift {
	var list []provider.Drift
	at := func(ep dhcp4.Endpoint) netip.Addr {
		if s := t.sockets[ep].server; s != nil && ep.Interface != "" {
			return s.Address // what clients are told; the socket itself hears all
		}
		return ep.Listen.Addr()
	}
	for ep, why := range p.socks.Lost(at) {
		d := provider.LostListener("dhcp", ep.Listen, why)
		if ep.Interface != "" {
			d.What += " on " + ep.Interface
		}
		if s := t.sockets[ep].server; s != nil {
			d.Address, d.Range = s.Addr, s.Range
		}
		list = append(list, d)
	}
	return list
}
