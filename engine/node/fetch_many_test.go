package node

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func TestFloodOfForgedAddresses(t *testing.T) {
	const room = 40
	l := newLab(t, func(c *Config) { c.MaxMachines = room })
	l.up(macB, addrB, "aaaaaaaaaaaa", "boot-1")
	for i := range 20 { // off, and remembered
		l.ipxe(provider.MAC{2, 0, 0, 0, 0, byte(i)}, netip.AddrFrom4([4]byte{10, 0, 2, byte(i)}))
	}
	c := l.alias(addrA, provider.AnswerLoader, "core.0")
	l.commit(2)
	for i := range 300 {
		l.fetch(netip.AddrFrom4([4]byte{10, 0, 4 + byte(i>>8), byte(i)}), provider.AnswerLoader)
	}
	nodes := l.Nodes()
	named := 0
	for _, n := range nodes {
		if _, ok := n.MAC.Address(); !ok {
			named++
		}
	}
	if named != 21 || len(nodes) > 21+1+room/4 {
		t.Errorf("%d machines, %d of them named, want all 21 and %d guests at most", len(nodes), named, 1+room/4)
	}
	l.wantSame("the one that boots", l.alias(addrA, provider.AnswerScript, "grub/grub.cfg"), c)
	l.wantState(macB, StateUp)
	l.restart()
	if got := len(l.Nodes()); got != len(nodes) {
		t.Errorf("%d machines after a restart, want %d", got, len(nodes))
	}
	l.wantSame("after a restart", l.alias(addrA, provider.AnswerScript, "grub/grub.cfg"), c)
}

// Without any room a machine boots what is current.
func TestNoRoomForAForeignMachine(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxMachines = 1 })
	l.up(macB, addrB, "aaaaaaaaaaaa", "boot-1")
	if c := l.fetch(addrA, provider.AnswerLoader); c != (provider.Client{MAC: keyA}) {
		t.Errorf("got %+v, want no session", c)
	}
}

func TestManyForeignMachinesShareWrites(t *testing.T) {
	l := newLab(t)
	l.db.MaxBatchDelay = 50 * time.Millisecond
	before := l.writes()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			addr := netip.AddrFrom4([4]byte{10, 0, 3, byte(i)})
			for _, role := range []provider.AnswerKind{provider.AnswerLoader, provider.AnswerScript} {
				if c, err := l.Fetch(addr, role); err != nil || c.Session == "" {
					t.Errorf("%s: %+v, %v", addr, c, err)
				}
				l.Event(provider.Event{Kind: provider.EventFile, Addr: addr, Role: role, Name: string(role)})
				l.ByAddr(addr)
			}
		})
	}
	wg.Wait()
	if n := l.writes() - before; n > 20 {
		t.Errorf("200 machines cost %d writes", n)
	}
	l.crash()
	if n := len(l.Nodes()); n != 200 {
		t.Errorf("%d machines after the crash, want 200", n)
	}
}
