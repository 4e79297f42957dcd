package bootloader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

var loopbackAddr = netip.MustParseAddr("127.0.0.1")

// cmpAddr lets cmp compare addresses.
var cmpAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

var mac02 = provider.MAC{0x52, 0x54, 0, 0, 0, 2}

func digest(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// What is explained is what is served, to the byte, over both protocols.
func TestServedIsWhatIsAnswered(t *testing.T) {
	providertest.Need(t, "curl", "tftp")
	b := newBench(t)
	b.clients[loopbackAddr] = provider.Client{MAC: mac02, Host: ws02, Subnet: lan, Generation: 1}
	b.run()
	d := loopback(t, site())
	x := b.prepare(d)
	q := provider.Query{MAC: mac02, Arch: 7}
	before := x.Answer(q)
	x.Commit()
	answers := b.Answer(q)
	if d := cmp.Diff(before, answers); d != "" {
		t.Errorf("answers before and after the commit differ: %s", d)
	}
	id := offerOf(t, b.pub.Load().ByGen[1], ws02).tree.id
	line := "vmlinuz initrd=initrd.img root=/dev/nbd0 nbdroot=10.0.0.1,arch@" + b.art.Short() + ",nbd0 ip=dhcp BOOTIF=01-52-54-00-00-00-02 rw dlreconcile.url=http://" +
		d.Servers[0].HTTP.Listen.String() + " panic=30 quiet systemd.log_level=debug"
	httpAt, tftpAt := d.Servers[0].HTTP.Listen.String(), d.Servers[0].TFTP.Listen.String()
	var got []provider.Answer
	for _, a := range answers {
		a.Digest, a.Size, a.Text = "", 0, ""
		got = append(got, a)
	}
	if d := cmp.Diff([]provider.Answer{
		{Kind: provider.AnswerLoader, Provider: "bootloader", Protocol: "tftp", Server: tftpAt, Name: "b/" + id + "/snponly.efi", Range: at(30), Again: "iPXE"},
		{Kind: provider.AnswerScript, Provider: "bootloader", Protocol: "http", Server: httpAt, Name: "b/" + id + "/boot.ipxe", Range: at(30)},
		{Kind: provider.AnswerKernel, Provider: "bootloader", Protocol: "http", Server: httpAt, Name: "b/" + id + "/arch/vmlinuz", Line: line, Range: at(61)},
		{Kind: provider.AnswerInitrd, Provider: "bootloader", Protocol: "http", Server: httpAt, Name: "b/" + id + "/arch/initrd.img", Range: at(11)},
	}, got); d != "" {
		t.Error(d)
	}
	for _, a := range answers {
		httpOut, tftpOut := filepath.Join(t.TempDir(), "h"), filepath.Join(t.TempDir(), "t")
		host, port, _ := net.SplitHostPort(tftpAt)
		for proto, cmd := range map[string]*exec.Cmd{
			"http": exec.Command("curl", "-sSf", "-o", httpOut, "http://"+httpAt+"//"+a.Name),
			"tftp": exec.Command("tftp", "-m", "binary", host, port, "-c", "get", "/"+a.Name, tftpOut),
		} {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", cmd, err, out)
			}
			ev := b.sink.wait(t, func(ev provider.Event) bool { return ev.Protocol == proto && ev.Name == a.Name })
			want := provider.Event{
				Kind: provider.EventFile, At: ev.At, Asked: ev.Asked, MAC: mac02, Addr: loopbackAddr, Host: ws02, Subnet: lan, Generation: 1,
				Protocol: proto, Name: a.Name, Role: a.Kind, Tree: id, Bytes: a.Size,
			}
			if d := cmp.Diff(want, ev, cmpAddr); d != "" || ev.At.IsZero() || ev.Asked.IsZero() || ev.At.Before(ev.Asked) {
				t.Errorf("event at %s of a file asked for at %s: %s", ev.At, ev.Asked, d)
			}
		}
		for _, out := range []string{httpOut, tftpOut} {
			body, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if digest(body) != a.Digest || int64(len(body)) != a.Size {
				t.Errorf("%s: served %d bytes %s, answered %d %s", a.Name, len(body), digest(body), a.Size, a.Digest)
			}
			if a.Kind == provider.AnswerScript && string(body) != a.Text {
				t.Errorf("script served:\n%s\nanswered:\n%s", body, a.Text)
			}
		}
	}
	if code, body := get(t, d.Servers[0], "b/"+id+"/nope"); code != 404 || len(body) > 20 {
		t.Errorf("status %d %q", code, body)
	}
	ev := b.sink.wait(t, func(ev provider.Event) bool { return ev.Kind == provider.EventFileError })
	if ev.Err == "" || ev.Tree != id || ev.Role != "" {
		t.Errorf("%+v", ev)
	}
	var bytes uint64
	for _, a := range answers {
		bytes += uint64(a.Size)
	}
	n := uint64(len(answers))
	if got, want := b.Transfers(), (map[string]Transfers{"tftp": {n, n, 0, bytes}, "http": {n, n, 1, bytes}}); !maps.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestUnknownClients(t *testing.T) {
	b := newBench(t)
	b.run()
	d := loopback(t, site())
	b.prepare(d).Commit()
	for _, path := range []string{"", "nope", "b/", "b/unknown/boot.ipxe", "b/" + strings.Repeat("a", 26) + "/boot.ipxe"} {
		if code, _ := get(t, d.Servers[0], path); code != 404 {
			t.Errorf("%q: status %d", path, code)
		}
	}
	id := offerOf(t, b.pub.Load().ByGen[1], ws01).tree.id
	get(t, d.Servers[0], "b/"+id+"/boot.ipxe")
	ev := b.sink.wait(t, func(provider.Event) bool { return true })
	// Nothing is told about what strangers asked for in vain.
	if ev.Kind != provider.EventFile || ev.Name != "b/"+id+"/boot.ipxe" || !ev.MAC.IsZero() || ev.Generation != 1 {
		t.Errorf("%+v", ev)
	}
}

func TestPhone(t *testing.T) {
	b := newBench(t)
	b.clients[loopbackAddr] = provider.Client{MAC: mac02, Host: ws02}
	b.run()
	d := loopback(t, site())
	b.prepare(d).Commit()
	resp, err := http.Post("http://"+d.Servers[0].HTTP.Listen.String()+"/phone/userland", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	ev := b.sink.wait(t, func(provider.Event) bool { return true })
	if ev.Kind != provider.EventPhone || ev.Name != "userland" || ev.MAC != mac02 || ev.Host != ws02 || ev.Generation != 1 || ev.Addr != loopbackAddr {
		t.Errorf("%+v", ev)
	}
}

// A machine in the middle of a boot finishes on the tree it was offered; the tree
// goes when no machine needs its generation.
func TestGenerations(t *testing.T) {
	b := newBench(t)
	b.run()
	d := loopback(t, site())
	s := d.Servers[0]
	b.art.Kernel = b.put(strings.Repeat("kernel ", 2<<20)) // more than sockets hold
	b.prepare(d).Commit()
	old := b.Answer(provider.Query{MAC: mac02, Class: classIPXE})
	oldKernel := old[1]
	sockets := listening(t, s)

	b.art = b.artifact("two")
	b.prepare(d).Commit()
	fresh := b.Answer(provider.Query{MAC: mac02, Class: classIPXE})
	if fresh[1].Name == oldKernel.Name || fresh[1].Digest == oldKernel.Digest {
		t.Fatal("a new image gives the same tree")
	}
	if d := cmp.Diff(old, b.Answer(provider.Query{Generation: 1, MAC: mac02, Class: classIPXE})); d != "" {
		t.Errorf("the answers of generation 1 changed: %s", d)
	}
	if d := cmp.Diff(sockets, listening(t, s)); d != "" {
		t.Errorf("sockets changed: %s", d)
	}
	for _, a := range []provider.Answer{oldKernel, fresh[1]} {
		if code, body := get(t, s, a.Name); code != 200 || digest([]byte(body)) != a.Digest {
			t.Errorf("%s: status %d", a.Name, code)
		}
	}

	// A transfer that is under way when its tree goes.
	conn, err := net.Dial("tcp", s.HTTP.Listen.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	fmt.Fprintf(conn, "GET /%s HTTP/1.0\r\n\r\n", oldKernel.Name)
	begin := make([]byte, 100)
	if _, err := io.ReadFull(conn, begin); err != nil {
		t.Fatal(err)
	}
	if err := b.Retire(t.Context(), provider.Live{Generations: map[uint64]bool{1: true}}); err != nil {
		t.Fatal(err)
	}
	if code, _ := get(t, s, oldKernel.Name); code != 200 {
		t.Errorf("status %d while a machine is pinned to generation 1", code)
	}
	for range 2 { // idempotent
		if err := b.Retire(t.Context(), provider.Live{}); err != nil {
			t.Fatal(err)
		}
	}
	if code, _ := get(t, s, oldKernel.Name); code != 404 {
		t.Errorf("status %d after generation 1 was retired", code)
	}
	if a := b.Answer(provider.Query{Generation: 1, MAC: mac02}); a != nil {
		t.Errorf("answers of a retired generation: %+v", a)
	}
	rest, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(append(begin, rest...), []byte("\r\n\r\n"))
	if digest(body) != oldKernel.Digest {
		t.Error("a transfer under way was not finished with the old bytes")
	}
	// What did not change is served from both; here, the loaders.
	if n := len(b.pub.Load().ByGen); n != 1 {
		t.Errorf("%d tables", n)
	}
}

// A generation prepared for pinned machines is not current, but at its address.
func TestRetained(t *testing.T) {
	b := newBench(t)
	b.run()
	first := loopback(t, site())
	b.prepare(first).Commit()
	other := loopback(t, site())
	other.Hosts[0].Args = []string{"retained"}
	in := b.input(other)
	in.Retained, in.Offline = true, true
	b.prepareInput(in).Commit()
	if b.pub.Load().Current != 1 {
		t.Error("a retained generation became current")
	}
	a := b.Answer(provider.Query{Generation: 2, Host: ws01, Class: classIPXE})
	if code, _ := get(t, first.Servers[0], a[0].Name); code != 200 {
		t.Errorf("status %d for the tree of a retained generation", code)
	}
	end := time.Now().Add(10 * time.Second)
	for n := 0; n < 2; { // bound by Run's goroutines
		n = 0
		b.tftp.Each(func(k netip.AddrPort, _ *net.UDPConn) {
			if k == other.Servers[0].TFTP.Listen {
				n++
			}
		})
		b.http.Each(func(k netip.AddrPort, _ *net.TCPListener) {
			if k == other.Servers[0].HTTP.Listen {
				n++
			}
		})
		if time.Now().After(end) {
			t.Fatal("the listeners of a retained generation are never bound")
		}
	}
	if code, _ := get(t, other.Servers[0], a[0].Name); code != 200 {
		t.Errorf("status %d at the address of the retained generation", code)
	}
	b.Retire(t.Context(), provider.Live{})
	if c, err := net.Dial("tcp", other.Servers[0].HTTP.Listen.String()); err == nil {
		c.Close()
		t.Error("the listener is open after its generation was retired")
	}
}

func TestListenersMove(t *testing.T) {
	b := newBench(t)
	b.run()
	first, second := loopback(t, site()), loopback(t, site())
	b.prepare(first).Commit()
	name := b.Answer(provider.Query{Host: ws01, Class: classIPXE})[0].Name
	get(t, first.Servers[0], name)
	b.prepare(second).Commit()
	name2 := b.Answer(provider.Query{Host: ws01, Class: classIPXE})[0].Name
	for _, d := range []*schema.Desired{first, second} {
		for _, n := range []string{name, name2} {
			if code, _ := get(t, d.Servers[0], n); code != 200 {
				t.Errorf("%s at %s: status %d", n, d.Servers[0].HTTP.Listen, code)
			}
		}
	}
	b.Retire(t.Context(), provider.Live{})
	if c, err := net.Dial("tcp", first.Servers[0].HTTP.Listen.String()); err == nil {
		c.Close()
		t.Error("the old socket is open after its generation was retired")
	}
}

func TestAbortAndFailure(t *testing.T) {
	b := newBench(t)
	b.run()
	d := loopback(t, site())
	b.prepare(d).Commit()
	open := b.blobs.Open()

	moved := loopback(t, site())
	b.art = b.artifact("two")
	x := b.prepare(moved)
	if b.blobs.Open() == open {
		t.Error("Prepare opened nothing")
	}
	x.Abort()
	x.Abort()
	x.Commit() // of no effect any more
	if n := b.blobs.Open(); n != open || b.pub.Load().Current != 1 {
		t.Errorf("%d blobs open after the abort, %d before; current %d", n, open, b.pub.Load().Current)
	}
	if c, err := net.Dial("tcp", moved.Servers[0].HTTP.Listen.String()); err == nil {
		c.Close()
		t.Error("an aborted generation left a socket")
	}

	// A port in use is told with the block that wants it, and leaves nothing.
	l, err := net.Listen("tcp4", moved.Servers[0].HTTP.Listen.String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = b.Prepare(t.Context(), b.input(moved))
	if err == nil || !strings.Contains(err.Error(), "server.main (site.hcl:1,1)") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("port in use: %v", err)
	}
	if n := b.blobs.Open(); n != open {
		t.Errorf("%d blobs open after a failed Prepare, %d before", n, open)
	}
	u, err := net.ListenPacket("udp4", moved.Servers[0].TFTP.Listen.String())
	if err != nil {
		t.Errorf("the TFTP socket of a failed Prepare: %v", err)
	} else {
		u.Close()
	}

	// So is an artifact that is not in the store.
	if err := b.content.Remove(b.art.Kernel.Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Prepare(t.Context(), b.input(site())); err == nil || !strings.Contains(err.Error(), b.art.Kernel.Digest[7:]) {
		t.Errorf("missing kernel: %v", err)
	}
	if code, _ := get(t, d.Servers[0], b.Answer(provider.Query{Host: ws01, Class: classIPXE})[0].Name); code != 200 {
		t.Errorf("status %d after failures", code)
	}
}

func TestAnswersWithoutALoader(t *testing.T) {
	b := newBench(t)
	d := site()
	d.Subnets[0].BootFileName = map[uint16]string{9: "mine.efi"}
	d.Subnets[0].Attrs["boot_file_name"] = at(44)
	tab := b.compiled(d)
	for name, tc := range map[string]struct {
		q    provider.Query
		want string // of the loader's Fail
		at   schema.Range
	}{
		"ARM":           {provider.Query{Arch: 11}, "client architecture 11 (UEFI ARM, 64 bits) cannot run the kernel of image.arch, which is for amd64", at(30)},
		"32-bit HTTP":   {provider.Query{Arch: 15, Vendor: "HTTPClient"}, "bootloader.ipxe.menu has no program for client architecture 15 (UEFI x86, 32 bits, HTTP) by HTTP boot", at(30)},
		"BIOS":          {provider.Query{Arch: 0}, "", at(30)},
		"UEFI HTTP":     {provider.Query{Arch: 16, Vendor: "HTTPClient"}, "", at(30)},
		"named by hand": {provider.Query{Arch: 9}, "the file is not served here", at(44)},
	} {
		a := tab.answer(tc.q)[0]
		if a.Kind != provider.AnswerLoader || a.Fail != tc.want || a.Range != tc.at {
			t.Errorf("%s: %+v", name, a)
		}
	}
	os.Remove(filepath.Join(b.dir, undionly))
	if a := b.compiled(site()).answer(provider.Query{})[0]; !strings.Contains(a.Fail, "undionly.kpxe was not found on this host; it is in the package ipxe") {
		t.Errorf("%+v", a)
	}
	if a := tab.answer(provider.Query{Subnet: addr("subnet", "", "elsewhere")}); a != nil {
		t.Errorf("%+v", a)
	}
}

func TestUpgradedLoaderPackage(t *testing.T) {
	b := newBench(t)
	b.run()
	d := loopback(t, site())
	b.prepare(d).Commit()
	before := b.Answer(provider.Query{Host: ws01})[0]
	if err := os.WriteFile(filepath.Join(b.dir, undionly), []byte("a newer one"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.prepare(d).Commit()
	after := b.Answer(provider.Query{Host: ws01})[0]
	if before.Name == after.Name || after.Size != int64(len("a newer one")) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	for _, a := range []provider.Answer{before, after} {
		if code, body := get(t, d.Servers[0], a.Name); code != 200 || digest([]byte(body)) != a.Digest {
			t.Errorf("%s: status %d", a.Name, code)
		}
	}
}

// listening gives the inodes of the server's sockets.
func listening(t *testing.T, s *schema.Server) map[string]string {
	t.Helper()
	found := map[string]string{}
	for file, port := range map[string]uint16{"tcp": s.HTTP.Listen.Port(), "udp": s.TFTP.Listen.Port()} {
		// Not /proc/net, which is of the first thread: a test may have left that in another
		// network namespace.
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 9 && f[1] == fmt.Sprintf("0100007F:%04X", port) && f[2] == "00000000:0000" {
				found[file] = f[9]
			}
		}
	}
	if len(found) != 2 {
		t.Fatalf("listening sockets: %v", found)
	}
	return found
}

func TestRunEndsWithItsContext(t *testing.T) {
	b := newBench(t)
	d := loopback(t, site())
	b.prepare(d).Commit() // before Run
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.Run(ctx); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", d.Servers[0].HTTP.Listen.String()); err == nil {
		c.Close()
		t.Error("a socket is open after Run")
	}
}
