package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
)

// way is one way for a machine to boot from the network. In the sites of the tests
// there is one host for each.
type way struct {
	name     string // of the host, too
	last     byte   // of the machine's MAC
	firmware lab.Firmware
	arch     uint16 // what its firmware says in option 93
	class    string // and in option 77
	// bootloader is the address of the block that serves it.
	bootloader string
	bySubnet   bool   // the host has no boot of its own
	entry      string // "ext4", "btrfs", "squashfs", "tiny"
	peer       byHand
}

// address is the reservation of the machine.
func (w way) address() string { return fmt.Sprintf("10.77.0.%d", w.last) }

// byHand is how dnsmasq is told the same.
type byHand struct {
	file    string   // for the firmware
	script  string   // for an iPXE that the firmware has loaded; "" when it loads none
	options []string // DHCP options, sent asked for or not
}

// The network card of a BIOS machine has iPXE in its ROM. Told a boot program
// instead of a script, it loads and starts that as any PXE ROM does.
const ipxeROM = "iPXE"

// ways are the eleven ways, and one more that differs in its root only.
func ways() []way {
	const (
		overHTTP = "http://" + peerAddress + "/"
		script   = overHTTP + "boot.ipxe"
	)
	all := []way{
		{"bios-grub", 0x31, lab.BIOS, 0, ipxeROM, "bootloader.grub.menu", false, "btrfs", byHand{file: "grub-tftp/i386-pc/core.0"}},
		{"bios-pxelinux", 0x32, lab.BIOS, 0, ipxeROM, "bootloader.pxelinux.tftp", false, "ext4", byHand{file: "pxelinux.0"}},
		{"bios-lpxelinux", 0x33, lab.BIOS, 0, ipxeROM, "bootloader.pxelinux.http", false, "ext4", byHand{file: "lpxelinux.0", options: []string{"210," + overHTTP}}},
		{"bios-ipxe-tftp", 0x34, lab.BIOS, 0, ipxeROM, "bootloader.ipxe.tftp", false, "ext4", byHand{file: "boot-tftp.ipxe"}},
		{"bios-ipxe-http", 0x35, lab.BIOS, 0, ipxeROM, "bootloader.ipxe.http", false, "ext4", byHand{file: script}},
		{"uefi-grub", 0x36, lab.UEFI, 7, "", "bootloader.grub.menu", false, "ext4", byHand{file: "grub-tftp/x86_64-efi/core.efi"}},
		{"uefi-snponly", 0x37, lab.UEFI, 7, "", "bootloader.ipxe.snp", false, "ext4", byHand{file: "snponly.efi", script: script}},
		{"uefi-ipxe", 0x38, lab.UEFI, 7, "", "bootloader.ipxe.http", true, "ext4", byHand{file: "ipxe.efi", script: script}},
		{"uefi-ipxe-rom", 0x39, lab.UEFIiPXE, 7, ipxeROM, "bootloader.ipxe.http", false, "ext4", byHand{file: script}},
		{"uefi-http-grub", 0x3a, lab.UEFIHTTP, 16, "", "bootloader.grub.menu", false, "ext4", byHand{file: overHTTP + "grub-http/x86_64-efi/core.efi"}},
		{"uefi-http-ipxe", 0x3b, lab.UEFIHTTP, 16, "", "bootloader.ipxe.http", false, "ext4", byHand{file: overHTTP + "ipxe.efi", script: script}},
		{"bios-squashfs", 0x3c, lab.BIOS, 0, ipxeROM, "bootloader.ipxe.http", false, "squashfs", byHand{file: script}},
	}
	return selected(all)
}

// waysVar, when set, holds what the names of the ways that are tried must contain, one
// of several separated by commas.
const waysVar = "DLRECONCILE_BOOT_WAYS"

func selected(all []way) []way {
	only := os.Getenv(waysVar)
	if only == "" {
		return all
	}
	var some []way
	for _, w := range all {
		for part := range strings.SplitSeq(only, ",") {
			if strings.Contains(w.name, part) {
				some = append(some, w)
				break
			}
		}
	}
	return some
}
