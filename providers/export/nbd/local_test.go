package nbd

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// Programs of this machine had the connections that are for machines, without a bound of
// their own.
func TestLocalConnectionsAreCountedApart(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := crowd(testShelf())
	s, stop := serveOn(t, tcp, h, Limits{Connections: 2, HalfOpen: 2, Local: 3})
	defer stop()
	local, err := net.Listen("unix", filepath.Join(t.TempDir(), "nbd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, local) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	dial := func(ln net.Listener) *client {
		nc, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		return &client{t: t, nc: nc, in: bufio.NewReader(nc)}
	}
	machine := dial(tcp)
	machine.greet(3) // in its handshake: who comes might get its place
	for range 3 {
		dial(local).attach("ro")
	}
	dial(local).wantClosed()
	machine.send(option(7, infoData("ro")))
	machine.replies(7)
	second := dial(tcp)
	second.attach("ro")
	for _, cl := range []*client{machine, second} {
		cl.send(request(0, 0, 1, 0, 512))
		cl.wantReply(0, 1)
		cl.recv(512)
	}
	dial(tcp).wantClosed()
}
