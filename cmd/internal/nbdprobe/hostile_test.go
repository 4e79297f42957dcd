package nbdprobe

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// script is a server that says what was written down before, whatever it is asked.
type script struct {
	net.Conn
	*bytes.Reader
}

func (s script) Read(b []byte) (int, error)    { return s.Reader.Read(b) }
func (script) Write(b []byte) (int, error)     { return len(b), nil }
func (script) Close() error                    { return nil }
func (script) SetDeadline(time.Time) error     { return nil }
func (script) SetReadDeadline(time.Time) error { return nil }

// saying negotiates with and reads from a server that says b.
func saying(b []byte) (*Result, error) {
	nc := script{Reader: bytes.NewReader(b)}
	l := &link{nc: nc, in: bufio.NewReaderSize(nc, readBuffer)}
	if err := l.negotiate(context.Background(), "x", nil); err != nil {
		return nil, err
	}
	r := &Result{Export: l.export}
	c := Config{Request: 4096, Depth: 4, Bytes: 64 << 10, Hash: true}
	if err := c.withDefaults(); err != nil {
		return nil, err
	}
	return r, c.read(context.Background(), []*link{l}, r)
}

func be(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		default:
			b, _ = binary.Append(b, binary.BigEndian, p) // of fixed size, all of them
		}
	}
	return b
}

var (
	greeting = be(uint64(greetMagic), uint64(optionMagic), uint16(flagFixed|flagNoZeroes))
	noChunks = be(uint64(replyMagic), uint32(optStructured), uint32(repUnsup), uint32(0))
	chunks   = be(uint64(replyMagic), uint32(optStructured), uint32(repAck), uint32(0))
	attached = be(uint64(replyMagic), uint32(optGo), uint32(repAck), uint32(0))
)

func ofSize(n uint64) []byte {
	return be(uint64(replyMagic), uint32(optGo), uint32(repInfo), uint32(12), uint16(infoExport), n, uint16(1|flagReadOnly))
}

func opened(form []byte, n uint64) []byte { return be(greeting, form, ofSize(n), attached) }

func said(flags, typ uint16, handle uint64, n uint32, more ...any) []byte {
	return be(uint32(structuredMagic), flags, typ, handle, n, be(more...))
}

// What servers may say, at its extremes: the error says what is wrong, and nothing is
// allocated for what was only announced.
func TestHostileServers(t *testing.T) {
	page := make([]byte, 4096)
	for _, c := range []struct {
		what string
		says []byte
		want string // "": it is fine
	}{
		{"nothing", nil, "closed the connection"},
		{"HTTP", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "is it an NBD server?"},
		{"oldstyle", be(uint64(greetMagic), uint64(oldMagic), uint64(1)), "oldstyle"},
		{"no fixed newstyle", be(uint64(greetMagic), uint64(optionMagic), uint16(0)), "fixed newstyle"},
		{"another magic in a reply", be(greeting, uint64(1), uint32(optStructured), uint32(repAck), uint32(0)), "another magic"},
		{"a reply to another option", be(greeting, uint64(replyMagic), uint32(99), uint32(repAck), uint32(0)), "reply is to option 99"},
		{"a reply of 4 GiB", be(greeting, uint64(replyMagic), uint32(optStructured), uint32(repErr+9), uint32(math.MaxUint32)), "4294967295 bytes"},
		{"a reply without end", be(greeting, noChunks, bytes.Repeat(ofSize(1), maxReplies+1)), "more than 64 replies"},
		{"GO without a size", be(greeting, noChunks, attached), "without NBD_INFO_EXPORT"},
		{"a negative size", opened(noChunks, math.MaxUint64), "18446744073709551615 bytes"},
		{"an escape sequence for a reason", be(greeting, noChunks, uint64(replyMagic), uint32(optGo), uint32(repPolicy), uint32(4), "\x1b[2J"), `"?[2J"`},
		{"block sizes of 0", be(greeting, noChunks, uint64(replyMagic), uint32(optGo), uint32(repInfo), uint32(14), uint16(infoBlockSize), uint32(0), uint32(0), uint32(0)), "block sizes"},
		{"blocks of 1 GiB", be(greeting, noChunks, uint64(replyMagic), uint32(optGo), uint32(repInfo), uint32(14), uint16(infoBlockSize), uint32(1<<30), uint32(1<<30), uint32(1<<30)), "block sizes"},
		{"nothing in it", opened(noChunks, 0), ""},
		{"a page", be(opened(noChunks, 4096), uint32(simpleMagic), uint32(0), uint64(1), page), ""},
		{"a page of nothing", be(opened(chunks, 4096), said(1, chunkHole, 1, 12, uint64(0), uint32(4096))), ""},
		{"a page in halves", be(opened(chunks, 4096), said(0, chunkData, 1, 8+2048, uint64(2048), page[:2048]), said(1, chunkData, 1, 8+2048, uint64(0), page[:2048])), ""},
		{"an exabyte of nothing", be(opened(noChunks, math.MaxInt64)), "closed the connection"},
		{"a reply to nothing", be(opened(noChunks, 4096), uint32(simpleMagic), uint32(0), uint64(7), page), "nothing that was asked"},
		{"the same reply twice", be(opened(noChunks, 8192), bytes.Repeat(be(uint32(simpleMagic), uint32(0), uint64(1), page), 2)), "nothing that was asked"},
		{"a simple reply after all", be(opened(chunks, 4096), uint32(simpleMagic), uint32(0), uint64(1), page), "structured ones were agreed on"},
		{"structured unasked", be(opened(noChunks, 4096), said(1, chunkHole, 1, 12, uint64(0), uint32(4096))), "magic"},
		{"less than was asked", be(opened(chunks, 4096), said(1, chunkHole, 1, 12, uint64(0), uint32(512))), "512 bytes where 4096"},
		{"more", be(opened(chunks, 4096), said(1, chunkHole, 1, 12, uint64(0), uint32(8192))), "not asked for"},
		{"the same twice", be(opened(chunks, 4096), said(0, chunkHole, 1, 12, uint64(0), uint32(4096)), said(1, chunkHole, 1, 12, uint64(0), uint32(4096))), "not asked for"},
		{"another place", be(opened(chunks, 4096), said(1, chunkHole, 1, 12, uint64(1<<63), uint32(4096))), "not asked for"},
		{"before it", be(opened(chunks, 8192), said(1, chunkHole, 2, 12, uint64(0), uint32(4096))), "not asked for"},
		{"data of 4 GiB", be(opened(chunks, 4096), said(1, chunkData, 1, math.MaxUint32, uint64(0))), "not asked for"},
		{"data of no byte", be(opened(chunks, 4096), said(1, chunkData, 1, 8, uint64(0))), "data of 8 bytes"},
		{"a hole of another form", be(opened(chunks, 4096), said(1, chunkHole, 1, 13)), "hole of 13"},
		{"empty chunks for ever", be(opened(chunks, 4096), said(0, chunkNone, 1, 0)), "ends nothing"},
		{"no chunk that is known", be(opened(chunks, 4096), said(1, 77, 1, 0)), "type 77"},
		{"an error", be(opened(chunks, 4096), said(1, chunkError, 1, 9, uint32(5), uint16(3), "bad")), `input/output error ("bad")`},
		{"an error of 4 GiB", be(opened(chunks, 4096), said(1, chunkError, 1, math.MaxUint32)), "error of 4294967295"},
		{"an error with half a text", be(opened(chunks, 4096), said(1, chunkError, 1, 8, uint32(5), uint16(999), "ab")), "longer than itself"},
		{"an end in the middle", be(opened(noChunks, 4096), uint32(simpleMagic), uint32(0), uint64(1), page[:100]), "closed the connection"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := saying(c.says)
		runtime.ReadMemStats(&after)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
		if c.want == "" && r.Bytes != r.Size {
			t.Errorf("%s: %d bytes of %d", c.what, r.Bytes, r.Size)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 2<<20 {
			t.Errorf("%s: %d bytes are allocated", c.what, grown)
		}
	}
}

// A server that says nothing, at any point, is given up after the time-out.
func TestSilentServer(t *testing.T) {
	for _, before := range [][]byte{nil, greeting, be(greeting, noChunks), be(opened(noChunks, 4096))} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, theirs)
			go theirs.Write(before)
			l := &link{nc: ours, in: bufio.NewReaderSize(ours, readBuffer)}
			c := Config{Timeout: 10 * time.Second}
			if err := c.withDefaults(); err != nil {
				t.Fatal(err)
			}
			ours.SetDeadline(time.Now().Add(c.Timeout))
			began := time.Now()
			err := l.negotiate(t.Context(), "x", nil)
			if err == nil {
				err = c.read(t.Context(), []*link{l}, &Result{Export: l.export})
			}
			if took := time.Since(began); err == nil || took != c.Timeout {
				t.Errorf("after %d bytes: %v after %s", len(before), err, took)
			}
			theirs.Close()
		})
	}
}

// Whoever gives up is not waited for.
func TestCancelled(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	go func() {
		if c, err := l.Accept(); err == nil {
			defer c.Close()
			c.Write(opened(noChunks, 1<<30))
			io.ReadFull(c, make([]byte, 4+16+16+33+28)) // up to its first request
			cancel(enough)
			io.Copy(io.Discard, c)
		}
	}()
	if _, err := Probe(ctx, Config{Network: "tcp", Address: l.Addr().String(), Export: "x", Connections: 1}); !errors.Is(err, enough) {
		t.Errorf("%v, want %v", err, enough)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("nothing is longer than nothing")
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	for _, c := range []struct {
		share float64
		want  time.Duration
	}{{0.5, 500 * time.Microsecond}, {0.99, 990 * time.Microsecond}, {1, time.Millisecond}} {
		if got := h.Quantile(c.share); got < c.want || got > c.want*104/100 {
			t.Errorf("%g: %s, want %s or up to 4 %% more", c.share, got, c.want)
		}
	}
	for d := time.Duration(1); d > 0 && d < 1<<62; d = d*3 + 1 {
		if up := ceiling(slot(d)); up < d || up-d > d/16 {
			t.Errorf("%d counts as %d", d, up)
		}
	}
}

func FuzzServer(f *testing.F) {
	f.Add(be(opened(noChunks, 4096), uint32(simpleMagic), uint32(0), uint64(1), make([]byte, 4096)))
	f.Add(be(opened(chunks, 8192), said(0, chunkData, 1, 8+2048, uint64(2048), make([]byte, 2048)), said(1, chunkHole, 1, 12, uint64(0), uint32(2048)),
		said(1, chunkError, 2, 9, uint32(5), uint16(3), "bad")))
	f.Add(be(greeting, noChunks, uint64(replyMagic), uint32(optGo), uint32(repUnsup), uint32(0), uint64(4096), uint16(3)))
	f.Fuzz(func(t *testing.T, says []byte) {
		r, err := saying(says)
		if err == nil && (r.Size < 0 || r.Bytes > r.Size) {
			t.Errorf("%d bytes of %d", r.Bytes, r.Size)
		}
	})
}
