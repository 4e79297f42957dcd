package dhcp_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

// qemu starts a machine with a network card at the segment.
func qemu(t *testing.T, n *faultnet.Net, args ...string) *lines {
	t.Helper()
	namespace, bridge := n.Bridge()
	for _, line := range []string{"tuntap add tap0 mode tap", "link set tap0 master " + bridge, "link set tap0 up"} {
		if out, err := exec.Command("ip", append([]string{"-n", namespace}, strings.Fields(line)...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	cmd := exec.Command("ip", append([]string{"netns", "exec", namespace, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64", "-m", "256", "-nodefaults",
		"-display", "none", "-serial", "stdio", "-netdev", "tap,id=n0,script=no,downscript=no,ifname=tap0"}, args...)...)
	return start(t, cmd)
}

// Firmware, the programs that it loads, and a foreign DHCP server that knows
// nothing of boot: which files they load is said by us.
func TestMachinesBootBesideAnotherServer(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	providertest.NeedRoot(t)
	providertest.Need(t, "qemu-system-x86_64", "dnsmasq")
	card := "virtio-net-pci,netdev=n0,mac=" + mac1.String()
	bios := func(*testing.T) []string { return []string{"-M", "pc,graphics=off", "-device", card + ",bootindex=1"} }
	uefi := func(t *testing.T) []string {
		vars := filepath.Join(t.TempDir(), "vars")
		copyFile(t, "/usr/share/OVMF/OVMF_VARS_4M.fd", vars)
		return []string{"-M", "q35", "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
			"-drive", "if=pflash,unit=1,format=raw,file=" + vars, "-device", card + ",romfile=,bootindex=1"}
	}
	uefiHTTP := func(t *testing.T) []string { // without the last four it tries PXE first, for two minutes
		return append(uefi(t), "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
	}
	const (
		rom    = "PXEClient  7"
		chain  = "PXEClient iPXE 7"
		script = "http://10.0.0.1/b/own/boot.ipxe"
	)
	for name, c := range map[string]struct {
		machine func(*testing.T) []string
		next    string // next_server: who has the TFTP files
		events  []string
	}{
		"iPXE ROM": {bios, "10.0.0.1", []string{
			"dhcp.discover PXEClient iPXE 0 ", "dhcp.offer PXEClient iPXE 0 " + script, "dhcp.taken PXEClient iPXE 0 "}},
		"UEFI": {uefi, "10.0.0.1", []string{
			"dhcp.discover " + rom + " ", "dhcp.offer " + rom + " b/own/snponly.efi", "dhcp.taken " + rom + " ", "dhcp.ack " + rom + " b/own/snponly.efi",
			"dhcp.discover " + chain + " ", "dhcp.offer " + chain + " " + script, "dhcp.taken " + chain + " "}},
		"UEFI with its files elsewhere": {uefi, "10.0.0.2", []string{
			"dhcp.discover " + rom + " ", "dhcp.offer " + rom + " b/own/snponly.efi", "dhcp.taken " + rom + " ", "dhcp.ack " + rom + " b/own/snponly.efi",
			"dhcp.discover " + chain + " ", "dhcp.offer " + chain + " " + script, "dhcp.taken " + chain + " "}},
		"UEFI HTTP": {uefiHTTP, "10.0.0.1", []string{
			"dhcp.discover HTTPClient  16 ", "dhcp.offer HTTPClient  16 http://10.0.0.1/b/own/snponly.efi", "dhcp.taken HTTPClient  16 ",
			"dhcp.discover " + chain + " ", "dhcp.offer " + chain + " " + script, "dhcp.taken " + chain + " "}},
	} {
		t.Run(name, func(t *testing.T) {
			files := bootFiles(t)
			want := proxying()
			want.Subnets[0].NextServer = ip(c.next)
			s := newSegment(t, want, "--enable-tftp", "--tftp-root="+files)
			if c.next == "10.0.0.1" {
				dnsmasq(t, s.server, "--enable-tftp", "--tftp-root="+files)
			}
			web := serveHTTP(t, s.server, files)
			began := time.Now()
			console := qemu(t, s.net, c.machine(t)...)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			if err := web.await(ctx, "GET /there"); err != nil {
				t.Errorf("%v\nconsole:\n%s\nDHCP server:\n%s\nHTTP:\n%s", err, console, s.dhcp, web)
			}
			t.Logf("%.1f s from power-on to the script", time.Since(began).Seconds())
			s.nodes.mu.Lock()
			defer s.nodes.mu.Unlock()
			var got []string
			for _, e := range s.nodes.events {
				// Firmware repeats itself on a machine that is busy.
				if line := fmt.Sprintf("%s %s %s %d %s", e.Kind, e.Vendor, e.Class, e.Arch, e.Name); !slices.Contains(got, line) {
					got = append(got, line)
				}
				if (e.Kind == provider.EventTaken || e.Kind == provider.EventAck) && !netip.MustParsePrefix("10.0.0.96/27").Contains(e.Addr) {
					t.Errorf("%s at %s, which is not the other server's", e.Kind, e.Addr)
				}
			}
			if diff := cmp.Diff(c.events, got); diff != "" {
				t.Errorf("events: -want +got\n%s", diff)
			}
		})
	}
}

// bootFiles makes the folder with what machines load; the script's last file is how
// they report that they are there.
func bootFiles(t *testing.T) string {
	t.Helper()
	files := t.TempDir()
	dir := filepath.Join(files, "b", "own")
	err := errors.Join(os.Chmod(files, 0o755), os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "boot.ipxe"), []byte("#!ipxe\nimgfetch http://10.0.0.1/there ||\n:end\nsleep 60\ngoto end\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, "/usr/lib/ipxe/snponly.efi", filepath.Join(dir, "snponly.efi"))
	return files
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// serveHTTP serves a folder in a namespace, and lists the requests.
func serveHTTP(t *testing.T, at *faultnet.Space, dir string) *lines {
	t.Helper()
	var ln net.Listener
	if err := at.Do(func() (err error) { ln, err = net.Listen("tcp", "10.0.0.1:80"); return }); err != nil {
		t.Fatal(err)
	}
	l := newLines()
	files := http.FileServer(http.Dir(dir))
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.add(r.Method + " " + r.URL.Path)
		files.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ln) }()
	t.Cleanup(func() { s.Close(); <-done })
	return l
}
