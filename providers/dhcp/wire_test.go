package dhcp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/mdlayher/packet"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
	"github.com/dlreconcile/dlreconcile/schema"
)

func contextOver() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

// copyDB copies a database that is not closed: what a kill leaves.
func copyDB(t *testing.T, db *bbolt.DB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy")
	src, err := os.Open(db.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		t.Fatal(err)
	}
	return path
}

// commit prepares in the server's namespace, and commits.
func (d *daemon) commit(at *faultnet.Space, gen uint64, want *schema.Desired, out map[schema.Addr]provider.Output) {
	d.t.Helper()
	err := at.Do(func() error {
		x, err := d.Prepare(context.Background(), input(gen, want, out))
		if err == nil {
			x.Commit()
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

// machine is a client with a hardware address of its choice.
type machine struct {
	*nclient4.Client
	mac  provider.MAC
	conn net.PacketConn
}

func newMachine(t *testing.T, at *faultnet.Space, mac provider.MAC) *machine {
	t.Helper()
	m := &machine{mac: mac}
	if err := at.Do(func() (err error) { m.conn, err = nclient4.NewRawUDPConn(faultnet.Interface, 68); return }); err != nil {
		t.Fatal(err)
	}
	var err error
	m.Client, err = nclient4.NewWithConn(m.conn, mac[:], nclient4.WithTimeout(time.Second), nclient4.WithRetry(4))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// configure gives a machine the address that it leased: renewals are answered to
// that.
func configure(at *faultnet.Space, l *nclient4.Lease) {
	at.Run("ip", "addr", "add", l.ACK.YourIPAddr.String()+"/24", "dev", faultnet.Interface)
}

// firmware is how the clients of a boot introduce themselves.
func firmware(q provider.Query) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		set := func(code uint8, v ...byte) { p.Options[code] = v }
		if q.Vendor != "" {
			set(60, []byte(q.Vendor+":Arch:00000:UNDI:003000")...)
			set(93, byte(q.Arch>>8), byte(q.Arch))
			set(97, append([]byte{0}, make([]byte, 16)...)...)
			set(57, 0x05, 0xc0)
		} else {
			delete(p.Options, 57)
		}
		if q.Class != "" {
			set(77, []byte(q.Class)...)
			set(61, append([]byte{1}, p.ClientHWAddr...)...)
			set(175, 0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0)
		}
		set(55, 1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175, 203)
	}
}

// What explain says is what is on the wire, for offer and acknowledgement of every
// client of a boot, asked before and after.
func TestExplainIsTheWire(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	d := newDaemon(t, "")
	d.run()
	// More than a client takes that says nothing: firmware has room for all of it.
	crowded := desired()
	for range 40 {
		crowded.Subnets[0].NTPServers = append(crowded.Subnets[0].NTPServers, ip("10.0.0.3"))
	}
	crowded.Subnets[0].DomainName = strings.Repeat("rack.", 40) + "example.net"
	for i, mac := range []provider.MAC{mac1, mac2, mac1} {
		switch i {
		case 0:
			d.commit(server, 1, desired(), built())
		case 2:
			d.commit(server, 2, crowded, built())
		}
		m := newMachine(t, client, mac)
		for _, q := range []provider.Query{
			{Vendor: "PXEClient"}, {Vendor: "PXEClient", Arch: 7}, {Vendor: "PXEClient", Arch: 11}, {Vendor: "HTTPClient", Arch: 16},
			{Vendor: "PXEClient", Class: "iPXE"}, {Vendor: "PXEClient", Arch: 7, Class: "iPXE"}, {},
		} {
			q.MAC = mac
			before := fields(t, d.Answer(q))
			if _, all := before.Fields["option 42 ntp-servers"]; all != (i == 2 && q.Vendor != "") {
				t.Errorf("%+v: explained %v", q, before.Fields)
			}
			l, err := m.Request(t.Context(), firmware(q))
			if err != nil {
				t.Fatalf("%+v: %v", q, err)
			}
			after := fields(t, d.Answer(q))
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("%+v: -before +after\n%s", q, diff)
			}
			for _, p := range []*dhcpv4.DHCPv4{l.Offer, l.ACK} {
				if diff := cmp.Diff(before.Fields, dhcp4.Fields(p)); diff != "" {
					t.Errorf("%+v: %s: -explained +sent\n%s", q, p.MessageType(), diff)
				}
				if p.BootFileName != before.Name {
					t.Errorf("%+v: file %q, explained %q", q, p.BootFileName, before.Name)
				}
			}
		}
	}
}

func TestEventsAndSessions(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	d := newDaemon(t, "")
	d.run()
	d.commit(server, 1, desired(), built("one", "one"))
	d.commit(server, 2, desired(), built("two", "two"))
	d.nodes.pin(mac1, 1)
	m := newMachine(t, client, mac1)
	ipxe := firmware(provider.Query{Vendor: "PXEClient", Class: "iPXE"})
	l, err := m.Request(t.Context(), ipxe)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.ACK.BootFileName; got != "http://10.0.0.1/b/one/boot.ipxe" {
		t.Errorf("pinned to generation 1, told %s", got)
	}
	file := "http://10.0.0.1/b/one/boot.ipxe"
	ev := func(k provider.EventKind, a netip.Addr, file string) provider.Event {
		return provider.Event{Kind: k, At: d.clock.Now(), MAC: mac1, Addr: a, Host: ws01, Subnet: lan, Generation: 1, Protocol: "dhcp", Name: file, Class: "iPXE", Vendor: "PXEClient", HasArch: true}
	}
	want := []provider.Event{ev(provider.EventDiscover, netip.Addr{}, ""), ev(provider.EventOffer, ip("10.0.0.21"), file), ev(provider.EventAck, ip("10.0.0.21"), file)}
	d.nodes.mu.Lock()
	if diff := cmp.Diff(want, d.nodes.events, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("events: -want +got\n%s", diff)
	}
	if len(d.nodes.boots) != 2 || !d.nodes.boots[0].Discover || d.nodes.boots[1].Discover || d.nodes.boots[0].Class != "iPXE" || d.nodes.boots[0].Vendor != "PXEClient" {
		t.Errorf("contacts: %+v", d.nodes.boots)
	}
	d.nodes.mu.Unlock()

	// Its generation is gone: better the current one than silence.
	if err := d.Retire(t.Context(), provider.Live{}); err != nil {
		t.Fatal(err)
	}
	if l, err = m.Request(t.Context(), ipxe); err != nil || !strings.Contains(l.ACK.BootFileName, "/two/") {
		t.Errorf("%v: %v", l, err)
	}
	// A session that cannot be written: silence.
	d.nodes.mu.Lock()
	d.nodes.fail = errors.New("disk")
	d.nodes.mu.Unlock()
	short := newMachine(t, client, mac2)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if o, err := short.DiscoverOffer(ctx); err == nil {
		t.Errorf("answered %s", o.Summary())
	}
}

// ports lists the UDP sockets of a namespace: address and inode.
func ports(t *testing.T, s *faultnet.Space) (out []string) {
	t.Helper()
	err := s.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/udp")
		for _, l := range strings.Split(string(b), "\n") {
			if f := strings.Fields(l); len(f) > 9 {
				out = append(out, f[1]+" "+f[9])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sockets lists those of port 67.
func sockets(t *testing.T, s *faultnet.Space) string {
	t.Helper()
	var out []string
	for _, l := range ports(t, s) {
		if strings.Contains(l, ":0043 ") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

// offers broadcasts a DISCOVER and says which servers answer it, once each.
func (m *machine) offers(t *testing.T) string {
	t.Helper()
	p, err := dhcpv4.NewDiscovery(m.mac[:])
	if err != nil {
		t.Fatal(err)
	}
	var from []string
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond) // long enough for a second answer
	defer cancel()
	m.SendAndRead(ctx, nclient4.DefaultServers, p, func(o *dhcpv4.DHCPv4) bool {
		from = append(from, o.ServerIdentifier().String())
		return false
	})
	return strings.Join(from, " ")
}

func TestSocketsOutliveCommits(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24", "10.0.0.2/24"), n.Space("client")
	one, two := newMachine(t, client, mac1), newMachine(t, client, mac2)
	d := newDaemon(t, "")
	d.run()
	d.commit(server, 1, desired(), built())
	first := sockets(t, server)
	w := desired()
	w.Hosts = nil
	w.Subnets[0].Pools = w.Subnets[0].Pools[:0]
	d.commit(server, 2, w, built())
	d.commit(server, 3, desired(), built("new", "new"))
	d.Retire(t.Context(), provider.Live{})
	if got := sockets(t, server); got != first || strings.Count(got, "\n") != 0 {
		t.Errorf("sockets before:\n%s\nafter:\n%s", first, got)
	}

	// Another address is another line in the table, not another socket.
	moved := desired()
	moved.Servers[0].Address, moved.Subnets[0].NextServer = ip("10.0.0.2"), ip("10.0.0.2")
	moved.Servers[0].DHCP.Listen = netip.MustParseAddrPort("10.0.0.2:67")
	d.nodes.pin(mac1, 3)
	d.commit(server, 4, moved, built())
	if got := one.offers(t); got != "10.0.0.1" {
		t.Errorf("the machine in the middle of its boot hears %q", got)
	}
	if got := two.offers(t); got != "10.0.0.2" {
		t.Errorf("another machine hears %q", got)
	}
	d.Retire(t.Context(), provider.Live{Generations: map[uint64]bool{3: true}})
	l, err := one.Request(t.Context()) // its REQUEST names the server of its generation
	if err != nil || l.ACK.ServerIdentifier().String() != "10.0.0.1" {
		t.Fatalf("its generation is live, it gets %v, %v", l, err)
	}
	configure(client, l)
	if _, err := one.Renew(t.Context(), l); err != nil {
		t.Errorf("a renewal by unicast: %v", err)
	}
	d.Retire(t.Context(), provider.Live{})
	if got := sockets(t, server); got != first {
		t.Errorf("sockets before moving:\n%s\nafter:\n%s", first, got)
	}
	if got := two.offers(t); got != "10.0.0.2" {
		t.Errorf("after moving: %q", got)
	}
}

// Another DHCP server shares its port with whoever does the same.
func TestForeignServerOnThePortIsNoticed(t *testing.T) {
	n := faultnet.New(t)
	server := n.Space("server", "10.0.0.1/24")
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	var foreign net.PacketConn
	if err := server.Do(func() (err error) { foreign, err = lc.ListenPacket(context.Background(), "udp4", "0.0.0.0:67"); return }); err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	d := newDaemon(t, "")
	err := server.Do(func() error { _, err := d.Prepare(context.Background(), input(1, desired(), built())); return err })
	var diags hcl.Diagnostics
	if !errors.As(err, &diags) || !strings.Contains(diags[0].Detail, "address already in use") {
		t.Errorf("%v", err)
	}
}

// Without interface the one that has the address is meant, and no other: with
// neither, nothing was heard, or every wire was served.
func TestServerWithoutInterface(t *testing.T) {
	for _, listen := range []string{"10.0.0.1:67", "0.0.0.0:67"} {
		n := faultnet.New(t)
		server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
		w := desired()
		w.Servers[0].Interface, w.Servers[0].DHCP.Listen = "", netip.MustParseAddrPort(listen)
		d := newDaemon(t, "")
		d.run()
		d.commit(server, 1, w, built())
		m := newMachine(t, client, mac1)
		if l, err := m.Request(t.Context()); err != nil || l.ACK.ServerIdentifier().String() != "10.0.0.1" {
			t.Errorf("%s: %v, %v", listen, l, err)
		}
		// The port is taken on that interface only.
		err := server.Do(func() error {
			c, err := dhcp4.Listen(context.Background(), dhcp4.Endpoint{Interface: "lo", Listen: netip.MustParseAddrPort("0.0.0.0:67")})
			if err == nil {
				c.Close()
			}
			return err
		})
		if err != nil {
			t.Errorf("%s: another interface is not free: %v", listen, err)
		}
	}
}

// A daemon that was killed: the same addresses, and nobody else gets them.
func TestLeasesAfterAKill(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	d := newDaemon(t, "")
	ctx, kill := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	d.commit(server, 1, desired(), built())
	m := newMachine(t, client, mac2)
	l, err := m.Request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	configure(client, l)
	left := copyDB(t, d.db)
	kill()
	<-done
	if got := sockets(t, server); got != "" {
		t.Errorf("sockets after Run: %s", got)
	}

	d = newDaemon(t, left)
	d.run()
	d.commit(server, 1, desired(), built())
	renewed, err := m.Renew(t.Context(), l)
	if err != nil || !renewed.ACK.YourIPAddr.Equal(l.ACK.YourIPAddr) {
		t.Errorf("renewal after the kill: %v", err)
	}
	other := newMachine(t, client, provider.MAC{0x52, 0x54, 0, 0, 0, 3})
	o, err := other.Request(t.Context(), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(l.ACK.YourIPAddr)))
	if err == nil && o.ACK.YourIPAddr.Equal(l.ACK.YourIPAddr) {
		t.Error("another machine got the same address")
	}
}

// The daemon's own rows of "what a commit does to a running client".
func TestCommitMovesAnAddress(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	d := newDaemon(t, "")
	d.run()
	d.commit(server, 1, desired(), built())
	old, owner := newMachine(t, client, mac1), newMachine(t, client, mac2)
	held, err := old.Request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	configure(client, held)
	w := desired()
	w.Hosts[0].Address = ip("10.0.0.22")
	two := *w.Hosts[0]
	two.Meta = meta(schema.Addr{Kind: "host", Name: "ws", Key: "ws02"}, 40)
	two.MAC, two.Address, two.Hostname = mac2.String(), ip("10.0.0.21"), "ws02"
	w.Hosts = append(w.Hosts, &two)
	d.commit(server, 2, w, built())
	d.clock.Add(4 * time.Minute)

	kept, err := old.Renew(t.Context(), held)
	if err != nil || kept.ACK.YourIPAddr.String() != "10.0.0.21" || kept.ACK.IPAddressLeaseTime(0) != 6*time.Minute {
		t.Fatalf("renewal of the moved address: %v, %v", kept, err)
	}
	if l, err := owner.Request(t.Context()); err != nil || l.ACK.YourIPAddr.String() == "10.0.0.21" {
		t.Errorf("the new owner: %v, %v", l, err)
	}
	d.clock.Add(6*time.Minute + lease.Grace)
	var nak *nclient4.ErrNak
	if _, err := old.Renew(t.Context(), held); !errors.As(err, &nak) {
		t.Errorf("renewal after expiry: %v", err)
	}
	// Its root is still attached from there: the address stays away from others.
	d.nodes.mu.Lock()
	d.nodes.lives[ip("10.0.0.21")] = mac1
	d.nodes.mu.Unlock()
	if l, err := owner.Request(t.Context()); err != nil || l.ACK.YourIPAddr.String() == "10.0.0.21" {
		t.Errorf("the new owner, while the old one lives there: %v, %v", l, err)
	}
	d.nodes.mu.Lock()
	delete(d.nodes.lives, ip("10.0.0.21"))
	d.nodes.mu.Unlock()
	if l, err := owner.Request(t.Context()); err != nil || l.ACK.YourIPAddr.String() != "10.0.0.21" {
		t.Errorf("the new owner, at last: %v, %v", l, err)
	}
}

// What plans say of machines that are up when host blocks come and go, and when a
// subnet gets other addresses.
func TestRenewalsFollowTheCommit(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	d := newDaemon(t, "")
	d.run()
	d.commit(server, 1, desired(), built())
	loses, gains := newMachine(t, client, mac1), newMachine(t, client, mac2)
	held := map[*machine]*nclient4.Lease{}
	for m, name := range map[*machine]string{loses: "ws01", gains: ""} {
		l, err := m.Request(t.Context())
		if err != nil || l.ACK.HostName() != name {
			t.Fatalf("%v, %v; want the host name %q", l, err, name)
		}
		configure(client, l)
		held[m] = l
	}
	w := desired()
	w.Hosts[0].MAC, w.Hosts[0].Address, w.Hosts[0].Hostname = mac2.String(), ip("10.0.0.30"), "ws02"
	d.commit(server, 2, w, built())
	d.clock.Add(4 * time.Minute)
	for m, name := range map[*machine]string{loses: "", gains: "ws02"} {
		l, err := m.Renew(t.Context(), held[m])
		if err != nil || l.ACK.HostName() != name || !l.ACK.YourIPAddr.Equal(held[m].ACK.YourIPAddr) || l.ACK.IPAddressLeaseTime(0) != 6*time.Minute {
			t.Errorf("%v, %v; want the host name %q, and the address to the end of its lease", l, err, name)
		}
	}
	elsewhere := desired()
	elsewhere.Hosts, elsewhere.Subnets[0].CIDR = nil, netip.MustParsePrefix("10.1.0.0/24")
	elsewhere.Subnets[0].Pools = []schema.Pool{{From: ip("10.1.0.250"), To: ip("10.1.0.254")}}
	d.commit(server, 3, elsewhere, built())
	var nak *nclient4.ErrNak
	if l, err := gains.Renew(t.Context(), held[gains]); !errors.As(err, &nak) {
		t.Errorf("renewal of an address that is no longer the subnet's: %v, %v", l, err)
	}
}

// A Linux kernel asks for routers when its link comes up, as iPXE does.
func TestRouterAdvertisementSwitch(t *testing.T) {
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	client.Sysctl("net/ipv6/conf/eth0/router_solicitation_delay", "0")
	d := newDaemon(t, "")
	d.run()
	var wire *packet.Conn
	err := client.Do(func() error {
		ifi, err := net.InterfaceByName(faultnet.Interface)
		if err == nil {
			wire, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_IPV6, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	// answered lets the client ask, and waits for an advertisement.
	answered := func(atMost time.Duration) bool {
		client.Run("ip", "link", "set", faultnet.Interface, "down")
		client.Run("ip", "link", "set", faultnet.Interface, "up")
		wire.SetReadDeadline(time.Now().Add(atMost))
		b := make([]byte, 1500)
		for {
			n, _, err := wire.ReadFrom(b)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return false
			}
			if err == nil && n > 40 && b[6] == 58 && b[40] == 134 {
				return b[7] == 255 && b[46] == 0 && b[47] == 0 // hop limit, lifetime
			}
		}
	}
	off := desired()
	off.Subnets[0].RouterAdvertisement = false
	d.commit(server, 1, off, built())
	if answered(300 * time.Millisecond) {
		t.Error("switched off from the start, and answered")
	}
	d.commit(server, 2, desired(), built())
	if !answered(10 * time.Second) {
		t.Error("switched on, and not answered")
	}
	d.commit(server, 3, off, built())
	if answered(300 * time.Millisecond) {
		t.Error("switched off, and answered")
	}
	d.Retire(t.Context(), provider.Live{})
	d.commit(server, 4, desired(), built())
	if !answered(10 * time.Second) {
		t.Error("switched on again, and not answered")
	}
}
