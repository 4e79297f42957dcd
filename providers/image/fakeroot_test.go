package image

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// entry is one entry of an archive that a test makes.
type entry struct {
	name string
	kind byte // tar's type flag; 0 is a regular file, or a folder when name ends in a slash
	body string
	mode int64
	link string
	more func(*tar.Header)
}

var packed = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Size: int64(len(e.body)), Mode: e.mode, Linkname: e.link, ModTime: packed}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if e.more != nil {
			e.more(h)
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// fakeKernel makes what looks like a bzImage of a version.
func fakeKernel(version string) string {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	copy(b[0x300:], version+" (builder@host) #1 SMP")
	return string(b)
}

func busybox(t testing.TB) []byte {
	t.Helper()
	providertest.Need(t, "busybox")
	file, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// mkinitramfs stands for the real one: it packs the modules, our program and our
// scripts.
const mkinitramfs = `#!/bin/busybox sh
set -e
export PATH=/bin
test "$1" = -o
. /etc/initramfs-tools/conf.d/zz-dlreconcile
test -c /dev/null && test -d /proc/1 && test "$(ls /sys/class/net)" = lo
mkdir -p /var/tmp/i/sbin /var/tmp/i/usr/lib/modules /var/tmp/i/scripts
cp /usr/lib/dlreconcile/nbdroot /var/tmp/i/sbin/
cp -r "/lib/modules/$3" /var/tmp/i/usr/lib/modules/
cp -r /usr/share/initramfs-tools/scripts/* /var/tmp/i/scripts/
cd /var/tmp/i
find . -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
find . | sort | cpio -o -H newc 2>/dev/null | gzip -n >"$2" 2>/dev/null || find . | sort | cpio -o -H newc 2>/dev/null | gzip >"$2"
rm -rf /var/tmp/i
echo made by "$COMPRESS"
`

const fakeVersion = "6.1.0-9-test"

// fakeRoot is a root file system that is as small as it can be and has all that a
// build looks at. Tests change it.
func fakeRoot(t testing.TB) []entry {
	bb := string(busybox(t))
	root := []entry{
		{name: "./"}, {name: "usr/"}, {name: "usr/bin/"}, {name: "usr/sbin/"}, {name: "usr/lib/"},
		{name: "bin", kind: tar.TypeSymlink, link: "usr/bin"},
		{name: "sbin", kind: tar.TypeSymlink, link: "usr/sbin"},
		{name: "lib", kind: tar.TypeSymlink, link: "usr/lib"},
		{name: "usr/bin/busybox", body: bb},
	}
	for _, applet := range []string{"sh", "ls", "test", "mkdir", "cp", "find", "touch", "sort", "cpio", "gzip", "rm"} {
		root = append(root, entry{name: "usr/bin/" + applet, kind: tar.TypeSymlink, link: "busybox"})
	}
	modules := "usr/lib/modules/" + fakeVersion + "/"
	return append(root,
		entry{name: "usr/sbin/mkinitramfs", body: mkinitramfs},
		entry{name: "usr/sbin/init", kind: tar.TypeSymlink, link: "/lib/systemd/systemd"},
		entry{name: modules + "kernel/drivers/block/nbd.ko", body: "nbd"},
		entry{name: modules + "kernel/fs/overlayfs/overlay.ko.xz", body: "overlay"},
		entry{name: modules + "kernel/fs/squashfs/squashfs.ko", body: "squashfs"},
		entry{name: modules + "kernel/net/one-more.ko", body: "x"},
		entry{name: modules + "modules.builtin", body: "kernel/fs/ext4/ext4.ko\n"},
		entry{name: "boot/vmlinuz-" + fakeVersion, body: fakeKernel(fakeVersion)},
		entry{name: "boot/initrd.img-" + fakeVersion, body: "made elsewhere"},
		entry{name: "etc/"}, entry{name: "etc/systemd/system/"}, entry{name: "dev/"},
		entry{name: "dev/console", kind: tar.TypeChar},
		entry{name: "dev/console", kind: tar.TypeChar},
		entry{name: "etc/machine-id", body: "0123456789abcdef0123456789abcdef\n"},
		entry{name: "etc/resolv.conf", body: "nameserver 192.0.2.1\n"},
		entry{name: "etc/hostname", body: "builder\n"},
		entry{name: "var/lib/dbus/machine-id", body: "0123456789abcdef0123456789abcdef\n"},
		entry{name: "var/lib/systemd/random-seed", body: "seed"},
		entry{name: "var/run", kind: tar.TypeSymlink, link: "/run"},
		entry{name: "usr/share/zoneinfo/Europe/Berlin", body: "TZif"},
		entry{name: "usr/bin/su", body: "su", mode: 0o4755},
		entry{name: "usr/bin/ping", body: "ping", more: func(h *tar.Header) {
			// CAP_NET_RAW, permitted and effective: struct vfs_cap_data, version 2.
			h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00" + strings.Repeat("\x00", 12)}
		}},
		entry{name: "usr/bin/ping4", kind: tar.TypeLink, link: "usr/bin/ping"},
		entry{name: "srv/owned", body: "o", more: func(h *tar.Header) { h.Uid, h.Gid = 1000, 1001 }},
	)
}

// without leaves out entries by name.
func without(root []entry, names ...string) []entry {
	return slices.DeleteFunc(slices.Clone(root), func(e entry) bool { return slices.Contains(names, e.name) })
}

// with adds or replaces entries.
func with(root []entry, more ...entry) []entry {
	for _, m := range more {
		root = without(root, m.name)
	}
	return append(root, more...)
}
