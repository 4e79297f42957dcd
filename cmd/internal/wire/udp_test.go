package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestDHCPPackets(t *testing.T) {
	discover, err := dhcpv4.NewDiscovery(net.HardwareAddr(clientMAC[:]), dhcpv4.WithUserClass("iPXE", false))
	if err != nil {
		t.Fatal(err)
	}
	offer, err := dhcpv4.NewReplyFromRequest(discover,
		dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer), dhcpv4.WithYourIP(net.IP{10, 77, 0, 21}))
	if err != nil {
		t.Fatal(err)
	}
	var p tape
	nobody, all := netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67")
	server := netip.AddrPortFrom(serverAddr.Addr(), 67)
	p.udp(nobody, all, discover.ToBytes())
	p.udp(server, netip.MustParseAddrPort("255.255.255.255:68"), offer.ToBytes())
	p.udp(nobody, all, discover.ToBytes()[:100])
	got := p.traffic(t)
	if len(got.DHCP) != 2 || got.Malformed != 1 {
		t.Fatalf("%d packets, %d malformed", len(got.DHCP), got.Malformed)
	}
	d, o := got.DHCP[0], got.DHCP[1]
	if !d.FromClient || d.MAC != clientMAC || d.Src != nobody || d.Dst != all || !d.At.Equal(beginning) ||
		!slices.Equal(d.Packet.UserClass(), []string{"iPXE"}) {
		t.Errorf("%+v", d)
	}
	// The answer is the client's as well, though the server sent it.
	if o.FromClient || o.MAC != clientMAC || o.Src != server || o.Packet.YourIPAddr.String() != "10.77.0.21" {
		t.Errorf("%+v", o)
	}
}

var (
	tftpClient = netip.AddrPortFrom(clientAddr.Addr(), 2070)
	tftpServer = netip.AddrPortFrom(serverAddr.Addr(), 69)
	tftpTID    = netip.AddrPortFrom(serverAddr.Addr(), 50123)
)

func tftpRequest(name string, options ...string) []byte {
	return []byte("\x00\x01" + name + "\x00OCTET\x00" + zeroTerminated(options))
}

func zeroTerminated(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return strings.Join(words, "\x00") + "\x00"
}

func tftpBlock(op, n uint16, b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, op), n), b...)
}

// serveTFTP puts a transfer in lockstep on the tape, without its request.
func (p *tape) serveTFTP(b []byte, size int) {
	for n := 1; ; n++ {
		part := b[:min(size, len(b))]
		p.udp(tftpTID, tftpClient, tftpBlock(tftpData, uint16(n), part))
		p.udp(tftpClient, tftpTID, tftpBlock(tftpAck, uint16(n), nil))
		if b = b[len(part):]; len(part) < size {
			return
		}
	}
}

func TestTFTPTransfers(t *testing.T) {
	content := noise(1300)
	ask := func(p *tape, name string, options ...string) {
		p.udp(tftpClient, tftpServer, tftpRequest(name, options...))
	}
	oack := func(p *tape, options ...string) {
		p.udp(tftpTID, tftpClient, []byte("\x00\x06"+zeroTerminated(options)))
	}
	data := func(p *tape, n uint16, b []byte) { p.udp(tftpTID, tftpClient, tftpBlock(tftpData, n, b)) }
	ack := func(p *tape, n uint16) { p.udp(tftpClient, tftpTID, tftpBlock(tftpAck, n, nil)) }
	whole := TFTP{Name: "boot.ipxe", Complete: true, Bytes: 1300, Digest: sum(content)}

	for name, c := range map[string]struct {
		wire func(p *tape)
		want []TFTP
	}{
		"lockstep without options": {func(p *tape) {
			ask(p, "boot.ipxe")
			p.serveTFTP(content, 512)
		}, []TFTP{whole}},
		"options": {func(p *tape) {
			ask(p, "boot.ipxe", "TSIZE", "0", "blksize", "1432", "odd")
			oack(p, "tsize", "1300", "BlkSize", "1000")
			ack(p, 0)
			p.serveTFTP(content, 1000)
		}, []TFTP{func() TFTP {
			w := whole
			w.Asked = map[string]string{"tsize": "0", "blksize": "1432"}
			w.Granted = map[string]string{"tsize": "1300", "blksize": "1000"}
			return w
		}()}},
		"a request and data that are repeated": {func(p *tape) {
			ask(p, "boot.ipxe")
			ask(p, "boot.ipxe")
			data(p, 1, content[:512])
			ask(p, "boot.ipxe")
			data(p, 1, content[:512])
			ack(p, 1)
			data(p, 2, content[512:1024])
			data(p, 1, content[:512])
			ack(p, 2)
			data(p, 3, content[1024:])
			data(p, 3, content[1024:])
			ack(p, 3)
			ack(p, 3)
		}, []TFTP{whole}},
		"a window with a lost block": {func(p *tape) {
			ask(p, "boot.ipxe", "windowsize", "4")
			oack(p, "windowsize", "4")
			ack(p, 0)
			data(p, 1, content[:512])
			data(p, 3, content[1024:])
			ack(p, 1)
			data(p, 2, content[512:1024])
			data(p, 3, content[1024:])
			ack(p, 3)
		}, []TFTP{func() TFTP {
			w := whole
			w.Asked = map[string]string{"windowsize": "4"}
			w.Granted = map[string]string{"windowsize": "4"}
			return w
		}()}},
		"the last block is not acknowledged": {func(p *tape) {
			ask(p, "boot.ipxe")
			data(p, 1, content[:512])
			ack(p, 1)
			data(p, 2, content[512:600])
			ack(p, 1)
		}, []TFTP{{Name: "boot.ipxe", Bytes: 600, Digest: sum(content[:600])}}},
		"no such file": {func(p *tape) {
			ask(p, "nothing")
			p.udp(tftpTID, tftpClient, []byte("\x00\x05\x00\x01File not found\x00"))
		}, []TFTP{{Name: "nothing", Digest: sum(nil), Failure: "1 File not found"}}},
		"the client only wants the size, then all": {func(p *tape) {
			ask(p, "boot.ipxe", "tsize", "0")
			oack(p, "tsize", "1300")
			p.udp(tftpClient, tftpTID, []byte("\x00\x05\x00\x08User aborted\x00"))
			ask(p, "boot.ipxe")
			p.serveTFTP(content, 512)
		}, []TFTP{{
			Name: "boot.ipxe", Digest: sum(nil), Failure: "8 User aborted", Refused: true,
			Asked: map[string]string{"tsize": "0"}, Granted: map[string]string{"tsize": "1300"},
		}, whole}},
		"the same file twice from one port": {func(p *tape) {
			for range 2 {
				ask(p, "boot.ipxe")
				p.serveTFTP(content, 512)
			}
		}, []TFTP{whole, whole}},
		"another server port does not disturb": {func(p *tape) {
			ask(p, "boot.ipxe")
			data(p, 1, content[:512])
			other := netip.AddrPortFrom(serverAddr.Addr(), 50999)
			p.udp(other, tftpClient, tftpBlock(tftpData, 1, []byte("x")))
			p.udp(tftpClient, other, []byte("\x00\x05\x00\x05Unknown transfer\x00"))
			ack(p, 1)
			data(p, 2, content[512:1024])
			ack(p, 2)
			data(p, 3, content[1024:])
			ack(p, 3)
		}, []TFTP{whole}},
		"everything from port 69": {func(p *tape) {
			ask(p, "boot.ipxe")
			p.udp(tftpServer, tftpClient, tftpBlock(tftpData, 1, []byte("#!ipxe\n")))
			p.udp(tftpClient, tftpServer, tftpBlock(tftpAck, 1, nil))
		}, []TFTP{{Name: "boot.ipxe", Complete: true, Bytes: 7, Digest: sum([]byte("#!ipxe\n"))}}},
		"not TFTP": {func(p *tape) {
			p.udp(tftpClient, tftpServer, []byte("\x00\x01\x00\x00"))
			p.udp(tftpClient, tftpServer, []byte("\x00\x01name\x00mail\x00"))
			p.udp(tftpClient, tftpServer, []byte("\x00\x01name"))
			p.udp(tftpClient, tftpServer, []byte("\x00"))
			ack(p, 1)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var p tape
			c.wire(&p)
			var got []TFTP
			for _, x := range p.traffic(t).TFTP {
				if x.MAC != clientMAC || x.Client != tftpClient || x.Server != tftpServer || x.Mode != "octet" || x.End.Before(x.At) || x.LastByte.After(x.End) || x.LastByte.IsZero() != (x.Bytes == 0) {
					t.Errorf("%+v", x)
				}
				short := *x
				short.MAC, short.Client, short.Server, short.Mode = TFTP{}.MAC, netip.AddrPort{}, netip.AddrPort{}, ""
				short.At, short.End, short.LastByte = time.Time{}, time.Time{}, time.Time{}
				got = append(got, short)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTFTPBlockNumbersWrap(t *testing.T) {
	content := noise(8*(1<<16+100) + 3)
	var p tape
	p.udp(tftpClient, tftpServer, tftpRequest("big", "blksize", "8"))
	p.udp(tftpTID, tftpClient, []byte("\x00\x06blksize\x008\x00"))
	p.serveTFTP(content, 8)
	got := p.traffic(t).TFTP
	if len(got) != 1 || !got[0].Complete || got[0].Digest != sum(content) {
		t.Errorf("%+v", got)
	}
}

func TestFragmentsOfADatagram(t *testing.T) {
	content := noise(5000)
	datagram := udpDatagram(tftpTID, tftpClient, tftpBlock(tftpData, 1, content))
	type cut struct{ from, to int }
	for name, order := range map[string][]cut{
		"in order":    {{0, 1480}, {1480, 2960}, {2960, 4440}, {4440, len(datagram)}},
		"reversed":    {{4440, len(datagram)}, {2960, 4440}, {1480, 2960}, {0, 1480}},
		"overlapping": {{0, 2960}, {1480, 4440}, {1480, 2960}, {4440, len(datagram)}},
	} {
		var p tape
		p.udp(tftpClient, tftpServer, tftpRequest("big", "blksize", "8192"))
		p.udp(tftpTID, tftpClient, []byte("\x00\x06blksize\x008192\x00"))
		for i, c := range order {
			field := uint16(c.from / 8)
			if c.to < len(datagram) {
				field |= 0x2000
			}
			if i == 1 { // a fragment of another datagram comes between
				p.ether(tftpTID.Addr(), ipv4(tftpTID.Addr(), tftpClient.Addr(), protoUDP, 7, 0x2000, datagram[:8]))
			}
			p.ether(tftpTID.Addr(), ipv4(tftpTID.Addr(), tftpClient.Addr(), protoUDP, 6, field, datagram[c.from:c.to]))
		}
		p.udp(tftpClient, tftpTID, tftpBlock(tftpAck, 1, nil))
		got := p.traffic(t).TFTP
		if len(got) != 1 || !got[0].Complete || got[0].Digest != sum(content) {
			t.Errorf("%s: %+v", name, got[0])
		}
	}
}

func TestFragmentsThatStayAloneAreBounded(t *testing.T) {
	f := fragments{open: map[fragmentKey]*datagram{}}
	for i := range 20000 {
		key := fragmentKey{src: clientAddr.Addr(), dst: serverAddr.Addr(), id: uint16(i)}
		if _, ok := f.add(key, 0, true, []byte("12345678")); ok {
			t.Fatal("half a datagram is whole")
		}
		if i%3 == 0 {
			if b, ok := f.add(key, 8, false, []byte("9")); !ok || string(b) != "123456789" {
				t.Fatalf("%q, %v", b, ok)
			}
		}
	}
	if len(f.open) > maxDatagrams || len(f.age) > 5*maxDatagrams {
		t.Errorf("%d wait, %d names", len(f.open), len(f.age))
	}
	if _, ok := f.add(fragmentKey{}, maxDatagram, false, []byte("x")); ok {
		t.Error("a datagram of more than 64 KiB")
	}
}

func TestTagsAreLookedThrough(t *testing.T) {
	var p tape
	p.udp(tftpClient, tftpServer, tftpRequest("boot.ipxe"))
	plain := p.frames[0]
	for tags := 1; tags <= 3; tags++ {
		f := append([]byte(nil), plain[:12]...)
		for range tags {
			f = append(f, 0x81, 0, 0, 42)
		}
		got := (&tape{frames: [][]byte{append(f, plain[12:]...)}}).traffic(t)
		if want := map[bool]int{true: 1}[tags <= 2]; len(got.TFTP) != want {
			t.Errorf("%d tags: %d requests, want %d", tags, len(got.TFTP), want)
		}
	}
	// No prefix of a frame does harm.
	for n := range plain {
		got := (&tape{frames: [][]byte{plain[:n]}}).traffic(t)
		if len(got.TFTP) > 1 {
			t.Error(fmt.Sprint(n))
		}
	}
}
