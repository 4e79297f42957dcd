package explain

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

func TestCheckPasses(t *testing.T) {
	if diags := Check(newFake().ask, desired()); diags.HasErrors() {
		t.Errorf("diagnostics: %v", diags)
	}
}

// Of machines that boot the same way, only the first is walked as every kind.
func TestCheckWalksLikeMachinesOnce(t *testing.T) {
	asked := func(n int) int {
		f := newFake()
		if diags := Check(f.ask, desired(func(d *schema.Desired) { d.Hosts = manyHosts(n) })); diags.HasErrors() {
			t.Fatal(diags)
		}
		return len(f.asked)
	}
	// Firmware of BIOS, of UEFI, and of UEFI by HTTP; their iPXE of both platforms;
	// and the initramfs.
	if one, more := asked(1), asked(11); more-one != 10*(3+2+1) {
		t.Errorf("asked %d times for one host, and %d more for ten more", one, more-one)
	}
}

// What nothing is for is no error while something else is: the rule that lets a site
// of BIOS machines be, and finds a boot loader without its programs.
func TestCheckWantsSomeFirmware(t *testing.T) {
	const nobody = "no kind of firmware is told a boot file; BIOS firmware: firmware (PXEClient) is told no boot file: no program for that (site.hcl:20,1)"
	for _, tc := range []struct {
		name   string
		kind   string
		loader map[uint16]string
		want   string
	}{
		{"GRUB for BIOS only", schema.GRUB, map[uint16]string{0: "b/tree1/core.0"}, ""},
		{"PXELINUX", schema.PXELINUX, map[uint16]string{0: "b/tree1/core.0"}, ""},
		{"PXELINUX is not there", schema.PXELINUX, map[uint16]string{}, nobody},
		{"UEFI by HTTP only", schema.IPXE, map[uint16]string{16: "http://10.0.0.1/b/tree1/ipxe.efi"}, ""},
		{"ARM only", schema.IPXE, map[uint16]string{11: "b/tree1/snp-arm64.efi"}, ""},
		{"only iPXE in the ROM", schema.IPXE, map[uint16]string{}, nobody},
		{"iPXE without its program for UEFI", schema.IPXE, map[uint16]string{0: "b/tree1/undionly.kpxe"}, "UEFI x86-64 firmware: firmware (PXEClient) is told no boot file: no program for that"},
		{"iPXE without its program for BIOS", schema.IPXE, map[uint16]string{7: "b/tree1/snponly.efi"}, "BIOS firmware: firmware (PXEClient) is told no boot file: no program for that"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake()
			f.loader = tc.loader
			loader := schema.Addr{Kind: "bootloader", Type: tc.kind, Name: "menu"}
			diags := Check(f.ask, desired(func(d *schema.Desired) {
				d.Bootloaders[0].Addr, d.Subnets[0].Boot = loader, []schema.Addr{loader}
			}))
			if tc.want == "" {
				if diags.HasErrors() {
					t.Error(diags)
				}
				return
			}
			if len(diags) != 1 || !strings.Contains(diags[0].Detail, tc.want) {
				t.Errorf("%v, want %q", diags, tc.want)
			}
		})
	}
}

func TestCheckFindsEveryMachine(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*provider.Query, []provider.Answer) []provider.Answer
		want   []string // summary, then what the detail must hold
		line   int
	}{
		{"host refused", with(provider.AnswerRoot, func(q provider.Query, a *provider.Answer) {
			if q.Host == ws01 {
				a.Fail = "not in allow"
			}
		}), []string{"host.ws01 would not boot", "root arch@77aabbccddee: not in allow"}, 40},
		{"stranger refused", with(provider.AnswerRoot, func(q provider.Query, a *provider.Answer) {
			if q.Host.IsZero() {
				a.Fail = "not in allow"
			}
		}), []string{"a machine without a host block on subnet.lan would not boot", "not in allow"}, 30},
		{"one architecture", with(provider.AnswerLoader, func(q provider.Query, a *provider.Answer) {
			if q.Host == ws01 && q.Arch == 7 && q.Class == "" {
				a.Fail = "its blob is lost"
			}
		}), []string{"host.ws01 would not boot", "UEFI x86-64 firmware: loader b/tree1/snponly.efi: its blob is lost"}, 40},
		{"its script", with(provider.AnswerDHCP, func(q provider.Query, a *provider.Answer) {
			if q.Host == ws01 && q.Class != "" && q.Arch == 0 {
				a.Name = ""
			}
		}), []string{"host.ws01 would not boot", "BIOS firmware, iPXE on BIOS: iPXE is told no boot file"}, 40},
		{"both", without(provider.AnswerInitrd), []string{"host.ws01 would not boot", "there is no initrd for it", "The same holds for a machine without a host block on subnet.lan."}, 40},
		{"no tree", func(_ *provider.Query, list []provider.Answer) []provider.Answer {
			last := list[len(list)-1]
			last.Name = ""
			return []provider.Answer{last}
		}, []string{"host.ws01 would not boot", "no kind of firmware is told a boot file; BIOS firmware: it gets an address and no boot file"}, 40},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake()
			f.change = tc.change
			diags := Check(f.ask, desired())
			if len(diags) != 1 {
				t.Fatalf("%d diagnostics, want 1: %v", len(diags), diags)
			}
			d := diags[0]
			if d.Summary != tc.want[0] {
				t.Errorf("summary %q, want %q", d.Summary, tc.want[0])
			}
			for _, w := range tc.want[1:] {
				if !strings.Contains(d.Detail, w) {
					t.Errorf("detail %q does not hold %q", d.Detail, w)
				}
			}
			if d.Subject == nil || d.Subject.Filename != "site.hcl" || d.Subject.Start.Line != tc.line {
				t.Errorf("range %v, want site.hcl line %d", d.Subject, tc.line)
			}
		})
	}
}

// Like machines are like for Check only as far as they answer alike.
func TestCheckFindsOneOfManyLikeMachines(t *testing.T) {
	for _, kind := range []provider.AnswerKind{provider.AnswerRoot, provider.AnswerKernel, provider.AnswerScript, provider.AnswerLoader} {
		f := newFake()
		f.change = with(kind, func(q provider.Query, a *provider.Answer) {
			if q.MAC[5] == 7 {
				a.Fail = "it is lost"
			}
		})
		diags := Check(f.ask, desired(func(d *schema.Desired) { d.Hosts = manyHosts(20) }))
		if len(diags) != 1 || diags[0].Summary != `host.ws["ws007"] would not boot` || !strings.Contains(diags[0].Detail, "it is lost") {
			t.Errorf("%s: %v", kind, diags)
		}
	}
}

func TestCheckBehindAnotherDHCPServer(t *testing.T) {
	site := func(change ...func(*schema.Desired)) *schema.Desired {
		d := desired(change...)
		d.Servers[0].DHCP.Disabled = true
		d.Subnets[0].Pools = nil
		return d
	}
	nothing := func(provider.Query) []provider.Answer { return nil }
	if diags := Check(nothing, site(func(d *schema.Desired) { d.Subnets[0].Boot = nil })); diags.HasErrors() {
		t.Errorf("nothing boots there: %v", diags)
	}
	f := newFake()
	f.silent = true
	if diags := Check(f.ask, site()); diags.HasErrors() {
		t.Errorf("diagnostics: %v", diags)
	}
	f.change = with(provider.AnswerKernel, func(_ provider.Query, a *provider.Answer) { a.Fail = "it is lost" })
	diags := Check(f.ask, site())
	if len(diags) != 1 || !strings.Contains(diags[0].Detail, "it is lost") || !strings.Contains(diags[0].Detail, "a machine without a host block on subnet.lan") {
		t.Errorf("diagnostics: %v", diags)
	}
	f = newFake()
	f.silent, f.loader = true, nil
	if diags := Check(f.ask, site()); len(diags) != 1 || !strings.Contains(diags[0].Detail, "no kind of firmware is told a boot file; BIOS firmware: no program for that (site.hcl:20,1)") {
		t.Errorf("diagnostics: %v", diags)
	}
}

// On a proxied subnet every machine may turn up, although it has no pool.
func TestCheckProxied(t *testing.T) {
	f := newFake()
	f.change = with(provider.AnswerDHCP, func(_ provider.Query, a *provider.Answer) { delete(a.Fields, "yiaddr") })
	d := desired(func(d *schema.Desired) {
		d.Subnets[0].Mode, d.Subnets[0].Pools = schema.ModeProxy, nil
		d.Hosts[0].Address, d.Hosts[0].Subnet = netip.Addr{}, schema.Addr{}
	})
	if diags := Check(f.ask, d); diags.HasErrors() {
		t.Errorf("diagnostics: %v", diags)
	}
	f.change = without(provider.AnswerKernel)
	if diags := Check(f.ask, d); len(diags) != 1 || !strings.Contains(diags[0].Detail, "a machine without a host block on subnet.lan") {
		t.Errorf("diagnostics: %v", diags)
	}
}

func TestCheckLeavesOutWhatDoesNotBootHere(t *testing.T) {
	// Addresses only.
	f := newFake()
	f.change = func(_ *provider.Query, list []provider.Answer) []provider.Answer {
		last := list[len(list)-1]
		last.Name = ""
		return []provider.Answer{last}
	}
	plain := desired(func(d *schema.Desired) { d.Subnets[0].Boot = nil })
	if diags := Check(f.ask, plain); diags.HasErrors() {
		t.Errorf("a subnet without boot: %v", diags)
	}

	// Without a pool nobody but the hosts gets an address.
	f = newFake()
	f.change = func(q *provider.Query, list []provider.Answer) []provider.Answer {
		if q.Host.IsZero() {
			return nil
		}
		return list
	}
	closed := desired(func(d *schema.Desired) { d.Subnets[0].Pools = nil })
	if diags := Check(f.ask, closed); diags.HasErrors() {
		t.Errorf("a subnet without a pool: %v", diags)
	}
	if diags := Check(f.ask, desired()); !diags.HasErrors() {
		t.Error("a pool that serves nobody passes")
	}

	// A boot file written by hand is not ours to follow; the other kinds are.
	f = newFake()
	f.loader[0] = "pxelinux.0"
	f.change = func(_ *provider.Query, list []provider.Answer) []provider.Answer {
		if list[len(list)-1].Name == "pxelinux.0" {
			list[1].Fail = "the file is not served here"
		}
		return list
	}
	hand := desired(func(d *schema.Desired) { d.Subnets[0].BootFileName = map[uint16]string{0: "pxelinux.0"} })
	if diags := Check(f.ask, hand); diags.HasErrors() {
		t.Errorf("a boot file by hand: %v", diags)
	}
	if diags := Check(f.ask, desired()); !diags.HasErrors() {
		t.Error("a boot file that nobody wrote and nobody serves passes")
	}
}

func TestCheckHostWithoutAnAddress(t *testing.T) {
	d := desired(func(d *schema.Desired) {
		d.Hosts[0].Address, d.Hosts[0].Subnet = netip.Addr{}, schema.Addr{}
		d.Subnets[0].Pools = nil
	})
	diags := Check(newFake().ask, d)
	if len(diags) != 1 || !strings.Contains(diags[0].Detail, "no reservation, and there is no pool") {
		t.Errorf("diagnostics: %v", diags)
	}
}

func manyHosts(n int) []*schema.Host {
	var hosts []*schema.Host
	for i := range n {
		a := schema.Addr{Kind: "host", Name: "ws", Key: fmt.Sprintf("ws%03d", i)}
		hosts = append(hosts, &schema.Host{Meta: schema.Meta{Addr: a, Range: hostAt}, MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255), Address: netip.MustParseAddr("10.0.0.21"), Subnet: lan})
	}
	return hosts
}

func TestCheckTellsMistakesOnce(t *testing.T) {
	d := desired(func(d *schema.Desired) { d.Hosts = manyHosts(500) })
	f := newFake()
	f.change = without(provider.AnswerRoot)
	diags := Check(f.ask, d)
	if len(diags) != 1 || !strings.Contains(diags[0].Detail, "and 495 more.") {
		t.Errorf("%d diagnostics, the first: %v", len(diags), diags)
	}
	f.change = with(provider.AnswerRoot, func(q provider.Query, a *provider.Answer) { a.Fail = "no overlay for " + q.MAC.String() })
	diags = Check(f.ask, d)
	if len(diags) != maxDiagnostics || !strings.Contains(diags[maxDiagnostics-1].Detail, "451 more problems are not shown") {
		t.Errorf("%d diagnostics, the last: %v", len(diags), diags[len(diags)-1])
	}
}

func TestStrangerIsNoHost(t *testing.T) {
	hosts := map[provider.MAC]bool{{2}: true, {2, 0, 0, 0, 0, 1}: true}
	if got := stranger(hosts).String(); got != "02:00:00:00:00:02" {
		t.Errorf("got %s", got)
	}
}
