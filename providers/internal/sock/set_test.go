package sock

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// greeter listens on loopback and answers every connection with its key.
func greeter(t *testing.T) (*Set[string, net.Listener], map[string]int) {
	t.Helper()
	opened := map[string]int{}
	return New(func(_ context.Context, key string) (net.Listener, error) {
		if key == "taken" {
			return nil, errors.New("address already in use")
		}
		opened[key]++
		return net.Listen("tcp", "127.0.0.1:0")
	}, func(_ context.Context, key string, l net.Listener) error {
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			c.Write([]byte(key))
			c.Close()
		}
	}), opened
}

func run(t *testing.T, s *Set[string, net.Listener]) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}
}

func (s *Set[K, S]) socket(k K) (S, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.socks[k]
	if !ok {
		var none S
		return none, false
	}
	return e.sock, true
}

func prepare(t *testing.T, s *Set[string, net.Listener], keys ...string) *Pending[string, net.Listener] {
	t.Helper()
	p, err := s.Prepare(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func greets(t *testing.T, s *Set[string, net.Listener], key string) {
	t.Helper()
	l, ok := s.socket(key)
	if !ok {
		t.Fatalf("%s is not bound", key)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 16)
	if n, _ := c.Read(b); string(b[:n]) != key {
		t.Errorf("%s answers %q", key, b[:n])
	}
}

func TestSocketsOutliveGenerations(t *testing.T) {
	s, opened := greeter(t)
	first := prepare(t, s, "a", "b")
	first.Commit()
	stop := run(t, s) // sockets committed before Run are served too
	greets(t, s, "a")
	before, _ := s.socket("a")

	second := prepare(t, s, "a", "c")
	second.Commit()
	second.Abort() // after Commit it does nothing
	s.Retire(map[string]bool{"a": true, "c": true})
	greets(t, s, "a")
	greets(t, s, "c")
	if after, _ := s.socket("a"); after != before || opened["a"] != 1 {
		t.Errorf("a was opened %d times, want once", opened["a"])
	}
	if _, ok := s.socket("b"); ok {
		t.Error("b is still bound after it was retired")
	}
	if errs := s.Errs(); len(errs) != 0 {
		t.Errorf("errors of sockets that were closed on purpose: %v", errs)
	}
	stop()
	if _, ok := s.socket("a"); ok {
		t.Error("a is still bound after Run ended")
	}
}

func TestAbortClosesOnlyItsOwn(t *testing.T) {
	s, _ := greeter(t)
	prepare(t, s, "a").Commit()
	defer run(t, s)()
	p := prepare(t, s, "a", "new")
	p.Abort()
	p.Abort()
	if _, ok := s.socket("new"); ok {
		t.Error("an aborted socket is still bound")
	}
	greets(t, s, "a")

	// Retire does not take a socket that a transaction under way relies on.
	p = prepare(t, s, "a")
	s.Retire(nil)
	greets(t, s, "a")
	p.Commit()
	greets(t, s, "a")
}

func TestPrepareIsAllOrNothing(t *testing.T) {
	s, _ := greeter(t)
	if _, err := s.Prepare(t.Context(), []string{"a", "taken", "b"}); err == nil {
		t.Fatal("Prepare succeeds although an address is taken")
	}
	for _, k := range []string{"a", "taken", "b"} {
		if _, ok := s.socket(k); ok {
			t.Errorf("%s is still bound", k)
		}
	}
}

// fake is a socket that works in a bubble of synctest.
type fake struct{ closed chan struct{} }

func (f *fake) Close() error {
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	return nil
}

// breaking serves until the socket is closed; that of key breaks when broken says so.
func breaking(key string, broken <-chan struct{}) func(context.Context, string, *fake) error {
	return func(ctx context.Context, k string, f *fake) error {
		var breaks <-chan struct{}
		if k == key {
			breaks = broken
		}
		select {
		case <-f.closed:
		case <-breaks:
			return errors.New("broken")
		case <-ctx.Done():
		}
		return nil
	}
}

func TestFailedServeWasNeverStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		var opened, served atomic.Int32
		s := New(func(context.Context, string) (*fake, error) {
			if opened.Add(1) == 3 {
				return nil, errors.New("address already in use")
			}
			return &fake{make(chan struct{})}, nil
		}, func(ctx context.Context, _ string, f *fake) error {
			if served.Add(1) <= 2 {
				f.Close() // as the servers of HTTP and TFTP do, which own it
				return broken
			}
			select {
			case <-f.closed:
			case <-ctx.Done():
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
		state := func(when string, wantServed int32, wantErr string) {
			t.Helper()
			synctest.Wait()
			got := ""
			if err := s.Errs()["a"]; err != nil {
				got = err.Error()
			}
			if n := served.Load(); n != wantServed || got != wantErr {
				t.Errorf("%s: served %d times, error %q; want %d, %q", when, n, got, wantServed, wantErr)
			}
		}
		state("at first", 1, "broken")
		time.Sleep(time.Second) // served again, and fails at once
		state("after 1 s", 2, "broken")
		time.Sleep(2 * time.Second) // cannot be opened
		state("after 3 s", 2, "address already in use")
		time.Sleep(4 * time.Second)
		state("after 7 s", 3, "address already in use")
		time.Sleep(steady)
		state("steady", 3, "")

		s.Retire(nil)
		time.Sleep(longestPause)
		state("retired", 3, "")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPauseEndsWithRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(func(context.Context, string) (*fake, error) { return &fake{make(chan struct{})}, nil },
			func(context.Context, string, *fake) error { return errors.New("broken") })
		p, err := s.Prepare(t.Context(), []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		p.Commit()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(20 * time.Second) // in a pause of 16 s
		began := time.Now()
		cancel()
		if err := <-done; err != nil || time.Since(began) != 0 {
			t.Errorf("Run ended after %v with %v", time.Since(began), err)
		}
	})
}

func TestWantedSocketsFailAlone(t *testing.T) {
	s, opened := greeter(t)
	prepare(t, s, "a").Commit()
	failed := make(chan string, 1)
	s.Want([]string{"a", "taken", "old", "gone"}, func(k string, _ error) { failed <- k })
	s.Retire(map[string]bool{"a": true, "taken": true, "old": true})
	stop := run(t, s)
	if k := <-failed; k != "taken" {
		t.Errorf("%s failed", k)
	}
	for { // bound in the same breath
		if _, ok := s.socket("old"); ok {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("old is never bound")
		}
	}
	greets(t, s, "a")
	greets(t, s, "old")
	s.Retire(map[string]bool{"a": true})
	if _, ok := s.socket("old"); ok {
		t.Error("a wanted socket outlives its retirement")
	}
	stop()
	if opened["a"] != 1 || opened["gone"] != 0 {
		t.Errorf("opened %v", opened)
	}
}

// The daemon is stopped while a generation is being prepared: what was bound for it
// is closed with the rest, and neither Abort nor Commit minds.
func TestRunEndsWhileSocketsArePending(t *testing.T) {
	s, _ := greeter(t)
	stop := run(t, s)
	prepare(t, s, "old").Commit()
	aborted, committed := prepare(t, s, "old", "new"), prepare(t, s, "new")
	l, _ := s.socket("new")
	stop()
	aborted.Abort()
	committed.Commit()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a pending socket is open: %v", err)
	}
	if _, err := s.Prepare(t.Context(), []string{"late"}); err == nil {
		t.Error("a socket was bound that nobody closes")
	}
}
