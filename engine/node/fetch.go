package node

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Fetch implements provider.Sessions.
//
// A machine whose DHCP packets are seen here has its session from Boot, and goes on
// in it. One whose addresses are somebody else's business is known by what it
// fetches alone, and its sessions begin there: at the program that firmware loads,
// unless the open one has got nothing yet (firmware that asks for the size first, or
// that repeats itself); or at what such a program reads, when no session is open, or
// a kernel was delivered in the open one (an iPXE in the ROM starts with its script).
// The machine is kept by its hardware address where a lease or a reservation tells
// it, else by provider.AddressMAC.
//
// So a machine that was reset anywhere, or whose boot program does not work, starts
// anew on the current generation. Only one that begins with a script and never gets a
// kernel does so a SessionTimeout after its session was opened.
//
// Opening a session costs an fsync, shared with others that open at the same time;
// continuing one costs none. A tracker that has no room gives the client without a
// session.
func (t *Tracker) Fetch(addr netip.Addr, role provider.AnswerKind) (provider.Client, error) {
	addr = addr.Unmap()
	now := t.now()
	t.mu.Lock()
	m := t.fetcher(addr, now)
	var c provider.Client // when m is nil
	if m == nil {
		t.mu.Unlock()
		c = t.owner(addr)
		t.mu.Lock()
		// It may have shown itself meanwhile.
		if m = t.fetcher(addr, now); m == nil {
			m = t.machines[c.MAC]
		}
	}
	if m != nil {
		t.expire(m, now)
		if c.MAC != m.mac {
			c = provider.Client{MAC: m.mac, Host: m.host, Subnet: m.subnet}
		}
	}
	if !c.MAC.IsZero() && begins(m, role) {
		if at := t.openAt(c, addr, role, now); at != nil {
			m = at
		}
	}
	if m == nil || m.booting == nil {
		t.mu.Unlock()
		t.poke()
		if known, ok := t.ByAddr(addr); ok {
			c = known
		}
		return c, nil
	}
	b := m.booting
	t.alive(m, now)
	b.Seen = now
	if role == provider.AnswerScript && b.ByFile && !b.Script {
		b.Script = true
		t.touch(m)
	}
	c = m.client(b)
	c.Generation = pin(b.Generation) // whatever the root is of that it attached
	durable := b.durable
	t.mu.Unlock()

	if durable {
		t.poke()
		return c, nil
	}
	if err := t.save(c.MAC); err != nil {
		t.poke() // Run tries again
		return provider.Client{}, fmt.Errorf("boot session of %s: %w", addr, err)
	}
	return c, nil
}

// fetcher gives the machine that asks for a boot file from addr, as far as it is
// known without a lease. A root that is not connected says little: the address may
// have gone to another machine since. The caller holds t.mu.
func (t *Tracker) fetcher(addr netip.Addr, now time.Time) *machine {
	if m, _ := t.bootingAt(addr, now); m != nil {
		return m
	}
	if m := t.roots[addr]; m != nil {
		t.expire(m, now)
		if m.running != nil && m.running.Root.Quiet.IsZero() {
			return m
		}
	}
	return nil
}

// owner names the machine that an address belongs to: by its lease, else by the
// address. The zero MAC, when it cannot be named: only IPv4 machines boot from here.
// The caller does not hold t.mu.
func (t *Tracker) owner(addr netip.Addr) provider.Client {
	if c, ok := t.lookup(addr); ok && !c.MAC.IsZero() {
		return c
	}
	if addr.Is4() {
		return provider.Client{MAC: provider.AddressMAC(addr)}
	}
	return provider.Client{}
}

// begins reports whether a file that was asked for starts a boot of m. A session
// that DHCP packets opened is ended by them.
func begins(m *machine, role provider.AnswerKind) bool {
	var b *boot
	if m != nil {
		b = m.booting
	}
	switch {
	case role != provider.AnswerLoader && role != provider.AnswerScript:
		return false
	case b == nil:
		return true
	case !b.ByFile:
		return false
	case role == provider.AnswerLoader:
		return b.Got || b.Script || b.hasKernel()
	default:
		return b.hasKernel()
	}
}

// openAt starts a session for the machine c at addr. The caller holds t.mu.
func (t *Tracker) openAt(c provider.Client, addr netip.Addr, role provider.AnswerKind, now time.Time) *machine {
	b := &boot{ByFile: true, Script: role == provider.AnswerScript, Addr: addr}
	m := t.open(c.MAC, b, now)
	if m == nil {
		return nil
	}
	if m.isNameless() {
		// What is known of another machine at the address stays until this one
		// has got something.
		m.addr = addr
		return m
	}
	if !c.Host.IsZero() || !c.Subnet.IsZero() {
		m.host, m.subnet = c.Host, c.Subnet
	}
	t.setAddr(m, addr)
	return m
}
