package schema

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// loaderUses says which types of bootloader have a use for an attribute, and why
// the others have none. Attributes that are not here are for all.
var loaderUses = []struct {
	attr  string
	types []string
	why   string
}{
	{"serial", []string{GRUB, PXELINUX}, "iPXE talks where the firmware does."},
	{"secure_boot", []string{GRUB}, "Firmware with Secure Boot starts the distribution's signed shim, and that starts GRUB."},
	{"fallback", []string{IPXE}, "What comes next when nothing boots is left to the firmware's boot order."},
}

func (l *loader) bootloader(it *item) {
	kind := it.made.addr.Type
	b := &Bootloader{
		Timeout:  it.integer("timeout", 0, 0, 3600),
		Protocol: Protocol(it.text("protocol", string(Fastest), oneOf([]string{string(TFTP), string(HTTP)}))),
	}
	for _, u := range loaderUses {
		if slices.Contains(u.types, kind) {
			continue
		}
		if _, _, written := it.value(u.attr); written {
			noun := article(kind)
			it.fail(it.place(u.attr), fmt.Sprintf("%s%s bootloader has no %s", strings.ToUpper(noun[:1]), noun[1:], u.attr), fmt.Sprintf("%s It belongs to %s bootloaders. Take the line away.", u.why, listed(u.types, "and")))
		}
	}
	switch kind {
	case IPXE:
		b.Fallback = Fallback(it.text("fallback", string(FallbackRestart), oneOf([]string{string(FallbackRestart), string(FallbackLocalDisk)})))
	case GRUB:
		b.Serial = it.text("serial", "", checkSerial)
		b.SecureBoot = it.boolean("secure_boot", false)
	case PXELINUX:
		b.Serial = it.text("serial", "", checkSerial)
	}
	if b.SecureBoot && b.Protocol == HTTP {
		it.fail(it.place("protocol"), "secure_boot by HTTP", `The signed shim asks HTTP for "//grubx64.efi", and the signed GRUB that it starts so finds no configuration. Take the line away: by TFTP both work.`)
	}
	ok := it.fine(func() {
		b.Entries = it.refs("entries", true, "entry")
		it.needed("entries")
	})
	if ok && it.has("entries") && len(b.Entries) == 0 {
		it.fail(it.place("entries"), "A bootloader without entries", "It needs at least one; the first is what machines boot when nobody chooses.")
	}
	if it.made.failed {
		return
	}
	b.Meta = it.meta()
	l.out.Bootloaders = append(l.out.Bootloaders, b)
}

// serialSpeeds are the speeds that GRUB and PXELINUX both take.
var serialSpeeds = []string{"1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200"}

// checkSerial checks a port and a speed. There are four ports that a BIOS knows.
func checkSerial(s string) error {
	unit, speed, ok := strings.Cut(s, ",")
	if !ok || len(unit) != 1 || unit[0] < '0' || unit[0] > '3' || !slices.Contains(serialSpeeds, speed) {
		return errors.New(`A serial console is a port, 0 to 3, and a speed: "0,115200". The speed is ` + listed(serialSpeeds, "or") + ".")
	}
	return nil
}
