package export

import (
	"context"
	"net/netip"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Retire implements provider.Provider. Beside the current generation and those
// that live holds, generations stay that an open connection came through: its
// client may lose the connection and ask for the same name again.
func (p *Provider) Retire(_ context.Context, live provider.Live) error {
	keep := map[netip.AddrPort]bool{}
	p.mu.Lock()
	inUse := map[uint64]bool{}
	for a := range p.conns {
		inUse[a.Generation] = true
	}
	next, dropped := p.pub.Drop(func(gen uint64, _ *table) bool { return inUse[gen] || live.Generations[gen] })
	for _, t := range next.ByGen {
		for a := range t.listen {
			keep[a] = true
		}
	}
	p.discardUnwanted(live.Generations)
	p.mu.Unlock()
	for _, t := range dropped { // nobody finds them any more
		t.release()
	}
	p.socks.Retire(keep)
	return nil
}
