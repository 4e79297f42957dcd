package httpboot

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/providers/internal/faultnet"
)

// TCP flags, RFC 9293 section 3.1.
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

// grub is a machine that speaks TCP as GRUB does: it uses the same ports at every
// boot, and does not stay to see its connections closed.
type grub struct {
	t          *testing.T
	conn       *packet.Conn
	to         *packet.Addr
	self, peer netip.AddrPort

	seq, next uint32 // what we send next; what we expect
	body      []byte
}

// segment is what arrives.
type segment struct {
	flags byte
	seq   uint32
	ack   uint32
	data  []byte
}

// newGRUB gives a machine and the server it talks to, on a wire of their own. The
// kernel of the machine knows nothing of its address.
func newGRUB(t *testing.T, gone time.Duration) (*grub, *served) {
	t.Helper()
	n := faultnet.New(t)
	server, client := n.Space("server", "10.0.0.1/24"), n.Space("client", "10.0.0.2/24")
	mac := net.HardwareAddr(client.MAC[:])
	server.Run("ip", "neigh", "add", "10.0.0.9", "lladdr", mac.String(), "dev", faultnet.Interface)
	g := &grub{t: t, to: &packet.Addr{HardwareAddr: net.HardwareAddr(server.MAC[:])}, self: netip.MustParseAddrPort("10.0.0.9:21550")}
	var ln *net.TCPListener
	if err := server.Do(func() (err error) {
		ln, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1)})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	g.peer = ln.Addr().(*net.TCPAddr).AddrPort()
	if err := client.Do(func() error {
		ifi, err := net.InterfaceByName(faultnet.Interface)
		if err == nil {
			g.conn, err = packet.Listen(ifi, packet.Datagram, unix.ETH_P_IP, nil)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.conn.Close() })
	return g, serveOn(t, Config{}, map[string][]byte{"f": random(100_000)}, ln, gone)
}

func sum(parts ...[]byte) uint16 {
	var n uint32
	for _, p := range parts {
		for i := 0; i < len(p); i += 2 {
			w := uint32(p[i]) << 8
			if i+1 < len(p) {
				w |= uint32(p[i+1])
			}
			n += w
		}
	}
	for n > 0xffff {
		n = n>>16 + n&0xffff
	}
	return ^uint16(n)
}

// send sends one segment.
func (g *grub) send(flags byte, data string) {
	g.t.Helper()
	tcp := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(tcp[0:], g.self.Port())
	binary.BigEndian.PutUint16(tcp[2:], g.peer.Port())
	binary.BigEndian.PutUint32(tcp[4:], g.seq)
	if flags&ack != 0 {
		binary.BigEndian.PutUint32(tcp[8:], g.next)
	}
	tcp[12], tcp[13] = 5<<4, flags
	binary.BigEndian.PutUint16(tcp[14:], 0xffff)
	tcp = append(tcp, data...)
	src, dst := g.self.Addr().As4(), g.peer.Addr().As4()
	pseudo := append(append(append([]byte{}, src[:]...), dst[:]...), 0, 6, byte(len(tcp)>>8), byte(len(tcp)))
	binary.BigEndian.PutUint16(tcp[16:], sum(pseudo, tcp))
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(tcp)))
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], sum(ip))
	if _, err := g.conn.WriteTo(append(ip, tcp...), g.to); err != nil {
		g.t.Fatal(err)
	}
	g.seq += uint32(len(data))
	if flags&(syn|fin) != 0 {
		g.seq++
	}
}

// receive gives the next segment for us; ok is false when there is none for a while.
func (g *grub) receive(patience time.Duration) (s segment, ok bool) {
	g.t.Helper()
	p := make([]byte, 65536)
	self := g.self.Addr().As4()
	g.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		n, _, err := g.conn.ReadFrom(p)
		if err != nil {
			return s, false
		}
		ip := p[:n]
		if n < 40 || ip[9] != 6 || [4]byte(ip[16:20]) != self {
			continue
		}
		ip = ip[:binary.BigEndian.Uint16(ip[2:])]
		tcp := ip[int(ip[0]&15)*4:]
		return segment{tcp[13], binary.BigEndian.Uint32(tcp[4:]), binary.BigEndian.Uint32(tcp[8:]), tcp[tcp[12]>>4*4:]}, true
	}
}

// connect sends a SYN and reports whether it is answered; what is not, GRUB sends
// again.
func (g *grub) connect(seq uint32, tries int) bool {
	g.t.Helper()
	for range tries {
		g.seq, g.body = seq, nil
		g.send(syn, "")
		for {
			s, ok := g.receive(200 * time.Millisecond)
			if !ok {
				break
			}
			if s.flags&(syn|ack) == syn|ack && s.ack == seq+1 {
				g.next = s.seq + 1
				g.send(ack, "")
				return true
			}
		}
	}
	return false
}

// get fetches the file, and acknowledges all of it but the last segment unless whole
// is set.
func (g *grub) get(whole bool) {
	g.t.Helper()
	g.send(ack|psh, "GET /f HTTP/1.1\r\nHost: 10.0.0.1\r\nUser-Agent: GRUB 2.06\r\n\r\n")
	for {
		s, ok := g.receive(10 * time.Second)
		if !ok || s.flags&rst != 0 {
			g.t.Fatalf("%d bytes, and then nothing (%+v)", len(g.body), s)
		}
		if s.seq != g.next || len(s.data) == 0 {
			continue // sent again
		}
		g.body = append(g.body, s.data...)
		done := false
		if _, body, ok := strings.Cut(string(g.body), "\r\n\r\n"); ok {
			done = len(body) == 100_000
		}
		if done && !whole {
			return
		}
		g.next += uint32(len(s.data))
		g.send(ack, "")
		if done {
			return
		}
	}
}

// GRUB uses the same local ports at every boot. Its first connection of the next one
// met what was left of the last one of the boot before: it timed out, GRUB went on
// without an initrd, and the kernel panicked.
func TestNextBootOfGRUBMeetsNoOldConnection(t *testing.T) {
	t.Parallel()
	g, s := newGRUB(t, goneTimeout)
	for boot := range 3 {
		if !g.connect(uint32(1000+boot), 20) {
			t.Fatalf("boot %d: no answer to its SYN", boot)
		}
		g.get(true)
		s.next()
		g.send(fin|ack, "")
		// It is gone: what the server says to that, nobody hears. That it says
		// something is all that we wait for.
		for {
			if s, ok := g.receive(10 * time.Second); !ok || s.flags&rst != 0 {
				break
			}
		}
	}
}

// The same where the machine is gone before it has acknowledged the end of the file:
// a reset at once would destroy what somebody slow still reads.
func TestUnacknowledgedCloseDoesNotStay(t *testing.T) {
	t.Parallel()
	g, s := newGRUB(t, 300*time.Millisecond)
	if !g.connect(1000, 20) {
		t.Fatal("no answer to a SYN")
	}
	g.get(false)
	s.next()
	g.send(fin|ack, "")
	if !g.connect(5_000_000, 50) {
		t.Error("no answer to the next boot's SYN")
	}
	g.get(true)
	g.send(rst, "")
}
