package provider

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/dlreconcile/dlreconcile/schema"
)

// DriftKind says in what way the world is not what was published. The set is closed.
type DriftKind string

const (
	DriftBlobMissing  DriftKind = "blob-missing"  // a file of the content store is gone
	DriftBlobChanged  DriftKind = "blob-changed"  // its bytes are not those that its name says
	DriftListenerLost DriftKind = "listener-lost" // a declared socket does not serve
	DriftDHCPForeign  DriftKind = "dhcp-foreign"  // somebody else answers DHCP on a subnet
)

// DriftKinds lists the kinds.
func DriftKinds() []DriftKind {
	return []DriftKind{DriftBlobMissing, DriftBlobChanged, DriftListenerLost, DriftDHCPForeign}
}

// Drift is one thing that is not as it was published. Kind, Address and What identify
// it: the same drift looked at twice differs at most in the other fields.
type Drift struct {
	Kind    DriftKind    `json:"kind"`
	Address schema.Addr  `json:"address,omitzero"` // of the resource; zero: several, or none
	Range   schema.Range `json:"range,omitzero"`   // where it is declared, as it is served now
	// What names the thing itself: a digest, "nbd 10.0.0.1:10809", the address of a
	// server.
	What    string    `json:"what"`
	Message string    `json:"message"` // one sentence for people
	Since   time.Time `json:"since,omitzero"`
	// Heals says that it is put right without anybody's doing, and How how; else How is
	// what an operator can do.
	Heals bool   `json:"heals"`
	How   string `json:"how"`
	// Former says that only generations before the current one are concerned: no boot
	// that begins now meets it.
	Former bool `json:"former,omitempty"`
	// Machines names, where they are known, the machines that it concerns: hosts by
	// their address, others by their hardware address or their address. Sorted.
	Machines []string `json:"machines,omitempty"`
}

// LostListener describes a socket that machines cannot reach, without what declares it.
// Its provider binds it again as soon as that can be done.
func LostListener(protocol string, at netip.AddrPort, why error) Drift {
	return Drift{
		Kind: DriftListenerLost, What: protocol + " " + at.String(),
		Message: fmt.Sprintf("machines cannot reach the listener of %s on %s: %v", protocol, at, why),
		Heals:   true, How: "it is bound again as soon as that can be done, and serves again once its address is there",
	}
}

// LostListeners describes sockets that machines cannot reach, each with the one of
// servers whose listener of that protocol it is; of gives that listener. A socket that
// none of them declares serves only earlier generations. In no particular order.
func LostListeners(protocol string, lost map[netip.AddrPort]error, servers []*schema.Server, of func(*schema.Server) schema.Listener) []Drift {
	var list []Drift
	for at, why := range lost {
		d := LostListener(protocol, at, why)
		d.Former = true
		for _, s := range servers {
			if l := of(s); !l.Disabled && l.Listen == at {
				d.Address, d.Range, d.Former = s.Addr, s.Range, false
			}
		}
		list = append(list, d)
	}
	return list
}

// Same reports whether d and o are the same drift.
func (d *Drift) Same(o *Drift) bool {
	return d.Kind == o.Kind && d.Address == o.Address && d.What == o.What
}

// CompareDrift orders by kind, resource and thing.
func CompareDrift(a, b Drift) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Address.Compare(b.Address), cmp.Compare(a.What, b.What))
}

// Watcher is a Provider that notices when what it publishes is not what machines meet.
// It heals what is its own by itself (a socket is bound again), and says what is not.
type Watcher interface {
	// Drift gives what is known at present, in the order of CompareDrift. It neither
	// blocks nor changes anything, and may be called from any goroutine.
	Drift() []Drift
	// Look finds out anew what cannot be known without asking, and returns within a few
	// seconds, or when ctx ends. It changes nothing that a machine can see.
	Look(ctx context.Context) error
}

// Keeper is a Provider that serves blobs out of files that it keeps open. Such a file
// is served whatever becomes of its name in the content store; its methods may be
// called from any goroutine.
type Keeper interface {
	// KeptBlob gives the open file of a blob, nil when none is open. The caller closes
	// it, and reads by a position of its own.
	KeptBlob(digest string) *os.File
	// SpoilBlob says that the bytes of the open file are not those of the blob any
	// more: no boot that begins from now on is served from it, until there is another
	// file in the content store. Who reads it goes on. Nothing is done when f is not,
	// or no longer, what is served. why is for the log and for the machines' record.
	SpoilBlob(digest string, f os.FileInfo, why error)
	// RenewBlob has all readers of a blob read the file that is in the content store
	// now, whose bytes the caller has verified. Nothing is done for a blob that is not
	// open.
	RenewBlob(b Blob) error
}
