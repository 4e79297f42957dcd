package export

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

const bootC, bootD = "+fb34709d-1dc9-49f4-885f-00000000000c", "+fb34709d-1dc9-49f4-885f-00000000000d"

// keeping is a generation whose copy-on-write export keeps so.
func (r *rig) keeping(gen uint64, a provider.Artifact, keep schema.Keep) provider.Input {
	in := r.input(gen, a)
	in.Want.Exports[0].Keep = keep
	return in
}

// wantDenied fails unless a name is refused for a reason with those words.
func (r *rig) wantDenied(name, words string) {
	r.t.Helper()
	r.wantRefused(name, words)
	e := r.events.wait(r.t, "denial", kind(provider.EventDenied))
	if !strings.Contains(e.Err, words) {
		r.t.Errorf("%s was denied because %q, want %q", name, e.Err, words)
	}
}

// wantData fails unless so many overlays have files of data, once all is swept.
func (r *rig) wantData(n int, when string) {
	r.t.Helper()
	if err := r.overlays.Sweep(); err != nil {
		r.t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(r.state, "overlays", "*", "*", "*", "data"))
	if err != nil {
		r.t.Fatal(err)
	}
	if len(files) != n {
		r.t.Errorf("%s: %d overlays on disk, want %d: %q", when, len(files), n, files)
	}
}

// gone closes a connection, the only one, and waits until the server knows.
func (m *machine) gone(r *rig) {
	r.t.Helper()
	m.nc.Close()
	r.events.until(r.t, "end of the connection", func() bool { return r.Counts().Open == 0 })
}

// keep = "host": over boots and restarts of the daemon, for one boot at a time.
func TestKeepHost(t *testing.T) {
	r := newRig(t)
	one, sealed := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, one, schema.KeepHost))
	name := nameOf("arch", one)
	a := r.mustDial(name + bootA)
	a.write(1000, "of the first boot")
	again := r.mustDial(name + bootA)
	a.wantDropped("reconnected")
	again.wantText(1000, "of the first boot", "reconnected")
	b := r.mustDial(name + bootB)
	again.wantDropped("booted")
	b.wantText(1000, "of the first boot", "the next boot")
	b.write(5000, "of the second")
	r.wantDenied(name+bootA, "booted again")
	r.wantDenied(name, "the machine has this disk attached in a boot of its own, and a second writer")

	r.restart()
	r.commit(r.keeping(1, one, schema.KeepHost))
	r.wantDenied(name+bootA, "booted again")
	b = r.mustDial(name + bootB)
	b.wantText(1000, "of the first boot", "after a restart")
	b.wantText(5000, "of the second", "after a restart")

	// A boot from elsewhere is none from here.
	c := r.mustDial(nameOf("sealed", one) + bootC)
	c.read(0, 1) // it counts as attached
	c.nc.Close()
	d := r.mustDial(name + bootD)
	d.wantText(5000, "of the second", "after a boot of another export")
	r.wantDenied(name+bootB, "booted again")
	r.wantDenied(nameOf("sealed", one)+bootB+"!", "boot instance")

	// What a late boot attaches to read-only ends nobody's.
	late := r.mustDial(nameOf("sealed", one) + bootB)
	late.read(0, 1)
	late.nc.Close()
	d.wantText(5000, "of the second", "beside a former boot")

	// Another artifact: who runs goes on; the next boot begins anew, and the one after
	// it that goes back does too.
	two, sealedTwo := r.artifact(2, 1<<20)
	r.commit(r.keeping(2, two, schema.KeepHost))
	d = r.mustDial(name + bootD)
	d.wantText(5000, "of the second", "on the old artifact")
	r.wantDenied(nameOf("arch", two)+bootD, "another artifact")
	e := r.mustDial(nameOf("arch", two) + bootA[:len(bootA)-1] + "e")
	d.wantDropped("booted")
	e.wantText(5000, string(sealedTwo[5000:5020]), "on the new artifact")
	e.write(5000, "of the new one")
	r.wantDenied(name+bootD, "was discarded")
	r.wantData(1, "one was discarded")
	if got := overlays(t, r); len(got) != 1 || got[0].Artifact != two.Root.Digest {
		t.Errorf("%+v", got)
	}
	f := r.mustDial(name + bootA[:len(bootA)-1] + "f")
	f.wantText(1000, string(sealed[1000:1020]), "back on the old artifact")
	f.write(0, "kept")
	r.wantData(1, "two were discarded")

	// Once no generation has the export any more, its overlays go, but not while they
	// are attached, nor while a generation that counts cannot be served.
	in := r.input(3, two)
	in.Want.Exports, in.Want.Entries = in.Want.Exports[1:], in.Want.Entries[1:]
	in.Want.Hosts, in.Want.Bootloaders[0].Entries = nil, []schema.Addr{entryRO}
	r.commit(in)
	r.retire()
	r.wantData(1, "attached")
	f.gone(r)
	r.retire(7)
	r.wantData(1, "generation 7 is not served")
	r.retire()
	r.wantData(0, "the export is gone")
}

// Without a name of its boot a machine is told by its session; tools beside it share.
func TestKeepHostUnnamed(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepHost))
	name := nameOf("arch", a)
	r.clients.edit(loopback, func(c *provider.Client) { c.Session = "s1" })
	one, two := r.mustDial(name), r.mustDial(name)
	one.write(0, "one")
	two.wantText(0, "one", "beside it")
	if one.flags&(1<<8) == 0 {
		t.Error("no CAN_MULTI_CONN")
	}
	r.clients.edit(loopback, func(c *provider.Client) { c.Session = "s2" })
	three := r.mustDial(name)
	one.wantDropped("booted")
	two.wantDropped("booted")
	three.wantText(0, "one", "the next session")
	r.clients.edit(loopback, func(c *provider.Client) { c.Session = "" })
	three.gone(r)
	r.mustDial(name).wantText(0, "one", "of no session that is known")
	r.wantData(1, "all the same disk")
}

// keep = "connection": gone with the connection, and a boot that wrote stays out.
func TestKeepConnection(t *testing.T) {
	r := newRig(t)
	a, sealed := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepConnection))
	name := nameOf("arch", a)
	m := r.mustDial(name + bootA)
	m.wantText(0, string(sealed[:10]), "the first")
	m = r.mustDial(name + bootA) // takes the former one's place
	r.events.wait(t, "detach", kind(provider.EventDetach))
	m.write(1000, "written")
	m.flush()
	m.wantText(1000, "written", "in the connection")
	r.wantData(1, "attached")
	m.gone(r)
	r.wantDenied(name+bootA, `keep = "connection"`)
	r.wantData(0, "the connection is over")
	m = r.mustDial(name + bootB)
	m.wantText(1000, string(sealed[1000:1007]), "the next boot")

	// The daemon ends: the same for who wrote, and no harm to who did not.
	r.restart()
	r.commit(r.keeping(1, a, schema.KeepConnection))
	r.wantData(0, "restarted")
	r.wantDenied(name+bootA, `keep = "connection"`)
	m = r.mustDial(name + bootB)
	m.write(0, "x")
	r.events.wait(t, "detach", kind(provider.EventDetach)) // of the process before
	// A reconnection while the old one is alive is one all the same.
	r.wantDenied(name+bootB, `keep = "connection"`)
	m.wantDropped("replaced")
	r.wantData(0, "all are over")

	// Tools without a boot have a disk each, each time.
	r.clients.edit(loopback, func(c *provider.Client) { c.Session = "" })
	one, two := r.mustDial(name), r.mustDial(name)
	one.write(0, "one")
	two.wantText(0, string(sealed[:3]), "another connection")
	if one.flags&(1<<8) != 0 {
		t.Error("CAN_MULTI_CONN, and each connection has a disk of its own")
	}
	two.nc.Close()
	r.wantDenied(name, "is not over")
}

// A client that names no boot (nbd-client -persist, say) wrote, lost its connection, and
// got a fresh disk under the file system that it had mounted.
func TestKeepConnectionUnnamed(t *testing.T) {
	for _, begins := range []string{"", "begun by attaching", "its boot"} {
		t.Run(begins, func(t *testing.T) {
			r := newRig(t)
			a, sealed := r.artifact(1, 1<<20)
			commit := func() { r.commit(r.keeping(1, a, schema.KeepConnection)) }
			commit()
			name := nameOf("arch", a)
			session := func(s string) { r.clients.edit(loopback, func(c *provider.Client) { c.Session = s }) }
			switch begins {
			case "":
			case "its boot":
				session(begins)
			default:
				r.events.onEvent(func(e provider.Event) {
					if e.Kind == provider.EventAttach {
						session(begins)
					}
				})
			}
			for range 2 { // who only reads may come again
				m := r.mustDial(name)
				m.read(0, 10)
				m.gone(r)
			}
			m := r.mustDial(name)
			m.write(0, "written")
			r.wantDenied(name, "is not over") // the server does not know yet that it lost it
			m.gone(r)
			r.events.onEvent(nil)
			const why = `keep = "connection"`
			r.wantDenied(name, why)
			session("") // forgotten
			r.wantDenied(name, why)
			r.restart()
			commit()
			r.wantDenied(name, why)
			r.wantData(0, "the connection is over")
			for range 3 { // for as long as it asks
				r.ahead.Add(int64(goneAfter))
				r.retire()
				r.wantData(0, "the connection is over")
				r.wantDenied(name, why)
			}
			if list := r.Overlays(ofTestMachine); len(list) != 1 || !list[0].Refused {
				t.Errorf("%+v", list)
			}
			session("the next boot")
			m = r.mustDial(name)
			m.wantText(0, string(sealed[:7]), "it was seen booting")
			session("")
			m.write(0, "again")
			m.gone(r)
			r.wantDenied(name, why)
			if _, err := r.ResetOverlays(t.Context(), ofTestMachine, false); err != nil {
				t.Fatal(err)
			}
			m = r.mustDial(name)
			m.wantText(0, string(sealed[:7]), "the operator says that it was switched off")
			m.write(0, "again")
			m.gone(r)
			m = r.mustDial(name + bootA)
			m.wantText(0, string(sealed[:7]), "a boot that says which it is")
			m.gone(r)
			m = r.mustDial(name)
			m.write(0, "again")
			m.gone(r)
			r.retire()
			r.ahead.Add(int64(3 * goneAfter))
			r.retire()
			r.wantData(0, "the connection is over")
			r.mustDial(name).wantText(0, string(sealed[:7]), "it has not asked for months")
		})
	}
}

// What a daemon that was killed left of a connection goes at the next start; whether
// anything had been written is seen in it.
func TestKilledDaemonLeftAConnection(t *testing.T) {
	r := newRig(t)
	a, _ := r.artifact(1, 1<<20)
	r.commit(r.keeping(1, a, schema.KeepConnection))
	name := nameOf("arch", a)
	wrote, read := r.mustDial(name+bootA), (*machine)(nil)
	wrote.write(0, "x")
	other := netip.MustParseAddr("127.0.0.2")
	r.clients.set(other, provider.Client{MAC: provider.MAC{2}, Subnet: subnetLAN})
	read, err := r.dialFrom(other, name+bootB)
	if err != nil {
		t.Fatal(err)
	}
	read.read(0, 10)
	// As kill -9 leaves it: a copy of the folder while both are attached.
	crashed := &rig{t: t, state: t.TempDir(), addr: freePort(t), clients: r.clients, events: &journal{changed: make(chan struct{})}}
	if err := os.CopyFS(crashed.state, os.DirFS(r.state)); err != nil {
		t.Fatal(err)
	}
	crashed.start()
	t.Cleanup(func() { crashed.stop() })
	crashed.commit(crashed.keeping(1, a, schema.KeepConnection))
	crashed.wantData(0, "started")
	crashed.wantDenied(name+bootA, `keep = "connection"`)
	if _, err := crashed.dialFrom(other, name+bootB); err != nil {
		t.Error(err)
	}
}

// mode = "read-write": one working copy for one host, whatever card it has.
func TestReadWrite(t *testing.T) {
	r := newRig(t)
	one, _ := r.artifact(1, 1<<20)
	writable := func(gen uint64, a provider.Artifact) provider.Input {
		in := r.input(gen, a)
		in.Want.Exports[0].Mode, in.Want.Exports[0].Keep = schema.ReadWrite, ""
		in.Want.Exports[0].Allow = []schema.Addr{hostWS01}
		return in
	}
	r.commit(writable(1, one))
	name := nameOf("arch", one)
	m := r.mustDial(name + bootA)
	m.write(0, "written")
	m.flush()
	other, stranger := netip.MustParseAddr("127.0.0.2"), provider.MAC{2}
	r.clients.set(other, provider.Client{MAC: stranger, Subnet: subnetLAN})
	if _, err := r.dialFrom(other, name+bootB); err == nil {
		t.Error("another machine got it")
	}
	r.restart()
	r.commit(writable(1, one))
	r.mustDial(name+bootC).wantText(0, "written", "the next boot, after a restart")
	if got := observed(t, r, plan.SawOverlay); len(got) != 1 || got[0].MAC != testMAC.String() || got[0].Host != hostWS01 {
		t.Errorf("%+v", got)
	}

	// The host has another card.
	in := writable(2, one)
	in.Want.Hosts[0].MAC = stranger.String()
	r.commit(in)
	m, err := r.dialFrom(other, name+bootD)
	if err != nil {
		t.Fatal(err)
	}
	m.wantText(0, "written", "another card")
	if got := observed(t, r, plan.SawOverlay); len(got) != 1 || got[0].MAC != stranger.String() {
		t.Errorf("%+v", got)
	}
	r.wantRefused(name+bootC, "its former machine")

	// Another artifact: a new copy, at the host's next boot.
	two, sealed := r.artifact(2, 1<<20)
	in = writable(3, two)
	in.Want.Hosts[0].MAC = stranger.String()
	r.commit(in)
	m, err = r.dialFrom(other, nameOf("arch", two)+bootB)
	if err != nil {
		t.Fatal(err)
	}
	m.wantText(0, string(sealed[:7]), "another artifact")
	r.wantData(1, "replaced")
}

// lines is what was logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// The limit is one machine's, follows the commit, and is the same after a restart.
func TestLimit(t *testing.T) {
	r := newRig(t)
	log := &lines{}
	r.stop()
	r.logTo = slog.New(slog.NewTextHandler(log, nil))
	r.start()
	a, _ := r.artifact(1, 8<<20)
	limited := func(gen uint64, limit int64) provider.Input {
		in := r.input(gen, a)
		in.Want.Exports[0].Limit = limit
		return in
	}
	other := netip.MustParseAddr("127.0.0.2")
	r.clients.set(other, provider.Client{MAC: provider.MAC{2}, Subnet: subnetLAN})
	r.commit(limited(1, 1<<20))
	name, block := nameOf("arch", a), make([]byte, 64<<10)
	m := r.mustDial(name + bootA)
	fill := func(m *machine, from, to int) error {
		for at := from; at < to; at += len(block) {
			if _, err := m.do(1, at, len(block), block); err != nil {
				return err
			}
		}
		return nil
	}
	if err := fill(m, 0, 1<<20); err != nil {
		t.Fatal(err)
	}
	e := r.events.wait(t, "warning", kind(provider.EventFilling))
	if e.MAC != testMAC || !strings.Contains(e.Err, " KiB of the 1 MiB") {
		t.Errorf("%+v", e)
	}
	for range 2 {
		if err := fill(m, 1<<20, 2<<20); err == nil || err.Error() != "errno 28" {
			t.Fatalf("%v, want ENOSPC", err)
		}
	}
	e = r.events.wait(t, "refusal", kind(provider.EventFull))
	if e.MAC != testMAC || e.Name != name || e.Bytes != 1<<20 {
		t.Errorf("%+v", e)
	}
	if got := log.String(); strings.Contains(got, "level=ERROR") || strings.Count(got, "level=WARN") != 1 ||
		!strings.Contains(got, "host="+strconv.Quote(hostWS01.String())) || !strings.Contains(got, "limit=1048576") {
		t.Errorf("a full disk is no error of this server's, and is told once: %s", got)
	}
	if err := fill(m, 0, 1<<20); err != nil {
		t.Errorf("what it holds: %v", err)
	}
	beside, err := r.dialFrom(other, name+bootB)
	if err != nil {
		t.Fatal(err)
	}
	if err := fill(beside, 4<<20, 5<<20); err != nil {
		t.Errorf("another machine: %v", err)
	}
	if _, err := m.do(4, 0, 128<<10, nil); err != nil { // TRIM
		t.Fatal(err)
	}
	if err := fill(m, 2<<20, 2<<20+128<<10); err != nil {
		t.Errorf("trimmed: %v", err)
	}
	r.restart()
	r.commit(limited(1, 1<<20))
	m = r.mustDial(name + bootA)
	if err := fill(m, 5<<20, 6<<20); err == nil || err.Error() != "errno 28" {
		t.Errorf("after a restart: %v, want ENOSPC", err)
	}
	r.commit(limited(2, 2<<20))
	if err := fill(m, 5<<20, 6<<20); err != nil {
		t.Errorf("a commit gave it more: %v", err)
	}
	if err := fill(m, 6<<20, 7<<20); err == nil {
		t.Error("more than the commit gave")
	}
	r.commit(limited(3, 0))
	if err := fill(m, 6<<20, 8<<20); err != nil {
		t.Errorf("a commit took the limit away: %v", err)
	}
}
