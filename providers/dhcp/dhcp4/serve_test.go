package dhcp4

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// Trouble in reading ends neither the server nor a single worker.
func TestServeSurvivesReadErrors(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ep := Endpoint{Listen: netip.MustParseAddrPort("127.0.0.1:0")}
	c, err := Listen(ctx, ep)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	s := New(Config{Published: func(func(*Table) bool) { asked.Add(1) }})
	c.udp.SetReadDeadline(time.Unix(1, 0)) // every read fails
	done := make(chan error)
	go func() { done <- s.Serve(ctx, c) }()
	failing := func() bool { s.quiet.mu.Lock(); defer s.quiet.mu.Unlock(); return len(s.quiet.last) > 0 }
	client, err := net.Dial("udp4", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	packet := make([]byte, headerSize)
	packet[0], packet[1], packet[2], packet[28] = 1, 1, 6, 2 // BOOTP
	for deadline := time.Now().Add(5 * time.Second); asked.Load() == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is read any more")
		}
		if failing() {
			c.udp.SetReadDeadline(time.Time{})
			client.Write(packet)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A server that was told of one wire does not answer on another.
func TestPacketsOfAnotherWireAreIgnored(t *testing.T) {
	direct, relayed := make([]byte, headerSize), make([]byte, headerSize)
	relayed[24] = 10
	for name, c := range map[string]struct {
		socket, came int
		packet       []byte
		want         bool
	}{
		"its own wire":   {2, 2, direct, false},
		"another wire":   {2, 3, direct, true},
		"a relay agent":  {2, 3, relayed, false},
		"no interface":   {0, 3, direct, false},
		"half a packet":  {2, 3, direct[:20], false},
		"nobody can say": {2, 0, direct, false},
	} {
		if got := (&Conn{index: c.socket}).strays(c.packet, c.came); got != c.want {
			t.Errorf("%s: ignored %v", name, got)
		}
	}
}
