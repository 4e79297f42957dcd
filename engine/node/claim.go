package node

import (
	"net/netip"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// move notes that m was given addr, or says so. Whoever can send packets can say so in
// anybody's name, so that there are two things it does not do before there is more
// than words:
//
//   - take m away from where its root is connected: one that was rebooted, and got
//     another address, attaches from there once its old connection is over;
//   - where foreign is set, take addr from a machine that has fetched something there
//     in its boot: the newcomer has it once a boot program was delivered there again,
//     or the other one's session is over. (A machine that fetched nothing is no reason
//     to wait: firmware that goes on to its disk gives its address back.)
//
// Till then m is at addr as a claim, as far as its boot says so, and nobody else
// comes first. The caller holds t.mu.
func (t *Tracker) move(m *machine, addr netip.Addr, foreign bool, now time.Time) {
	if !addr.IsValid() {
		return
	}
	r := m.running
	stays := r != nil && r.Root.Quiet.IsZero() && r.Root.Addr.IsValid() && r.Root.Addr != addr
	taken := foreign && t.isTaken(m, addr, now)
	if !stays && !taken {
		t.setAddr(m, addr)
		return
	}
	b := m.booting
	if b == nil || b.Addr != addr || t.addrs[addr] == m {
		return
	}
	old := t.claims[addr]
	switch {
	case !taken:
		delete(t.addrs, addr)
		t.claims[addr] = m
	case old == nil || !old.boots(addr):
		t.claims[addr] = m
	}
}

// isTaken reports whether another machine than m boots from addr. The caller holds
// t.mu.
func (t *Tracker) isTaken(m *machine, addr netip.Addr, now time.Time) bool {
	owner := t.addrs[addr]
	if owner == nil || owner == m {
		return false
	}
	t.expire(owner, now)
	return owner.boots(addr)
}

// boots reports whether m has fetched something from addr in its open session.
func (m *machine) boots(addr netip.Addr) bool {
	return m.booting != nil && m.booting.Acked && m.booting.Fetched && m.booting.Addr == addr
}

// handOver gives an address to the machine that claims it, now that a boot program was
// delivered there: to one whose boot has none yet, from one whose boot has. The caller
// holds t.mu.
func (t *Tracker) handOver(ev *provider.Event) {
	m, owner := t.claims[ev.Addr], t.addrs[ev.Addr]
	if ev.Role != provider.AnswerLoader || m == nil || owner == nil {
		return
	}
	if b := m.booting; b != nil && b.Acked && !b.Fetched && b.Addr == ev.Addr && owner.boots(ev.Addr) {
		t.move(m, ev.Addr, false, ev.At)
	}
}

// unclaim forgets that a boot of m is at an address. The caller holds t.mu.
func (t *Tracker) unclaim(m *machine, b *boot) {
	if b != nil && t.claims[b.Addr] == m {
		delete(t.claims, b.Addr)
	}
}
