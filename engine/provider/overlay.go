package provider

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Overlay is what is kept of one machine's writes over one export.
type Overlay struct {
	Machine    string      `json:"machine"` // hardware address; IP address where only that is known
	Host       schema.Addr `json:"host,omitzero"`
	Export     string      `json:"export"` // wire name
	Image      schema.Addr `json:"image,omitzero"`
	Artifact   string      `json:"artifact"`             // that it lies over; "": it is Unreadable, or was
	Size       int64       `json:"size"`                 // of the disk, in bytes; 0 where Artifact is ""
	Keep       string      `json:"keep"`                 // boot, host, connection; read-write for a working copy; "": nobody knows
	Generation uint64      `json:"generation,omitempty"` // that it was begun with
	Boot       string      `json:"boot,omitempty"`       // that has it, as the machine named it; "": it named none
	Created    time.Time   `json:"created,omitzero"`     // zero: it is Unreadable
	Seen       time.Time   `json:"seen,omitzero"`        // when its last connection ended; zero: it has one, or never had
	Bytes      int64       `json:"bytes"`                // that it holds, as Limit counts them
	Limit      int64       `json:"limit,omitempty"`
	Attached   []string    `json:"attached,omitempty"` // addresses of the connections that it has
	Refused    bool        `json:"refused,omitempty"`  // it was discarded from under its machine, which is not seen booting since: see ResetOverlays
	// Unreadable says why its record, or its folder, cannot be read. What is known of it its
	// place says: Machine and Export may be "". Nobody gets it, nor another in its place.
	Unreadable string `json:"unreadable,omitempty"`
	ID         string `json:"id,omitempty"` // its place below the folder of overlays, of one that is Unreadable, or was when it was discarded
}

// Is reports whether an overlay is that of a machine, by its hardware address, its
// address, or its host block's address, name or key.
func (o Overlay) Is(machine string) bool {
	if mac, err := ParseMAC(machine); err == nil {
		return o.Machine == mac.String()
	}
	if ip, err := netip.ParseAddr(machine); err == nil {
		for _, a := range o.Attached {
			if at, err := netip.ParseAddrPort(a); err == nil && at.Addr() == ip {
				return true
			}
		}
		return o.Machine == machine
	}
	return machine != "" && !o.Host.IsZero() && (o.Host.String() == machine || o.Host.Name == machine || o.Host.Key == machine)
}

// Family is the name of the export without its digest.
func (o Overlay) Family() string {
	family, _, _ := strings.Cut(o.Export, "@")
	return family
}

// Range is a piece of a disk, in bytes.
type Range struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// OverlayDiff says what a machine's overlay changed.
type OverlayDiff struct {
	Overlay
	Blocks int64      `json:"blocks"`          // of 4096 bytes that are not the image's any more, trimmed ones too
	Pieces int        `json:"pieces"`          // contiguous ranges of such blocks
	Ranges []Range    `json:"ranges"`          // the first of them
	Files  *FilesDiff `json:"files,omitempty"` // when it was asked for
	// Failed says why not all that was asked for is said of this disk; the others are whole.
	Failed string `json:"failed,omitempty"`
	// RefusedAfter says that its machine, were it reset now, would be Refused after that.
	RefusedAfter bool `json:"refused_after_reset,omitempty"`
}

// FilesDiff says which paths of a file system changed.
type FilesDiff struct {
	Changes []FileChange `json:"changes"` // the first ones, in order of path
	All     int          `json:"all"`     // how many there are
}

// FileChange is one path. Action is "added", "changed" or "removed".
type FileChange struct {
	Action string `json:"action"`
	Path   string `json:"path"`           // from the root of the file system
	Kind   string `json:"kind"`           // "file", "dir", "symlink", "device", …
	Size   int64  `json:"size,omitempty"` // of a file: after; of one that was removed: before
}

// Promoted is an artifact that was made of a machine's overlay.
type Promoted struct {
	Overlay
	Sealed Artifact  `json:"sealed"`
	Until  time.Time `json:"kept_until"` // unless a generation names it by then
}

// OverlayQuery says which overlays are meant: of a machine, of all when it is "", and
// of an export, without digest, of all when that is ""; or, by its ID, one that is
// Unreadable, or was when it was discarded.
type OverlayQuery struct {
	Machine    string
	Export     string
	Unreadable string
}

// Overlays is what an operator may do with overlays. Errors say what to do instead.
type Overlays interface {
	// Overlays lists them, in order of machine and export.
	Overlays(OverlayQuery) []Overlay
	// DiffOverlays says what they changed; with files also which paths, which takes a
	// while, and root. What is wrong with one of them is said with it.
	DiffOverlays(ctx context.Context, q OverlayQuery, files bool) ([]OverlayDiff, error)
	// ResetOverlays discards them, and gives what was discarded: all of them, or none.
	// One that is attached is an error that is ErrAttached, unless force is given: then
	// its connections are dropped, and its machine is refused until it boots. One that
	// names no boot, and was attached a short time ago or may have been, is Refused until
	// a boot session of it begins, or until it is reset once more: nothing else tells a
	// disk that was taken away from one that was never there. One that is Unreadable, and
	// may have been of any boot, is so always; it is taken for attached when somebody asked
	// for it a short time ago. It is on disk before anything is waited for; what comes
	// after is an error that says so.
	ResetOverlays(ctx context.Context, q OverlayQuery, force bool) ([]Overlay, error)
	// PromoteOverlay seals what the machine's disk reads like as an artifact of its own.
	// One that is attached is an error that is ErrAttached, unless live is given: then it
	// is as after a power cut at one moment. What the file system has to have played back
	// is, before; where it cannot be, the error is ErrUnclean.
	PromoteOverlay(ctx context.Context, q OverlayQuery, live bool) (Promoted, error)
}

// Unreader is a Provider that keeps what it may not be able to read.
type Unreader interface {
	// Unread says what it keeps of which nobody knows which artifacts it needs, and what
	// to do about it; nil when there is no such thing. It waits for no disk.
	Unread() error
}

// Errors of Overlays, wrapped in what says more.
var (
	ErrNoOverlay = errors.New("no such overlay")
	ErrAttached  = errors.New("the overlay is attached")
	ErrWhich     = errors.New("that means several disks")
	ErrUnclean   = errors.New("no image can be made of the disk")
)
