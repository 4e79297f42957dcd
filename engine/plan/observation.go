package plan

import "github.com/dlreconcile/dlreconcile/schema"

// ObservationKind says what was seen. The set is closed.
type ObservationKind string

const (
	// SawNode is a machine that booted from here: Generation, Artifact, State,
	// Tree and Export are what it was offered.
	SawNode ObservationKind = "node"
	// SawConnection is an open connection to an export.
	SawConnection ObservationKind = "connection"
	// SawOverlay is a copy-on-write overlay on disk; Bytes is what it holds.
	SawOverlay ObservationKind = "overlay"
	// SawLease is an unexpired DHCP lease.
	SawLease ObservationKind = "lease"
	// SawSuspended is a host whose next boots stay on Generation, by an operator's
	// order.
	SawSuspended ObservationKind = "suspended"
)

// Observation is one fact about the running world, as a provider or engine/node
// reports it. It carries no time and no process detail, so that a plan made from
// the same observations is the same to the byte. A field that does not apply to
// the kind is left at its zero value.
type Observation struct {
	Kind       ObservationKind `json:"kind"`
	Host       schema.Addr     `json:"host,omitzero"`     // zero: a machine without a host block
	MAC        string          `json:"mac,omitempty"`     // lower case, colons
	Address    string          `json:"address,omitempty"` // IPv4 of the client
	Subnet     schema.Addr     `json:"subnet,omitzero"`
	Generation uint64          `json:"generation,omitempty"` // the one the machine is pinned to
	Image      schema.Addr     `json:"image,omitzero"`
	Export     string          `json:"export,omitempty"`   // wire name: "arch@3f2a9c1d7e08"
	Artifact   string          `json:"artifact,omitempty"` // "sha256:…" of the root in use
	Tree       string          `json:"tree,omitempty"`     // boot tree id
	State      string          `json:"state,omitempty"`    // node: "booting", "up" or "gone"
	Bytes      int64           `json:"bytes,omitempty"`
	// Arch is the client architecture (DHCP option 93) that the machine's firmware
	// said last; nil when it never said one.
	Arch *uint16 `json:"arch,omitempty"`
}
