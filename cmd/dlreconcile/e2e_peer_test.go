package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// peer is the same service set up by hand, in a network of its own: dnsmasq for DHCP
// and TFTP, nginx for HTTP, nbd-server for the root. It is tuned as far as its manual
// pages go: nothing in it waits for what ours does not.
type peer struct {
	t    *testing.T
	lab  *lab.Lab
	root string // what TFTP and HTTP serve
}

// peerPrograms are what a peer needs.
var peerPrograms = []string{"dnsmasq", "nginx", "nbd-server", "grub-mknetdir"}

// newPeer serves a kernel, an initrd and an ext4 root, which are files, for the given
// ways to boot. It runs until the test ends.
func newPeer(t *testing.T, ways []way, kernel, initrd, root string) *peer {
	t.Helper()
	providertest.Need(t, peerPrograms...)
	dir := t.TempDir()
	l, err := lab.New(t.Context(), lab.Config{Name: "peer", Dir: filepath.Join(dir, "lab")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("the peer's lab: %v", err)
		}
	})
	p := &peer{t: t, lab: l, root: filepath.Join(dir, "srv")}
	p.lay(kernel, initrd)
	p.serveDHCP(ways)
	p.serveHTTP(dir)
	p.serveNBD(dir, root)
	return p
}

const (
	peerAddress = "10.77.0.1"
	peerLine    = "root=/dev/nbd0 nbdroot=" + peerAddress + ",tiny,nbd0 ip=dhcp ro console=ttyS0 no_timer_check quiet panic=30"
)

// lay makes the tree.
func (p *peer) lay(kernel, initrd string) {
	p.t.Helper()
	p.copy(kernel, "vmlinuz")
	p.copy(initrd, "initrd.img")
	// As the manual has it: a boot program with its modules beside it.
	for _, by := range []string{"tftp", "http"} {
		for _, platform := range []string{"i386-pc", "x86_64-efi"} {
			mk := exec.Command("grub-mknetdir", "--net-directory="+p.root, "--subdir=/grub-"+by,
				"--modules="+by+" linux normal configfile", "--directory=/usr/lib/grub/"+platform)
			if out, err := mk.CombinedOutput(); err != nil {
				p.t.Fatalf("grub-mknetdir: %v\n%s", err, out)
			}
		}
		p.write("grub-"+by+"/grub.cfg", "set timeout=0\nmenuentry tiny {\n  linux /vmlinuz "+peerLine+"\n  initrd /initrd.img\n}\n")
	}
	p.copy("/usr/lib/PXELINUX/pxelinux.0", "pxelinux.0")
	p.copy("/usr/lib/PXELINUX/lpxelinux.0", "lpxelinux.0")
	p.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", "ldlinux.c32")
	p.write("pxelinux.cfg/default", "DEFAULT tiny\nPROMPT 0\nTIMEOUT 0\nLABEL tiny\n  KERNEL vmlinuz\n  INITRD initrd.img\n  APPEND "+peerLine+"\n")
	for _, f := range []string{"undionly.kpxe", "snponly.efi", "ipxe.efi"} {
		p.copy("/usr/lib/ipxe/"+f, f)
	}
	for name, url := range map[string]string{"boot.ipxe": "http://" + peerAddress, "boot-tftp.ipxe": "tftp://" + peerAddress} {
		p.write(name, fmt.Sprintf("#!ipxe\nkernel %s/vmlinuz initrd=initrd.img %s\ninitrd --name initrd.img %s/initrd.img\nboot\n", url, peerLine, url))
	}
}

func (p *peer) write(name, content string) {
	p.t.Helper()
	file := filepath.Join(p.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) copy(from, name string) {
	p.t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		p.t.Fatal(err)
	}
	p.write(name, string(b))
}

// serveDHCP runs dnsmasq for DHCP and TFTP.
func (p *peer) serveDHCP(ways []way) {
	p.t.Helper()
	args := []string{
		"--enable-tftp", "--tftp-root=" + p.root,
		"--dhcp-range=10.77.0.20,10.77.0.250,1h",
		"--dhcp-vendorclass=set:httpboot,HTTPClient",
		// iPXE waits three seconds for a proxy unless it is told that there is none, and
		// longer for a router advertisement.
		"--dhcp-option-force=tag:ipxe,175,b0:01:01",
		"--enable-ra", "--dhcp-range=fd77::,ra-only",
		"--dhcp-option-force=tag:httpboot,60,HTTPClient",
	}
	for _, w := range ways {
		args = append(args, fmt.Sprintf("--dhcp-host=%s,set:%s", macOf(w.last), w.name))
	}
	args = append(args, bootFiles(ways)...)
	ip := p.lab.Command(p.t.Context(), "ip", "address", "add", "fd77::1/64", "dev", lab.Bridge, "nodad")
	if out, err := ip.CombinedOutput(); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	runDnsmasq(p.t, p.lab.Command, lab.Bridge, args...)
}

// bootFiles are the arguments by which dnsmasq names to each way's machine, tagged by
// the way's name, what it is to load.
func bootFiles(ways []way) []string {
	args := []string{"--dhcp-userclass=set:ipxe,iPXE"}
	for _, w := range ways {
		firmware := "tag:" + w.name
		if w.peer.script != "" {
			args = append(args, "--dhcp-boot="+firmware+",tag:ipxe,"+w.peer.script+",,"+peerAddress)
			firmware += ",tag:!ipxe"
		}
		args = append(args, "--dhcp-boot="+firmware+","+w.peer.file+",,"+peerAddress)
		for _, option := range w.peer.options {
			args = append(args, "--dhcp-option-force=tag:"+w.name+","+option)
		}
	}
	return args
}

// runDnsmasq runs a DHCP server that is not ours on an interface of a namespace, in
// which command starts programs, until the test ends.
func runDnsmasq(t *testing.T, command func(context.Context, string, ...string) *exec.Cmd, ifc string, args ...string) {
	t.Helper()
	providertest.Need(t, "dnsmasq")
	args = append([]string{
		"--no-daemon", "--conf-file=/dev/null", "--port=0", "--user=root", "--log-dhcp",
		"--interface=" + ifc, "--bind-dynamic", "--dhcp-authoritative", "--no-ping",
		"--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases"), "--pid-file=",
	}, args...)
	foreground(t, command(t.Context(), "dnsmasq", args...))
	listens(t, command, "udp", ":0043 ")
}

func (p *peer) serveHTTP(dir string) {
	p.t.Helper()
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`user root;
daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path %[1]s/nginx-body;
  proxy_temp_path %[1]s/nginx-proxy;
  fastcgi_temp_path %[1]s/nginx-fastcgi;
  uwsgi_temp_path %[1]s/nginx-uwsgi;
  scgi_temp_path %[1]s/nginx-scgi;
  server { listen %[2]s:80; root %[3]s; }
}
`, dir, peerAddress, p.root)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	foreground(p.t, p.lab.Command(p.t.Context(), "nginx", "-e", "stderr", "-c", conf))
	listens(p.t, p.lab.Command, "tcp", ":0050 ")
}

func (p *peer) serveNBD(dir, root string) {
	p.t.Helper()
	conf := filepath.Join(dir, "nbd-server.conf")
	text := fmt.Sprintf("[generic]\n  listenaddr = %s\n[tiny]\n  exportname = %s\n  readonly = true\n", peerAddress, root)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
	// It goes into the background; the lab's end ends it.
	start := p.lab.Command(p.t.Context(), "nbd-server", "-C", conf, "-p", filepath.Join(dir, "nbd-server.pid"))
	start.WaitDelay = stopLimit
	if err := start.Run(); err != nil {
		p.t.Fatalf("nbd-server: %v", err)
	}
	listens(p.t, p.lab.Command, "tcp", ":2A39 ")
}

// stopLimit bounds the wait for what a dead server's children hold open.
const stopLimit = 5 * time.Second

// foreground runs a server until the test ends, and shows what it wrote if the test
// failed.
func foreground(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = stopLimit
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(cmd.Args[:min(6, len(cmd.Args))], " "), tail(out.Bytes(), 3000))
		}
	})
}

// listens waits until a table of the namespace's sockets shows a port.
func listens(t *testing.T, command func(context.Context, string, ...string) *exec.Cmd, table, port string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := command(ctx, "cat", "/proc/net/"+table).Output()
		if err == nil && bytes.Contains(out, []byte(port)) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("nobody listens on %s%s", table, port)
		}
	}
}
