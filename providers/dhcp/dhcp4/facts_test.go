package dhcp4_test

import (
	"net"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/dlreconcile/dlreconcile/providers/dhcp/dhcp4"
)

func TestParse(t *testing.T) {
	bootp := packet(1, dhcpv4.MessageTypeNone).ToBytes()
	for name, c := range map[string]struct {
		in   []byte
		want func(*dhcp4.Facts) bool
	}{
		"iPXE says its class without a length": {
			packet(1, dhcpv4.MessageTypeDiscover, ipxeBIOS()).ToBytes(),
			func(f *dhcp4.Facts) bool {
				return f.Class == "iPXE" && f.Vendor == "PXEClient" && f.HasArch && f.Arch == 0 && f.MaxSize == 1472-28
			},
		},
		"RFC 3004 user classes": {
			packet(1, dhcpv4.MessageTypeDiscover, dhcpv4.WithUserClass("rack-7", true), opt(77, 6, 'r', 'a', 'c', 'k', '-', '7', 4, 'i', 'P', 'X', 'E')).ToBytes(),
			func(f *dhcp4.Facts) bool { return f.Class == "iPXE" },
		},
		"one RFC 3004 user class": {
			packet(1, dhcpv4.MessageTypeDiscover, opt(77, 6, 'r', 'a', 'c', 'k', '-', '7')).ToBytes(),
			func(f *dhcp4.Facts) bool { return f.Class == "rack-7" },
		},
		"OVMF has room for 65280 bytes": {
			packet(1, dhcpv4.MessageTypeRequest, romPXE(7)).ToBytes(),
			func(f *dhcp4.Facts) bool { return f.MaxSize == 1472 && f.Arch == 7 && f.Class == "" },
		},
		"less room than everybody must have": {
			packet(1, dhcpv4.MessageTypeDiscover, opt(57, 0, 50)).ToBytes(),
			func(f *dhcp4.Facts) bool { return f.MaxSize == 548 },
		},
		"klibc ipconfig says nothing": {
			packet(1, dhcpv4.MessageTypeDiscover).ToBytes(),
			func(f *dhcp4.Facts) bool {
				return f.Vendor == "" && !f.HasArch && f.ClientID == nil && f.MachineID == nil
			},
		},
		"BOOTP with options": {bootp, func(f *dhcp4.Facts) bool { return f.Type == 0 && f.MaxSize == 300 }},
		"BOOTP with zeros for options": {
			append(append([]byte{}, bootp[:236]...), make([]byte, 64)...),
			func(f *dhcp4.Facts) bool { return f.Type == 0 && f.MAC == mac(1) },
		},
		"BOOTP without options":   {bootp[:236], func(f *dhcp4.Facts) bool { return f.Type == 0 && f.MAC == mac(1) }},
		"options without an end":  {append(append([]byte{}, bootp[:240]...), 53, 1, 1), func(f *dhcp4.Facts) bool { return f.Type == dhcpv4.MessageTypeDiscover }},
		"control characters":      {packet(1, dhcpv4.MessageTypeDiscover, opt(60, 'P', 'X', 'E', 27, '[', '2', 'J')).ToBytes(), func(f *dhcp4.Facts) bool { return f.Vendor == "PXE" }},
		"a very long vendor name": {packet(1, dhcpv4.MessageTypeDiscover, opt(60, []byte(string(make([]byte, 0))+repeat('x', 250))...)).ToBytes(), func(f *dhcp4.Facts) bool { return len(f.Vendor) == 64 }},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := dhcp4.Parse(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if !c.want(f) {
				t.Errorf("%+v", f)
			}
		})
	}
}

func repeat(c byte, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = c
	}
	return string(b)
}

func TestParseRefuses(t *testing.T) {
	good := packet(1, dhcpv4.MessageTypeDiscover)
	reply := packet(1, dhcpv4.MessageTypeOffer)
	reply.OpCode = dhcpv4.OpcodeBootReply
	group := packet(1, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}))
	infiniband := packet(1, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(nil))
	for name, b := range map[string][]byte{
		"nothing":               nil,
		"half a header":         good.ToBytes()[:100],
		"a reply":               reply.ToBytes(),
		"a group address":       group.ToBytes(),
		"no hardware address":   infiniband.ToBytes(),
		"an option cut short":   append(append([]byte{}, good.ToBytes()[:240]...), 53, 200, 1),
		"larger than any frame": append(good.ToBytes(), make([]byte, dhcp4.MaxPacket)...),
	} {
		if f, err := dhcp4.Parse(b); err == nil {
			t.Errorf("%s: read as %+v", name, f)
		}
	}
}

// Whatever comes: no panic, and an answer that its client can read.
func FuzzHandle(f *testing.F) {
	for _, kind := range []dhcpv4.MessageType{0, 1, 3, 4, 7, 8} {
		for _, m := range []dhcpv4.Modifier{ipxeBIOS(), romPXE(7), romHTTP(16), requested("10.0.0.100"), from("10.0.0.100"), relayed("10.0.0.9"), toServer("10.0.0.1"), opt(82, 1, 2, 3, 4)} {
			f.Add(packet(1, kind, m).ToBytes())
			f.Add(packet(2, kind, m, requested("10.0.0.101")).ToBytes())
		}
	}
	r := newRig(f, lan())
	f.Fuzz(func(t *testing.T, b []byte) {
		a := r.Handle(endpoint, nobody, b)
		if a == nil {
			return
		}
		out := a.Packet.ToBytes()
		p, err := dhcpv4.FromBytes(out)
		if err != nil {
			t.Fatalf("the answer cannot be read: %v", err)
		}
		facts, err := dhcp4.Parse(b)
		if err != nil {
			t.Fatalf("%x was answered, and cannot be read: %v", b, err)
		}
		if len(facts.RelayInfo)+len(facts.ClientID) < 40 && len(out) > facts.MaxSize {
			t.Errorf("%d bytes for a client with room for %d", len(out), facts.MaxSize)
		}
		if _, ok := p.Options[43]; ok {
			t.Error("option 43")
		}
		dhcp4.Fields(p)
	})
}
