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
	return f.pxe() || f.Vendor == VendorHTTP || f.HasArch || f.Type == 0
}

// pxe reports whether the client speaks the PXE dialect.
func (f *Facts) pxe() bool { return f.Vendor == VendorPXE || f.Class == ClassIPXE }

// File says what the client must load; "" when it is nothing. When that is a
// mistake, why says so.
//
// A user class that a target names is served by those targets only; any other
// class is firmware. So iPXE gets its script where there is one, and is treated
// as the ROM that it is where another boot loader is wanted.
func (b *Boot) File(f *Facts) (file, why string) {
	if !f.wantsFile() {
		return "", ""
	}
	class := ""
	for _, t := range b.Targets {
		if t.Class != "" && t.Class == f.Class {
			class = f.Class
		}
	}
	if class == "" {
		if file := b.Files[f.Arch]; file != "" {
			return file, ""
		}
	}
	for _, t := range b.Targets {
		if t.Class == class && t.HTTP == (f.Vendor == VendorHTTP) && (t.Arch == f.Arch || t.Arch == AnyArch) {
			return t.File, ""
		}
	}
	switch {
	case b.Missing != "":
		return "", b.Missing
	case len(b.Targets) == 0 && len(b.Files) == 0:
		return "", "" // addresses only, as configured
	case f.Type == 0:
		return "", "" // it may not want to boot at all
	}
	how := "TFTP"
	if f.Vendor == VendorHTTP {
		how = "HTTP boot"
	}
	if class != "" {
		how += ", user class " + class
	}
	return "", fmt.Sprintf("no boot file for client architecture %d (%s, %s)", f.Arch, iana.Arch(f.Arch), how)
}
