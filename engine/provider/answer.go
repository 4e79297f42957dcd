package provider

import (
	"net/netip"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Query describes a client, as far as it has shown itself.
type Query struct {
	Generation uint64 // 0 is the current one
	MAC        MAC
	Host       schema.Addr // zero: no host block has this MAC
	Subnet     schema.Addr // zero: the only subnet, or the one that holds Address
	Address    netip.Addr  // zero: none yet
	Arch       uint16      // option 93
	Vendor     string      // option 60 up to the first colon: "PXEClient", "HTTPClient", ""
	Class      string      // option 77: "iPXE", ""
	// File is the boot file that a DHCP server which is not ours named to the
	// client; "" when ours answers.
	File string
	// Root is the wire name of the export that the client's kernel line names; "" is
	// that of the entry which it boots when nobody chooses.
	Root string
}

// AnswerKind says what an answer is about.
type AnswerKind string

const (
	AnswerDHCP   AnswerKind = "dhcp"   // a DHCP offer and acknowledgement: Fields
	AnswerLoader AnswerKind = "loader" // a network boot program
	AnswerScript AnswerKind = "script" // what the loader reads: Text
	AnswerKernel AnswerKind = "kernel" // Line is the kernel line
	AnswerInitrd AnswerKind = "initrd"
	AnswerRoot   AnswerKind = "root" // an export
)

// Answer is one thing that a machine gets.
type Answer struct {
	Kind     AnswerKind        `json:"kind"`
	Provider string            `json:"provider"`
	Protocol string            `json:"protocol"`         // "dhcp", "tftp", "http", "nbd"
	Name     string            `json:"name,omitempty"`   // path without leading slash, or export name
	Server   string            `json:"server,omitempty"` // address:port the client talks to
	Size     int64             `json:"size,omitempty"`
	Digest   string            `json:"digest,omitempty"`
	Fields   map[string]string `json:"fields,omitempty"` // DHCP: field or option name to printed value
	Text     string            `json:"text,omitempty"`   // script as served
	Line     string            `json:"line,omitempty"`   // kernel line
	Mode     string            `json:"mode,omitempty"`   // export mode
	Range    schema.Range      `json:"range,omitzero"`   // the HCL that caused it
	Fail     string            `json:"fail,omitempty"`   // why this would not work; "" when it would
	// Absent says that the file is asked for, is not there, and need not be: the
	// loader goes on.
	Absent bool `json:"absent,omitempty"`
	// Again, of a loader, is the user class (option 77) under which the program asks
	// DHCP anew when it runs: "iPXE". "" when it reads on by itself: then the answers
	// that follow it are what it asks for, in its order.
	Again string `json:"again,omitempty"`
}
