package node

import (
	"fmt"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// attribute gives a file to the machine that boots from the address that it went
// to, also before that counts for anything else: see presentAt. The caller holds
// t.mu.
func (t *Tracker) attribute(ev *provider.Event) {
	m, b := t.bootingAt(ev.Addr, ev.At)
	if m == nil || m.mac == ev.MAC {
		return
	}
	ev.MAC, ev.Host, ev.Generation = m.mac, m.host, b.Generation
	if !m.subnet.IsZero() {
		ev.Subnet = m.subnet
	}
}

func (t *Tracker) fetched(m *machine, ev provider.Event) {
	b := m.booting
	if b == nil {
		return
	}
	if !ev.Asked.IsZero() && ev.Asked.Before(b.Opened) {
		return // of the boot before: the machine was reset while it came
	}
	name := string(ev.Role)
	if name == "" {
		name = "file"
	}
	what := fmt.Sprintf("%s, %s over %s", ev.Name, size(ev.Bytes), ev.Protocol)
	kernel := ev.Role == provider.AnswerKernel || ev.Role == provider.AnswerInitrd
	if !b.Acked && m.running != nil && m.running.Root.Addr == ev.Addr {
		switch {
		case !b.ByFile:
			return // the system that is up fetches something
		case !kernel && m.running.Root.Quiet.IsZero():
			// Perhaps it does, or it was reset and its connection is not missed
			// yet: what gets a kernel is a machine that boots.
			b.timeline.add(ev.At, name, what)
			if !b.Got {
				b.Got = true
				t.touch(m)
			}
			return
		}
	}
	b.Seen = ev.At
	if b.ByFile {
		t.progress(m, ev.Role, kernel)
	}
	t.succeed(m, ev.Addr)
	if r := m.running; r != nil && r != b && b.Acked && b.Addr == ev.Addr && !r.Root.Quiet.IsZero() {
		// Firmware got an address and fetched a file from there, and nothing is
		// connected: the machine has rebooted, and nobody comes back to that root.
		// Whoever plays all of this for a machine whose cable is out cannot be told
		// from it.
		t.setRunning(m, nil)
	}
	if !b.Fetched || b.IPXE && !b.IPXEFetched || ev.Tree != "" && b.Tree != ev.Tree {
		b.Acked, b.Fetched = true, true
		b.IPXEFetched = b.IPXEFetched || b.IPXE
		if ev.Tree != "" {
			b.Tree = ev.Tree
		}
		t.touch(m)
	}
	m.stage(ev.At, name, what)
}

// progress takes note of how far a boot got of which only the files are seen. The
// caller holds t.mu.
func (t *Tracker) progress(m *machine, role provider.AnswerKind, kernel bool) {
	b, before := m.booting, *m.booting
	b.Acked, b.Got = true, true
	b.Script = b.Script || role == provider.AnswerScript
	b.Kernel = b.Kernel || kernel
	if b.Acked != before.Acked || b.Got != before.Got || b.Script != before.Script || b.Kernel != before.Kernel {
		t.touch(m)
	}
	t.setAddr(m, b.Addr)
}
