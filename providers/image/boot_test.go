package image

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// debian is the image that the tests of this file build: Debian with systemd as
// its first process, and a unit that reports and shuts down.
func debian(t *testing.T, name string, files fstest.MapFS, fsys schema.Filesystem) *schema.Image {
	t.Helper()
	return newImage(name, func(i *schema.Image) {
		i.Source = schema.SourceDebootstrap
		i.Debootstrap = &schema.Debootstrap{Suite: "bookworm", Components: []string{"main"}, Variant: "minbase", Arch: "amd64",
			Packages: []string{"dbus", "iproute2", "iputils-ping", "libcap2-bin", "linux-image-cloud-amd64", "openssh-server", "systemd-sysv"}}
		i.Timezone = "Europe/Berlin"
		i.Locale = "C.UTF-8"
		i.Keymap = "de"
		i.Mask = []string{"apt-daily.timer", "apt-daily-upgrade.timer"}
		i.Filesystem = fsys
		source := func(dst, src string, perm uint32) {
			b, err := os.ReadFile("testdata/" + src)
			if err != nil {
				t.Fatal(err)
			}
			files[src] = &fstest.MapFile{Data: b}
			i.Files = append(i.Files, &schema.ImageFile{Path: dst, Source: src, Digest: sha(b), Permissions: perm})
		}
		source("/usr/local/sbin/report", "report.sh", 0o755)
		source("/etc/systemd/system/report.service", "report.service", 0o644)
		i.Files = append(i.Files,
			&schema.ImageFile{Path: "/etc/systemd/system/multi-user.target.wants/report.service", Symlink: "../report.service"},
			// A network manager that would take the boot interface if it could.
			&schema.ImageFile{Path: "/etc/systemd/network/50-all.network", Content: "[Match]\nName=*\n\n[Network]\nDHCP=yes\n", Permissions: 0o644},
			&schema.ImageFile{Path: "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service", Symlink: "/lib/systemd/system/systemd-networkd.service"},
			&schema.ImageFile{Path: "/etc/secret", Content: "x", Permissions: 0o640, Owner: 8, Group: 12},
			&schema.ImageFile{Path: "/etc/alias", Symlink: "/etc/secret"},
			&schema.ImageFile{Path: "/var/lib/app/seed", Content: "of the image\n", Permissions: 0o640, Owner: 8, Group: 12})
	})
}

// exchange is where the booted machines phone.
type exchange struct {
	*httptest.Server
	mu    sync.Mutex
	calls []string
}

func newExchange(t *testing.T) *exchange {
	x := &exchange{}
	x.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.calls = append(x.calls, r.Method+" "+path.Base(r.URL.Path))
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(x.Close)
	return x
}

// nbdkit serves a file to whoever asks, by any export name, until kill or the test's end.
func nbdkit(t *testing.T, port string, args ...string) (kill func()) {
	t.Helper()
	cmd := exec.Command("nbdkit", append([]string{"-f", "--exit-with-parent", "-i", "127.0.0.1", "-p", port}, args...)...)
	cmd.Stderr = os.Stderr
	wait, err := providertest.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cmd.Process.Kill()
		wait()
	}
	t.Cleanup(kill)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return kill
		}
		if time.Now().After(end) {
			t.Fatal("nbdkit does not listen: ", err)
		}
	}
}

// machine boots an artifact in QEMU to its end, with settings for it in a second
// initrd. QEMU's own network answers DHCP, and is the host under 10.0.2.2.
func machine(t *testing.T, c interface{ Path(string) (string, error) }, a provider.Artifact, settings, line string, each func(string)) (console string) {
	t.Helper()
	file := func(b provider.Blob) string {
		p, err := c.Path(b.Digest)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	// QEMU takes one file; the artifact's is padded for the next.
	first, err := os.ReadFile(file(a.Initrd))
	if err != nil {
		t.Fatal(err)
	}
	initrds := filepath.Join(t.TempDir(), "initrds")
	if err := os.WriteFile(initrds, append(first, makeCpio("dlreconcile.json="+settings)...), 0o600); err != nil {
		t.Fatal(err)
	}
	vm := exec.Command("qemu-system-x86_64", "-M", "pc,graphics=off", "-accel", "tcg", "-cpu", "qemu64", "-smp", "1", "-m", "512",
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci",
		"-netdev", "user,id=n0,hostname=ws07,domainname=lab.example", "-device", "virtio-net-pci,netdev=n0,romfile=,mac=52:54:00:00:00:07",
		"-kernel", file(a.Kernel), "-initrd", initrds, "-append", line+" console=ttyS0 panic=-1 net.ifnames=0")
	out, w := io.Pipe()
	vm.Stdout, vm.Stderr = w, w
	wait, err := providertest.Start(vm)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with QEMU
		defer close(ended)
		wait()
		w.Close()
	}()
	limit := time.AfterFunc(5*time.Minute, func() { vm.Process.Kill() })
	defer limit.Stop()
	var text strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		fmt.Fprintln(&text, strings.TrimSpace(lines.Text()))
		each(strings.TrimSpace(lines.Text()))
	}
	vm.Process.Kill()
	<-ended
	return text.String()
}

// TestBoot builds Debian and boots it from a foreign NBD server: read-write on an
// ext4, and read-only on a squashfs below an overlay in memory. The server of the
// former is killed while the machine writes.
func TestBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and boots images")
	}
	providertest.NeedRoot(t)
	providertest.Need(t, "mmdebstrap", "mke2fs", "e2fsck", "mksquashfs", "qemu-system-x86_64", "nbdkit")
	content := newContent(t)
	p := newProvider(t, Config{Content: content, Program: nbdroot(t), Concurrency: 2})
	files := fstest.MapFS{}
	rw := debian(t, "rw", files, schema.Filesystem{Type: "ext4", Size: 1 << 30, Label: "debian"})
	ro := debian(t, "ro", files, schema.Filesystem{Type: "squashfs", Compress: "lz4"})
	seen := &stages{}
	in := provider.Input{Want: &schema.Desired{Images: []*schema.Image{ro, rw}}, Files: files, Progress: seen.report}

	start := time.Now()
	txn, err := p.Prepare(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	built := time.Since(start)
	noScratch(t, content)
	out := txn.Outputs()

	// What is built is not built again, and offline it is simply there.
	offline := in
	offline.Files, offline.Offline = nil, true
	before := seen.count("seal")
	for _, again := range []provider.Input{in, offline} {
		txn, err := p.Prepare(context.Background(), again)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(txn.Outputs()[rw.Addr].Artifact, out[rw.Addr].Artifact) {
			t.Error("another artifact for the same recipe")
		}
	}
	if seen.count("seal") != before {
		t.Error("built again")
	}
	t.Logf("built in %s: %+v", built.Round(time.Second), *out[rw.Addr].Artifact)
	if a := out[rw.Addr].Artifact; a.Arch != "amd64" || !a.Signed || !a.Settles {
		t.Errorf("Debian's kernel is signed, for amd64, and its initramfs reads settings: %+v", a)
	}

	// The first half of SHA-256 of "dlreconcile machine 52:54:00:00:00:07".
	const machineID = "65aeee66f0aba5228c29321f08e5dce4"
	settings := func(hostname, key string) string {
		return `{"version":1` + hostname + `,"mounts":[{"path":"/srv/scratch","type":"tmpfs","options":["nodev","size=8M"]}],` +
			`"files":[{"path":"/etc/settled","content":"Zm9yIHRoaXMgbWFjaGluZQo=","mode":416,"owner":8,"group":12},{"path":"/var/lib/app/mine","content":"bWluZQo="}],` +
			`"state":[{"path":"/var/lib/app"` + key + `}]}`
	}
	stateAt := func(key string) string {
		return "[/var/lib/dlreconcile/state/" + key + "/var-lib-app] mail:man 640 of the image mine"
	}
	common := map[string]string{
		"pid1": "systemd", "hosts": "1", "resolv": "search lab.example nameserver 10.0.2.3",
		"machine-id": machineID + " " + machineID, "running-id": machineID, "settled": "8:12 640 for this machine",
		"ssh": "active active 3", "cycles": "0", "writable": "yes", "owner": "mail:man 640 1", "link": "/etc/secret", "zone": "CET",
		"capability": "/usr/bin/ping cap_net_raw=ep", "argv0": "@nbdroot", "failed": "", "sums": "20", "errors": "0", "done": "yes",
		"network":  "[Match] MACAddress=52:54:00:00:00:07  [Link] Unmanaged=yes RequiredForOnline=no",
		"networkd": "routable unmanaged",
	}
	check := func(t *testing.T, console string, x *exchange, want map[string]string) {
		t.Helper()
		said := map[string]string{}
		for line := range strings.Lines(console) {
			if _, rest, ok := strings.Cut(line, "SEEN "); ok {
				key, value, _ := strings.Cut(strings.TrimSpace(rest), ":")
				said[key] = strings.TrimSpace(value)
			}
		}
		for _, m := range []map[string]string{common, want} {
			for key, value := range m {
				if said[key] != value {
					t.Errorf("%s: got %q, want %q", key, said[key], value)
				}
			}
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		stages := []string{"POST initramfs", "POST attached", "POST root", "POST userland", "POST shutdown"}
		if !slices.Equal(x.calls, stages) {
			t.Errorf("phoned %q, want %q", x.calls, stages)
		}
		if !strings.Contains(console, "reboot: Power down") {
			t.Error("it did not power off")
		}
		if t.Failed() || testing.Verbose() {
			t.Log(console)
		}
	}
	free := func(t *testing.T) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}
	line := func(port string, a provider.Artifact, x *exchange, bootif, mode string) string {
		_, callPort, _ := net.SplitHostPort(x.Listener.Addr().String())
		return fmt.Sprintf("initrd=initrd.img root=/dev/nbd0 nbdroot=10.0.2.2:%s,deb@%s,nbd0 ip=dhcp BOOTIF=%s %s dlreconcile.url=http://10.0.2.2:%s",
			port, a.Short(), bootif, mode, callPort)
	}

	t.Run("ext4", func(t *testing.T) {
		t.Parallel()
		a := *out[rw.Addr].Artifact
		sealed, err := content.Path(a.Root.Digest)
		if err != nil {
			t.Fatal(err)
		}
		disk := filepath.Join(t.TempDir(), "disk")
		if out, err := exec.Command("cp", "--sparse=always", sealed, disk).CombinedOutput(); err != nil {
			t.Fatalf("cp: %s", out)
		}
		port := free(t)
		kill := nbdkit(t, port, "file", disk)
		x := newExchange(t)
		// As GRUB spells the interface.
		console := machine(t, content, a, settings(`,"hostname":"ws01"`, `,"key":"ws01"`), line(port, a, x, "01-52:54:00:00:00:07", "rw"), func(l string) {
			if strings.HasSuffix(l, "SEEN wrote: 5") {
				kill()
				kill = nbdkit(t, port, "file", disk)
			}
		})
		check(t, console, x, map[string]string{"root": "/dev/nbd0 ext4", "lower": "", "hostname": "ws01", "state": "/dev/nbd0" + stateAt("ws01")})
		if !strings.Contains(console, "again after") {
			t.Error("no reconnection was seen")
		}
		// Clean means unmounted: the journal is empty, nothing is to repair.
		if out, err := exec.Command("e2fsck", "-fn", disk).CombinedOutput(); err != nil {
			t.Errorf("e2fsck: %v: %s", err, out)
		}
		if out, err := exec.Command("dumpe2fs", "-h", disk).CombinedOutput(); err != nil || strings.Contains(string(out), "needs_recovery") {
			t.Errorf("not unmounted: %v: %s", err, out)
		}
	})
	t.Run("squashfs", func(t *testing.T) {
		t.Parallel()
		a := *out[ro.Addr].Artifact
		sealed, err := content.Path(a.Root.Digest)
		if err != nil {
			t.Fatal(err)
		}
		port := free(t)
		nbdkit(t, port, "-r", "file", sealed)
		x := newExchange(t)
		// No host block: the name is DHCP's, and the key the hardware address.
		console := machine(t, content, a, settings("", ""), line(port, a, x, "01-52-54-00-00-00-07", "ro dlreconcile.overlay=tmpfs"), func(string) {})
		check(t, console, x, map[string]string{"root": "dlreconcile overlay", "lower": "/dev/nbd0 squashfs", "hostname": "ws07", "state": "dlreconcile" + stateAt("52-54-00-00-00-07")})
	})
}
