package dhcp4

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// RivalKeep is how long a rival is remembered that nothing is heard of any more.
const RivalKeep = 15 * time.Minute

const (
	mostRivals   = 64 // anybody can send packets that name servers
	mostClients  = 16 // that are remembered of one
	mostProbes   = 64
	probeKeep    = time.Minute // how long an answer to a probe is one
	probeAtLeast = time.Second // between two on one subnet
)

// Rival is another server that gives out addresses on a subnet of ours.
type Rival struct {
	Subnet      string
	Server      netip.Addr // its server identifier, or what it answered from
	First, Last time.Time  // when it was noticed
	// Answers says that it answered a probe; else clients were heard asking it.
	Answers bool
	Clients []lease.MAC // that asked it, at most 16, sorted
}

type rivalKey struct {
	subnet string
	server netip.Addr
}

// probe is a DISCOVER of our own.
type probe struct {
	xid    dhcpv4.TransactionID
	mac    lease.MAC
	subnet string
	sent   time.Time
}

// rivals is what a server knows of others. The zero value knows of none.
type rivals struct {
	mu     sync.Mutex // guards all below
	seen   map[rivalKey]*Rival
	probes []probe // oldest first
}

// Rivals lists the other servers that were heard of lately, by subnet, those that were
// noticed first first.
func (s *Server) Rivals() []Rival {
	r := &s.rivals
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(s.cfg.Now())
	list := make([]Rival, 0, len(r.seen))
	for _, one := range r.seen {
		c := *one
		c.Clients = slices.Clone(c.Clients)
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Rival) int {
		return cmp.Or(cmp.Compare(a.Subnet, b.Subnet), a.First.Compare(b.First), a.Server.Compare(b.Server))
	})
	return list
}

// forget drops what is too old. The caller holds mu.
func (r *rivals) forget(now time.Time) {
	for k, one := range r.seen {
		if now.Sub(one.Last) > RivalKeep {
			delete(r.seen, k)
		}
	}
}

// note remembers a server that is not ours. client is zero when it answered a probe.
func (s *Server) note(subnet string, server netip.Addr, client lease.MAC) {
	if !server.Is4() || s.own(server) {
		return
	}
	now := s.cfg.Now()
	r := &s.rivals
	r.mu.Lock()
	defer r.mu.Unlock()
	k := rivalKey{subnet, server}
	one := r.seen[k]
	if one == nil {
		if r.forget(now); len(r.seen) >= mostRivals {
			return
		}
		if r.seen == nil {
			r.seen = map[rivalKey]*Rival{}
		}
		one = &Rival{Subnet: subnet, Server: server, First: now}
		r.seen[k] = one
		s.cfg.Log.Warn("dhcp: another server gives out addresses", "server", server, "subnet", subnet, "client", client)
	}
	one.Last = now
	if client == (lease.MAC{}) {
		one.Answers = true
		return
	}
	i, found := slices.BinarySearchFunc(one.Clients, client, func(a, b lease.MAC) int { return slices.Compare(a[:], b[:]) })
	if !found && len(one.Clients) < mostClients {
		one.Clients = slices.Insert(one.Clients, i, client)
	}
}

// own reports whether a server identifier is one of ours, of any table.
func (s *Server) own(a netip.Addr) bool {
	for t := range s.cfg.Published {
		if slices.ContainsFunc(t.Subnets, func(sub *Subnet) bool { return sub.Server == a || sub.Source == a }) {
			return true
		}
	}
	return false
}

// Probe asks who else gives out addresses on the subnets of a socket, those of the
// current table that are on its own wire: as a relay agent would, with the server's own
// address as the agent's, so that answers come back to this socket. The client does not
// exist, and takes no offer. What is heard is among Rivals; it may take seconds, since
// servers try an address before they offer it. Probes of a subnet come at most once a
// second; asked says whether one is under way.
func (s *Server) Probe(c *Conn) (asked bool, err error) {
	if c.ep.Interface == "" || c.ep.Listen.Port() != serverPort {
		return false, nil // a demonstration
	}
	for t := range s.cfg.Published {
		for _, sub := range t.Subnets {
			if sub.Endpoint != c.ep || !sub.Prefix.Contains(sub.Server) {
				continue
			}
			p, ok, err := s.rivals.begin(sub.Name, s.cfg.Now())
			if err != nil {
				return asked, fmt.Errorf("dhcp: probe: %w", err)
			}
			asked = true
			if !ok {
				continue
			}
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), serverPort)
			if err := c.write(p.packet(sub.Server).ToBytes(), sub.Server, to, c.index); err != nil {
				return asked, fmt.Errorf("dhcp: probe on %s: %w", sub.Name, err)
			}
		}
		break // the current one
	}
	return asked, nil
}

// begin makes the next probe of a subnet; ok is false when the last was just now.
func (r *rivals) begin(subnet string, now time.Time) (p probe, ok bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probes = slices.DeleteFunc(r.probes, func(p probe) bool { return now.Sub(p.sent) > probeKeep || now.Before(p.sent) })
	for _, p := range r.probes {
		if p.subnet == subnet && now.Sub(p.sent) < probeAtLeast && now.After(p.sent) {
			return p, false, nil
		}
	}
	p = probe{subnet: subnet, sent: now}
	if _, err := rand.Read(p.xid[:]); err != nil {
		return p, false, err
	}
	if _, err := rand.Read(p.mac[:]); err != nil {
		return p, false, err
	}
	p.mac[0] = p.mac[0]&^1 | 2 // one machine's, locally administered
	r.probes = append(r.probes, p)
	r.probes = r.probes[max(0, len(r.probes)-mostProbes):]
	return p, true, nil
}

// packet makes the DISCOVER.
func (p *probe) packet(agent netip.Addr) *dhcpv4.DHCPv4 {
	d := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, HopCount: 1, TransactionID: p.xid,
		ClientIPAddr: net.IPv4zero.To4(), YourIPAddr: net.IPv4zero.To4(), ServerIPAddr: net.IPv4zero.To4(),
		GatewayIPAddr: wire(agent), ClientHWAddr: p.mac[:], Options: dhcpv4.Options{},
	}
	put(d, dhcpv4.OptionDHCPMessageType, []byte{byte(dhcpv4.MessageTypeDiscover)})
	put(d, dhcpv4.OptionParameterRequestList, []byte{1, 3, 51, 54})
	return d
}

// ours reports whether a packet of a client is a probe: broadcasts come back to who
// sent them.
func (r *rivals) ours(f *Facts) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.probes, func(p probe) bool { return p.xid == f.XID && p.mac == f.MAC })
}

// answered takes an answer to a probe, and reports whether the packet is an answer at
// all: those are not for us to answer.
func (s *Server) answered(src netip.AddrPort, b []byte) bool {
	if len(b) == 0 || b[0] != byte(dhcpv4.OpcodeBootReply) {
		return false
	}
	d, _, err := decode(b)
	if err != nil || len(d.ClientHWAddr) != len(lease.MAC{}) {
		return true
	}
	now := s.cfg.Now()
	r := &s.rivals
	r.mu.Lock()
	i := slices.IndexFunc(r.probes, func(p probe) bool {
		return p.xid == d.TransactionID && p.mac == lease.MAC(d.ClientHWAddr) && now.Sub(p.sent) <= probeKeep
	})
	var subnet string
	if i >= 0 {
		subnet = r.probes[i].subnet
	}
	r.mu.Unlock()
	if i < 0 {
		return true
	}
	server := addr(d.Options.Get(dhcpv4.OptionServerIdentifier))
	if !server.IsValid() { // BOOTP
		server = src.Addr().Unmap()
	}
	s.note(subnet, server, lease.MAC{})
	return true
}
