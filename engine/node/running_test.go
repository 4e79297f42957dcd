package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func TestSpoofedDiscoverLeavesARunningMachineAlone(t *testing.T) {
	l := newLab(t)
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	fake := l.boot(macA, true, "PXEClient", "")
	if fake.ID == s.ID || fake.Generation != 2 {
		t.Fatalf("session %+v, want a new one on generation 2", fake)
	}
	l.wantState(macA, StateUp)
	l.wantLive(1, 2)
	c, ok := l.ByAddr(addrA)
	if want := (provider.Client{MAC: macA, Host: ws01, Subnet: lan, Session: s.ID, Began: l.began(s.ID), Generation: 1}); !ok || c != want {
		t.Errorf("behind %s is %+v, want %+v", addrA, c, want)
	}

	// Even when the whole exchange is played, the root stays and its client may
	// come back.
	l.firmware(macA, addrA)
	l.wantLive(1, 2)
	if !l.Holds(addrA, macB) {
		t.Error("the address of the attached root may be given away")
	}
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.wantLive(1, 2)

	// The session that led nowhere ends, the machine that is up stays.
	l.pass(DefaultSessionTimeout + time.Second)
	l.wantLive(1)
	l.wantState(macA, StateUp)
	if n := l.node(macA); n.Session != s.ID || n.Generation != 1 || !n.Connected {
		t.Errorf("node %+v, want the boot of session %s", n, s.ID)
	}
}

// The machine that is up renews its lease beside a session that somebody opened:
// that is no acknowledgement of the session.
func TestRenewalBesideASpoofedDiscover(t *testing.T) {
	l := newLab(t)
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	fake := l.boot(macA, true, "PXEClient", "")
	l.ack(macA, addrA, "", "")
	l.wantState(macA, StateUp)
	if c, _ := l.ByAddr(addrA); c.Session != s.ID {
		t.Errorf("behind %s is session %s, want %s", addrA, c.Session, s.ID)
	}
	if again := l.boot(macA, true, "PXEClient", ""); again != fake {
		t.Errorf("the retransmission got %+v, want %+v", again, fake)
	}
}

// The same for a client that names no boot instance.
func TestSpoofedDiscoverLeavesAForeignClientAlone(t *testing.T) {
	l := newLab(t)
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "")
	l.commit(2)
	l.boot(macA, true, "PXEClient", "")
	l.detach(addrA, "aaaaaaaaaaaa", "")
	l.attach(addrA, "aaaaaaaaaaaa", "", 1)
	if n := l.node(macA); n.Session != s.ID || !n.Connected {
		t.Errorf("node %+v, want the boot of session %s, connected", n, s.ID)
	}
}

func TestNewBootReplacesTheRunningOne(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	s := l.up(macA, addrA, "bbbbbbbbbbbb", "boot-2")
	l.wantLive(2)
	n := l.node(macA)
	if n.Session != s.ID || n.Artifact != "sha256:bbbbbbbbbbbb" || n.State != StateUp || n.Generation != 2 {
		t.Errorf("node %+v, want generation 2 up", n)
	}
	// The dead connection of the first boot is noticed late.
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	if !l.node(macA).Connected {
		t.Error("the end of the old boot's connection detached the new one")
	}
}

func TestDetachedRootIsDroppedAfterTheTimeout(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.pass(24 * time.Hour)
	l.wantLive(1)
	if !l.Holds(addrA, macB) || l.Holds(addrA, macA) {
		t.Error("the address of a machine that is up is its own and nobody else's")
	}
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.pass(DefaultRootTimeout - time.Minute)
	l.wantLive(1)
	if !l.Holds(addrA, macB) {
		t.Error("the address is given away while the machine may come back")
	}
	l.pass(2 * time.Minute)
	l.wantLive()
	l.wantState(macA, StateGone)
	if l.Holds(addrA, macB) {
		t.Error("the address is held for a machine that is gone")
	}
}

// A cable that is out for longer than a session lives costs a running machine
// nothing: only what is shown changes.
func TestCableOutForHours(t *testing.T) {
	l := newLab(t)
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.pass(DefaultSessionTimeout - time.Minute)
	l.wantState(macA, StateUp)
	l.pass(5 * time.Hour)
	l.wantState(macA, StateGone)
	l.wantLive(1)
	if !l.Holds(addrA, macB) {
		t.Error("the address is given away while the cable is out")
	}
	if c, _ := l.ByAddr(addrA); c.Session != s.ID || c.Generation != 1 {
		t.Errorf("behind %s is %+v, want session %s", addrA, c, s.ID)
	}
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.wantState(macA, StateUp)
	l.wantLive(1)
	if n := l.node(macA); n.Session != s.ID || !n.Connected {
		t.Errorf("node %+v, want session %s, connected", n, s.ID)
	}
}

// A detached root ends with the proof that its machine boots again: a file fetched
// after an acknowledged exchange. Less is no proof, and nothing is while the root
// is connected.
func TestRebootEndsADetachedRoot(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	l.ipxe(macA, addrA)
	l.load(addrA)
	l.wantLive(1, 2) // connected: it is up, whatever somebody plays
	l.pass(DefaultSessionTimeout + time.Minute)

	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.boot(macA, true, "PXEClient", "iPXE")
	l.file(addrA, provider.AnswerScript, "b/tree1/boot.ipxe")
	l.wantLive(1, 2) // a DISCOVER that was never acknowledged
	l.ack(macA, addrA, "PXEClient", "iPXE")
	l.wantLive(1, 2) // an exchange alone
	l.load(addrA)
	l.wantLive(2)
	l.wantState(macA, StateBooting)
	if l.Holds(addrA, macB) {
		t.Error("the address is held for the boot that is over")
	}
}

func TestShutdownIsGoneAtOnceAndHeldForTheTimeout(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.phone(addrA, "shutdown")
	l.wantState(macA, StateUp)
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.wantState(macA, StateGone)
	l.wantLive(1)
	l.pass(DefaultSessionTimeout + time.Minute)
	l.wantLive()
}

func TestByAddrFallsBackToTheLease(t *testing.T) {
	lease := provider.Client{MAC: macB, Subnet: lan}
	l := newLab(t, func(c *Config) {
		c.Lookup = func(a netip.Addr) (provider.Client, bool) { return lease, a == addrB }
	})
	if c, ok := l.ByAddr(addrB); !ok || c != lease {
		t.Errorf("got %+v %v, want the lease", c, ok)
	}
	if c, ok := l.ByAddr(addrA); ok {
		t.Errorf("got %+v for an address that nobody has", c)
	}
	// The lease knows the machine, the session comes from here.
	s := l.ipxe(macB, addrA)
	want := lease
	want.Session, want.Began, want.Generation = s.ID, l.began(s.ID), 1
	if c, ok := l.ByAddr(addrB); !ok || c != want {
		t.Errorf("got %+v %v, want %+v", c, ok, want)
	}
	mapped := netip.AddrFrom16(addrA.As16())
	if c, ok := l.ByAddr(mapped); !ok || c.MAC != macB || c.Session != s.ID {
		t.Errorf("got %+v %v for the mapped address, want the session", c, ok)
	}
}

func TestObserve(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.boot(macB, true, "PXEClient", "") // not acknowledged: nothing to tell
	got := l.Observe()
	want := []plan.Observation{{
		Kind: plan.SawNode, Host: ws01, MAC: macA.String(), Address: "10.0.0.21", Subnet: lan, Generation: 1, Image: arch,
		Export: "arch@aaaaaaaaaaaa", Artifact: "sha256:aaaaaaaaaaaa", Tree: "tree1", State: StateUp,
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("observations (-want +got):\n%s", d)
	}
	l.ack(macB, addrB, "PXEClient", "")
	got = l.Observe()
	want = append(want, plan.Observation{Kind: plan.SawNode, MAC: macB.String(), Address: "10.0.0.22", Subnet: lan, Generation: 1, State: StateBooting})
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("observations (-want +got):\n%s", d)
	}
}

// A daemon that lost its state, or whose session ended too early, still learns of
// a machine from its root.
func TestAttachWithoutASession(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Lookup = func(netip.Addr) (provider.Client, bool) {
			return provider.Client{MAC: macA, Host: ws01, Subnet: lan}, true
		}
	})
	l.ipxe(macA, addrA)
	l.load(addrA)
	l.pass(time.Hour)
	l.wantLive()
	l.commit(2)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.wantLive(1)
	l.wantState(macA, StateUp)
}

// What the initramfs of the next boot reports is about that boot, although the
// root of the last one has not gone yet.
func TestInitramfsReportsAboutTheNewBoot(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	s := l.ipxe(macA, addrA)
	l.load(addrA)
	l.phone(addrA, "initramfs")
	boots := l.node(macA).Boots
	last := boots[len(boots)-1]
	if last.Session != s.ID || last.Stages[len(last.Stages)-1].Name != "initramfs" {
		t.Errorf("the last boot is %+v, want session %s up to initramfs", last, s.ID)
	}
}

// A machine whose root is none of our exports is up all the same.
func TestUserlandWithoutAnExport(t *testing.T) {
	l := newLab(t)
	l.ipxe(macA, addrA)
	l.load(addrA)
	l.phone(addrA, "userland")
	l.commit(2)
	l.wantState(macA, StateUp)
	l.wantLive(1)
	if s := l.boot(macA, false, "", ""); s.ID != "" {
		t.Errorf("the session is still open: %+v", s)
	}
	l.restart()
	l.wantState(macA, StateUp)
	l.pass(DefaultSessionTimeout + time.Second)
	l.wantLive()
}

// A late report of the system that is up does not end the session of the next boot.
func TestUserlandOfTheLastBootEndsNoSession(t *testing.T) {
	l := newLab(t)
	l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	s := l.ipxe(macA, addrA)
	l.phone(addrA, "userland")
	l.load(addrA)
	if got := l.system(macA, addrA); got != s {
		t.Errorf("the initramfs got %+v, want %+v", got, s)
	}
}

// Somebody plays the exchange of a machine that is up and is given another
// address: the machine's root can still come back from where it was.
func TestMachineIsKnownAtItsRootsAddress(t *testing.T) {
	l := newLab(t)
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.firmware(macA, addrB)
	l.ipxe(macA, addrB)
	if c, ok := l.ByAddr(addrA); !ok || c.MAC != macA || c.Session != s.ID || c.Generation != 1 {
		t.Errorf("behind the address of its root is %+v %v, want session %s", c, ok, s.ID)
	}
	if c, ok := l.ByAddr(addrB); !ok || c.MAC != macA || c.Generation != 2 {
		t.Errorf("behind the address given last is %+v %v", c, ok)
	}
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	if c, _ := l.ByAddr(addrA); c.Session != s.ID {
		t.Errorf("behind the address of its attached root is %+v, want session %s", c, s.ID)
	}
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.pass(DefaultRootTimeout + time.Minute)
	if c, ok := l.ByAddr(addrA); ok {
		t.Errorf("behind the address of a root that is over is %+v", c)
	}
}
