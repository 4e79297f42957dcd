package dhcp_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
	"github.com/dlreconcile/dlreconcile/schema"
)

// relay plays the relay agent of several networks, all at the address of one router.
type relay struct {
	t    *testing.T
	conn net.PacketConn
	to   *net.UDPAddr
}

// brings hands a machine's DISCOVER on for the network of agent, and gives the answer;
// nil when there is none.
func (r *relay) brings(agent netip.Addr, mac provider.MAC) *dhcpv4.DHCPv4 {
	r.t.Helper()
	p, err := dhcpv4.NewDiscovery(mac[:], dhcpv4.WithGatewayIP(agent.AsSlice()))
	if err != nil {
		r.t.Fatal(err)
	}
	p.HopCount = 1
	if _, err := r.conn.WriteTo(p.ToBytes(), r.to); err != nil {
		r.t.Fatal(err)
	}
	buf := make([]byte, 1500)
	for {
		if err := r.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			r.t.Fatal(err)
		}
		n, _, err := r.conn.ReadFrom(buf)
		if err != nil {
			return nil
		}
		if a, err := dhcpv4.FromBytes(buf[:n]); err == nil && a.TransactionID == p.TransactionID {
			return a
		}
	}
}

// The halls of examples/cluster are behind relays: the agent's address says which hall
// it is, for machines that are known and for those that are not, and one of no hall is
// not answered.
func TestSubnetsBehindRelays(t *testing.T) {
	want, diags := schema.Load(os.DirFS("../../examples/cluster"), schema.Options{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	out := map[schema.Addr]provider.Output{}
	for _, b := range want.Bootloaders {
		out[b.Addr] = provider.Output{Trees: map[provider.TreeKey]*provider.Tree{}}
	}
	for _, s := range want.Subnets {
		for _, b := range s.Boot {
			out[b].Trees[provider.TreeKey{Subnet: s.Addr}] = tree("any")
		}
	}
	for _, h := range want.Hosts {
		for _, b := range want.Bootloaders {
			out[b.Addr].Trees[provider.TreeKey{Host: h.Addr, Subnet: h.Subnet}] = tree("own")
		}
	}

	n := faultnet.New(t)
	server, router := n.Space("server", "10.40.0.1/24"), n.Space("router", "10.40.0.254/24")
	router.Run("ip", "link", "set", "lo", "up")
	for _, agent := range []string{"10.41.0.1", "10.42.0.1", "10.43.0.1", "10.99.0.1"} {
		router.Run("ip", "addr", "add", agent+"/32", "dev", "lo")
		server.Run("ip", "route", "add", agent+"/32", "via", "10.40.0.254")
	}
	d := newDaemon(t, "")
	d.run()
	d.commit(server, 1, want, out)

	r := &relay{t: t, to: &net.UDPAddr{IP: net.IPv4(10, 40, 0, 1), Port: 67}}
	err := router.Do(func() (err error) {
		r.conn, err = (&net.ListenConfig{}).ListenPacket(context.Background(), "udp4", ":67")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.conn.Close() })

	first, stranger := provider.MAC{0x52, 0x54, 0, 0x40, 1, 1}, provider.MAC{0x52, 0x54, 0, 0xff, 0, 1}
	for _, c := range []struct {
		agent   string
		mac     provider.MAC
		in      string // where the address is
		routers string
	}{
		{"10.41.0.1", first, "10.41.1.1/32", "10.41.0.1"},
		{"10.41.0.1", stranger, "10.41.255.0/24", "10.41.0.1"},
		{"10.42.0.1", stranger, "10.42.255.0/24", "10.42.0.1"},
		{"10.43.0.1", stranger, "10.43.255.0/24", "10.43.0.1"},
		{"10.42.0.1", first, "10.42.255.0/24", "10.42.0.1"}, // carried into another hall
	} {
		a := r.brings(netip.MustParseAddr(c.agent), c.mac)
		if a == nil {
			t.Errorf("%s: no answer for %s", c.agent, c.mac)
			continue
		}
		given, _ := netip.AddrFromSlice(a.YourIPAddr.To4())
		if !netip.MustParsePrefix(c.in).Contains(given) || len(a.Router()) != 1 || a.Router()[0].String() != c.routers || a.GatewayIPAddr.String() != c.agent {
			t.Errorf("%s: %s is offered %v, routers %v, giaddr %v", c.agent, c.mac, given, a.Router(), a.GatewayIPAddr)
		}
	}
	if a := r.brings(netip.MustParseAddr("10.99.0.1"), stranger); a != nil {
		t.Errorf("an agent of no subnet is answered: %v", a)
	}
}
