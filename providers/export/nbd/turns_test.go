package nbd

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// counting is a Lender that says in which order it was asked.
type counting struct {
	*disk
	mu    sync.Mutex
	order []int64 // offsets
	first func()  // called within the first question
}

func (d *counting) Lend(off int64, n int) ([]byte, *os.File) {
	d.mu.Lock()
	d.order = append(d.order, off)
	first := d.first
	d.first = nil
	d.mu.Unlock()
	if first != nil {
		first()
	}
	return d.b[off : off+int64(n)], nil
}

func (*counting) Fetch(int64, int64) error { return nil }

// A connection that has a lot to be answered lets one that asks for something meanwhile
// have its turn, even on one processor.
func TestOthersHaveTheirTurn(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	h := newShelf()
	d := &counting{disk: newDisk(8192)}
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 8192}, Backend: d}
	dial := serve(t, h, Limits{})
	busy, other := dial(), dial()
	busy.attach("x")
	other.attach("x")
	raw := rawOf(other.nc)
	// The kernel has the other one's request, and nothing else happens meanwhile.
	d.first = func() {
		if err := raw.Control(func(fd uintptr) {
			if _, err := unix.Write(int(fd), request(0, 0, 1, 4096, 16)); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Error(err)
		}
	}
	const many = 40 * turnReplies
	var wire []byte
	for i := range uint64(many) {
		wire = append(wire, request(0, 0, i, 0, 16)...)
	}
	wire = wire[:min(len(wire), readBuffer/requestSize*requestSize)]
	busy.send(wire)
	other.wantReply(0, 1)
	other.recv(16)
	for i := range uint64(len(wire) / requestSize) {
		busy.wantReply(0, i)
		busy.recv(16)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, off := range d.order {
		if off == 4096 {
			if i > 4*turnReplies {
				t.Errorf("its turn came after %d others", i)
			}
			return
		}
	}
	t.Error("it was never asked for")
}
