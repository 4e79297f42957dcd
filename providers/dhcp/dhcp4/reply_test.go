package dhcp4_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
)

func facts(t *testing.T, p *dhcpv4.DHCPv4) *dhcp4.Facts {
	t.Helper()
	f, err := dhcp4.Parse(p.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The fields that each client of a boot gets, in full.
func TestReplyFields(t *testing.T) {
	system := map[string]string{
		"yiaddr": "10.0.0.21", "siaddr": "10.0.0.2", "file": "", "sname": "",
		"option 1 subnet-mask": "255.255.255.0", "option 3 routers": "10.0.0.1", "option 6 domain-name-servers": "10.0.0.3,10.0.0.4",
		"option 12 host-name": "ws01", "option 15 domain-name": "example.net", "option 26 interface-mtu": "1400",
		"option 28 broadcast-address": "10.0.0.255", "option 42 ntp-servers": "10.0.0.5",
		"option 51 lease-time": "600", "option 54 server-identifier": "10.0.0.1", "option 58 renewal-time": "300", "option 59 rebinding-time": "525",
	}
	with := func(more ...string) map[string]string {
		m := map[string]string{}
		for k, v := range system {
			m[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for name, c := range map[string]struct {
		client dhcpv4.Modifier
		want   map[string]string
	}{
		"a running system": {opt(12, 'x'), system},
		"BIOS ROM": {romPXE(0), with("file", "b/ws01/undionly.kpxe", "option 67 boot-file-name", "b/ws01/undionly.kpxe",
			"option 66 tftp-server-name", "10.0.0.2", "option 175 ipxe", "b00101")},
		"UEFI ROM": {romPXE(7), with("file", "b/ws01/snponly.efi", "option 67 boot-file-name", "b/ws01/snponly.efi",
			"option 66 tftp-server-name", "10.0.0.2", "option 175 ipxe", "b00101")},
		"UEFI HTTP": {romHTTP(16), with("file", "http://10.0.0.2/b/ws01/snponly.efi", "option 67 boot-file-name", "http://10.0.0.2/b/ws01/snponly.efi",
			"option 60 vendor-class", "HTTPClient")},
		"iPXE": {ipxeBIOS(), with("file", "http://10.0.0.2/b/ws01/boot.ipxe", "option 67 boot-file-name", "http://10.0.0.2/b/ws01/boot.ipxe",
			"option 175 ipxe", "b00101")},
		"firmware without a boot file": {romPXE(11), with("option 175 ipxe", "b00101")},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(t, packet(1, dhcpv4.MessageTypeDiscover, c.client))
			grant := dhcp4.Grant{Addr: ip("10.0.0.21"), Time: 10 * time.Minute}
			for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck} {
				if diff := cmp.Diff(c.want, dhcp4.Fields(dhcp4.Reply(lan(), f, kind, grant))); diff != "" {
					t.Errorf("%s: -want +got\n%s", kind, diff)
				}
			}
		})
	}
}

func TestReplyEchoes(t *testing.T) {
	uuid := append([]byte{0}, []byte("0123456789abcdef")...)
	f := facts(t, packet(2, dhcpv4.MessageTypeDiscover, romPXE(7), opt(97, uuid...), opt(61, 1, 2, 3), opt(82, 1, 1, 'x'), relayed("10.0.0.9"), dhcpv4.WithBroadcast(true)))
	r := dhcp4.Reply(lan(), f, dhcpv4.MessageTypeOffer, dhcp4.Grant{Addr: ip("10.0.0.100"), Time: time.Minute})
	if string(r.Options[97]) != string(uuid) || string(r.Options[61]) != "\x01\x02\x03" || string(r.Options[82]) != "\x01\x01x" {
		t.Errorf("options 97 %x, 61 %x, 82 %x", r.Options[97], r.Options[61], r.Options[82])
	}
	if !r.IsBroadcast() || r.GatewayIPAddr.String() != "10.0.0.9" || r.TransactionID != f.XID {
		t.Errorf("flags, giaddr or xid: %v", r)
	}
	b := r.ToBytes()
	if i := strings.LastIndex(string(b), "\x52\x03\x01\x01x"); i < 0 || b[i+5] != 255 {
		t.Error("option 82 is not the last (RFC 3046 section 2.1)")
	}
}

func TestBootFileChoice(t *testing.T) {
	tree := bootTree("b/x")
	byHand := tree
	byHand.Files = map[uint16]string{7: "mine.efi", 11: "arm.efi"}
	grub := dhcp4.Boot{Targets: []dhcp4.Target{{Arch: 0, File: "core.0"}}}
	missing := dhcp4.Boot{Missing: "the tree is gone"}
	for name, c := range map[string]struct {
		boot   dhcp4.Boot
		client dhcpv4.Modifier
		file   string
		why    string
	}{
		"by hand beats the tree":                {byHand, romPXE(7), "mine.efi", ""},
		"by hand adds an architecture":          {byHand, romPXE(11), "arm.efi", ""},
		"by hand is for firmware only":          {byHand, ipxeBIOS(), "http://10.0.0.2/b/x/boot.ipxe", ""},
		"iPXE is a ROM where it has no script":  {grub, ipxeBIOS(), "core.0", ""},
		"no file for ARM":                       {tree, romPXE(11), "", "no boot file for client architecture 11 (EFI ARM64; TFTP)"},
		"no file for ARM over HTTP":             {tree, romHTTP(19), "", "no boot file for client architecture 19 (EFI ARM64 boot from HTTP; HTTP boot)"},
		"HTTP boot does not get a TFTP path":    {grub, romHTTP(0), "", "no boot file for client architecture 0 (Intel x86PC; HTTP boot)"},
		"addresses only":                        {dhcp4.Boot{}, romPXE(7), "", ""},
		"a tree that is missing":                {missing, romPXE(7), "", "the tree is gone"},
		"a running system does not hear of it":  {missing, opt(12, 'x'), "", ""},
		"an unknown user class is firmware":     {tree, dhcpv4.Modifier(func(p *dhcpv4.DHCPv4) { romPXE(7)(p); opt(77, []byte("acme")...)(p) }), "b/x/snponly.efi", ""},
		"U-Boot names only its architecture 93": {tree, opt(93, 0, 7), "b/x/snponly.efi", ""},
	} {
		t.Run(name, func(t *testing.T) {
			target, why := c.boot.File(facts(t, packet(2, dhcpv4.MessageTypeDiscover, c.client)))
			if target.File != c.file || why != c.why {
				t.Errorf("file %q, why %q; want %q, %q", target.File, why, c.file, c.why)
			}
		})
	}
}

func TestLongFileName(t *testing.T) {
	s := lan()
	long := "http://10.0.0.2/" + repeat('x', 150)
	s.Boot = dhcp4.Boot{Targets: []dhcp4.Target{{Arch: dhcp4.AnyArch, File: long}}}
	r := dhcp4.Reply(s, facts(t, packet(2, dhcpv4.MessageTypeDiscover, romPXE(7))), dhcpv4.MessageTypeOffer, dhcp4.Grant{Addr: ip("10.0.0.100"), Time: time.Minute})
	if r.BootFileName != "" || string(r.Options[67]) != long {
		t.Errorf("file %q, option 67 %q", r.BootFileName, r.Options[67])
	}
}

func TestLittleRoom(t *testing.T) {
	s := lan()
	s.DomainName = repeat('d', 250)
	for range 30 {
		s.DNS, s.NTP = append(s.DNS, ip("10.0.0.7")), append(s.NTP, ip("10.0.0.8"))
	}
	f := facts(t, packet(2, dhcpv4.MessageTypeDiscover, romPXE(7), opt(57, 2, 0x40)))
	r := dhcp4.Reply(s, f, dhcpv4.MessageTypeOffer, dhcp4.Grant{Addr: ip("10.0.0.100"), Time: time.Minute})
	if n := len(r.ToBytes()); n > 548 {
		t.Errorf("%d bytes, the client has room for 548", n)
	}
	for _, code := range []uint8{1, 51, 53, 54, 67} {
		if _, ok := r.Options[code]; !ok {
			t.Errorf("option %d is gone", code)
		}
	}
	f.MaxSize = 1472
	if r := dhcp4.Reply(s, f, dhcpv4.MessageTypeOffer, dhcp4.Grant{Addr: ip("10.0.0.100"), Time: time.Minute}); len(r.Options[42]) != 31*4 || len(r.Options[15]) != 250 {
		t.Error("shortened although there is room")
	}
	bootp := facts(t, packet(2, dhcpv4.MessageTypeNone))
	if r := dhcp4.Reply(s, bootp, dhcpv4.MessageTypeNone, dhcp4.Grant{Addr: ip("10.0.0.100")}); len(r.ToBytes()) > 300 || len(r.Options[1]) != 4 {
		t.Errorf("BOOTP answer: %v", r.Summary())
	}
}

func TestInfiniteLeaseHasNoTimers(t *testing.T) {
	r := dhcp4.Reply(lan(), facts(t, packet(2, dhcpv4.MessageTypeDiscover)), dhcpv4.MessageTypeOffer, dhcp4.Grant{Addr: ip("10.0.0.100"), Time: 1 << 62})
	if got := dhcp4.Fields(r)["option 51 lease-time"]; got != "4294967295" || r.Options[58] != nil {
		t.Errorf("lease time %s, T1 %x", got, r.Options[58])
	}
}

// EDK2 took an offer with option 60 and without option 43 for a BINL server's, and
// never asked for its boot file.
func TestNoPXEClientInAnswersToPXEClients(t *testing.T) {
	for _, client := range []dhcpv4.Modifier{romPXE(0), romPXE(7), ipxeBIOS()} {
		r := dhcp4.Reply(lan(), facts(t, packet(2, dhcpv4.MessageTypeDiscover, client)), dhcpv4.MessageTypeOffer, dhcp4.Grant{Addr: ip("10.0.0.100"), Time: time.Minute})
		if r.Options[60] != nil || r.Options[43] != nil {
			t.Errorf("option 60 %q, option 43 %x", r.Options[60], r.Options[43])
		}
	}
}
