package bootloader

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// ipxeKernel is iPXE in the form of a Linux kernel.
const ipxeKernel = "/usr/lib/ipxe/ipxe.lkrn"

// A real iPXE runs the script: it shows the menu, takes the default, fetches
// kernel and initrds and jumps into the kernel. The kernel is iPXE again, which
// runs its kernel line as a command, without the first initrd=: it complains about
// the word after that.
func TestRealIPXERunsTheScript(t *testing.T) {
	needIPXE(t)
	for _, protocol := range []string{"http", "tftp"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			kernel, err := os.ReadFile(ipxeKernel)
			if err != nil {
				t.Fatal(err)
			}
			b.art.Kernel, b.art.Settles = b.put(string(kernel)), true
			b.run()
			d := loopback(t, site())
			d.Hosts[0].Hostname = "ws01"
			d.Bootloaders[0].Timeout = 1
			d.Servers[0].HTTP.Disabled = protocol == "tftp"
			b.prepare(d).Commit()
			script := b.Answer(provider.Query{Host: ws01, Class: classIPXE})[0]
			console := boot(t, d.Servers[0], script, "command not found")
			for _, name := range []string{"boot.ipxe", "arch/vmlinuz", "arch/initrd.img", "arch/machine.img"} {
				ev := b.sink.wait(t, func(ev provider.Event) bool { return strings.HasSuffix(ev.Name, name) })
				if ev.Kind != provider.EventFile || ev.Protocol != protocol {
					t.Errorf("%+v", ev)
				}
			}
			for _, want := range []string{"dlreconcile: Arch Linux", "initrd=machine.img: command not found"} {
				if !strings.Contains(console, want) {
					t.Errorf("the console does not show %q:\n%s", want, console)
				}
			}
		})
	}
}

func needIPXE(t *testing.T) {
	t.Helper()
	providertest.Need(t, "qemu-system-x86_64")
	providertest.NeedFile(t, ipxeKernel, "ipxe")
}

// bootSector prints a message on the first serial port, and stops.
func bootSector(message string) []byte {
	p := []byte{
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xbe, 0x16, 0x7c, // mov si, the message
		0x31, 0xc0, 0x8e, 0xd8, // ds = 0
		0xfc,       // cld
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz stop
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp next
		0xf4,       // stop: hlt
		0xeb, 0xfd, // jmp stop
	}
	p = append(p, message...)
	p = append(p, make([]byte, 510-len(p))...)
	return append(p, 0x55, 0xaa)
}

// A real iPXE that was sent here by a DHCP server which tells everybody the same
// program gets the script under that name, over both protocols. When nothing comes of
// it, it boots the machine's own disk.
func TestRealIPXEFallsBackToTheDisk(t *testing.T) {
	needIPXE(t)
	for _, protocol := range []string{"http", "tftp"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.art.Kernel = b.put("#!ipxe\nexit 1\n") // no kernel, and iPXE knows it
			b.run()
			d := loopback(t, site())
			d.Servers[0].HTTP.Disabled = protocol == "tftp"
			d.Subnets[0].CIDR, d.Servers[0].DHCP.Disabled = netip.MustParsePrefix("127.0.0.0/8"), true
			// Its address, which all such machines have, says nothing about it.
			d.Hosts[0].MAC = "52:54:00:12:34:56"
			d.Hosts[0].Args = []string{"own"}
			d.Bootloaders[0].Fallback = schema.FallbackLocalDisk
			// The guest knows this host by another address than ours.
			d.Servers[0].Address = netip.MustParseAddr(gateway)
			b.prepare(d).Commit()
			disk := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(disk, append(bootSector("the disk was booted"), make([]byte, 1<<20-512)...), 0o600); err != nil {
				t.Fatal(err)
			}
			console := boot(t, d.Servers[0], provider.Answer{Protocol: protocol, Name: undionly}, "the disk was booted", "-drive", "format=raw,file="+disk)
			if n := strings.Count(console, "this did not work, trying again"); n != attempts-1 {
				t.Errorf("%d attempts:\n%s", n+1, console)
			}
			if !strings.Contains(console, "the disk was booted") {
				t.Errorf("the console shows:\n%s", console)
			}
			ev := b.sink.wait(t, func(ev provider.Event) bool { return ev.Name == undionly })
			if ev.Kind != provider.EventFile || ev.Role != provider.AnswerScript || ev.Protocol != protocol {
				t.Errorf("%+v", ev)
			}
			own := offerOf(t, b.pub.Load().ByGen[1], ws01).tree
			b.sink.wait(t, func(ev provider.Event) bool { return ev.Name == "boot.ipxe-01-52-54-00-12-34-56" && ev.Tree == own.id })
			b.sink.wait(t, func(ev provider.Event) bool { return ev.Name == own.path(scriptName) })
		})
	}
}

// gateway is QEMU's user network's: this host's loopback.
const gateway = "10.0.2.2"

// boot starts a machine whose firmware is iPXE, told to load the script, and
// gives what its console showed up to a text.
func boot(t *testing.T, s *schema.Server, script provider.Answer, until string, more ...string) string {
	t.Helper()
	file := fmt.Sprintf("http://%s:%d/%s", gateway, s.HTTP.Listen.Port(), script.Name)
	if script.Protocol == "tftp" {
		file = fmt.Sprintf("tftp://%s:%d/%s", gateway, s.TFTP.Listen.Port(), script.Name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a loaded machine without KVM
	defer cancel()
	console := &watched{until: []byte(until), seen: cancel}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{"-accel", "tcg", "-M", "pc,graphics=off", "-m", "128",
		"-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none", "-kernel", ipxeKernel,
		"-netdev", "user,id=n0,ipv6=off,bootfile=" + file, "-device", "virtio-net-pci,netdev=n0,romfile="}, more...)...)
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		t.Errorf("qemu: %v", err)
	}
	return console.String()
}

// watched keeps what is written to it, and calls seen when a text appears.
type watched struct {
	until []byte
	seen  func()

	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if bytes.Contains(w.buf.Bytes(), w.until) {
		w.seen()
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
