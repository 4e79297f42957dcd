package provider

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/dlreconcile/dlreconcile/schema"
)

// MAC is a 48-bit hardware address: the key of every machine.
type MAC [6]byte

// String spells it in lower case with colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsZero reports whether no machine is named.
func (m MAC) IsZero() bool { return m == MAC{} }

// ParseMAC reads a 48-bit address in any spelling that net.ParseMAC takes.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil {
		return MAC{}, err
	}
	if len(hw) != 6 {
		return MAC{}, fmt.Errorf("hardware address %q: want 6 bytes", s)
	}
	return MAC(hw), nil
}

// AddressMAC gives the key of a machine of which only its IPv4 address is known,
// because another DHCP server gave it out. It is the address of a group, so that no
// machine has it.
func AddressMAC(a netip.Addr) MAC {
	b := a.Unmap().As4()
	return MAC{0x03, 0, b[0], b[1], b[2], b[3]}
}

// Address undoes AddressMAC.
func (m MAC) Address() (netip.Addr, bool) {
	if m[0] != 0x03 || m[1] != 0 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(m[2:])), true
}

// MarshalText spells the address as String does.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (m *MAC) UnmarshalText(b []byte) error {
	got, err := ParseMAC(string(b))
	if err != nil {
		return err
	}
	*m = got
	return nil
}

// EventKind says what a server saw.
type EventKind string

const (
	EventDiscover  EventKind = "dhcp.discover"
	EventOffer     EventKind = "dhcp.offer"
	EventAck       EventKind = "dhcp.ack"
	EventNak       EventKind = "dhcp.nak"
	EventTaken     EventKind = "dhcp.taken" // a client on a proxied subnet asks another server for Addr
	EventFile      EventKind = "file"       // a whole boot file was delivered: Name, Role, Bytes
	EventFileError EventKind = "file.error" // it was not: Err
	EventAttach    EventKind = "nbd.attach" // a client passed GO: Name is the export
	EventDetach    EventKind = "nbd.detach"
	EventDenied    EventKind = "nbd.denied"      // Err says why
	EventFilling   EventKind = "overlay.filling" // the overlay of a machine comes near its limit: Bytes, Err
	EventFull      EventKind = "overlay.full"    // writes to it are refused: Err says why
	EventPhone     EventKind = "phone"           // the machine reports: Name is the stage
)

// Event is one thing that a server saw, for engine/node. At is when it happened.
type Event struct {
	Kind       EventKind
	At         time.Time
	MAC        MAC        // zero when the server does not know it
	Addr       netip.Addr // client's address
	Host       schema.Addr
	Subnet     schema.Addr
	Generation uint64
	Protocol   string // "dhcp", "tftp", "http", "nbd"
	Name       string
	Role       AnswerKind // for files: loader, script, kernel, initrd
	Tree       string
	Artifact   string // for exports: digest of the root
	Instance   string // for exports: the boot instance that the client named; "" when it named none
	Image      schema.Addr
	Class      string // DHCP: user class
	Vendor     string // DHCP: vendor class up to the first colon
	Arch       uint16 // DHCP: option 93
	HasArch    bool   // it was there
	Bytes      int64
	Asked      time.Time // for files: when the client asked for it, of the clock that At is of; zero: not known
	Err        string
}

// Sink takes events. Event does not block on the network or on disk.
type Sink interface{ Event(Event) }

// Sessions ties a machine to the generation that it boots on.
type Sessions interface {
	// Boot is called for every DISCOVER and REQUEST, and for an INFORM on port 4011,
	// before the answer is made.
	// It opens a boot session, or continues the one that is open, and returns it.
	// What it returns is on disk, and survives a crash, before it returns. A
	// machine that never network-boots has the zero Session, which means the
	// current generation.
	Boot(Contact) (Session, error)
	// Fetch is called for every boot file that is asked for by an undigested name (an
	// alias), before the answer is made, with the role that the file has. A machine
	// whose addresses are given out by somebody else begins its boot there: the
	// session is opened, or the open one continued, under the same promises as Boot
	// makes. addr is the client's. AnswerLoader is for the program that firmware is
	// told to load; what that loads after itself, further parts of it too, comes as
	// AnswerScript or as what it is.
	Fetch(addr netip.Addr, role AnswerKind) (Client, error)
	// Holds reports whether a machine other than mac lives on addr without a
	// lease being renewed: its root is attached from there. Such an address
	// must not be given away.
	Holds(addr netip.Addr, mac MAC) bool
}

// Contact is what a DHCP packet says about where a machine is in its boot.
type Contact struct {
	MAC      MAC
	Discover bool   // a DISCOVER on the server's own port; else a boot that goes on
	Vendor   string // option 60 up to the first colon
	Class    string // option 77
	XID      uint32
}

// Session is one boot of one machine.
type Session struct {
	ID         string // unique; "" means none is open
	Generation uint64 // 0 is the current one
}

// Clients says who is behind an address.
type Clients interface {
	ByAddr(netip.Addr) (Client, bool)
}

// Client is a machine as the servers see it.
type Client struct {
	MAC        MAC         // AddressMAC where only the address is known
	Host       schema.Addr // zero: no host block
	Subnet     schema.Addr
	Session    string    // of its newest boot; "" when it never booted from here
	Began      time.Time // when the machine was seen to boot; zero when nobody saw it
	Generation uint64    // it is pinned to; 0 is the current one
}
