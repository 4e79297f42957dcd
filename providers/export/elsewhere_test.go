package export

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Whoever gets himself another address in the name of a machine that is up could
// attach as a new boot of it, which dropped its root and retired what it had written.
func TestAnotherAddressDoesNotEndABoot(t *testing.T) {
	r := newRig(t)
	a, sealed := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	elsewhere := netip.MustParseAddr("127.0.0.2")
	c, _ := r.clients.ByAddr(loopback)
	r.clients.set(elsewhere, c)
	name := nameOf("arch", a)

	root := r.mustDial(name + bootA)
	root.write(0, "root")
	for _, forged := range []string{name + bootB, name, nameOf("sealed", a) + bootB} {
		if _, err := r.dialFrom(elsewhere, forged); !errors.Is(err, errRefused) {
			t.Errorf("%s from elsewhere: %v, want a refusal", forged, err)
		}
		if e := r.events.wait(t, "denial", kind(provider.EventDenied)); !strings.Contains(e.Err, "attached from 127.0.0.1") || e.Addr != elsewhere {
			t.Errorf("%+v", e)
		}
	}
	root.wantText(0, "root", "after the attempts")

	// The same boot may come from another address.
	moved, err := r.dialFrom(elsewhere, name+bootA)
	if err != nil {
		t.Fatal(err)
	}
	root.wantDropped("replaced")
	moved.wantText(0, "root", "from elsewhere")
	r.events.wait(t, "detach", kind(provider.EventDetach))

	// So may the next boot, once the old connection is over.
	moved.nc.Close()
	r.events.wait(t, "detach", kind(provider.EventDetach))
	r.mustDial(name+bootB).wantText(0, string(sealed[:4]), "the next boot")
	r.wantRefused(name+bootA, "a boot that is over")
}

// The root of the former boot is read-only: it has no overlay, and is in use all the
// same.
func TestAnotherAddressDoesNotEndAReadOnlyBoot(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	elsewhere := netip.MustParseAddr("127.0.0.2")
	c, _ := r.clients.ByAddr(loopback)
	r.clients.set(elsewhere, c)
	root := r.mustDial(nameOf("sealed", a) + bootA)
	if _, err := r.dialFrom(elsewhere, nameOf("arch", a)+bootB); !errors.Is(err, errRefused) {
		t.Errorf("from elsewhere: %v, want a refusal", err)
	}
	root.read(0, 1)
	c.MAC[5]++ // another machine is none of its business
	r.clients.set(elsewhere, c)
	if _, err := r.dialFrom(elsewhere, nameOf("arch", a)+bootB); err != nil {
		t.Error(err)
	}
	r.mustDial(nameOf("arch", a) + bootB) // rebooted at the same address
}
