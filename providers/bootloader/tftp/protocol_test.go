package tftp

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
)

// EDK2 asks for the size first and breaks off with error 8, then asks again.
func TestEDK2AsksForTheSizeFirst(t *testing.T) {
	file := random(1468*9 + 77)
	for name, window := range map[string]string{"windowed": "4", "lockstep": ""} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "127.0.0.1:0", Config{}, map[string][]byte{"snponly.efi": file})
			req := []string{"snponly.efi", "octet", "blksize", "1468"}
			oack := "blksize\x001468\x00"
			n := 1
			if window != "" {
				req = append(req, "windowsize", window)
				n = 4
			}
			c := dial(t, s.addr)
			c.send(rrq(append(req, "tsize", "0")...))
			op, _, data := c.read()
			if size := fmt.Sprintf("tsize\x00%d\x00", len(file)); op != opOACK || !strings.Contains(string(data), size) {
				t.Fatalf("opcode %d %q, want an OACK with %q", op, data, size)
			}
			c.fail(codeOptionAbort)
			if tr := s.next(); !tr.Probe || tr.Err != nil || tr.Bytes != 0 || tr.Size != int64(len(file)) {
				t.Errorf("probe reported as %+v", tr)
			}
			c = dial(t, s.addr)
			c.send(rrq(req...))
			if window != "" {
				oack += "windowsize\x004\x00"
			}
			c.wantOACK(oack)
			c.ack(0)
			if got := c.receive(1468, n, nil); !bytes.Equal(got, file) {
				t.Error("wrong bytes")
			}
			if tr := s.next(); tr.Probe || tr.Err != nil || tr.Bytes != int64(len(file)) || tr.WindowSize != n || tr.BlockSize != 1468 {
				t.Errorf("transfer reported as %+v", tr)
			}
		})
	}
}

func TestWindowSurvivesLoss(t *testing.T) {
	for name, drop := range map[string]func(n int) bool{
		"first of a window":   func(n int) bool { return n%40 == 1 },
		"inside a window":     func(n int) bool { return n%37 == 2 },
		"last of a window":    func(n int) bool { return n%60 == 4 },
		"two in a row":        func(n int) bool { return n%50 < 2 },
		"the very last block": func(n int) bool { return n == 201 },
	} {
		t.Run(name, func(t *testing.T) {
			file := random(512*200 + 5)
			s := serve(t, "127.0.0.1:0", Config{}, map[string][]byte{"f": file})
			c := dial(t, s.addr)
			c.send(rrq("f", "octet", "windowsize", "4"))
			c.wantOACK("windowsize\x004\x00")
			c.ack(0)
			if got := c.receive(512, 4, drop); !bytes.Equal(got, file) {
				t.Error("wrong bytes")
			}
			tr := s.next()
			// A duplicate must not breed duplicates (RFC 1123 section 4.2.3.1).
			if tr.Err != nil || tr.Resent > 60 {
				t.Errorf("%+v", tr)
			}
			t.Logf("%d of 201 blocks sent again, %v", tr.Resent, tr.Took)
		})
	}
}

// With blocks of 8 bytes the block number passes 65535.
func TestBlockNumberWraps(t *testing.T) {
	file := random(8*70000 + 3)
	s := serve(t, "127.0.0.1:0", Config{}, map[string][]byte{"f": file})
	c := dial(t, s.addr)
	c.send(rrq("f", "octet", "blksize", "8", "windowsize", "64"))
	c.wantOACK("blksize\x008\x00windowsize\x0064\x00")
	c.ack(0)
	if got := c.receive(8, 64, nil); !bytes.Equal(got, file) {
		t.Error("wrong bytes")
	}
}

func TestOptionsAreAnsweredWithinLimits(t *testing.T) {
	file := random(3000)
	for name, tc := range map[string]struct{ ask, want string }{
		"window cut":            {"windowsize 65535", "windowsize 64"},
		"window of one":         {"windowsize 1", "windowsize 1"},
		"window cut by bytes":   {"blksize 65464 windowsize 64", "blksize 65464 windowsize 4"},
		"timeout":               {"timeout 7", "timeout 7"},
		"tiny block":            {"blksize 20", "blksize 20"},
		"everything":            {"tsize 0 blksize 1024 timeout 3 windowsize 2", "blksize 1024 timeout 3 tsize 3000 windowsize 2"},
		"in capitals":           {"TSIZE 0", "tsize 3000"},
		"what is not an option": {"blksize 512 utimeout 100", "blksize 512"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "127.0.0.1:0", Config{}, map[string][]byte{"f": file})
			c := dial(t, s.addr)
			c.send(rrq(append([]string{"f", "octet"}, strings.Fields(tc.ask)...)...))
			c.wantOACK(strings.ReplaceAll(tc.want, " ", "\x00") + "\x00")
			c.fail(codeUndefined)
			s.next()
		})
	}
}

func TestNegotiatedTimeoutIsUsed(t *testing.T) {
	s := serve(t, "127.0.0.1:0", Config{Timeout: 300 * time.Millisecond}, map[string][]byte{"f": random(10)})
	c := dial(t, s.addr)
	c.send(rrq("f", "octet", "timeout", "1"))
	c.wantOACK("timeout\x001\x00")
	start := time.Now()
	c.wantOACK("timeout\x001\x00")
	if d := time.Since(start); d < 900*time.Millisecond {
		t.Errorf("sent again after %v, negotiated was 1 s", d)
	}
	c.ack(0)
	c.receive(512, 1, nil)
	if tr := s.next(); tr.Err != nil {
		t.Error(tr.Err)
	}
}

// A repeated acknowledgement must not be answered in lockstep.
func TestSorcerersApprentice(t *testing.T) {
	for name, opt := range map[string][]string{"plain": nil, "windowsize": {"windowsize", "1"}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "127.0.0.1:0", Config{Timeout: 2 * time.Second}, map[string][]byte{"f": random(512*4 + 1)})
			c := dial(t, s.addr)
			c.send(rrq(append([]string{"f", "octet"}, opt...)...))
			if opt != nil {
				c.wantOACK("windowsize\x001\x00")
				c.ack(0)
			}
			seen := 0
			for want := uint16(1); want <= 5; want++ {
				op, n, _ := c.read()
				if op != opDATA || n != want {
					t.Fatalf("opcode %d block %d, want block %d", op, n, want)
				}
				seen++
				c.ack(n)
				c.ack(n)
			}
			if _, n, _, ok := c.poll(50 * time.Millisecond); ok {
				t.Errorf("block %d came once more", n)
			}
			if tr := s.next(); tr.Err != nil {
				t.Error(tr.Err)
			}
		})
	}
}

func TestDuplicateRequestsMakeOneTransfer(t *testing.T) {
	for name, opt := range map[string][]string{"pin/tftp": {"netascii", "blksize", "1024"}, "lockstep": {"octet", "blksize", "1024"}, "windowed": {"octet", "windowsize", "8"}} {
		t.Run(name, func(t *testing.T) {
			file := random(5000)
			s := serve(t, "127.0.0.1:0", Config{Timeout: 2 * time.Second}, map[string][]byte{"f": file, "g": file})
			c := dial(t, s.addr)
			req := c.to
			for range 300 {
				c.send(rrq(append([]string{"/f"}, opt...)...))
			}
			op, _, _ := c.read()
			if op != opOACK {
				t.Fatalf("opcode %d", op)
			}
			transferPort := c.to
			// The next answer on the request port shows that all 300 were read, as
			// many as its buffer held.
			for {
				c.to = req
				c.send(rrq("missing", "octet"))
				if op, _, _, ok := c.poll(100 * time.Millisecond); ok && c.to.Port == req.Port {
					if op != opERROR {
						t.Fatalf("opcode %d", op)
					}
					break
				}
			}
			if n := s.opened.Load(); n != 1 {
				t.Errorf("300 equal requests opened the file %d times", n)
			}
			// The last refusal is out a moment before it is off the books.
			for deadline := time.Now().Add(10 * time.Second); s.Active() != 1; runtime.Gosched() {
				if time.Now().After(deadline) {
					t.Fatalf("%d transfers", s.Active())
				}
			}
			c.to = transferPort
			c.fail(codeUndefined)
			s.next()
			s.next()
		})
	}
}

// A client that only looked at the size, and asked for the file from the same port at
// once, was taken for a duplicate of itself while its first transfer was being ended;
// so was one that asked without options after it made nothing of an OACK.
func TestOtherOptionsAreNoDuplicate(t *testing.T) {
	file := random(5000)
	s := serve(t, "127.0.0.1:0", Config{Timeout: time.Second}, map[string][]byte{"f": file})
	for name, again := range map[string][]byte{
		"without tsize": rrq("f", "octet", "blksize", "1024"), "plain": rrq("f", "octet"), "as text": rrq("f", "netascii", "tsize", "0", "blksize", "1024"),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s.addr)
			req := c.to
			c.send(rrq("f", "octet", "tsize", "0", "blksize", "1024"))
			c.wantOACK("blksize\x001024\x00tsize\x005000\x00")
			first := c.to
			c.to = req // the first is under way still
			c.send(again)
			for c.to.Port == req.Port || c.to.Port == first.Port {
				if _, _, _, ok := c.poll(5 * time.Second); !ok {
					t.Fatal("no answer")
				}
			}
			second := c.to
			for _, c.to = range []*net.UDPAddr{first, second} {
				c.fail(codeUndefined)
				s.next()
			}
		})
	}
}

// A machine that is reset in the middle of a transfer, and whose firmware picks
// the same port again, is not taken for a duplicate of itself.
func TestResetMachineIsServedAgain(t *testing.T) {
	for name, opt := range map[string][]string{"pin/tftp": {"netascii", "blksize", "512"}, "lockstep": {"octet", "tsize", "1"}, "windowed": {"octet", "windowsize", "1"}} {
		t.Run(name, func(t *testing.T) {
			file := random(512*20 + 1)
			s := serve(t, "127.0.0.1:0", Config{Timeout: 50 * time.Millisecond, Retries: 20}, map[string][]byte{"f": file})
			c := dial(t, s.addr)
			front := c.to
			c.send(rrq(append([]string{"f"}, opt...)...))
			c.read()
			c.ack(0)
			c.read()
			c.ack(1)
			for range 3 { // stands still: the block is sent again and again
				c.read()
			}
			old := c.to
			c.to = front
			c.send(rrq(append([]string{"f"}, opt...)...))
			for {
				op, _, _ := c.read()
				if op == opOACK && c.to.Port != old.Port {
					break
				}
			}
			fresh := c.to
			c.to = old
			c.fail(5) // what a client says to a transfer it does not know
			c.to = fresh
			c.fail(codeUndefined)
			s.next()
			s.next()
		})
	}
}

func TestLimits(t *testing.T) {
	s := serve(t, "127.0.0.1:0", Config{MaxTransfersPerClient: 3, MaxTransfers: 4, Timeout: 5 * time.Second}, map[string][]byte{"f": random(5000)})
	var open []*client
	for range 3 {
		c := dial(t, s.addr)
		c.send(rrq("f", "octet"))
		c.read()
		open = append(open, c)
	}
	c := dial(t, s.addr)
	c.send(rrq("f", "octet"))
	if op, _, _, ok := c.poll(100 * time.Millisecond); ok {
		t.Fatalf("opcode %d: a fourth transfer for one client", op)
	}
	open[0].fail(codeUndefined)
	s.next()
	c.send(rrq("f", "octet")) // as a client does that got no answer
	c.read()
	for _, c := range append(open[1:], c) {
		c.fail(codeUndefined)
		s.next()
	}
}

// Requests with forged addresses and a timeout of 255 s held every place for 25
// minutes.
func TestSilentClientsKeptEverybodyElseOut(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  Config
		want error
	}{
		"they are given up":   {Config{Timeout: 20 * time.Millisecond}, errSilent},
		"they lose a place":   {Config{Timeout: 5 * time.Second, MaxTransfers: 2}, errRoom},
		"few are their tries": {Config{Timeout: 20 * time.Millisecond, Retries: 1000}, errSilent},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "127.0.0.1:0", tc.cfg, map[string][]byte{"f": random(5000)})
			req := rrq("f", "octet", "timeout", "255")
			heard := dial(t, s.addr)
			heard.send(rrq("f", "octet", "windowsize", "1", "timeout", "255"))
			heard.read()
			heard.ack(0)
			heard.read() // acknowledged something: keeps its place
			silent := dial(t, s.addr)
			silent.send(req)
			silent.read()
			if tc.want == errRoom {
				c := dial(t, s.addr)
				c.send(req)
				c.wantOACK("timeout\x00255\x00")
				defer c.fail(codeUndefined)
			}
			if tr := s.next(); !errors.Is(tr.Err, tc.want) || tr.Client.Port() != silent.port() {
				t.Errorf("%+v, want %v of the silent client", tr, tc.want)
			}
			heard.fail(codeUndefined)
		})
	}
}

func (c *client) port() uint16 { return c.conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

func TestRefusals(t *testing.T) {
	s := serve(t, "127.0.0.1:0", Config{}, map[string][]byte{})
	for name, tc := range map[string]struct {
		in   []byte
		code uint16
	}{
		"missing": {rrq("nope", "octet"), codeNotFound},
		"write":   {[]byte("\x00\x02up\x00octet\x00"), codeAccess},
		"mail":    {rrq("f", "mail"), codeIllegal},
		"up":      {rrq("../f", "octet"), codeAccess},
		"cut off": {[]byte("\x00\x01f"), codeIllegal},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, s.addr)
			c.send(tc.in)
			if op, code, text := c.read(); op != opERROR || code != tc.code || len(text) < 2 || text[len(text)-1] != 0 {
				t.Errorf("opcode %d code %d %q, want error %d", op, code, text, tc.code)
			}
		})
	}
	if tr := s.next(); !errors.Is(tr.Err, fs.ErrNotExist) || tr.Name != "nope" {
		t.Errorf("missing file reported as %+v", tr)
	}
	// Neither data nor errors are answered at the request port.
	c := dial(t, s.addr)
	c.send([]byte("\x00\x03\x00\x01data"))
	c.fail(1)
	if op, _, _, ok := c.poll(50 * time.Millisecond); ok {
		t.Errorf("opcode %d in answer to no request", op)
	}
}

// On a socket bound to every address, answers leave from the one that was asked,
// which is not the one the kernel would choose.
func TestAnswersComeFromTheAddressAsked(t *testing.T) {
	file := random(2000)
	s := serve(t, "0.0.0.0:0", Config{}, map[string][]byte{"f": file})
	for _, addr := range []string{"127.0.0.1", "127.0.0.5"} {
		want := netip.AddrPortFrom(netip.MustParseAddr(addr), s.addr.Port())
		for name, req := range map[string][]byte{
			"lockstep": rrq("f", "octet"),
			"windowed": rrq("f", "octet", "windowsize", "4"),
			"error":    rrq("none", "octet"),
		} {
			c := dial(t, want)
			c.send(req)
			op, _, _ := c.read()
			if from := c.to.AddrPort().Addr().Unmap(); from != want.Addr() {
				t.Errorf("%s: asked %s, answered from %s", name, want.Addr(), from)
			}
			if op == opOACK {
				c.ack(0)
			}
			if op != opERROR {
				c.fail(codeUndefined)
			}
			s.next()
		}
	}
}

func TestEndTellsTheClients(t *testing.T) {
	for name, opt := range map[string][]string{"pin/tftp": {"netascii", "blksize", "512"}, "lockstep": {"octet", "blksize", "512"}, "windowed": {"octet", "windowsize", "1"}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "127.0.0.1:0", Config{Timeout: 300 * time.Millisecond}, map[string][]byte{"f": random(512 * 50)})
			c := dial(t, s.addr)
			c.send(rrq(append([]string{"f"}, opt...)...))
			c.read()
			c.ack(0)
			c.read()
			s.stop()
			c.ack(1)
			for {
				op, n, _ := c.read()
				if op == opERROR {
					break
				}
				c.ack(n) // sent before the end was seen
			}
			if tr := s.next(); !errors.Is(tr.Err, errStopping) {
				t.Errorf("%+v", tr)
			}
		})
	}
}

// A socket that is retired answers nobody new, and lets transfers finish.
func TestClosedSocketDrains(t *testing.T) {
	for name, opt := range map[string][]string{"pin/tftp": {"netascii", "blksize", "512"}, "lockstep": {"octet", "blksize", "512"}, "windowed": {"octet", "windowsize", "1"}} {
		t.Run(name, func(t *testing.T) {
			file := bytes.Repeat([]byte("a"), 512*50) // the same as text
			s := serve(t, "127.0.0.1:0", Config{Timeout: 2 * time.Second}, map[string][]byte{"f": file})
			c := dial(t, s.addr)
			c.send(rrq(append([]string{"f"}, opt...)...))
			c.read()
			s.conn.Close()
			c.ack(0)
			if got := c.receive(512, 1, nil); !bytes.Equal(got, file) {
				t.Error("wrong bytes")
			}
			if tr := s.next(); tr.Err != nil {
				t.Error(tr.Err)
			}
			if err := <-s.ended; err != nil {
				t.Error(err)
			}
			s.ended = nil
		})
	}
}

func TestSilentClientIsGivenUp(t *testing.T) {
	s := serve(t, "127.0.0.1:0", Config{Timeout: 20 * time.Millisecond, Retries: 2}, map[string][]byte{"f": random(5000)})
	for _, opt := range [][]string{nil, {"windowsize", "4"}} {
		c := dial(t, s.addr)
		c.send(rrq(append([]string{"f", "octet"}, opt...)...))
		if tr := s.next(); tr.Err == nil || tr.Probe || tr.Bytes != 0 {
			t.Errorf("%+v", tr)
		}
	}
	// A client whose port is closed is gone at once.
	c := dial(t, s.addr)
	c.send(rrq("f", "octet", "windowsize", "4"))
	c.conn.Close()
	if tr := s.next(); tr.Err == nil {
		t.Errorf("%+v", tr)
	}
}

func TestNothingLeaks(t *testing.T) {
	s := serve(t, "127.0.0.1:0", Config{MaxTransfersPerClient: 100}, map[string][]byte{"f": random(700), "empty": {}})
	before := openFiles(t)
	for i := range 100 {
		for _, req := range [][]byte{
			rrq("f", "octet"), rrq("f", "octet", "windowsize", "2"), rrq("f", "octet", "tsize", "0"),
			rrq("none", "octet"), rrq("empty", "octet", "tsize", "0"), rrq("f", "netascii", "blksize", "100", "tsize", "0"),
		} {
			c := dial(t, s.addr)
			c.send(req)
			op, _, _ := c.read()
			if op == opOACK {
				if i%2 == 0 {
					c.fail(codeOptionAbort)
				} else {
					c.ack(0)
				}
			}
			if op != opERROR && (op != opOACK || i%2 == 1) {
				c.receive2(op)
			}
			s.next()
			c.conn.Close()
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for openFiles(t) > before && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files open before, %d after", before, after)
	}
}

// receive2 takes a file of blocks of 512 bytes whose first packet, of opcode op,
// was read already.
func (c *client) receive2(op uint16) {
	c.t.Helper()
	n := len(c.last) - 4
	if op == opOACK {
		_, _, data := c.read()
		n = len(data)
	}
	c.ack(1)
	if n == 512 {
		c.read()
		c.ack(2)
	}
}

var _ net.PacketConn = (*front)(nil)

// A client that had its last block twice acknowledged it and closed its port: the
// second copy was refused, and the transfer counted as broken off although the
// acknowledgement was there.
func TestAcknowledgementBeforeAClosedPort(t *testing.T) {
	for _, how := range []string{"told while reading", "told while sending"} {
		t.Run(how, func(t *testing.T) {
			client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			conn, err := net.DialUDP("udp4", nil, client.LocalAddr().(*net.UDPAddr))
			if err != nil {
				t.Fatal(err)
			}
			w := &sender{}
			w.sock.use(conn)
			defer w.sock.close()
			w.sock.interrupted = func() error { return nil }
			if _, err := client.WriteTo([]byte{0, opACK, 0, 7}, conn.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			client.Close()
			if err := w.sock.write([]byte{0, opDATA, 0, 7}); err != nil { // on loopback it is refused by now
				t.Fatal(err)
			}
			if how == "told while sending" {
				if err := w.lost(w.sock.write([]byte{0, opDATA, 0, 7})); err != nil {
					t.Fatalf("sending: %v", err)
				}
			}
			deadline := time.Now().Add(5 * time.Second)
			if n, err := w.read(deadline); n != 7 || err != nil {
				t.Fatalf("block %d, %v; want 7", n, err)
			}
			if _, err := w.read(deadline); !errors.Is(err, errGone) {
				t.Errorf("after that: %v, want %v", err, errGone)
			}
		})
	}
}
