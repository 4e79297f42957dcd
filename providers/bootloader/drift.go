package bootloader

import (
	"context"
	"net/netip"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

var (
	_ provider.Keeper  = (*Provider)(nil)
	_ provider.Watcher = (*Provider)(nil)
)

// Look implements provider.Watcher: all there is to know is known.
func (p *Provider) Look(context.Context) error { return nil }

// Drift implements provider.Watcher: listeners that machines cannot reach.
func (p *Provider) Drift() []provider.Drift {
	var servers []*schema.Server
	if t, _ := p.pub.Load().Of(0); t != nil {
		servers = t.want.Servers
	}
	list := slices.Concat(
		provider.LostListeners("tftp", p.tftp.Lost(netip.AddrPort.Addr), servers, func(s *schema.Server) schema.Listener { return s.TFTP }),
		provider.LostListeners("http", p.http.Lost(netip.AddrPort.Addr), servers, func(s *schema.Server) schema.Listener { return s.HTTP }),
	)
	slices.SortFunc(list, provider.CompareDrift)
	return list
}
