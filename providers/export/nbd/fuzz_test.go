package nbd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

// scripted is a connection whose client says one thing and leaves.
type scripted struct {
	in []byte

	mu     sync.Mutex
	writes [][]byte
	closed bool
}

func (c *scripted) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *scripted) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.writes = append(c.writes, bytes.Clone(p))
	return len(p), nil
}

func (c *scripted) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

func serveScript(h Handler, c *scripted) {
	New(h, Limits{}, nil).serveConn(context.Background(), c, netip.AddrPort{}, func() {})
}

// fuzzShelf makes a shelf of a writable and a read-only disk.
func fuzzShelf(size int) *shelf {
	h := newShelf()
	h.add("rw", newDisk(size), Info{Zeroes: true})
	d := h.add("ro", newDisk(size), Info{ReadOnly: true})
	// Every second page waits for a disk.
	x := h.exports["ro"]
	x.Backend = &tiered{disk: d, cold: map[int64]bool{1: true, 3: true}}
	h.exports["ro"] = x
	return h
}

func FuzzHandshake(f *testing.F) {
	f.Add(bytes.Join([][]byte{be(uint32(3)), option(3, nil), option(6, infoData("ro", 1, 2, 3)), option(8, nil), option(7, infoData("rw"))}, nil))
	f.Add(bytes.Join([][]byte{be(uint32(1)), option(1, []byte("rw"))}, nil))
	f.Add(bytes.Join([][]byte{be(uint32(3)), option(7, be(uint32(0xffffffff), uint16(0))), option(2, nil)}, nil))
	f.Add(be(uint32(3), protocol.NEGOTIATION_MAGIC_OPTION, uint32(3), uint32(0xf0000000)))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	// Out of order, twice, INFO of one and GO of another, lengths at their extremes.
	f.Add(bytes.Join([][]byte{be(uint32(3)), option(10, metaData("rw", "base:allocation")), option(11, nil), option(8, nil), option(6, infoData("ro")), option(7, infoData("rw"))}, nil))
	f.Add(bytes.Join([][]byte{be(uint32(3)), option(8, nil), option(8, nil), option(9, metaData("ro")), option(10, metaData("ro", "base:allocation", "x:y")), option(5, nil), option(1, []byte("rw"))}, nil))
	f.Add(bytes.Join([][]byte{be(uint32(3)), option(8, nil), option(9, append(be(uint32(2)), "ro\xff\xff\xff\xff"...)), option(10, be(uint32(0xffffffff))), option(7, infoData("ro"))}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := fuzzShelf(4096)
		c := &scripted{in: b}
		serveScript(h, c)
		if len(h.peers) != len(h.detached) {
			t.Fatalf("%d attached, %d detached", len(h.peers), len(h.detached))
		}
		checkHandshake(t, bytes.Join(c.writes, nil), len(h.peers) > 0)
	})
}

// checkHandshake reads what the server said as a client would.
func checkHandshake(t *testing.T, b []byte, attached bool) {
	if len(b) < greetingSize {
		t.Fatalf("no whole greeting: %x", b)
	}
	for b = b[greetingSize:]; len(b) > 0; {
		if len(b) < optionReplySize || binary.BigEndian.Uint64(b) != protocol.NEGOTIATION_MAGIC_REPLY {
			if attached { // what follows belongs to the transmission phase
				return
			}
			t.Fatalf("not an option reply: %x", b)
		}
		n := binary.BigEndian.Uint32(b[16:])
		if b = b[optionReplySize:]; int(n) > len(b) {
			t.Fatalf("a reply of %d bytes, %d follow", n, len(b))
		}
		b = b[n:]
	}
}

func FuzzTransmission(f *testing.F) {
	f.Add(bytes.Join([][]byte{request(0, 0, 1, 0, 512), request(0, 1, 2, 5, 4), []byte("abcd"), request(0, 3, 3, 0, 0), request(0, 2, 0, 0, 0)}, nil), true)
	f.Add(bytes.Join([][]byte{request(1, 1, 2, 0, 8192), make([]byte, 8192), request(0, 6, 3, 0, 16384), request(0, 4, 3, 1, 1)}, nil), true)
	f.Add(request(0, 0, 1, 0xffffffffffffffff, 0xffffffff), true)
	f.Add(request(0, 1, 1, 0, 0xffffffff), true)
	f.Add(bytes.Join([][]byte{request(0, 1, 2, 0, 4), []byte("abcd")}, nil), false)
	f.Fuzz(func(t *testing.T, b []byte, writable bool) {
		const size = 16384
		h := fuzzShelf(size)
		name := "ro"
		if writable {
			name = "rw"
		}
		c := &scripted{in: append(bytes.Join([][]byte{be(uint32(3)), option(7, infoData(name))}, nil), b...)}
		serveScript(h, c)
		if len(h.detached) != 1 {
			t.Fatalf("%d detached", len(h.detached))
		}
		s := <-h.detached
		if s.Read > s.Requests*size || s.Written > uint64(len(b)) {
			t.Fatalf("%+v from %d bytes", s, len(b))
		}
		if d := h.exports["ro"].Backend.(*tiered); !bytes.Equal(d.b, make([]byte, size)) {
			t.Fatal("a read-only export was written")
		}
		// Every reply has the magic, and the payload that its request asked for;
		// order differs for FLUSH, FUA, and READs that wait for the disk.
		lengths := map[uint64][]uint32{}
		for r := b; len(r) >= requestSize; {
			q := simple.parse(r)
			r = r[requestSize:]
			if q.magic != protocol.TRANSMISSION_MAGIC_REQUEST {
				break
			}
			n := uint32(0)
			if q.typ == 0 {
				n = uint32(q.length)
			}
			lengths[q.cookie] = append(lengths[q.cookie], n)
			if q.typ == 1 {
				r = r[min(int(q.length), len(r)):]
			}
		}
		out := bytes.Join(c.writes, nil)[greetingSize+20+12+20:]
		for len(out) > 0 {
			if len(out) < replySize || binary.BigEndian.Uint32(out) != protocol.TRANSMISSION_MAGIC_REPLY {
				t.Fatalf("not a reply: %x", out[:min(len(out), 64)])
			}
			errno, handle := binary.BigEndian.Uint32(out[4:]), binary.BigEndian.Uint64(out[8:])
			out = out[replySize:]
			asked := lengths[handle]
			if len(asked) == 0 {
				t.Fatalf("a reply to handle %d that nobody sent", handle)
			}
			if len(asked) > 1 { // handles that are used twice cannot be told apart
				return
			}
			if errno == 0 {
				if int(asked[0]) > len(out) {
					t.Fatalf("%d bytes asked, %d there", asked[0], len(out))
				}
				out = out[asked[0]:]
			}
		}
	})
}

// With chunks every byte that comes back can be told apart without the requests.
func FuzzChunks(f *testing.F) {
	f.Add(bytes.Join([][]byte{structured.ask(0, 0, 1, 4000, 9000), structured.ask(4, 0, 1, 4000, 9000), structured.ask(8, 7, 2, 0, 32768), structured.ask(16, 6, 3, 0, 1)}, nil), false)
	f.Add(bytes.Join([][]byte{extended.ask(0, 0, 1, 4000, 9000), extended.ask(0x20, 1, 2, 5, 4), []byte("abcd"), extended.ask(0, 7, 2, 0, 32768), extended.ask(1, 3, 3, 0, 0)}, nil), true)
	f.Add(extended.ask(0x20, 0, 1, 1<<64-1, 1<<64-1), true)
	f.Add(bytes.Join([][]byte{extended.ask(0, 0, 1, 1<<63, 1<<63), extended.ask(0, 7, 1, 1, 1<<64-1), extended.ask(0, 6, 1, 1<<64-1, 2), extended.ask(0, 5, 1, 0, 1<<63)}, nil), true)
	f.Fuzz(func(t *testing.T, b []byte, long bool) {
		h, _ := holedShelfOf(64 << 10) // a long one leaves no time for anything else
		form, id := structured, optStructuredReply
		if long {
			form, id = extended, optExtendedHeaders
		}
		hello := bytes.Join([][]byte{be(uint32(3)), option(id, nil), option(optSetMeta, metaData("x", baseAllocation)), option(7, infoData("x"))}, nil)
		c := &scripted{in: append(hello, b...)}
		serveScript(h, c)
		if len(h.detached) != 1 {
			t.Fatalf("%d detached", len(h.detached))
		}
		out := bytes.Join(c.writes, nil)[greetingSize+20+(20+4+len(baseAllocation)+20)+(20+12+20):]
		for len(out) > 0 {
			size, n := form.chunkSize(), uint64(0)
			if form == structured && len(out) >= replySize && binary.BigEndian.Uint32(out) == protocol.TRANSMISSION_MAGIC_REPLY {
				out = out[replySize:]
				continue
			}
			if len(out) < size {
				t.Fatalf("not a chunk: %x", out)
			}
			if n = binary.BigEndian.Uint64(out[size-8:]); form == structured {
				n = uint64(binary.BigEndian.Uint32(out[16:]))
			}
			if magic := binary.BigEndian.Uint32(out); magic != magicStructuredReply && magic != magicExtendedReply || n > uint64(len(out)-size) {
				t.Fatalf("not a chunk: %x", out[:size])
			}
			out = out[size+int(n):]
		}
	})
}
