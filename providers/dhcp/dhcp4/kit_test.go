package dhcp4_test

import (
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func mac(n byte) lease.MAC { return lease.MAC{0x52, 0x54, 0, 0, 0, n} }

var (
	endpoint = dhcp4.Endpoint{Interface: "eth0", Listen: netip.MustParseAddrPort("0.0.0.0:67")}
	nobody   = netip.MustParseAddrPort("0.0.0.0:68")
)

// lan is a subnet with everything that can be configured. Machine 1 is known.
func lan() *dhcp4.Subnet {
	return &dhcp4.Subnet{
		Name: "subnet.lan", Endpoint: endpoint, Source: ip("10.0.0.1"), Prefix: netip.MustParsePrefix("10.0.0.0/24"),
		Authoritative: true, BOOTP: true, Server: ip("10.0.0.1"), NextServer: ip("10.0.0.2"), LeaseTime: 10 * time.Minute,
		Pool:    lease.Pool{Ranges: []lease.Range{{From: ip("10.0.0.100"), To: ip("10.0.0.103")}}},
		Routers: []netip.Addr{ip("10.0.0.1")}, DNS: []netip.Addr{ip("10.0.0.3"), ip("10.0.0.4")}, NTP: []netip.Addr{ip("10.0.0.5")},
		DomainName: "example.net", MTU: 1400,
		Boot: bootTree("b/default"),
		Hosts: map[lease.MAC]*dhcp4.Host{
			mac(1): {Name: "host.ws01", Hostname: "ws01", Address: ip("10.0.0.21"), Boot: bootTree("b/ws01")},
		},
	}
}

func bootTree(dir string) dhcp4.Boot {
	return dhcp4.Boot{Targets: []dhcp4.Target{
		{Arch: dhcp4.AnyArch, Class: "iPXE", File: "http://10.0.0.2/" + dir + "/boot.ipxe"},
		{Arch: 16, HTTP: true, File: "http://10.0.0.2/" + dir + "/snponly.efi"},
		{Arch: 0, File: dir + "/undionly.kpxe"},
		{Arch: 7, File: dir + "/snponly.efi"},
	}}
}

// rig is a server without sockets.
type rig struct {
	*dhcp4.Server
	t      testing.TB
	leases *lease.Store
	now    time.Time
	table  *dhcp4.Table
	pinned *dhcp4.Table             // that clients are answered from; nil: table
	held   map[netip.Addr]lease.MAC // who lives there
	disk   *bbolt.DB
	asked  int // how often for the table of a client

	mu     sync.Mutex
	events []dhcp4.Event
}

func newRig(t testing.TB, subnets ...*dhcp4.Subnet) *rig {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	db.MaxBatchDelay = 0
	t.Cleanup(func() { db.Close() })
	r := &rig{t: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), table: &dhcp4.Table{Version: 7, Subnets: subnets}, held: map[netip.Addr]lease.MAC{}, disk: db}
	clock := func() time.Time { return r.now }
	if r.leases, err = lease.Open(db, clock); err != nil {
		t.Fatal(err)
	}
	r.Server = dhcp4.New(dhcp4.Config{
		Leases: r.leases,
		Published: func(yield func(*dhcp4.Table) bool) {
			if yield(r.table) && r.pinned != nil {
				yield(r.pinned)
			}
		},
		Table: func(*dhcp4.Facts) (*dhcp4.Table, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.asked++
			if r.pinned != nil {
				return r.pinned, nil
			}
			return r.table, nil
		},
		Held: func(a netip.Addr, m lease.MAC) bool {
			h, ok := r.held[a]
			return ok && h != m
		},
		Report: func(e dhcp4.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
		},
		Now: clock,
	})
	return r
}

// packet makes a request of a machine.
func packet(n byte, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	m := mac(n)
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(net.HardwareAddr(m[:])),
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, n}),
	}, mods...)...)
	if err != nil {
		panic(err)
	}
	if kind != dhcpv4.MessageTypeNone {
		p.UpdateOption(dhcpv4.OptMessageType(kind))
	}
	return p
}

func opt(code uint8, value ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), value)
}

func requested(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(a).To4()))
}

func toServer(a string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(a).To4()))
}

func from(ciaddr string) dhcpv4.Modifier { return dhcpv4.WithClientIP(net.ParseIP(ciaddr).To4()) }

func relayed(giaddr string) dhcpv4.Modifier { return dhcpv4.WithGatewayIP(net.ParseIP(giaddr).To4()) }

// The clients of a boot, as they were captured.
func ipxeBIOS() dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		for _, m := range []dhcpv4.Modifier{
			opt(60, []byte("PXEClient:Arch:00000:UNDI:002001")...), opt(93, 0, 0), opt(77, []byte("iPXE")...),
			opt(94, 1, 2, 1), opt(57, 0x05, 0xc0), opt(97, append([]byte{0}, make([]byte, 16)...)...), opt(175, 0xb1, 5, 1, 0x1a, 0xf4, 0x10, 0),
			opt(61, 1, 0x52, 0x54, 0, 0, 0, 1),
		} {
			m(p)
		}
	}
}

func romPXE(arch byte) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		p.UpdateOption(dhcpv4.OptClientArch(iana.Arch(arch)))
		opt(60, []byte("PXEClient:Arch:00007:UNDI:003000")...)(p)
		opt(97, append([]byte{0}, make([]byte, 16)...)...)(p)
		opt(57, 0xff, 0)(p)
	}
}

func romHTTP(arch byte) dhcpv4.Modifier {
	return func(p *dhcpv4.DHCPv4) {
		p.UpdateOption(dhcpv4.OptClientArch(iana.Arch(arch)))
		opt(60, []byte("HTTPClient:Arch:00016:UNDI:003000")...)(p)
	}
}

// send gives the server a packet, over the wire's bytes, and reads its answer the
// same way.
func (r *rig) send(p *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, netip.AddrPort) {
	r.t.Helper()
	return r.sendTo(endpoint, nobody, p)
}

func (r *rig) sendTo(ep dhcp4.Endpoint, src netip.AddrPort, p *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, netip.AddrPort) {
	r.t.Helper()
	a := r.Handle(ep, src, p.ToBytes())
	if a == nil {
		return nil, netip.AddrPort{}
	}
	got, err := dhcpv4.FromBytes(a.Packet.ToBytes())
	if err != nil {
		r.t.Fatal(err)
	}
	return got, a.To
}

// take is DISCOVER to ACK.
func (r *rig) take(n byte, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	r.t.Helper()
	offer, _ := r.send(packet(n, dhcpv4.MessageTypeDiscover, mods...))
	if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer {
		r.t.Fatalf("DISCOVER of machine %d: %v", n, offer)
	}
	ack, _ := r.send(packet(n, dhcpv4.MessageTypeRequest, append(mods, requested(offer.YourIPAddr.String()), toServer("10.0.0.1"))...))
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || !ack.YourIPAddr.Equal(offer.YourIPAddr) {
		r.t.Fatalf("REQUEST of machine %d for %s: %v", n, offer.YourIPAddr, ack)
	}
	return ack
}
