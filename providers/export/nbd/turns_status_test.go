package nbd

import (
	"net"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// patchy is a Lender whose every second block is a hole, and which is asked piece by piece.
type patchy struct {
	*disk
	first  func()       // called within the first lookup
	calls  atomic.Int32 // of Extents
	inside atomic.Int32 // those that are not done
	most   atomic.Int32 // of them at once
	pieces atomic.Int32 // told
	before atomic.Int32 // of them before something was read
}

func (d *patchy) Extents(off, n int64, yield func(int64, bool) bool) error {
	if now := d.inside.Add(1); now > d.most.Load() {
		d.most.Store(now)
	}
	defer d.inside.Add(-1)
	if d.calls.Add(1) == 1 {
		d.first()
	}
	for more := true; n > 0 && more; {
		d.pieces.Add(1)
		more = yield(4096, off/4096%2 == 0)
		off, n = off+4096, n-4096
	}
	return nil
}

func (d *patchy) Lend(off int64, n int) ([]byte, *os.File) {
	d.before.Store(d.pieces.Load())
	return d.b[off : off+int64(n)], nil
}

func (*patchy) Fetch(int64, int64) error { return nil }

// servePatchy serves one for who may ask for BLOCK_STATUS, on one processor.
func servePatchy(t *testing.T) (*patchy, *shelf, func() *client) {
	t.Helper()
	was := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
	const size = 16 << 20
	h := newShelf()
	d := &patchy{disk: newDisk(size)}
	h.exports["x"] = Export{Info: Info{Name: "x", Size: size}, Backend: d}
	return d, h, serve(t, h, Limits{})
}

// writeNow has the kernel take bytes of a client, and nothing else happen meanwhile.
func writeNow(t *testing.T, cl *client, b []byte) {
	if err := rawOf(cl.nc).Control(func(fd uintptr) {
		if _, err := unix.Write(int(fd), b); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Error(err)
	}
}

// Connections of one address that ask all the time where a fragmented disk has holes take
// turns with each other, and others have theirs beside all of them together.
func TestOthersHaveTheirTurnBesideBlockStatus(t *testing.T) {
	d, _, dial := servePatchy(t)
	const each = 8
	var wire []byte
	for i := range uint64(each) {
		wire = append(wire, extended.ask(0, cmdBlockStatus, i, 0, 16<<20)...)
	}
	var busy []*client
	for range 8 {
		cl := dial()
		cl.choose(extended, "x")
		busy = append(busy, cl)
	}
	other := dial()
	other.attach("x")
	d.first = func() {
		for _, cl := range busy[1:] {
			writeNow(t, cl, wire)
		}
		writeNow(t, other, request(0, 0, 1, 4096, 16))
	}
	busy[0].send(wire)
	other.wantReply(0, 1)
	other.recv(16)
	for _, cl := range busy {
		for i := range uint64(each) {
			if k := cl.chunk(extended); k.Cookie != i || k.Type != chunkBlockStatusExt || len(k.Data) != 8+16*maxDescriptors {
				t.Fatalf("chunk %d of %d bytes to %d", k.Type, len(k.Data), k.Cookie)
			}
		}
	}
	if n := d.before.Load(); n == 0 || n > 3*turnPieces {
		t.Errorf("its turn came after %d pieces", n)
	}
	if n := d.most.Load(); n < 1 || int(n) > max(1, runtime.GOMAXPROCS(0)/2) {
		t.Errorf("%d lookups at once", n)
	}
}

// What a client asked for that is gone is not looked up.
func TestBlockStatusOfWhoIsGone(t *testing.T) {
	d, h, dial := servePatchy(t)
	cl := dial()
	cl.choose(extended, "x")
	var wire []byte
	for i := range uint64(1000) {
		wire = append(wire, extended.ask(0, cmdBlockStatus, i, 0, 16<<20)...)
	}
	d.first = func() {
		cl.nc.(*net.TCPConn).SetLinger(0) // as when it is killed with answers unread
		cl.nc.Close()
	}
	cl.send(wire)
	if s := receive(t, h.detached); s.Err == nil {
		t.Error("ended without an error")
	}
	if n := d.calls.Load(); n > 3 {
		t.Errorf("%d lookups for nobody", n)
	}
}
