package explain

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func kinds(r Result) string {
	var list []string
	for _, a := range r.Steps {
		s := string(a.Kind)
		if a.Name != "" && a.Kind != provider.AnswerDHCP {
			s += ":" + a.Name[strings.LastIndexByte(a.Name, '/')+1:]
		}
		list = append(list, s)
	}
	return strings.Join(list, " ")
}

func TestWalk(t *testing.T) {
	const (
		rest = "kernel:vmlinuz initrd:initrd.img initrd:machine.img dhcp root:arch@77aabbccddee"
		ipxe = "script:boot.ipxe " + rest
		grub = "script:grub.cfg-01-52-54-00-00-00-01 script:command.lst script:fs.lst script:grub.cfg " + rest
	)
	for _, tc := range []struct {
		name  string
		arch  uint16
		class string
		steps string
		asked []string
	}{
		{"BIOS", 0, "", "dhcp loader:undionly.kpxe dhcp " + ipxe, []string{"BIOS/PXEClient/", "BIOS/PXEClient/iPXE", "BIOS//"}},
		{"UEFI", 7, "", "dhcp loader:snponly.efi dhcp " + ipxe, []string{"UEFI x86-64/PXEClient/", "UEFI x86-64/PXEClient/iPXE", "BIOS//"}},
		{"UEFI that says 9", 9, "", "dhcp loader:snponly.efi dhcp " + ipxe, []string{"UEFI byte code, said by x86-64/PXEClient/", "UEFI x86-64/PXEClient/iPXE", "BIOS//"}},
		{"UEFI HTTP", 16, "", "dhcp loader:ipxe.efi dhcp " + ipxe, []string{"UEFI x86-64, HTTP/HTTPClient/", "UEFI x86-64/PXEClient/iPXE", "BIOS//"}},
		{"iPXE ROM", 7, "iPXE", "dhcp " + ipxe, []string{"UEFI x86-64/PXEClient/iPXE", "BIOS//"}},
		{"GRUB reads on by itself", 6, "", "dhcp loader:core-i386-efi.efi " + grub, []string{"UEFI x86, 32 bits/PXEClient/", "BIOS//"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake()
			r := Walk(f.ask, provider.Query{MAC: mac, Host: ws01, Subnet: lan, Arch: tc.arch, Class: tc.class})
			if len(r.Fails) > 0 {
				t.Errorf("fails: %q", r.Fails)
			}
			if got := kinds(r); got != tc.steps {
				t.Errorf("steps\n got %s\nwant %s", got, tc.steps)
			}
			if d := cmp.Diff(tc.asked, f.asked); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
			if r.KernelLine != line || r.Machine != "host.ws01" || r.Subnet != lan || r.Vendor != strings.Split(f.asked[0], "/")[1] {
				t.Errorf("machine %q on %s, vendor %q, kernel line %q", r.Machine, r.Subnet, r.Vendor, r.KernelLine)
			}
			if f.root != "arch@77aabbccddee" {
				t.Errorf("the initramfs asks for the root %q", f.root)
			}
			if tc.arch == 16 && r.Steps[1].Protocol != "http" {
				t.Errorf("the loader comes over %s, want http", r.Steps[1].Protocol)
			}
		})
	}
}

// A machine whose ROM is iPXE runs another boot loader that it is told, as any
// firmware does. Only the same again is a loop.
func TestWalkAnotherLoaderInsideIPXE(t *testing.T) {
	f := newFake()
	f.change = func(q *provider.Query, list []provider.Answer) []provider.Answer {
		if q.Class == "iPXE" {
			return newFake().ask(provider.Query{Vendor: "PXEClient", Arch: 6})
		}
		return list
	}
	r := Walk(f.ask, provider.Query{MAC: mac, Class: "iPXE"})
	if len(r.Fails) > 0 || !strings.HasPrefix(kinds(r), "dhcp loader:core-i386-efi.efi script") || r.KernelLine != line {
		t.Errorf("fails %q, steps %s", r.Fails, kinds(r))
	}
}

// Behind a DHCP server that is not ours, nobody asks ours.
func TestWalkForeign(t *testing.T) {
	f := newFake()
	f.silent = true
	q := provider.Query{MAC: provider.AddressMAC(netip.MustParseAddr("10.0.0.77")), Subnet: lan, Address: netip.MustParseAddr("10.0.0.77"), File: "grub/core.0"}
	r := Walk(f.ask, q, "menu/boot.ipxe")
	if got := kinds(r); got != "loader:core.0 script:boot.ipxe kernel:vmlinuz initrd:initrd.img initrd:machine.img root:arch@77aabbccddee" || len(r.Fails) > 0 {
		t.Errorf("fails %q, steps %s", r.Fails, got)
	}
	if r.Machine != "10.0.0.77" {
		t.Errorf("it is called %q", r.Machine)
	}
	// One that does not tell iPXE from firmware makes a loop.
	r = Walk(f.ask, q)
	if want := []string{`iPXE is told to load "grub/core.0", a loader, again and again; the other DHCP server must name a script to clients of the user class iPXE`}; cmp.Diff(want, r.Fails) != "" {
		t.Errorf("fails %q, want %q", r.Fails, want)
	}
	// What it has to name is what ours would.
	q.File = ""
	if d := cmp.Diff([]string{"b/tree1/undionly.kpxe", "http://10.0.0.1/b/tree1/boot.ipxe"}, Foreign(f.ask, q)); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	q.Arch = 6
	if d := cmp.Diff([]string{"b/tree1/core-i386-efi.efi"}, Foreign(f.ask, q)); d != "" {
		t.Errorf("files (-want +got):\n%s", d)
	}
	q.Arch = 11
	if got := Foreign(f.ask, q); len(got) > 0 {
		t.Errorf("files %q for a machine that nothing is for", got)
	}
}

// On a proxied subnet our answers give no address, and the initramfs may get none.
func TestWalkProxied(t *testing.T) {
	for _, silent := range []bool{false, true} {
		f := newFake()
		f.change = func(q *provider.Query, list []provider.Answer) []provider.Answer {
			list = with(provider.AnswerDHCP, func(_ provider.Query, a *provider.Answer) { delete(a.Fields, "yiaddr") })(q, list)
			if silent && q.Vendor == "" {
				return list[:len(list)-1]
			}
			return list
		}
		r := Walk(f.ask, provider.Query{MAC: mac, Subnet: lan, Arch: 7})
		if len(r.Fails) > 0 || r.KernelLine != line || r.Steps[len(r.Steps)-1].Kind != provider.AnswerRoot {
			t.Errorf("fails %q, steps %s", r.Fails, kinds(r))
		}
	}
}

// A boot program that lies on somebody else's server is not followed, and no failure.
func TestWalkForeignProgram(t *testing.T) {
	f := newFake()
	f.change = func(_ *provider.Query, list []provider.Answer) []provider.Answer {
		dhcp := list[len(list)-1]
		dhcp.Name = "pxelinux.0"
		return []provider.Answer{{Kind: provider.AnswerLoader, Provider: "bootloader", Protocol: "tftp", Name: "pxelinux.0"}, dhcp}
	}
	r := Walk(f.ask, provider.Query{MAC: mac})
	if len(r.Fails) > 0 || kinds(r) != "dhcp loader:pxelinux.0" {
		t.Errorf("fails %q, steps %s", r.Fails, kinds(r))
	}
	var b strings.Builder
	if err := r.Text(&b); err != nil || !strings.HasSuffix(b.String(), "\nWhat this program fetches is not known here.\n") {
		t.Errorf("%s%v", b.String(), err)
	}
}

func TestWalkFails(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*provider.Query, []provider.Answer) []provider.Answer
		arch   uint16
		want   string
	}{
		{"no DHCP", without(provider.AnswerDHCP), 0, "firmware (PXEClient) gets no DHCP answer"},
		{"no DHCP for the initramfs", func(q *provider.Query, list []provider.Answer) []provider.Answer {
			if q.Vendor == "" {
				return without(provider.AnswerDHCP)(q, list)
			}
			return list
		}, 0, "the operating system gets no DHCP answer"},
		{"no target", nil, 11, "firmware (PXEClient) is told no boot file: no program for that (site.hcl:20,1)"},
		{"no target, and nobody says why", with(provider.AnswerLoader, func(_ provider.Query, a *provider.Answer) { a.Fail = "" }), 11,
			"firmware (PXEClient) is told no boot file for client architecture 11 (UEFI ARM, 64 bits)"},
		{"DHCP says why", with(provider.AnswerDHCP, func(_ provider.Query, a *provider.Answer) { a.Name, a.Fail, a.Range = "", "no target", entryAt }), 0,
			"dhcp: no target (site.hcl:20,1)"},
		{"dangling file", without(provider.AnswerLoader), 0, `firmware (PXEClient) is told to load "b/tree1/undionly.kpxe", which nothing here serves`},
		{"broken loader", with(provider.AnswerLoader, func(_ provider.Query, a *provider.Answer) { a.Fail = "it is lost" }), 0, "loader b/tree1/undionly.kpxe: it is lost"},
		{"no kernel", without(provider.AnswerKernel), 0, "there is no kernel for it"},
		{"no initrd", without(provider.AnswerInitrd), 0, "there is no initrd for it"},
		{"no root", without(provider.AnswerRoot), 0, `the kernel line names the export "arch@77aabbccddee", which nothing here serves`},
		{"refused", with(provider.AnswerRoot, func(_ provider.Query, a *provider.Answer) { a.Fail, a.Range = "not allowed", entryAt }), 0,
			"root arch@77aabbccddee: not allowed (site.hcl:20,1)"},
		{"other root", with(provider.AnswerRoot, func(_ provider.Query, a *provider.Answer) { a.Name = "arch@000000000000" }), 0,
			`the kernel line names the export "arch@77aabbccddee", but its root is "arch@000000000000"`},
		{"other port", with(provider.AnswerRoot, func(_ provider.Query, a *provider.Answer) { a.Server = "10.0.0.1:10810" }), 0,
			"the kernel line looks for its root at 10.0.0.1:10809, but it is served at 10.0.0.1:10810"},
		{"no nbdroot", with(provider.AnswerKernel, func(_ provider.Query, a *provider.Answer) { a.Line = "quiet" }), 0,
			"the kernel line names no root: it has no nbdroot="},
		{"loop", with(provider.AnswerDHCP, func(q provider.Query, a *provider.Answer) {
			if q.Class != "" {
				a.Name = "b/tree1/undionly.kpxe"
			}
		}), 0, `iPXE is told to load "b/tree1/undionly.kpxe", a loader, again and again`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake()
			f.change = tc.change
			if tc.name == "loop" {
				loader := newFake().ask(provider.Query{Vendor: "PXEClient"})[1]
				f.change = func(q *provider.Query, list []provider.Answer) []provider.Answer {
					return append(tc.change(q, list), loader)
				}
			}
			r := Walk(f.ask, provider.Query{MAC: mac, Arch: tc.arch})
			if d := cmp.Diff([]string{tc.want}, r.Fails); d != "" {
				t.Errorf("fails (-want +got):\n%s", d)
			}
		})
	}
}

// A machine on a subnet that boots nothing gets its address, and that is all right.
func TestWalkAddressOnly(t *testing.T) {
	f := newFake()
	f.change = func(_ *provider.Query, list []provider.Answer) []provider.Answer {
		last := list[len(list)-1]
		last.Name = ""
		return []provider.Answer{last}
	}
	r := Walk(f.ask, provider.Query{MAC: mac})
	if kinds(r) != "dhcp" || len(r.Fails) != 0 || r.KernelLine != "" {
		t.Errorf("got %+v, want one DHCP answer and no failure", r)
	}
}

func TestResultSurvivesJSON(t *testing.T) {
	r := Walk(newFake().ask, provider.Query{MAC: mac, Host: ws01, Arch: 7})
	b, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, back); d != "" {
		t.Errorf("through JSON (-want +got):\n%s", d)
	}
	if !strings.Contains(string(b), `"fails": []`) {
		t.Error("fails is null")
	}
}

func TestText(t *testing.T) {
	f := newFake()
	f.change = with(provider.AnswerRoot, func(_ provider.Query, a *provider.Answer) { a.Fail = "not allowed\x1b[31m" })
	var b strings.Builder
	if err := Walk(f.ask, provider.Query{MAC: mac, Host: ws01}).Text(&b); err != nil {
		t.Fatal(err)
	}
	const dhcp = `      siaddr                       10.0.0.1
      yiaddr                       10.0.0.21
      option 6 domain name server  10.0.0.1
      option 51 lease time         600
`
	want := `host.ws01  52:54:00:00:00:01  client architecture 0 (BIOS), PXEClient

 1. dhcp    from 10.0.0.1:67, boot file b/tree1/undionly.kpxe     site.hcl:40,1
` + dhcp + `
 2. loader  b/tree1/undionly.kpxe, 70000 bytes, sha256:55aabbccddee…, tftp from 10.0.0.1:69

 3. dhcp    from 10.0.0.1:67, boot file http://10.0.0.1/b/tree1/boot.ipxe     site.hcl:40,1
` + dhcp + `
 4. script  b/tree1/boot.ipxe, 100 bytes, http from 10.0.0.1:80     site.hcl:20,1
      #!ipxe
      kernel arch/vmlinuz
      boot

 5. kernel  b/tree1/arch/vmlinuz, 9000000 bytes, sha256:11aabbccddee…, http     site.hcl:20,1
      ` + line + `

 6. initrd  b/tree1/arch/initrd.img, 12000000 bytes, http

 7. initrd  b/tree1/machine.img, 512 bytes, http

 8. dhcp    from 10.0.0.1:67, no boot file     site.hcl:40,1
` + dhcp + `
 9. root    arch@77aabbccddee, copy-on-write, 1073741824 bytes, sha256:77aabbccddee…, nbd from 10.0.0.1:10809
      FAILS: not allowed\x1b[31m

This would not work:
  root arch@77aabbccddee: not allowed\x1b[31m
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
	}
}

// What is asked for in vain, as it may be, takes one line.
func TestTextAbsent(t *testing.T) {
	var b strings.Builder
	r := Walk(newFake().ask, provider.Query{MAC: mac, Subnet: lan, Arch: 6, Class: ""})
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"52:54:00:00:00:01  on subnet.lan  client architecture 6 (UEFI x86, 32 bits), PXEClient\n",
		" 3. script  asked for, not there, not needed: b/tree1/grub.cfg-01-52-54-00-00-00-01, b/tree1/x86_64-efi/command.lst, fs.lst, tftp\n\n 4. script  b/tree1/grub.cfg, 80 bytes, tftp     site.hcl:20,1\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("text does not hold %q:\n%s", want, b.String())
		}
	}
}

func TestParseArch(t *testing.T) {
	for text, want := range map[string]uint16{"0": 0, "7": 7, "0x10": 16, "bios": 0, "uefi": 7, "UEFI": 7, "uefi-http": 16, "arm64": 11, "arm64-http": 19, "65535": 65535} {
		if got, err := ParseArch(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x86", "65536", "-1", "7 "} {
		if _, err := ParseArch(text); err == nil || !strings.Contains(err.Error(), "uefi-http") {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, a := range ArchNames() {
		if strings.HasSuffix(a.Name, "-http") != (Vendor(a.Arch) == "HTTPClient") {
			t.Errorf("%s is %d, %s", a.Name, a.Arch, Vendor(a.Arch))
		}
	}
}

func TestNBDRoot(t *testing.T) {
	for _, tc := range []struct {
		line, name, server string
		ok                 bool
	}{
		{line, "arch@77aabbccddee", "10.0.0.1:10809", true},
		{"nbdroot=10.0.0.1:6000,x,nbd0", "x", "10.0.0.1:6000", true},
		{"nbdroot=dhcp", "", "", false},
		{"nbdroot=,x,nbd0", "", "", false},
		{"root=/dev/sda", "", "", false},
	} {
		name, server, ok := nbdRoot(tc.line)
		if name != tc.name || server != tc.server || ok != tc.ok {
			t.Errorf("%q: %q %q %v, want %q %q %v", tc.line, name, server, ok, tc.name, tc.server, tc.ok)
		}
	}
}
