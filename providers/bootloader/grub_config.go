package bootloader

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Variables of the configuration. folder is the tree's path on the server, tree the
// same with the protocol and the server that kernels are fetched from.
const (
	grubFolder = "folder"
	grubMAC    = "$mac"
)

// grubDashes is a command that sets a to f to the six parts of the hardware address
// of the interface that GRUB booted from; GRUB spells it with colons. It fails for an
// address of another length.
const grubDashes = `regexp --set=1:a --set=2:b --set=3:c --set=4:d --set=5:e --set=6:f '^(..):(..):(..):(..):(..):(..)$' "$net_default_mac"`

// grubDashed joins what grubDashes has set.
const grubDashed = "$a-$b-$c-$d-$e-$f"

// config writes the configuration. It names no tree: equal ones are shared. With a
// timeout and more than one choice there is a menu; without, nothing is asked at all,
// not even for a key that is held.
//
// A machine that cannot boot tries again some times and then starts over at its
// firmware, so that it never stands still at GRUB's prompt. The commands are those of
// GRUB 2.02 and later.
func (g grub) config(o *offer) string {
	var b strings.Builder
	// Where the tree is: an alias says it, or GRUB came from there. GRUB strips the
	// slash behind the device in one way and doubles it in another.
	fmt.Fprintf(&b, `if [ -z "$%[1]s" ]; then
  regexp --set=1:%[1]s '^\([^)]*\)/*(.*)$' "$prefix"
fi
set tree="%[2]s/$%[1]s"
set mac="$net_default_mac"
if %[3]s; then
  set mac="%[4]s"
fi
`, grubFolder, g.device(o), grubDashes, grubDashed)
	if unit, speed, ok := strings.Cut(o.boot.Serial, ","); ok {
		fmt.Fprintf(&b, `if serial --unit=%s --speed=%s; then
  terminal_input --append serial
  terminal_output --append serial
fi
`, unit, speed)
	}
	for i, c := range o.choices {
		fmt.Fprintf(&b, "function boot_%d {\n  for try in%s; do\n", i+1, grubTries())
		fmt.Fprintf(&b, "    echo %s\n", grubQuote("dlreconcile: "+title(c.entry)))
		fmt.Fprintf(&b, "    if linux \"$tree/%s\"", c.kernel())
		for _, w := range c.words {
			b.WriteString(grubWords(w))
		}
		b.WriteString("; then\n      if initrd")
		for _, name := range c.initrds {
			fmt.Fprintf(&b, " \"$tree/%s\"", name)
		}
		b.WriteString(`; then
        boot
      fi
    fi
    echo 'dlreconcile: this did not work, trying again'
    sleep 3
  done
  echo 'dlreconcile: giving up, the machine restarts'
  sleep 10
  reboot
}
`)
	}
	if len(o.choices) == 1 || o.boot.Timeout == 0 {
		b.WriteString("boot_1\n")
		return b.String()
	}
	fmt.Fprintf(&b, "set default=0\nset timeout=%d\n", o.boot.Timeout)
	for i, c := range o.choices {
		fmt.Fprintf(&b, "menuentry %s {\n  boot_%d\n}\n", grubQuote(title(c.entry)), i+1)
	}
	return b.String()
}

// grubTries counts up to attempts, as words with a space before each.
func grubTries() string {
	var b strings.Builder
	for i := range attempts {
		fmt.Fprintf(&b, " %d", i+1)
	}
	return b.String()
}

// protocol is how kernels and initrds are fetched, whatever way GRUB itself came. In
// GRUB, TFTP is the faster one, although it asks for one block of 1024 bytes at a time:
// a kernel of 14 MB takes 2.1 s in UEFI and 3.1 s in BIOS, by HTTP 4 s and 5 s.
func (grub) protocol(o *offer) schema.Protocol {
	if o.boot.Protocol == schema.HTTP || !o.places.tftp.IsValid() {
		return schema.HTTP
	}
	return schema.TFTP
}

// device is what GRUB calls the server that kernels are fetched from.
func (g grub) device(o *offer) string {
	if g.protocol(o) == schema.HTTP {
		return grubDevice("http", o.places.http, 80)
	}
	return grubDevice("tftp", o.places.tftp, 69)
}

// grubDevice spells a server. GRUB 2.06 of the distributions, and 2.12, take a port.
func grubDevice(protocol string, at netip.AddrPort, standard uint16) string {
	if at.Port() == standard {
		return "(" + protocol + "," + at.Addr().String() + ")"
	}
	return "(" + protocol + "," + at.String() + ")"
}

// line is as GRUB hands it over: the kernel's name first, in GRUB's spelling.
func (g grub) line(o *offer, c choice, mac provider.MAC) string {
	folder := root + strings.Repeat("x", idLength) // while the tree has no name yet
	if o.tree != nil {
		folder = strings.TrimSuffix(o.tree.path(""), "/")
	}
	spelled := grubMAC
	if !mac.IsZero() {
		spelled = dashed(mac)
	}
	return "BOOT_IMAGE=" + g.device(o) + "/" + folder + "/" + c.kernel() + " " + join(c.words, spelled)
}
