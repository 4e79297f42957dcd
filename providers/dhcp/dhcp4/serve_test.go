package dhcp4

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
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

// While the disk was busy for some seconds, the kernel dropped what came after the first
// few hundred packets: its own limit holds for who does not ask it to be lifted.
func TestPacketsWaitForABusyServer(t *testing.T) {
	providertest.NeedRoot(t)
	const packets = 2000
	c, err := Listen(t.Context(), Endpoint{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	client, err := net.Dial("udp4", c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	packet := make([]byte, 548) // what every client may send, RFC 2131 section 2
	for range packets {
		if _, err := client.Write(packet); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, MaxPacket+1)
	for n := range packets {
		if err := c.udp.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := c.read(buf); err != nil {
			t.Fatalf("after %d of %d packets: %v", n, packets, err)
		}
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
