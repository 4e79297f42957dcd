package dhcp4_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
	"github.com/dlreconcile/dlreconcile/providers/dhcp/lease"
)

const (
	disco   = dhcpv4.MessageTypeDiscover
	request = dhcpv4.MessageTypeRequest
)

func TestReservedAndPoolAddresses(t *testing.T) {
	r := newRig(t, lan())
	if got := r.take(1).YourIPAddr.String(); got != "10.0.0.21" {
		t.Errorf("the known machine got %s", got)
	}
	ack := r.take(2, ipxeBIOS())
	if a := ip(ack.YourIPAddr.String()); !lan().Pool.Contains(a) {
		t.Errorf("the unknown machine got %s", a)
	}
	var got []string
	for _, e := range r.events {
		got = append(got, strings.Join([]string{string(e.Kind), e.MAC.String(), e.Host, e.Vendor, e.Class, e.File}, " "))
		if e.Version != 7 || e.Subnet != "subnet.lan" || !e.At.Equal(r.now) {
			t.Errorf("%+v", e)
		}
	}
	file := "http://10.0.0.2/b/default/boot.ipxe"
	want := []string{
		"discover 52:54:00:00:00:01 host.ws01   ", "offer 52:54:00:00:00:01 host.ws01   ", "ack 52:54:00:00:00:01 host.ws01   ",
		"discover 52:54:00:00:00:02  PXEClient iPXE ", "offer 52:54:00:00:00:02  PXEClient iPXE " + file, "ack 52:54:00:00:00:02  PXEClient iPXE " + file,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events: -want +got\n%s", diff)
	}
}

// RFC 2131 section 4.3.2, state by state: what is answered to a REQUEST of
// machine 2, which has 10.0.0.x from the pool.
func TestRequestStates(t *testing.T) {
	for name, c := range map[string]struct {
		setup         func(r *rig, has string) []dhcpv4.Modifier
		authoritative dhcpv4.MessageType
		otherwise     dhcpv4.MessageType
	}{
		"init-reboot": {
			func(r *rig, has string) []dhcpv4.Modifier { return []dhcpv4.Modifier{requested(has)} },
			dhcpv4.MessageTypeAck, dhcpv4.MessageTypeAck},
		"init-reboot, wrong network": {
			func(r *rig, has string) []dhcpv4.Modifier { return []dhcpv4.Modifier{requested("192.168.1.5")} },
			dhcpv4.MessageTypeNak, dhcpv4.MessageTypeNone},
		"init-reboot, another address": {
			func(r *rig, has string) []dhcpv4.Modifier { return []dhcpv4.Modifier{requested("10.0.0.50")} },
			dhcpv4.MessageTypeNak, dhcpv4.MessageTypeNak},
		"renewing": {
			func(r *rig, has string) []dhcpv4.Modifier { return []dhcpv4.Modifier{from(has)} },
			dhcpv4.MessageTypeAck, dhcpv4.MessageTypeAck},
		"renewing what expired": {
			func(r *rig, has string) []dhcpv4.Modifier {
				r.now = r.now.Add(time.Hour)
				return []dhcpv4.Modifier{from(has)}
			},
			dhcpv4.MessageTypeAck, dhcpv4.MessageTypeAck},
		"renewing an address of another network": {
			func(r *rig, has string) []dhcpv4.Modifier { return []dhcpv4.Modifier{from("192.168.1.5")} },
			dhcpv4.MessageTypeNak, dhcpv4.MessageTypeNone},
		"renewing what somebody lives on": {
			func(r *rig, has string) []dhcpv4.Modifier {
				r.held[ip(has)] = mac(9)
				return []dhcpv4.Modifier{from(has)}
			},
			dhcpv4.MessageTypeNak, dhcpv4.MessageTypeNak},
		"selecting another server": {
			func(r *rig, has string) []dhcpv4.Modifier {
				return []dhcpv4.Modifier{requested(has), toServer("10.0.0.99")}
			},
			dhcpv4.MessageTypeNone, dhcpv4.MessageTypeNone},
		"selecting an address it was not offered": {
			func(r *rig, has string) []dhcpv4.Modifier {
				return []dhcpv4.Modifier{requested("10.0.0.21"), toServer("10.0.0.1")}
			},
			dhcpv4.MessageTypeNak, dhcpv4.MessageTypeNak},
		"selecting after the offer was forgotten": {
			func(r *rig, has string) []dhcpv4.Modifier {
				r.now = r.now.Add(time.Hour)
				return []dhcpv4.Modifier{requested(has), toServer("10.0.0.1")}
			},
			dhcpv4.MessageTypeAck, dhcpv4.MessageTypeAck},
		"nothing named": {
			func(r *rig, has string) []dhcpv4.Modifier { return nil },
			dhcpv4.MessageTypeNone, dhcpv4.MessageTypeNone},
	} {
		for _, authoritative := range []bool{true, false} {
			want := c.otherwise
			if authoritative {
				want = c.authoritative
			}
			t.Run(name+map[bool]string{true: ", authoritative"}[authoritative], func(t *testing.T) {
				s := lan()
				s.Authoritative = authoritative
				r := newRig(t, s)
				has := r.take(2).YourIPAddr.String()
				got, to := r.send(packet(2, request, c.setup(r, has)...))
				kind := dhcpv4.MessageTypeNone
				if got != nil {
					kind = got.MessageType()
				}
				if kind != want {
					t.Fatalf("got %v, want %v", kind, want)
				}
				if kind == dhcpv4.MessageTypeNak && to != netip.MustParseAddrPort("255.255.255.255:68") {
					t.Errorf("the NAK goes to %s", to)
				}
			})
		}
	}
}

// A machine that nobody has a record of: the RFC wants silence, because another
// server may have one. An authority knows that there is none.
func TestRebootingStranger(t *testing.T) {
	s := lan()
	s.Authoritative = false
	r := newRig(t, s)
	if got, _ := r.send(packet(3, request, requested("10.0.0.101"))); got != nil {
		t.Errorf("not the authority, and says %v", got)
	}
	r = newRig(t, lan())
	if got, _ := r.send(packet(3, request, requested("10.0.0.101"))); got == nil || got.MessageType() != dhcpv4.MessageTypeAck {
		t.Errorf("the address is free and in the pool, the authority says %v", got)
	}
}

func TestAnotherServerWasChosen(t *testing.T) {
	r := newRig(t, lan())
	offer, _ := r.send(packet(2, disco))
	a := offer.YourIPAddr.String()
	if got, _ := r.send(packet(3, request, requested(a), toServer("10.0.0.1"))); got == nil || got.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("offered to another: %v", got)
	}
	r.send(packet(2, request, requested(a), toServer("10.0.0.99")))
	if got, _ := r.send(packet(3, request, requested(a), toServer("10.0.0.1"))); got == nil || got.MessageType() != dhcpv4.MessageTypeAck {
		t.Errorf("the offer was not withdrawn: %v", got)
	}
}

func TestMovedAddressIsHonouredThenRefused(t *testing.T) {
	r := newRig(t, lan())
	r.take(1)
	moved := lan()
	moved.Hosts = map[lease.MAC]*dhcp4.Host{
		mac(1): {Name: "host.ws01", Address: ip("10.0.0.22")},
		mac(2): {Name: "host.ws02", Address: ip("10.0.0.21")},
	}
	r.table = &dhcp4.Table{Version: 8, Subnets: []*dhcp4.Subnet{moved}}
	r.now = r.now.Add(7 * time.Minute)
	ack, to := r.send(packet(1, request, from("10.0.0.21")))
	if ack == nil || ack.IPAddressLeaseTime(0) != 3*time.Minute || to != netip.MustParseAddrPort("10.0.0.21:68") {
		t.Fatalf("renewal: %v to %s", ack, to)
	}
	if got := r.take(2).YourIPAddr.String(); got == "10.0.0.21" {
		t.Error("the new owner has the address while the old one does")
	}
	r.now = r.now.Add(3*time.Minute + lease.Grace)
	if nak, _ := r.send(packet(1, request, from("10.0.0.21"))); nak == nil || nak.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("after expiry: %v", nak)
	}
	if got := r.take(2).YourIPAddr.String(); got != "10.0.0.21" {
		t.Errorf("the new owner still has %s", got)
	}
	if got := r.take(1).YourIPAddr.String(); got != "10.0.0.22" {
		t.Errorf("the machine that moved has %s", got)
	}
}

func TestDeclineAndRelease(t *testing.T) {
	r := newRig(t, lan())
	a := r.take(2).YourIPAddr.String()
	r.send(packet(2, dhcpv4.MessageTypeDecline, requested(a), toServer("10.0.0.1")))
	b := r.take(2).YourIPAddr.String()
	if a == b {
		t.Errorf("the declined %s was given again", a)
	}
	r.send(packet(2, dhcpv4.MessageTypeRelease, from(b), toServer("10.0.0.99")))
	if l, _ := r.leases.ByAddr(ip(b)); l.Expired(r.now) {
		t.Error("released by a message to another server")
	}
	r.send(packet(2, dhcpv4.MessageTypeRelease, from(b), toServer("10.0.0.1")))
	if l, _ := r.leases.ByAddr(ip(b)); !l.Expired(r.now) {
		t.Error("not released")
	}
}

// Anybody on the wire can send a DECLINE in the name of a machine that is up.
func TestDeclineOfARunningMachinesAddressIsIgnored(t *testing.T) {
	r := newRig(t, lan())
	a := r.take(2).YourIPAddr.String()
	decline := packet(2, dhcpv4.MessageTypeDecline, requested(a), toServer("10.0.0.1"))
	r.held[ip(a)] = mac(2)
	r.send(decline)
	if got := r.take(2).YourIPAddr.String(); got != a {
		t.Errorf("whoever declined %s was given %s", a, got)
	}
	if got, _ := r.send(packet(2, dhcpv4.MessageTypeRequest, from(a))); got == nil || got.MessageType() != dhcpv4.MessageTypeAck {
		t.Errorf("renewal: %v", got)
	}
	r.held[ip(a)] = mac(3) // another machine is there: the truth is heard
	r.send(decline)
	if l, ok := r.leases.ByMAC(mac(2)); ok {
		t.Errorf("%s is still leased", l.Addr)
	}
}

func TestExhaustedPoolIsSilentAndSaysSo(t *testing.T) {
	r := newRig(t, lan())
	for n := byte(2); n < 6; n++ {
		r.take(n)
	}
	if got, _ := r.send(packet(9, disco)); got != nil {
		t.Errorf("answered %v", got)
	}
	if e := r.events[len(r.events)-1]; e.Kind != dhcp4.SawDiscover || e.Err == "" {
		t.Errorf("reported %+v", e)
	}
	if got := r.take(1).YourIPAddr.String(); got != "10.0.0.21" {
		t.Errorf("the known machine got %s", got)
	}
}

func TestFailingDiskIsSilent(t *testing.T) {
	r := newRig(t, lan())
	offer, _ := r.send(packet(2, disco))
	r.disk.Close()
	if got, _ := r.send(packet(2, request, requested(offer.YourIPAddr.String()), toServer("10.0.0.1"))); got != nil {
		t.Errorf("promised what is not on disk: %v", got)
	}
}

func TestNoTableNoAnswer(t *testing.T) {
	s := dhcp4.New(dhcp4.Config{Published: func(yield func(*dhcp4.Table) bool) { yield(&dhcp4.Table{Subnets: []*dhcp4.Subnet{lan()}}) }, Table: func(*dhcp4.Facts) (*dhcp4.Table, error) { return nil, errors.New("disk") }})
	if a := s.Handle(endpoint, nobody, packet(1, disco).ToBytes()); a != nil {
		t.Error(a)
	}
}

func TestInform(t *testing.T) {
	r := newRig(t, lan())
	ack, to := r.send(packet(2, dhcpv4.MessageTypeInform, from("10.0.0.60")))
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || to != netip.MustParseAddrPort("10.0.0.60:68") {
		t.Fatalf("%v to %s", ack, to)
	}
	if !ack.YourIPAddr.IsUnspecified() || ack.Options[51] != nil || len(ack.DNS()) != 2 {
		t.Errorf("RFC 2131 section 4.3.5: no address, no times: %s", ack.Summary())
	}
}

func TestBOOTP(t *testing.T) {
	r := newRig(t, lan())
	got, _ := r.send(packet(2, dhcpv4.MessageTypeNone))
	if got == nil || got.MessageType() != dhcpv4.MessageTypeNone || got.BootFileName != "b/default/undionly.kpxe" {
		t.Fatalf("%v", got)
	}
	if l, ok := r.leases.ByMAC(mac(2)); !ok || !l.Expires.IsZero() {
		t.Errorf("lease %+v, want one without end", l)
	}
	if known, _ := r.send(packet(1, dhcpv4.MessageTypeNone)); known == nil || known.YourIPAddr.String() != "10.0.0.21" {
		t.Errorf("known machine: %v", known)
	}
	s := lan()
	s.BOOTP = false
	if got, _ := newRig(t, s).send(packet(2, dhcpv4.MessageTypeNone)); got != nil {
		t.Errorf("BOOTP is off, answered %v", got)
	}
}

func TestWhichSubnet(t *testing.T) {
	local, far := lan(), lan()
	far.Name, far.Prefix = "subnet.far", netip.MustParsePrefix("10.9.0.0/24")
	far.Pool.Ranges = []lease.Range{{From: ip("10.9.0.10"), To: ip("10.9.0.20")}}
	far.Hosts = map[lease.MAC]*dhcp4.Host{mac(5): {Name: "host.far", Address: ip("10.9.0.5")}}
	r := newRig(t, far, local)

	got, to := r.send(packet(2, disco, relayed("10.9.0.1")))
	if got == nil || !far.Prefix.Contains(ip(got.YourIPAddr.String())) || to != netip.MustParseAddrPort("10.9.0.1:67") {
		t.Errorf("through the relay: %v to %s", got, to)
	}
	if got, _ := r.send(packet(2, disco, relayed("172.16.0.1"))); got != nil {
		t.Errorf("through an unknown relay: %v", got)
	}
	if got, _ := r.send(packet(5, disco)); got == nil || !local.Prefix.Contains(ip(got.YourIPAddr.String())) {
		t.Errorf("its reserved address is for another wire: %v", got)
	}
	if got, to := r.send(packet(5, request, from("10.9.0.5"))); got == nil || got.MessageType() != dhcpv4.MessageTypeAck || to != netip.MustParseAddrPort("10.9.0.5:68") {
		t.Errorf("a renewal is routed, past the relay: %v to %s", got, to)
	}
	if nak, to := r.send(packet(6, request, requested("10.0.0.100"), relayed("10.9.0.1"))); nak == nil || nak.MessageType() != dhcpv4.MessageTypeNak || !nak.IsBroadcast() || to.Addr() != ip("10.9.0.1") {
		t.Errorf("NAK through the relay: %v to %s", nak, to)
	}
	other := endpoint
	other.Interface = "eth1"
	if got, _ := r.sendTo(other, nobody, packet(2, disco)); got != nil {
		t.Errorf("on a socket that no subnet names: %v", got)
	}
}

func TestHighPortAnswersTheSender(t *testing.T) {
	s := lan()
	s.Endpoint = dhcp4.Endpoint{Listen: netip.MustParseAddrPort("127.0.0.1:6767")}
	r := newRig(t, s)
	src := netip.MustParseAddrPort("127.0.0.1:40000")
	if got, to := r.sendTo(s.Endpoint, src, packet(2, disco, relayed("10.0.0.9"))); got == nil || to != src {
		t.Errorf("%v to %s", got, to)
	}
}

// What is said to another server, or on a wire that is not ours, costs nothing:
// looking for the client's table may open a boot session, which is written to disk.
func TestNoTableForWhatIsNotOurs(t *testing.T) {
	r := newRig(t, lan())
	r.take(2)
	offer, _ := r.send(packet(3, disco))
	before := r.asked
	r.send(packet(3, request, requested(offer.YourIPAddr.String()), toServer("10.0.0.99")))
	r.send(packet(4, disco, relayed("192.168.7.1")))
	r.sendTo(dhcp4.Endpoint{Interface: "eth1", Listen: endpoint.Listen}, nobody, packet(5, disco))
	if r.asked != before {
		t.Errorf("asked for a table %d times", r.asked-before)
	}
	again, _ := r.send(packet(4, disco, requested(offer.YourIPAddr.String())))
	if again == nil || !again.YourIPAddr.Equal(offer.YourIPAddr) {
		t.Errorf("what machine 3 has no use for is still kept for it: %v", again)
	}
}

// Two servers on one wire have one socket: a REQUEST goes to the one it names, and
// there to the subnet on which the machine has a reserved address.
func TestTwoServersOnOneSocket(t *testing.T) {
	first, second, home := lan(), lan(), lan()
	first.Hosts, second.Hosts = nil, nil
	second.Server, home.Server = ip("10.0.0.9"), ip("10.0.0.9")
	second.Name, home.Name = "subnet.second", "subnet.home"
	r := newRig(t, first, second, home)
	if got, _ := r.send(packet(1, request, requested("10.0.0.21"), toServer("10.0.0.9"))); got == nil || got.MessageType() != dhcpv4.MessageTypeAck || got.ServerIdentifier().String() != "10.0.0.9" {
		t.Errorf("%v", got)
	}
	if got, _ := r.send(packet(2, request, requested("10.0.0.101"), toServer("10.0.0.1"))); got == nil || got.ServerIdentifier().String() != "10.0.0.1" {
		t.Errorf("%v", got)
	}
}
