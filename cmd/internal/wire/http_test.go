package wire

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// exchange is what the tests below compare of an HTTP.
type exchange struct {
	Method, Target string
	Status         int
	Length         int64
	Body           string // or, when it is long, its digest
	Complete       bool
}

func exchanges(t *testing.T, traffic *Traffic) []exchange {
	t.Helper()
	var all []exchange
	for _, h := range traffic.HTTP {
		e := exchange{h.Method, h.Target, h.Status, h.Length, string(h.Body), h.Complete}
		if h.Status != 0 && h.Body == nil {
			e.Body = h.Digest
		} else if h.Status != 0 && (h.Digest != sum(h.Body) || h.Bytes != int64(len(h.Body))) {
			t.Errorf("%s: %d bytes with digest %s, body %q", h.Target, h.Bytes, h.Digest, h.Body)
		}
		if h.MAC != clientMAC || h.Client != clientAddr || h.Server != serverAddr || h.End.Before(h.At) {
			t.Errorf("%+v", h)
		}
		all = append(all, e)
	}
	return all
}

func get(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: 10.77.0.1\r\n\r\n" }

func TestHTTPExchanges(t *testing.T) {
	big := string(noise(MaxBody + 1))
	for name, c := range map[string]struct {
		talk      func(c *talk)
		want      []exchange
		malformed int
	}{
		"one after the other": {func(c *talk) {
			c.send(get("/boot.ipxe"))
			c.reply("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n#!ipxe\n")
			c.send(get("/shim//grubx64.efi?a=1"))
			c.reply("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}, []exchange{
			{"GET", "/boot.ipxe", 200, 7, "#!ipxe\n", true},
			{"GET", "/shim//grubx64.efi?a=1", 404, 0, "", true},
		}, 0},
		"pipelined": {func(c *talk) {
			c.send(get("/a") + get("/b") + get("/c"))
			c.reply("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb")
		}, []exchange{{"GET", "/a", 200, 1, "a", true}, {"GET", "/b", 200, 1, "b", true}, {"GET", "/c", 0, -1, "", false}}, 0},
		"HEAD, then reset": {func(c *talk) {
			c.send("HEAD /x.efi HTTP/1.1\r\nHost: h\r\n\r\n")
			c.reply("HTTP/1.1 200 OK\r\nContent-Length: 921600\r\n\r\n")
			c.reset(toServer)
		}, []exchange{{"HEAD", "/x.efi", 200, 921600, "", true}}, 0},
		"chunks": {func(c *talk) {
			c.send(get("/a"))
			c.reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n")
			c.send(get("/b"))
			c.reply("HTTP/1.1 204 No Content\r\n\r\n")
		}, []exchange{{"GET", "/a", 200, -1, "hello!", true}, {"GET", "/b", 204, -1, "", true}}, 0},
		"until the connection closes": {func(c *talk) {
			c.send("GET /a HTTP/1.0\r\n\r\n")
			c.reply("HTTP/1.0 200 OK\r\n\r\nhello")
			c.fin(toClient)
			c.fin(toServer)
		}, []exchange{{"GET", "/a", 200, -1, "hello", true}}, 0},
		"until the connection breaks": {func(c *talk) {
			c.send("GET /a HTTP/1.0\r\n\r\n")
			c.reply("HTTP/1.0 200 OK\r\n\r\nhel")
			c.reset(toClient)
			c.reply("lo")
		}, []exchange{{"GET", "/a", 200, -1, "hel", false}}, 0},
		"cut short": {func(c *talk) {
			c.send(get("/a"))
			c.reply("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
			c.fin(toClient)
		}, []exchange{{"GET", "/a", 200, 10, "hello", false}}, 0},
		"a request with a body, and 100 Continue": {func(c *talk) {
			c.send("POST /phone/root HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\nExpect: 100-continue\r\n\r\n")
			c.reply("HTTP/1.1 100 Continue\r\n\r\n")
			c.send("GET / HTTP/1.1\r\n\r\n")
			c.reply("HTTP/1.1 204 No Content\r\n\r\n")
			c.send(get("/next"))
			c.reply("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n")
		}, []exchange{{"POST", "/phone/root", 204, -1, "", true}, {"GET", "/next", 304, 5, "", true}}, 0},
		"a part": {func(c *talk) {
			c.send("GET /a HTTP/1.1\r\nHost: h\r\nRange: bytes=1-3\r\n\r\n")
			c.reply("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-3/9\r\nContent-Length: 3\r\n\r\nell")
		}, []exchange{{"GET", "/a", 206, 3, "ell", true}}, 0},
		"more than is kept": {func(c *talk) {
			c.send(get("/a"))
			c.reply(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(big), big))
		}, []exchange{{"GET", "/a", 200, int64(len(big)), sum([]byte(big)), true}}, 0},
		"lines that end with LF alone": {func(c *talk) {
			c.send("GET /a HTTP/1.0\n\n")
			c.reply("HTTP/1.0 200 OK\nContent-Length: 2\n\nok")
		}, []exchange{{"GET", "/a", 200, 2, "ok", true}}, 0},
		"an upgrade": {func(c *talk) {
			c.send(get("/ws"))
			c.reply("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nGET / HTTP/1.1\r\n\r\n")
			c.send("whatever")
		}, []exchange{{"GET", "/ws", 101, -1, "", true}}, 0},
		"chunks that are none": {func(c *talk) {
			c.send(get("/a"))
			c.reply("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
		}, []exchange{{"GET", "/a", 200, -1, "", false}}, 1},
		"a response that is none": {func(c *talk) {
			c.send(get("/a"))
			c.reply("220 mail.example ESMTP\r\n\r\n")
		}, []exchange{{"GET", "/a", 0, -1, "", false}}, 1},
		"a head without end": {func(c *talk) {
			c.send("GET /a HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", maxHead/6+1) + "\r\n")
		}, nil, 1},
		"other protocols": {func(c *talk) {
			c.send("SSH-2.0-x\r\n")
			c.send("\x16\x03\x01")
			c.reply("220 hello\r\n")
		}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mtu := range []int{1, 7, 1448, 60000} {
				p := &tape{}
				conn := p.connect(clientAddr, serverAddr, [2]uint32{100, 0xfffffff0})
				conn.mtu = mtu
				c.talk(conn)
				traffic := p.traffic(t)
				if diff := cmp.Diff(c.want, exchanges(t, traffic)); diff != "" || traffic.Malformed != c.malformed {
					t.Errorf("in segments of %d: %d malformed, want %d; -want +got:\n%s", mtu, traffic.Malformed, c.malformed, diff)
				}
			}
		})
	}
}

func TestHTTPHeadersAndTimes(t *testing.T) {
	p := &tape{}
	c := p.connect(clientAddr, serverAddr, [2]uint32{1, 2})
	c.send("GET /a HTTP/1.1\r\nHost: 10.77.0.1:8080\r\nUser-Agent: iPXE/1.0\r\n\r\n")
	c.reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"x\"\r\n\r\na")
	c.reply("b")
	h := p.traffic(t).HTTP[0]
	if h.Request.Get("Host") != "10.77.0.1:8080" || h.Request.Get("User-Agent") != "iPXE/1.0" || h.Response.Get("Etag") != `"x"` {
		t.Errorf("%v, %v", h.Request, h.Response)
	}
	// Two frames open the connection, each a millisecond after the one before.
	if !h.At.Equal(beginning.Add(2*time.Millisecond)) || !h.End.Equal(beginning.Add(4*time.Millisecond)) {
		t.Errorf("from %v to %v", h.At.Sub(beginning), h.End.Sub(beginning))
	}
	other := *h
	other.MAC = serverMAC
	all := &Traffic{HTTP: []*HTTP{h, &other}, Frames: 5}
	if part := all.Of(clientMAC); len(part.HTTP) != 1 || part.HTTP[0] != h || part.Frames != 5 {
		t.Errorf("of one machine: %+v", part)
	}
}

// TestAPortThatIsUsedAgain: GRUB takes the same local ports at each boot.
func TestAPortThatIsUsedAgain(t *testing.T) {
	p := &tape{}
	for i := range 3 {
		c := p.connect(clientAddr, serverAddr, [2]uint32{uint32(i) * 1000, uint32(i) * 5000})
		c.send(get(fmt.Sprint("/", i)))
		c.reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if i == 1 {
			c.fin(toClient)
			c.fin(toServer)
		}
	}
	want := []exchange{{"GET", "/0", 200, 2, "ok", true}, {"GET", "/1", 200, 2, "ok", true}, {"GET", "/2", 200, 2, "ok", true}}
	if diff := cmp.Diff(want, exchanges(t, p.traffic(t))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestTwoConnectionsDoNotMix interleaves them frame by frame.
func TestTwoConnectionsDoNotMix(t *testing.T) {
	p := &tape{}
	var talks []*talk
	for i := range 2 {
		talks = append(talks, p.connect(netip.AddrPortFrom(clientAddr.Addr(), 40000+uint16(i)), serverAddr, [2]uint32{7, 7}))
	}
	for i, c := range talks {
		c.send(get(fmt.Sprint("/", i)))
	}
	bodies := [][]byte{noise(5000), bytes.Repeat([]byte("x"), 5000)}
	for i, c := range talks {
		c.reply(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(bodies[i])))
	}
	for at := 0; at < 5000; at += 100 {
		for i, c := range talks {
			c.reply(string(bodies[i][at : at+100]))
		}
	}
	for i, h := range p.traffic(t).HTTP {
		if !h.Complete || h.Digest != sum(bodies[i]) || h.Target != fmt.Sprint("/", i) {
			t.Errorf("%d: %+v", i, h)
		}
	}
}

// FuzzSegments: how a conversation is cut into segments changes nothing.
func FuzzSegments(f *testing.F) {
	f.Add("GET /a HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", uint16(1))
	f.Add("HEAD /a HTTP/1.1\r\n\r\nGET /b HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", uint16(3))
	f.Add("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\n\n", "HTTP/1.0 404 x\r\n\r\nto the end", uint16(2))
	f.Add("\x00\x00\x00\x03"+nbdOpt(nbdOptGo, nbdAsk("a")), nbdHello+nbdRep(nbdOptGo, nbdRepError|6, "no"), uint16(5))
	f.Fuzz(func(t *testing.T, request, response string, size uint16) {
		if len(request) > 1<<14 || len(response) > 1<<14 {
			return
		}
		read := func(mtu int) *Traffic {
			p := &tape{}
			c := p.connect(clientAddr, serverAddr, [2]uint32{0, 1 << 31})
			c.mtu = mtu
			c.send(request)
			c.reply(response)
			c.fin(toClient)
			return p.traffic(t)
		}
		whole, cut := read(1<<15), read(int(size%1400)+1)
		options := cmp.Options{
			cmpopts.IgnoreFields(HTTP{}, "At", "End"), cmpopts.IgnoreFields(NBD{}, "At"),
			cmpopts.IgnoreFields(Traffic{}, "Frames"), cmpopts.EquateComparable(netip.AddrPort{}),
		}
		if diff := cmp.Diff(whole, cut, options); diff != "" {
			t.Errorf("-whole +cut:\n%s", diff)
		}
	})
}
