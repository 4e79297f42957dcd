package bootloader

import (
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/schema"
)

// talkingKernel is the smallest kernel for the 32-bit boot protocol of Linux (its
// documentation, x86/boot) that says what it was given: it writes its line, the byte 1,
// its initrds and the byte 2 to the first serial port, and resets the machine.
func talkingKernel() string {
	const setup = 1024 // bytes before the code: boot sector and setup_sects
	b := make([]byte, setup, setup+128)
	put := binary.LittleEndian
	b[0x1f1] = 1 // setup_sects
	put.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x202:], "HdrS")
	put.PutUint16(b[0x206:], 0x0206)     // protocol: cmdline_size is there
	b[0x211] = 1                         // loaded high
	put.PutUint32(b[0x214:], 0x100000)   // code32_start
	put.PutUint32(b[0x22c:], 0x37ffffff) // initrd_addr_max
	put.PutUint32(b[0x238:], 2047)       // cmdline_size
	return string(append(b,
		0x8b, 0xbe, 0x28, 0x02, 0, 0, //   mov edi, [esi+0x228]  the line
		0x8a, 0x1f, //                   l: mov bl, [edi]
		0x84, 0xdb, //                     test bl, bl
		0x74, 0x08, //                     jz i
		0xe8, 0x2e, 0, 0, 0, //            call p
		0x47,       //                     inc edi
		0xeb, 0xf2, //                     jmp l
		0xb3, 0x01, //                   i: mov bl, 1
		0xe8, 0x24, 0, 0, 0, //            call p
		0x8b, 0xbe, 0x18, 0x02, 0, 0, //   mov edi, [esi+0x218]  the initrds
		0x8b, 0x8e, 0x1c, 0x02, 0, 0, //   mov ecx, [esi+0x21c]  and their size
		0x85, 0xc9, //                   r: test ecx, ecx
		0x74, 0x0b, //                     jz e
		0x8a, 0x1f, //                     mov bl, [edi]
		0xe8, 0x0d, 0, 0, 0, //            call p
		0x47,       //                     inc edi
		0x49,       //                     dec ecx
		0xeb, 0xf1, //                     jmp r
		0xb3, 0x02, //                   e: mov bl, 2
		0xe8, 0x02, 0, 0, 0, //            call p
		0xeb, 0x11, //                     jmp z
		0x66, 0xba, 0xfd, 0x03, //       p: mov dx, 0x3fd
		0xec,       //                   w: in al, dx
		0xa8, 0x20, //                     test al, 0x20
		0x74, 0xfb, //                     jz w
		0x88, 0xd8, //                     mov al, bl
		0x66, 0xba, 0xf8, 0x03, //         mov dx, 0x3f8
		0xee,       //                     out dx, al
		0xc3,       //                     ret
		0xb0, 0xfe, //                   z: mov al, 0xfe
		0xe6, 0x64, //                     out 0x64, al
		0xf4,       //                     hlt
		0xeb, 0xf9, //                     jmp z
	))
}

// A real GRUB, made here, runs the configuration: it finds it by the name of the
// machine, shows the menu, takes the default, and hands over the kernel line to the
// letter and the initrds in order. QEMU's own TFTP server sends the files of the tree.
func TestRealGRUBRunsTheConfiguration(t *testing.T) {
	t.Parallel()
	providertest.Need(t, "qemu-system-x86_64")
	needGRUB(t)
	b := newBench(t)
	d := b.grubSite()
	b.art.Loaders, b.loaders.made = nil, map[string]provider.Blob{}
	b.art.Kernel, b.art.Initrd, b.art.Settles = b.put(talkingKernel()), b.put("<the image's initrd>"), true
	d.Bootloaders[0].Timeout, d.Bootloaders[0].Serial = 1, "0,115200"
	d.Servers[0].Address = netip.MustParseAddr("10.0.2.2") // of QEMU's user network
	d.Hosts[0].Files = []*schema.HostFile{{Range: at(70), Path: "/etc/motd", Content: "hello"}}
	d.Hosts[0].Args = []string{`"key=two words"`, "two words", "$HOME", "{", "}", ";", ";;", "a|b", "a||b", "&", "<x>", "(y)", "[z]", "a*b", "?", "!", "~", "^", "`x`",
		"a#b", "%41", "--", "@,+:=", "ü€", "if", "-x"}
	o := b.compiled(d).offers[provider.TreeKey{Subnet: lan, Host: ws01}][0]
	mac := provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	dir := t.TempDir()
	for _, f := range o.tree.files {
		content := b.bytesOf(t, f)
		if f.name == grubConfig {
			f.name = grubOwn + dashed(mac)
		}
		path := filepath.Join(dir, o.tree.path(f.name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	line, initrds := o.family.line(o, o.choices[0], mac), ""
	for _, name := range o.choices[0].initrds {
		if initrds += b.bytesOf(t, *o.tree.file(name)); len(initrds)%4 != 0 {
			t.Fatalf("%s has no multiple of 4 bytes", name)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // a loaded machine without KVM
	defer cancel()
	console := &watched{until: []byte("\x02"), seen: func() {}}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-M", "pc,graphics=off", "-m", "128",
		"-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none",
		"-netdev", "user,id=n0,ipv6=off,tftp="+dir+",bootfile="+o.tree.path("core.0"), "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01,bootindex=1")
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Run(); err != nil {
		t.Errorf("qemu: %v", err)
	}
	said := console.String()
	for _, want := range []string{"Rescue", "dlreconcile: Arch Linux", line + "\x01", initrds + "\x02"} {
		if !strings.Contains(said, want) {
			t.Errorf("the console does not show %q:\n%q", want, said)
		}
	}
}

// bytesOf gives those of a file of a tree.
func (b *bench) bytesOf(t *testing.T, f file) string {
	t.Helper()
	if f.inMemory() {
		return f.bytes()
	}
	r, err := b.content.Open(provider.Blob{Digest: f.digest, Size: f.size})
	if err != nil {
		t.Fatalf("%s: %v", f.name, err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
