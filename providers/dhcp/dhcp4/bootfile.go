package dhcp4

import (
	"fmt"

	"github.com/insomniacslk/dhcp/iana"
)

// What clients call themselves.
const (
	// ClassIPXE is iPXE's user class: it wants a script and not itself again.
	ClassIPXE = "iPXE"
	// VendorPXE and VendorHTTP begin option 60 of firmware (RFC 4578 section 3; UEFI
	// specification 2.5, "HTTP Boot").
	VendorPXE  = "PXEClient"
	VendorHTTP = "HTTPClient"
)

// wantsFile reports whether the client is about to boot from the network. A
// system that runs already is left in peace. A BOOTP client says nothing about
// itself; it has always been given a file.
func (f *Facts) wantsFile() bool {
	return f.Boots() || f.HasArch || f.Type == 0
}

// Boots reports whether the client says of itself that it boots: firmware, or
// iPXE. Nobody else looks for a proxy DHCP server.
func (f *Facts) Boots() bool { return f.pxe() || f.Vendor == VendorHTTP }

// pxe reports whether the client speaks the PXE dialect.
func (f *Facts) pxe() bool { return f.Vendor == VendorPXE || f.Class == ClassIPXE }

// File says what the client must load; a Target without File when it is nothing.
// When that is a mistake, why says so.
//
// A user class that a target names is served by those targets only; any other
// class is firmware. So iPXE gets its script where there is one, and is treated
// as the ROM that it is where another boot loader is wanted.
//
// Of the architectures that a client names (RFC 4578 section 2.1 allows several),
// the first that there is a file for counts. Whether it boots over HTTP is said by
// its vendor class, whatever the number: some firmware sends 7 with HTTPClient.
func (b *Boot) File(f *Facts) (t Target, why string) {
	if !f.wantsFile() {
		return Target{}, ""
	}
	class, http := "", f.Vendor == VendorHTTP
	for _, t := range b.Targets {
		if t.Class != "" && t.Class == f.Class {
			class = f.Class
		}
	}
	for i := range 1 + len(f.Others) {
		arch := f.Arch
		if i > 0 {
			arch = f.Others[i-1]
		}
		if file := b.Files[arch]; file != "" && class == "" {
			return Target{Arch: arch, HTTP: http, File: file}, ""
		}
		for _, t := range b.Targets {
			if t.Class == class && t.HTTP == http && (t.Arch == arch || t.Arch == AnyArch) {
				return t, ""
			}
		}
	}
	switch {
	case b.Missing != "":
		return Target{}, b.Missing
	case len(b.Targets) == 0 && len(b.Files) == 0:
		return Target{}, "" // addresses only, as configured
	case f.Type == 0:
		return Target{}, "" // it may not want to boot at all
	}
	how := "TFTP"
	if http {
		how = "HTTP boot"
	}
	if class != "" {
		how += ", user class " + class
	}
	return Target{}, fmt.Sprintf("no boot file for client architecture %d (%s; %s)", f.Arch, b.archName(f.Arch), how)
}

func (b *Boot) archName(arch uint16) string {
	if b.ArchName == nil {
		return iana.Arch(arch).String()
	}
	return b.ArchName(arch)
}
