package dhcp_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
	"github.com/dlreconcile/dlreconcile/schema"
)

// segment is a server of ours at 10.0.0.1 and dnsmasq at 10.0.0.2, which gives out
// 10.0.0.100 to 10.0.0.150.
type segment struct {
	*daemon
	net                   *faultnet.Net
	server, other, client *faultnet.Space
	dhcp                  *lines // what dnsmasq says
}

func newSegment(t *testing.T, want *schema.Desired, args ...string) *segment {
	t.Helper()
	n := faultnet.New(t)
	s := &segment{net: n, server: n.Space("server", "10.0.0.1/24"), other: n.Space("other", "10.0.0.2/24"), client: n.Space("client"), daemon: newDaemon(t, "")}
	s.dhcp = foreign(t, s.other, args...)
	s.run()
	s.commit(s.server, 1, want, built())
	return s
}

// discover broadcasts a DISCOVER and gives the offers, by server.
func (m *machine) discover(t *testing.T, want int, mods ...dhcpv4.Modifier) (offers map[string]*dhcpv4.DHCPv4, order []string) {
	t.Helper()
	p, err := dhcpv4.NewDiscovery(m.mac[:], mods...)
	if err != nil {
		t.Fatal(err)
	}
	offers = map[string]*dhcpv4.DHCPv4{}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m.SendAndRead(ctx, nclient4.DefaultServers, p, func(o *dhcpv4.DHCPv4) bool {
		from := o.ServerIdentifier().String()
		offers[from] = o
		order = append(order, from)
		return len(offers) == want
	})
	return offers, order
}

// The whole of a firmware's exchange beside another server, whoever of the two
// answers first: what explain says is on the wire, on both ports; the address is the
// other server's, and is known.
func TestProxyBesideAnotherServer(t *testing.T) {
	for name, slow := range map[string]func(*segment) *faultnet.Space{
		"we answer first": func(s *segment) *faultnet.Space { return s.other },
		"we answer last":  func(s *segment) *faultnet.Space { return s.server },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSegment(t, proxying())
			slow(s).Impair(faultnet.Fault{Delay: 150 * time.Millisecond})
			s.nodes.pin(mac1, 1)
			m := newMachine(t, s.client, mac1)
			q := provider.Query{MAC: mac1, Vendor: "PXEClient", Arch: 7}
			explained := fields(t, s.Answer(q))

			offers, order := m.discover(t, 2, firmware(q))
			ours, theirs := offers["10.0.0.1"], offers["10.0.0.2"]
			if ours == nil || theirs == nil {
				t.Fatalf("offers: %v", offers)
			}
			if first := order[0] == "10.0.0.1"; first != (slow(s) == s.other) {
				t.Errorf("order of offers: %v", order)
			}
			if diff := cmp.Diff(explained.Fields, dhcp4.Fields(ours)); diff != "" || ours.BootFileName != explained.Name {
				t.Errorf("-explained +offered\n%s", diff)
			}
			l, err := m.RequestFromOffer(t.Context(), theirs, firmware(q))
			if err != nil || l.ACK.ServerIdentifier().String() != "10.0.0.2" {
				t.Fatalf("the other server's lease: %v, %v", l, err)
			}
			configure(s.client, l)
			a := ip(l.ACK.YourIPAddr.String())
			ack := late(t, s.client, a, 4011, dhcpv4.MessageTypeRequest, mac1, firmware(q))
			if diff := cmp.Diff(explained.Fields, dhcp4.Fields(ack)); diff != "" || ack.MessageType() != dhcpv4.MessageTypeAck || !ack.YourIPAddr.IsUnspecified() {
				t.Errorf("%s: -explained +acknowledged\n%s", ack.Summary(), diff)
			}

			ev := func(k provider.EventKind, a netip.Addr, file string) provider.Event {
				return provider.Event{Kind: k, At: s.clock.Now(), MAC: mac1, Addr: a, Host: ws01, Subnet: lan, Generation: 1, Protocol: "dhcp", Name: file, Vendor: "PXEClient", Arch: 7, HasArch: true}
			}
			want := []provider.Event{
				ev(provider.EventDiscover, netip.Addr{}, ""), ev(provider.EventOffer, netip.Addr{}, "b/own/snponly.efi"),
				ev(provider.EventTaken, a, ""), ev(provider.EventAck, a, "b/own/snponly.efi"),
			}
			s.nodes.mu.Lock()
			defer s.nodes.mu.Unlock()
			if diff := cmp.Diff(want, s.nodes.events, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("events: -want +got\n%s", diff)
			}
			// The first packet opens a session, the others continue it.
			var opens []bool
			for _, b := range s.nodes.boots {
				opens = append(opens, b.Discover)
			}
			if !slices.Equal(opens, []bool{true, false, false}) {
				t.Errorf("contacts that look for servers: %v", opens)
			}
		})
	}
}

// late asks on port 4011 from an address, and gives the answer.
func late(t *testing.T, at *faultnet.Space, a netip.Addr, port uint16, kind dhcpv4.MessageType, mac provider.MAC, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	var conn net.PacketConn
	if err := at.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", netip.AddrPortFrom(a, port).String())
		return
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p, err := dhcpv4.New(append(mods, dhcpv4.WithHwAddr(mac[:]), dhcpv4.WithClientIP(a.AsSlice()), dhcpv4.WithMessageType(kind))...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteTo(p.ToBytes(), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.1:4011"))); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 1500)
	n, src, err := conn.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := dhcpv4.FromBytes(b[:n])
	if err != nil || src.String() != "10.0.0.1:4011" || got.TransactionID != p.TransactionID {
		t.Fatalf("%v from %s: %v", got, src, err)
	}
	return got
}

// Every client of a boot, on both ports, from port 68 as iPXE asks.
func TestProxyExplainIsTheWire(t *testing.T) {
	s := newSegment(t, proxying())
	s.client.Run("ip", "addr", "add", "10.0.0.77/24", "dev", faultnet.Interface)
	for _, mac := range []provider.MAC{mac1, mac2} {
		m := newMachine(t, s.client, mac)
		for _, q := range []provider.Query{
			{Vendor: "PXEClient"}, {Vendor: "PXEClient", Arch: 7}, {Vendor: "HTTPClient", Arch: 16},
			{Vendor: "PXEClient", Class: "iPXE"}, {Vendor: "PXEClient", Arch: 7, Class: "iPXE"},
		} {
			q.MAC = mac
			explained := fields(t, s.Answer(q))
			offers, _ := m.discover(t, 2, firmware(q))
			if offers["10.0.0.1"] == nil || offers["10.0.0.2"] == nil {
				t.Fatalf("%+v: offers %v", q, offers)
			}
			ack := late(t, s.client, ip("10.0.0.77"), 68, dhcpv4.MessageTypeInform, mac, firmware(q))
			for _, p := range []*dhcpv4.DHCPv4{offers["10.0.0.1"], ack} {
				if diff := cmp.Diff(explained.Fields, dhcp4.Fields(p)); diff != "" {
					t.Errorf("%+v: %s: -explained +sent\n%s", q, p.MessageType(), diff)
				}
			}
		}
	}
}

// What a machine is told on port 4011 is of the generation that its first packet
// opened a session on, whatever it asks there and whoever gives out addresses since.
func TestProxyAnswersAreOfTheSession(t *testing.T) {
	s := newSegment(t, proxying())
	server := desired() // as the subnet was before that
	s.commit(s.server, 2, server, built("two", "two"))
	s.commit(s.server, 3, proxying(), built("three", "three"))
	s.client.Run("ip", "addr", "add", "10.0.0.77/24", "dev", faultnet.Interface)
	q := firmware(provider.Query{Vendor: "PXEClient", Arch: 7})
	for gen, dir := range map[uint64]string{1: "own", 2: "two", 3: "three"} {
		s.nodes.pin(mac1, gen)
		offers, _ := newMachine(t, s.client, mac1).discover(t, 2, q)
		o := offers["10.0.0.1"]
		if o == nil || !o.YourIPAddr.IsUnspecified() {
			t.Fatalf("session on generation %d: %v", gen, o)
		}
		answers := []*dhcpv4.DHCPv4{o}
		for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform, dhcpv4.MessageTypeDiscover} {
			answers = append(answers, late(t, s.client, ip("10.0.0.77"), 4011, kind, mac1, q))
		}
		for _, a := range answers {
			if want := "b/" + dir + "/snponly.efi"; a.BootFileName != want {
				t.Errorf("session on generation %d, %s: %s, want %s", gen, a.MessageType(), a.BootFileName, want)
			}
		}
	}
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	opens := 0
	for _, b := range s.nodes.boots {
		if b.Discover {
			opens++
		}
	}
	if opens != 3 || len(s.nodes.boots) != 12 {
		t.Errorf("%d of %d contacts may open a session, want 3 of 12", opens, len(s.nodes.boots))
	}
}

// said counts the DHCP packets of our server that a machine hears.
func said(t *testing.T, at *faultnet.Space) func() int {
	t.Helper()
	var wire *packet.Conn
	if err := at.Do(func() error {
		ifi, err := net.InterfaceByName(faultnet.Interface)
		if err == nil {
			wire, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, nil)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wire.Close() })
	return func() (count int) {
		b := make([]byte, 2048)
		for {
			wire.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // what was sent has come by then
			n, _, err := wire.ReadFrom(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return count
			}
			if err == nil && n > 28 && b[9] == 17 && [4]byte(b[12:16]) == [4]byte{10, 0, 0, 1} && b[20] == 0 && b[21] == 67 {
				count++
			}
		}
	}
}

// Systems that do not boot get their addresses as if we were not there, and it is
// known who got which.
func TestProxyLeavesSystemsAlone(t *testing.T) {
	for name, c := range map[string]struct{ program, args string }{
		"udhcpc":   {"udhcpc", "-f -q -n -i eth0 -s /bin/true"},
		"dhclient": {"dhclient", "-1 -v -sf /bin/true -cf /dev/null -lf DIR/leases -pf DIR/pid eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			providertest.Need(t, c.program)
			s := newSegment(t, proxying())
			count := said(t, s.client)
			args := strings.Fields(strings.ReplaceAll(c.args, "DIR", t.TempDir()))
			out := s.client.Run(c.program, args...)
			if c.program == "dhclient" { // leaves a daemon behind
				t.Cleanup(func() {
					s.client.Command(context.Background(), c.program, append([]string{"-x"}, args...)...).Run()
				})
			}
			if n := count(); n != 0 {
				t.Errorf("we said something %d times", n)
			}
			if !strings.Contains(out, "10.0.0.1") || strings.Contains(out, "10.0.0.1 ") {
				t.Errorf("no address of the other server's pool:\n%s", out)
			}
			s.nodes.mu.Lock()
			defer s.nodes.mu.Unlock()
			if len(s.nodes.events) != 1 || s.nodes.events[0].Kind != provider.EventTaken || !strings.Contains(out, s.nodes.events[0].Addr.String()) || s.nodes.events[0].MAC != provider.MAC(s.client.MAC) {
				t.Errorf("events %+v\n%s", s.nodes.events, out)
			}
			if obs, err := s.Observe(t.Context()); len(obs) != 0 || err != nil {
				t.Errorf("leases of ours: %+v, %v", obs, err)
			}
		})
	}
}

// Two servers that both give out addresses, and both are sure of themselves: each
// machine takes the offer that comes first, and the other server lets it be.
func TestBesideAnotherAuthority(t *testing.T) {
	for name, c := range map[string]struct {
		slow func(*segment) *faultnet.Space
		wins string
	}{
		"we answer first": {func(s *segment) *faultnet.Space { return s.other }, "10.0.0.1"},
		"we answer last":  {func(s *segment) *faultnet.Space { return s.server }, "10.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSegment(t, desired())
			c.slow(s).Impair(faultnet.Fault{Delay: 150 * time.Millisecond})
			m := newMachine(t, s.client, mac2)
			q := firmware(provider.Query{Vendor: "PXEClient", Arch: 7})
			offers, order := m.discover(t, 2, q)
			if len(order) != 2 || order[0] != c.wins {
				t.Fatalf("order of offers: %v", order)
			}
			l, err := m.RequestFromOffer(t.Context(), offers[c.wins], q)
			if err != nil || l.ACK.ServerIdentifier().String() != c.wins {
				t.Fatalf("%v, %v", l, err)
			}
			s.nodes.mu.Lock()
			defer s.nodes.mu.Unlock()
			for _, e := range s.nodes.events {
				if e.Kind == provider.EventNak || e.Kind == provider.EventTaken || e.Kind == provider.EventAck && c.wins != "10.0.0.1" {
					t.Errorf("%+v", e)
				}
			}
		})
	}
}

// The socket of port 4011 is there as long as a subnet declares it, and no longer.
func TestLateSocket(t *testing.T) {
	n := faultnet.New(t)
	server := n.Space("server", "10.0.0.1/24")
	d := newDaemon(t, "")
	d.run()
	bound := func() int { return strings.Count(strings.Join(ports(t, server), " "), ":0FAB") }
	for i, c := range []struct {
		want *schema.Desired
		n    int
	}{{desired(), 0}, {proxying(), 1}, {proxying(), 1}, {desired(), 0}} {
		d.commit(server, uint64(i+1), c.want, built())
		d.Retire(t.Context(), provider.Live{})
		if got := bound(); got != c.n {
			t.Errorf("generation %d: %d sockets of port 4011, want %d", i+1, got, c.n)
		}
	}
	var busy net.PacketConn
	if err := server.Do(func() (err error) { busy, err = net.ListenPacket("udp4", "0.0.0.0:4011"); return }); err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	err := server.Do(func() error {
		_, err := d.Prepare(context.Background(), input(9, proxying(), built()))
		return err
	})
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) || len(diags) != 1 {
		t.Fatal(err)
	}
	if g := diags[0]; g.Summary != "Cannot listen for proxyDHCP" || g.Subject.Start.Line != 13 || !strings.Contains(g.Detail, "subnet.lan") || !strings.Contains(g.Detail, "address already in use") {
		t.Errorf("%s at %s: %s", g.Summary, g.Subject, g.Detail)
	}
}

// The lines in docs/operations.md for a server that names boot files itself: the
// aliases that our boot loaders answer to.
func TestDocumentedLinesForDnsmasq(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "For dnsmasq,")
	_, rest, _ = strings.Cut(rest, "```conf\n")
	conf, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/operations.md has no lines for dnsmasq")
	}
	n := faultnet.New(t)
	other, client := n.Space("other", "10.0.0.2/24"), n.Space("client")
	foreign(t, other, strings.Fields("--"+strings.ReplaceAll(strings.TrimSpace(conf), "\n", "\n--"))...)
	m := newMachine(t, client, mac1)
	for _, c := range []struct {
		q    provider.Query
		file string
	}{
		{provider.Query{Vendor: "PXEClient"}, "undionly.kpxe"},
		{provider.Query{Vendor: "PXEClient", Arch: 7}, "snponly.efi"},
		{provider.Query{Vendor: "PXEClient", Arch: 9}, "snponly.efi"},
		{provider.Query{Vendor: "PXEClient", Class: "iPXE"}, "boot.ipxe"},
		{provider.Query{Vendor: "PXEClient", Arch: 7, Class: "iPXE"}, "boot.ipxe"},
	} {
		offers, _ := m.discover(t, 1, firmware(c.q))
		o := offers["10.0.0.2"]
		if o == nil || strings.TrimRight(o.BootFileNameOption(), "\x00") != c.file && o.BootFileName != c.file || o.ServerIPAddr.String() != "10.0.0.1" {
			t.Errorf("%+v: %v", c.q, o)
		}
	}
}
