package bootloader

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
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
// kernel and initrd and jumps into the kernel. The kernel is iPXE again, which
// runs its kernel line as a command: it complains about the line's first word that
// is not about the initrd.
func TestRealIPXERunsTheScript(t *testing.T) {
	providertest.Need(t, "qemu-system-x86_64")
	if _, err := os.Stat(ipxeKernel); err != nil {
		if os.Getenv(providertest.Full) != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for _, protocol := range []string{"http", "tftp"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			kernel, err := os.ReadFile(ipxeKernel)
			if err != nil {
				t.Fatal(err)
			}
			b.art.Kernel = b.put(string(kernel))
			b.run()
			d := loopback(t, site())
			d.Bootloaders[0].Timeout = 1
			d.Servers[0].HTTP.Disabled = protocol == "tftp"
			b.prepare(d).Commit()
			script := b.Answer(provider.Query{Host: ws01, Class: classIPXE})[0]
			console := boot(t, d.Servers[0], script)
			for _, name := range []string{"boot.ipxe", "arch/vmlinuz", "arch/initrd.img"} {
				ev := b.sink.wait(t, func(ev provider.Event) bool { return strings.HasSuffix(ev.Name, name) })
				if ev.Kind != provider.EventFile || ev.Protocol != protocol {
					t.Errorf("%+v", ev)
				}
			}
			for _, want := range []string{"dlreconcile: Arch Linux", "root=/dev/nbd0: command not found"} {
				if !strings.Contains(console, want) {
					t.Errorf("the console does not show %q:\n%s", want, console)
				}
			}
		})
	}
}

// boot starts a machine whose firmware is iPXE, told to load the script, and
// gives what its console showed up to the second iPXE's complaint.
func boot(t *testing.T, s *schema.Server, script provider.Answer) string {
	t.Helper()
	const gateway = "10.0.2.2" // of QEMU's user network: this host's loopback
	file := fmt.Sprintf("http://%s:%d/%s", gateway, s.HTTP.Listen.Port(), script.Name)
	if script.Protocol == "tftp" {
		file = fmt.Sprintf("tftp://%s:%d/%s", gateway, s.TFTP.Listen.Port(), script.Name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a loaded machine without KVM
	defer cancel()
	console := &watched{until: []byte("command not found"), seen: cancel}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-M", "pc,graphics=off", "-m", "128",
		"-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none", "-kernel", ipxeKernel,
		"-netdev", "user,id=n0,ipv6=off,bootfile="+file, "-device", "virtio-net-pci,netdev=n0,romfile=")
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
