package tftp

import (
	"bytes"
	"errors"
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
