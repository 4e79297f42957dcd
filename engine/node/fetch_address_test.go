package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// A machine whose DHCP packets are seen has its session from them, on our subnets
// and on those of another server.
func TestFetchContinuesTheSessionOfTheMAC(t *testing.T) {
	for name, addressed := range map[string]func(*lab){
		"ours":    func(l *lab) { l.ack(macA, addrA, "PXEClient", "") },
		"proxied": func(l *lab) { l.take(macA, addrA, "PXEClient", "") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			s := l.boot(macA, true, "PXEClient", "")
			l.commit(2)
			addressed(l)
			want := provider.Client{MAC: macA, Host: ws01, Subnet: lan, Session: s.ID, Began: l.began(s.ID), Generation: 1}
			l.wantSame("loader", l.alias(addrA, provider.AnswerLoader, "shimx64.efi"), want)
			l.wantSame("script", l.alias(addrA, provider.AnswerScript, "grub/grub.cfg"), want)
			l.load(addrA)
			l.wantSame("a loader after the kernel", l.fetch(addrA, provider.AnswerLoader), want)
			if _, ok := l.Node(keyA); ok {
				t.Error("the address is kept as a machine of its own")
			}
			if next := l.boot(macA, true, "PXEClient", ""); next.Generation != 2 {
				t.Errorf("the next boot is %+v, want generation 2", next)
			}
		})
	}
}

func TestTakenAddressIsInTheTimeline(t *testing.T) {
	l := newLab(t)
	l.boot(macA, true, "PXEClient", "")
	l.take(macA, addrA, "PXEClient", "")
	n := l.node(macA)
	if n.Address != addrA || n.Host != ws01 || n.Subnet != lan || n.State != StateBooting {
		t.Errorf("node %+v, want %s booting at %s", n, ws01, addrA)
	}
	if got := n.Boots[0].Stages[0].What; got != "10.0.0.21 for firmware, from another server" {
		t.Errorf("stage %q", got)
	}
	if got := l.boot(macA, true, "PXEClient", "iPXE"); got.ID != n.Session {
		t.Errorf("chain-loaded iPXE got %+v, want session %s", got, n.Session)
	}
}

// A reservation names a machine whose DHCP packets never come here.
func TestReservationNamesAForeignMachine(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Lookup = func(a netip.Addr) (provider.Client, bool) {
			return provider.Client{MAC: macA, Host: ws01, Subnet: lan}, a == addrA
		}
	})
	c := l.aliasBoot(addrA)
	l.wantClient("boot", c, macA, 1)
	if c.Host != ws01 || c.Subnet != lan {
		t.Errorf("client %+v, want %s on %s", c, ws01, lan)
	}
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.commit(2)
	l.wantClient("the next boot", l.aliasBoot(addrA), macA, 2)

	// Firmware that is heard after all begins a boot, whatever was fetched so far.
	l.alias(addrA, provider.AnswerLoader, "core.0")
	l.commit(3)
	if s := l.boot(macA, true, "PXEClient", ""); s.Generation != 3 {
		t.Errorf("firmware got %+v, want generation 3", s)
	}
}

// A chain-loaded iPXE whose firmware nobody heard belongs to the boot program that
// was fetched.
func TestIPXEAfterAFetchedLoaderContinues(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Lookup = func(a netip.Addr) (provider.Client, bool) { return provider.Client{MAC: macA}, a == addrA }
	})
	c := l.alias(addrA, provider.AnswerLoader, "undionly.kpxe")
	l.commit(2)
	s := l.boot(macA, true, "PXEClient", "iPXE")
	if s.ID != c.Session || s.Generation != 1 {
		t.Errorf("iPXE got %+v, want session %s", s, c.Session)
	}
	l.take(macA, addrA, "PXEClient", "iPXE")
	l.alias(addrA, provider.AnswerScript, "boot.ipxe")
	if again := l.boot(macA, true, "PXEClient", "iPXE"); again.Generation != 2 {
		t.Errorf("iPXE after its script got %+v, want a new session", again)
	}
}

// The hardware address becomes known while the machine is known by its address: it
// counts for what begins from then on, and nothing of what was begun is lost.
func TestHardwareAddressTakesPrecedence(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrB, "999999999999", "boot-0") // known from before, elsewhere
	l.detach(addrB, "999999999999", "boot-0")
	c := l.aliasBoot(addrA)
	l.commit(2)
	l.take(macA, addrA, "", "") // its initramfs asks DHCP, and somebody answers it
	if got, ok := l.ByAddr(addrA); !ok || got != c {
		t.Errorf("in the boot, behind the address is %+v, want %+v", got, c)
	}
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.phone(addrA, "userland")
	l.wantState(keyA, StateUp)
	if !l.Holds(addrA, macB) {
		t.Error("the address of a running machine may be given away")
	}

	// The next boot is seen from its DISCOVER on. Until it has got something, the
	// root that is attached is the one that counts.
	s := l.boot(macA, true, "PXEClient", "")
	l.take(macA, addrA, "PXEClient", "")
	if got, ok := l.ByAddr(addrA); !ok || got != c {
		t.Errorf("before it has fetched anything, behind the address is %+v, want %+v", got, c)
	}
	want := provider.Client{MAC: macA, Host: ws01, Subnet: lan, Session: s.ID, Began: l.began(s.ID), Generation: 2}
	l.wantSame("its loader", l.alias(addrA, provider.AnswerLoader, "core.0"), want)
	if got, ok := l.ByAddr(addrA); !ok || got != want {
		t.Errorf("behind the address is %+v, want %+v", got, want)
	}
	l.load(addrA)
	l.attach(addrA, "bbbbbbbbbbbb", "boot-2", 2)
	l.wantLive(1, 2)
	l.event(provider.Event{Kind: provider.EventDetach, MAC: keyA, Addr: addrA, Name: "arch@aaaaaaaaaaaa", Instance: "boot-1"})
	l.pass(DefaultSessionTimeout + time.Minute)
	l.wantLive(2) // nobody comes back to the other root
}

// Whoever forges packets in the name of a machine that is up, or of one that never
// was, does not come between it and its root.
func TestForgedFetchLeavesARunningMachineAlone(t *testing.T) {
	l := newLab(t)
	c := l.aliasBoot(addrA)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.phone(addrA, "userland")
	l.commit(2)
	l.fetch(addrA, provider.AnswerLoader)
	if got, ok := l.ByAddr(addrA); !ok || got != c {
		t.Errorf("behind the address is %+v, want %+v", got, c)
	}
	// What the system itself reads is no boot either.
	l.alias(addrA, provider.AnswerScript, "grub/grub.cfg")
	l.wantState(keyA, StateUp)
	if got, ok := l.ByAddr(addrA); !ok || got != c {
		t.Errorf("behind the address is %+v, want %+v", got, c)
	}
	// Nor is a packet with its key as hardware address.
	if s := l.boot(keyA, true, "PXEClient", ""); s != (provider.Session{}) {
		t.Errorf("a DISCOVER from %s got %+v", keyA, s)
	}
	l.ack(keyA, addrB, "PXEClient", "")
	if n := l.node(keyA); n.Address != addrA {
		t.Errorf("its address is %s now", n.Address)
	}
	l.boot(macB, true, "PXEClient", "")
	l.take(macB, addrA, "PXEClient", "")
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	if n := l.node(keyA); !n.Connected || n.Session != c.Session {
		t.Errorf("node %+v, want it connected in session %s", n, c.Session)
	}
	l.wantState(keyA, StateUp)
}

// A machine that lost its power leaves a connection behind that nobody missed yet.
func TestResetForeignMachineBootsBesideItsOldConnection(t *testing.T) {
	l := newLab(t)
	l.aliasBoot(addrA)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.alias(addrA, provider.AnswerLoader, "core.0") // and was reset again
	l.commit(2)
	c := l.aliasBoot(addrA)
	l.wantClient("the next boot", c, keyA, 2)
	if got, ok := l.ByAddr(addrA); !ok || got != c {
		t.Errorf("behind the address is %+v, want %+v", got, c)
	}
	l.attach(addrA, "bbbbbbbbbbbb", "boot-2", 2)
	if n := l.node(keyA); n.Session != c.Session || n.Generation != 2 {
		t.Errorf("node %+v, want session %s", n, c.Session)
	}
	l.event(provider.Event{Kind: provider.EventDetach, MAC: keyA, Addr: addrA, Instance: "boot-1"})
	l.wantState(keyA, StateBooting)
	l.wantLive(2)
}

// The address of a machine that was known by its MAC, and whose root is detached,
// may have gone to another machine.
func TestForeignMachineInTheOldPlaceOfAnother(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	c := l.fetch(addrA, provider.AnswerLoader)
	l.wantClient("loader", c, keyA, 2)
	if got, _ := l.ByAddr(addrA); got.MAC != macA {
		t.Errorf("before it has got anything, behind the address is %+v, want %s", got, macA)
	}
	l.event(provider.Event{Kind: provider.EventFile, MAC: macA, Host: ws01, Addr: addrA, Role: provider.AnswerLoader, Name: "core.0", Protocol: "tftp"})
	if got, _ := l.ByAddr(addrA); got != c {
		t.Errorf("behind the address is %+v, want %+v", got, c)
	}
	l.wantLive(1, 2) // the other one's cable may be out
}

func TestArchitectureIsTheFirmwares(t *testing.T) {
	l := newLab(t)
	said := func(kind provider.EventKind, vendor, class string, arch uint16) {
		l.event(provider.Event{Kind: kind, MAC: macA, Addr: addrA, Vendor: vendor, Class: class, Arch: arch, HasArch: true, Protocol: "dhcp"})
	}
	want := func(when string, arch uint16) {
		t.Helper()
		n := l.node(macA)
		if n.Arch == nil || *n.Arch != arch {
			t.Errorf("%s: architecture %v, want %d", when, n.Arch, arch)
		}
		for _, o := range l.Observe() {
			if o.Arch == nil || *o.Arch != arch {
				t.Errorf("%s: observed %v, want %d", when, o.Arch, arch)
			}
		}
	}
	l.boot(macA, true, "PXEClient", "iPXE")
	if n := l.node(macA); n.Arch != nil {
		t.Errorf("architecture %d before any was said", *n.Arch)
	}
	said(provider.EventDiscover, "PXEClient", "iPXE", 7)
	want("iPXE in the ROM", 7)
	l.boot(macA, true, "HTTPClient", "")
	l.ack(macA, addrA, "HTTPClient", "")
	l.boot(macA, true, "HTTPClient", "")
	said(provider.EventOffer, "HTTPClient", "", 16)
	want("firmware", 16)
	said(provider.EventDiscover, "PXEClient", "iPXE", 7)
	said(provider.EventAck, "", "", 3)
	want("iPXE that it loaded, and the system", 16)
	said(provider.EventTaken, "PXEClient", "", 0)
	want("BIOS, the last that was said", 0)
	l.restart()
	want("after a restart", 0)
}

func TestForeignMachineIsObservedByItsAddress(t *testing.T) {
	l := newLab(t)
	l.fetch(addrB, provider.AnswerLoader) // asked, and never got anything
	l.aliasBoot(addrA)
	seen := l.Observe()
	if len(seen) != 1 || seen[0].MAC != "" || seen[0].Address != addrA.String() || seen[0].State != StateBooting {
		t.Errorf("observed %+v, want one machine by its address", seen)
	}
}
