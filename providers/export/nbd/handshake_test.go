package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const ack = protocol.NEGOTIATION_TYPE_REPLY_ACK

func testShelf() *shelf {
	h := newShelf()
	h.add("ro", newDisk(1<<20), Info{Description: "a sealed disk", ReadOnly: true, MultiConn: true})
	h.add("rw", newDisk(8<<20), Info{Zeroes: true})
	h.add("secret", newDisk(1<<20), Info{})
	h.secret["secret"] = true
	return h
}

func TestOptions(t *testing.T) {
	exportInfo := func(size uint64, flags uint16) optReply {
		return optReply{protocol.NEGOTIATION_TYPE_REPLY_INFO, string(be(uint16(0), size, flags))}
	}
	unknown := []optReply{{protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN, "no such export for this client"}}
	sums := []optReply{{repErrInvalid, "the lengths inside the option do not add up"}}
	for _, c := range []struct {
		name string
		id   uint32
		data []byte
		want []optReply
	}{
		{"list", 3, nil, []optReply{
			{2, string(be(uint32(2))) + "ro" + "a sealed disk"},
			{2, string(be(uint32(2))) + "rw"},
			{ack, ""},
		}},
		{"list with data", 3, []byte{0}, []optReply{{repErrInvalid, "LIST takes no data"}}},
		{"info", 6, infoData("ro"), []optReply{exportInfo(1<<20, 1|2|1<<8), {ack, ""}}},
		{"info of everything", 6, infoData("ro", 3, 1, 2, 0, 99, 3), []optReply{
			exportInfo(1<<20, 1|2|1<<8),
			{3, string(be(uint16(1))) + "ro"},
			{3, string(be(uint16(2))) + "a sealed disk"},
			{3, string(be(uint16(3), uint32(1), uint32(4096), uint32(32<<20)))},
			{ack, ""},
		}},
		{"info without a description", 6, infoData("rw", 2), []optReply{exportInfo(8<<20, 1|4|8|1<<5|1<<6), {ack, ""}}},
		{"info of nothing", 6, infoData("zzz"), unknown},
		{"info of the empty name", 6, infoData(""), unknown},
		{"info of a forbidden one", 6, infoData("secret"), unknown},
		{"go to nothing", 7, infoData("zzz"), unknown},
		{"go to a forbidden one", 7, infoData("secret"), unknown},
		{"go to a broken one", 7, infoData("broken"), []optReply{{repErrPolicy, "cannot be served now"}}},
		{"info: no data", 6, nil, sums},
		{"info: name longer than the data", 6, be(uint32(100), uint16(0)), sums},
		{"info: name of 4 GiB", 6, be(uint32(0xffffffff), uint16(0)), sums},
		{"info: more kinds than there are", 6, be(uint32(0), uint16(2), uint16(0)), sums},
		{"info: fewer kinds than there are", 6, be(uint32(0), uint16(0), uint16(0)), sums},
		{"info: odd byte", 6, append(infoData("ro"), 0), sums},
		{"info: name of 4096", 6, infoData(strings.Repeat("x", 4096)), unknown},
		{"info: name of 4097", 6, infoData(strings.Repeat("x", 4097)), sums},
		{"info: 20 KB", 6, make([]byte, 20<<10), []optReply{{repErrTooBig, "more than a name and what can be asked about it"}}},
		{"peek", 4, nil, []optReply{{protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED, ""}}},
		{"starttls", 5, nil, []optReply{{protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED, ""}}},
		{"set meta context", 10, make([]byte, 100), []optReply{{repErrInvalid, "structured replies must be negotiated first"}}},
		{"unknown with 64 KiB", 0xdeadbeef, make([]byte, 64<<10), []optReply{{protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED, ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := serve(t, testShelf(), Limits{})()
			cl.greet(3)
			for range 2 { // and the haggling goes on
				cl.send(option(c.id, c.data))
				if diff := cmp.Diff(c.want, cl.replies(c.id)); diff != "" {
					t.Fatal(diff)
				}
			}
			cl.send(option(7, infoData("ro")))
			if r := cl.replies(7); r[len(r)-1].Type != ack {
				t.Fatalf("GO afterwards: %+v", r)
			}
		})
	}
}

func TestExportName(t *testing.T) {
	for _, c := range []struct {
		flags  uint32
		zeroes int
	}{{0, 124}, {1, 124}, {2, 0}, {3, 0}} {
		h := testShelf()
		cl := serve(t, h, Limits{})()
		cl.greet(c.flags)
		cl.send(option(1, []byte("rw")))
		want := append(be(uint64(8<<20), uint16(1|4|8|1<<5|1<<6)), make([]byte, c.zeroes)...)
		if got := cl.recv(len(want)); !bytes.Equal(got, want) {
			t.Fatalf("client flags %d: %x, want %x", c.flags, got, want)
		}
		cl.send(request(0, 3, 77, 0, 0))
		cl.wantReply(0, 77)
		if got := receive(t, h.attached); got != "rw" {
			t.Errorf("attached to %q", got)
		}
		cl.send(request(0, 2, 0, 0, 0))
		cl.wantClosed()
		if s := receive(t, h.detached); s.Err != nil {
			t.Errorf("a goodbye counts as %v", s.Err)
		}
	}
}

// What cannot be answered, or is an attack, ends the connection, and nobody else's.
func TestHandshakeCloses(t *testing.T) {
	magic := protocol.NEGOTIATION_MAGIC_OPTION
	for name, b := range map[string][]byte{
		"unknown client flag":               be(uint32(7)),
		"all client flags":                  be(uint32(0xffffffff)),
		"wrong option magic":                be(uint32(3), magic+1, uint32(3), uint32(0)),
		"EXPORT_NAME of nothing":            be(uint32(3), magic, uint32(1), uint32(3), []byte("zzz")),
		"EXPORT_NAME forbidden":             be(uint32(3), magic, uint32(1), uint32(6), []byte("secret")),
		"EXPORT_NAME too long":              be(uint32(3), magic, uint32(1), uint32(4097)),
		"EXPORT_NAME of 4 GiB":              be(uint32(3), magic, uint32(1), uint32(0xffffffff)),
		"LIST of 4 GiB":                     be(uint32(3), magic, uint32(3), uint32(0xffffffff)),
		"GO of 3.8 GiB":                     be(uint32(3), magic, uint32(7), uint32(0xf0000000)),
		"unknown option of 64 KiB + 1":      be(uint32(3), magic, uint32(77), uint32(64<<10+1)),
		"LIST without fixed newstyle":       be(uint32(2), magic, uint32(3), uint32(0)),
		"GO of an old client":               be(uint32(0), magic, uint32(7), uint32(6), uint32(0), uint16(0)),
		"HTTP":                              []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"random, looks like a length of it": bytes.Repeat([]byte{0xff}, 4096),
	} {
		t.Run(name, func(t *testing.T) {
			dial := serve(t, testShelf(), Limits{Handshake: time.Hour}) // the deadline is not what closes
			other := dial()
			other.attach("ro")
			cl := dial()
			cl.recv(greetingSize)
			cl.nc.Write(b) // the server may close before all of it is out
			cl.wantClosed()
			other.send(request(0, 0, 1, 0, 512))
			other.wantReply(0, 1)
		})
	}
}

// Oldstyle is not spoken: the greeting is that of newstyle, and who goes on as after the
// other one, with a request at once, is let go.
func TestOldstyleIsRefused(t *testing.T) {
	cl := serve(t, testShelf(), Limits{Handshake: time.Hour})()
	if got, want := cl.recv(greetingSize), append([]byte("NBDMAGICIHAVEOPT"), be(uint16(3))...); !bytes.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	cl.send(request(0, 0, 1, 0, 512))
	cl.wantClosed()
}

func TestAbort(t *testing.T) {
	cl := serve(t, testShelf(), Limits{})()
	cl.greet(3)
	cl.send(option(2, nil))
	if diff := cmp.Diff([]optReply{{ack, ""}}, cl.replies(2)); diff != "" {
		t.Error(diff)
	}
	cl.wantClosed()
}

func TestTooManyOptions(t *testing.T) {
	cl := serve(t, testShelf(), Limits{})()
	cl.greet(3)
	for range maxOptions {
		cl.send(option(99, nil))
		cl.replies(99)
	}
	cl.wantClosed()
}

// A peer that opens a connection and says nothing, or half of something, is gone
// at the deadline.
func TestHalfOpenHandshake(t *testing.T) {
	dial := serve(t, testShelf(), Limits{Handshake: 100 * time.Millisecond})
	for name, b := range map[string][]byte{
		"silent": nil, "half of the flags": {0, 0}, "half an option": be(uint32(3), protocol.NEGOTIATION_MAGIC_OPTION, uint32(7)),
		"option without its data": be(uint32(3), protocol.NEGOTIATION_MAGIC_OPTION, uint32(7), uint32(100), []byte("abc")),
	} {
		t.Run(name, func(t *testing.T) {
			cl := dial()
			cl.recv(greetingSize)
			if len(b) > 0 {
				cl.send(b)
			}
			cl.wantClosed()
		})
	}
	t.Run("but attached is for good", func(t *testing.T) {
		cl := dial()
		cl.attach("ro")
		deadline := time.Now().Add(200 * time.Millisecond)
		cl.nc.SetReadDeadline(deadline)
		if _, err := cl.in.ReadByte(); !isTimeout(err) {
			t.Fatalf("the server ended it: %v", err)
		}
		cl.nc.SetReadDeadline(deadline.Add(20 * time.Second))
		cl.send(request(0, 0, 1, 0, 512))
		cl.wantReply(0, 1)
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestConnectionCaps(t *testing.T) {
	dial := serve(t, testShelf(), Limits{PerAddress: 3})
	var open []*client
	for range 3 {
		cl := dial()
		cl.attach("ro")
		open = append(open, cl)
	}
	dial().wantClosed()
	open[0].send(request(0, 2, 0, 0, 0))
	open[0].wantClosed()
	// The place is free once the server is done with the old one; that is after
	// the close was seen, so ask until it is.
	for deadline := time.Now().Add(10 * time.Second); ; {
		cl := dial()
		if b := make([]byte, greetingSize); readAll(cl, b) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place never became free")
		}
	}
	open[1].send(request(0, 0, 1, 0, 512))
	open[1].wantReply(0, 1)
}

func readAll(c *client, b []byte) bool {
	n, err := c.in.Read(b)
	return err == nil && n == len(b)
}

// The handshake's answers come in one write each: one segment, one packet.
func TestAnswersAreOneWrite(t *testing.T) {
	c := &scripted{in: bytes.Join([][]byte{
		be(uint32(3)), option(3, nil), option(6, infoData("ro", 1, 2, 3)), option(7, infoData("ro", 3)),
		request(0, 0, 1, 0, 512), request(0, 0, 2, 512, 512), request(0, 2, 0, 0, 0),
	}, nil)}
	serveScript(testShelf(), c)
	var sizes []string
	for _, w := range c.writes {
		sizes = append(sizes, fmt.Sprint(len(w)))
	}
	// greeting; LIST: two exports and ACK; INFO; GO; both READs together.
	want := fmt.Sprint(18, 20+4+2+13+20+4+2+20, 20+12+20+4+20+15+20+14+20, 20+12+20+14+20, 2*(16+512))
	if got := strings.Join(sizes, " "); got != want {
		t.Errorf("writes of %s bytes, want %s", got, want)
	}
	if got := binary.BigEndian.Uint64(c.writes[4][8:]); got != 1 {
		t.Errorf("first reply has handle %d", got)
	}
}
