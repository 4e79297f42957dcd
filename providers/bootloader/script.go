package bootloader

import (
	"fmt"
	"path"
	"strings"

	"github.com/dlreconcile/dlreconcile/schema"
)

// maxScript bounds a script: iPXE reads it into memory, in BIOS below 1 MiB.
const maxScript = 64 << 10

// How often a machine tries to fetch a kernel and its initrd, with pauses of some
// seconds, before it starts over at its firmware. There it asks DHCP anew, so a
// tree that is not served any more is no dead end.
const attempts = 5

// script writes the iPXE script for the choices, of which the first is the
// default. With a timeout and more than one there is a menu, of timeout seconds.
//
// Its commands are those that iPXE has had since 2012.
func script(choices []choice, timeout int, fallback schema.Fallback) string {
	var b strings.Builder
	b.WriteString("#!ipxe\nset attempt:int32 0\nset picked e1\n")
	if len(choices) > 1 && timeout > 0 {
		b.WriteString("menu dlreconcile\n")
		for i, c := range choices {
			fmt.Fprintf(&b, "item e%d %s\n", i+1, title(c.entry))
		}
		fmt.Fprintf(&b, "choose --timeout %d --default e1 picked || set picked e1\n", timeout*1000)
		b.WriteString("goto ${picked}\n")
	}
	for i, c := range choices {
		fmt.Fprintf(&b, ":e%d\necho dlreconcile: %s\nimgfree\n", i+1, title(c.entry))
		fmt.Fprintf(&b, "kernel %s %s || goto failed\n", c.kernel(), ipxeLine(c, ipxeMAC))
		for _, name := range c.initrds {
			fmt.Fprintf(&b, "initrd --name %s %s || goto failed\n", path.Base(name), name)
		}
		b.WriteString("boot || goto failed\n")
	}
	fmt.Fprintf(&b, `:failed
inc attempt
iseq ${attempt} %d && goto restart ||
echo dlreconcile: this did not work, trying again
sleep 3
goto ${picked}
:restart
`, attempts)
	if fallback == schema.FallbackLocalDisk {
		// UEFI firmware goes on to its next boot option only after one that failed; after
		// one that did not, OVMF (2022.11) stands in its menu.
		b.WriteString(`echo dlreconcile: giving up, the machine boots from its own disk
sleep 3
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 ||
`)
	}
	b.WriteString(`echo dlreconcile: giving up, the machine restarts
sleep 10
reboot
`)
	return b.String()
}

// title gives the title of an entry in letters that iPXE takes literally and can
// show.
func title(e *schema.Entry) string {
	t := strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f:
			return ' '
		case r > '~' || strings.ContainsRune("$#|&", r):
			return '?'
		}
		return r
	}, e.Title)
	if t = strings.TrimSpace(t); t == "" {
		return e.Addr.Name
	}
	return t
}
