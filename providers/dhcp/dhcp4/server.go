package dhcp4

import (
	"errors"
	"iter"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

// Config is what a Server needs. All functions are called from several goroutines
// at once.
type Config struct {
	Leases *lease.Store
	// Published gives every table that some client is answered from, the current one
	// first. A packet that none of them has a subnet for, or that is meant for another
	// server, goes no further. Needed.
	Published iter.Seq[*Table]
	// Table gives the table that a client is answered from. It is called once for
	// each packet that is ours. An error means that the client gets no answer.
	// Needed.
	Table func(*Facts) (*Table, error)
	// Held reports whether a machine other than the one with this hardware address
	// lives on an address without a lease; asked with the zero MAC, whether any
	// machine does. nil: nobody does.
	Held func(netip.Addr, lease.MAC) bool
	// Answers says who else answers from an address; see
	// lease.Want.Answers. nil: nobody can be asked.
	Answers func(netip.Addr, lease.MAC) (lease.MAC, bool)
	// Report is told what happens: of an answer just before it is sent, so that
	// nothing that the client does about it is reported earlier. It does not block.
	// nil: nobody wants to know.
	Report func(Event)
	Log    *slog.Logger     // nil: silence
	Now    func() time.Time // nil: time.Now
}

// EventKind says what happened.
type EventKind string

const (
	SawDiscover EventKind = "discover" // a client looks for servers
	SentOffer   EventKind = "offer"
	SentAck     EventKind = "ack" // to REQUEST or BOOTP: the lease is on disk
	SentNak     EventKind = "nak"
	// SawTaken is a REQUEST to the server that gives out the addresses of a subnet
	// with Proxy. Addr is what the client asks for.
	SawTaken EventKind = "taken"
)

// Event is one step of a client's exchange.
type Event struct {
	Kind    EventKind
	At      time.Time
	MAC     lease.MAC
	Addr    netip.Addr // that was offered, given or refused; zero for SawDiscover
	Subnet  string
	Host    string // "" when the machine is not known by name
	Version uint64 // of the table
	Vendor  string
	Class   string
	Arch    uint16
	HasArch bool   // the client named an architecture
	File    string // boot file in the answer
	Err     string // why a client gets nothing, or no
}

// Server answers packets. It is safe for concurrent use and serves any number of
// sockets.
type Server struct {
	cfg    Config
	quiet  quiet
	counts counts
	rivals rivals
}

// New makes a server. It starts nothing.
func New(cfg Config) *Server {
	if cfg.Report == nil {
		cfg.Report = func(Event) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Server{cfg: cfg, quiet: quiet{last: map[string]time.Time{}}}
}

// Answer is one packet to send.
type Answer struct {
	Packet *dhcpv4.DHCPv4
	From   netip.Addr // zero: any address of ours
	To     netip.AddrPort
}

// Handle reads a packet that came from src to a socket, and gives the answer to
// it; nil when it gets none. What an acknowledgement says is on disk by then.
func (s *Server) Handle(ep Endpoint, src netip.AddrPort, b []byte) *Answer {
	if s.answered(src, b) {
		return nil
	}
	f, err := Parse(b)
	if err != nil {
		s.cfg.Log.Debug("dhcp: packet ignored", "from", src, "error", err)
		s.counts.add(nil, nil)
		return nil
	}
	if s.rivals.ours(f) {
		return nil
	}
	a := s.handle(ep, src, f)
	s.counts.add(f, a)
	return a
}

func (s *Server) handle(ep Endpoint, src netip.AddrPort, f *Facts) *Answer {
	here := s.ours(ep, f)
	if here == nil {
		return nil
	}
	f.Late = here.Late == ep
	if f.Late && !here.isFrom(f.Client, src) {
		s.cfg.Log.Debug("dhcp: packet ignored: it is not from its client's address", "from", src, "client", f.Client, "mac", f.MAC)
		return nil
	}
	t, err := s.cfg.Table(f)
	if err != nil {
		s.warn("table", "dhcp: client gets no answer", "mac", f.MAC, "error", err)
		return nil
	}
	sub := here.booting(t.subnet(here.Endpoint, f))
	if sub == nil {
		s.cfg.Log.Debug("dhcp: no subnet for a client", "mac", f.MAC, "relay", f.Relay, "interface", ep.Interface)
		return nil
	}
	x := &exchange{Server: s, f: f, sub: sub, version: t.Version, want: sub.Want(f.MAC, s.cfg.Held)}
	if s.cfg.Answers != nil {
		x.want.Answers = func(a netip.Addr) (lease.MAC, bool) { return s.cfg.Answers(a, f.MAC) }
	}
	r := x.answer()
	if r == nil {
		return nil
	}
	return &Answer{Packet: r, From: sub.Source, To: destination(ep, f, r, src)}
}

// ours gives the subnet that a packet is from, as the newest table has it; nil when
// it is not from one of ours, or is a REQUEST to another server and nobody wants to
// know. It is asked before Table, which may write to disk for a client, and of all
// tables: which of them is the client's is not known yet.
func (s *Server) ours(ep Endpoint, f *Facts) *Subnet {
	var here *Subnet
	for t := range s.cfg.Published {
		sub := t.subnet(ep, f)
		if sub == nil {
			continue
		}
		if here == nil {
			here = sub
		}
		if here.Proxy || f.Type != dhcpv4.MessageTypeRequest || !f.Server.IsValid() || f.Server == sub.Server {
			return here
		}
	}
	if here != nil {
		s.note(here.Name, f.Server, f.MAC)
		s.cfg.Leases.Withdraw(f.MAC) // it took another server's offer
	} else {
		s.cfg.Log.Debug("dhcp: no subnet for a client", "mac", f.MAC, "relay", f.Relay, "interface", ep.Interface)
	}
	return nil
}

// booting gives the subnet that a client is answered on whose session stands on
// another table, where the subnet is pinned: that one, unless the two disagree on
// who gives out addresses. That is a matter of the wire as it is today: two servers
// or none at all are no good to a machine in the middle of its boot.
func (s *Subnet) booting(pinned *Subnet) *Subnet {
	if pinned == nil || pinned.Proxy == s.Proxy {
		return pinned
	}
	now := *s
	now.Boot, now.Hosts, now.Guest = pinned.Boot, pinned.Hosts, pinned.Guest
	return &now
}

// exchange is one packet on its way to an answer.
type exchange struct {
	*Server
	f       *Facts
	sub     *Subnet
	version uint64
	want    lease.Want
}

// answer does what RFC 2131 section 4.3 says for each type of message. nil means
// silence.
func (x *exchange) answer() *dhcpv4.DHCPv4 {
	if x.sub.Proxy {
		return x.proxy()
	}
	switch x.f.Type {
	case dhcpv4.MessageTypeNone:
		return x.bootp()
	case dhcpv4.MessageTypeDiscover:
		return x.discover()
	case dhcpv4.MessageTypeRequest:
		return x.request()
	case dhcpv4.MessageTypeDecline:
		x.decline()
	case dhcpv4.MessageTypeRelease:
		x.release()
	case dhcpv4.MessageTypeInform:
		return x.inform()
	}
	return nil
}

// reply makes the answer that gives an address.
func (x *exchange) reply(kind dhcpv4.MessageType, sent EventKind, g Grant) *dhcpv4.DHCPv4 {
	e := x.event(sent, g.Addr)
	x.nameFile(&e)
	x.cfg.Report(e)
	return Reply(x.sub, x.f, kind, g)
}

// nameFile completes an event with the boot file, or why there is none.
func (x *exchange) nameFile(e *Event) {
	_, boot := x.sub.boot(x.f.MAC)
	var t Target
	if t, e.Err = boot.File(x.f); e.Err != "" {
		x.warn("file "+x.sub.Name, "dhcp: client cannot boot", "mac", x.f.MAC, "subnet", x.sub.Name, "reason", e.Err)
	}
	e.File = t.File
}

// nak makes the answer that says no.
func (x *exchange) nak(a netip.Addr, why string) *dhcpv4.DHCPv4 {
	e := x.event(SentNak, a)
	e.Err = why
	x.cfg.Report(e)
	x.cfg.Log.Info("dhcp: refused", "mac", x.f.MAC, "address", a, "subnet", x.sub.Name, "reason", why)
	return Nak(x.sub, x.f, why)
}

func (x *exchange) event(kind EventKind, a netip.Addr) Event {
	e := Event{Kind: kind, At: x.cfg.Now(), MAC: x.f.MAC, Addr: a, Subnet: x.sub.Name, Version: x.version, Vendor: x.f.Vendor, Class: x.f.Class, Arch: x.f.Arch, HasArch: x.f.HasArch}
	if h, _ := x.sub.boot(x.f.MAC); h != nil {
		e.Host = h.Name
	}
	return e
}

// failed says why a client gets no answer. A full pool and a failing disk are the
// same for every client that comes, so they are not logged for each.
func (x *exchange) failed(doing string, err error) {
	what := "disk"
	if errors.Is(err, lease.ErrExhausted) {
		what = "pool"
	}
	x.warn(what+" "+x.sub.Name, "dhcp: client gets no address", "doing", doing, "mac", x.f.MAC, "subnet", x.sub.Name, "error", err)
}

// warn logs, unless the same was logged a moment ago.
func (s *Server) warn(key, msg string, args ...any) {
	if s.quiet.first(key, s.cfg.Now()) {
		s.cfg.Log.Warn(msg, args...)
	}
}

// quietFor is how long the same warning is kept back.
const quietFor = time.Minute

// quiet remembers what was said a moment ago.
type quiet struct {
	mu   sync.Mutex
	last map[string]time.Time // by key; keys are few: a reason and a subnet
}

func (q *quiet) first(key string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if at, ok := q.last[key]; ok && now.Sub(at) < quietFor && !now.Before(at) {
		return false
	}
	q.last[key] = now
	return true
}
