package node

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// visit is what is shown of a machine that a lease or a reservation says is there, that
// uses an export, and that never booted from here. It is no boot: nothing is answered by
// it, no generation and no address is kept for it, and it is not written down.
type visit struct {
	host     schema.Addr
	subnet   schema.Addr
	addr     netip.Addr // that it came from last
	export   string     // wire name
	artifact string
	image    schema.Addr
	conns    int // open connections
	timeline *Timeline
}

// sight gives a machine of which nothing is known a record as a visitor, if what it did
// says that it is there; nil: it did not, or there is no room. The caller holds t.mu.
func (t *Tracker) sight(ev provider.Event) *machine {
	switch ev.Kind {
	case provider.EventAttach, provider.EventDenied, provider.EventFilling, provider.EventFull:
	default:
		return nil
	}
	if _, nameless := ev.MAC.Address(); nameless || ev.MAC.IsZero() {
		return nil
	}
	m := t.admit(ev.MAC, ev.At)
	if m != nil {
		m.visit = &visit{}
		m.visit.begin(ev)
	}
	return m
}

func (v *visit) begin(ev provider.Event) {
	v.timeline = &Timeline{Generation: ev.Generation, Started: ev.At.UTC(), Stages: []Stage{}}
}

// visited takes note of what a visitor does. quiet is for how long it did nothing before.
// The caller holds t.mu.
func (t *Tracker) visited(m *machine, ev provider.Event, quiet time.Duration) {
	v := m.visit
	if ev.Kind == provider.EventAttach && v.conns == 0 && quiet > t.cfg.SessionTimeout {
		v.begin(ev)
	}
	if !ev.Host.IsZero() {
		v.host = ev.Host
	}
	if !ev.Subnet.IsZero() {
		v.subnet = ev.Subnet
	}
	switch ev.Kind {
	case provider.EventAttach:
		v.export, _ = exportInstance(ev)
		v.artifact, v.image, v.addr = ev.Artifact, ev.Image, ev.Addr
		v.conns++
		v.timeline.add(ev.At, stageAttach, v.export)
	case provider.EventDetach:
		v.conns = max(0, v.conns-1)
	case provider.EventDenied:
		if ev.Addr.IsValid() {
			v.addr = ev.Addr
		}
		v.timeline.add(ev.At, stageDenied, fmt.Sprintf("%s: %s", ev.Name, ev.Err))
	case provider.EventFilling, provider.EventFull:
		v.timeline.add(ev.At, stageDisk, fmt.Sprintf("%s: %s", ev.Name, ev.Err))
	}
}

// show puts into n what is known of a visitor.
func (v *visit) show(n *Node) {
	n.Host, n.Subnet, n.Address = v.host, v.subnet, v.addr
	n.Export, n.Artifact, n.Image, n.Connected = v.export, v.artifact, v.image, v.conns > 0
	if v.conns > 0 {
		n.State = StateUp
	}
}
