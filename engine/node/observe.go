package node

import (
	"cmp"
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Node is one machine as observed.
type Node struct {
	MAC        provider.MAC `json:"mac"`           // provider.AddressMAC where only the address is known
	Host       schema.Addr  `json:"host,omitzero"` // zero: no host block
	Subnet     schema.Addr  `json:"subnet,omitzero"`
	Address    netip.Addr   `json:"address,omitzero"`
	Arch       *uint16      `json:"arch,omitempty"`       // client architecture (option 93) that its firmware said last; nil: none
	State      string       `json:"state"`                // StateBooting, StateUp or StateGone
	Generation uint64       `json:"generation,omitempty"` // it is tied to; 0: none
	Stays      uint64       `json:"stays,omitempty"`      // its next boots, by order, on this generation; 0: on what is served then
	Session    string       `json:"session,omitempty"`    // of the boot that State speaks of
	Tree       string       `json:"tree,omitempty"`
	Image      schema.Addr  `json:"image,omitzero"`
	Artifact   string       `json:"artifact,omitempty"` // of the root in use
	Export     string       `json:"export,omitempty"`   // wire name
	Connected  bool         `json:"connected"`          // its root has an open connection
	Seen       time.Time    `json:"seen"`               // last sign of life; UTC
	Boots      []*Timeline  `json:"boots"`              // how each one went, the oldest first
}

// Live gives the generations that must go on being served: those of open sessions
// and those that attached roots came from. It includes what was found on disk at
// the start, for as long as it would have been kept had it been seen then.
func (t *Tracker) Live() map[uint64]bool {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	live := map[uint64]bool{}
	for _, m := range t.machines {
		t.expire(m, now)
		if m.booting != nil {
			live[m.booting.Generation] = true
		}
		if m.running != nil {
			live[m.running.Generation] = true
			live[m.running.Root.Generation] = true
		}
	}
	delete(live, 0) // the current one, whichever that is
	t.poke()
	return live
}

// Observe reports every machine that booted from here, sorted by hardware address;
// one of which only its address is known has none. One that only ever sent DHCP packets is reported while a boot session of it is
// open and acknowledged.
func (t *Tracker) Observe() []plan.Observation {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []plan.Observation{}
	for _, m := range t.machines {
		t.expire(m, now)
		b := m.shown()
		if !m.real() && (m.booting == nil || !m.booting.Acked) {
			continue
		}
		o := plan.Observation{Kind: plan.SawNode, Host: m.host, MAC: m.mac.String(), Subnet: m.subnet, State: m.state(now, t.cfg.SessionTimeout)}
		if m.isNameless() {
			o.MAC = ""
		}
		if m.addr.IsValid() {
			o.Address = m.addr.String()
		}
		if m.arch != nil {
			o.Arch = new(*m.arch)
		}
		if b != nil {
			o.Generation, o.Tree = b.served(), b.Tree
			if b.Root != nil {
				o.Image, o.Export, o.Artifact = b.Root.Image, b.Root.Export, b.Root.Artifact
			}
		}
		list = append(list, o)
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return cmp.Or(strings.Compare(a.MAC, b.MAC), strings.Compare(a.Address, b.Address)) < 0
	})
	t.poke()
	return list
}

// Nodes gives every machine that is remembered, sorted by host and hardware
// address, those without a host block last.
func (t *Tracker) Nodes() []Node {
	now := t.now()
	t.mu.Lock()
	list := make([]Node, 0, len(t.machines))
	for _, m := range t.machines {
		t.expire(m, now)
		n := m.node(now, &t.cfg)
		n.Stays = t.cfg.Pinned(m.mac)
		list = append(list, n)
	}
	t.mu.Unlock()
	t.poke()
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if a.Host.IsZero() != b.Host.IsZero() {
			return b.Host.IsZero()
		}
		if c := a.Host.Compare(b.Host); c != 0 {
			return c < 0
		}
		return strings.Compare(a.MAC.String(), b.MAC.String()) < 0
	})
	return list
}

// Node gives one machine.
func (t *Tracker) Node(mac provider.MAC) (Node, bool) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	m := t.machines[mac]
	if m == nil {
		return Node{}, false
	}
	t.expire(m, now)
	n := m.node(now, &t.cfg)
	n.Stays = t.cfg.Pinned(mac)
	return n, true
}

func (m *machine) node(now time.Time, cfg *Config) Node {
	n := Node{
		MAC: m.mac, Host: m.host, Subnet: m.subnet, Address: m.addr, State: m.state(now, cfg.SessionTimeout),
		Seen: cfg.Wall(m.seen).UTC(), Boots: make([]*Timeline, 0, len(m.timelines)),
	}
	if b := m.shown(); b != nil {
		n.Generation, n.Session, n.Tree = b.served(), b.ID, b.Tree
		if b.Root != nil {
			n.Image, n.Artifact, n.Export = b.Root.Image, b.Root.Artifact, b.Root.Export
			n.Connected = b.Root.Quiet.IsZero()
		}
	}
	if m.arch != nil {
		n.Arch = new(*m.arch)
	}
	timelines := m.timelines
	if m.visit != nil {
		m.visit.show(&n)
		timelines = []*Timeline{m.visit.timeline}
	}
	for _, tl := range timelines {
		shown := tl.clone()
		shown.Started = cfg.Wall(tl.Started).UTC()
		n.Boots = append(n.Boots, shown)
	}
	return n
}
