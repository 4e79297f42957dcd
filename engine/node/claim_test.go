package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// An acknowledgement in the name of a machine that is up, for another address, leaves
// it where its root is connected.
func TestForgedAddressDoesNotMoveAMachineThatIsUp(t *testing.T) {
	l := newLab(t)
	s := l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
	l.commit(2)
	l.take(macA, addrB, "", "")
	fake := l.firmware(macA, addrB)
	l.take(macA, addrB, "PXEClient", "")
	l.take(macA, addrB, "", "")
	if n := l.node(macA); n.Address != addrA || !l.Holds(addrA, macB) {
		t.Errorf("node %+v, want it at %s", n, addrA)
	}
	if c, ok := l.ByAddr(addrA); !ok || c.MAC != macA || c.Session != s.ID {
		t.Errorf("behind the address of its root is %+v, want session %s", c, s.ID)
	}
	if c, ok := l.ByAddr(addrB); !ok || c.Session != fake.ID {
		t.Errorf("behind the other address is %+v, want session %s", c, fake.ID)
	}
	l.pass(DefaultSessionTimeout + time.Minute)
	if c, ok := l.ByAddr(addrB); ok {
		t.Errorf("behind the other address is %+v when the session is over", c)
	}
	if len(l.claims) != 0 {
		t.Errorf("claims %v are left", l.claims)
	}
	l.wantState(macA, StateUp)
	l.wantLive(1)
}

// A machine that was rebooted, and got another address, boots to userland there
// although its old connection is not missed yet; a restart of the daemon on the way
// included.
func TestRebootAtAnotherAddress(t *testing.T) {
	for name, between := range map[string]func(*lab){"": func(*lab) {}, "restart": (*lab).restart} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.up(macA, addrA, "aaaaaaaaaaaa", "boot-1")
			l.commit(2)
			s := l.ipxe(macA, addrB)
			want := provider.Client{MAC: macA, Host: ws01, Subnet: lan, Session: s.ID, Began: l.began(s.ID), Generation: 2}
			behind := func(when string) {
				t.Helper()
				if c, ok := l.ByAddr(addrB); !ok || c != want {
					t.Errorf("%s, behind its address is %+v, want %+v", when, c, want)
				}
			}
			behind("acknowledged")
			l.wantSame("its script", l.alias(addrB, provider.AnswerScript, "boot.ipxe"), want)
			between(l)
			behind("with its script")
			l.load(addrB)
			l.system(macA, addrB)
			l.phone(addrB, "initramfs")
			if name == "" {
				l.wantLive(1, 2)
				l.detach(addrA, "aaaaaaaaaaaa", "boot-1") // the keepalive failed
			}
			behind("in its initramfs")
			l.attach(addrB, "bbbbbbbbbbbb", "boot-2", 2)
			l.phone(addrB, "userland")
			behind("up")
			l.wantState(macA, StateUp)
			l.wantLive(2)
			if n := l.node(macA); n.Address != addrB || n.Session != s.ID {
				t.Errorf("node %+v, want session %s at %s", n, s.ID, addrB)
			}
			if c, ok := l.ByAddr(addrA); ok {
				t.Errorf("behind its old address is %+v", c)
			}
			if len(l.claims) != 0 {
				t.Errorf("claims %v are left", l.claims)
			}
		})
	}
}

// A system that asks DHCP under another name than its initramfs gets a second address,
// and reports from there.
func TestSystemAtAnotherAddressThanItsRoot(t *testing.T) {
	l := newLab(t)
	s := l.ipxe(macA, addrA)
	l.load(addrA)
	l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
	l.take(macA, addrB, "", "")
	l.phone(addrB, "userland")
	l.wantState(macA, StateUp)
	l.phone(addrB, "shutdown")
	l.detach(addrA, "aaaaaaaaaaaa", "boot-1")
	l.wantState(macA, StateGone)
	if n := l.node(macA); n.Session != s.ID {
		t.Errorf("node %+v, want session %s", n, s.ID)
	}
	l.pass(DefaultSessionTimeout + time.Minute)
	l.wantLive()
	if len(l.claims) != 0 {
		t.Errorf("claims %v are left", l.claims)
	}
}

// Another machine says that it has the address of one that is in the middle of its
// boot: it has it once that is true.
func TestAddressOfABootIsNotTakenByWords(t *testing.T) {
	forge := map[string]func(*lab){
		"to another server": func(l *lab) { l.take(macB, addrA, "PXEClient", "") },
		"on port 4011":      func(l *lab) { l.ack(macB, addrA, "PXEClient", "") },
	}
	for name, forged := range forge {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, func(c *Config) {
				c.Lookup = func(netip.Addr) (provider.Client, bool) { return provider.Client{}, false }
			})
			behind := func(when string, mac provider.MAC, s provider.Session) {
				t.Helper()
				if c, ok := l.ByAddr(addrA); !ok || c.MAC != mac || c.Session != s.ID {
					t.Errorf("%s, behind the address is %+v, want session %s of %s", when, c, s.ID, mac)
				}
			}
			s := l.boot(macA, true, "PXEClient", "")
			other := l.boot(macB, true, "PXEClient", "")
			forged(l)
			l.take(macA, addrA, "PXEClient", "")
			behind("nothing fetched, the last word counts", macA, s)
			l.alias(addrA, provider.AnswerLoader, "undionly.kpxe")
			forged(l)
			behind("with its loader", macA, s)
			l.boot(macA, true, "PXEClient", "iPXE")
			l.take(macA, addrA, "PXEClient", "iPXE")
			l.alias(addrA, provider.AnswerScript, "boot.ipxe")
			l.load(addrA)
			behind("with its kernel", macA, s)

			// The newcomer really is there: firmware gets its program.
			l.alias(addrA, provider.AnswerLoader, "undionly.kpxe")
			behind("a loader was delivered", macB, other)
			if c := l.alias(addrA, provider.AnswerScript, "boot.ipxe"); c.MAC != macB {
				t.Errorf("the script went to %+v, want %s", c, macB)
			}
		})
	}
	t.Run("the session ends", func(t *testing.T) {
		l := newLab(t)
		l.boot(macA, true, "PXEClient", "")
		l.take(macA, addrA, "PXEClient", "")
		l.alias(addrA, provider.AnswerLoader, "undionly.kpxe")
		l.pass(DefaultSessionTimeout - time.Minute)
		s := l.boot(macB, true, "PXEClient", "")
		l.take(macB, addrA, "PXEClient", "")
		if c, _ := l.ByAddr(addrA); c.MAC != macA {
			t.Errorf("behind the address is %+v, want %s", c, macA)
		}
		l.pass(2 * time.Minute)
		if c, _ := l.ByAddr(addrA); c.Session != s.ID {
			t.Errorf("behind the address is %+v, want session %s", c, s.ID)
		}
	})
}

// A machine waits in a menu for longer than a session lives, where somebody else gives
// out the addresses. It had its root refused.
func TestMenuOutlastsTheSession(t *testing.T) {
	for name, begin := range map[string]func(*lab) provider.MAC{
		"known by address": func(l *lab) provider.MAC { return keyA },
		"known by MAC": func(l *lab) provider.MAC {
			l.boot(macA, true, "PXEClient", "")
			l.take(macA, addrA, "PXEClient", "")
			return macA
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			mac := begin(l)
			l.alias(addrA, provider.AnswerLoader, "core.0")
			l.alias(addrA, provider.AnswerScript, "grub/grub.cfg")
			l.pass(DefaultSessionTimeout + 5*time.Minute)
			l.wantLive()
			l.load(addrA)
			if mac == macA {
				l.take(macA, addrA, "", "")
			}
			if c, ok := l.ByAddr(addrA); !ok || c.MAC != mac || c.Session != "" {
				t.Errorf("behind the address is %+v %v, want %s without a session", c, ok, mac)
			}
			l.attach(addrA, "aaaaaaaaaaaa", "boot-1", 1)
			l.phone(addrA, "userland")
			l.wantState(mac, StateUp)
			l.wantLive(1)
		})
	}
	t.Run("for a week", func(t *testing.T) {
		l := newLab(t)
		l.alias(addrA, provider.AnswerLoader, "core.0")
		l.pass(DefaultRootTimeout + time.Minute)
		if c, ok := l.ByAddr(addrA); ok {
			t.Errorf("behind the address is %+v", c)
		}
	})
}
