package bootloader

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// maxLine is the longest kernel line: GRUB keeps 2023 bytes and iPXE 2036, and
// both drop the rest without a word.
const maxLine = 1900

// maxUnknown is how many words key=value a kernel line may have that the kernel
// does not know. It hands them to init as its environment, and panics when there
// are more than about 30.
const maxUnknown = 28

// macWord stands in a kernel line for the hardware address of the interface that
// the machine boots from. Each loader has its own way to fill it in.
const macWord = "BOOTIF=01-\x00"

// panicWord makes the kernel, and Debian's initramfs, restart the machine after
// this many seconds instead of standing still with an open shell.
const panicWord = "panic=30"

const (
	kernelName = "vmlinuz"
	initrdName = "initrd.img"
	nbdPort    = 10809 // what nbdroot= leaves out
)

// kernelWords gives the words of the kernel line of an entry. rootfs is nil for an
// entry without a root of ours; opts is how it is mounted; phone is the base URL that
// the machine reports to, or ""; more are the arguments of group and host.
func kernelWords(e *schema.Entry, rootfs *provider.Export, opts rootOptions, phone string, more []string) []string {
	var words []string
	if rootfs != nil {
		server := rootfs.Server.Addr().String()
		if rootfs.Server.Port() != nbdPort {
			server = rootfs.Server.String()
		}
		words = append(words, "root=/dev/nbd0", fmt.Sprintf("nbdroot=%s,%s,nbd0", server, rootfs.Name))
	}
	words = append(words, "ip=dhcp", macWord)
	switch {
	case rootfs == nil:
	case rootfs.Mode == schema.ReadOnly:
		words = append(words, "ro", "dlreconcile.overlay=tmpfs")
	case opts.readOnly:
		words = append(words, "ro")
	default:
		words = append(words, "rw")
	}
	if opts.flags != "" {
		words = append(words, "rootflags="+opts.flags)
	}
	if phone != "" {
		words = append(words, "dlreconcile.url="+phone)
	}
	// A machine that cannot get at its root tries again from the start; the
	// entry's own panic= comes later and wins.
	words = append(words, panicWord)
	words = append(words, e.Args...)
	return append(words, more...)
}

// join makes a line of words, with mac as the hardware address in macWord.
func join(words []string, mac string) string {
	return strings.ReplaceAll(strings.Join(words, " "), "\x00", mac)
}

// dashed spells a hardware address as BOOTIF= wants it.
func dashed(mac provider.MAC) string { return strings.ReplaceAll(mac.String(), ":", "-") }

// rootOptions is how an entry's root is mounted, beyond what its export is for. With an
// overlay over a read-only root, it is about what lies below.
type rootOptions struct {
	flags    string // of mount(8), separated by commas
	readOnly bool
}

// rootOptions gives the options of the mount block of "/". That is the machine's own
// file system, so the block says nothing new about its type and device.
func (c *compiler) rootOptions(e *schema.Entry, settled schema.Way, rootfs *provider.Export) rootOptions {
	var opts rootOptions
	mounts := settled.Settings(e).Mounts
	i := slices.IndexFunc(mounts, func(m schema.Mount) bool { return m.Path == rootPath })
	if i < 0 {
		return opts
	}
	m := mounts[i]
	switch {
	case rootfs == nil:
		c.refuse(m.Range, "There is no root to mount",
			fmt.Sprintf("%s names no root, and there is a mount block for \"/\". Add root = export.…, or take the block away.", e.Addr))
		return opts
	case m.Type != "" && m.Type != rootfs.Filesystem:
		c.refuse(m.Range, "The root is of another type",
			fmt.Sprintf("The root of %s is %s, as its image says, and the mount block for \"/\" says %s. Take type out of the block.", e.Addr, rootfs.Filesystem, m.Type))
		return opts
	}
	var flags []string
	for _, o := range m.Options {
		switch o {
		case "rw", "defaults":
		case "ro":
			opts.readOnly = true
		default:
			if why := checkArg(o); why != "" || strings.ContainsAny(o, `"'\ `) {
				c.refuse(m.Range, "A mount option would not reach the kernel",
					fmt.Sprintf("The option %q of the mount block for \"/\" %s. These options ride the kernel line.", o, cmp.Or(why, "holds a space, a quote or a backslash")))
				return opts
			}
			flags = append(flags, o)
		}
	}
	opts.flags = strings.Join(flags, ",")
	return opts
}

// checkLine refuses a kernel line that would not arrive whole, or that the kernel
// would not bear. alone is the line of the entry without the arguments of group and
// host.
func (c *compiler) checkLine(o *offer, ch choice, settled schema.Way, alone []string) {
	some := provider.MAC{2}
	line := o.family.line(o, ch, some)
	ch.words = alone
	without := o.family.line(o, ch, some)
	if n := len(line); n > maxLine {
		c.lineTooLong(n, c.toBlame(ch.entry, settled, len(without) > maxLine))
	}
	if n := unknownWords(line); n > maxUnknown {
		c.tooManyWords(n, c.toBlame(ch.entry, settled, unknownWords(without) > maxUnknown))
	}
}

// unknownWords counts the words key=value of a kernel line that may reach init's
// environment: all but those whose key has a dot, which belong to a module. Which
// of the others a kernel knows depends on how it was built, so they all count. As
// the kernel does, it ends words at spaces outside double quotes.
func unknownWords(line string) int {
	quoted := false
	words := strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
	n := 0
	for _, w := range words {
		key, _, ok := strings.Cut(w, "=")
		if ok && !strings.Contains(key, ".") {
			n++
		}
	}
	return n
}

// checkArg says what keeps an argument from reaching the kernel as it is written;
// "" when nothing does. iPXE splits a line at white space and joins it with single
// spaces, expands ${…} without a way to quote it, and ends a command at "||", "&&"
// and at a word that begins with "#".
func checkArg(arg string) string {
	if arg == "" {
		return "is empty"
	}
	for _, c := range []byte(arg) {
		if c < ' ' || c == 0x7f {
			return "holds a control character"
		}
	}
	if strings.Join(strings.Fields(arg), " ") != arg {
		return "begins or ends with a space, or holds two in a row; the boot loader would take them out"
	}
	if strings.Contains(arg, "${") {
		return "holds \"${\", which the boot loader would replace"
	}
	for _, w := range strings.Fields(arg) {
		if w[0] == '#' || w == "||" || w == "&&" {
			return fmt.Sprintf("holds the word %q, at which the boot loader would end the line", w)
		}
	}
	return ""
}
