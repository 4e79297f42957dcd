package schema

import (
	"net/netip"
	"time"
)

// Desired is the desired state of one tree of files: what Load returns, and what
// every other part of the system reads. It is immutable: nobody writes to it, or
// to anything reachable from it, after Load has returned, so it may be shared
// between goroutines freely.
//
// Every slice is sorted by address. The zero Desired is an empty desired state.
type Desired struct {
	Servers     []*Server
	Images      []*Image
	Exports     []*Export
	Entries     []*Entry
	Bootloaders []*Bootloader
	Subnets     []*Subnet
	Groups      []*Group
	Hosts       []*Host

	// Policy is what the tree says of changes; the zero Policy says nothing.
	Policy Policy
	// Moved lists resources that have another address now, sorted by To.
	Moved []Move

	// Variables holds the value each variable of the root had, as canonical JSON, sensitive
	// ones left out. Together with Files it is all that Load needs to give the
	// same Desired again.
	Variables map[string]string

	// Files lists, sorted by path, every file of the tree that Load read
	// (configuration, and whatever file(), csvdecode() and the like consumed)
	// or took the digest of (what images are built from).
	Files []File

	// Resources is the same state as a flat list, sorted by address: the form
	// that plans compare. See Resource.
	Resources []Resource
}

// File is one file of the tree, or one folder with all that is in it, that the
// desired state depends on.
type File struct {
	Path   string // slash-separated, relative to the loaded folder; a folder ends in a slash
	Digest string // "sha256:" and 64 hex digits; of a folder, see Directory.Digest
	Size   int64
	Config bool // its content was needed by Load itself, not only its digest
}

// Resource is one block in the form that plans compare and print.
type Resource struct {
	Addr  Addr
	Range Range  // the block header
	Attrs []Attr // sorted by name; defaults are included, so that a changed default shows
	// References lists, sorted and without repeats, the resources this one names.
	References []Addr
}

// Attr is one attribute of a resource.
type Attr struct {
	Name      string // dotted path: "address", "filesystem.size", "pool[0].range", "file[\"/etc/motd\"].content"
	Value     string // canonical JSON: sorted keys, no white space
	Range     Range  // where it was written; the zero Range for a default
	Sensitive bool   // never print or store Value
}

// Meta is what every block has.
type Meta struct {
	Addr  Addr
	Range Range // the block header
	// Attrs says where an attribute was written. A name that is not there was
	// defaulted. Names are as in Attr.Name.
	Attrs map[string]Range
}

// At gives the range of the named attribute, or of the block when the attribute
// was not written.
func (m *Meta) At(attr string) Range {
	if r, ok := m.Attrs[attr]; ok {
		return r
	}
	return m.Range
}

// Server declares which sockets exist. Nothing else in the language binds one.
type Server struct {
	Meta
	Interface string     // network interface; "": the interface that has Address
	Address   netip.Addr // the address clients are told; IPv4

	// One listener per protocol. The address is Server.Address unless written.
	DHCP, TFTP, HTTP, NBD, NFS Listener
}

// Listener is one socket of a server.
type Listener struct {
	Disabled bool           // `enabled = false`
	Listen   netip.AddrPort // standard port unless written: 67, 69, 80, 10809, 2049
}

// SourceKind says what an image is made from.
type SourceKind string

// The sources of the language. See Unserved for those that nothing builds yet.
const (
	SourceDebootstrap SourceKind = "debootstrap"
	SourcePacstrap    SourceKind = "pacstrap"
	SourceTar         SourceKind = "tar"
	SourceOCI         SourceKind = "oci"
	SourceDirectory   SourceKind = "directory"
	SourceDisk        SourceKind = "disk"
	SourceSealed      SourceKind = "sealed"
)

// Image describes a root file system: a recipe. What it builds to, the artifact,
// is not known here.
type Image struct {
	Meta
	Source      SourceKind
	Debootstrap *Debootstrap // exactly one of these is set, as Source says
	Pacstrap    *Pacstrap
	Tar         *Tar
	OCI         *OCI
	Directory   *Directory
	Disk        *Disk
	Sealed      *Sealed // then nothing below is set but Filesystem.Type and the recipes

	Hostname string
	Timezone string
	Locale   string
	Keymap   string
	Mask     []string // systemd units that must not start
	Files    []*ImageFile
	Copies   []*Copy // done before Files are put in

	Initramfs  Initramfs
	Filesystem Filesystem

	// Recipe is "sha256:" and 64 hex digits over the canonical specification
	// and the digests of the files of the repo it names, and over nothing else:
	// no time, no mirror default, no host package.
	Recipe string
	// BaseRecipe is the same over the part that a package manager has to do (the
	// source and its packages), so that an edited file does not fetch Debian again.
	BaseRecipe string
}

// Debootstrap is a Debian-like root made by mmdebstrap or debootstrap.
type Debootstrap struct {
	Suite      string   // "bookworm"
	Mirror     string   // "" means the machine's own package sources for Suite
	Components []string // default ["main"]
	Packages   []string // beyond the minimal system; sorted, no repeats
	Variant    string   // "minbase" (default), "apt", "essential", "standard"
	Keyring    string   // path of a keyring file in the repo; "" means the machine's
	Arch       string   // Debian architecture; default "amd64"
}

// Tar is a root taken from a tar file of the repo (plain, gzip, xz or zstd).
type Tar struct {
	Path   string // in the repo
	SHA256 string // when written: 64 hex digits, checked by Load
	Digest string // "sha256:…" of the file as it is
}

// Pacstrap is an Arch Linux root made by pacstrap.
type Pacstrap struct {
	Mirror   string        // with $repo and $arch in it; "" means the machine's own mirrors
	Packages []string      // sorted, no repeats
	Files    []PackageFile // packages of the repo, installed after those; sorted by path
	Arch     string        // default "x86_64"
}

// PackageFile is a package that is a file of the repo.
type PackageFile struct {
	Path   string
	Digest string // "sha256:…"
}

// OCI is a root taken from a container image.
type OCI struct {
	// Reference names it by digest, so that it is the same bytes for ever:
	// "registry.example/name@sha256:…", perhaps with a tag before the @.
	Reference string
	Platform  string // default "linux/amd64"
}

// Directory is a root that is a folder of the repo.
type Directory struct {
	Path string
	// Digest is "sha256:…" over the paths of its files and links, which files may be
	// executed, their bytes, and where links lead: what Git keeps of a folder. Empty
	// folders, owners and other permissions are not in it.
	Digest string
}

// Disk is a root taken from a partition of a disk image.
type Disk struct {
	Path      string // a file of the repo; or
	URL       string // where to fetch it, http or https
	SHA256    string // 64 hex digits; needed with URL, else checked by Load when written
	Digest    string // "sha256:…" of the file, either way
	Format    string // "raw" (default) or "qcow2"
	Partition int    // from 1; 0 (default) is the largest one, or the whole disk when it has none
}

// Copy makes a changed copy of a file that the image's packages brought.
type Copy struct {
	Meta        // Addr is zero; Range and Attrs are set
	Path string // absolute path of the copy, in the image
	From string // absolute path, in the image
	// Replace has texts by what they replace: everywhere, all at once from the
	// beginning of the file on, the longer one where two begin alike. One that is not
	// found is a mistake of the build.
	Replace     map[string]string
	Permissions uint32 // 0: those of From
}

// ImageFile is a file put into an image.
type ImageFile struct {
	Meta               // Addr is zero; Range and Attrs are set
	Path        string // absolute path in the image
	Content     string // literal content; or
	Source      string // a file of the repo; "" when Content is used
	Digest      string // "sha256:…" of the bytes either way
	Symlink     string // when set, the file is a symbolic link with this target
	Permissions uint32 // default 0644
	Owner       int    // numeric
	Group       int
}

// Sealed is an artifact that is in the store of the daemon already, and nowhere else:
// made of what a machine wrote, by `dlreconcile image promote`.
type Sealed struct {
	Digest string // "sha256:…" of the root
}

// The generators of initial RAM disks.
const (
	InitramfsTools = "initramfs-tools"
	Mkinitcpio     = "mkinitcpio"
	Dracut         = "dracut"
	// OwnInitramfs makes none: the source brings its own, in
	// /boot/initrd.img-<kernel version>, and nothing of ours goes into the image.
	OwnInitramfs = "none"
)

// Initramfs says what the image's initial RAM disk must hold.
type Initramfs struct {
	// Generator is one of the words above. Default: Mkinitcpio for SourcePacstrap,
	// else InitramfsTools.
	Generator string
	Hooks     []string // mkinitcpio's HOOKS, dracut's modules: in the order in which they are written
	Binaries  []string // programs beyond those of the hooks; sorted, no repeats
	Modules   []string // extra kernel modules; sorted, no repeats
	Compress  string   // "zstd" (default), "gzip", "xz", "lz4"
}

// Filesystem is what the artifact's root is.
type Filesystem struct {
	Type     string // "ext4", "btrfs" or "squashfs"
	Size     int64  // bytes, for ext4 and btrfs: sparse; a multiple of 4096. 0 for squashfs
	Compress string // squashfs: "zstd" (default), "lz4", "xz", "gzip"; btrfs: "" (none), "zstd", "lzo", "zlib"
	Label    string
}

// ExportMode says what clients may do to an export.
type ExportMode string

// The modes of an export.
const (
	ReadOnly    ExportMode = "read-only"
	CopyOnWrite ExportMode = "copy-on-write" // of NBD only
	// ReadWrite writes to a working copy of the image: by NBD of exactly one host,
	// by NFS of all clients together.
	ReadWrite ExportMode = "read-write"
)

// The types of export, as in Addr.Type of an Export.
const (
	NBD = "nbd"
	NFS = "nfs"
)

// Keep says how long a copy-on-write overlay lives.
type Keep string

const (
	// KeepBoot keeps an overlay for one boot of one machine, over restarts of the
	// daemon, and discards it at the machine's next boot.
	KeepBoot Keep = "boot"
	// KeepHost keeps it over boots, for as long as the image is the same.
	KeepHost Keep = "host"
	// KeepConnection discards it when the connection ends.
	KeepConnection Keep = "connection"
)

// Export offers an image over the network. Addr.Type is NBD or NFS.
type Export struct {
	Meta
	Server Addr
	Image  Addr
	Mode   ExportMode
	Keep   Keep   // for copy-on-write
	Limit  int64  // for copy-on-write: bytes that one machine's overlay may hold; 0: none
	Allow  []Addr // subnets and hosts that may attach; empty means every known client
	TLS    TLS    // of NBD only

	// Of NFS only.
	Path    string   // below the server's root: "/arch"; default "/" and the block's name
	Clients []string // as exports(5) has them: "*", a prefix or an address; default: those of Allow
	Options []string // as exports(5) has them, sorted, no repeats
}

// TLS says whether an export is served in the clear.
type TLS string

// The values of TLS.
const (
	TLSOffered  TLS = ""         // to who asks, where the daemon has a certificate
	TLSRequired TLS = "required" // nobody attaches without
)

// Entry is something to boot.
type Entry struct {
	Meta
	Title string // default: the block's name
	Image Addr   // where kernel and initrd come from
	Root  Addr   // the export that holds the root file system
	Args  []string
	Settings
}

// The types of boot loader, as in Addr.Type of a Bootloader.
const (
	IPXE     = "ipxe"
	GRUB     = "grub"
	PXELINUX = "pxelinux"
)

// Protocol says by which protocol a boot loader fetches.
type Protocol string

// The protocols of boot files.
const (
	Fastest Protocol = "" // whichever is faster in that loader
	TFTP    Protocol = "tftp"
	HTTP    Protocol = "http"
)

// Fallback says what an iPXE does that cannot boot.
type Fallback string

const (
	// FallbackRestart starts the machine over, after some attempts.
	FallbackRestart Fallback = "restart"
	// FallbackLocalDisk boots the machine's first disk, after some attempts.
	FallbackLocalDisk Fallback = "local-disk"
)

// Bootloader says how an entry gets to a machine. Addr.Type is IPXE, GRUB or
// PXELINUX.
type Bootloader struct {
	Meta
	Entries []Addr // the first is the default
	Timeout int    // seconds that a menu waits; 0 boots the default at once

	// Protocol is how kernel and initrd are fetched, and, where the loader has a
	// choice, its scripts too. PXELINUX by HTTP is LPXELINUX.
	Protocol Protocol
	// Serial is the serial console of GRUB and PXELINUX beside the screen: unit and
	// speed, "0,115200" for the first port; "" means none.
	Serial string
	// SecureBoot has UEFI machines load the distribution's signed shim and GRUB,
	// which start signed kernels only. GRUB only.
	SecureBoot bool
	// Fallback is what to do when nothing boots. iPXE only; default FallbackRestart.
	Fallback Fallback
}

// SubnetMode says who gives out addresses on a subnet.
type SubnetMode string

const (
	// ModeServer answers DHCP in full: the default.
	ModeServer SubnetMode = "server"
	// ModeProxy leaves addresses to a DHCP server that is not ours, and says only
	// what to boot (PXE 2.1, section 2.2: proxyDHCP, ports 67 and 4011).
	ModeProxy SubnetMode = "proxy"
)

// Subnet is one network segment that DHCP answers on.
type Subnet struct {
	Meta
	Server            Addr
	Mode              SubnetMode
	CIDR              netip.Prefix
	Authoritative     bool
	BOOTP             bool
	Routers           []netip.Addr
	DomainNameServers []netip.Addr
	DomainName        string
	NTPServers        []netip.Addr
	InterfaceMTU      int // 0: not sent
	NextServer        netip.Addr
	LeaseTime         time.Duration     // whole seconds
	Boot              []Addr            // bootloaders, the first that has a program for a machine counts; empty: addresses only
	BootFileName      map[uint16]string // by client architecture; overrides what Boot would name
	Pools             []Pool            // none in ModeProxy
	// RouterAdvertisement answers IPv6 router solicitations with "no router
	// here", which spares iPXE a wait of 16 s. Default true.
	RouterAdvertisement bool
}

// Pool is an inclusive range of addresses given to clients without a reservation.
type Pool struct {
	Range    Range
	From, To netip.Addr
}

// Policy is what may be brought about without an operator. What counts is the policy
// of the generation that is served, not the one of the commit that would replace it,
// so that no commit lets itself through; while nothing is served, the commit's own.
type Policy struct {
	Range Range // the block; zero: there is none
	// MaxDelete denies plans that delete more. nil denies those that delete more
	// than 5 resources and more than 10 % of what is served.
	MaxDelete *MaxDelete
	// AllowEmpty lets a plan through after which no resource is left.
	AllowEmpty bool
	// Approve has an operator apply each commit; the engine does not by itself.
	Approve bool
	// Windows are when the engine applies by itself; none: always.
	Windows []Window
}

// MaxDelete is a limit of deletions: exactly one field is set, the other is negative.
type MaxDelete struct {
	Range   Range
	Count   int // of resources
	Percent int // of the resources that are served
}

// Window is a time of day, on some days of the week.
type Window struct {
	Range    Range
	Days     []time.Weekday // sorted; of the beginning
	From, To time.Duration  // since midnight, whole minutes; To at or before From is on the next day
	Zone     string         // of the tz database; default "UTC"
}

// Move says that a resource was known by another address before. Without keys in
// either, all instances of the block are meant.
type Move struct {
	From, To Addr
	Range    Range
}

// Group gives hosts what they do not say themselves.
type Group struct {
	Meta
	Entry Addr
	Boot  []Addr
	Args  []string // between the entry's and the host's
	Settings
}

// Host is one known machine.
type Host struct {
	Meta
	MAC      string     // lower case, colons
	Address  netip.Addr // reservation; the zero Addr takes one from a pool
	Subnet   Addr       // the subnet that holds Address; zero when Address is
	Hostname string     // option 12; default: the for_each key, else the block's name
	Group    Addr       // zero: none
	Entry    Addr       // zero: the group's, else the bootloader's first entry
	Boot     []Addr     // empty: the group's, else the subnet's
	Args     []string   // appended to the entry's and the group's
	Settings
}

// Settings is what a machine does to its root when it has mounted it: blocks of an
// entry, a group or a host. They reach the machine in a generated initrd of its
// own, never in the shared image.
type Settings struct {
	Mounts []Mount     // sorted by Path
	Files  []*HostFile // sorted by Path
	States []State     // sorted by Path
}

// Mount is one line of the machine's fstab. Path "/" adds options to the root, which
// is mounted already.
type Mount struct {
	Range   Range
	Path    string // absolute
	Type    string // "tmpfs", "ext4", "nfs", "none", …; may be "" for "/"
	Device  string // first field of fstab; default: Type, which is right for tmpfs
	Options []string
}

// HostFile is a file put into the machine's root.
type HostFile struct {
	Range       Range
	Path        string // absolute
	Content     string // the bytes, at most 256 KiB; from content or from a file of the repo
	Digest      string // "sha256:…" of them
	Sensitive   bool   // never print Content
	Permissions uint32 // default 0644
	Owner       int    // numeric
	Group       int
}

// State is a directory that each machine has for itself although the root is
// shared: a directory of its own, kept beside the root's files and mounted at Path.
// It lives as long as the root that it lies on.
type State struct {
	Range Range
	Path  string // absolute
	Per   string // "host", the only one today
}
