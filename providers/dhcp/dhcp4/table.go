package dhcp4

import (
	"net/netip"
	"slices"
	"time"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// Endpoint says which socket. It is a value, usable as a map key. It does not say
// which of the interface's addresses is the server's, so that a server whose
// address changes keeps its socket.
type Endpoint struct {
	// Interface is the network interface that the socket is bound to; "": it is
	// bound to Listen alone.
	Interface string
	// Listen is what the socket is bound to. Broadcasts are heard only with the
	// address 0.0.0.0.
	Listen netip.AddrPort
}

// Table is what the server answers from. It is immutable.
type Table struct {
	Version uint64 // for the caller; Event carries it
	Subnets []*Subnet
}

// Subnet is one network segment. It is immutable once it is in a Table.
type Subnet struct {
	Name          string
	Endpoint      Endpoint
	Source        netip.Addr // what answers come from; zero: what the kernel chooses
	Prefix        netip.Prefix
	Authoritative bool       // say no to clients that ask for what is wrong here
	BOOTP         bool       // answer clients that do not speak DHCP (RFC 951), for ever
	Server        netip.Addr // option 54, and where renewals go
	NextServer    netip.Addr // siaddr and option 66: the TFTP server
	LeaseTime     time.Duration
	Pool          lease.Pool

	// Proxy says that another server gives out the addresses, see ProxyReply: then
	// LeaseTime, Pool and the options below are for nothing, as are Authoritative and
	// BOOTP.
	Proxy bool
	// Late is the socket of port 4011, for Proxy; the zero Endpoint: there is none.
	Late Endpoint

	Routers    []netip.Addr // option 3
	DNS        []netip.Addr // option 6
	NTP        []netip.Addr // option 42
	DomainName string       // option 15
	MTU        int          // option 26; 0: not sent

	// Boot is for machines that are not known by name.
	Boot Boot
	// Hosts are the machines that are known by name and at home here: only they can
	// have an address reserved.
	Hosts map[lease.MAC]*Host
	// Guest gives a machine that is known by name and not in Hosts, nil for any other.
	// It is asked anew for each packet, so that not every subnet keeps every host; it
	// always gives the same, and is called from several goroutines at once. nil: there
	// are no such machines.
	Guest func(lease.MAC) *Host
}

// Host gives a machine that is known by name, or nil.
func (s *Subnet) Host(m lease.MAC) *Host {
	if h := s.Hosts[m]; h != nil || s.Guest == nil {
		return h
	}
	return s.Guest(m)
}

// Host is a machine that is known by name.
type Host struct {
	Name     string
	Hostname string     // option 12; "": not sent
	Address  netip.Addr // reserved on this subnet; zero: it takes one from the pool
	Boot     Boot
}

// Boot says which file a client must load.
type Boot struct {
	// Files names the file for a client architecture (option 93), for firmware;
	// it beats Targets.
	Files map[uint16]string
	// Targets are tried in order.
	Targets []Target
	// Missing says why there is nothing to load although there should be; "" when
	// there is, or when nobody asked for it.
	Missing string
	// ArchName gives the name of a client architecture, for messages; nil: IANA's.
	ArchName func(uint16) string
}

// AnyArch in a Target matches every client architecture.
const AnyArch = 0xffff

// Target is the file for clients of one kind.
type Target struct {
	Arch  uint16
	Class string // user class (option 77) that the client must have; "" is firmware
	HTTP  bool   // the client said HTTPClient in option 60
	File  string // TFTP path without leading slash, or URL
	// Prefix is PXELINUX's path prefix (option 210, RFC 5071 section 5); "": not sent.
	Prefix string
	// Config is PXELINUX's configuration file (option 209, RFC 5071 section 4);
	// "": not sent.
	Config string
}

// subnet finds the segment that a packet came from, and nil when it is none of
// ours: the one of the relay agent (giaddr); else the one of the client's own
// address, when it has one already; else one on the server's own wire, preferably
// of the server that the client has chosen (option 54), and that on which it has
// a reserved address.
//
// A subnet is on the wire when it holds the server's address. Only when none does
// (a server that is told to lie about its address, or a loopback demonstration)
// may it be any.
func (t *Table) subnet(ep Endpoint, f *Facts) *Subnet {
	var here, wire []*Subnet
	for _, s := range t.Subnets {
		if s.Endpoint != ep && s.Late != ep {
			continue
		}
		here = append(here, s)
		if s.Prefix.Contains(s.Server) {
			wire = append(wire, s)
		}
		switch {
		case f.Relay.IsValid():
			if s.Prefix.Contains(f.Relay) {
				return s
			}
		case f.Client.IsValid() && s.Prefix.Contains(f.Client):
			return s
		}
	}
	if f.Relay.IsValid() {
		return nil
	}
	if len(wire) == 0 {
		wire = here
	}
	chosen := func(s *Subnet) bool { return s.Server == f.Server }
	if slices.ContainsFunc(wire, chosen) {
		wire = slices.DeleteFunc(wire, func(s *Subnet) bool { return !chosen(s) })
	}
	for _, s := range wire {
		if h := s.Hosts[f.MAC]; h != nil && h.Address.IsValid() {
			return s
		}
	}
	if len(wire) == 0 {
		return nil
	}
	return wire[0]
}

// boot gives the host block of a machine, if it has one, and what it boots.
func (s *Subnet) boot(m lease.MAC) (*Host, *Boot) {
	if h := s.Host(m); h != nil {
		return h, &h.Boot
	}
	return nil, &s.Boot
}

// Want says what the machine may have on this subnet. held is as in
// lease.Want.Held; nil: nobody lives anywhere without a lease.
func (s *Subnet) Want(m lease.MAC, held func(netip.Addr, lease.MAC) bool) lease.Want {
	w := lease.Want{MAC: m, Network: s.Name, Pool: s.Pool}
	if h := s.Hosts[m]; h != nil {
		w.Reserved = h.Address
	}
	if held != nil {
		w.Held = func(a netip.Addr) bool { return held(a, m) }
	}
	return w
}
