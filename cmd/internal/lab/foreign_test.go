package lab_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/cmd/internal/wire"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// run runs a command to its end.
func run(t *testing.T, cmd *exec.Cmd) []byte {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return out
}

// client makes a client with a hardware address of its own, and its IPv4 address
// when one is given.
func client(t *testing.T, l *lab.Lab, mac provider.MAC, address string) *lab.ClientNS {
	t.Helper()
	c, err := l.Client(t.Context(), lab.ClientConfig{Name: "c", MAC: mac})
	if err != nil {
		t.Fatal(err)
	}
	if c.MAC() != mac {
		t.Fatalf("the client has %v, want %v", c.MAC(), mac)
	}
	if address != "" {
		run(t, c.Command(t.Context(), "ip", "address", "add", address, "dev", lab.ClientInterface))
	}
	return c
}

// captured runs what happens on the wire and gives what was seen of it.
func captured(t *testing.T, l *lab.Lab, mac provider.MAC, happens func()) *wire.Traffic {
	t.Helper()
	capture, err := l.Capture(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	happens()
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := capture.Stop(); err != nil {
		t.Errorf("stopping again: %v", err)
	}
	all, err := capture.Traffic()
	if err != nil {
		t.Fatal(err)
	}
	if all.Malformed != 0 || all.Short != 0 || all.Unfinished {
		t.Errorf("malformed %d, short %d, unfinished %v", all.Malformed, all.Short, all.Unfinished)
	}
	return all.Of(mac)
}

// pattern gives n bytes without repetition in a transfer's blocks.
func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%08x\n", i)
	}
	return b.Bytes()[:n]
}

func TestForeignDHCPClients(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "dnsmasq", "udhcpc", "dhclient")
	l := newLab(t, lab.Config{Name: t.Name()})
	dnsmasq(t, l, "--dhcp-boot=x/boot.ipxe,,10.77.0.9")
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"udhcpc":   {"-i", lab.ClientInterface, "-f", "-n", "-q", "-s", "/bin/true"},
		"dhclient": {"-1", "-d", "-sf", "/bin/true", "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), lab.ClientInterface},
	} {
		mac := provider.MAC{2, 0, 0, 0, 1, byte(len(name))}
		c := client(t, l, mac, "")
		got := captured(t, l, mac, func() {
			cmd := c.Command(t.Context(), name, args...)
			if name == "dhclient" { // it stays in the foreground, to renew
				daemon(t, cmd)
				poll(t, "a lease", func() bool {
					b, _ := os.ReadFile(filepath.Join(dir, "leases"))
					return bytes.Contains(b, []byte("lease {"))
				})
				return
			}
			run(t, cmd)
		})
		var kinds []dhcpv4.MessageType
		var address string
		for _, p := range got.DHCP {
			kind := p.Packet.MessageType()
			if len(kinds) == 0 || kinds[len(kinds)-1] != kind { // a DISCOVER may be repeated
				kinds = append(kinds, kind)
			}
			fromClient := kind == dhcpv4.MessageTypeDiscover || kind == dhcpv4.MessageTypeRequest
			if p.FromClient != fromClient {
				t.Errorf("%s: %v from client: %v", name, kind, p.FromClient)
			}
			if kind == dhcpv4.MessageTypeAck {
				address = p.Packet.YourIPAddr.String()
				if p.Packet.ServerIPAddr.String() != "10.77.0.9" || p.Src.Port() != 67 || p.Dst.Port() != 68 {
					t.Errorf("%s: %v from %v to %v", name, p.Packet.Summary(), p.Src, p.Dst)
				}
			}
		}
		want := []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeAck}
		if diff := cmp.Diff(want, kinds); diff != "" || !strings.HasPrefix(address, "10.77.0.") {
			t.Errorf("%s: address %s, -want +got:\n%s", name, address, diff)
		}
	}
}

func TestForeignTFTPClients(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "dnsmasq", "tftp", "atftp", "curl")
	root, out := t.TempDir(), t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	content := pattern(1 << 20)
	write(t, filepath.Join(root, "vmlinuz"), content)
	l := newLab(t, lab.Config{Name: t.Name()})
	dnsmasq(t, l, "--enable-tftp", "--tftp-root="+root)
	mac := provider.MAC{2, 0, 0, 0, 2, 1}
	c := client(t, l, mac, "10.77.0.21/24")
	for name, x := range map[string]struct {
		args    []string
		block   string // asked for
		missing bool
	}{
		"tftp":               {[]string{"tftp", "-m", "binary", "10.77.0.1", "-c", "get", "vmlinuz", filepath.Join(out, "a")}, "", false},
		"atftp":              {[]string{"atftp", "--option", "blksize 1428", "-g", "-r", "vmlinuz", "-l", filepath.Join(out, "b"), "10.77.0.1"}, "1428", false},
		"curl":               {[]string{"curl", "-s", "--tftp-blksize", "8192", "-o", filepath.Join(out, "c"), "tftp://10.77.0.1/vmlinuz"}, "8192", false},
		"curl, no such file": {[]string{"curl", "-s", "-o", filepath.Join(out, "d"), "tftp://10.77.0.1/none"}, "512", true},
	} {
		t.Run(name, func(t *testing.T) {
			got := captured(t, l, mac, func() {
				if out, err := c.Command(t.Context(), x.args[0], x.args[1:]...).CombinedOutput(); (err != nil) != x.missing {
					t.Fatalf("%v: %s", err, out)
				}
			}).TFTP
			if len(got) != 1 {
				t.Fatalf("%d transfers", len(got))
			}
			e := got[0]
			if e.Asked["blksize"] != x.block {
				t.Errorf("asked for %v", e.Asked)
			}
			if x.missing {
				if e.Complete || e.Refused || e.Bytes != 0 || !strings.HasPrefix(e.Failure, "1 ") {
					t.Errorf("%+v", e)
				}
				return
			}
			if e.Name != "vmlinuz" || !e.Complete || e.Digest != sum(content) || e.Bytes != int64(len(content)) || e.Failure != "" {
				t.Errorf("%+v", e)
			}
			t.Logf("%d bytes, granted %v", e.Bytes, e.Granted)
		})
	}
}

// TestBlocksLargerThanTheMTU: the kernel sends them in IPv4 fragments.
func TestBlocksLargerThanTheMTU(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "curl")
	content := pattern(8000)
	l := newLab(t, lab.Config{Name: t.Name()})
	var socket *net.UDPConn
	if err := l.Do(func() (err error) {
		socket, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IP{10, 77, 0, 1}, Port: 6969})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { // serves one client one block
		buf := make([]byte, 600)
		for _, answer := range [][]byte{[]byte("\x00\x06blksize\x008192\x00"), append([]byte{0, 3, 0, 1}, content...), nil} {
			_, from, err := socket.ReadFrom(buf)
			if err == nil && answer != nil {
				_, err = socket.WriteTo(answer, from)
			}
			if err != nil {
				served <- err
				return
			}
		}
		served <- nil
	}()
	mac := provider.MAC{2, 0, 0, 0, 6, 1}
	c := client(t, l, mac, "10.77.0.21/24")
	got := captured(t, l, mac, func() {
		run(t, c.Command(t.Context(), "curl", "-s", "-m", "20", "--tftp-blksize", "8192", "-o", "/dev/null", "tftp://10.77.0.1:6969/x"))
		if err := socket.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	}).TFTP
	if len(got) != 1 || !got[0].Complete || got[0].Digest != sum(content) || got[0].Server.Port() != 6969 {
		t.Errorf("%+v", got)
	}
	if err := socket.Close(); err != nil {
		t.Error(err)
	}
}

func TestForeignHTTPClient(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "curl")
	kernel := pattern(30 << 20)
	l := newLab(t, lab.Config{Name: t.Name()})
	serveHTTP(t, l, map[string][]byte{"vmlinuz": kernel, "boot.ipxe": []byte("#!ipxe\n")})
	mac := provider.MAC{2, 0, 0, 0, 3, 1}
	c := client(t, l, mac, "10.77.0.21/24")
	got := captured(t, l, mac, func() {
		run(t, c.Command(t.Context(), "curl", "-s", "--remote-time", "-o", "/dev/null", "http://10.77.0.1/vmlinuz",
			"--next", "-s", "-r", "100-199", "-o", "/dev/null", "http://10.77.0.1/vmlinuz",
			"--next", "-s", "-I", "http://10.77.0.1/boot.ipxe",
			"--next", "-s", "http://10.77.0.1/boot.ipxe",
			"--next", "-s", "--path-as-is", "http://10.77.0.1/a//b?c"))
	}).HTTP
	type row struct {
		Method, Target, Range string
		Status                int
		Length, Bytes         int64
		Digest                string
		Complete              bool
	}
	want := []row{
		{"GET", "/vmlinuz", "", 200, 30 << 20, 30 << 20, sum(kernel), true},
		{"GET", "/vmlinuz", "bytes=100-199", 206, 100, 100, sum(kernel[100:200]), true},
		{"HEAD", "/boot.ipxe", "", 200, 7, 0, sum(nil), true},
		{"GET", "/boot.ipxe", "", 200, 7, 7, sum([]byte("#!ipxe\n")), true},
		{"GET", "/a//b?c", "", 404, 19, 19, sum([]byte("404 page not found\n")), true},
	}
	var rows []row
	for _, e := range got {
		rows = append(rows, row{e.Method, e.Target, e.Request.Get("Range"), e.Status, e.Length, e.Bytes, e.Digest, e.Complete})
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestForeignNBD(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "nbdkit", "nbdinfo", "nbdcopy")
	l := newLab(t, lab.Config{Name: t.Name()})
	const name = "arch@3f2a9c1d7e08"
	daemon(t, l.Command(t.Context(), "nbdkit", "--foreground", "--exit-with-parent", "--readonly", "--ipaddr=10.77.0.1",
		"--filter=exportname", "memory", "3M", "exportname-strict=true", "exportname="+name))
	poll(t, "nbdkit to listen", func() bool {
		out, err := l.Command(t.Context(), "cat", "/proc/net/tcp").Output()
		return err == nil && bytes.Contains(out, []byte(":2A39 ")) // 10809
	})
	mac := provider.MAC{2, 0, 0, 0, 4, 1}
	c := client(t, l, mac, "10.77.0.21/24")
	got := captured(t, l, mac, func() {
		run(t, c.Command(t.Context(), "nbdcopy", "nbd://10.77.0.1/"+name, "null:"))
		if out, err := c.Command(t.Context(), "nbdinfo", "--size", "nbd://10.77.0.1/zzz").CombinedOutput(); err == nil {
			t.Errorf("an export that is not there: %s", out)
		}
	}).NBD
	var granted, refused int
	for _, e := range got {
		switch {
		case e.Export == name && e.Granted:
			// Has flags (1) and is read-only (2).
			if e.Size != 3<<20 || e.Flags&3 != 3 || e.Failure != "" {
				t.Errorf("%+v", e)
			}
			if e.Option == "GO" {
				granted++
			}
		case e.Export == "zzz" && !e.Granted && strings.HasPrefix(e.Failure, "ERR_UNKNOWN"):
			refused++
		default:
			t.Errorf("%+v", e)
		}
	}
	if granted == 0 || refused != 1 { // nbdcopy opens several connections
		t.Errorf("%d granted, %d refused", granted, refused)
	}
}

// TestStoppingACaptureKeepsWhatWasSent: not a frame that was sent before Stop is
// missing, nor is one there twice.
func TestStoppingACaptureKeepsWhatWasSent(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip")
	l := newLab(t, lab.Config{Name: t.Name()})
	mac := provider.MAC{2, 0, 0, 0, 7, 1}
	c := client(t, l, mac, "10.77.0.21/24")
	var server net.PacketConn // reads nothing: what it has no room for is dropped behind the bridge
	if err := l.Do(func() (err error) {
		server, err = net.ListenPacket("udp4", "10.77.0.1:69")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	const count = 5000
	for range 3 {
		got := captured(t, l, mac, func() {
			if err := c.Do(func() error {
				conn, err := net.Dial("udp4", server.LocalAddr().String())
				if err != nil {
					return err
				}
				defer conn.Close()
				for i := range count {
					if _, err := fmt.Fprintf(conn, "\x00\x01%d\x00octet\x00", i); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}).TFTP
		for i, x := range got {
			if x.Name != fmt.Sprint(i) {
				t.Fatalf("request %d is %s", i, x.Name)
			}
		}
		if len(got) != count {
			t.Errorf("%d requests, want %d", len(got), count)
		}
	}
}

// TestCaptureFileIsReadByTcpdump: both ways, through a foreign reader and writer.
func TestCaptureFileIsReadByTcpdump(t *testing.T) {
	providertest.NeedRoot(t)
	providertest.Need(t, "ip", "tcpdump", "curl")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	content := pattern(100_000)
	dir := t.TempDir()
	l := newLab(t, lab.Config{Name: t.Name(), Dir: dir})
	serveHTTP(t, l, map[string][]byte{"x": content})
	mac := provider.MAC{2, 0, 0, 0, 5, 1}
	c := client(t, l, mac, "10.77.0.21/24")
	ours := captured(t, l, mac, func() {
		run(t, c.Command(ctx, "curl", "-s", "-o", "/dev/null", "http://10.77.0.1/x"))
	})
	theirs := filepath.Join(dir, "copy.pcap")
	run(t, exec.Command("tcpdump", "-r", filepath.Join(dir, "capture.pcap"), "-w", theirs))
	copied, err := wire.ReadFile(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if len(copied.HTTP) != 1 || copied.Frames != ours.Frames || copied.HTTP[0].Digest != sum(content) {
		t.Errorf("%d frames and %+v, of %d frames", copied.Frames, copied.HTTP, ours.Frames)
	}
	if rest := time.Since(copied.HTTP[0].At); rest < 0 || rest > time.Minute {
		t.Errorf("the request was %v ago", rest)
	}
}
