package node

import (
	"fmt"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Event implements provider.Sink: it keeps the event for Events, and draws its
// conclusions about the machine. What must survive a crash is written by Run,
// within milliseconds.
func (t *Tracker) Event(ev provider.Event) {
	if ev.At.IsZero() {
		ev.At = t.now()
	}
	ev.Addr = ev.Addr.Unmap()
	if ev.MAC.IsZero() && ev.Addr.IsValid() {
		if c, ok := t.ByAddr(ev.Addr); ok {
			ev.MAC = c.MAC
			if ev.Host.IsZero() {
				ev.Host = c.Host
			}
			if ev.Subnet.IsZero() {
				ev.Subnet = c.Subnet
			}
		}
	}
	foreign := t.isForeign(ev)
	t.mu.Lock()
	if ev.Kind == provider.EventFile || ev.Kind == provider.EventFileError {
		if ev.Kind == provider.EventFile {
			t.handOver(&ev)
		}
		t.attribute(&ev)
	}
	m := t.machines[ev.MAC]
	if m == nil {
		m = t.sight(ev)
	}
	if m != nil && !(m.isNameless() && ev.Protocol == wireDHCP) {
		quiet := ev.At.Sub(m.seen)
		t.expire(m, ev.At)
		t.alive(m, ev.At)
		if m.visit != nil {
			t.visited(m, ev, quiet)
		} else {
			t.learn(m, ev, foreign)
		}
	}
	told := ev
	told.At = t.cfg.Wall(ev.At)
	t.ring.add(Logged{Event: told})
	t.mu.Unlock()
	t.poke()
}

// wireDHCP is Event.Protocol of what a DHCP server saw.
const wireDHCP = "dhcp"

// isForeign reports whether an address is acknowledged that is not ours to give: only
// the client says that it has it. The caller does not hold t.mu.
func (t *Tracker) isForeign(ev provider.Event) bool {
	switch {
	case ev.Kind == provider.EventTaken:
		return true
	case ev.Kind != provider.EventAck || t.cfg.Lookup == nil || !ev.Addr.IsValid():
		return false
	}
	c, ok := t.lookup(ev.Addr) // a lease is on disk before it is acknowledged
	return !ok || c.MAC != ev.MAC
}

// learn draws the conclusions. foreign is what isForeign says. The caller holds t.mu.
func (t *Tracker) learn(m *machine, ev provider.Event, foreign bool) {
	t.heard(m, ev)
	if m.isNameless() && m.subnet != ev.Subnet && !ev.Subnet.IsZero() {
		m.subnet = ev.Subnet // no acknowledgement says it
		t.touch(m)
	}
	switch ev.Kind {
	case provider.EventAck, provider.EventTaken:
		t.acked(m, ev, foreign)
	case provider.EventNak:
		m.stage(ev.At, stageNak, "DHCP refused the address")
	case provider.EventFile:
		t.fetched(m, ev)
	case provider.EventFileError:
		m.stage(ev.At, "failed", fmt.Sprintf("%s: %s", ev.Name, ev.Err))
	case provider.EventAttach:
		t.attached(m, ev)
	case provider.EventDetach:
		t.detached(m, ev)
	case provider.EventDenied:
		m.note(ev.At, stageDenied, fmt.Sprintf("%s: %s", ev.Name, ev.Err))
	case provider.EventFilling, provider.EventFull:
		m.note(ev.At, stageDisk, fmt.Sprintf("%s: %s", ev.Name, ev.Err))
	case provider.EventPhone:
		t.phoned(m, ev)
	}
}

// heard remembers what architecture a machine's firmware says that it has. An iPXE
// that was loaded says what it was built for; one in the ROM is the firmware.
func (t *Tracker) heard(m *machine, ev provider.Event) {
	switch ev.Kind {
	case provider.EventDiscover, provider.EventOffer, provider.EventAck, provider.EventTaken:
	default:
		return
	}
	if !ev.HasArch || m.arch != nil && *m.arch == ev.Arch {
		return
	}
	switch v := voiceOf(ev.Vendor, ev.Class); {
	case v == voiceFirmware:
	case v == voiceIPXE && m.booting != nil && !m.booting.Firmware && !m.booting.ByFile:
	default:
		return
	}
	m.arch = new(ev.Arch)
	t.touch(m)
}

// acked takes note of an address that the machine was given, by us or, for
// EventTaken, by somebody else.
func (t *Tracker) acked(m *machine, ev provider.Event, foreign bool) {
	// The acknowledgement is what says which host block the machine has now.
	if m.host != ev.Host || m.subnet != ev.Subnet {
		m.host, m.subnet = ev.Host, ev.Subnet
		t.touch(m)
	}
	v := voiceOf(ev.Vendor, ev.Class)
	b := m.booting
	if b == nil || v == voiceOS && !b.Acked && m.running != nil {
		// The system that is up renews; a session that somebody opened beside
		// it is none of its business.
		t.move(m, ev.Addr, foreign, ev.At)
		return
	}
	if b.Addr != ev.Addr && ev.Addr.IsValid() {
		t.unclaim(m, b)
		b.Addr = ev.Addr
		t.touch(m)
	}
	t.move(m, ev.Addr, foreign, ev.At)
	if !b.Acked || v == voiceIPXE && !b.IPXE {
		b.Acked = true
		b.IPXE = b.IPXE || v == voiceIPXE
		t.touch(m)
	}
	if v != voiceOS || b.Root == nil {
		b.Seen = ev.At
		what := fmt.Sprintf("%s for %s", ev.Addr, v)
		if ev.Kind == provider.EventTaken {
			what += ", from another server"
		}
		m.stage(ev.At, stageDHCP, what)
	}
}

// attached ties a connection to a boot. The same instance as before is the same
// boot, come back after a restart of the daemon or a break in the network; another
// one is the boot whose session is open.
func (t *Tracker) attached(m *machine, ev provider.Event) {
	t.succeed(m, ev.Addr)
	name, inst := exportInstance(ev)
	b, r := m.booting, m.running
	if b != nil && !b.Acked && r != nil {
		b = nil // opened beside a machine that is up, by whoever sent a DISCOVER
	}
	if inst == "" { // a client that names no instance has its session as one
		switch {
		case b != nil:
			inst = b.ID
		case r != nil:
			inst = r.Root.Instance
		}
	}
	if r != nil && r.Root.Instance == inst {
		r.Root.conns++
		if !r.Root.Quiet.IsZero() {
			r.Root.Quiet = time.Time{}
			t.touch(m)
		}
		r.Seen = ev.At
		if r.Root.Addr != ev.Addr && ev.Addr.IsValid() {
			if t.roots[r.Root.Addr] == m {
				delete(t.roots, r.Root.Addr)
			}
			r.Root.Addr = ev.Addr
			t.roots[ev.Addr] = m
			t.touch(m)
		}
		t.setAddr(m, ev.Addr)
		return
	}
	if b == nil || b.Root != nil {
		// Its session is over, or was another boot's: all that is known of this
		// boot is that its root is attached.
		b = &boot{ID: newID(), Generation: ev.Generation, Opened: ev.At, Acked: true, Fetched: true, Addr: ev.Addr}
		t.startTimeline(m, b)
		t.close(m)
	}
	gen := ev.Generation
	if gen == 0 {
		gen = b.Generation
	}
	if gen == 0 {
		gen = t.cfg.Current()
	}
	if inst == "" {
		inst = b.ID
	}
	b.Seen = ev.At
	b.Root = &root{Instance: inst, Export: name, Artifact: ev.Artifact, Image: ev.Image, Generation: gen, Addr: ev.Addr, conns: 1}
	t.setRunning(m, b)
	t.setAddr(m, ev.Addr)
	b.timeline.add(ev.At, stageAttach, name)
}

// exportInstance takes apart the name that a client asked for, in case the server
// reported it as it was: "arch@3f2a9c1d7e08+<boot instance>".
func exportInstance(ev provider.Event) (name, instance string) {
	name, instance, _ = strings.Cut(ev.Name, "+")
	if ev.Instance != "" {
		instance = ev.Instance
	}
	return name, instance
}

func (t *Tracker) detached(m *machine, ev provider.Event) {
	r := m.running
	if r == nil {
		return
	}
	if _, inst := exportInstance(ev); inst != "" && inst != r.Root.Instance {
		return // the last of an earlier boot's connections
	}
	if r.Root.conns > 0 {
		r.Root.conns--
	}
	if r.Root.conns == 0 && r.Root.Quiet.IsZero() {
		r.Root.Quiet = ev.At
		t.touch(m)
	}
}

// Stages that a machine reports and that mean something here.
const (
	phoneInitramfs = "initramfs"
	phoneUserland  = "userland"
	phoneShutdown  = "shutdown"
)

func (t *Tracker) phoned(m *machine, ev provider.Event) {
	b := m.running
	if b == nil || ev.Name == phoneInitramfs {
		// Nothing is attached yet.
		if m.booting == nil {
			return
		}
		b = m.booting
	}
	b.Seen = ev.At
	b.timeline.add(ev.At, ev.Name, "")
	switch ev.Name {
	case phoneUserland:
		b.timeline.Complete = true
		if b.Root == nil {
			// Its root is none of our exports, yet it stands on this generation.
			b.Root = &root{Instance: b.ID, Generation: b.Generation, Addr: ev.Addr, Quiet: ev.At}
			t.setRunning(m, b)
		}
		if m.booting == b {
			t.close(m)
		}
		t.touch(m)
	case phoneShutdown:
		if b.Root != nil && !b.Root.Stopping {
			b.Root.Stopping = true
			t.touch(m)
		}
	}
}

// stage adds to the timeline of the open session, if there is one past its first
// acknowledgement or nothing else is going on.
func (m *machine) stage(at time.Time, name, what string) {
	if b := m.booting; b != nil && (b.Acked || m.running == nil) {
		b.timeline.add(at, name, what)
	}
}

// note adds to the timeline of the boot that is under way or running what has to do with
// the machine's disks: that goes on for as long as it is up.
func (m *machine) note(at time.Time, name, what string) {
	if b := m.shown(); b != nil {
		b.timeline.add(at, name, what)
	}
}
