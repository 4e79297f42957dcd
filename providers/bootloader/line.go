package bootloader

import (
	"fmt"
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

// macWord is what iPXE replaces by the hardware address of the interface that it
// boots from, in lower case with dashes.
const macWord = "${netX/mac:hexhyp}"

// panicWord makes the kernel, and Debian's initramfs, restart the machine after
// this many seconds instead of standing still with an open shell.
const panicWord = "panic=30"

const (
	kernelName = "vmlinuz"
	initrdName = "initrd.img"
	nbdPort    = 10809 // what nbdroot= leaves out
)

// kernelLine writes the kernel line of an entry, with macWord where the machine's
// own address goes. rootfs is nil for an entry without a root of ours; phone is
// the base URL that the machine reports to, or "".
func kernelLine(e *schema.Entry, rootfs *provider.Export, phone string, hostArgs []string) string {
	words := []string{"initrd=" + initrdName} // the kernel's EFI stub finds the initrd by it
	if rootfs != nil {
		server := rootfs.Server.Addr().String()
		if rootfs.Server.Port() != nbdPort {
			server = rootfs.Server.String()
		}
		words = append(words, "root=/dev/nbd0", fmt.Sprintf("nbdroot=%s,%s,nbd0", server, rootfs.Name))
	}
	words = append(words, "ip=dhcp", "BOOTIF=01-"+macWord)
	switch {
	case rootfs == nil:
	case rootfs.Mode == schema.ReadOnly:
		words = append(words, "ro", "dlreconcile.overlay=tmpfs")
	default:
		words = append(words, "rw")
	}
	if phone != "" {
		words = append(words, "dlreconcile.url="+phone)
	}
	// A machine that cannot get at its root tries again from the start; the
	// entry's own panic= comes later and wins.
	words = append(words, panicWord)
	words = append(words, e.Args...)
	words = append(words, hostArgs...)
	return strings.Join(words, " ")
}

// expand gives the line as the machine with that address sees it.
func expand(line string, mac provider.MAC) string {
	return strings.ReplaceAll(line, macWord, strings.ReplaceAll(mac.String(), ":", "-"))
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
