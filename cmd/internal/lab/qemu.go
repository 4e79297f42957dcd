package lab

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Firmware is what a machine starts with.
type Firmware int

const (
	// BIOS is SeaBIOS with iPXE as the network card's option ROM. The default.
	BIOS Firmware = iota
	// UEFI is OVMF with its own PXE client.
	UEFI
	// UEFIiPXE is OVMF with iPXE as the network card's option ROM.
	UEFIiPXE
	// UEFIHTTP is OVMF that boots by HTTP, not PXE.
	UEFIHTTP
	// UEFISecure is OVMF with its own PXE client and UEFI Secure Boot on, trusting
	// what Microsoft signed.
	UEFISecure
	// Direct is no network boot: QEMU puts Kernel, Initrd and Append into memory.
	Direct
)

// String gives the name as messages show it.
func (f Firmware) String() string {
	names := [...]string{"BIOS", "UEFI", "UEFI with iPXE", "UEFI HTTP boot", "UEFI Secure Boot", "direct kernel"}
	if f < 0 || int(f) >= len(names) {
		return "Firmware(" + strconv.Itoa(int(f)) + ")"
	}
	return names[f]
}

// Where Debian's ovmf package has its firmware, and the variables to copy: those of
// the second pair hold Microsoft's keys.
const (
	ovmfCode       = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars       = "/usr/share/OVMF/OVMF_VARS_4M.fd"
	ovmfSecureCode = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"
	ovmfSecureVars = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
)

// ovmf gives the firmware's code and the variables to start with; "" for machines
// without UEFI.
func (f Firmware) ovmf() (code, vars string) {
	switch f {
	case UEFI, UEFIiPXE, UEFIHTTP:
		return ovmfCode, ovmfVars
	case UEFISecure:
		return ovmfSecureCode, ovmfSecureVars
	}
	return "", ""
}

// Disk is a disk image, seen by the guest as /dev/vda.
type Disk struct {
	Path   string // written by the guest
	Format string // of qemu-img(1); empty is "raw"
}

// MachineConfig says what a machine is like. Name and MAC are needed.
type MachineConfig struct {
	Name   string       // for people and log files; of what no running machine has
	MAC    provider.MAC // of its network card; likewise
	UUID   string       // system UUID; empty: all zero, and so DHCP option 97
	Memory int          // MiB; 0 is 512
	CPUs   int          // 0 is 1
	Disk   *Disk        // nil: none

	Firmware Firmware
	// Kernel, Initrd and Append go with Direct only. Initrd and Append may be empty.
	Kernel, Initrd, Append string

	// Accelerator is QEMU's -accel; empty is "tcg", which runs everywhere.
	Accelerator string
	// Args come last on QEMU's command line.
	Args []string
}

// check finds what QEMU would not complain about, or not clearly.
func (c MachineConfig) check() error {
	switch {
	case c.Name == "":
		return errors.New("has no name")
	case c.MAC.IsZero():
		return errors.New("has no hardware address")
	case c.MAC[0]&1 != 0:
		return fmt.Errorf("hardware address %v is a group's", c.MAC)
	case c.Firmware < BIOS || c.Firmware > Direct:
		return fmt.Errorf("unknown firmware %v", c.Firmware)
	case c.Firmware == Direct && c.Kernel == "":
		return errors.New("direct boot without a kernel")
	case c.Firmware != Direct && (c.Kernel != "" || c.Initrd != "" || c.Append != ""):
		return fmt.Errorf("kernel, initrd and append do not go with %v", c.Firmware)
	case c.Memory < 0 || c.CPUs < 0:
		return errors.New("negative memory or processors")
	}
	return nil
}

// Numbers of the descriptors that QEMU inherits: its ends of two socket pairs.
const (
	consoleFD = 3
	qmpFD     = 4
)

// args is QEMU's command line. tap is its network device; vars its own copy of
// OVMF's variables when it starts with UEFI; consoleLog takes the serial console.
func (c MachineConfig) args(tap, vars, consoleLog string) []string {
	accel, cpu := c.Accelerator, "host"
	if accel == "" || accel == "tcg" {
		accel, cpu = "tcg", "qemu64"
	}
	args := []string{
		"-name", clean(c.Name),
		"-accel", accel, "-cpu", cpu,
		"-smp", strconv.Itoa(max(c.CPUs, 1)),
		"-m", strconv.Itoa(orElse(c.Memory, 512)),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d,logfile=%s", consoleFD, escape(consoleLog)),
		"-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", qmpFD),
		"-mon", "chardev=qmp,mode=control",
		"-netdev", "tap,id=" + netdevID + ",script=no,downscript=no,ifname=" + tap,
	}
	card := "virtio-net-pci,id=" + cardID + ",netdev=" + netdevID + ",mac=" + c.MAC.String()
	// The option ROM is iPXE unless romfile is empty. Naming the ROM's file instead
	// gives it the wrong PCI identity.
	switch c.Firmware {
	case BIOS:
		args = append(args, "-machine", "pc,graphics=off", "-device", card+",bootindex=1")
	case Direct:
		args = append(args, "-machine", "pc,graphics=off", "-device", card+",romfile=", "-kernel", c.Kernel)
		if c.Initrd != "" {
			args = append(args, "-initrd", c.Initrd)
		}
		if c.Append != "" {
			args = append(args, "-append", c.Append)
		}
	case UEFIiPXE:
		args = append(c.uefi(args, vars), "-device", card+",bootindex=1")
	case UEFI, UEFISecure:
		args = append(c.uefi(args, vars), "-device", card+",romfile=,bootindex=1")
	case UEFIHTTP:
		// Without the words below OVMF first tries PXE for two minutes.
		args = append(c.uefi(args, vars), "-device", card+",romfile=,bootindex=1",
			"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n",
			"-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
	}
	if c.UUID != "" {
		args = append(args, "-uuid", c.UUID)
	}
	if c.Disk != nil {
		format := c.Disk.Format
		if format == "" {
			format = "raw"
		}
		args = append(args,
			"-drive", "if=none,id=disk,format="+escape(format)+",file="+escape(c.Disk.Path),
			"-device", "virtio-blk-pci,drive=disk,bootindex=2")
	}
	return append(args, c.Args...)
}

// Names of the network's two halves in QMP commands.
const (
	netdevID = "net0"
	cardID   = "nic0"
)

// uefi adds the machine type and the firmware's two flash chips.
func (c MachineConfig) uefi(args []string, vars string) []string {
	machine := "q35"
	if c.Firmware == UEFISecure {
		// The variables are writable from system management mode only, or the guest
		// could enrol keys of its own; without it this firmware does not start.
		machine += ",smm=on"
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
	}
	code, _ := c.Firmware.ovmf()
	return append(args, "-machine", machine,
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+code,
		"-drive", "if=pflash,unit=1,format=raw,file="+escape(vars))
}

// escape spells a value so that QEMU's option parser takes its commas as they are.
func escape(s string) string {
	var b []byte
	for i := range len(s) {
		if s[i] == ',' {
			b = append(b, ',')
		}
		b = append(b, s[i])
	}
	return string(b)
}

func orElse(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
