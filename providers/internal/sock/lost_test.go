package sock

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A listener that somebody shut down is open and silent; that is noticed.
func TestListening(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Listening(l.(*net.TCPListener)); err != nil {
		t.Errorf("a sound listener: %v", err)
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RD) })
	if err != nil {
		t.Fatal(err)
	}
	if err := Listening(l.(*net.TCPListener)); !errors.Is(err, errNotListening) {
		t.Errorf("shut down: %v", err)
	}
}

// A socket that is not what was bound any more is opened again, though the one who
// serves it heard nothing of that; meanwhile it is told as lost.
func TestCheckedSocketIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("its interface is gone")
		var away atomic.Bool
		var opened atomic.Int32
		s := New(func(context.Context, string) (*fake, error) {
			if away.Load() {
				return nil, gone
			}
			opened.Add(1)
			return &fake{make(chan struct{})}, nil
		}, func(ctx context.Context, _ string, f *fake) error {
			select {
			case <-f.closed:
			case <-ctx.Done():
			}
			return nil
		}).Check(func(string, *fake) error {
			if away.Load() {
				return gone
			}
			return nil
		})
		p, err := s.Prepare(t.Context(), []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		p.Commit()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		lost := func() error {
			synctest.Wait()
			return s.Lost(func(string) netip.Addr { return netip.Addr{} })["a"]
		}
		time.Sleep(2 * checkEvery)
		if err := lost(); err != nil || opened.Load() != 1 {
			t.Errorf("a sound socket: lost %v, opened %d times", err, opened.Load())
		}
		away.Store(true)
		time.Sleep(2 * checkEvery)
		if err := lost(); !errors.Is(err, gone) {
			t.Errorf("lost: %v", err)
		}
		away.Store(false)
		time.Sleep(2 * longestPause)
		if err := lost(); err != nil || opened.Load() != 2 {
			t.Errorf("afterwards: lost %v, opened %d times", err, opened.Load())
		}
		if err := s.Lost(func(string) netip.Addr { return netip.MustParseAddr("203.0.113.77") })["a"]; err == nil {
			t.Error("an address that no interface has is there")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
