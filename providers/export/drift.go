package export

import (
	"context"
	"net/netip"
	"os"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

var (
	_ provider.Keeper  = (*Provider)(nil)
	_ provider.Watcher = (*Provider)(nil)
)

// Look implements provider.Watcher: all there is to know is known.
func (p *Provider) Look(context.Context) error { return nil }

// Drift implements provider.Watcher: listeners that machines cannot reach.
func (p *Provider) Drift() []provider.Drift {
	t, _ := p.pub.Load().Of(0)
	var list []provider.Drift
	for at, why := range p.socks.Lost(netip.AddrPort.Addr) {
		d := provider.LostListener(wireProtocol, at, why)
		d.Former = true
		if t != nil {
			for _, s := range t.want.Servers {
				if !s.NBD.Disabled && s.NBD.Listen == at {
					d.Address, d.Range, d.Former = s.Addr, s.Range, false
				}
			}
		}
		list = append(list, d)
	}
	slices.SortFunc(list, provider.CompareDrift)
	return list
}

// KeptBlob implements provider.Keeper.
func (p *Provider) KeptBlob(digest string) *os.File { return p.blobs.KeptBlob(digest) }

// SpoilBlob implements provider.Keeper.
func (p *Provider) SpoilBlob(digest string, f os.FileInfo, why error) {
	p.blobs.SpoilBlob(digest, f, why)
}

// RenewBlob implements provider.Keeper.
func (p *Provider) RenewBlob(b provider.Blob) error { return p.blobs.RenewBlob(b) }
