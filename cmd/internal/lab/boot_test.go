package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

const (
	bootMarker = "the lab has booted"
	kernelLine = "console=ttyS0 no_timer_check lab.word=0123456789abcdef"
)

// TestMachineBootsOverTheNetwork boots a machine with SeaBIOS and the iPXE option ROM
// from servers that are not ours, and holds the capture against what they served.
func TestMachineBootsOverTheNetwork(t *testing.T) {
	t.Parallel()
	providertest.NeedRoot(t)
	providertest.Need(t, "qemu-system-x86_64", "dnsmasq", "apt-get", "dpkg-deb", "busybox", "cpio")
	if missing := lab.Missing(lab.BIOS); len(missing) > 0 {
		t.Fatalf("missing: %v; %s", missing, lab.InstallCommand(missing))
	}
	files := map[string][]byte{
		"vmlinuz":    read(t, debianKernel(t)),
		"initrd.img": busyboxInitrd(t),
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	l := newLab(t, lab.Config{Name: t.Name()})
	server := l.Address().Addr().String()
	script := fmt.Sprintf("#!ipxe\nkernel http://%s/vmlinuz %s\ninitrd http://%s/initrd.img\nboot\n", server, kernelLine, server)

	tftpRoot := t.TempDir()
	if err := os.Chmod(tftpRoot, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tftpRoot, "boot.ipxe"), []byte(script))
	serveHTTP(t, l, files)
	capture, err := l.Capture(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// iPXE waits 13 s for a router advertisement, so let it have one.
	ip := l.Command(ctx, "ip", "address", "add", "fd77::1/64", "dev", lab.Bridge, "nodad")
	if out, err := ip.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dnsmasq(t, l, "--enable-tftp", "--tftp-root="+tftpRoot, "--dhcp-boot=boot.ipxe,,"+server,
		"--enable-ra", "--dhcp-range=fd77::,ra-only")

	began := time.Now()
	mac := provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	m, err := l.Machine(ctx, lab.MachineConfig{Name: "ws01", MAC: mac, Memory: 384})
	if err != nil {
		t.Fatal(err)
	}
	line, err := m.WaitConsole(ctx, regexp.MustCompile(bootMarker+" with .*"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f s from power-on to the marker", time.Since(began).Seconds())
	if !strings.Contains(line, kernelLine) {
		t.Errorf("the kernel line is %q, want %q in it", line, kernelLine)
	}
	if err := m.Wait(ctx); err != nil {
		t.Error(err)
	}
	t.Logf("%.1f s from power-on to power-off", time.Since(began).Seconds())
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	read := time.Now()
	all, err := capture.Traffic()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d frames analysed in %v", all.Frames, time.Since(read))
	if all.Malformed != 0 || all.Short != 0 || all.Unfinished {
		t.Errorf("malformed %d, short %d, unfinished %v", all.Malformed, all.Short, all.Unfinished)
	}
	got := all.Of(mac)
	checkDHCP(t, got.DHCP, server)
	if len(got.TFTP) != 1 {
		t.Fatalf("%d TFTP transfers, want 1", len(got.TFTP))
	}
	x := got.TFTP[0]
	if x.Name != "boot.ipxe" || !x.Complete || x.Digest != sum([]byte(script)) || x.Bytes != int64(len(script)) ||
		x.Asked["blksize"] != "1432" || x.Mode != "octet" || x.Failure != "" {
		t.Errorf("TFTP transfer %+v", x)
	}
	checkHTTP(t, got.HTTP, files)
}

func checkDHCP(t *testing.T, packets []*wire.DHCP, server string) {
	t.Helper()
	var kinds []dhcpv4.MessageType
	for _, p := range packets {
		kinds = append(kinds, p.Packet.MessageType())
		switch p.Packet.MessageType() {
		case dhcpv4.MessageTypeDiscover:
			if !p.FromClient || !strings.HasPrefix(p.Packet.ClassIdentifier(), "PXEClient:Arch:00000") {
				t.Errorf("DISCOVER from client %v: %v", p.FromClient, p.Packet.Summary())
			}
		case dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck:
			// dnsmasq uses option 67, which leaves the field of that name empty.
			if p.FromClient || p.Packet.BootFileNameOption() != "boot.ipxe" || p.Packet.ServerIPAddr.String() != server {
				t.Errorf("answer from client %v: %v", p.FromClient, p.Packet.Summary())
			}
		}
	}
	last := []dhcpv4.MessageType{dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeAck}
	if len(kinds) < 4 || kinds[0] != dhcpv4.MessageTypeDiscover || kinds[len(kinds)-2] != last[0] || kinds[len(kinds)-1] != last[1] {
		t.Errorf("DHCP packets %v", kinds)
	}
}

func checkHTTP(t *testing.T, exchanges []*wire.HTTP, files map[string][]byte) {
	t.Helper()
	var asked []string
	for _, e := range exchanges {
		asked = append(asked, e.Method+" "+e.Target)
		file := files[strings.TrimPrefix(e.Target, "/")]
		if e.Status != 200 || !e.Complete || e.Length != int64(len(file)) || e.Bytes != int64(len(file)) || e.Digest != sum(file) {
			t.Errorf("%s: status %d, complete %v, length %d, %d bytes, digest %s; want %d bytes, %s",
				e.Target, e.Status, e.Complete, e.Length, e.Bytes, e.Digest, len(file), sum(file))
		}
		if kept := bytes.Equal(e.Body, file); kept != (len(file) <= wire.MaxBody) {
			t.Errorf("%s: body kept: %v, of %d bytes", e.Target, kept, len(file))
		}
		t.Logf("%s: %d bytes in %.2f s", e.Target, e.Bytes, e.End.Sub(e.At).Seconds())
	}
	if want := []string{"GET /vmlinuz", "GET /initrd.img"}; strings.Join(asked, ",") != strings.Join(want, ",") {
		t.Errorf("HTTP requests %v, want %v", asked, want)
	}
}
