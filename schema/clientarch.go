package schema

import "strconv"

// Platform is what a boot program must be built for. GRUB's names.
type Platform string

// The platforms that some boot loader exists for.
const (
	PlatformBIOS  Platform = "i386-pc"
	PlatformX64   Platform = "x86_64-efi"
	PlatformIA32  Platform = "i386-efi"
	PlatformARM64 Platform = "arm64-efi"
	PlatformARM   Platform = "arm-efi"
)

// ClientArch is one client architecture: what DHCP option 93 carries.
type ClientArch struct {
	Number   uint16
	Name     string   // for people
	Platform Platform // "" when no boot loader is known for it
	// HTTP says that the number is meant for firmware that boots over HTTP. Whether
	// a client does is said by its option 60, not by the number: some firmware sends
	// the one with the other.
	HTTP bool
}

// ClientArchs gives the IANA registry "Processor Architecture Types" (RFC 5970,
// section 3.3), with what machines mean that send a number: 9, registered for EFI
// byte code, comes from x86-64 firmware, and so does 17.
func ClientArchs() []ClientArch {
	all := clientArchs
	return all[:]
}

// clientArchs is never written to: ClientArchs gives a copy.
var clientArchs = [...]ClientArch{
	{0, "BIOS", PlatformBIOS, false},
	{1, "NEC/PC98", "", false},
	{2, "UEFI Itanium", "", false},
	{3, "DEC Alpha", "", false},
	{4, "Arc x86", "", false},
	{5, "Intel Lean Client", "", false},
	{6, "UEFI x86, 32 bits", PlatformIA32, false},
	{7, "UEFI x86-64", PlatformX64, false},
	{8, "UEFI Xscale", "", false},
	{9, "UEFI byte code, said by x86-64", PlatformX64, false},
	{10, "UEFI ARM, 32 bits", PlatformARM, false},
	{11, "UEFI ARM, 64 bits", PlatformARM64, false},
	{12, "PowerPC Open Firmware", "", false},
	{13, "PowerPC ePAPR", "", false},
	{14, "POWER OPAL", "", false},
	{15, "UEFI x86, 32 bits, HTTP", PlatformIA32, true},
	{16, "UEFI x86-64, HTTP", PlatformX64, true},
	{17, "UEFI byte code, said by x86-64, HTTP", PlatformX64, true},
	{18, "UEFI ARM, 32 bits, HTTP", PlatformARM, true},
	{19, "UEFI ARM, 64 bits, HTTP", PlatformARM64, true},
	{20, "BIOS, HTTP", PlatformBIOS, true},
	{21, "U-Boot ARM, 32 bits", "", false},
	{22, "U-Boot ARM, 64 bits", "", false},
	{23, "U-Boot ARM, 32 bits, HTTP", "", true},
	{24, "U-Boot ARM, 64 bits, HTTP", "", true},
	{25, "UEFI RISC-V, 32 bits", "", false},
	{26, "UEFI RISC-V, 32 bits, HTTP", "", true},
	{27, "UEFI RISC-V, 64 bits", "", false},
	{28, "UEFI RISC-V, 64 bits, HTTP", "", true},
	{29, "UEFI RISC-V, 128 bits", "", false},
	{30, "UEFI RISC-V, 128 bits, HTTP", "", true},
	{31, "s390 Basic", "", false},
	{32, "s390 Extended", "", false},
	{33, "UEFI MIPS, 32 bits", "", false},
	{34, "UEFI MIPS, 64 bits", "", false},
	{35, "UEFI Sunway, 32 bits", "", false},
	{36, "UEFI Sunway, 64 bits", "", false},
	{37, "UEFI LoongArch, 32 bits", "", false},
	{38, "UEFI LoongArch, 32 bits, HTTP", "", true},
	{39, "UEFI LoongArch, 64 bits", "", false},
	{40, "UEFI LoongArch, 64 bits, HTTP", "", true},
	{41, "ARM rpiboot", "", false},
}

// ClientArchOf describes a number. One that is not in the registry has a name that
// says so, and no platform.
func ClientArchOf(number uint16) ClientArch {
	if int(number) < len(clientArchs) {
		return clientArchs[number]
	}
	return ClientArch{Number: number, Name: "number " + strconv.Itoa(int(number)) + " of option 93"}
}

// Boots reports whether a platform can run the kernels of a Debian architecture.
func (p Platform) Boots(arch string) bool {
	switch p {
	case PlatformBIOS, PlatformX64:
		return arch == "amd64" || arch == "i386"
	case PlatformIA32:
		return arch == "i386" || arch == "amd64" // a 64-bit kernel has an EFI mixed mode
	case PlatformARM64:
		return arch == "arm64"
	case PlatformARM:
		return arch == "armhf"
	}
	return false
}

// Architecture is what Debian calls the machines that an image is for; "" when only a
// build can tell.
func (i *Image) Architecture() string {
	switch {
	case i.Debootstrap != nil:
		return i.Debootstrap.Arch
	case i.Pacstrap != nil:
		return archArchitectures[i.Pacstrap.Arch]
	case i.OCI != nil:
		return ociPlatforms[i.OCI.Platform]
	}
	return ""
}

// LoaderPlatforms gives the platforms that a type of boot loader is made for at
// all, wherever its programs come from.
func LoaderPlatforms(loader string) []Platform {
	switch loader {
	case IPXE:
		return []Platform{PlatformBIOS, PlatformX64, PlatformARM64}
	case GRUB:
		return []Platform{PlatformBIOS, PlatformX64, PlatformIA32, PlatformARM64, PlatformARM}
	case PXELINUX:
		return []Platform{PlatformBIOS}
	}
	return nil
}
