package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	einval = protocol.TRANSMISSION_ERROR_EINVAL
	eperm  = protocol.TRANSMISSION_ERROR_EPERM
)

func TestRefusals(t *testing.T) {
	const size = 1 << 20
	for _, c := range []struct {
		name     string
		readOnly bool
		req      []byte
		payload  int
		want     uint32
	}{
		{"read at the end", false, request(0, 0, 9, size, 0), 0, 0},
		{"read past the end", false, request(0, 0, 9, size-1, 2), 0, einval},
		{"read far past the end", false, request(0, 0, 9, 1<<63, 512), 0, einval},
		{"read that overflows", false, request(0, 0, 9, 0xffffffffffffffff, 0xffffffff), 0, einval},
		{"read of 4 GiB", false, request(0, 0, 9, 0, 0xffffffff), 0, einval},
		{"read with DF", false, request(4, 0, 9, 0, 512), 0, einval},
		{"read with unknown flags", false, request(0x8000, 0, 9, 0, 512), 0, einval},
		{"write past the end", false, request(0, 1, 9, size-1, 2), 2, errnoNoSpc},
		{"write that overflows", false, request(0, 1, 9, 0xffffffffffffff00, 512), 512, errnoNoSpc},
		{"write with unknown flags", false, request(2, 1, 9, 0, 512), 512, einval},
		{"write of 32 MiB past the end", false, request(0, 1, 9, 0, 32<<20), 32 << 20, errnoNoSpc},
		{"write to a read-only one", true, request(0, 1, 9, 0, 512), 512, eperm},
		{"write with FUA to a read-only one", true, request(1, 1, 9, 0, 512), 512, eperm},
		{"zero to a read-only one", true, request(0, 6, 9, 0, 512), 0, eperm},
		{"trim to a read-only one", true, request(0, 4, 9, 0, 512), 0, eperm},
		{"trim past the end", false, request(0, 4, 9, size-512, 1024), 0, einval},
		{"flush of a read-only one", true, request(0, 3, 9, 0, 0), 0, einval},
		{"zero past the end", false, request(0, 6, 9, size-512, 1024), 0, errnoNoSpc},
		{"fast zero, which is not offered", false, request(16, 6, 9, 0, 512), 0, einval},
		{"trim with NO_HOLE", false, request(2, 4, 9, 0, 512), 0, einval},
		{"cache", false, request(0, 5, 9, 0, 512), 0, einval},
		{"block status", false, request(0, 7, 9, 0, 512), 0, einval},
		{"unknown command", false, request(0, 0xffff, 9, 0, 512), 0, einval},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newShelf()
			d := h.add("x", newDisk(size), Info{ReadOnly: c.readOnly, Zeroes: true})
			cl := serve(t, h, Limits{})()
			cl.attach("x")
			cl.send(c.req, bytes.Repeat([]byte{1}, c.payload), request(0, 0, 10, 0, 4))
			cl.wantReply(c.want, 9)
			cl.wantReply(0, 10) // still in step
			cl.recv(4)
			if !bytes.Equal(d.b, make([]byte, size)) {
				t.Error("it was written all the same")
			}
		})
	}
}

// NBD_ENOTSUP answers FAST_ZERO alone, whatever the disk says.
func TestUnsupportedIsAnErrorOfTheDisk(t *testing.T) {
	h := newShelf()
	h.add("x", newDisk(1<<20), Info{Zeroes: true}).fail = func(string, int64, int64) error { return syscall.EOPNOTSUPP }
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	for typ, payload := range map[uint16]int{cmdRead: 0, cmdWrite: 512, cmdTrim: 0, cmdWriteZeroes: 0, cmdFlush: 0} {
		cl.send(request(0, typ, uint64(typ), 0, 512), make([]byte, payload))
		cl.wantReply(errnoIO, uint64(typ))
	}
}

func TestWriteTooLongEndsTheConnection(t *testing.T) {
	h := testShelf()
	cl := serve(t, h, Limits{})()
	cl.attach("rw")
	cl.send(request(0, 1, 1, 0, 32<<20+1))
	cl.wantClosed()
	if s := receive(t, h.detached); !errors.Is(s.Err, errHostile) {
		t.Errorf("ended with %v", s.Err)
	}
}

func TestBadRequestMagic(t *testing.T) {
	h := testShelf()
	cl := serve(t, h, Limits{})()
	cl.attach("rw")
	cl.send(make([]byte, requestSize))
	cl.wantClosed()
	if s := receive(t, h.detached); !errors.Is(s.Err, errHostile) {
		t.Errorf("ended with %v", s.Err)
	}
}

// Everything of any size, against a byte slice, many requests at once.
func TestReadsAndWrites(t *testing.T) {
	const size = 8<<20 - 700
	h := newShelf()
	h.add("x", newDisk(size), Info{Zeroes: true})
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	model := make([]byte, size)
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		var wire []byte
		var want [][]byte // payload by handle; nil for writes
		for range 1 + r.IntN(20) {
			n := r.IntN(1 << (6 + r.IntN(17)))
			off := r.IntN(size - n + 1)
			handle := uint64(len(want))
			switch r.IntN(4) {
			case 0, 1:
				wire = append(wire, request(0, 0, handle, uint64(off), uint32(n))...)
				want = append(want, bytes.Clone(model[off:off+n]))
			case 2:
				for i := range n {
					model[off+i] = byte(i * round)
				}
				wire = append(wire, request(0, 1, handle, uint64(off), uint32(n))...)
				wire = append(wire, model[off:off+n]...)
				want = append(want, nil)
			case 3:
				clear(model[off : off+n])
				wire = append(wire, request(0, uint16(4+2*r.IntN(2)), handle, uint64(off), uint32(n))...)
				want = append(want, nil)
			}
		}
		sent := make(chan error, 1)
		go func() {
			_, err := cl.nc.Write(wire)
			sent <- err
		}()
		for i, w := range want {
			cl.wantReply(0, uint64(i))
			if got := cl.recv(len(w)); !bytes.Equal(got, w) {
				t.Fatalf("round %d, request %d: wrong bytes", round, i)
			}
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
}

// The longest requests there are, in both directions.
func TestLongest(t *testing.T) {
	h := newShelf()
	d := h.add("x", newDisk(33<<20), Info{})
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	p := make([]byte, 32<<20)
	for i := range p {
		p[i] = byte(i / 4093)
	}
	cl.send(request(1, 1, 1, 511, 32<<20), p)
	cl.wantReply(0, 1)
	if !bytes.Equal(d.synced[511:511+32<<20], p) {
		t.Error("written with FUA, and not stable")
	}
	cl.send(request(0, 0, 2, 511, 32<<20))
	cl.wantReply(0, 2)
	if !bytes.Equal(cl.recv(32<<20), p) {
		t.Error("read other bytes than written")
	}
	cl.send(request(0, 2, 0, 0, 0))
	cl.wantClosed()
	want := Stats{Requests: 3, Read: 32 << 20, Written: 32 << 20}
	if got := receive(t, h.detached); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestBackendErrors(t *testing.T) {
	for _, c := range []struct {
		err  error
		want uint32
	}{
		{syscall.ENOSPC, errnoNoSpc}, {syscall.EDQUOT, errnoNoSpc}, {syscall.EFBIG, errnoNoSpc},
		{syscall.EIO, errnoIO}, {errors.New("anything"), errnoIO}, {syscall.EROFS, eperm},
		{fmt.Errorf("wrapped: %w", syscall.ENOSPC), errnoNoSpc}, {syscall.EBADF, errnoIO}, {syscall.ENOMEM, errnoNoMem},
	} {
		h := newShelf()
		d := h.add("x", newDisk(8<<20), Info{Zeroes: true})
		cl := serve(t, h, Limits{})()
		cl.attach("x")
		d.fail = func(string, int64, int64) error { return c.err }
		// The error comes before data, short or long.
		for i, req := range [][]byte{
			request(0, 0, 0, 0, 4096), request(0, 0, 1, 0, 2<<20), request(0, 3, 2, 0, 0), request(0, 6, 3, 0, 4096),
			append(request(0, 1, 4, 0, 4096), make([]byte, 4096)...), append(request(1, 1, 5, 0, 3<<20), make([]byte, 3<<20)...),
		} {
			cl.send(req)
			cl.wantReply(c.want, uint64(i))
		}
	}
}

// An error in the middle of a reply that was begun as a success: nothing may
// follow but the close.
func TestReadErrorAfterTheHeader(t *testing.T) {
	h := newShelf()
	d := h.add("x", newDisk(8<<20), Info{})
	d.fail = func(_ string, off, _ int64) error {
		if off >= 2<<20 {
			return syscall.EIO
		}
		return nil
	}
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	cl.send(request(0, 0, 1, 0, 8<<20))
	cl.wantReply(0, 1)
	cl.recv(2 << 20)
	cl.wantClosed()
	if s := receive(t, h.detached); !errors.Is(s.Err, syscall.EIO) {
		t.Errorf("ended with %v", s.Err)
	}
}

// linesOf counts what is logged of an error from a level on.
type linesOf struct {
	slog.Handler
	err   error
	lines atomic.Int32
}

func (l *linesOf) Enabled(context.Context, slog.Level) bool { return true }
func (l *linesOf) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *linesOf) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && errors.Is(err, l.err) {
			l.lines.Add(1)
		}
		return true
	})
	return nil
}

// An error that ends a connection is told once, and one that does not is told once.
func TestAReadErrorIsLoggedOnce(t *testing.T) {
	for what, from := range map[string]int64{"in a reply": 2 << 20, "before it": 0} {
		t.Run(what, func(t *testing.T) {
			h := newShelf()
			d := h.add("x", newDisk(8<<20), Info{})
			d.fail = func(_ string, off, _ int64) error {
				if off >= from {
					return syscall.EIO
				}
				return nil
			}
			log := &linesOf{err: syscall.EIO}
			s := New(h, Limits{}, slog.New(log))
			ours, theirs := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.serveConn(context.Background(), ours, netip.AddrPort{}, func() {})
			}()
			cl := &client{t: t, nc: theirs, in: newReader(theirs)}
			cl.attach("x")
			cl.send(request(0, 0, 1, 0, 8<<20))
			if from > 0 {
				cl.wantReply(0, 1)
				cl.recv(int(from))
			} else {
				cl.wantReply(errnoIO, 1)
			}
			theirs.Close()
			<-done
			if n := log.lines.Load(); n != 1 {
				t.Errorf("%d lines", n)
			}
		})
	}
}

// Reads do not wait for the disk's cache, and a FLUSH covers what was answered
// before it.
func TestFlushBesideReads(t *testing.T) {
	h := newShelf()
	d := h.add("x", newDisk(1<<20), Info{})
	gate := make(chan struct{})
	d.gate["sync"] = gate
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	cl.send(request(0, 1, 1, 0, 4), []byte("abcd"))
	cl.wantReply(0, 1)
	cl.send(request(0, 3, 2, 0, 0), request(1, 1, 3, 8, 4), []byte("efgh"), request(0, 3, 4, 0, 0))
	receive(t, d.begun)
	cl.send(request(0, 0, 5, 0, 4))
	cl.wantReply(0, 5) // while the sync stands
	cl.recv(4)
	close(gate)
	seen := map[uint64]bool{}
	for range 3 {
		errno, handle := cl.reply()
		if errno != 0 {
			t.Errorf("handle %d: errno %d", handle, errno)
		}
		seen[handle] = true
	}
	if !seen[2] || !seen[3] || !seen[4] {
		t.Errorf("answered: %v", seen)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if string(d.synced[:12]) != "abcd\x00\x00\x00\x00efgh" {
		t.Errorf("stable: %q", d.synced[:12])
	}
	if d.syncs > 2 {
		t.Errorf("%d syncs for three requests, two of which waited together", d.syncs)
	}
}

// DISC: "The server MUST handle all outstanding requests".
func TestGoodbyeFinishesWhatIsOutstanding(t *testing.T) {
	h := newShelf()
	d := h.add("x", newDisk(1<<20), Info{})
	gate := make(chan struct{})
	d.gate["sync"] = gate
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	cl.send(request(0, 3, 1, 0, 0), request(0, 0, 2, 0, 4), request(0, 2, 0, 0, 0))
	receive(t, d.begun)
	close(gate)
	seen := map[uint64]bool{}
	for range 2 {
		errno, handle := cl.reply()
		if errno != 0 {
			t.Fatalf("handle %d: errno %d", handle, errno)
		}
		if handle == 2 {
			cl.recv(4)
		}
		seen[handle] = true
	}
	if !seen[1] || !seen[2] {
		t.Errorf("answered: %v", seen)
	}
	cl.wantClosed()
}

// A server that stops disconnects, whatever is asked of it meanwhile, and a disk that says
// ESHUTDOWN reads as EIO: the Linux client hands that error to the file system.
func TestNeverESHUTDOWN(t *testing.T) {
	h := newShelf()
	d := h.add("x", newDisk(1<<20), Info{})
	gate := make(chan struct{})
	d.gate["sync"] = gate
	h.add("going", newDisk(1<<20), Info{}).fail = func(string, int64, int64) error { return syscall.ESHUTDOWN }
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, stop := serveOn(t, ln, h, Limits{})
	dial := func() *client {
		nc, err := net.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		return &client{t: t, nc: nc, in: newReader(nc)}
	}
	cl, other, going := dial(), dial(), dial()
	cl.attach("x")
	other.attach("x")
	going.attach("going")
	going.send(request(0, 3, 1, 0, 0))
	going.wantReply(errnoIO, 1)
	cl.send(request(0, 3, 1, 0, 0))
	receive(t, d.begun)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	other.wantClosed() // so it is stopping
	cl.nc.Write(request(0, 3, 2, 0, 0))
	close(gate)
	b, err := io.ReadAll(cl.in)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Error("the server did not close")
	}
	for ; len(b) >= replySize; b = b[replySize:] {
		if errno := binary.BigEndian.Uint32(b[4:]); errno != 0 {
			t.Errorf("errno %d of request %d", errno, binary.BigEndian.Uint64(b[8:]))
		}
	}
	<-stopped
}

// Drop lets the write in progress end, begins no other, and Detached comes after.
func TestDropDrains(t *testing.T) {
	h := newShelf()
	d := h.add("x", newDisk(1<<20), Info{})
	gate := make(chan struct{})
	d.gate["write"] = gate
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	peer := receive(t, h.peers)
	cl.send(request(0, 1, 1, 0, 4), []byte("abcd"), request(0, 1, 2, 4, 4), []byte("efgh"))
	receive(t, d.begun)
	peer.Drop()
	peer.Drop()
	select {
	case <-h.detached:
		t.Fatal("Detached before the write ended")
	default:
	}
	close(gate)
	if s := receive(t, h.detached); !errors.Is(s.Err, errDropped) {
		t.Errorf("ended with %v", s.Err)
	}
	if got := string(d.b[:8]); got != "abcd\x00\x00\x00\x00" {
		t.Errorf("on disk: %q", got)
	}
	cl.wantClosed()
}

// A client that announces a payload and dies in the middle of it.
func TestDeathInThePayload(t *testing.T) {
	h := newShelf()
	d := h.add("x", newDisk(1<<20), Info{})
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	cl.send(request(0, 1, 1, 0, 256<<10), bytes.Repeat([]byte{'x'}, 100<<10))
	cl.nc.Close()
	if s := receive(t, h.detached); !errors.Is(s.Err, io.ErrUnexpectedEOF) && !errors.Is(s.Err, syscall.ECONNRESET) {
		t.Errorf("ended with %v", s.Err)
	}
	if !bytes.Equal(d.b, make([]byte, 1<<20)) {
		t.Error("half of a write reached the disk")
	}
}

// A client that takes no replies, or gives no payload, is gone after one stall.
func TestStalls(t *testing.T) {
	for name, wire := range map[string][]byte{
		"takes nothing": bytes.Repeat(request(0, 0, 1, 0, 8<<20), 20),
		"gives nothing": request(0, 1, 1, 0, 1<<20),
		"asks nothing":  request(0, 0, 1, 0, 512)[:5],
	} {
		t.Run(name, func(t *testing.T) {
			h := testShelf()
			cl := serve(t, h, Limits{Stall: 150 * time.Millisecond})()
			cl.nc.(*net.TCPConn).SetReadBuffer(4096)
			cl.attach("rw")
			cl.send(wire)
			if s := receive(t, h.detached); !isTimeout(s.Err) {
				t.Errorf("ended with %v", s.Err)
			}
		})
	}
}

// Closing the listener leaves connections alone: they outlive the socket they
// came through.
func TestConnectionsOutliveTheListener(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := testShelf()
	s := New(h, Limits{}, nil)
	done := make(chan error)
	ctx := t.Context()
	go func() { done <- s.Serve(ctx, ln) }()
	nc, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cl := &client{t: t, nc: nc, in: newReader(nc)}
	cl.attach("ro")
	ln.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	cl.send(request(0, 0, 1, 0, 512))
	cl.wantReply(0, 1)
	nc.Close()
	receive(t, h.detached)
	s.Wait()
}
