package node

import (
	"net/netip"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// ByAddr implements provider.Clients: the machine that booted last from addr; else
// the one that has its root attached from there, or may come back to it, wherever
// its hardware address was acknowledged since; else who has its lease or
// reservation. The session is the open one once it was acknowledged, before that
// the boot that is running.
func (t *Tracker) ByAddr(addr netip.Addr) (provider.Client, bool) {
	addr = addr.Unmap()
	t.mu.Lock()
	for _, m := range [...]*machine{t.addrs[addr], t.roots[addr]} {
		if m == nil {
			continue
		}
		t.expire(m, t.now())
		if b := m.at(addr); b != nil {
			c := m.client(b)
			t.mu.Unlock()
			return c, true
		}
	}
	t.mu.Unlock()
	if t.cfg.Lookup == nil {
		return provider.Client{}, false
	}
	c, ok := t.cfg.Lookup(addr)
	if !ok {
		return provider.Client{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.machines[c.MAC]; m != nil {
		t.expire(m, t.now())
		if b := m.shown(); b != nil {
			c.Session, c.Generation = b.ID, b.served()
		}
	}
	return c, true
}

// at gives the boot that talks from addr, or nil.
func (m *machine) at(addr netip.Addr) *boot {
	if b := m.booting; b != nil && b.Addr == addr {
		return b
	}
	if b := m.running; b != nil && (b.Root.Addr == addr || b.Addr == addr) {
		return b
	}
	return nil
}

func (m *machine) client(b *boot) provider.Client {
	return provider.Client{MAC: m.mac, Host: m.host, Subnet: m.subnet, Session: b.ID, Generation: b.served()}
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
