package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// cloudKernel gives a folder with Debian's cloud kernel unpacked: the machine
// that tests run on need not have an nbd module. It is fetched once.
func cloudKernel(t *testing.T) string {
	t.Helper()
	providertest.Need(t, "apt-get", "apt-cache", "dpkg-deb")
	out, err := exec.Command("apt-cache", "depends", "linux-image-cloud-amd64").Output()
	_, name, ok := strings.Cut(string(out), "Depends: ")
	name, _, _ = strings.Cut(name, "\n")
	if err != nil || !ok {
		t.Fatalf("which kernel does linux-image-cloud-amd64 mean? %v: %s (apt-get update may help)", err, out)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "dlreconcile-test", name)
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	tmp := t.TempDir()
	fetch := exec.Command("apt-get", "download", name)
	fetch.Dir = tmp
	if out, err := fetch.CombinedOutput(); err != nil {
		t.Fatalf("apt-get download %s: %v: %s", name, err, out)
	}
	debs, _ := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if len(debs) != 1 {
		t.Fatalf("downloaded %q", debs)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "unpack-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	if out, err := exec.Command("dpkg-deb", "-x", debs[0], fresh).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v: %s", err, out)
	}
	if err := os.Rename(fresh, dir); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return dir
}

// glob gives the only file that matches.
func glob(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// moduleOrder lists the files of the named modules and of what they need, each
// after what it needs.
func moduleOrder(t *testing.T, modules string, names ...string) []string {
	t.Helper()
	dep, err := os.ReadFile(filepath.Join(modules, "modules.dep"))
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	seen := map[string]bool{}
	for _, name := range names {
		for line := range strings.Lines(string(dep)) {
			file, needs, _ := strings.Cut(strings.TrimSpace(line), ":")
			if !strings.HasSuffix(file, "/"+name+".ko") {
				continue
			}
			files := append([]string{file}, strings.Fields(needs)...) // each before what it needs
			for i := len(files) - 1; i >= 0; i-- {
				if !seen[files[i]] {
					seen[files[i]] = true
					order = append(order, files[i])
				}
			}
		}
	}
	return order
}

// writeInitrd packs a folder the way the kernel wants it.
func writeInitrd(t *testing.T, dir, file string) {
	t.Helper()
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var msg bytes.Buffer
	cmd := exec.Command("sh", "-c", "find . | cpio -o -H newc --quiet")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("cpio: %v: %s", err, msg.String())
	}
}

func install(t *testing.T, dst string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dst, content, 0o755); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// makeInitrd makes the initramfs of a machine that runs a script with busybox, nbdroot
// and kernel modules, whose order is in /modules.order.
func makeInitrd(t *testing.T, kernel, script string, names ...string) string {
	t.Helper()
	tmp := t.TempDir()
	root := filepath.Join(tmp, "root")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(root, "bin/nbdroot"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	install(t, filepath.Join(root, "bin/busybox"), read(t, busybox))
	install(t, filepath.Join(root, "init"), []byte(script))
	install(t, filepath.Join(root, "dev/.keep"), nil)
	modules := glob(t, filepath.Join(kernel, "lib/modules/*"))
	if _, err := os.Stat(filepath.Join(modules, "modules.dep")); err != nil {
		if out, err := exec.Command("depmod", "-b", kernel, filepath.Base(modules)).CombinedOutput(); err != nil {
			t.Fatalf("depmod: %v: %s", err, out)
		}
	}
	var order strings.Builder
	for _, m := range moduleOrder(t, modules, names...) {
		install(t, filepath.Join(root, "modules", m), read(t, filepath.Join(modules, m)))
		fmt.Fprintln(&order, "/modules/"+m)
	}
	install(t, filepath.Join(root, "modules.order"), []byte(order.String()))
	initrd := filepath.Join(tmp, "initrd")
	writeInitrd(t, root, initrd)
	return initrd
}

// startGuest boots a machine, and gives what it says on its console, to its end. It is
// switched off when it takes longer than limit.
func startGuest(t *testing.T, kernel, initrd string, limit time.Duration) io.Reader {
	t.Helper()
	vm := exec.Command("qemu-system-x86_64", "-M", "pc,graphics=off", "-accel", "tcg", "-cpu", "qemu64", "-smp", "1", "-m", "256",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-netdev", "user,id=n0,restrict=off", "-device", "virtio-net-pci,netdev=n0,romfile=",
		"-kernel", glob(t, filepath.Join(kernel, "boot/vmlinuz-*")), "-initrd", initrd,
		"-append", "console=ttyS0 panic=-1 quiet")
	console, w := io.Pipe()
	vm.Stdout, vm.Stderr = w, w
	wait, err := providertest.Start(vm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Process.Kill() })
	over := time.AfterFunc(limit, func() { vm.Process.Kill() })
	go func() { // ends with QEMU
		wait()
		over.Stop()
		w.Close()
	}()
	return console
}

// TestRootOutlivesServer boots Debian's kernel in QEMU, and kills, freezes and
// restarts a foreign NBD server under a machine that writes.
func TestRootOutlivesServer(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	providertest.Need(t, "qemu-system-x86_64", "nbdkit", "mke2fs", "e2fsck", "busybox", "cpio")
	kernel := cloudKernel(t)
	tmp := t.TempDir()
	addr := freeAddr(t)

	init := strings.ReplaceAll(string(read(t, "testdata/init.sh")), "@PORT@", fmt.Sprint(addr.Port()))
	initrd := makeInitrd(t, kernel, init, "virtio_pci", "virtio_net", "nbd")

	disk := filepath.Join(tmp, "disk")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", disk, "64M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	serve := func() *foreign { return nbdkit(t, addr, "file", disk) }
	srv := serve()

	console := startGuest(t, kernel, initrd, 3*time.Minute)

	var text strings.Builder
	lines := bufio.NewScanner(console)
	said := map[string]string{}
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		fmt.Fprintln(&text, line)
		switch line {
		case "WROTE 5": // a crash, and a server that takes a second to come back
			srv.kill()
			<-time.After(time.Second)
			srv = serve()
		case "WROTE 12": // frozen for longer than the kernel waits for an answer
			srv.cmd.Process.Signal(syscall.SIGSTOP)
			<-time.After((requestTimeout + 2) * time.Second)
			srv.cmd.Process.Signal(syscall.SIGCONT)
		case "WROTE 20": // two crashes in a row
			srv.kill()
			srv = serve()
			srv.kill()
			srv = serve()
		}
		if key, value, ok := strings.Cut(line, " "); ok {
			said[key] = value
		}
	}
	for key, want := range map[string]string{
		"ATTACHED": "131072", "SUMS": "30", "ERRORS": "0", "OOM": "-1000", "OPEN": "0", "RESULT": "done",
	} {
		if said[key] != want {
			t.Errorf("%s: got %q, want %q", key, said[key], want)
		}
	}
	if !strings.HasPrefix(said["CMDLINE"], residentName+" ") {
		t.Errorf("argv is %q: systemd would kill it", said["CMDLINE"])
	}
	if n := strings.Count(text.String(), "again after"); n < 3 {
		t.Errorf("%d reconnections, want at least 3", n)
	}
	if out, err := exec.Command("e2fsck", "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
	if t.Failed() || testing.Verbose() {
		t.Log(text.String())
	}
}
