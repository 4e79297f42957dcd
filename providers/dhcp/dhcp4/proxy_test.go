package dhcp4_test

import (
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
)

var late = dhcp4.Endpoint{Interface: "eth0", Listen: netip.MustParseAddrPort("0.0.0.0:4011")}

// proxied is lan beside another server, 10.0.0.9.
func proxied() *dhcp4.Subnet {
	s := lan()
	s.Proxy, s.Late = true, late
	return s
}

// Every message of every kind of client on a proxied subnet, on both ports: what is
// answered, and what is reported.
func TestProxyAnswers(t *testing.T) {
	inform, taken := dhcpv4.MessageTypeInform, "taken 10.0.0.77"
	rom, http, ipxe, system := romPXE(7), romHTTP(16), ipxeBIOS(), opt(12, 'x')
	for name, c := range map[string]struct {
		port   dhcp4.Endpoint
		kind   dhcpv4.MessageType
		client dhcpv4.Modifier
		more   []dhcpv4.Modifier
		answer string // type and destination
		events string
	}{
		"UEFI looks for servers":      {endpoint, disco, rom, nil, "OFFER 255.255.255.255:68", "discover -, offer -"},
		"UEFI HTTP looks for servers": {endpoint, disco, http, nil, "OFFER 255.255.255.255:68", "discover -, offer -"},
		"iPXE looks for servers":      {endpoint, disco, ipxe, nil, "OFFER 255.255.255.255:68", "discover -, offer -"},
		"iPXE that has an address":    {endpoint, disco, ipxe, []dhcpv4.Modifier{from("10.0.0.77")}, "OFFER 10.0.0.77:68", "discover -, offer -"},
		"through a relay agent":       {endpoint, disco, rom, []dhcpv4.Modifier{relayed("10.0.0.8")}, "OFFER 10.0.0.8:67", "discover -, offer -"},
		"no file for it":              {endpoint, disco, romPXE(11), nil, "", "discover - no boot file"},
		"a system looks for servers":  {endpoint, disco, system, nil, "", ""},
		"U-Boot":                      {endpoint, disco, opt(93, 0, 7), nil, "", ""},

		"UEFI takes an address":             {endpoint, request, rom, []dhcpv4.Modifier{requested("10.0.0.77"), toServer("10.0.0.9")}, "", taken},
		"a system takes an address":         {endpoint, request, system, []dhcpv4.Modifier{requested("10.0.0.77"), toServer("10.0.0.9")}, "", taken},
		"a system comes back to its own":    {endpoint, request, system, []dhcpv4.Modifier{requested("10.0.0.77")}, "", taken},
		"a system looks for any server":     {endpoint, request, system, []dhcpv4.Modifier{from("10.0.0.77")}, "", taken},
		"an address of another network":     {endpoint, request, system, []dhcpv4.Modifier{requested("192.168.1.77"), toServer("10.0.0.9")}, "", ""},
		"no address":                        {endpoint, request, system, nil, "", ""},
		"what we never offered":             {endpoint, request, rom, []dhcpv4.Modifier{requested("10.0.0.77"), toServer("10.0.0.1")}, "", ""},
		"decline":                           {endpoint, dhcpv4.MessageTypeDecline, rom, []dhcpv4.Modifier{requested("10.0.0.77"), toServer("10.0.0.9")}, "", ""},
		"release":                           {endpoint, dhcpv4.MessageTypeRelease, rom, []dhcpv4.Modifier{from("10.0.0.77")}, "", ""},
		"inform":                            {endpoint, inform, rom, []dhcpv4.Modifier{from("10.0.0.77")}, "", ""},
		"BOOTP":                             {endpoint, dhcpv4.MessageTypeNone, system, nil, "", ""},
		"a machine that is known by name":   {endpoint, disco, rom, nil, "OFFER 255.255.255.255:68", "discover -, offer -"},
		"late: UEFI asks for its file":      {late, request, rom, []dhcpv4.Modifier{from("10.0.0.77")}, "ACK 10.0.0.77:4011", "ack 10.0.0.77"},
		"late: names us":                    {late, request, rom, []dhcpv4.Modifier{from("10.0.0.77"), toServer("10.0.0.1")}, "ACK 10.0.0.77:4011", "ack 10.0.0.77"},
		"late: iPXE":                        {late, request, ipxe, []dhcpv4.Modifier{from("10.0.0.77")}, "ACK 10.0.0.77:4011", "ack 10.0.0.77"},
		"late: inform":                      {late, inform, rom, []dhcpv4.Modifier{from("10.0.0.77")}, "ACK 10.0.0.77:4011", "ack 10.0.0.77"},
		"late: discover":                    {late, disco, rom, []dhcpv4.Modifier{from("10.0.0.77")}, "OFFER 10.0.0.77:4011", "offer 10.0.0.77"},
		"late: no file for it":              {late, request, romPXE(11), []dhcpv4.Modifier{from("10.0.0.77")}, "", ""},
		"late: a system":                    {late, request, system, []dhcpv4.Modifier{from("10.0.0.77")}, "", ""},
		"late: release":                     {late, dhcpv4.MessageTypeRelease, rom, []dhcpv4.Modifier{from("10.0.0.77")}, "", ""},
		"late: BOOTP":                       {late, dhcpv4.MessageTypeNone, system, nil, "", ""},
		"late: has no address, says nobody": {late, request, rom, nil, "ACK 255.255.255.255:68", "ack -"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, proxied())
			src := nobody
			if c.port == late && len(c.more) > 0 {
				src = netip.MustParseAddrPort("10.0.0.77:4011")
			}
			got, to := r.sendTo(c.port, src, packet(2, c.kind, append(c.more, c.client)...))
			answer := ""
			if got != nil {
				answer = got.MessageType().String() + " " + to.String()
			}
			if answer != c.answer {
				t.Errorf("answered %q, want %q", answer, c.answer)
			}
			var events []string
			for _, e := range r.events {
				text := string(e.Kind) + " -"
				if e.Addr.IsValid() {
					text = string(e.Kind) + " " + e.Addr.String()
				}
				if e.Err != "" {
					text += " no boot file"
				}
				events = append(events, text)
				if e.Subnet != "subnet.lan" || e.Version != 7 || (e.File == "") != (e.Kind == dhcp4.SawDiscover || e.Kind == dhcp4.SawTaken) {
					t.Errorf("%+v", e)
				}
			}
			if got := strings.Join(events, ", "); got != c.events {
				t.Errorf("reported %q, want %q", got, c.events)
			}
			if l, ok := r.leases.ByMAC(mac(2)); ok {
				t.Errorf("it has a lease: %+v", l)
			}
		})
	}
}

// What each client of a boot is told beside the other server's offer, in full.
func TestProxyReplyFields(t *testing.T) {
	fields := func(class, file, siaddr string, more ...string) map[string]string {
		m := map[string]string{"yiaddr": "0.0.0.0", "siaddr": siaddr, "file": file, "sname": "", "option 54 server-identifier": "10.0.0.1",
			"option 60 vendor-class": class, "option 67 boot-file-name": file}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	const next = "option 66 tftp-server-name"
	elsewhere := fields("PXEClient", "b/ws01/snponly.efi", "10.0.0.2", next, "10.0.0.2")
	beside := maps.Clone(elsewhere)
	beside["siaddr"] = "10.0.0.1" // where EDK2 asks again
	for name, c := range map[string]struct {
		client     dhcpv4.Modifier
		offer, ack map[string]string
	}{
		"BIOS ROM":  {romPXE(0), fields("PXEClient", "b/ws01/undionly.kpxe", "10.0.0.2", next, "10.0.0.2"), nil},
		"UEFI ROM":  {romPXE(7), beside, elsewhere},
		"UEFI HTTP": {romHTTP(16), fields("HTTPClient", "http://10.0.0.2/b/ws01/snponly.efi", "10.0.0.2"), nil},
		"iPXE":      {ipxeBIOS(), fields("PXEClient", "http://10.0.0.2/b/ws01/boot.ipxe", "10.0.0.2"), nil},
		"a system":  {opt(12, 'x'), nil, nil},
		"U-Boot":    {opt(93, 0, 7), nil, nil},
		"iPXE on UEFI": {func(p *dhcpv4.DHCPv4) { romPXE(7)(p); opt(77, []byte("iPXE")...)(p) },
			fields("PXEClient", "http://10.0.0.2/b/ws01/boot.ipxe", "10.0.0.2"), nil},
		"firmware without a boot file": {romPXE(11), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(t, packet(1, disco, c.client))
			if c.ack == nil {
				c.ack = c.offer
			}
			for kind, want := range map[dhcpv4.MessageType]map[string]string{dhcpv4.MessageTypeOffer: c.offer, dhcpv4.MessageTypeAck: c.ack} {
				r := dhcp4.ProxyReply(proxied(), f, kind)
				if r == nil {
					if want != nil {
						t.Errorf("%s: nothing", kind)
					}
					continue
				}
				if diff := cmp.Diff(want, dhcp4.Fields(r)); diff != "" {
					t.Errorf("%s: -want +got\n%s", kind, diff)
				}
			}
		})
	}
}

func TestProxyReplyEchoes(t *testing.T) {
	uuid := append([]byte{0}, []byte("0123456789abcdef")...)
	p := packet(2, request, romPXE(7), opt(97, uuid...), opt(61, 1, 2, 3), opt(82, 1, 1, 'x'), relayed("10.0.0.9"), from("10.0.0.77"), dhcpv4.WithBroadcast(true))
	r := dhcp4.ProxyReply(proxied(), facts(t, p), dhcpv4.MessageTypeAck)
	if string(r.Options[97]) != string(uuid) || string(r.Options[61]) != "\x01\x02\x03" || string(r.Options[82]) != "\x01\x01x" {
		t.Errorf("options 97 %x, 61 %x, 82 %x", r.Options[97], r.Options[61], r.Options[82])
	}
	if !r.IsBroadcast() || r.GatewayIPAddr.String() != "10.0.0.9" || r.TransactionID != p.TransactionID || r.ClientIPAddr.String() != "10.0.0.77" {
		t.Errorf("flags, giaddr, xid or ciaddr: %v", r)
	}
}

// A commit changes who gives out addresses while a machine boots: from then on it
// is as the wire is, and what the machine boots stays.
func TestProxyModeIsNotPinned(t *testing.T) {
	file := func(s *dhcp4.Subnet, dir string) *dhcp4.Subnet {
		s.Boot, s.Hosts = bootTree("b/"+dir), nil
		return s
	}
	r := newRig(t, file(proxied(), "new"))
	r.pinned = &dhcp4.Table{Version: 6, Subnets: []*dhcp4.Subnet{file(lan(), "old")}}
	offer, _ := r.send(packet(2, disco, romPXE(7)))
	if offer == nil || !offer.YourIPAddr.IsUnspecified() || offer.BootFileName != "b/old/snponly.efi" {
		t.Errorf("now a proxy: %v", offer)
	}
	src := netip.MustParseAddrPort("10.0.0.77:4011")
	if ack, _ := r.sendTo(late, src, packet(2, request, romPXE(7), from("10.0.0.77"))); ack == nil || ack.BootFileName != "b/old/snponly.efi" {
		t.Errorf("now a proxy, asked on port 4011: %v", ack)
	}
	if got, _ := r.send(packet(2, request, requested("10.0.0.100"))); got != nil {
		t.Errorf("now a proxy, asked for an address: %v", got)
	}
	r = newRig(t, file(lan(), "new"))
	r.pinned = &dhcp4.Table{Version: 6, Subnets: []*dhcp4.Subnet{file(proxied(), "old")}}
	if ack := r.take(2, romPXE(7)); !lan().Pool.Contains(ip(ack.YourIPAddr.String())) || ack.BootFileName != "b/old/snponly.efi" {
		t.Errorf("now a server: %v", ack)
	}
	r.take(3) // its initramfs, or it would wait for ever
}

// A renewal that a proxy refused, or acknowledged, would be another server's lease.
func TestProxyKeepsOutOfRenewals(t *testing.T) {
	r := newRig(t, lan())
	a := r.take(2).YourIPAddr.String()
	r.table = &dhcp4.Table{Version: 8, Subnets: []*dhcp4.Subnet{proxied()}}
	for range 2 {
		if got, _ := r.send(packet(2, request, from(a))); got != nil {
			t.Errorf("%v", got)
		}
		r.now = r.now.Add(time.Hour)
	}
}

func TestClientArchitectures(t *testing.T) {
	tree := bootTree("b/x")
	tree.Targets = append(tree.Targets, dhcp4.Target{Arch: 7, HTTP: true, File: "http://10.0.0.2/b/x/7.efi"})
	names := tree
	names.ArchName = func(n uint16) string { return "the " + strings.Repeat("I", int(n)) }
	vendor := func(s string) dhcpv4.Modifier { return opt(60, []byte(s)...) }
	both := func(ms ...dhcpv4.Modifier) dhcpv4.Modifier {
		return func(p *dhcpv4.DHCPv4) {
			for _, m := range ms {
				m(p)
			}
		}
	}
	for name, c := range map[string]struct {
		boot   dhcp4.Boot
		client dhcpv4.Modifier
		arch   uint16
		file   string
		why    string
	}{
		"the first of several":                     {tree, both(vendor("PXEClient"), opt(93, 0, 0, 0, 7)), 0, "b/x/undionly.kpxe", ""},
		"a later one, where the first is nobody's": {tree, both(vendor("PXEClient"), opt(93, 0, 30, 0, 7)), 30, "b/x/snponly.efi", ""},
		"none of several":                          {names, both(vendor("PXEClient"), opt(93, 0, 3, 0, 4)), 3, "", "no boot file for client architecture 3 (the III; TFTP)"},
		"half a number":                            {tree, both(vendor("PXEClient"), opt(93, 0, 7, 0)), 7, "b/x/snponly.efi", ""},
		"too many":                                 {tree, both(vendor("PXEClient"), opt(93, append(archs(3, 20), 0, 7)...)), 3, "", "no boot file for client architecture 3 (DEC Alpha; TFTP)"},
		"only in the vendor class":                 {tree, vendor("PXEClient:Arch:00007:UNDI:003016"), 7, "b/x/snponly.efi", ""},
		"the vendor class of BIOS":                 {tree, vendor("PXEClient:Arch:00000:UNDI:002001"), 0, "b/x/undionly.kpxe", ""},
		"a vendor class without a number":          {tree, vendor("PXEClient:Arch:UNDI"), 0, "b/x/undionly.kpxe", ""},
		"a vendor class with too large a number":   {tree, vendor("PXEClient:Arch:70000:UNDI:002001"), 0, "b/x/undionly.kpxe", ""},
		"a bare vendor class":                      {tree, vendor("PXEClient"), 0, "b/x/undionly.kpxe", ""},
		"option 93 beats the vendor class":         {tree, both(vendor("PXEClient:Arch:00000:UNDI:002001"), opt(93, 0, 7)), 7, "b/x/snponly.efi", ""},
		"somebody else's vendor class":             {tree, vendor("acme:Arch:00007"), 0, "", ""},
		"HTTP with the number of PXE":              {tree, both(vendor("HTTPClient:Arch:00007:UNDI:003000"), opt(93, 0, 7)), 7, "http://10.0.0.2/b/x/7.efi", ""},
		"PXE with the number of HTTP":              {tree, both(vendor("PXEClient:Arch:00016:UNDI:003000"), opt(93, 0, 16)), 16, "", "no boot file for client architecture 16 (EFI x86-64 boot from HTTP; TFTP)"},
		"HTTP, only in the vendor class":           {tree, vendor("HTTPClient:Arch:00016:UNDI:003001"), 16, "http://10.0.0.2/b/x/snponly.efi", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts(t, packet(2, disco, c.client))
			target, why := c.boot.File(f)
			if f.Arch != c.arch || target.File != c.file || why != c.why {
				t.Errorf("architecture %d, file %q, why %q; want %d, %q, %q", f.Arch, target.File, why, c.arch, c.file, c.why)
			}
		})
	}
}

// archs gives n entries of option 93.
func archs(arch byte, n int) []byte {
	var b []byte
	for range n {
		b = append(b, 0, arch)
	}
	return b
}

// PXELINUX finds its files by options 209 and 210, whatever else has to go.
func TestPXELINUXOptions(t *testing.T) {
	s := lan()
	s.Boot = dhcp4.Boot{Targets: []dhcp4.Target{{Arch: dhcp4.AnyArch, File: "b/x/lpxelinux.0", Prefix: "http://10.0.0.2/b/x/", Config: "pxelinux.cfg/default"}}}
	f := facts(t, packet(2, disco, romPXE(0)))
	grant := dhcp4.Grant{Addr: ip("10.0.0.100"), Time: time.Minute}
	got := dhcp4.Fields(dhcp4.Reply(s, f, dhcpv4.MessageTypeOffer, grant))
	for key, want := range map[string]string{"option 208 pxelinux-magic": "f100747e", "option 209 config-file": "pxelinux.cfg/default", "option 210 path-prefix": "http://10.0.0.2/b/x/"} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
	f.MaxSize = 300
	tight := dhcp4.Fields(dhcp4.Reply(s, f, dhcpv4.MessageTypeOffer, grant))
	if tight["option 210 path-prefix"] == "" || tight["option 209 config-file"] == "" || tight["option 208 pxelinux-magic"] != "" || tight["option 3 routers"] != "" {
		t.Errorf("no room: %v", tight)
	}
	s.Proxy = true
	if got := dhcp4.Fields(dhcp4.ProxyReply(s, f, dhcpv4.MessageTypeOffer)); got["option 210 path-prefix"] == "" {
		t.Errorf("proxy: %v", got)
	}
	s.Boot.Targets[0].Prefix, s.Boot.Targets[0].Config = "", ""
	for key := range dhcp4.Fields(dhcp4.Reply(s, f, dhcpv4.MessageTypeOffer, grant)) {
		if strings.HasPrefix(key, "option 20") || strings.HasPrefix(key, "option 21") {
			t.Errorf("%s although no prefix is set", key)
		}
	}
}

// Whatever comes to a proxy, on either port: no panic, and nothing that is the other
// server's to say.
func FuzzProxy(f *testing.F) {
	for _, kind := range []dhcpv4.MessageType{0, 1, 3, 4, 7, 8} {
		for _, m := range []dhcpv4.Modifier{ipxeBIOS(), romPXE(7), romHTTP(16), opt(93, 0, 30, 0, 7), opt(60, []byte("PXEClient:Arch:00007:UNDI:003016")...)} {
			f.Add(packet(2, kind, m, requested("10.0.0.77"), toServer("10.0.0.9")).ToBytes(), false)
			f.Add(packet(2, kind, m, from("10.0.0.77")).ToBytes(), true)
		}
	}
	s := proxied()
	s.Boot.Targets = append(s.Boot.Targets, dhcp4.Target{Arch: 30, File: "b/x/lpxelinux.0", Prefix: "http://10.0.0.2/b/x/"})
	r := newRig(f, s)
	f.Fuzz(func(t *testing.T, b []byte, onLate bool) {
		ep, src := endpoint, nobody
		if onLate {
			ep, src = late, netip.MustParseAddrPort("10.0.0.77:4011")
		}
		r.events = nil
		a := r.Handle(ep, src, b)
		if n := len(r.leases.All()); n != 0 {
			t.Errorf("%d leases", n)
		}
		for _, e := range r.events {
			if e.Kind == dhcp4.SawTaken && (onLate || !s.Prefix.Contains(e.Addr)) {
				t.Errorf("%+v", e)
			}
		}
		if a == nil {
			return
		}
		out := a.Packet.ToBytes()
		p, err := dhcpv4.FromBytes(out)
		if err != nil {
			t.Fatalf("the answer cannot be read: %v", err)
		}
		facts, err := dhcp4.Parse(b)
		if err != nil || !facts.Boots() {
			t.Fatalf("%x was answered (%v)", b, err)
		}
		if kind := p.MessageType(); kind != dhcpv4.MessageTypeOffer && (kind != dhcpv4.MessageTypeAck || !onLate) {
			t.Errorf("%s on port %d", kind, ep.Listen.Port())
		}
		if !p.YourIPAddr.IsUnspecified() {
			t.Errorf("gave %s", p.YourIPAddr)
		}
		for _, code := range []uint8{1, 3, 43, 51, 58, 59, 175} {
			if _, ok := p.Options[code]; ok {
				t.Errorf("option %d", code)
			}
		}
		if len(facts.RelayInfo)+len(facts.ClientID) < 40 && len(out) > facts.MaxSize {
			t.Errorf("%d bytes for a client with room for %d", len(out), facts.MaxSize)
		}
		dhcp4.Fields(p)
	})
}
