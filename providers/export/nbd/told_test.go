package nbd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
)

// ledger counts the errors that are logged.
type ledger struct {
	slog.Handler
	mu     *sync.Mutex
	errors *int
}

func newLedger() ledger { return ledger{slog.DiscardHandler, new(sync.Mutex), new(int)} }

func (l ledger) Enabled(context.Context, slog.Level) bool { return true }
func (l ledger) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l ledger) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Level >= slog.LevelError {
		*l.errors++
	}
	return nil
}

func (l ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *l.errors
}

// A client that comes back for ever to an export that cannot be served, or fails, does
// not fill the log, by whatever option it asks.
func TestComplaintsAreBounded(t *testing.T) {
	failing := newDisk(1 << 20)
	failing.fail = func(string, int64, int64) error { return errors.New("no disk") }
	for name, ask := range map[string]func(cl *client){
		"INFO": func(cl *client) {
			for range 100 {
				cl.send(option(6, infoData("broken")))
				cl.replies(6)
			}
		},
		"GO": func(cl *client) {
			for range 100 {
				cl.send(option(7, infoData("broken")))
				cl.replies(7)
			}
		},
		"EXPORT_NAME": func(cl *client) {
			cl.send(option(1, []byte("broken")))
			cl.wantClosed()
		},
		"READ": func(cl *client) {
			cl.send(option(7, infoData("failing")))
			cl.replies(7)
			cl.send(request(0, 0, 1, 0, 512))
			cl.wantReply(errnoIO, 1)
		},
		"FLUSH": func(cl *client) {
			cl.send(option(7, infoData("failing")))
			cl.replies(7)
			cl.send(request(0, cmdFlush, 1, 0, 0))
			cl.wantReply(errnoIO, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newShelf()
			h.add("failing", failing, Info{})
			ln, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			log := newLedger()
			s := New(h, Limits{}, slog.New(log))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- s.Serve(ctx, ln) }()
			for range 20 {
				cl := connect(t, ln.Addr())
				cl.greet(3)
				ask(cl)
				cl.nc.Close()
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			s.Wait()
			// And one in ten seconds, should the test take as long.
			if n := log.count(); n < complaints.EachBurst || n > complaints.EachBurst+2 {
				t.Errorf("%d errors in the log", n)
			}
		})
	}
}

// "A server that replies with an error to NBD_OPT_SET_META_CONTEXT" has selected nothing,
// for whatever reason it does.
func TestSetMetaThatIsTooBigSelectsNothing(t *testing.T) {
	cl := serve(t, testShelf(), Limits{})()
	cl.greet(3)
	cl.send(option(optStructuredReply, nil))
	cl.replies(optStructuredReply)
	query := bytes.Join([][]byte{be(uint32(2)), []byte("rw"), be(uint32(1), uint32(len(baseAllocation))), []byte(baseAllocation)}, nil)
	cl.send(option(optSetMeta, query))
	if r := cl.replies(optSetMeta); len(r) != 2 {
		t.Fatalf("SET: %+v", r)
	}
	cl.send(option(optSetMeta, make([]byte, maxOptionKept+1)))
	if r := cl.replies(optSetMeta); len(r) != 1 || r[0].Type != repErrTooBig {
		t.Fatalf("a long SET: %+v", r)
	}
	cl.send(option(7, infoData("rw")))
	cl.replies(7)
	cl.send(structured.ask(0, cmdBlockStatus, 7, 0, 4096))
	if k := cl.chunk(structured); k.Type != chunkError {
		t.Errorf("BLOCK_STATUS: %+v", k)
	}
}
