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
	f := newFake()
	if diags := Check(f.ask, desired()); diags.HasErrors() {
		t.Errorf("diagnostics: %v", diags)
	}
	// One host and one stranger, as four clients each.
	if n := len(f.asked); n != 2*(3+3+2+2) {
		t.Errorf("asked %d times", n)
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
		}), []string{"host.ws01 would not boot", "every kind of client: root arch@77aabbccddee: not in allow"}, 40},
		{"stranger refused", with(provider.AnswerRoot, func(q provider.Query, a *provider.Answer) {
			if q.Host.IsZero() {
				a.Fail = "not in allow"
			}
		}), []string{"a machine without a host block on subnet.lan would not boot", "not in allow"}, 30},
		{"one architecture", with(provider.AnswerDHCP, func(q provider.Query, a *provider.Answer) {
			if q.Host == ws01 && q.Arch == 7 && q.Class == "" {
				a.Name = ""
			}
		}), []string{"host.ws01 would not boot", "UEFI x86-64 firmware: firmware (PXEClient) is told no boot file for client architecture 7"}, 40},
		{"both", without(provider.AnswerInitrd), []string{"host.ws01 would not boot", "there is no initrd for it", "The same holds for a machine without a host block on subnet.lan."}, 40},
		{"no tree", func(_ *provider.Query, list []provider.Answer) []provider.Answer {
			last := list[len(list)-1]
			last.Name = ""
			return []provider.Answer{last}
		}, []string{"host.ws01 would not boot", "every kind of client: it gets an address and no boot file"}, 40},
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

func TestCheckLeavesOutWhatDoesNotBootHere(t *testing.T) {
	nothing := func(provider.Query) []provider.Answer { return nil }
	off := desired(func(d *schema.Desired) { d.Servers[0].DHCP.Disabled = true })
	if diags := Check(nothing, off); diags.HasErrors() {
		t.Errorf("DHCP is off: %v", diags)
	}

	// Addresses only.
	f := newFake()
	f.change = func(_ *provider.Query, list []provider.Answer) []provider.Answer {
		last := list[len(list)-1]
		last.Name = ""
		return []provider.Answer{last}
	}
	plain := desired(func(d *schema.Desired) { d.Subnets[0].Boot = schema.Addr{} })
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

func TestCheckTellsMistakesOnce(t *testing.T) {
	var hosts []*schema.Host
	for i := range 500 {
		a := schema.Addr{Kind: "host", Name: "ws", Key: fmt.Sprintf("ws%03d", i)}
		hosts = append(hosts, &schema.Host{Meta: schema.Meta{Addr: a, Range: hostAt}, MAC: fmt.Sprintf("52:54:00:00:%02x:%02x", i>>8, i&255), Address: netip.MustParseAddr("10.0.0.21"), Subnet: lan})
	}
	d := desired(func(d *schema.Desired) { d.Hosts = hosts })
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
	hosts := map[string]bool{"02:00:00:00:00:00": true, "02:00:00:00:00:01": true}
	if got := stranger(hosts).String(); got != "02:00:00:00:00:02" {
		t.Errorf("got %s", got)
	}
}
