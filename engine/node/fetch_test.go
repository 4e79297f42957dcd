package node

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

var keyA = provider.AddressMAC(addrA)

// fetch asks for a file by an undigested name.
func (l *lab) fetch(addr netip.Addr, role provider.AnswerKind) provider.Client {
	l.t.Helper()
	l.pass(100 * time.Millisecond)
	c, err := l.Fetch(addr, role)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// alias asks for a file by an undigested name, and gets it.
func (l *lab) alias(addr netip.Addr, role provider.AnswerKind, name string) provider.Client {
	l.t.Helper()
	c := l.fetch(addr, role)
	l.event(provider.Event{Kind: provider.EventFile, Addr: addr, Role: role, Name: name, Protocol: "tftp", Bytes: 4096})
	return c
}

// aliasBoot goes as far as the kernel, as a machine of a foreign DHCP server does.
func (l *lab) aliasBoot(addr netip.Addr) provider.Client {
	l.t.Helper()
	c := l.alias(addr, provider.AnswerLoader, "core.0")
	if s := l.alias(addr, provider.AnswerScript, "grub/grub.cfg"); s != c {
		l.t.Fatalf("the loader got %+v, its configuration %+v", c, s)
	}
	l.load(addr)
	return c
}

func (l *lab) wantClient(when string, got provider.Client, key provider.MAC, gen uint64) {
	l.t.Helper()
	if got.MAC != key || got.Generation != gen || got.Session == "" {
		l.t.Errorf("%s: %+v, want a session of %s on generation %d", when, got, key, gen)
	}
}

// began gives when a session began.
func (l *lab) began(id string) time.Time {
	l.t.Helper()
	for _, m := range l.machines {
		for _, b := range []*boot{m.booting, m.running} {
			if b != nil && b.ID == id && !b.Began.IsZero() {
				return b.Began
			}
		}
	}
	l.t.Fatalf("nobody saw session %q begin", id)
	return time.Time{}
}

func (l *lab) wantSame(when string, got, want provider.Client) {
	l.t.Helper()
	if got != want {
		l.t.Errorf("%s: %+v, want %+v", when, got, want)
	}
}

func (l *lab) take(mac provider.MAC, addr netip.Addr, vendor, class string) {
	l.event(provider.Event{Kind: provider.EventTaken, MAC: mac, Addr: addr, Host: hostOf(mac), Subnet: lan, Vendor: vendor, Class: class, Protocol: "dhcp"})
}

func TestForeignMachineStaysOnItsGeneration(t *testing.T) {
	l := newLab(t)
	c := l.fetch(addrA, provider.AnswerLoader)
	l.wantClient("first file", c, keyA, 1)
	if c.Host != (schema.Addr{}) {
		t.Errorf("host %s, want none", c.Host)
	}
	l.commit(2)
	before := l.writes()
	l.wantSame("the size was asked for, and then the file", l.alias(addrA, provider.AnswerLoader, "shimx64.efi"), c)
	l.wantSame("the next part", l.alias(addrA, provider.AnswerScript, "grubx64.efi"), c)
	l.wantSame("its configuration", l.alias(addrA, provider.AnswerScript, "grub/grub.cfg"), c)
	l.wantSame("again", l.fetch(addrA, provider.AnswerScript), c)
	if after := l.writes(); after != before {
		t.Errorf("continuing a session wrote %d times", after-before)
	}
	l.load(addrA)
	if got, ok := l.ByAddr(addrA); !ok || got != c {
		t.Errorf("behind the address is %+v, want %+v", got, c)
	}
	l.wantState(keyA, StateBooting)
	l.phone(addrA, "initramfs")
	l.attach(addrA, "aaaaaaaaaaaa", "", 1) // a client that names no instance
	l.phone(addrA, "userland")
	n := l.node(keyA)
	if n.State != StateUp || n.Generation != 1 || n.Session != c.Session || !n.Connected || n.Address != addrA {
		t.Errorf("node %+v, want it up in session %s", n, c.Session)
	}
	var stages []string
	for _, s := range n.Boots[len(n.Boots)-1].Stages {
		stages = append(stages, s.Name)
	}
	if d := cmp.Diff([]string{"loader", "script", "script", "script", "kernel", "initrd", "initramfs", "attach", "userland"}, stages); d != "" {
		t.Errorf("stages (-want +got):\n%s", d)
	}
	l.wantLive(1)

	// It is booted again.
	again := l.aliasBoot(addrA)
	l.wantClient("the next boot", again, keyA, 2)
	l.wantLive(1, 2)
	l.attach(addrA, "bbbbbbbbbbbb", "", 2)
	l.detach(addrA, "aaaaaaaaaaaa", c.Session)
	l.wantLive(2)
}

func TestWhatBeginsABoot(t *testing.T) {
	const loader, script, kernel = provider.AnswerLoader, provider.AnswerScript, provider.AnswerKernel
	for _, c := range []struct {
		name string
		so   []provider.AnswerKind // got by aliases, the kernel by digest
		role provider.AnswerKind
		anew bool
	}{
		{"the loader again", []provider.AnswerKind{loader}, loader, true},
		{"what the loader reads", []provider.AnswerKind{loader}, script, false},
		{"a configuration that leads to another", []provider.AnswerKind{loader, script}, script, false},
		{"reset before the kernel", []provider.AnswerKind{loader, script}, loader, true},
		{"reset after the kernel", []provider.AnswerKind{loader, script, kernel}, loader, true},
		{"an iPXE in the ROM asks twice", []provider.AnswerKind{script}, script, false},
		{"an iPXE in the ROM boots again", []provider.AnswerKind{script, kernel}, script, true},
		{"a loader after an iPXE in the ROM", []provider.AnswerKind{script}, loader, true},
		{"something else", []provider.AnswerKind{loader, script, kernel}, kernel, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t)
			var first provider.Client
			for i, role := range c.so {
				switch {
				case role == kernel:
					l.file(addrA, role, "b/tree1/arch/vmlinuz")
				case i == 0:
					first = l.alias(addrA, role, "first")
				default:
					l.wantSame(string(role), l.alias(addrA, role, string(role)), first)
				}
			}
			l.commit(2)
			got := l.fetch(addrA, c.role)
			if c.anew {
				l.wantClient("then", got, keyA, 2)
			} else {
				l.wantSame("then", got, first)
			}
		})
	}
}

func TestFileThatBeginsNothingHasNoSession(t *testing.T) {
	l := newLab(t)
	if c := l.fetch(addrA, provider.AnswerKernel); c != (provider.Client{MAC: keyA}) {
		t.Errorf("got %+v, want only the key", c)
	}
	if c := l.fetch(netip.MustParseAddr("fd00::1"), provider.AnswerLoader); c != (provider.Client{}) {
		t.Errorf("got %+v at an IPv6 address, want nothing", c)
	}
	if n := l.Nodes(); len(n) != 0 {
		t.Errorf("nodes %+v, want none", n)
	}
}

// What does not work is loaded over and over: the commit that mends it must reach
// the machine.
func TestForeignMachineThatCannotBootGetsTheNextCommit(t *testing.T) {
	l := newLab(t)
	l.alias(addrA, provider.AnswerLoader, "core.0")
	l.commit(2)
	l.wantClient("the program again", l.alias(addrA, provider.AnswerLoader, "core.0"), keyA, 2)
	l.wantLive(2)

	// Firmware that asks for the size only, or aborts each time.
	l = newLab(t)
	first := l.fetch(addrA, provider.AnswerLoader)
	l.commit(2)
	l.wantSame("another try", l.fetch(addrA, provider.AnswerLoader), first)
	l.pass(DefaultSessionTimeout)
	l.wantClient("after the timeout", l.fetch(addrA, provider.AnswerLoader), keyA, 2)

	// An iPXE in the ROM whose script leads to nothing.
	l = newLab(t)
	first = l.alias(addrA, provider.AnswerScript, "boot.ipxe")
	l.commit(2)
	for range 14 {
		l.pass(time.Minute)
		l.wantSame("another try", l.alias(addrA, provider.AnswerScript, "boot.ipxe"), first)
	}
	l.pass(2 * time.Minute)
	l.wantClient("after the timeout", l.alias(addrA, provider.AnswerScript, "boot.ipxe"), keyA, 2)
	l.wantLive(2)
}

func TestSlowForeignMachineKeepsItsSession(t *testing.T) {
	l := newLab(t)
	c := l.aliasBoot(addrA)
	l.commit(2)
	for range 3 {
		l.pass(DefaultSessionTimeout - time.Minute)
		l.phone(addrA, "initramfs")
	}
	if got, ok := l.ByAddr(addrA); !ok || got != c {
		t.Errorf("behind the address is %+v, want %+v", got, c)
	}
	l.pass(DefaultSessionTimeout + time.Minute)
	if got, ok := l.ByAddr(addrA); ok {
		t.Errorf("behind the address is %+v after the timeout, want nobody", got)
	}
	l.wantLive()
}

func TestForeignSessionSurvivesACrash(t *testing.T) {
	l := newLab(t)
	c := l.fetch(addrA, provider.AnswerLoader)
	l.commit(2)
	l.crash()
	l.wantLive(1)
	l.wantSame("after the crash", l.alias(addrA, provider.AnswerLoader, "core.0"), c)
	l.alias(addrA, provider.AnswerScript, "grub/grub.cfg")
	l.restart()
	l.wantSame("after the restart", l.fetch(addrA, provider.AnswerScript), c)
	l.load(addrA)
	l.restart()
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.restart()
	if got, ok := l.ByAddr(addrA); !ok || got != c {
		t.Errorf("behind the address is %+v, want %+v", got, c)
	}
	// The restarts did not forget how far it got.
	l.wantClient("reset after the restarts", l.fetch(addrA, provider.AnswerLoader), keyA, 2)
}

func TestFetchFailsWhenItCannotBeWritten(t *testing.T) {
	l := newLab(t)
	if err := l.db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the repetition must not be answered from memory alone
		if _, err := l.Fetch(addrA, provider.AnswerLoader); !errors.Is(err, berrors.ErrDatabaseNotOpen) {
			t.Fatalf("Fetch gave %v, want the database's error", err)
		}
	}
}

// TestFileOfTheBootBefore: a kernel that was on its way when the machine was reset tells
// nothing of the boot that began meanwhile, so a commit does not get into its middle.
func TestFileOfTheBootBefore(t *testing.T) {
	l := newLab(t)
	l.aliasBoot(addrA)
	asked := l.time()
	l.pass(time.Second)
	next := l.alias(addrA, provider.AnswerLoader, "core.0")
	l.event(provider.Event{Kind: provider.EventFile, Addr: addrA, Role: provider.AnswerKernel, Name: "vmlinuz", Protocol: "tftp", Bytes: 4096, Tree: "tree1", Asked: asked})
	l.commit(2)
	l.wantSame("the configuration after a late kernel", l.fetch(addrA, provider.AnswerScript), next)

	// One that was asked for in this boot counts.
	l.event(provider.Event{Kind: provider.EventFile, Addr: addrA, Role: provider.AnswerKernel, Name: "vmlinuz", Protocol: "tftp", Bytes: 4096, Tree: "tree1", Asked: l.time()})
	if c := l.fetch(addrA, provider.AnswerScript); c == next {
		t.Error("a machine that had its kernel and asks for a configuration has not begun anew")
	}
}
