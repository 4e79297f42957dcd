package dhcp_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/schema"
)

// offline prepares and commits a generation without sockets.
func (d *daemon) offline(gen uint64, want *schema.Desired, out map[schema.Addr]provider.Output) {
	d.t.Helper()
	in := input(gen, want, out)
	in.Retained = true
	x, err := d.Prepare(d.t.Context(), in)
	if err != nil {
		d.t.Fatal(err)
	}
	x.Commit()
}

// onLoopback binds where no privilege is needed and nobody else is.
func onLoopback(t *testing.T, want *schema.Desired) *schema.Desired {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	want.Servers[0].Interface = ""
	want.Servers[0].DHCP.Listen = c.LocalAddr().(*net.UDPAddr).AddrPort()
	return want
}

func fields(t *testing.T, as []provider.Answer) provider.Answer {
	t.Helper()
	if len(as) != 1 || as[0].Kind != provider.AnswerDHCP || as[0].Provider != "dhcp" {
		t.Fatalf("answers: %+v", as)
	}
	return as[0]
}

func TestAnswer(t *testing.T) {
	d := newDaemon(t, "")
	if got := d.Answer(provider.Query{MAC: mac1}); got != nil {
		t.Errorf("nothing is published, and yet: %+v", got)
	}
	d.offline(3, desired(), built())
	if got := d.Answer(provider.Query{MAC: mac1}); got != nil {
		t.Errorf("a retained generation is the current one: %+v", got)
	}
	a := fields(t, d.Answer(provider.Query{Generation: 3, MAC: mac1, Arch: 7, Vendor: "PXEClient"}))
	want := provider.Answer{
		Kind: provider.AnswerDHCP, Provider: "dhcp", Protocol: "dhcp", Name: "b/own/snponly.efi", Server: "10.0.0.1:67",
		Range: schema.Range{File: "site.hcl", Line: 30, Column: 1},
		Fields: map[string]string{
			"yiaddr": "10.0.0.21", "siaddr": "10.0.0.1", "file": "b/own/snponly.efi", "sname": "",
			"option 1 subnet-mask": "255.255.255.0", "option 3 routers": "10.0.0.254", "option 6 domain-name-servers": "10.0.0.3",
			"option 12 host-name": "ws01", "option 15 domain-name": "example.net", "option 28 broadcast-address": "10.0.0.255",
			"option 51 lease-time": "600", "option 54 server-identifier": "10.0.0.1", "option 58 renewal-time": "300", "option 59 rebinding-time": "525",
			"option 66 tftp-server-name": "10.0.0.1", "option 67 boot-file-name": "b/own/snponly.efi", "option 175 ipxe": "b00101",
		},
	}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	byName := fields(t, d.Answer(provider.Query{Generation: 3, Host: ws01, Arch: 7, Vendor: "PXEClient"}))
	if diff := cmp.Diff(a, byName); diff != "" {
		t.Errorf("asked for by name: %s", diff)
	}
	if got := d.Answer(provider.Query{Generation: 4, MAC: mac1}); got != nil {
		t.Errorf("unknown generation: %+v", got)
	}
}

func TestAnswerBootFile(t *testing.T) {
	own := func(w *schema.Desired) { w.Hosts[0].Boot = []schema.Addr{special} }
	byHand := func(w *schema.Desired) { w.Subnets[0].BootFileName = map[uint16]string{7: "mine.efi"} }
	for name, c := range map[string]struct {
		change     func(*schema.Desired)
		q          provider.Query
		file, fail string
	}{
		"host":                          {nil, provider.Query{MAC: mac1, Vendor: "PXEClient"}, "b/own/undionly.kpxe", ""},
		"no host block":                 {nil, provider.Query{MAC: mac2, Vendor: "PXEClient"}, "b/any/undionly.kpxe", ""},
		"nobody in particular":          {nil, provider.Query{Vendor: "PXEClient"}, "b/any/undionly.kpxe", ""},
		"iPXE":                          {nil, provider.Query{MAC: mac1, Vendor: "PXEClient", Class: "iPXE"}, "http://10.0.0.1/b/own/boot.ipxe", ""},
		"HTTP boot":                     {nil, provider.Query{MAC: mac1, Vendor: "HTTPClient", Arch: 16}, "http://10.0.0.1/b/own/snponly.efi", ""},
		"a running system":              {nil, provider.Query{MAC: mac1}, "", ""},
		"ARM":                           {nil, provider.Query{MAC: mac1, Vendor: "PXEClient", Arch: 11}, "", "no boot file for client architecture 11 (UEFI ARM, 64 bits; TFTP)"},
		"boot_file_name beats boot":     {byHand, provider.Query{MAC: mac1, Vendor: "PXEClient", Arch: 7}, "mine.efi", ""},
		"the host's own loader":         {own, provider.Query{MAC: mac1, Vendor: "PXEClient", Arch: 7}, "b/special/snponly.efi", ""},
		"beats the subnet's file names": {func(w *schema.Desired) { own(w); byHand(w) }, provider.Query{MAC: mac1, Vendor: "PXEClient", Arch: 7}, "b/special/snponly.efi", ""},
		"a tree is missing":             {func(w *schema.Desired) { w.Subnets[0].Boot = []schema.Addr{special} }, provider.Query{MAC: mac2, Vendor: "PXEClient"}, "", "bootloader.ipxe.special has no boot tree for machines without a host block on subnet.lan"},
		"addresses only":                {func(w *schema.Desired) { w.Subnets[0].Boot = nil }, provider.Query{MAC: mac1, Vendor: "PXEClient"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDaemon(t, "")
			w, out := desired(), built()
			out[special] = provider.Output{Trees: map[provider.TreeKey]*provider.Tree{{Host: ws01, Subnet: lan}: tree("special")}}
			if c.change != nil {
				c.change(w)
			}
			d.offline(1, w, out)
			c.q.Generation = 1
			a := fields(t, d.Answer(c.q))
			if a.Name != c.file || a.Fields["file"] != c.file || a.Fail != c.fail {
				t.Errorf("file %q, fail %q; want %q, %q", a.Name, a.Fail, c.file, c.fail)
			}
		})
	}
}

func TestAnswerSubnets(t *testing.T) {
	d := newDaemon(t, "")
	w := desired()
	far := *w.Subnets[0]
	far.Meta = meta(schema.Addr{Kind: "subnet", Name: "far"}, 50)
	far.CIDR, far.Pools = netip.MustParsePrefix("10.9.0.0/24"), []schema.Pool{{From: ip("10.9.0.10"), To: ip("10.9.0.10")}}
	w.Subnets = append(w.Subnets, &far)
	d.offline(1, w, built())
	ask := func(q provider.Query) provider.Answer { q.Generation = 1; return fields(t, d.Answer(q)) }
	if a := ask(provider.Query{MAC: mac2}); a.Fail == "" {
		t.Errorf("two subnets, and it chose %+v", a)
	}
	if a := ask(provider.Query{MAC: mac1}); a.Fields["yiaddr"] != "10.0.0.21" {
		t.Errorf("by reservation: %+v", a)
	}
	if a := ask(provider.Query{MAC: provider.MAC{1, 0, 0x5e, 0, 0, 1}, Subnet: lan}); a.Fail == "" || a.Fields != nil {
		t.Errorf("a group of machines: %+v", a)
	}
	if a := ask(provider.Query{MAC: mac1, Subnet: far.Addr, Vendor: "PXEClient"}); a.Fields["yiaddr"] != "10.9.0.10" || a.Fields["option 12 host-name"] != "ws01" || a.Name != "b/own/undionly.kpxe" {
		t.Errorf("a host away from home: %+v", a)
	}
	if a := ask(provider.Query{MAC: mac2, Address: ip("10.9.0.77")}); a.Fields["yiaddr"] != "10.9.0.77" || a.Fields["option 28 broadcast-address"] != "10.9.0.255" {
		t.Errorf("by address: %+v", a)
	}
	if a := ask(provider.Query{MAC: mac2, Subnet: schema.Addr{Kind: "subnet", Name: "gone"}}); a.Fail == "" {
		t.Errorf("a subnet that is not there: %+v", a)
	}
	// Where DHCP is switched off there is nothing to say, and nothing fails.
	quiet := far
	quiet.Meta, quiet.CIDR = meta(schema.Addr{Kind: "subnet", Name: "quiet"}, 60), netip.MustParsePrefix("10.8.0.0/24")
	off := *w.Servers[0]
	off.Meta, off.Address, off.DHCP.Disabled = meta(schema.Addr{Kind: "server", Name: "off"}, 70), ip("10.8.0.1"), true
	quiet.Server = off.Addr
	w.Servers, w.Subnets = append(w.Servers, &off), append(w.Subnets, &quiet)
	d.offline(1, w, built())
	for _, q := range []provider.Query{{MAC: mac2, Subnet: quiet.Addr}, {MAC: mac2, Address: ip("10.8.0.77")}} {
		q.Generation = 1
		if got := d.Answer(q); got != nil {
			t.Errorf("DHCP is off there: %+v", got)
		}
	}
	d.nodes.lives[ip("10.9.0.10")] = mac1
	if a := ask(provider.Query{MAC: mac2, Subnet: far.Addr}); a.Fail != "subnet.far: no free address" {
		t.Errorf("the only address is held: %+v", a)
	}
}

// The pool of desired is .250 to .255: .254 is the router, .255 the broadcast.
func TestNeverGivenAway(t *testing.T) {
	d := newDaemon(t, "")
	w := desired()
	w.Subnets[0].NTPServers = []netip.Addr{ip("10.0.0.250")}
	w.Hosts[0].Address = ip("10.0.0.251")
	w.Servers[0].Address, w.Subnets[0].DomainNameServers = ip("10.0.0.252"), []netip.Addr{ip("10.0.0.252")}
	d.nodes.lives[ip("10.0.0.253")] = mac1
	d.offline(1, w, built())
	if a := fields(t, d.Answer(provider.Query{Generation: 1, MAC: mac2})); a.Fail == "" {
		t.Errorf("gave %s", a.Fields["yiaddr"])
	}
	delete(d.nodes.lives, ip("10.0.0.253"))
	if a := fields(t, d.Answer(provider.Query{Generation: 1, MAC: mac2})); a.Fields["yiaddr"] != "10.0.0.253" {
		t.Errorf("%+v", a)
	}
}

func TestSwitchedOff(t *testing.T) {
	d := newDaemon(t, "")
	w := desired()
	w.Servers[0].DHCP.Disabled = true
	x, err := d.Prepare(t.Context(), input(1, w, built()))
	if err != nil {
		t.Fatal(err)
	}
	x.Commit()
	if got := d.Answer(provider.Query{MAC: mac1}); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestLookupAndObserve(t *testing.T) {
	d := newDaemon(t, "")
	store, err := lease.Open(d.db, d.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	bind := func(m provider.MAC, a string) {
		w := lease.Want{MAC: lease.MAC(m), Network: "subnet.lan", Reserved: ip(a)}
		if _, err := store.Bind(w, ip(a), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	bind(mac2, "10.0.0.21") // which is ws01's by now
	bind(mac1, "10.0.0.22")
	d2 := newDaemon(t, copyDB(t, d.db))
	d2.clock = d.clock
	x, err := d2.Prepare(t.Context(), input(1, onLoopback(t, desired()), built()))
	if err != nil {
		t.Fatal(err)
	}
	x.Commit()
	defer d2.Retire(t.Context(), provider.Live{})
	if err := stopped(d2); err != nil {
		t.Error(err)
	}

	check := func(when, a string, want provider.Client, ok bool) {
		t.Helper()
		got, found := d2.Lookup(ip(a))
		if diff := cmp.Diff(want, got); diff != "" || ok != found {
			t.Errorf("%s: %s: found %v\n%s", when, a, found, diff)
		}
	}
	known := provider.Client{MAC: mac1, Host: ws01, Subnet: lan}
	check("leased", "10.0.0.21", provider.Client{MAC: mac2, Subnet: lan}, true)
	check("leased", "10.0.0.22", known, true)
	check("leased", "::ffff:10.0.0.22", known, true)
	check("nobody", "10.0.0.30", provider.Client{}, false)
	obs, err := d2.Observe(t.Context())
	want := []plan.Observation{
		{Kind: plan.SawLease, MAC: mac2.String(), Address: "10.0.0.21", Subnet: lan},
		{Kind: plan.SawLease, MAC: mac1.String(), Host: ws01, Address: "10.0.0.22", Subnet: lan},
	}
	if diff := cmp.Diff(want, obs, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("observed (%v): %s", err, diff)
	}
}

func TestLookupAfterExpiry(t *testing.T) {
	d := newDaemon(t, "")
	store, err := lease.Open(d.db, func() time.Time { return d.clock.Now().Add(-time.Hour) })
	if err != nil {
		t.Fatal(err)
	}
	for m, a := range map[provider.MAC]string{mac2: "10.0.0.21", mac1: "10.0.0.22"} {
		if _, err := store.Bind(lease.Want{MAC: lease.MAC(m), Reserved: ip(a)}, ip(a), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	d = newDaemon(t, copyDB(t, d.db))
	x, err := d.Prepare(t.Context(), input(1, onLoopback(t, desired()), built()))
	if err != nil {
		t.Fatal(err)
	}
	x.Commit()
	if err := stopped(d); err != nil {
		t.Error(err)
	}
	if c, ok := d.Lookup(ip("10.0.0.21")); !ok || c.MAC != mac1 {
		t.Errorf("the reservation counts now: %+v", c)
	}
	if c, ok := d.Lookup(ip("10.0.0.22")); !ok || c.MAC != mac1 || c.Subnet != lan {
		t.Errorf("the last who had it: %+v", c)
	}
	if obs, _ := d.Observe(t.Context()); len(obs) != 0 {
		t.Errorf("observed %+v", obs)
	}
}

func TestPrepareDiagnostics(t *testing.T) {
	busy, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct {
		change  func(*schema.Server)
		summary string
		line    int
	}{
		"no such interface":      {func(s *schema.Server) { s.Interface = "nosuch0" }, "No such network interface", 2},
		"nobody has the address": {func(s *schema.Server) { s.Interface, s.Address = "", ip("192.0.2.1") }, "No network interface has this address", 3},
		"port in use": {func(s *schema.Server) {
			s.Interface = ""
			s.DHCP.Listen = busy.LocalAddr().(*net.UDPAddr).AddrPort()
		}, "Cannot listen for DHCP", 1},
	} {
		d := newDaemon(t, "")
		w := desired()
		c.change(w.Servers[0])
		x, err := d.Prepare(t.Context(), input(1, w, built()))
		var diags hcl.Diagnostics
		if x != nil || !errors.As(err, &diags) || len(diags) != 1 {
			t.Fatalf("%s: %v", name, err)
		}
		if g := diags[0]; g.Summary != c.summary || g.Subject.Filename != "site.hcl" || g.Subject.Start.Line != c.line || !strings.Contains(g.Detail, "server.main") {
			t.Errorf("%s: %s at %s: %s", name, g.Summary, g.Subject, g.Detail)
		}
	}
}

func TestAbortFreesTheSocket(t *testing.T) {
	d := newDaemon(t, "")
	w := onLoopback(t, desired())
	x, err := d.Prepare(t.Context(), input(1, w, built()))
	if err != nil {
		t.Fatal(err)
	}
	at := w.Servers[0].DHCP.Listen.String()
	if c, err := net.ListenPacket("udp4", at); err == nil {
		c.Close()
		t.Error("prepared, and the port is free")
	}
	if a := fields(t, x.Answer(provider.Query{MAC: mac1, Vendor: "PXEClient"})); a.Name != "b/own/undionly.kpxe" {
		t.Errorf("%+v", a)
	}
	x.Abort()
	x.Abort()
	x.Commit()
	if got := d.Answer(provider.Query{MAC: mac1}); got != nil {
		t.Errorf("aborted, and published: %+v", got)
	}
	c, err := net.ListenPacket("udp4", at)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestRetireKeepsWhatIsLive(t *testing.T) {
	d := newDaemon(t, "")
	d.offline(1, desired(), built("g1", "g1"))
	d.offline(2, desired(), built("g2", "g2"))
	x, err := d.Prepare(t.Context(), input(3, onLoopback(t, desired()), built("g3", "g3")))
	if err != nil {
		t.Fatal(err)
	}
	x.Commit()
	have := func() (gens []uint64) {
		for g := range uint64(5) {
			if d.Answer(provider.Query{Generation: g, MAC: mac1}) != nil {
				gens = append(gens, g)
			}
		}
		return gens
	}
	live := provider.Live{Generations: map[uint64]bool{1: true}}
	for range 2 {
		if err := d.Retire(t.Context(), live); err != nil {
			t.Fatal(err)
		}
		if got := have(); !slices.Equal(got, []uint64{0, 1, 3}) {
			t.Errorf("generations %v are there, 1 is live and 3 is current", got)
		}
	}
	d.Retire(t.Context(), provider.Live{})
	if got := have(); !slices.Equal(got, []uint64{0, 3}) {
		t.Errorf("generations %v", got)
	}
	if err := stopped(d); err != nil {
		t.Error(err)
	}
}

// stopped runs the provider with a context that is over, which closes its sockets.
func stopped(d *daemon) error {
	ctx, cancel := contextOver()
	defer cancel()
	if err := d.Run(ctx); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}
