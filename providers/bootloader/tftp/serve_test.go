package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a server under test, with the files it has.
type served struct {
	*Server
	t     *testing.T
	addr  netip.AddrPort
	conn  *net.UDPConn
	files map[string][]byte
	stop  context.CancelFunc
	ended chan error

	opened, released atomic.Int64
	done             chan Transfer
}

type memFile struct {
	*bytes.Reader
	s *served
}

func (f memFile) Release() { f.s.released.Add(1) }

func serve(t *testing.T, listen string, cfg Config, files map[string][]byte) *served {
	t.Helper()
	s := &served{t: t, files: files, ended: make(chan error, 1), done: make(chan Transfer, 4096)}
	before := cfg.Open
	cfg.Open = func(r Request) (File, error) {
		name := r.Name
		if before != nil {
			if _, err := before(r); err != nil {
				return nil, err
			}
		}
		b, ok := s.files[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		s.opened.Add(1)
		return memFile{bytes.NewReader(b), s}, nil
	}
	cfg.Done = func(tr Transfer) { s.done <- tr }
	if cfg.Timeout == 0 {
		cfg.Timeout = 100 * time.Millisecond
	}
	s.Server = NewServer(cfg)
	laddr := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(listen))
	conn, err := net.ListenUDP("udp4", laddr)
	if err != nil {
		t.Fatal(err)
	}
	s.conn, s.addr = conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	go func() { s.ended <- s.Serve(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if s.ended != nil {
			if err := <-s.ended; err != nil {
				t.Error("Serve:", err)
			}
		}
		if o, r := s.opened.Load(), s.released.Load(); o != r {
			t.Errorf("%d files opened, %d released", o, r)
		}
		if n := s.Active(); n != 0 {
			t.Errorf("%d transfers still counted", n)
		}
	})
	return s
}

// next gives the next transfer that ended.
func (s *served) next() Transfer {
	s.t.Helper()
	select {
	case tr := <-s.done:
		return tr
	case <-time.After(10 * time.Second):
		s.t.Fatal("no transfer ended")
		panic("unreachable")
	}
}

// client is a TFTP client made of packets.
type client struct {
	t    *testing.T
	conn *net.UDPConn
	to   *net.UDPAddr // where the request goes; then the server's transfer port
	last []byte
	buf  [70000]byte
}

func dial(t *testing.T, addr netip.AddrPort) *client {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, conn: conn, to: net.UDPAddrFromAddrPort(addr)}
}

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.conn.WriteToUDP(p, c.to); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) ack(block uint16) {
	c.t.Helper()
	c.send(binary.BigEndian.AppendUint16([]byte{0, opACK}, block))
}

func (c *client) fail(code uint16) { c.t.Helper(); c.send(appendError(nil, code, "client says so")) }

// read takes the next packet and fails the test when there is none. Later packets
// go to where it came from.
func (c *client) read() (op, arg uint16, data []byte) {
	c.t.Helper()
	op, arg, data, ok := c.poll(5 * time.Second)
	if !ok {
		c.t.Fatal("no packet from the server")
	}
	return op, arg, data
}

func (c *client) poll(wait time.Duration) (op, arg uint16, data []byte, ok bool) {
	c.t.Helper()
	buf := c.buf[:]
	c.conn.SetReadDeadline(time.Now().Add(wait))
	n, from, err := c.conn.ReadFromUDP(buf)
	if err != nil {
		return 0, 0, nil, false
	}
	if n < 4 {
		c.t.Fatalf("%d bytes from the server", n)
	}
	c.to, c.last = from, buf[:n]
	op = binary.BigEndian.Uint16(buf)
	if op == opOACK {
		return op, 0, buf[2:n], true
	}
	return op, binary.BigEndian.Uint16(buf[2:]), buf[4:n], true
}

func (c *client) wantOACK(options string) {
	c.t.Helper()
	op, _, data := c.read()
	if op != opOACK || string(data) != options {
		c.t.Fatalf("opcode %d %q, want OACK %q", op, data, options)
	}
}

// receive takes data blocks until the short one, acknowledging every window-th.
// Blocks for which drop says so are lost, once. It behaves like EDK2's client:
// each block it does not expect is answered by acknowledging the last good one.
func (c *client) receive(block, window int, drop func(n int) bool) []byte {
	c.t.Helper()
	var got []byte
	dropped := map[int]bool{}
	for want, inWindow := 1, 0; ; {
		op, n, data := c.read()
		if op != opDATA {
			c.t.Fatalf("opcode %d arg %d %q while waiting for block %d", op, n, data, want)
		}
		if n == uint16(want) && drop != nil && drop(want) && !dropped[want] {
			dropped[want] = true
			continue
		}
		if n != uint16(want) {
			c.ack(uint16(want - 1))
			inWindow = 0
			continue
		}
		got = append(got, data...)
		want++
		if inWindow++; inWindow == window || len(data) < block {
			c.ack(n)
			inWindow = 0
		}
		if len(data) < block {
			return got
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func openFiles(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// lossy carries datagrams between one client and the server, and loses each but
// the requests with probability p. It gives the address to send requests to.
//
// Of the OACK one copy gets through. atftp breaks off at a second one, where RFC 2347
// has the server send it again; and that is done here whenever the client was not given
// a processor for longer than the timeout, which is short in these tests.
func lossy(t *testing.T, server netip.AddrPort, p float64) netip.AddrPort {
	t.Helper()
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	front, up, down := listen(), listen(), listen()
	var mu sync.Mutex // guards the five below
	rng := rand.New(rand.NewPCG(7, 11))
	told := false // the client has the OACK
	var client, transfer netip.AddrPort
	lost := func() bool { return rng.Float64() < p }
	carry := func(in *net.UDPConn, f func(p []byte, from netip.AddrPort)) func() {
		return func() {
			buf := make([]byte, 70000)
			for {
				n, from, err := in.ReadFromUDPAddrPort(buf)
				if err != nil {
					return
				}
				mu.Lock()
				f(buf[:n], from)
				mu.Unlock()
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(carry(front, func(p []byte, from netip.AddrPort) {
		client = from // requests arrive: the clients take seconds to ask again
		up.WriteToUDPAddrPort(p, server)
	}))
	wg.Go(carry(up, func(p []byte, from netip.AddrPort) {
		transfer = from
		oack := binary.BigEndian.Uint16(p) == opOACK
		if oack && told {
			return
		}
		if !lost() {
			told = told || oack
			down.WriteToUDPAddrPort(p, client)
		}
	}))
	wg.Go(carry(down, func(p []byte, from netip.AddrPort) {
		if !lost() {
			up.WriteToUDPAddrPort(p, transfer)
		}
	}))
	t.Cleanup(func() {
		front.Close()
		up.Close()
		down.Close()
		wg.Wait()
	})
	return front.LocalAddr().(*net.UDPAddr).AddrPort()
}
