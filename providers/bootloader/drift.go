package bootloader

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
	list := append(p.lost("tftp", p.tftp.Lost(netip.AddrPort.Addr)), p.lost("http", p.http.Lost(netip.AddrPort.Addr))...)
	slices.SortFunc(list, provider.CompareDrift)
	return list
}

func (p *Provider) lost(protocol string, lost map[netip.AddrPort]error) []provider.Drift {
	t, _ := p.pub.Load().Of(0)
	var list []provider.Drift
	for at, why := range lost {
		d := provider.LostListener(protocol, at, why)
		d.Former = true
		if t != nil {
			for _, s := range t.want.Servers {
				l := s.TFTP
				if protocol == "http" {
					l = s.HTTP
				}
				if !l.Disabled && l.Listen == at {
					d.Address, d.Range, d.Former = s.Addr, s.Range, false
				}
			}
		}
		list = append(list, d)
	}
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
