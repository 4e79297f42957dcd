package tftp

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"
)

// A transfer that waits in the kernel gives its seat to others when its client stands
// still, goes on afterwards, repeats what is lost, and ends when the server does.
func TestSeats(t *testing.T) {
	if n := runtime.GOMAXPROCS(0); n < 2 { // there is one seat for every two
		runtime.GOMAXPROCS(2)
		t.Cleanup(func() { runtime.GOMAXPROCS(n) })
	}
	file := random(512*300 + 1)
	s := serve(t, "127.0.0.1:0", Config{Timeout: time.Second}, map[string][]byte{"f": file})
	seated := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); len(s.seats) != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d seats taken, want %d", len(s.seats), want)
			}
		}
	}
	first := dial(t, s.addr)
	first.send(rrq("f", "octet"))
	block := func(c *client, n uint16) {
		t.Helper()
		op, got, data := c.read()
		for got < n { // repeated while it stood still
			op, got, data = c.read()
		}
		if op != opDATA || got != n || !bytes.Equal(data, file[int(n-1)*512:int(n)*512]) {
			t.Fatalf("opcode %d block %d, want block %d", op, got, n)
		}
	}
	block(first, 1)
	n := uint16(1)
	for ; len(s.seats) == 0; n++ {
		if n == 250 {
			t.Fatal("a client that answers at once has no seat")
		}
		first.ack(n)
		block(first, n+1)
	}
	seated(0) // it stands still
	block(first, n)

	second := dial(t, s.addr)
	second.send(rrq("f", "octet", "windowsize", "4"))
	second.wantOACK("windowsize\x004\x00")
	second.ack(0)
	if got := second.receive(512, 4, func(n int) bool { return n%50 == 2 }); !bytes.Equal(got, file) {
		t.Error("wrong bytes")
	}
	if tr := s.next(); tr.Err != nil {
		t.Error(tr.Err)
	}
	seated(0)

	for end := n + 20; n < end; n++ {
		first.ack(n)
		block(first, n+1)
	}
	s.stop()
	if tr := s.next(); !errors.Is(tr.Err, errStopping) || tr.Bytes < 18*512 {
		t.Errorf("%+v", tr)
	}
	seated(0)
}

// A client that had a seat kept it, and was sent nothing any more, for as long as it
// told old news faster than the seat is lost.
func TestChatterKeepsNoSeat(t *testing.T) {
	if n := runtime.GOMAXPROCS(0); n < 2 {
		runtime.GOMAXPROCS(2)
		t.Cleanup(func() { runtime.GOMAXPROCS(n) })
	}
	file := random(512 * 300)
	s := serve(t, "127.0.0.1:0", Config{Retries: 2}, map[string][]byte{"f": file})
	c := dial(t, s.addr)
	c.send(rrq("f", "octet"))
	n := uint16(1)
	for c.read(); len(s.seats) == 0; n++ {
		if n == 250 {
			t.Fatal("a client that answers at once has no seat")
		}
		c.ack(n)
		c.read()
	}
	every := time.NewTicker(seatWait / 4)
	defer every.Stop()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case <-every.C:
			c.ack(n - 1)
			continue
		case tr := <-s.done:
			if !errors.Is(tr.Err, errSilent) || tr.Resent == 0 {
				t.Errorf("%+v", tr)
			}
		case <-deadline:
			t.Error("the transfer goes on for ever")
		}
		break
	}
	if len(s.seats) != 0 {
		t.Error("the seat is taken still")
	}
}

// A thread that came back from a seat had the priority of an ordinary process, not of
// this one, and so had the children that it started.
func TestPriorityGoesWithTheSeat(t *testing.T) {
	const low = 7
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // for good: its thread ends with the goroutine
		prefer(low)
		conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
		if err != nil {
			t.Error(err)
			return
		}
		s := socket{seats: make(seats, 1)}
		s.use(conn)
		s.sit(0)
		if got := priority(); got != seatNice && got != low { // low where it may not go up
			t.Errorf("%d while seated", got)
		}
		s.close()
		if got := priority(); got != low {
			t.Errorf("%d without the seat, was %d before", got, low)
		}
	}()
	<-ended
}

// A client that asked for the same window again and again got it, for ever.
func TestOneWindowIsNotSentForEver(t *testing.T) {
	s := serve(t, "127.0.0.1:0", Config{Timeout: 50 * time.Millisecond, Retries: 1}, map[string][]byte{"f": random(512 * 300)})
	c := dial(t, s.addr)
	c.send(rrq("f", "octet", "windowsize", "4"))
	c.wantOACK("windowsize\x004\x00")
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case <-every.C:
			c.ack(0)
			continue
		case tr := <-s.done:
			if !errors.Is(tr.Err, errSilent) || tr.Resent == 0 {
				t.Errorf("%+v", tr)
			}
		case <-deadline:
			t.Error("the transfer goes on for ever")
		}
		break
	}
}
