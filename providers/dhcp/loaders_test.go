package dhcp

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/schema"
)

// site is a server with some subnets, and some hosts at home on them in turn, each with
// an address of its own. All of a subnet share a tree.
func site(hosts, subnets int) provider.Input {
	meta := func(kind string, i int) schema.Meta {
		return schema.Meta{Addr: schema.Addr{Kind: kind, Name: fmt.Sprintf("x%05d", i)}}
	}
	menu := schema.Addr{Kind: "bootloader", Type: "ipxe", Name: "menu"}
	trees := map[provider.TreeKey]*provider.Tree{}
	want := &schema.Desired{Servers: []*schema.Server{{Meta: meta("server", 0), Address: netip.MustParseAddr("10.0.0.1")}}}
	for i := range subnets {
		s := &schema.Subnet{Meta: meta("subnet", i), Server: want.Servers[0].Addr, CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16), Boot: []schema.Addr{menu}}
		want.Subnets = append(want.Subnets, s)
		trees[provider.TreeKey{Subnet: s.Addr}] = &provider.Tree{Targets: []provider.Target{
			{Arch: 0, File: fmt.Sprintf("b/%d/undionly.kpxe", i)}, {Arch: 7, File: fmt.Sprintf("b/%d/snponly.efi", i)},
			{Arch: provider.AnyArch, Class: "iPXE", File: fmt.Sprintf("http://10.0.0.1/b/%d/boot.ipxe", i)},
		}}
	}
	for i := range hosts {
		s := want.Subnets[i%subnets]
		h := &schema.Host{
			Meta: meta("host", i), MAC: provider.MAC{0x52, 0x54, 0, byte(i >> 16), byte(i >> 8), byte(i)}.String(),
			Subnet: s.Addr, Address: netip.AddrFrom4([4]byte{10, byte(i % subnets), byte(i>>8) + 1, byte(i)}),
		}
		want.Hosts = append(want.Hosts, h)
		trees[provider.TreeKey{Subnet: s.Addr, Host: h.Addr}] = trees[provider.TreeKey{Subnet: s.Addr}]
	}
	return provider.Input{Generation: 1, Want: want, Built: map[schema.Addr]provider.Output{menu: {Trees: trees}}}
}

// Every subnet kept every host, with a copy of what it boots: hosts times subnets.
func TestHostsAreKeptWhereTheyAreAtHome(t *testing.T) {
	const hosts, subnets = 400, 20
	in := site(hosts, subnets)
	table, err := compile(in, map[schema.Addr]place{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, s := range table.subnets {
		kept += len(s.wire.Hosts)
	}
	if kept != hosts {
		t.Errorf("%d hosts are kept, want %d", kept, hosts)
	}
	home, away := table.subnets[3].wire, table.subnets[4].wire
	m := lease.MAC{0x52, 0x54, 0, 0, 0, 3}
	want := &dhcp4.Host{Name: "host.x00003", Address: netip.MustParseAddr("10.3.1.3"), Boot: home.Boot}
	same := cmp.Options{
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".ArchName" }, cmp.Ignore()),
	}
	if d := cmp.Diff(want, home.Host(m), same); d != "" {
		t.Errorf("at home (-want +got):\n%s", d)
	}
	want.Address = netip.Addr{}
	if d := cmp.Diff(want, away.Host(m), same); d != "" {
		t.Errorf("away from home (-want +got):\n%s", d)
	}
	if &home.Host(m).Boot.Targets[0] != &home.Boot.Targets[0] {
		t.Error("what a tree offers is copied for each machine")
	}
	if h := away.Host(lease.MAC{1: 1}); h != nil {
		t.Errorf("a machine that nobody knows is %+v", h)
	}
}

// Two boot loaders, whose targets are shared: neither sees the other's.
func TestSharedTargetsStayAsTheyAre(t *testing.T) {
	in := site(1, 1)
	s := in.Want.Subnets[0]
	second := schema.Addr{Kind: "bootloader", Type: "grub", Name: "second"}
	in.Built[second] = provider.Output{Trees: map[provider.TreeKey]*provider.Tree{{Subnet: s.Addr}: {Targets: []provider.Target{{Arch: 11, File: "core.efi"}}}}}
	s.Boot = append(s.Boot, second)
	l := newLoaders(in, nil)
	for range 2 {
		if b := l.of(s, nil); len(b.Targets) != 4 || b.Targets[3].File != "core.efi" || b.Missing != "" {
			t.Errorf("%+v", b)
		}
	}
	if n := len(l.tree(s.Boot[0], s, nil).Targets); n != 3 || len(l.targets[l.tree(s.Boot[0], s, nil)]) != 3 {
		t.Errorf("%d targets", n)
	}
}

// A tree for a subnet where addresses come from here was given to a host on one where
// they do not.
func TestAwayFromHomeInAnotherMode(t *testing.T) {
	for name, c := range map[string]struct {
		home, away schema.SubnetMode
		boots      bool
	}{
		"both ours":    {"", "", true},
		"both proxied": {schema.ModeProxy, schema.ModeProxy, true},
		"away proxied": {"", schema.ModeProxy, false},
		"home proxied": {schema.ModeProxy, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			in := site(2, 2)
			home, away, h := in.Want.Subnets[0], in.Want.Subnets[1], in.Want.Hosts[0]
			home.Mode, away.Mode = c.home, c.away
			got := newLoaders(in, nil).of(away, h)
			if c.boots && (got.Missing != "" || len(got.Targets) != 3) {
				t.Errorf("%+v, want what it boots at home", got)
			}
			if want := "bootloader.ipxe.menu has no boot tree for host.x00000 on subnet.x00001"; !c.boots && (got.Missing != want || len(got.Targets) != 0) {
				t.Errorf("%+v, want %q", got, want)
			}
		})
	}
}

// contacts counts what engine/node is told.
type contacts struct {
	provider.Sessions
	n int
}

func (c *contacts) Boot(provider.Contact) (provider.Session, error) {
	c.n++
	return provider.Session{}, nil
}

// A RELEASE on port 4011, and whatever else gets no answer there, opened a session, and
// had it written to disk.
func TestWhatIsAContact(t *testing.T) {
	for _, c := range []struct {
		kind     dhcpv4.MessageType
		own, far int
	}{
		{dhcpv4.MessageTypeDiscover, 1, 1}, {dhcpv4.MessageTypeRequest, 1, 1}, {dhcpv4.MessageTypeInform, 0, 1},
		{dhcpv4.MessageTypeRelease, 0, 0}, {dhcpv4.MessageTypeDecline, 0, 0}, {dhcpv4.MessageTypeNone, 0, 0},
	} {
		for _, late := range []bool{false, true} {
			seen, want := &contacts{}, c.own
			if late {
				want = c.far
			}
			p := &Provider{sessions: seen, log: slog.New(slog.DiscardHandler)}
			p.pub.Publish(1, &table{wire: &dhcp4.Table{}}, false)
			if _, err := p.tableFor(&dhcp4.Facts{Type: c.kind, Late: late}); err != nil {
				t.Fatal(err)
			}
			if seen.n != want {
				t.Errorf("%s, on port 4011 %v: %d contacts, want %d", c.kind, late, seen.n, want)
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	in := site(10_000, 40)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := compile(in, map[schema.Addr]place{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
