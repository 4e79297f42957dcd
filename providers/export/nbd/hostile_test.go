package nbd

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
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

// memory is what bounds are held against: what this process has of its own, and what of
// it is on the heap. The race detector keeps books beside the heap.
type memory struct{ anon, heap int64 }

func measure(t testing.TB) memory {
	t.Helper()
	m := memory{anon: anonymous(t)}
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.heap = int64(s.HeapAlloc)
	return m
}

// within fails if there are more than most bytes more by now.
func (m memory) within(t testing.TB, most int64) {
	t.Helper()
	now := measure(t)
	if grown := now.heap - m.heap; grown > most {
		t.Errorf("%d MiB more on the heap", grown>>20)
	}
	if grown := now.anon - m.anon; grown > most && !raceEnabled {
		t.Errorf("%d MiB more memory", grown>>20)
	}
}

// crowd is a shelf for any number of clients. "ro" has bytes of its own.
func crowd(h *shelf) Handler {
	if d, ok := h.exports["ro"].Backend.(*disk); ok {
		rand.NewChaCha8([32]byte{11}).Read(d.b)
	}
	return each(func(name string) (Export, error) {
		e, ok := h.exports[name]
		if !ok {
			return Export{}, ErrUnknown
		}
		return e, nil
	})
}

// bystander is a client that does nothing wrong, and has to be served all the while. It
// reads the 1 MiB of "ro", and its digest has to be that of the disk.
func bystander(t *testing.T, cl *client) (check func()) {
	const size, piece = 1 << 20, 128 << 10
	cl.attach("ro")
	n := uint64(0)
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{11}).Read(b)
	want := sha256.Sum256(b)
	b = make([]byte, piece) // no garbage, where memory is looked at
	return func() {
		t.Helper()
		sum := sha256.New()
		for off := uint64(0); off < size; off += piece {
			n++
			cl.send(request(0, 0, n, off, piece))
			cl.wantReply(0, n)
			if _, err := io.ReadFull(cl.in, b); err != nil {
				t.Fatal(err)
			}
			sum.Write(b)
		}
		if !bytes.Equal(sum.Sum(nil), want[:]) {
			t.Fatal("a client that does nothing wrong has other bytes")
		}
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
		"length of ABORT":        func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(2), n) },
		"length of STRUCTURED":   func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(8), n) },
		"length of LIST_META":    func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(9), n) },
		"length of EXTENDED":     func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), uint32(11), n) },
		"kind of option":         func(n uint32) []byte { return be(uint32(3), uint64(0x49484156454F5054), n, uint32(0)) },
		"flags of the client":    func(n uint32) []byte { return be(n, uint64(0x49484156454F5054), uint32(3), uint32(0)) },
		"name in LIST_META":      func(n uint32) []byte { return append(be(uint32(3)), option(9, be(n, uint32(0)))...) },
		"queries in LIST_META":   func(n uint32) []byte { return append(be(uint32(3)), option(9, be(uint32(0), n))...) },
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
		"length of TRIM":         func(n uint32) []byte { return append(hello("rw"), request(0, 4, 1, 0, n)...) },
		"length of CACHE":        func(n uint32) []byte { return append(hello("rw"), request(0, 5, 1, 0, n)...) },
		"length of FLUSH":        func(n uint32) []byte { return append(hello("rw"), request(0, 3, 1, 0, n)...) },
		"length of DISC":         func(n uint32) []byte { return append(hello("rw"), request(0, 2, 1, 0, n)...) },
		"length of RESIZE":       func(n uint32) []byte { return append(hello("rw"), request(0, 8, 1, 0, n)...) },
		"kind of command":        func(n uint32) []byte { return append(hello("rw"), request(0, uint16(n), 1, 0, 512)...) },
		"flags of READ":          func(n uint32) []byte { return append(hello("rw"), request(uint16(n), 0, 1, 0, 512)...) },
		"flags of TRIM":          func(n uint32) []byte { return append(hello("rw"), request(uint16(n), 4, 1, 0, 512)...) },
		"extended READ":          func(n uint32) []byte { return append(longHello("rw"), extended.ask(0, 0, 1, 0, uint64(n))...) },
		"extended READ with DF":  func(n uint32) []byte { return append(longHello("rw"), extended.ask(4, 0, 1, 0, uint64(n))...) },
		"extended TRIM":          func(n uint32) []byte { return append(longHello("rw"), extended.ask(0, 4, 1, 1, uint64(n)<<31)...) },
		"extended CACHE":         func(n uint32) []byte { return append(longHello("rw"), extended.ask(0, 5, 1, 1, uint64(n)<<31)...) },
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
	before := measure(t)
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
	before.within(t, 40<<20)
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
	before := measure(t)
	for i := range 300 {
		b := make([]byte, 1+r.Uint64()%5000)
		r.Read(b)
		cl := dial()
		switch i % 6 {
		case 1:
			b = append(be(uint32(3)), b...)
		case 2:
			b = append(hello("rw"), b...)
		case 3:
			b = append(append(hello("rw"), be(uint32(0x25609513))...), b...)
		case 4:
			b = append(longHello("rw"), b...)
		case 5:
			b = append(append(longHello("rw"), be(magicExtendedRequest)...), b...)
		}
		cl.nc.Write(b) // the server may have had enough before the end
		cl.nc.(*net.TCPConn).CloseWrite()
		cl.drain()
	}
	check()
	before.within(t, 40<<20)
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
	before := measure(t)
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
	before.within(t, 20<<20)
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
	dial := serve(t, crowd(testShelf()), Limits{Connections: 3, Handshake: time.Hour})
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
	for _, lends := range []bool{true, false} {
		for _, cold := range []bool{false, true} {
			for _, form := range []form{simple, extended} {
				t.Run(fmt.Sprintf("lent %t, cold %t, form %d", lends, cold, form), func(t *testing.T) { neverRead(t, lends, cold, form) })
			}
		}
	}
}

func neverRead(t *testing.T, lends, cold bool, form form) {
	h := testShelf()
	d := &tiered{disk: newDisk(32 << 20), lends: lends, cold: map[int64]bool{}}
	for i := int64(0); cold && i < 32<<20/tier; i += 2 {
		d.cold[i] = true
	}
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 32 << 20}, Backend: d}
	s, dial := served(t, crowd(h), Limits{PerAddress: 1000, Stall: time.Hour})
	check := bystander(t, dial())
	before := measure(t)
	var idle []*client
	for range 200 {
		cl := dial()
		cl.nc.(*net.TCPConn).SetReadBuffer(4096)
		flags := uint16(0)
		if form == simple {
			cl.attach("x")
		} else {
			cl.choose(form, "x")
			flags = cmdFlagDF // in one chunk
		}
		cl.send(bytes.Repeat(form.ask(flags, 0, 1, 0, 8<<20), 100))
		idle = append(idle, cl)
	}
	for stuck, was := 0, uint64(0); stuck < 10; { // nobody else's bytes are sent any more
		check()
		now := s.Counts().Read
		if stuck++; now-was != 1<<20 {
			stuck = 0
		}
		was = now
	}
	before.within(t, 40<<20)
	for _, cl := range idle {
		cl.nc.Close()
	}
}
