package wire

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// What UEFI firmware, shim and GRUB do one after the other, as one list.
func TestFetches(t *testing.T) {
	loader, menu := noise(700), []byte("set timeout=0\n")
	var p tape
	// EDK2 asks for the size, refuses the transfer, and asks again.
	p.udp(tftpClient, tftpServer, tftpRequest("b/x/shimx64.efi", "tsize", "0", "blksize", "1468", "windowsize", "4"))
	p.udp(tftpTID, tftpClient, []byte("\x00\x06tsize\x00700\x00blksize\x001468\x00windowsize\x004\x00"))
	p.udp(tftpClient, tftpTID, tftpBlock(tftpError, 8, []byte("User aborted the transfer\x00")))
	p.udp(tftpClient, tftpServer, tftpRequest("b/x/shimx64.efi", "blksize", "1468", "windowsize", "4"))
	p.udp(tftpTID, tftpClient, []byte("\x00\x06blksize\x001468\x00windowsize\x004\x00"))
	p.udp(tftpClient, tftpTID, tftpBlock(tftpAck, 0, nil))
	p.serveTFTP(loader, 1468)
	// shim looks for what is not there.
	p.udp(tftpClient, tftpServer, tftpRequest("b/x//revocations.efi"))
	p.udp(tftpTID, tftpClient, tftpBlock(tftpError, 1, []byte("no such file\x00")))
	// GRUB begins with a slash, and stops reading a file where it has enough.
	p.udp(tftpClient, tftpServer, tftpRequest("/b/x/grub.cfg"))
	p.udp(tftpTID, tftpClient, tftpBlock(tftpData, 1, menu))
	p.udp(tftpTID, tftpClient, tftpBlock(tftpData, 1, menu))
	p.udp(tftpClient, tftpTID, tftpBlock(tftpAck, 1, nil))
	p.udp(tftpClient, tftpServer, tftpRequest("/b/x/fonts/unicode.pf2"))
	p.udp(tftpTID, tftpClient, tftpBlock(tftpData, 1, loader[:512]))
	p.udp(tftpClient, tftpTID, tftpBlock(tftpError, 0, []byte("closed\x00")))
	// A server that is not there.
	p.udp(tftpClient, tftpServer, tftpRequest("/grub.cfg"))
	// HTTP boot.
	c := p.connect(clientAddr, serverAddr, [2]uint32{1, 1})
	c.send("HEAD /b/x/core.efi HTTP/1.1\r\nHost: h\r\n\r\n")
	c.reply("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
	c.reset(toServer)
	d := p.connect(netip.AddrPortFrom(clientAddr.Addr(), 40001), serverAddr, [2]uint32{9, 9})
	d.send(get("/b/x//a%20b?mac=1"))
	d.reply("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	d.send(get("/b/x/none"))
	d.reply("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n")
	d.send(get("/b/x/cut"))
	d.reply("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
	d.reset(toServer)

	want := []Fetch{
		{Protocol: "tftp", Asked: "b/x/shimx64.efi", Name: "b/x/shimx64.efi", Answered: true, Found: true, Bytes: 700, Digest: sum(loader), Whole: true},
		{Protocol: "tftp", Asked: "b/x//revocations.efi", Name: "b/x/revocations.efi", Answered: true, Digest: sum(nil)},
		{Protocol: "tftp", Asked: "/b/x/grub.cfg", Name: "b/x/grub.cfg", Answered: true, Found: true, Bytes: 14, Digest: sum(menu), Whole: true},
		{Protocol: "tftp", Asked: "/b/x/fonts/unicode.pf2", Name: "b/x/fonts/unicode.pf2", Answered: true, Found: true, Bytes: 512, Digest: sum(loader[:512])},
		{Protocol: "tftp", Asked: "/grub.cfg", Name: "grub.cfg", Digest: sum(nil)},
		{Protocol: "http", Asked: "/b/x//a%20b?mac=1", Name: "b/x/a b", Answered: true, Found: true, Bytes: 5, Digest: sum([]byte("hello")), Whole: true},
		{Protocol: "http", Asked: "/b/x/none", Name: "b/x/none", Answered: true, Bytes: 3, Digest: sum([]byte("no\n"))},
		{Protocol: "http", Asked: "/b/x/cut", Name: "b/x/cut", Answered: true, Found: true, Bytes: 2, Digest: sum([]byte("he"))},
	}
	traffic := p.traffic(t)
	got := traffic.Fetches()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Fetch{}, "At", "End", "MAC")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// The last block of grub.cfg is repeated once more, after its transfer's last byte.
	if script := traffic.TFTP[3]; !got[2].End.Equal(script.LastByte) || !script.End.After(script.LastByte) {
		t.Errorf("%s ends at %v, the transfer at %v", got[2].Name, got[2].End, script.End)
	}
	for _, f := range got {
		if f.MAC != clientMAC || f.End.Before(f.At) {
			t.Errorf("%+v", f)
		}
	}
	if traffic.Malformed != 0 {
		t.Errorf("%d malformed", traffic.Malformed)
	}
}

// A machine on a segment with a DHCP server and a proxy, and the initramfs that
// follows.
func TestExchanges(t *testing.T) {
	hw := net.HardwareAddr(clientMAC[:])
	firmware, err := dhcpv4.NewDiscovery(hw,
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003000")),
		dhcpv4.WithOption(dhcpv4.OptClientArch(iana.EFI_X86_64)))
	if err != nil {
		t.Fatal(err)
	}
	system, err := dhcpv4.NewDiscovery(hw)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(to *dhcpv4.DHCPv4, kind dhcpv4.MessageType, address net.IP) []byte {
		p, err := dhcpv4.NewReplyFromRequest(to, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(address))
		if err != nil {
			t.Fatal(err)
		}
		return p.ToBytes()
	}
	address := net.IP{10, 77, 0, 21}
	theirs, ours := netip.MustParseAddr("10.77.0.2"), serverAddr.Addr()
	nobody, all := netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67")
	client := netip.MustParseAddrPort("255.255.255.255:68")
	var p tape
	p.udp(nobody, all, firmware.ToBytes())
	p.udp(netip.AddrPortFrom(ours, 67), client, answer(firmware, dhcpv4.MessageTypeOffer, net.IPv4zero))
	p.udp(netip.AddrPortFrom(theirs, 67), client, answer(firmware, dhcpv4.MessageTypeOffer, address))
	p.udp(nobody, all, firmware.ToBytes())
	p.udp(netip.AddrPortFrom(theirs, 67), client, answer(firmware, dhcpv4.MessageTypeAck, address))
	p.udp(netip.MustParseAddrPort("10.77.0.21:68"), netip.AddrPortFrom(ours, 4011), firmware.ToBytes())
	p.udp(netip.AddrPortFrom(ours, 4011), netip.MustParseAddrPort("10.77.0.21:68"), answer(firmware, dhcpv4.MessageTypeAck, net.IPv4zero))
	p.udp(nobody, all, system.ToBytes())

	type row struct {
		Port                   uint16
		Asked, Answers, Ours   int
		Vendor, Class, Address string
		Arch                   uint16
	}
	var got []row
	for _, x := range p.traffic(t).Exchanges() {
		r := row{Port: x.Port, Asked: len(x.Asked), Answers: len(x.Answers), Ours: len(x.From(ours))}
		r.Vendor, r.Class, r.Arch = x.Said()
		if ack, ok := x.Acknowledged(); ok {
			r.Address = ack.Packet.YourIPAddr.String()
		}
		if x.MAC != clientMAC {
			t.Errorf("%+v", x)
		}
		got = append(got, r)
	}
	want := []row{
		{Port: 67, Asked: 2, Answers: 3, Ours: 1, Vendor: "PXEClient", Address: "10.77.0.21", Arch: 7},
		{Port: 4011, Asked: 1, Answers: 1, Ours: 1, Vendor: "PXEClient", Arch: 7},
		{Port: 67, Asked: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
