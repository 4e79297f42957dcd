package lab

import (
	"os"
	"os/exec"
	"slices"
	"strings"
)

// need is one Debian package that a lab uses, and how to see that it is there.
type need struct {
	pkg      string
	programs []string   // all of them on PATH
	files    []string   // or one of each of these…
	firmware []Firmware // which firmware wants it; none is every lab
}

func needs() []need {
	return []need{
		{pkg: "iproute2", programs: []string{"ip"}},
		{pkg: "qemu-system-x86", programs: []string{"qemu-system-x86_64"}},
		{pkg: "seabios", files: []string{"/usr/share/seabios/bios-256k.bin"}, firmware: []Firmware{BIOS, Direct}},
		{pkg: "ipxe-qemu", files: []string{"/usr/lib/ipxe/qemu/efi-virtio.rom"}},
		{pkg: "ovmf", files: []string{ovmfCode, ovmfVars}, firmware: []Firmware{UEFI, UEFIiPXE, UEFIHTTP}},
		{pkg: "ovmf", files: []string{ovmfSecureCode, ovmfSecureVars}, firmware: []Firmware{UEFISecure}},
	}
}

// Missing names the Debian packages that are not installed and that a lab with
// machines of the given firmware needs, sorted. No firmware at all means BIOS. It
// looks for programs and files, so what was installed by other means counts.
func Missing(firmware ...Firmware) []string {
	if len(firmware) == 0 {
		firmware = []Firmware{BIOS}
	}
	var missing []string
	for _, n := range needs() {
		wanted := len(n.firmware) == 0 || slices.ContainsFunc(n.firmware, func(f Firmware) bool {
			return slices.Contains(firmware, f)
		})
		if wanted && !n.met() {
			missing = append(missing, n.pkg)
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

func (n need) met() bool {
	for _, p := range n.programs {
		if _, err := exec.LookPath(p); err != nil {
			return false
		}
	}
	for _, f := range n.files {
		if _, err := os.Stat(f); err != nil {
			return false
		}
	}
	return true
}

// InstallCommand is what to type to install the packages that Missing named; ""
// when there are none.
func InstallCommand(packages []string) string {
	if len(packages) == 0 {
		return ""
	}
	cmd := "apt-get install --yes --no-install-recommends " + strings.Join(packages, " ")
	if os.Geteuid() != 0 {
		cmd = "sudo " + cmd
	}
	return cmd
}
