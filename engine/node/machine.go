package node

import (
	"container/list"
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// machine is what is known of one hardware address. Tracker.mu guards it.
type machine struct {
	mac    provider.MAC
	host   schema.Addr
	subnet schema.Addr
	addr   netip.Addr // last acknowledged, or attached from
	seen   time.Time  // last sign of life
	arch   *uint16    // client architecture that its firmware said last; nil: none

	visit *visit // it never booted from here; nil: it did, or sent what opens a boot

	booting *boot // the open session; nil when none is
	running *boot // the boot whose root is attached, or was within its timeout

	timelines []*Timeline // the oldest first; the last belongs to the newest boot

	elem *list.Element // in Tracker.loose, Tracker.guests or Tracker.held
	in   *list.List
}

// boot is one boot of one machine, from its first DISCOVER on, or, for one whose
// DHCP packets are not seen here, from the first file that it asked for.
type boot struct {
	ID         string    `json:"id"`
	Generation uint64    `json:"generation"` // the one that its exchanges are answered from
	Opened     time.Time `json:"opened"`
	Seen       time.Time `json:"seen"` // last sign of life
	// Began is when the machine was seen to boot, whatever restarts of ours there were
	// since; zero when nobody saw it.
	Began time.Time `json:"began,omitzero"`

	Firmware    bool       `json:"firmware,omitempty"`     // opened by firmware, not by an iPXE in the ROM
	Acked       bool       `json:"acked,omitempty"`        // its first DHCP exchange is over
	Fetched     bool       `json:"fetched,omitempty"`      // a file was delivered to it
	IPXE        bool       `json:"ipxe,omitempty"`         // an iPXE got its acknowledgement
	IPXEFetched bool       `json:"ipxe_fetched,omitempty"` // and fetched a file after that
	Addr        netip.Addr `json:"addr,omitzero"`          // of the last acknowledgement
	Tree        string     `json:"tree,omitempty"`
	ByFile      bool       `json:"by_file,omitempty"` // opened by a file that was asked for
	Got         bool       `json:"got,omitempty"`     // and a file was delivered since
	Script      bool       `json:"script,omitempty"`  // what a boot program reads was asked for
	Kernel      bool       `json:"kernel,omitempty"`  // a kernel or initrd was delivered

	Root *root `json:"root,omitempty"` // nil until it is attached

	timeline *Timeline
	durable  bool      // the disk knows the session
	loaded   time.Time // when it was read from disk; zero: it was not
}

// root is an attached root.
type root struct {
	Instance   string      `json:"instance"` // tells a reconnection from another boot
	Export     string      `json:"export,omitempty"`
	Artifact   string      `json:"artifact,omitempty"`
	Image      schema.Addr `json:"image,omitzero"`
	Generation uint64      `json:"generation"` // the one that serves it
	Addr       netip.Addr  `json:"addr,omitzero"`
	Stopping   bool        `json:"stopping,omitempty"` // the machine said that it shuts down

	// Quiet is since when there is no open connection; zero while there is one.
	Quiet time.Time `json:"quiet,omitzero"`

	conns int // open connections
}

// newID gives a unique name for a boot: 26 letters and digits, at home in a file
// name.
func newID() string { return rand.Text() }

// idle reports whether the session has had no sign of life for the timeout. A
// session that does not get on does not live from repetitions: else whoever repeats
// a DISCOVER, or loads a boot program that does not work, holds a generation for
// ever.
func (b *boot) idle(now time.Time, timeout time.Duration) bool {
	since := b.Seen
	if !b.isUnderWay() {
		since = b.Opened
	}
	return now.Sub(since) > timeout
}

// isUnderWay reports whether the session got past what a machine does again and
// again that cannot boot: its first DHCP exchange, or, where nobody saw that, the
// time before its kernel.
func (b *boot) isUnderWay() bool {
	if b.ByFile {
		return b.hasKernel()
	}
	return b.Acked
}

// hasKernel reports whether the boot got as far as its kernel.
func (b *boot) hasKernel() bool { return b.Kernel || b.Root != nil }

// silent reports whether the root has been detached, and the machine silent, for
// the timeout, the time that the daemon was down not counted.
func (b *boot) silent(now time.Time, timeout time.Duration) bool {
	return b.detached(now) > timeout && now.Sub(b.loaded) > timeout
}

// detached is for how long the root has been detached and the machine silent; 0
// while it is attached.
func (b *boot) detached(now time.Time) time.Duration {
	since := b.Root.Quiet
	if since.IsZero() {
		return 0
	}
	if b.Seen.After(since) {
		since = b.Seen
	}
	return now.Sub(since)
}

// over reports whether the root need not be kept for its machine any longer.
func (b *boot) over(now time.Time, cfg *Config) bool {
	if !b.silent(now, cfg.SessionTimeout) {
		return false
	}
	if b.Root.Stopping || b.Root.Export == "" {
		return true // nobody comes back to it
	}
	return b.detached(now) > cfg.RootTimeout
}

// The states of a machine, as in plan.Observation.State.
const (
	StateBooting = "booting"
	StateUp      = "up"
	StateGone    = "gone"
)

// state says what the machine does. A session that is not past its first DHCP
// exchange does not make a machine that is up a booting one. A machine whose root
// is detached, and that was silent for the timeout, is shown as gone, although its
// root may be kept for much longer.
func (m *machine) state(now time.Time, timeout time.Duration) string {
	switch {
	case m.booting != nil && (m.booting.Acked || m.running == nil):
		return StateBooting
	case m.running == nil:
		return StateGone
	case m.running.Root.Stopping && !m.running.Root.Quiet.IsZero():
		return StateGone
	case m.running.silent(now, timeout):
		return StateGone
	default:
		return StateUp
	}
}

// shown is the boot that describes the machine best: the one that state speaks of.
func (m *machine) shown() *boot {
	if m.booting != nil && (m.booting.Acked || m.running == nil) {
		return m.booting
	}
	return m.running
}

// isHeld reports whether forgetting the machine could hurt it.
func (m *machine) isHeld() bool {
	return m.running != nil || m.booting != nil && m.booting.Fetched
}

// real reports whether the machine ever did more than send DHCP packets.
func (m *machine) real() bool {
	if m.isHeld() {
		return true
	}
	for _, tl := range m.timelines {
		for _, s := range tl.Stages {
			if s.Name != stageDHCP && s.Name != stageNak {
				return true
			}
		}
	}
	return false
}

// expire ends what has been silent for too long. The caller holds t.mu.
func (t *Tracker) expire(m *machine, now time.Time) {
	if m.booting != nil && m.booting.idle(now, t.cfg.SessionTimeout) {
		t.close(m)
	}
	if m.running != nil && m.running.over(now, &t.cfg) {
		t.setRunning(m, nil)
	}
}

// close ends the open session. The caller holds t.mu.
func (t *Tracker) close(m *machine) {
	b := m.booting
	if b == nil {
		return
	}
	m.booting = nil
	if b != m.running {
		t.unclaim(m, b)
	}
	// A session that led to nothing leaves no timeline.
	if n := len(m.timelines); n > 0 && m.timelines[n-1] == b.timeline && len(b.timeline.Stages) == 0 {
		m.timelines = m.timelines[:n-1]
	}
	t.touch(m)
}

// setRunning replaces the running boot, or drops it. The caller holds t.mu.
func (t *Tracker) setRunning(m *machine, b *boot) {
	if m.running != nil {
		if a := m.running.Root.Addr; t.roots[a] == m {
			delete(t.roots, a)
		}
		if m.running != m.booting && m.running != b {
			t.unclaim(m, m.running)
		}
	}
	m.running = b
	if b != nil && b.Root.Addr.IsValid() {
		t.roots[b.Root.Addr] = m
	}
	t.touch(m)
}

// setAddr notes that m was seen at addr. The caller holds t.mu.
func (t *Tracker) setAddr(m *machine, addr netip.Addr) {
	if !addr.IsValid() {
		return
	}
	if m.addr != addr {
		if t.addrs[m.addr] == m {
			delete(t.addrs, m.addr)
		}
		m.addr = addr
		t.touch(m)
	}
	t.addrs[addr] = m
	if t.claims[addr] == m {
		delete(t.claims, addr)
	}
}

// touch notes that m has changed and is to be written. The caller holds t.mu.
func (t *Tracker) touch(m *machine) {
	t.dirty[m.mac] = true
	t.place(m)
}

// startTimeline begins the timeline of a new boot. The caller holds t.mu.
func (t *Tracker) startTimeline(m *machine, b *boot) {
	b.timeline = &Timeline{Session: b.ID, Generation: b.Generation, Started: b.Opened.UTC(), Stages: []Stage{}}
	m.timelines = append(m.timelines, b.timeline)
	if over := len(m.timelines) - t.cfg.Timelines; over > 0 {
		m.timelines = append([]*Timeline(nil), m.timelines[over:]...)
	}
}
