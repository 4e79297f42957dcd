package export

import (
	"net/netip"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

// discardUnread discards the disk with that ID, and gives the time a push, so that sessions
// that begin from here on began later.
func (r *rig) discardUnread(id string) {
	r.t.Helper()
	list, err := r.ResetOverlays(r.t.Context(), provider.OverlayQuery{Unreadable: id}, true)
	if err != nil || len(list) != 1 || !list[0].Refused {
		r.t.Fatalf("%+v, %v", list, err)
	}
	r.ahead.Add(int64(time.Minute))
}

// The disk of a session that is over could not be read and was discarded, and the machine
// was kept from the disk that it ran on.
func TestDiscardingAnotherSessionsDisk(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepBoot)
	r.commit(in)
	name := nameOf("arch", a)
	r.booted("old")
	old := r.mustDial(name)
	old.write(0, "of the old one")
	old.gone(r)
	r.spoil(in)
	id := r.unread().ID
	began := r.now()
	r.booted("runs")
	m := r.mustDial(name)
	m.write(0, "sound")
	m.gone(r)
	r.discardUnread(id)
	m = r.mustDial(name)
	m.wantText(0, "sound", "its own disk")
	m.gone(r)
	// That of another session, which has none yet, and began before too.
	r.clients.edit(loopback, func(c *provider.Client) { c.Session, c.Began = "began before", began })
	m = r.mustDial(name)
	m.gone(r)
	r.clients.edit(loopback, func(c *provider.Client) { c.Session, c.Began = "old", began })
	r.wantDenied(name, "image reset")
}

// The session of a machine whose disk cannot be read is forgotten.
func TestUnreadableDiskOfAForgottenSession(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepBoot)
	r.commit(in)
	name := nameOf("arch", a)
	r.booted("old")
	m := r.mustDial(name)
	m.write(0, "written")
	m.gone(r)
	r.spoil(in)
	id := r.unread().ID
	r.booted("")
	r.wantDenied(name, "record cannot be read")
	r.discardUnread(id)
	r.wantDenied(name, "image reset")
}

// Any machine that booted ended the refusal of all that might have had the working copy,
// and one that ran on a disk of its own was kept from it.
func TestAnotherMachineGivesNothingBack(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.input(1, a)
	in.Want.Exports[0].Mode, in.Want.Exports[0].Keep = schema.ReadWrite, ""
	in.Want.Exports[0].Allow = []schema.Addr{hostWS01}
	r.commit(in)
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.gone(r)
	r.spoil(r.input(2, a)) // which says no more whose it is
	id := r.unread().ID
	other := netip.MustParseAddr("127.0.0.2")
	runs := provider.Client{MAC: provider.MAC{2}, Subnet: subnetLAN}
	r.clients.set(other, runs)
	m, err := r.dialFrom(other, name+bootD)
	if err != nil {
		t.Fatal(err)
	}
	m.write(0, "its own")
	m.gone(r)
	r.discardUnread(id)
	if m, err = r.dialFrom(other, name+bootD); err != nil {
		t.Fatalf("it ran all the time: %v", err)
	}
	m.wantText(0, "its own", "its own disk")
	m.gone(r)
	runs.Session, runs.Began = "its boot", r.now()
	r.clients.set(other, runs)
	if _, err := r.dialFrom(other, name+bootB); err != nil {
		t.Fatal(err)
	}
	r.events.wait(t, "attaching", func(e provider.Event) bool { return e.Kind == provider.EventAttach && e.Addr == other })
	in.Generation = 3
	r.commit(in)
	r.wantDenied(name+bootA, "image reset")
	r.booted("its next")
	r.mustDial(name + bootC)
}

// A client that named no boot was taken for one that the place of an unreadable disk names.
func TestUnnamedBesideAnUnreadableConnection(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	in := r.keeping(1, a, schema.KeepConnection)
	r.commit(in)
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.write(0, "written")
	left := r.unended()
	m.gone(r)
	left()
	r.spoil(in)
	r.unread()
	q := request{Name: "arch", Family: "arch"}
	c, _ := r.clients.ByAddr(loopback)
	if got, want := r.bootKey(q, c, loopback), (cow.Key{Machine: machineKey(c, loopback), Instance: staticInstance, Export: "arch"}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
