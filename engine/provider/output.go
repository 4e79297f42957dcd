package provider

import (
	"net/netip"

	"github.com/dlreconcile/dlreconcile/schema"
)

// Output is what one resource gives to the providers after its own. Which field
// is set follows from the resource's kind.
type Output struct {
	Artifact *Artifact // image
	Export   *Export   // export
	// Trees holds, for a bootloader, the boot tree of each machine that may ask.
	Trees map[TreeKey]*Tree
	// Blobs names what else of the content store the resource is made of. The
	// generation's record keeps it, and gives it back as Input.Blobs.
	Blobs map[string]Blob
}

// Blob is one sealed file in the content store.
type Blob struct {
	Digest string `json:"digest"` // "sha256:" and 64 hex digits
	Size   int64  `json:"size"`   // bytes
}

// Artifact is a built, sealed image.
type Artifact struct {
	Recipe        string `json:"recipe"`
	Root          Blob   `json:"root"` // the file system image; its digest is the artifact's
	Kernel        Blob   `json:"kernel"`
	Initrd        Blob   `json:"initrd"` // padded with zeros to a multiple of 4 bytes
	KernelVersion string `json:"kernel_version"`
	Filesystem    string `json:"filesystem"` // "ext4", "btrfs", "squashfs"

	Arch string `json:"arch,omitempty"` // Debian architecture; "" is "amd64"
	// Signed says that the kernel carries a signature as UEFI Secure Boot wants it
	// (PE certificate table). Whose it is, only firmware knows.
	Signed bool `json:"signed,omitempty"`
	// Settles says that the initramfs reads a generated initrd after it: one with
	// the machine's Settings, see package bootloader.
	Settles bool `json:"settles,omitempty"`
	// Promoted says that it was made of what a machine wrote: nothing can build it again.
	Promoted bool `json:"promoted,omitempty"`
	// Loaders are boot programs that the image's packages brought, by name: see
	// LoaderShim and so on. nil when it has none.
	Loaders map[string]Blob `json:"loaders,omitempty"`
}

// Names in Artifact.Loaders.
const (
	LoaderShim       = "shimx64.efi"    // /usr/lib/shim/shimx64.efi.signed
	LoaderSignedGRUB = "grubx64.efi"    // /usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed
	LoaderGRUBPrefix = "grub-modules/"  // + platform: a tar of /usr/lib/grub/<platform>, names without folder
	LoaderPXELINUX   = "pxelinux.0"     // /usr/lib/PXELINUX/pxelinux.0
	LoaderLPXELINUX  = "lpxelinux.0"    // /usr/lib/PXELINUX/lpxelinux.0
	LoaderC32Prefix  = "syslinux/bios/" // + file of /usr/lib/syslinux/modules/bios
)

// Short gives the 12 hex digits that wire names carry.
func (a Artifact) Short() string { return ShortDigest(a.Root.Digest) }

// ShortDigest gives the first 12 hex digits of a "sha256:…" digest, or as many as
// there are.
func ShortDigest(digest string) string {
	const prefix = "sha256:"
	if len(digest) > len(prefix) && digest[:len(prefix)] == prefix {
		digest = digest[len(prefix):]
	}
	return digest[:min(12, len(digest))]
}

// Export is one served export.
type Export struct {
	Name       string         // wire name: "arch@3f2a9c1d7e08"
	Server     netip.AddrPort // where clients dial
	Artifact   Artifact
	Mode       schema.ExportMode
	Keep       schema.Keep
	Filesystem string
}

// TreeKey says whose tree: a host on a subnet. The zero Host is every machine
// without a host block.
type TreeKey struct {
	Host   schema.Addr
	Subnet schema.Addr
}

// Tree is the set of files that one machine is offered.
type Tree struct {
	// ID is the first 26 characters of the base32 of SHA-256 over the sorted manifest;
	// files are served below "b/<ID>/".
	ID      string
	Entry   schema.Addr // what the machine boots when nobody chooses
	Export  string      // wire name of its root; "" when there is none
	Targets []Target
}

// Target is the file that a client of some kind must be told to load. The first
// target of a tree that matches a client is the one.
type Target struct {
	Arch    uint16 // option 93, RFC 4578 section 2.1; AnyArch matches all
	Class   string // user class (option 77) that the client must carry; "" is firmware
	HTTP    bool   // HTTP boot: the client said HTTPClient in option 60
	File    string // what goes into the DHCP answer: a TFTP path without leading slash, or a URL
	Prefix  string // PXELINUX path prefix, option 210 (RFC 5071 section 5); "": not sent
	Config  string // PXELINUX configuration file, option 209 (RFC 5071 section 4); "": not sent
	Comment string // "iPXE for BIOS", for explain
}

// AnyArch matches every client architecture.
const AnyArch = 0xffff
