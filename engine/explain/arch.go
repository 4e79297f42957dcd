package explain

import "strconv"

// Vendor gives what firmware of a client architecture says in option 60, up to the
// first colon: HTTPClient for those that boot over HTTP, else PXEClient. The
// numbers are of the IANA registry "Processor Architecture Types" (RFC 5970,
// section 3.3).
func Vendor(arch uint16) string {
	switch arch {
	case 15, 16, 17, 18, 19, 20, 23, 24, 26, 28, 30:
		return "HTTPClient"
	default:
		return "PXEClient"
	}
}

// ipxeArch gives the client architecture that iPXE reports when firmware of the
// given one loaded it: never one of those for HTTP boot.
func ipxeArch(arch uint16) uint16 {
	switch arch {
	case 15:
		return 6
	case 16:
		return 7
	case 18:
		return 10
	case 19:
		return 11
	case 20:
		return 0
	default:
		return arch
	}
}

// ArchName gives the name of a client architecture for people.
func ArchName(arch uint16) string {
	switch arch {
	case 0:
		return "BIOS"
	case 6:
		return "UEFI x86, 32 bits"
	case 7, 9: // 9 is EBC by the registry's first edition; firmware says it for x86-64
		return "UEFI x86-64"
	case 10:
		return "UEFI ARM, 32 bits"
	case 11:
		return "UEFI ARM, 64 bits"
	case 15:
		return "UEFI x86, 32 bits, HTTP"
	case 16:
		return "UEFI x86-64, HTTP"
	case 18:
		return "UEFI ARM, 32 bits, HTTP"
	case 19:
		return "UEFI ARM, 64 bits, HTTP"
	default:
		return "number " + strconv.Itoa(int(arch)) + " of option 93"
	}
}
