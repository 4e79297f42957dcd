package nbdprobe

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever a server gives but whole answers, a byte now and then or a chunk of one, it
// is given up after the time-out; whole ones give it more time, up to Within.
func TestDrippingServers(t *testing.T) {
	const pause = 900 * time.Millisecond
	drip := make([]byte, 16+4096)
	copy(drip, be(uint32(simpleMagic), uint32(0), uint64(1)))
	for _, c := range []struct {
		what  string
		form  []byte
		each  func(i int) []byte // what comes after each pause
		after time.Duration
		want  string
	}{
		{"bytes", noChunks, func(i int) []byte { return drip[i : i+1] }, 0, "after 0 of 1048576 bytes: no whole answer within 30s: 17 bytes came of 4 requests"},
		{"bytes of data", noChunks, func(i int) []byte {
			if i == 0 {
				return drip[:16]
			}
			return drip[16:17]
		}, 0, "after 0 of 1048576 bytes: no whole answer within 30s: 32 bytes came of 4 requests"},
		{"chunks", chunks, func(i int) []byte { return said(0, chunkData, 1, 9, uint64(i), "x") }, 0, "after 0 of 1048576 bytes: no whole answer within 30s: 33 bytes came of 4 requests"},
		{"answers, and then bytes", noChunks, func(i int) []byte {
			if i < 50 {
				return be(uint32(simpleMagic), uint32(0), uint64(i+1), make([]byte, 4096))
			}
			return be(uint32(simpleMagic), uint32(0), uint64(51), make([]byte, 4096))[i-50:][:1]
		}, 50 * pause, "after 204800 of 1048576 bytes: no whole answer within 30s: 17 bytes came of 4 requests"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() { io.Copy(io.Discard, theirs) })
			wg.Go(func() {
				defer theirs.Close()
				if _, err := theirs.Write(opened(c.form, 1<<20)); err != nil {
					return
				}
				for i := 0; ; i++ {
					time.Sleep(pause)
					if _, err := theirs.Write(c.each(i)); err != nil {
						return
					}
				}
			})
			l := &link{nc: ours, in: bufio.NewReaderSize(ours, readBuffer)}
			conf := Config{Request: 4096, Depth: 4, Hash: true}
			if err := conf.withDefaults(); err != nil {
				t.Fatal(err)
			}
			if err := l.negotiate(t.Context(), "x", nil); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err := conf.read(t.Context(), []*link{l}, &Result{Export: l.export})
			if took := time.Since(began); err == nil || !strings.HasSuffix(err.Error(), c.want) || took != c.after+conf.Timeout {
				t.Errorf("%s: %v after %s, want %q after %s", c.what, err, took, c.want, c.after+conf.Timeout)
			}
			ours.Close()
			wg.Wait()
		})
	}
}

// Within is the end, wherever it is then.
func TestWithin(t *testing.T) {
	for what, says := range map[string][]byte{"in the handshake": greeting, "in a read": opened(noChunks, 1<<20)} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if c, err := l.Accept(); err == nil {
				defer c.Close()
				c.Write(says)
				io.Copy(io.Discard, c)
			}
		}()
		_, err = Probe(t.Context(), Config{Network: "tcp", Address: l.Addr().String(), Export: "x", Timeout: time.Hour, Within: 100 * time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), "it was not done within 100ms") {
			t.Errorf("%s: %v", what, err)
		}
		<-done
		l.Close()
	}
}

// No more is asked for at once than Depth on each connection, and no less, however answers
// are ordered, and no more is held than MaxMemory.
func TestNoMoreThanDepth(t *testing.T) {
	const depth, conns, each, size = 5, 3, 4096, 100*4096 + 512
	synctest.Test(t, func(t *testing.T) {
		conf := Config{Request: each, Depth: depth, Connections: conns, Hash: true}
		if err := conf.withDefaults(); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var links []*link
		most := make([]int, conns)
		for i := range conns {
			ours, theirs := net.Pipe()
			wg.Go(func() { most[i] = answerBackwards(theirs, size) })
			l := &link{nc: ours, in: bufio.NewReaderSize(ours, readBuffer)}
			defer ours.Close()
			if err := l.negotiate(t.Context(), "x", nil); err != nil {
				t.Fatal(err)
			}
			links = append(links, l)
		}
		r := &Result{Export: links[0].export}
		if err := conf.read(t.Context(), links, r); err != nil || r.Bytes != size {
			t.Errorf("%d bytes, %v", r.Bytes, err)
		}
		for _, l := range links {
			l.close()
		}
		wg.Wait()
		for i, n := range most {
			if n != depth {
				t.Errorf("connection %d: %d requests at once, want %d", i, n, depth)
			}
		}
	})

	s := newSequence(1<<20, 512, ahead*depth, true)
	var held []*piece
	for p := s.claim(false); p != nil; p = s.claim(false) {
		held = append(held, p)
	}
	if len(held) != ahead*depth {
		t.Errorf("%d requests are held, want %d", len(held), ahead*depth)
	}
	most1 := Config{Request: MaxRequest, Depth: MaxMemory / MaxRequest / ahead, Connections: 1}
	if err := most1.Check(); err != nil {
		t.Error(err)
	}
	if most1.Depth++; most1.Check() == nil {
		t.Errorf("%d requests of %d bytes are let through, and as many in line", most1.Depth, most1.Request)
	}
}

// answerBackwards serves a connection in a synctest bubble, and gives how many requests
// there were at once. It answers when nothing more comes, the last first: its pause ends
// when everybody waits.
func answerBackwards(nc net.Conn, size uint64) (most int) {
	defer nc.Close()
	requests := make(chan []byte, size/MinRequest+1) // all: a pipe holds nothing
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(requests)
		in := bufio.NewReader(nc)
		if _, err := in.Discard(4 + 16 + 16 + 4 + 1 + 2 + 3*2); err != nil {
			return
		}
		for {
			req := make([]byte, 28)
			if _, err := io.ReadFull(in, req); err != nil || binary.BigEndian.Uint16(req[6:]) == cmdDisconnect {
				return
			}
			requests <- req
		}
	})
	nc.Write(be(greeting, noChunks, uint64(replyMagic), uint32(optGo), uint32(repInfo), uint32(12), uint16(infoExport), size, uint16(1|flagReadOnly|flagMultiConn), attached))
	var waiting [][]byte
	for {
		select {
		case req, more := <-requests:
			if !more {
				return most
			}
			reply := be(uint32(simpleMagic), uint32(0), req[8:16], make([]byte, binary.BigEndian.Uint32(req[24:])))
			waiting = append([][]byte{reply}, waiting...)
			most = max(most, len(waiting))
		case <-time.After(time.Millisecond):
			for _, w := range waiting {
				nc.Write(w)
			}
			waiting = nil
		}
	}
}
