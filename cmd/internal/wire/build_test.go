package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

var (
	clientMAC  = provider.MAC{0x52, 0x54, 0, 0, 0, 1}
	serverMAC  = provider.MAC{2, 0xd1, 0, 0, 0, 1}
	clientAddr = netip.MustParseAddrPort("10.77.0.21:40000")
	serverAddr = netip.MustParseAddrPort("10.77.0.1:80")
	beginning  = time.Unix(1700000000, 0)
)

// tape is a capture in the making.
type tape struct {
	frames [][]byte
}

// ether puts an IPv4 packet between the two machines.
func (p *tape) ether(from netip.Addr, packet []byte) {
	src, dst := clientMAC, serverMAC
	if from == serverAddr.Addr() {
		src, dst = dst, src
	}
	f := append(append(append([]byte(nil), dst[:]...), src[:]...), 8, 0)
	f = append(f, packet...)
	for len(f) < 60 { // the shortest frame; what is behind the packet is padding
		f = append(f, 0xee)
	}
	p.frames = append(p.frames, f)
}

// ipv4 makes a packet, with 4 bytes of options in its header when the payload is of
// odd length.
func ipv4(src, dst netip.Addr, proto byte, ident, field uint16, payload []byte) []byte {
	options := options(payload)
	b := []byte{0x45 + byte(len(options)/4), 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(options)+len(payload)))
	b = binary.BigEndian.AppendUint16(b, ident)
	b = binary.BigEndian.AppendUint16(b, field)
	b = append(b, 64, proto, 0, 0)
	s, d := src.As4(), dst.As4()
	b = append(append(b, s[:]...), d[:]...)
	return append(append(b, options...), payload...)
}

func options(payload []byte) []byte {
	if len(payload)%2 == 1 {
		return []byte{1, 1, 1, 0} // the same in IPv4 and TCP: nothing, and the end
	}
	return nil
}

func (p *tape) udp(from, to netip.AddrPort, payload []byte) {
	p.ether(from.Addr(), ipv4(from.Addr(), to.Addr(), protoUDP, 0, 0, udpDatagram(from, to, payload)))
}

func udpDatagram(from, to netip.AddrPort, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

// tcp puts one segment on the tape.
func (p *tape) tcp(from, to netip.AddrPort, seq uint32, flags byte, payload []byte) {
	b := binary.BigEndian.AppendUint16(nil, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, 0)
	options := options(payload)
	b = append(b, byte(5+len(options)/4)<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	b = append(b, options...)
	p.ether(from.Addr(), ipv4(from.Addr(), to.Addr(), protoTCP, 0, 0, append(b, payload...)))
}

// talk is one TCP connection on a tape.
type talk struct {
	*tape
	client, server netip.AddrPort
	seq            [2]uint32
	mtu            int
}

// connect opens a connection with the given initial sequence numbers.
func (p *tape) connect(client, server netip.AddrPort, isn [2]uint32) *talk {
	c := &talk{tape: p, client: client, server: server, seq: isn, mtu: 1000}
	p.tcp(client, server, isn[toServer], flagSYN, nil)
	p.tcp(server, client, isn[toClient], flagSYN|flagACK, nil)
	c.seq[toServer]++
	c.seq[toClient]++
	return c
}

func (c *talk) ends(dir direction) (from, to netip.AddrPort) {
	if dir == toServer {
		return c.client, c.server
	}
	return c.server, c.client
}

func (c *talk) say(dir direction, text string) {
	from, to := c.ends(dir)
	for b := []byte(text); len(b) > 0; {
		n := min(c.mtu, len(b))
		c.tcp(from, to, c.seq[dir], flagACK, b[:n])
		c.seq[dir] += uint32(n)
		b = b[n:]
	}
}

func (c *talk) send(text string)  { c.say(toServer, text) }
func (c *talk) reply(text string) { c.say(toClient, text) }

func (c *talk) fin(dir direction) {
	from, to := c.ends(dir)
	c.tcp(from, to, c.seq[dir], flagFIN|flagACK, nil)
}

func (c *talk) reset(dir direction) {
	from, to := c.ends(dir)
	c.tcp(from, to, c.seq[dir], flagRST, nil)
}

// file gives the tape as a pcap file, its frames a millisecond apart.
func (p *tape) file(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range p.frames {
		if err := w.Write(beginning.Add(time.Duration(i)*time.Millisecond), f, len(f)); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// traffic reads the tape.
func (p *tape) traffic(t testing.TB) *Traffic {
	t.Helper()
	got, err := Read(bytes.NewReader(p.file(t)))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

// noise gives n bytes that repeat only after a long time.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
