package dhcp4_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

// serve runs a server in a namespace until the test ends.
func serve(t *testing.T, at *faultnet.Space, r *rig, ep dhcp4.Endpoint) {
	t.Helper()
	var c *dhcp4.Conn
	if err := at.Do(func() (err error) { c, err = dhcp4.Listen(t.Context(), ep); return }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Serve(ctx, c) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// segment is a server on 10.0.0.1 with the subnet of lan, and a machine; host, if
// not nil, is what the server knows about it.
func segment(t *testing.T, host *dhcp4.Host) (*rig, *faultnet.Space, *faultnet.Space) {
	t.Helper()
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client")
	s := lan()
	if host != nil {
		s.Hosts[client.MAC] = host
	}
	r := newRig(t, s)
	serve(t, server, r, endpoint)
	return r, server, client
}

// script writes a program that prints the variables a client's hook gets.
func script(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nenv | sort | sed \"s/^/$1$reason: /\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// expect looks for lines that match whole.
func expect(t *testing.T, out string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !regexp.MustCompile(`(?m)^` + l + `$`).MatchString(out) {
			t.Errorf("no line %s", l)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func TestUdhcpc(t *testing.T) {
	providertest.Need(t, "udhcpc")
	r, _, client := segment(t, &dhcp4.Host{Name: "host.c", Hostname: "chair", Address: ip("10.0.0.33"), Boot: bootTree("b/chair")})
	out := client.Run("udhcpc", "-f", "-q", "-n", "-i", faultnet.Interface, "-s", script(t), "-V", "PXEClient:Arch:00007:UNDI:003000", "-O", "bootfile", "-x", "0x5d:0007")
	expect(t, out, "bound: ip=10.0.0.33", "bound: mask=24", "bound: router=10.0.0.1", "bound: dns=10.0.0.3 10.0.0.4", "bound: domain=example.net",
		"bound: hostname=chair", "bound: lease=600", "bound: serverid=10.0.0.1", "bound: siaddr=10.0.0.2", "bound: boot_file=b/chair/snponly.efi",
		"bound: bootfile=b/chair/snponly.efi", "bound: ntpsrv=10.0.0.5", "bound: broadcast=10.0.0.255", "bound: mtu=1400")
	if l, ok := r.leases.ByMAC(client.MAC); !ok || l.Addr != ip("10.0.0.33") {
		t.Errorf("the lease is %+v", l)
	}
}

func TestDhclient(t *testing.T) {
	providertest.Need(t, "dhclient")
	r, _, client := segment(t, nil)
	dir := t.TempDir()
	args := []string{"-1", "-v", "-sf", script(t), "-lf", dir + "/leases", "-pf", dir + "/pid", "-cf", "/dev/null"}
	dhclient := func(more ...string) string {
		return client.Run("dhclient", append(append(args, more...), faultnet.Interface)...)
	}
	// -1 with a hook that succeeds leaves a daemon behind, which -r and -x end.
	out := dhclient()
	t.Cleanup(func() {
		client.Command(context.Background(), "dhclient", append(args, "-x", faultnet.Interface)...).Run()
	})
	l, ok := r.leases.ByMAC(client.MAC)
	if !ok {
		t.Fatalf("no lease\n%s", out)
	}
	expect(t, out, "BOUND: new_ip_address="+regexp.QuoteMeta(l.Addr.String()), "BOUND: new_subnet_mask=255.255.255.0", "BOUND: new_routers=10.0.0.1",
		"BOUND: new_domain_name_servers=10.0.0.3 10.0.0.4", "BOUND: new_dhcp_lease_time=600", "BOUND: new_dhcp_server_identifier=10.0.0.1")

	// With its lease file it comes back in INIT-REBOOT.
	dhclient("-x")
	out = dhclient()
	if !strings.Contains(out, "DHCPREQUEST for "+l.Addr.String()) || !strings.Contains(out, "DHCPACK of "+l.Addr.String()) || strings.Contains(out, "DHCPDISCOVER") {
		t.Errorf("init-reboot:\n%s", out)
	}
	// -r sends a RELEASE, from the address.
	client.Run("ip", "addr", "add", l.Addr.String()+"/24", "dev", faultnet.Interface)
	dhclient("-r")
	eventually(t, "the release", func() bool { l, _ := r.leases.ByMAC(client.MAC); return l.Expired(r.now) })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(5 * time.Millisecond) // nothing tells us
	}
}

func TestNclient4WithABadNetwork(t *testing.T) {
	_, server, client := segment(t, nil)
	var c *nclient4.Client
	err := client.Do(func() (err error) {
		c, err = nclient4.New(faultnet.Interface, nclient4.WithTimeout(300*time.Millisecond), nclient4.WithRetry(8))
		return
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client.Impair(faultnet.Fault{Loss: 0.2, Delay: 5 * time.Millisecond, Seed: 3})
	l, err := c.Request(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The server's interface goes away and comes back: the read loop survives it.
	server.Run("ip", "link", "set", faultnet.Interface, "down")
	server.Run("ip", "link", "set", faultnet.Interface, "up")
	client.Impair(faultnet.Fault{Loss: 1})
	var again *nclient4.Lease
	got := make(chan error, 1)
	go func() {
		var err error
		again, err = c.Request(t.Context())
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("nothing gets through, and yet: %v, %v", again, err)
	case <-time.After(500 * time.Millisecond): // the outage
	}
	client.Impair(faultnet.Fault{Loss: 0.2, Seed: 4})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if !again.ACK.YourIPAddr.Equal(l.ACK.YourIPAddr) {
		t.Errorf("had %s, got %s", l.ACK.YourIPAddr, again.ACK.YourIPAddr)
	}
}

// A renewal goes to the server's address and is answered to the client's.
func TestRenewalIsUnicast(t *testing.T) {
	_, _, client := segment(t, &dhcp4.Host{Name: "host.c", Address: ip("10.0.0.33")})
	client.Run("ip", "addr", "add", "10.0.0.33/24", "dev", faultnet.Interface)
	var conn net.PacketConn
	if err := client.Do(func() (err error) { conn, err = net.ListenPacket("udp4", "10.0.0.33:68"); return }); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := packet(0, request, from("10.0.0.33"), dhcpv4.WithHwAddr(client.MAC[:]))
	if _, err := conn.WriteTo(p.ToBytes(), net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.0.0.1:67"))); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	b := make([]byte, 1500)
	n, src, err := conn.ReadFrom(b) // bound to its address, it hears no broadcast
	if err != nil {
		t.Fatal(err)
	}
	ack, err := dhcpv4.FromBytes(b[:n])
	if err != nil || ack.MessageType() != dhcpv4.MessageTypeAck || src.String() != "10.0.0.1:67" {
		t.Errorf("%v from %s: %v", ack, src, err)
	}
}

func TestListenRefuses(t *testing.T) {
	if _, err := dhcp4.Listen(t.Context(), dhcp4.Endpoint{Interface: "nosuch0", Listen: endpoint.Listen}); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Error(err)
	}
	busy, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if _, err := dhcp4.Listen(t.Context(), dhcp4.Endpoint{Listen: busy.LocalAddr().(*net.UDPAddr).AddrPort()}); err == nil {
		t.Error("bound a port that is in use")
	}
}
