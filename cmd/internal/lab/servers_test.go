package lab_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
)

// dnsmasq runs a foreign DHCP server in the lab until the test ends.
func dnsmasq(t *testing.T, l *lab.Lab, args ...string) {
	t.Helper()
	at := l.Address().Addr()
	network := at.As4()
	from, to := network, network
	from[3], to[3] = 128, 254
	range4 := fmt.Sprintf("--dhcp-range=%v,%v,1h", net.IP(from[:]), net.IP(to[:]))
	dir := t.TempDir()
	args = append([]string{
		"--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root", "--log-dhcp",
		"--interface=" + lab.Bridge, "--bind-dynamic", "--dhcp-authoritative", "--no-ping",
		"--dhcp-leasefile=" + filepath.Join(dir, "leases"), "--pid-file=", range4,
	}, args...)
	daemon(t, l.Command(t.Context(), "dnsmasq", args...))
	// It listens once its UDP socket on port 67 (0x43) is in the namespace's table.
	poll(t, "dnsmasq to listen", func() bool {
		out, err := l.Command(t.Context(), "cat", "/proc/net/udp").Output()
		return err == nil && bytes.Contains(out, []byte(":0043 "))
	})
}

// daemon runs a command until the test ends, and shows what it wrote if it failed.
func daemon(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), out.String())
		}
	})
}

// serveHTTP serves files in the lab, on port 80, until the test ends.
func serveHTTP(t *testing.T, l *lab.Lab, files map[string][]byte) {
	t.Helper()
	var ln net.Listener
	if err := l.Do(func() (err error) {
		ln, err = net.Listen("tcp4", l.Address().Addr().String()+":80")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		ErrorLog: log.New(t.Output(), "http: ", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
			if !ok {
				http.NotFound(w, r)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		}),
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
}

// debianKernel gives the file of Debian's cloud kernel, downloaded once per user.
func debianKernel(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("apt-cache", "depends", "--important", "linux-image-cloud-amd64").Output()
	if err != nil {
		t.Fatalf("apt-cache: %v", err)
	}
	name := regexp.MustCompile(`Depends: (linux-image-\S+-cloud-amd64)`).FindSubmatch(out)
	if name == nil {
		t.Fatalf("apt-cache names no kernel:\n%s", out)
	}
	pkg := string(name[1])
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "dlreconcile-test")
	dir := filepath.Join(cache, pkg)
	if kernel, ok := kernelIn(dir); ok {
		return kernel
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(cache, "download-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	get := exec.Command("apt-get", "download", pkg)
	get.Dir = work
	if out, err := get.CombinedOutput(); err != nil {
		t.Fatalf("apt-get download %s: %v\n%s", pkg, err, out)
	}
	deb, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(deb) != 1 {
		t.Fatalf("downloaded %v, %v", deb, err)
	}
	if out, err := exec.Command("dpkg-deb", "--extract", deb[0], filepath.Join(work, "x")).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	// Another test process may have been first.
	if err := os.Rename(filepath.Join(work, "x"), dir); err != nil {
		t.Log(err)
	}
	kernel, ok := kernelIn(dir)
	if !ok {
		t.Fatalf("no kernel in %s", dir)
	}
	return kernel
}

func kernelIn(dir string) (string, bool) {
	found, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if len(found) != 1 {
		return "", false
	}
	return found[0], true
}

// busyboxInitrd makes an initramfs that shows the marker with the kernel line and
// powers off; with lab.shell on the kernel line it reads commands from the console
// instead.
func busyboxInitrd(t *testing.T) []byte {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"bin", "dev", "proc", "sys"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "bin/busybox"), read(t, program))
	write(t, filepath.Join(root, "init"), []byte(`#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
read line </proc/cmdline
echo "`+bootMarker+` with $line"
case "$line" in
*lab.shell*) exec /bin/busybox sh ;;
esac
/bin/busybox poweroff -f
`))
	for _, f := range []string{"bin/busybox", "init"} {
		if err := os.Chmod(filepath.Join(root, f), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("cpio", "--create", "--format=newc", "--quiet")
	cmd.Dir = root
	cmd.Stdin = strings.NewReader("bin\nbin/busybox\ndev\nproc\nsys\ninit\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cpio: %v", err)
	}
	return out
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
