package nbd

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// Below TLS, time begins anew with every byte in either direction, and there is an end
// to that.
func TestPaceOfASecuredSocket(t *testing.T) {
	const stall, n = time.Minute, 1000
	for _, c := range []struct {
		name  string
		every time.Duration
		bytes int // each time
		ends  time.Duration
		moved int
		fails bool
	}{
		{"at once", 0, n, 0, n, false},
		{"slowly", 50 * time.Second, 100, 10 * 50 * time.Second, n, false},
		{"nothing", time.Hour, 1, stall, 0, true},
		{"too late", 61 * time.Second, 100, stall, 0, true},
		{"a byte now and then", 45 * time.Second, 1, maxStalls * stall, 13, true},
	} {
		for way, move := range map[string]func(p *paced, other net.Conn) (own, others func([]byte) (int, error), of *pace){
			"reads": func(p *paced, other net.Conn) (own, others func([]byte) (int, error), of *pace) {
				return func(b []byte) (int, error) { return io.ReadFull(p, b) }, other.Write, p.reads
			},
			"writes": func(p *paced, other net.Conn) (own, others func([]byte) (int, error), of *pace) {
				return p.Write, other.Read, p.writes
			},
		} {
			t.Run(way+" "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					here, there := net.Pipe()
					p := newPaced(here, stall)
					own, others, of := move(p, there)
					ended := make(chan struct{})
					go func() {
						defer close(ended)
						for b := make([]byte, c.bytes); ; {
							time.Sleep(c.every) // of the bubble
							if _, err := others(b); err != nil {
								return
							}
						}
					}()
					start := time.Now()
					if err := of.begin(n); err != nil {
						t.Fatal(err)
					}
					moved, err := own(make([]byte, n))
					if took := time.Since(start); took != c.ends || errors.Is(err, os.ErrDeadlineExceeded) != c.fails || c.fails == (err == nil) {
						t.Errorf("it took %s, %v; want %s", took, err, c.ends)
					}
					if moved != c.moved {
						t.Errorf("%d bytes, want %d", moved, c.moved)
					}
					here.Close()
					there.Close()
					<-ended
				})
			})
		}
	}
}

// The deadline of what is sent in the clear: a stall from the last byte on, and no later
// than ten for each MiB.
func TestPaceOfAPlainSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stall = time.Minute
		start, deadline := time.Now(), time.Time{}
		p := newPace(stall, func(to time.Time) error { deadline = to; return nil })
		want := func(d time.Duration) {
			t.Helper()
			if got := deadline.Sub(start); got != d {
				t.Errorf("the deadline is %s, want %s", got, d)
			}
		}
		if err := p.begin(1 << 20); err != nil {
			t.Fatal(err)
		}
		want(stall)
		for i := range 39 {
			time.Sleep(30 * time.Second) // of the bubble
			if err := p.more(); err != nil {
				t.Fatal(err)
			}
			want(min(time.Duration(i+1)*30*time.Second+stall, 10*stall))
		}
		if err := p.end(); err != nil || !deadline.IsZero() {
			t.Errorf("%v, %s", err, deadline)
		}
		if p.again(os.ErrDeadlineExceeded) {
			t.Error("nothing is under way, and it may go on")
		}
	})
}

// A client that gives little at a time is served, and one that never comes to an end is
// not.
func TestSlowWriters(t *testing.T) {
	p := newPKI(t)
	for name, secured := range map[string]bool{"clear": false, "TLS": true} {
		attach := func(t *testing.T, stall time.Duration) (*client, *shelf) {
			h := testShelf()
			s, dial := served(t, h, Limits{Stall: stall})
			s.Secure(Security{Config: p.server})
			cl := dial()
			cl.greet(3)
			if secured {
				if err := cl.startTLS(p.client); err != nil {
					t.Fatal(err)
				}
			}
			cl.last(7, infoData("rw"))
			return cl, h
		}
		t.Run(name+"/all in the end", func(t *testing.T) {
			t.Parallel()
			const stall = 2 * time.Second
			cl, _ := attach(t, stall)
			tick := time.NewTicker(stall / 5)
			defer tick.Stop()
			cl.send(request(0, cmdWrite, 1, 0, 100<<10)[:20])
			<-tick.C
			cl.send(request(0, cmdWrite, 1, 0, 100<<10)[20:])
			for range 10 { // twice as long as a stall
				<-tick.C
				cl.send(make([]byte, 10<<10))
			}
			cl.wantReply(0, 1)
		})
		t.Run(name+"/never", func(t *testing.T) {
			t.Parallel()
			const stall = 100 * time.Millisecond
			cl, h := attach(t, stall)
			ctx, cancel := context.WithCancel(t.Context())
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				tick := time.NewTicker(stall / 5)
				defer tick.Stop()
				cl.nc.Write(request(0, cmdWrite, 1, 0, 1<<20))
				for {
					select {
					case <-tick.C:
						cl.nc.Write([]byte{1})
					case <-ctx.Done():
						return
					}
				}
			}()
			if s := receive(t, h.detached); !isTimeout(s.Err) {
				t.Errorf("ended with %v", s.Err)
			}
			cancel()
			<-sent
		})
	}
}

// An inbox with TLS knows, as one without, whether nothing was there: who is idle between
// requests does not wait for others, too.
func TestSecuredInboxTellsWhetherItWaited(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	there, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	here, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := newPaced(here, time.Minute)
	defer p.Close()
	in := newSecuredInbox(p, p, &buffers{}) // what TLS would make of it does not matter
	if _, err := there.Write(make([]byte, 2*headBuffer)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.peek(1); err != nil {
		t.Fatal(err)
	}
	in.hasWaited() // or not
	for left := 2*headBuffer - in.buffered(); left > 0; left -= in.buffered() {
		if err := in.discard(in.buffered()); err != nil {
			t.Fatal(err)
		}
		if _, err := in.peek(1); err != nil {
			t.Fatal(err)
		}
	}
	if in.hasWaited() {
		t.Error("it waited for what was there")
	}
	if err := in.discard(in.buffered()); err != nil {
		t.Fatal(err)
	}
	if err := here.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := in.peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if !in.hasWaited() || in.hasWaited() {
		t.Error("it did not wait, or did so for ever")
	}
}
