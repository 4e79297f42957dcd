package wire

import (
	"bytes"
	"net/netip"
	"testing"
)

func addPort(a netip.AddrPort, n int) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), a.Port()+uint16(n))
}

func readAll(t testing.TB, file []byte) *Traffic {
	t.Helper()
	got, err := Read(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// FuzzRead feeds whole captures: nothing in them may do harm, and what is listed is
// in bounds.
func FuzzRead(f *testing.F) {
	p := &tape{}
	c := p.connect(clientAddr, serverAddr, [2]uint32{1, 1})
	c.send(get("/a"))
	c.reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	c.fin(toClient)
	f.Add(p.file(f))
	p = &tape{}
	c = p.connect(clientAddr, serverAddr, [2]uint32{1, 1})
	c.reply(nbdHello)
	c.send("\x00\x00\x00\x03" + nbdOpt(nbdOptGo, nbdAsk("arch")))
	c.reply(nbdRep(nbdOptGo, nbdRepInfo, nbdExportInfo) + nbdRep(nbdOptGo, nbdRepAck, ""))
	f.Add(p.file(f))
	p = &tape{}
	p.udp(tftpClient, tftpServer, tftpRequest("boot.ipxe", "blksize", "8"))
	p.udp(tftpTID, tftpClient, []byte("\x00\x06blksize\x008\x00"))
	p.serveTFTP([]byte("twenty bytes in here"), 8)
	f.Add(p.file(f))
	p.ether(clientAddr.Addr(), ipv4(clientAddr.Addr(), serverAddr.Addr(), protoUDP, 6, 0x2000, make([]byte, 16)))
	p.ether(clientAddr.Addr(), ipv4(clientAddr.Addr(), serverAddr.Addr(), protoUDP, 6, 2, make([]byte, 16)))
	p.udp(netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), make([]byte, 300))
	f.Add(p.file(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := Read(bytes.NewReader(b))
		if (got == nil) == (err == nil) {
			t.Fatalf("%v, %v", got, err)
		}
		if err != nil {
			return
		}
		checkBounds(t, got, len(b))
	})
}

// checkBounds checks what holds of all traffic, from a capture of so many bytes.
func checkBounds(t *testing.T, got *Traffic, size int) {
	t.Helper()
	for _, h := range got.HTTP {
		if len(h.Body) > MaxBody || h.Bytes > int64(size) || h.Complete && h.Digest == "" {
			t.Errorf("%+v", h)
		}
	}
	for _, x := range got.TFTP {
		if x.Bytes > int64(size) || x.Digest == "" || x.Complete && x.Failure != "" {
			t.Errorf("%+v", x)
		}
	}
	for _, n := range got.NBD {
		if len(n.Export) > maxNBDOption || n.Granted && n.Failure != "" {
			t.Errorf("%+v", n)
		}
	}
}

// FuzzPackets feeds packets that are well formed up to their payload: each is a kind,
// a number, a length and that many bytes.
func FuzzPackets(f *testing.F) {
	pack := func(parts ...any) []byte {
		var b []byte
		for i := 0; i < len(parts); i += 3 {
			text := parts[i+2].(string)
			b = append(b, byte(parts[i].(int)), byte(parts[i+1].(int)), byte(len(text)))
			b = append(b, text...)
		}
		return b
	}
	const request, toTFTPClient, toTFTPServer, fragment, up, down, dhcp = 0, 1, 2, 3, 4, 5, 6
	f.Add(pack(request, 0, "\x00\x01a\x00octet\x00blksize\x008\x00", toTFTPClient, 0, "\x00\x06blksize\x008\x00",
		toTFTPClient, 0, "\x00\x03\x00\x0112345678", toTFTPServer, 0, "\x00\x04\x00\x01",
		toTFTPClient, 0, "\x00\x03\x00\x029", toTFTPServer, 0, "\x00\x04\x00\x02"))
	f.Add(pack(fragment, 1, "12345678", fragment, 0, "12345678", fragment, 0x82, "9"))
	f.Add(pack(up, 0, get("/a"), down, 0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", down, 53, "1\r\na\r\n0\r\n\r\n"))
	f.Add(pack(down, 0, nbdHello, up, 0, "\x00\x00\x00\x03"+nbdOpt(nbdOptInfo, nbdAsk("a")), down, 18,
		nbdRep(nbdOptInfo, nbdRepInfo, nbdBlocks)+nbdRep(nbdOptInfo, nbdRepAck, "")))
	f.Add(pack(dhcp, 0, "\x01\x01\x06\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &tape{}
		p.connect(clientAddr, serverAddr, [2]uint32{0xffffffff, 0xffffffff})
		size := len(b)
		for len(b) > 3 {
			kind, n, length := b[0]%8, b[1], min(int(b[2]), len(b)-3)
			payload := b[3 : 3+length]
			b = b[3+length:]
			switch kind {
			case request:
				p.udp(tftpClient, tftpServer, payload)
			case toTFTPClient:
				p.udp(tftpTID, tftpClient, payload)
			case toTFTPServer:
				p.udp(tftpClient, tftpTID, payload)
			case fragment:
				field := uint16(n & 0x7f)
				if n < 0x80 {
					field |= 0x2000
				}
				p.ether(clientAddr.Addr(), ipv4(clientAddr.Addr(), serverAddr.Addr(), protoUDP, 1, field, payload))
			case up:
				p.tcp(clientAddr, serverAddr, uint32(n), flagACK, payload)
			case down:
				p.tcp(serverAddr, clientAddr, uint32(n), flagACK, payload)
			case dhcp:
				p.udp(addPort(clientAddr, 68-40000), addPort(serverAddr, 67-80), payload)
			default:
				p.tcp(serverAddr, clientAddr, uint32(length), n, payload)
			}
		}
		checkBounds(t, p.traffic(t), size)
	})
}
