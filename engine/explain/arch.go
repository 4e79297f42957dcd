package explain

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// What clients say in option 60, up to the first colon.
const (
	vendorPXE  = "PXEClient"
	vendorHTTP = "HTTPClient"
)

// ipxeClass is the user class (option 77) of iPXE.
const ipxeClass = "iPXE"

// Vendor gives what firmware of a client architecture says in option 60, up to the
// first colon: HTTPClient for those that boot over HTTP, else PXEClient.
func Vendor(arch uint16) string {
	if schema.ClientArchOf(arch).HTTP {
		return vendorHTTP
	}
	return vendorPXE
}

// ipxeArch gives the client architecture that iPXE reports on firmware of the given
// one: the first of the platform, and never one of those for HTTP boot. So 7 for
// firmware that says 9.
func ipxeArch(arch uint16) uint16 {
	p := schema.ClientArchOf(arch).Platform
	if p == "" {
		return arch
	}
	for _, a := range schema.ClientArchs() {
		if a.Platform == p && !a.HTTP {
			return a.Number
		}
	}
	return arch
}

// ArchName is a short name of a client architecture, as ParseArch reads it.
type ArchName struct {
	Name string
	Arch uint16
}

// ArchNames lists the names that ParseArch knows.
func ArchNames() []ArchName {
	return []ArchName{
		{"bios", 0}, {"bios-http", 20},
		{"uefi", 7}, {"uefi-http", 16},
		{"uefi32", 6}, {"uefi32-http", 15},
		{"arm64", 11}, {"arm64-http", 19},
		{"arm32", 10}, {"arm32-http", 18},
	}
}

// ParseArch reads a client architecture: a number of option 93 (7, 0x10), or one of
// ArchNames in upper or lower case.
func ParseArch(text string) (uint16, error) {
	if n, err := strconv.ParseUint(text, 0, 16); err == nil {
		return uint16(n), nil
	}
	var known []string
	for _, a := range ArchNames() {
		if strings.EqualFold(a.Name, text) {
			return a.Arch, nil
		}
		known = append(known, a.Name)
	}
	return 0, fmt.Errorf("client architecture %q: want a number of option 93, such as 0 or 0x10, or one of %s", text, strings.Join(known, ", "))
}
