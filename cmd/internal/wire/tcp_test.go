package wire

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestStreamsOnABadNetwork sends a file in segments that are repeated, cut anew and
// out of order, across the wrap of the sequence numbers.
func TestStreamsOnABadNetwork(t *testing.T) {
	content := noise(300_000)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(content))
	stream := append([]byte(head), content...)
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		p := &tape{}
		isn := [2]uint32{uint32(rnd.Uint64()), ^uint32(0) - uint32(rnd.IntN(len(stream)))}
		c := p.connect(clientAddr, serverAddr, isn)
		p.tcp(clientAddr, serverAddr, isn[toServer], flagSYN, nil) // late duplicate
		c.send(get("/vmlinuz"))
		first := len(p.frames)
		segment := func(from, to int) {
			p.tcp(serverAddr, clientAddr, c.seq[toClient]+uint32(from), flagACK, stream[from:to])
		}
		for from := 0; from < len(stream); {
			to := min(len(stream), from+1+rnd.IntN(3000))
			segment(from, to)
			if rnd.IntN(4) == 0 { // retransmitted with other borders
				segment(max(0, from-rnd.IntN(2000)), min(len(stream), to+rnd.IntN(500)))
			}
			if rnd.IntN(9) == 0 { // keep-alive probe
				p.tcp(serverAddr, clientAddr, c.seq[toClient]+uint32(from)-1, flagACK, []byte{0})
			}
			from = to
		}
		const reach = 30 // how far a segment strays
		late := p.frames[first:]
		for i := range late {
			j := min(len(late)-1, i+rnd.IntN(reach))
			late[i], late[j] = late[j], late[i]
		}
		c.seq[toClient] += uint32(len(stream))
		c.fin(toClient)
		got := p.traffic(t).HTTP
		if len(got) != 1 || !got[0].Complete || got[0].Digest != sum(content) {
			t.Fatalf("seed %d: %+v", seed, got)
		}
	}
}

// TestAFINThatOvertakesData must not end the stream early.
func TestAFINThatOvertakesData(t *testing.T) {
	p := &tape{}
	c := p.connect(clientAddr, serverAddr, [2]uint32{1, 1})
	c.send("GET /a HTTP/1.0\r\n\r\n")
	c.reply("HTTP/1.0 200 OK\r\n\r\n")
	c.reply("hello")
	c.fin(toClient)
	n := len(p.frames)
	p.frames[n-1], p.frames[n-2] = p.frames[n-2], p.frames[n-1]
	if got := p.traffic(t).HTTP[0]; string(got.Body) != "hello" || !got.Complete {
		t.Errorf("%q, complete %v", got.Body, got.Complete)
	}
}

// TestAFrameThatTheCaptureLost: what is behind it is not passed off as the content.
func TestAFrameThatTheCaptureLost(t *testing.T) {
	content := noise(3 * maxGap)
	p := &tape{}
	c := p.connect(clientAddr, serverAddr, [2]uint32{1, 1})
	c.mtu = 60000
	c.send(get("/a"))
	c.reply(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(content)))
	first := len(p.frames)
	c.reply(string(content))
	p.frames = slices.Delete(p.frames, first+1, first+2)
	got := p.traffic(t).HTTP[0]
	if got.Complete || got.Bytes != 60000 || got.Digest != sum(content[:60000]) {
		t.Errorf("complete %v, %d bytes", got.Complete, got.Bytes)
	}
}

func TestGapsAreBounded(t *testing.T) {
	d := newDecoder()
	p := &tape{}
	for i := range 40 {
		client := clientAddr
		client = addPort(client, i)
		c := p.connect(client, serverAddr, [2]uint32{1, 1})
		c.mtu = 60000
		c.send("GET /")
		c.seq[toServer] += 100 // lost
		c.send(string(make([]byte, maxGap-60000)))
	}
	for i, f := range p.frames {
		d.frame(captured{at: beginning.Add(time.Duration(i)), data: f, size: len(f)})
	}
	if d.tcp.kept > maxGaps || d.tcp.kept < maxGaps/2 {
		t.Errorf("%d bytes are kept", d.tcp.kept)
	}
	// Tiny segments do not fill memory with their headers either.
	c := p.connect(addPort(clientAddr, 100), serverAddr, [2]uint32{1, 1})
	p.frames = nil
	for i := range 3 * maxSegments {
		p.tcp(c.client, c.server, uint32(10+2*i), flagACK, []byte("x"))
	}
	p.tcp(c.client, c.server, 1, flagSYN, nil)
	d = newDecoder()
	d.frame(captured{data: p.frames[len(p.frames)-1], size: 60})
	for _, f := range p.frames[:len(p.frames)-1] {
		d.frame(captured{data: f, size: len(f)})
	}
	for _, c := range d.tcp.open {
		if n := len(c.streams[toServer].gap); n > maxSegments {
			t.Errorf("%d segments are kept", n)
		}
	}
	d.finish()
	if d.tcp.kept != 0 || len(d.tcp.open) != 0 {
		t.Errorf("at the end %d bytes in %d connections", d.tcp.kept, len(d.tcp.open))
	}
}

// BenchmarkKernel reads a capture of a 30 MB file in Ethernet frames.
func BenchmarkKernel(b *testing.B) {
	content := noise(30 << 20)
	p := &tape{}
	c := p.connect(clientAddr, serverAddr, [2]uint32{1, 1})
	c.mtu = 1448
	c.send(get("/vmlinuz"))
	c.reply(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(content)))
	c.reply(string(content))
	b.SetBytes(int64(len(content)))
	file := p.file(b)
	for b.Loop() {
		if got := readAll(b, file).HTTP; len(got) != 1 || !got[0].Complete || got[0].Digest != sum(content) {
			b.Fatal("wrong")
		}
	}
}
