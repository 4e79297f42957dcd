package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// tinyMarker is what the small system shows once it has its root.
const tinyMarker = "TINY root is mounted"

// tinyInit is all of the small system: it loads the modules that it is given, asks
// DHCP, attaches the root that nbdroot= names with the stock client, and mounts it.
// Whoever serves, the machine does the same.
const tinyInit = `#!/bin/busybox sh
export PATH=/bin:/sbin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for m in $(busybox cat /modules/order); do busybox insmod /modules/$m; done
read line </proc/cmdline
for w in $line; do case "$w" in nbdroot=*) root=${w#nbdroot=} ;; esac; done
server=${root%%,*} name=${root#*,} name=${name%,*}
busybox ip link set lo up
busybox ip link set eth0 up
busybox udhcpc -i eth0 -n -q -f -T 1 -t 20 -s /lease || echo "TINY no lease"
nbd-client "$server" -N "$name" /dev/nbd0 -readonly || echo "TINY no root"
busybox mount -t ext4 -o ro /dev/nbd0 /root || echo "TINY cannot mount"
busybox cat /root/etc/tiny
echo "TINY line $line"
while busybox sleep 3600; do :; done
`

// tinyLease sets the address that udhcpc was given.
const tinyLease = `#!/bin/busybox sh
[ "$1" = bound ] && busybox ip address add "$ip/$mask" dev eth0
exit 0
`

// tinyModules are what the small system loads; what they need is found out.
var tinyModules = []string{"virtio_pci", "virtio_net", "nbd"}

// tiny is the small system: an archive that an image can be made from.
type tiny struct {
	version string // of its kernel
	archive []byte // plain tar: kernel, initramfs, and a root with no more than a marker
}

// newTiny makes the small system from the kernel of a sealed ext4 root.
func newTiny(t *testing.T, sealed string) tiny {
	t.Helper()
	providertest.Need(t, "debugfs", "busybox", "nbd-client", "cpio", "gzip")
	k := openKernel(t, sealed)
	initrd := k.initramfs(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, mode int64, content []byte) {
		h := &tar.Header{Name: name, Mode: mode, Size: int64(len(content)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"boot/", "etc/", "sbin/", "lib/", "lib/modules/", "lib/modules/" + k.version + "/"} {
		add(dir, 0o755, nil)
	}
	add("boot/vmlinuz-"+k.version, 0o644, k.file(t, "/boot/vmlinuz-"+k.version))
	add("boot/initrd.img-"+k.version, 0o644, initrd)
	add("lib/modules/"+k.version+"/modules.dep", 0o644, []byte("\n"))
	add("etc/os-release", 0o644, []byte("ID=tiny\n"))
	add("etc/tiny", 0o644, []byte(tinyMarker+"\n"))
	add("sbin/init", 0o755, []byte("#!/bin/sh\n"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return tiny{version: k.version, archive: b.Bytes()}
}

// sealedKernel reads a kernel and its modules out of a root that stays unmounted.
type sealedKernel struct {
	root    string
	version string
	needs   map[string][]string // modules.dep: a module's file, and those that it needs
}

func openKernel(t *testing.T, root string) *sealedKernel {
	t.Helper()
	k := &sealedKernel{root: root, needs: map[string][]string{}}
	for _, name := range strings.Fields(string(debugfs(t, root, "ls -p /boot"))) {
		// One line per file: /inode/mode/uid/gid/name/size/
		for _, field := range strings.Split(name, "/") {
			if v, ok := strings.CutPrefix(field, "vmlinuz-"); ok {
				k.version = v
			}
		}
	}
	if k.version == "" {
		t.Fatalf("%s holds no kernel", root)
	}
	for _, line := range strings.Split(string(k.file(t, k.modules()+"/modules.dep")), "\n") {
		if module, rest, ok := strings.Cut(line, ":"); ok {
			k.needs[module] = strings.Fields(rest)
		}
	}
	return k
}

func (k *sealedKernel) modules() string { return "/lib/modules/" + k.version }

func debugfs(t *testing.T, root, request string) []byte {
	t.Helper()
	cmd := exec.Command("debugfs", "-R", request, root)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v\n%s", request, err, errs.String())
	}
	return out
}

// file gives one file of the root, symbolic links in its path followed by hand:
// Debian's /lib is one.
func (k *sealedKernel) file(t *testing.T, name string) []byte {
	t.Helper()
	for _, try := range []string{name, "/usr" + name} {
		out := filepath.Join(t.TempDir(), "file")
		debugfs(t, k.root, "dump "+try+" "+out)
		if b, err := os.ReadFile(out); err == nil && len(b) > 0 {
			return b
		}
	}
	t.Fatalf("%s has no %s", k.root, name)
	return nil
}

// order gives the files of modules in an order in which they can be loaded.
func (k *sealedKernel) order(t *testing.T, names []string) []string {
	t.Helper()
	var list []string
	for _, name := range names {
		found := false
		for file, needs := range k.needs {
			if strings.TrimSuffix(path.Base(file), ".ko") != name {
				continue
			}
			found = true
			// modules.dep names everything that is needed, the deepest last.
			needs = slices.Clone(needs)
			slices.Reverse(needs)
			for _, f := range append(needs, file) {
				if !slices.Contains(list, f) {
					list = append(list, f)
				}
			}
		}
		if !found {
			t.Logf("%s is built in, or not there", name)
		}
	}
	return list
}

// initramfs packs the small system.
func (k *sealedKernel) initramfs(t *testing.T) []byte {
	t.Helper()
	root := t.TempDir()
	put := func(name string, mode fs.FileMode, content []byte) {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"dev", "proc", "sys", "root", "bin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put("init", 0o755, []byte(tinyInit))
	put("lease", 0o755, []byte(tinyLease))
	for _, program := range []string{"busybox", "nbd-client"} {
		from, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range append([]string{from}, libraries(t, from)...) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			to := f
			if f == from {
				to = "/bin/" + program
			}
			put(to, 0o755, b)
		}
	}
	var order []string
	for _, f := range k.order(t, tinyModules) {
		put("modules/"+path.Base(f), 0o644, k.file(t, k.modules()+"/"+f))
		order = append(order, path.Base(f))
	}
	put("modules/order", 0o644, []byte(strings.Join(order, "\n")+"\n"))

	pack := exec.Command("sh", "-c", "find . | LC_ALL=C sort | cpio --create --format=newc --quiet --reproducible --owner=0:0 | gzip -9n")
	pack.Dir = root
	out, err := pack.Output()
	if err != nil {
		t.Fatalf("packing the initramfs: %v", err)
	}
	for len(out)%4 != 0 { // as every served initrd is: then both sides send the same bytes
		out = append(out, 0)
	}
	return out
}

// libraries lists what the dynamic linker would load for a program.
func libraries(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "not a dynamic executable") {
			return nil
		}
		t.Fatalf("ldd %s: %v\n%s", program, err, out)
	}
	var list []string
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			list = append(list, word)
		}
	}
	if len(list) == 0 {
		t.Fatal(fmt.Errorf("ldd %s names no file:\n%s", program, out))
	}
	return list
}
