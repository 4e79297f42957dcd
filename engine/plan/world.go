package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// world is what was observed, by machine.
type world struct {
	machines []*machine // sorted by name and hardware address
	byHost   map[schema.Addr][]*machine
	byMAC    map[string]*machine
	leases   []Observation     // sorted
	overlays []Observation     // sorted
	stays    map[string]uint64 // generation of suspended hosts, by address
}

// machine is what was observed of one machine.
type machine struct {
	host     schema.Addr
	mac      string
	address  string
	ip       netip.Addr // address; zero: there is none that can be read
	subnet   schema.Addr
	state    string // "" when only a connection or a lease was seen
	image    schema.Addr
	export   string
	artifact string
	gen      uint64  // the machine is pinned to
	arch     *uint16 // client architecture that its firmware said last; nil: not known
	attached bool    // a connection was seen
	leased   bool
}

// name is how plans call the machine: by its host block, or by its MAC, or, for
// one that another DHCP server gave its address, by that.
func (m machine) name() string {
	switch {
	case !m.host.IsZero():
		return m.host.String()
	case m.mac != "":
		return m.mac
	default:
		return m.address
	}
}

// runs reports whether it boots or is up on something of ours.
func (m *machine) runs() bool {
	return m.state == "booting" || m.state == "up" || m.state == "" && m.attached
}

// newWorld merges what several observers saw of the same machine. What engine/node
// saw comes first, connections and leases fill the gaps.
func newWorld(in Input, c *comparison) *world {
	w := &world{byHost: map[schema.Addr][]*machine{}, byMAC: map[string]*machine{}, stays: map[string]uint64{}}
	obs := slices.Clone(in.Observations)
	slices.SortFunc(obs, compareObservations)
	for _, o := range obs {
		if o.Kind == SawSuspended {
			w.stays[o.Host.String()] = o.Generation
		}
	}
	merged := map[string]*machine{} // by MAC, and by address
	for _, kind := range []ObservationKind{SawNode, SawConnection, SawLease, SawOverlay} {
		for _, o := range obs {
			if o.Kind != kind {
				continue
			}
			switch kind {
			case SawLease:
				w.leases = append(w.leases, o)
			case SawOverlay: // says that the machine was here, not that it is
				w.overlays = append(w.overlays, o)
				continue
			}
			key := cmp.Or(o.MAC, o.Address)
			if key == "" {
				continue
			}
			m := merged[key]
			if m == nil {
				m = &machine{mac: o.MAC}
				merged[key] = m
				w.machines = append(w.machines, m)
			}
			m.merge(o)
			if o.Address != "" && merged[o.Address] == nil {
				merged[o.Address] = m // so that a connection without a MAC finds it
			}
		}
	}
	for _, m := range w.machines {
		m.ip, _ = netip.ParseAddr(m.address)
		c.complete(m, in)
		if m.mac != "" {
			w.byMAC[m.mac] = m
		}
		if !m.host.IsZero() {
			w.byHost[m.host] = append(w.byHost[m.host], m)
		}
	}
	slices.SortFunc(w.machines, func(a, b *machine) int {
		return cmp.Or(strings.Compare(a.name(), b.name()), strings.Compare(a.mac, b.mac), strings.Compare(a.address, b.address))
	})
	return w
}

func (m *machine) merge(o Observation) {
	fill := func(dst *string, s string) {
		if *dst == "" {
			*dst = s
		}
	}
	fillAddr := func(dst *schema.Addr, a schema.Addr) {
		if dst.IsZero() {
			*dst = a
		}
	}
	fillAddr(&m.host, o.Host)
	fillAddr(&m.subnet, o.Subnet)
	fillAddr(&m.image, o.Image)
	fill(&m.address, o.Address)
	fill(&m.export, o.Export)
	fill(&m.artifact, o.Artifact)
	if o.Kind == SawNode {
		fill(&m.state, o.State)
		m.gen = max(m.gen, o.Generation)
		if m.arch == nil {
			m.arch = o.Arch
		}
	}
	m.attached = m.attached || o.Kind == SawConnection
	m.leased = m.leased || o.Kind == SawLease
}

// complete adds what follows from what is applied: a machine that boots on the
// applied generation and has not attached its root yet will attach this one.
func (c *comparison) complete(m *machine, in Input) {
	if m.host.IsZero() {
		if h := c.have.byMAC[m.mac]; h != nil && m.mac != "" {
			m.host = h.Addr
		}
	}
	if !m.runs() {
		return
	}
	if m.artifact == "" && in.Applied != nil && m.gen == in.Applied.Generation {
		if image, ok := onlyImage(c.have.chainsOf(*m)); ok {
			m.image = image
			m.artifact = c.artifacts.before(c.have.images[m.image])
		}
	}
	if m.image.IsZero() && m.artifact != "" {
		for _, im := range c.have.images {
			if c.artifacts.before(im) == m.artifact && (m.image.IsZero() || im.Addr.Compare(m.image) < 0) {
				m.image = im.Addr
			}
		}
	}
}

// onlyImage gives the image that all boots of a machine have; ok is false when there
// are several, or no boot.
func onlyImage(chains []chain) (image schema.Addr, ok bool) {
	for _, c := range chains {
		if ok && c.image != image {
			return schema.Addr{}, false
		}
		image, ok = c.image, true
	}
	return image, ok
}

func compareObservations(a, b Observation) int {
	return cmp.Or(
		cmp.Compare(a.Kind, b.Kind),
		a.Host.Compare(b.Host),
		cmp.Compare(a.MAC, b.MAC),
		cmp.Compare(a.Address, b.Address),
		a.Subnet.Compare(b.Subnet),
		cmp.Compare(a.Generation, b.Generation),
		a.Image.Compare(b.Image),
		cmp.Compare(a.Export, b.Export),
		cmp.Compare(a.Artifact, b.Artifact),
		cmp.Compare(a.Tree, b.Tree),
		cmp.Compare(a.State, b.State),
		cmp.Compare(a.Bytes, b.Bytes),
		cmp.Compare(archNumber(a.Arch), archNumber(b.Arch)),
	)
}

// archNumber orders client architectures, those that are not known last.
func archNumber(a *uint16) int {
	if a == nil {
		return 1 << 16
	}
	return int(*a)
}
