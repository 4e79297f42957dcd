package node

import (
	"net/netip"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// ByAddr implements provider.Clients: the machine that boots from addr; else the
// one that booted last from there; else the one that has its root attached from
// there, or may come back to it, wherever its hardware address was acknowledged
// since; else who has its lease or reservation; else, without a session, who was
// last seen there, within Config.RootTimeout, and had no kernel yet: a machine that
// waits in a menu for longer than a session lives, where others give out the
// addresses. The session is the open one once it
// was acknowledged, before that the boot that is running.
func (t *Tracker) ByAddr(addr netip.Addr) (provider.Client, bool) {
	addr = addr.Unmap()
	now := t.now()
	t.mu.Lock()
	if m, b := t.presentAt(addr, now); m != nil {
		c := m.client(b)
		t.mu.Unlock()
		return c, true
	}
	t.mu.Unlock()
	c, ok := t.lookup(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !ok {
		return t.lastAt(addr, now)
	}
	if m := t.machines[c.MAC]; m != nil {
		t.expire(m, now)
		if b := m.shown(); b != nil {
			c.Session, c.Began, c.Generation = b.ID, b.Began, pin(b.served())
		}
	}
	return c, true
}

// lookup is Config.Lookup. The caller does not hold t.mu.
func (t *Tracker) lookup(addr netip.Addr) (provider.Client, bool) {
	if t.cfg.Lookup == nil {
		return provider.Client{}, false
	}
	return t.cfg.Lookup(addr)
}

// bootingAt gives the machine that boots from addr, and its open session. The one
// whose hardware address is known comes before the one of which nothing else than
// the address is. The caller holds t.mu.
func (t *Tracker) bootingAt(addr netip.Addr, now time.Time) (*machine, *boot) {
	for _, m := range [...]*machine{t.addrs[addr], t.claims[addr], t.nameless(addr)} {
		if m == nil {
			continue
		}
		t.expire(m, now)
		if b := m.booting; b != nil && b.Addr == addr {
			return m, b
		}
	}
	return nil, nil
}

// presentAt gives the machine that is behind addr, and the boot that it stands on.
// Whoever can send packets in somebody's name can open a session at an address; it
// does not take the place of a boot that has its root attached from there before
// a file was delivered to it. The caller holds t.mu.
func (t *Tracker) presentAt(addr netip.Addr, now time.Time) (*machine, *boot) {
	r := t.roots[addr]
	if r != nil {
		t.expire(r, now)
		if r.running == nil {
			r = nil
		}
	}
	m, b := t.bootingAt(addr, now)
	if b != nil && (r == nil || r == m && b.Acked || b.Fetched) {
		return m, b
	}
	for _, m := range [...]*machine{t.addrs[addr], t.claims[addr]} {
		if m == nil {
			continue
		}
		if b := m.running; b != nil && (b.Root.Addr == addr || b.Addr == addr) {
			return m, b
		}
	}
	if r != nil {
		return r, r.running
	}
	return nil, nil
}

// lastAt gives the machine that was last seen at addr, without a session, unless it
// was past its menu: one that had its kernel and then fell silent is gone. The caller
// holds t.mu.
func (t *Tracker) lastAt(addr netip.Addr, now time.Time) (provider.Client, bool) {
	for _, m := range [...]*machine{t.addrs[addr], t.nameless(addr)} {
		if m != nil && m.addr == addr && now.Sub(m.seen) <= t.cfg.RootTimeout && !m.hadKernel() {
			return provider.Client{MAC: m.mac, Host: m.host, Subnet: m.subnet}, true
		}
	}
	return provider.Client{}, false
}

// hadKernel reports whether the last boot of m got as far as its kernel.
func (m *machine) hadKernel() bool {
	if len(m.timelines) == 0 {
		return false
	}
	return slices.ContainsFunc(m.timelines[len(m.timelines)-1].Stages, func(s Stage) bool {
		return s.Name == string(provider.AnswerKernel) || s.Name == string(provider.AnswerInitrd)
	})
}

// nameless gives the machine that is known by addr only, or nil. The caller holds
// t.mu.
func (t *Tracker) nameless(addr netip.Addr) *machine {
	if !addr.Is4() {
		return nil
	}
	return t.machines[provider.AddressMAC(addr)]
}

// isNameless reports whether only the address of the machine is known.
func (m *machine) isNameless() bool {
	_, ok := m.mac.Address()
	return ok
}

// succeed ends what is kept for a machine that was known by addr only, now that m,
// whose hardware address is known, has fetched or attached something from there: it
// is the same machine, or another one in its place. A root that it still has is
// over as one is whose machine has shut down. The caller holds t.mu.
func (t *Tracker) succeed(m *machine, addr netip.Addr) {
	old := t.nameless(addr)
	if old == nil || old == m {
		return
	}
	t.close(old)
	if r := old.running; r != nil && !r.Root.Stopping {
		r.Root.Stopping = true
		t.touch(old)
	}
}

func (m *machine) client(b *boot) provider.Client {
	return provider.Client{MAC: m.mac, Host: m.host, Subnet: m.subnet, Session: b.ID, Began: b.Began, Generation: pin(b.served())}
}

// pin is the generation that a client of a boot on gen is answered from.
func pin(gen uint64) uint64 {
	if !pinned {
		return 0
	}
	return gen
}

// served is the generation that the boot is tied to.
func (b *boot) served() uint64 {
	if b.Root != nil {
		return b.Root.Generation
	}
	return b.Generation
}

// Holds implements provider.Sessions: a machine other than mac has its root
// attached from addr, or may come back to the one that it had: see
// Config.RootTimeout.
func (t *Tracker) Holds(addr netip.Addr, mac provider.MAC) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.roots[addr.Unmap()]
	if m == nil || m.mac == mac {
		return false
	}
	t.expire(m, t.now())
	return m.running != nil
}
