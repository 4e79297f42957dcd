package bootloader

import (
	"fmt"
	"strings"
)

// initramfsOf makes an initramfs of one file in its root: an uncompressed cpio
// archive in the "new ASCII" format (Documentation/driver-api/early-userspace/
// buffer-format.rst of Linux), of mode 0600, owner 0 and no time. It is padded with
// zeros to a multiple of 4 bytes, so that the kernel finds whatever archive a boot
// loader puts behind it; iPXE for UEFI (2019) does not pad.
func initramfsOf(name, content string) string {
	var b strings.Builder
	b.Grow(256 + len(name) + len(content))
	cpioEntry(&b, 0o100600, name, content)
	cpioEntry(&b, 0, "TRAILER!!!", "")
	return b.String()
}

// cpioEntry writes one entry: 13 numbers of 8 hex digits after the magic, then name
// and content, each ending at a multiple of 4 bytes.
func cpioEntry(b *strings.Builder, mode int, name, content string) {
	b.WriteString("070701")
	for _, n := range [...]int{
		0, mode, 0, 0, 1, // inode, mode, owner, group, links
		0, len(content), // time, size
		0, 0, 0, 0, // device, and the one that the file stands for
		len(name) + 1, 0, // with the zero byte; no checksum
	} {
		fmt.Fprintf(b, "%08X", n)
	}
	b.WriteString(name)
	b.WriteByte(0)
	pad4(b)
	b.WriteString(content)
	pad4(b)
}

func pad4(b *strings.Builder) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
