package explain

import (
	"encoding/json"
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
	const rest = "script:boot.ipxe kernel:vmlinuz initrd:initrd.img dhcp root:arch@77aabbccddee"
	for _, tc := range []struct {
		name  string
		arch  uint16
		class string
		steps string
		asked []string
	}{
		{"BIOS", 0, "", "dhcp loader:undionly.kpxe dhcp " + rest, []string{"BIOS/PXEClient/", "BIOS/PXEClient/iPXE", "BIOS//"}},
		{"UEFI", 7, "", "dhcp loader:snponly.efi dhcp " + rest, []string{"UEFI x86-64/PXEClient/", "UEFI x86-64/PXEClient/iPXE", "BIOS//"}},
		{"UEFI HTTP", 16, "", "dhcp loader:ipxe.efi dhcp " + rest, []string{"UEFI x86-64, HTTP/HTTPClient/", "UEFI x86-64/PXEClient/iPXE", "BIOS//"}},
		{"iPXE ROM", 7, "iPXE", "dhcp " + rest, []string{"UEFI x86-64/PXEClient/iPXE", "BIOS//"}},
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
			if r.KernelLine != line || r.Machine != "host.ws01" {
				t.Errorf("machine %q, kernel line %q", r.Machine, r.KernelLine)
			}
			if tc.arch == 16 && r.Steps[1].Protocol != "http" {
				t.Errorf("the loader comes over %s, want http", r.Steps[1].Protocol)
			}
		})
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
		{"no target", nil, 11, "firmware (PXEClient) is told no boot file for client architecture 11 (UEFI ARM, 64 bits)"},
		{"DHCP says why", with(provider.AnswerDHCP, func(_ provider.Query, a *provider.Answer) { a.Name, a.Fail, a.Range = "", "no target", entryAt }), 0,
			"dhcp: no target (site.hcl:20,1)"},
		{"dangling file", without(provider.AnswerLoader), 0, `firmware (PXEClient) is told to load "b/tree1/undionly.kpxe", which nothing here serves`},
		{"no kernel", without(provider.AnswerKernel), 0, "there is no kernel for it"},
		{"no root", without(provider.AnswerRoot), 0, "there is no export with its root"},
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
	want := `host.ws01  52:54:00:00:00:01  client architecture 0 (BIOS)

 1. dhcp    from 10.0.0.1:67, boot file b/tree1/undionly.kpxe     site.hcl:40,1
` + dhcp + `
 2. loader  b/tree1/undionly.kpxe, 70000 bytes, tftp

 3. dhcp    from 10.0.0.1:67, boot file http://10.0.0.1/b/tree1/boot.ipxe     site.hcl:40,1
` + dhcp + `
 4. script  b/tree1/boot.ipxe, 100 bytes, http     site.hcl:20,1
      #!ipxe
      kernel arch/vmlinuz
      boot

 5. kernel  b/tree1/arch/vmlinuz, 9000000 bytes, sha256:11aabbccddee…, http     site.hcl:20,1
      ` + line + `

 6. initrd  b/tree1/arch/initrd.img, 12000000 bytes, http

 7. dhcp    from 10.0.0.1:67, no boot file     site.hcl:40,1
` + dhcp + `
 8. root    arch@77aabbccddee, copy-on-write, 1073741824 bytes, sha256:77aabbccddee…, nbd from 10.0.0.1:10809
      FAILS: not allowed\x1b[31m

This would not work:
  root arch@77aabbccddee: not allowed\x1b[31m
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("text (-want +got):\n%s", d)
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
