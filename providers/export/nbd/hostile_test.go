package nbd

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// anonymous gives the anonymous memory of this process, in bytes, after what can be
// given back was.
func anonymous(t testing.TB) int64 {
	t.Helper()
	runtime.GC()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// crowd is a shelf for any number of clients.
func crowd(h *shelf) Handler {
	return each(func(name string) (Export, error) {
		e, ok := h.exports[name]
		if !ok {
			return Export{}, ErrUnknown
		}
		return e, nil
	})
}

// bystander is a client that does nothing wrong, and has to be served all the while.
func bystander(t *testing.T, cl *client) (check func()) {
	cl.attach("ro")
	n := uint64(0)
	return func() {
		t.Helper()
		n++
		cl.send(request(0, 0, n, 512, 512))
		cl.wantReply(0, n)
		cl.recv(512)
	}
}

// Every length field at its extremes: what is refused costs no memory, and nobody else
// notices.
func TestLengthsAtTheirExtremes(t *testing.T) {
	dial := serve(t, crowd(testShelf()), Limits{Stall: 100 * time.Millisecond, Handshake: 2 * time.Second})
	check := bystander(t, dial())
	extremes := []uint32{0, 1, 4, 6, maxString, maxString + 1, maxOptionKept, maxOptionKept + 1, maxOptionSkipped, maxOptionSkipped + 1, 32 << 20, 32<<20 + 1, 1<<31 - 1, 1 << 31, 1<<32 - 1}
	fields := map[string]func(n uint32) []byte{
		"length of EXPORT_NAME":  func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(1), n) },
		"length of LIST":         func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(3), n) },
		"length of STARTTLS":     func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(5), n) },
		"length of INFO":         func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(6), n) },
		"length of GO":           func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(7), n) },
		"length of SET_META":     func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(10), n) },
		"length of an unknown":   func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(99), n) },
		"name in GO":             func(n uint32) []byte { return append(be(uint32(3)), option(7, be(n, uint16(0)))...) },
		"name in INFO":           func(n uint32) []byte { return append(be(uint32(3)), option(6, be(n, uint16(0)))...) },
		"kinds in GO":            func(n uint32) []byte { return append(be(uint32(3)), option(7, be(uint32(0), uint16(n)))...) },
		"name in SET_META":       func(n uint32) []byte { return append(be(uint32(3)), option(10, be(n, uint32(0)))...) },
		"queries in SET_META":    func(n uint32) []byte { return append(be(uint32(3)), option(10, be(uint32(0), n))...) },
		"query in SET_META":      func(n uint32) []byte { return append(be(uint32(3)), option(10, be(uint32(0), uint32(1), n))...) },
		"length of READ":         func(n uint32) []byte { return append(hello("ro"), request(0, 0, 1, 0, n)...) },
		"length of WRITE":        func(n uint32) []byte { return append(hello("rw"), request(0, 1, 1, 0, n)...) },
		"length of WRITE to ro":  func(n uint32) []byte { return append(hello("ro"), request(0, 1, 1, 0, n)...) },
		"length of WRITE_ZEROES": func(n uint32) []byte { return append(hello("rw"), request(0, 6, 1, 0, n)...) },
		"offset of READ":         func(n uint32) []byte { return append(hello("ro"), request(0, 0, 1, uint64(n)<<32|uint64(n), n)...) },
		"offset of WRITE_ZEROES": func(n uint32) []byte { return append(hello("rw"), request(0, 6, 1, uint64(n)<<32|uint64(n), n)...) },
		"extended payload length": func(n uint32) []byte {
			return append(longHello("rw"), extended.ask(0x20, 0, 1, 0, uint64(n)<<32|uint64(n))...)
		},
		"extended WRITE": func(n uint32) []byte { return append(longHello("rw"), extended.ask(0x20, 1, 1, 0, uint64(n)<<32)...) },
		"extended BLOCK_STATUS": func(n uint32) []byte {
			return append(longHello("rw"), extended.ask(0, 7, 1, uint64(n), uint64(n)<<32|uint64(n))...)
		},
	}
	before := anonymous(t)
	for what, wire := range fields {
		t.Run(what, func(t *testing.T) {
			for _, n := range extremes {
				cl := dial()
				if _, err := cl.nc.Write(append(wire(n), "and what comes after it"...)); err != nil {
					t.Fatal(err)
				}
				cl.nc.(*net.TCPConn).CloseWrite()
				cl.drain()
			}
			check()
		})
	}
	if grown := anonymous(t) - before; grown > 40<<20 {
		t.Errorf("%d MiB more memory", grown>>20)
	}
}

// hello is a handshake up to GO; longHello has extended headers, and base:allocation.
func hello(name string) []byte { return append(be(uint32(3)), option(7, infoData(name))...) }

func longHello(name string) []byte {
	return bytes.Join([][]byte{be(uint32(3)), option(optExtendedHeaders, nil), option(optSetMeta, metaData(name, baseAllocation)), option(7, infoData(name))}, nil)
}

// drain reads until the server closes.
func (c *client) drain() {
	c.t.Helper()
	b := make([]byte, 64<<10)
	for {
		if _, err := c.in.Read(b); err != nil {
			if isTimeout(err) {
				c.t.Fatal("the server did not close")
			}
			return
		}
	}
}

// Bytes without sense, before and after the handshake.
func TestRandomBytes(t *testing.T) {
	dial := serve(t, crowd(testShelf()), Limits{Stall: 100 * time.Millisecond, Handshake: 2 * time.Second})
	check := bystander(t, dial())
	r := rand.NewChaCha8([32]byte{9})
	for i := range 200 {
		b := make([]byte, 1+r.Uint64()%5000)
		r.Read(b)
		cl := dial()
		switch i % 4 {
		case 1:
			b = append(be(uint32(3)), b...)
		case 2:
			b = append(hello("rw"), b...)
		case 3:
			b = append(append(hello("rw"), be(uint32(0x25609513))...), b...)
		}
		cl.nc.Write(b) // the server may have had enough before the end
		cl.nc.(*net.TCPConn).CloseWrite()
		cl.drain()
	}
	check()
}

// INFO "a" then GO "b" serves "b", whatever came before.
func TestInfoOfOneAndGoOfAnother(t *testing.T) {
	h := newShelf()
	a, b := h.add("ro", newDisk(8192), Info{ReadOnly: true}), h.add("rw", newDisk(4096), Info{})
	a.b[0], b.b[0] = 'a', 'b'
	cl := serve(t, h, Limits{})()
	cl.greet(3)
	cl.send(option(6, infoData("ro")), option(6, infoData("nobody")), option(6, infoData("rw")), option(6, infoData("ro")))
	for range 4 {
		cl.replies(6)
	}
	cl.send(option(7, infoData("rw")))
	if r := cl.replies(7); r[0].Data[:10] != string(be(uint16(0), uint64(4096))) {
		t.Errorf("GO: %v", r)
	}
	cl.send(request(0, 0, 1, 0, 1))
	cl.wantReply(0, 1)
	if got := cl.recv(1); got[0] != 'b' {
		t.Errorf("read %q", got)
	}
}

// 10,000 connections that never attach hold little, and keep nobody out.
func TestHalfOpen(t *testing.T) {
	const many = 10_000
	const most = 100
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, stop := serveOn(t, ln, crowd(testShelf()), Limits{Handshake: time.Hour, HalfOpen: most})
	defer stop()
	dialFrom := func(i int) *client {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i/50), 1)}}
		nc, err := d.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		return &client{t: t, nc: nc, in: newReader(nc)}
	}
	check := bystander(t, dialFrom(0))
	first := dialFrom(1)
	before := anonymous(t)
	to := &unix.SockaddrInet4{Port: ln.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}
	for i := range many { // without memory of ours
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 2, byte(i / 50), 1}}), unix.Connect(fd, to)); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 {
			check()
			bystander(t, dialFrom(i/1000))() // somebody new
		}
	}
	if grown := anonymous(t) - before; grown > 20<<20 {
		t.Errorf("%d MiB more memory", grown>>20)
	}
	first.drain() // it lost its place
	s.census.mu.Lock()
	half := s.census.opening.Len()
	s.census.mu.Unlock()
	if half > most {
		t.Errorf("%d in their handshake, %d may be", half, most)
	}
	if n := s.Counts().Refused; n < many-2*most {
		t.Errorf("%d lost their place", n)
	}
}

// A full server gives the place of one that does not attach to one that may.
func TestFullServerPrefersWhoAttaches(t *testing.T) {
	dial := serve(t, testShelf(), Limits{Connections: 3, Handshake: time.Hour})
	first, second, idle := bystander(t, dial()), bystander(t, dial()), dial()
	idle.recv(greetingSize)
	third := bystander(t, dial())
	idle.wantClosed()
	for _, check := range []func(){first, second, third} {
		check()
	}
	dial().wantClosed() // all of them are attached
}

// 200 clients that ask for a lot, and take nothing: little memory, and others are
// served.
func TestReadersThatNeverRead(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory of its own")
	}
	for _, lends := range []bool{true, false} {
		for _, cold := range []bool{false, true} {
			t.Run(fmt.Sprintf("lent %t, cold %t", lends, cold), func(t *testing.T) {
				h := testShelf()
				d := &tiered{disk: newDisk(32 << 20), lends: lends, cold: map[int64]bool{}}
				for i := int64(0); cold && i < 32<<20/tier; i += 2 {
					d.cold[i] = true
				}
				h.exports["x"] = Export{Info: Info{Name: "x", Size: 32 << 20}, Backend: d}
				dial := serve(t, crowd(h), Limits{PerAddress: 1000, Stall: time.Hour})
				check := bystander(t, dial())
				before := anonymous(t)
				var idle []*client
				for range 200 {
					cl := dial()
					cl.nc.(*net.TCPConn).SetReadBuffer(4096)
					cl.attach("x")
					cl.send(bytes.Repeat(request(0, 0, 1, 0, 8<<20), 100))
					idle = append(idle, cl)
				}
				for range 200 { // until most of them are stuck
					check()
				}
				if grown := anonymous(t) - before; grown > 40<<20 {
					t.Errorf("%d MiB more memory", grown>>20)
				}
				for _, cl := range idle {
					cl.nc.Close()
				}
			})
		}
	}
}
