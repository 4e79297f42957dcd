package nbd

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// 200 clients that ask for 60 × 32 MiB each over TLS and take nothing: what each of them
// holds is what docs/nbd.md says, and one worker has what the disk is done with.
func TestTLSReadersThatNeverRead(t *testing.T) {
	const clients = 200
	h := testShelf()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 32 << 20, ReadOnly: true}, Backend: d}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := newPKI(t)
	s := New(crowd(h), Limits{PerAddress: 1000, Stall: time.Hour}, nil)
	s.Secure(Security{Config: p.server})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.Wait()
	})
	check := bystander(t, connect(t, ln.Addr()))
	var idle []*client
	for range clients {
		cl := connect(t, ln.Addr())
		cl.nc.(*net.TCPConn).SetReadBuffer(4096)
		cl.greet(3)
		if err := cl.startTLS(p.client); err != nil {
			t.Fatal(err)
		}
		if got := cl.last(7, infoData("x")); got != ack {
			t.Fatalf("GO: %#x", got)
		}
		idle = append(idle, cl)
	}
	check()
	before, goroutines := measure(t), runtime.NumGoroutine()
	for _, cl := range idle {
		cl.nc.SetDeadline(time.Now().Add(time.Minute))
		cl.send(bytes.Repeat(request(0, 0, 1, 0, 32<<20), 60))
	}
	// Nobody else's bytes are sent any more, and who has nothing to do but wait is gone: what
	// is left for each is one worker.
	begun := time.Now()
	for stuck, was := 0, uint64(0); stuck < 10 || runtime.NumGoroutine() > goroutines+clients+10; {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d goroutines more", runtime.NumGoroutine()-goroutines)
		}
		check()
		now := s.Counts().Read
		if stuck++; now-was != 1<<20 {
			stuck = 0
		}
		was = now
	}
	before.within(t, 45<<20) // 16 MiB are shared
	for _, cl := range idle {
		cl.nc.Close()
	}
}
