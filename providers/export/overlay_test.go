package export

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/export/cow"
	"github.com/dlreconcile/dlreconcile/schema"
)

const bootA, bootB = "+fb34709d-1dc9-49f4-885f-00000000000a", "+fb34709d-1dc9-49f4-885f-00000000000b"

func overlays(t *testing.T, r *rig) []plan.Observation {
	t.Helper()
	return observed(t, r, plan.SawOverlay)
}

func observed(t *testing.T, r *rig, k plan.ObservationKind) []plan.Observation {
	t.Helper()
	all, err := r.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []plan.Observation
	for _, o := range all {
		if o.Kind == k {
			out = append(out, o)
		}
	}
	return out
}

// The same boot again, with its old connection still open: that one is dropped,
// before GO is answered, and the data is there.
func TestReplacementConnection(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	name := nameOf("arch", a) + bootA
	first := r.mustDial(name)
	first.write(1000, "written by the first")
	second := r.mustDial(name)
	detach := r.events.wait(t, "detach", kind(provider.EventDetach)) // sent before the GO was answered
	if detach.Instance != bootA[1:] {
		t.Errorf("detached instance %q", detach.Instance)
	}
	first.wantDropped("replaced")
	second.wantText(1000, "written by the first", "on the second")
	if first.flags != second.flags || first.size != second.size {
		t.Errorf("told %#x %d, then %#x %d", first.flags, first.size, second.flags, second.size)
	}
	if second.flags&(1<<8) != 0 {
		t.Error("CAN_MULTI_CONN, and one connection replaces the other")
	}
}

// GO is not answered before the old connection is done with its last write.
func TestReplacementWaitsForTheOldConnection(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	dropped := make(chan struct{})
	old := &attachment{
		key:  cow.Key{Machine: "52-54-00-00-00-01", Instance: "boot-" + bootA[1:], Export: "arch"},
		drop: sync.OnceFunc(func() { close(dropped) }), done: make(chan struct{}),
	}
	r.mu.Lock()
	r.conns[old] = struct{}{}
	r.mu.Unlock()
	answered := make(chan error)
	go func() {
		_, err := r.dial(nameOf("arch", a) + bootA)
		answered <- err
	}()
	<-dropped
	select {
	case err := <-answered:
		t.Fatalf("GO was answered while the old connection writes: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	r.mu.Lock()
	delete(r.conns, old)
	r.mu.Unlock()
	close(old.done)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// A storm of reconnects of one boot: whoever comes last is served, all others are
// dropped, and nothing is stuck.
func TestReplacementStorm(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	name := nameOf("arch", a) + bootA
	errs := make(chan error)
	for range 20 {
		go func() {
			m, err := r.dial(name)
			if err == nil {
				m.do(1, 0, 4, []byte("abcd"))
			}
			errs <- err
		}()
	}
	for range 20 {
		if err := <-errs; errors.Is(err, errRefused) {
			t.Error(err)
		}
	}
	last := r.mustDial(name)
	last.write(0, "last")
	last.wantText(0, "last", "the last")
}

// Two connections that name no boot share one overlay, and both live.
func TestUnnamedConnectionsShare(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	one, two := r.mustDial(nameOf("arch", a)), r.mustDial(nameOf("arch", a))
	one.write(5, "one")
	two.wantText(5, "one", "on the other")
	two.flush()
	if one.flags&(1<<8) == 0 {
		t.Error("no CAN_MULTI_CONN")
	}
	if got := len(overlays(t, r)); got != 1 {
		t.Errorf("%d overlays", got)
	}
}

// A reboot: the new boot starts on the sealed bytes, the old one's connection is
// dropped, what it wrote is gone, and it never comes back.
func TestRebootDiscards(t *testing.T) {
	r := newRig(t)
	a, sealed := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	name := nameOf("arch", a)
	before := r.mustDial(name + bootA)
	before.write(1000, "before the reboot")
	before.flush()
	after := r.mustDial(name + bootB)
	after.wantText(1000, string(sealed[1000:1017]), "after the reboot")
	before.wantDropped("rebooted")
	r.events.wait(t, "detach", func(e provider.Event) bool {
		return e.Kind == provider.EventDetach && e.Instance == bootA[1:]
	})
	r.wantRefused(name+bootA, "a boot that is over")
	if e := r.events.wait(t, "denial", kind(provider.EventDenied)); !strings.Contains(e.Err, "booted again") || e.MAC != testMAC {
		t.Errorf("%+v", e)
	}
	after.wantText(1000, string(sealed[1000:1017]), "and still")
	r.restart()
	r.commit(r.input(1, a))
	r.wantRefused(name+bootA, "after a restart")
	r.mustDial(name + bootB)
	if got := overlays(t, r); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

// A machine whose next boot had another root, or one that is read-only, left its
// old overlay behind for good, and with it the base in the store.
func TestBootOnAnotherExportLeakedTheOverlay(t *testing.T) {
	deb := schema.Addr{Kind: "export", Type: "nbd", Name: "deb"}
	for name, next := range map[string]string{"copy-on-write": "deb", "read-only": "sealed"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			a, _ := r.artifact(1, 1<<20)
			in := r.input(1, a)
			second := *in.Want.Exports[0]
			second.Addr = deb
			in.Want.Exports = append(in.Want.Exports, &second)
			entry := *in.Want.Entries[0]
			entry.Addr.Name, entry.Root = "deb", deb
			in.Want.Entries = append(in.Want.Entries, &entry)
			in.Want.Bootloaders[0].Entries = append(in.Want.Bootloaders[0].Entries, entry.Addr)
			r.commit(in)
			old := r.mustDial(nameOf("arch", a) + bootA)
			old.write(0, "old")
			r.mustDial(nameOf(next, a)).read(0, 1) // a tool names no boot, and ends none
			r.mustDial(nameOf(next, a)+bootA).read(0, 1)
			old.wantText(0, "old", "in its own boot")

			fresh := r.mustDial(nameOf(next, a) + bootB)
			old.wantDropped("the machine booted something else")
			r.wantRefused(nameOf("arch", a)+bootA, "a boot that is over")
			for _, o := range overlays(t, r) {
				if o.Export == nameOf("arch", a) {
					t.Errorf("still there: %+v", o)
				}
			}
			fresh.read(0, 1)
			r.mustDial(nameOf("sealed", a) + bootA) // a straggler of the old boot
			fresh.read(0, 1)
			r.mustDial(nameOf(next, a)+bootB).read(0, 1)
		})
	}
}

// A tool that is used on a diskless machine beside its root must not cost it the
// root.
func TestToolBesideTheRoot(t *testing.T) {
	r := newRig(t)
	a, sealed := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	name := nameOf("arch", a)
	for _, session := range []string{"", "s1", "s2"} {
		r.clients.edit(loopback, func(c *provider.Client) { c.Session = session })
		root := r.mustDial(name + bootA)
		root.write(0, "root")
		tool := r.mustDial(name)
		tool.wantText(0, string(sealed[:4]), "the tool")
		tool.write(0, "tool")
		root.wantText(0, "root", "the root, session "+session)
		again := r.mustDial(name + bootA)
		again.wantText(0, "root", "the root again, session "+session)
		tool.wantText(0, "tool", "the tool beside it")
		tool.nc.Close()
		again.nc.Close()
	}
}

// A reboot leaves a tool that is at work where it was, and discards what a
// finished one wrote.
func TestRebootAndTools(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	name := nameOf("arch", a)
	session := func(s string) { r.clients.edit(loopback, func(c *provider.Client) { c.Session = s }) }
	session("s1")
	tool := r.mustDial(name)
	tool.write(0, "tool")
	session("s2")
	r.mustDial(name + bootB)
	tool.wantText(0, "tool", "at work")
	tool.nc.Close()
	r.events.wait(t, "detach", func(e provider.Event) bool { return e.Kind == provider.EventDetach && e.Instance == "" })
	r.mustDial(name+bootB).read(0, 1)
	if got := len(overlays(t, r)); got != 1 {
		t.Errorf("%d overlays, want that of the root", got)
	}
}

// Without names, the boot session tells one boot from the next.
func TestUnnamedBoots(t *testing.T) {
	r := newRig(t)
	a, sealed := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	name := nameOf("arch", a)
	session := func(s string) { r.clients.edit(loopback, func(c *provider.Client) { c.Session = s }) }

	session("one: of odd/characters")
	m := r.mustDial(name)
	m.write(0, "one")
	m.nc.Close()
	r.events.wait(t, "detach", kind(provider.EventDetach))
	m = r.mustDial(name)
	m.wantText(0, "one", "the same session")

	session("") // forgotten; nothing says that the machine was rebooted
	r.mustDial(name).wantText(0, "one", "no session")

	session("two")
	r.mustDial(name).wantText(0, string(sealed[:3]), "the next session")
	m.wantDropped("the former boot's connection")
	if got := overlays(t, r); len(got) != 1 {
		t.Errorf("%+v", got)
	}
}

// A machine that never booted from here attaches, and that is what begins its
// session: its next connection is the same boot all the same, over a restart too.
func TestSessionBegunByAttaching(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	r.events.onEvent(func(e provider.Event) {
		if e.Kind == provider.EventAttach {
			r.clients.edit(loopback, func(c *provider.Client) { c.Session = "begun" })
		}
	})
	m := r.mustDial(nameOf("arch", a))
	m.write(0, "first")
	r.mustDial(nameOf("arch", a)).wantText(0, "first", "second connection")
	r.restart()
	r.commit(r.input(1, a))
	r.mustDial(nameOf("arch", a)).wantText(0, "first", "after a restart")
}

// Nobody's boot: a new artifact starts anew.
func TestStaticOverlayFollowsTheArtifact(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	b, sealed := r.artifact(2, 1<<20)
	r.commit(r.input(1, a))
	m := r.mustDial("arch")
	m.write(0, "one")
	r.commit(r.input(2, b))
	r.wantRefused(nameOf("arch", b), "while the other is in use")
	m.nc.Close()
	r.events.wait(t, "detach", kind(provider.EventDetach))
	r.mustDial(nameOf("arch", b)).wantText(0, string(sealed[:3]), "the new artifact")
}

// Killed and started: the overlay is there, also when the generation that had the
// export is not, and only for the machine it belongs to.
func TestOverlaySurvivesARestart(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	b, sealed := r.artifact(2, 1<<20)
	r.commit(r.input(1, a))
	name := nameOf("arch", a) + bootA
	m := r.mustDial(name)
	m.write(70000, "it stays")

	r.restart()
	in := r.input(1, a)
	in.Offline = true
	r.commit(in)
	back := r.mustDial(name)
	back.wantText(70000, "it stays", "after a restart")
	if back.flags != m.flags || back.size != m.size {
		t.Errorf("told %#x %d, then %#x %d", m.flags, m.size, back.flags, back.size)
	}

	r.restart()
	r.commit(r.input(2, b))
	r.mustDial(name).wantText(70000, "it stays", "generation 1 is gone")
	r.mustDial("arch"+bootA).wantText(70000, "it stays", "by the alias")
	r.wantRefused(nameOf("arch", b)+bootA, "another artifact in the same boot")
	r.wantRefused(nameOf("arch", a)+bootB, "a new boot on what is gone")
	r.mustDial("arch"+bootB).wantText(70000, string(sealed[70000:70008]), "the next boot")

	r.clients.edit(loopback, func(c *provider.Client) { c.MAC[5]++ })
	r.wantRefused(name, "another machine")
}

// The mode of an export was edited while a machine has it as its root: that one
// keeps it writable until it reboots.
func TestModeEditedDuringABoot(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(1, a))
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.write(0, "mine")
	in := r.input(2, a)
	in.Want.Exports[0].Mode = schema.ReadOnly
	r.commit(in)
	r.retire()
	m.wantText(0, "mine", "on the open connection")
	back := r.mustDial(name + bootA)
	back.wantText(0, "mine", "on the next")
	back.write(0, "yes!")
	if back.flags != m.flags {
		t.Errorf("flags %#x, then %#x", m.flags, back.flags)
	}
	if next := r.mustDial(name + bootB); next.flags&2 == 0 {
		t.Error("the next boot is not read-only")
	}
}

func TestObserve(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.input(3, a))
	r.mustDial(nameOf("sealed", a))
	r.mustDial(nameOf("sealed", a)) // looks the same, and is said once
	m := r.mustDial(nameOf("arch", a) + bootA)
	m.write(0, "x")
	m.flush()
	conn := plan.Observation{
		Kind: plan.SawConnection, Host: hostWS01, MAC: testMAC.String(), Address: "127.0.0.1", Subnet: subnetLAN,
		Generation: 3, Image: imageArch, Export: nameOf("arch", a), Artifact: a.Root.Digest,
	}
	ro := conn
	ro.Export = nameOf("sealed", a)
	overlay := plan.Observation{
		Kind: plan.SawOverlay, Host: hostWS01, MAC: testMAC.String(),
		Generation: 3, Image: imageArch, Export: nameOf("arch", a), Artifact: a.Root.Digest,
	}
	check := func(when string, want ...plan.Observation) {
		t.Helper()
		got, err := r.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i].Kind == plan.SawOverlay {
				if got[i].Bytes < 4096 || got[i].Bytes > 64<<10 {
					t.Errorf("%s: %d bytes in the overlay", when, got[i].Bytes)
				}
				got[i].Bytes = 0
			}
		}
		if diff := diffOf(want, got); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	check("connected", conn, ro, overlay)
	r.restart()
	check("after a restart", overlay)
}
