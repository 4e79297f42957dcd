package nbd

import (
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// settled is a disk that says whether it is synced, and what was asked for before the
// byte at 4096 was.
type settled struct {
	*counting
	synced bool
	asked  atomic.Int32 // whether it is
	before atomic.Int32 // of them
}

func (d *settled) Synced() bool {
	if d.asked.Add(1) == 1 {
		d.first()
	}
	return d.synced
}

func (d *settled) Lend(off int64, n int) ([]byte, *os.File) {
	d.before.Store(d.asked.Load())
	return d.b[off : off+int64(n)], nil
}

// A connection that has a lot to be flushed, or that nothing is to be flushed for, lets
// others have their turn, too.
func TestOthersHaveTheirTurnBesideFlushes(t *testing.T) {
	for name, synced := range map[string]bool{"nothing to do": true, "dirty": false} {
		t.Run(name, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			h := newShelf()
			d := &settled{counting: &counting{disk: newDisk(8192)}, synced: synced}
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
			const many = readBuffer / requestSize
			var wire []byte
			for i := range uint64(many) {
				wire = append(wire, request(0, 3, i, 0, 0)...)
			}
			busy.send(wire)
			other.wantReply(0, 1)
			other.recv(16)
			var seen []uint64
			for range many {
				errno, cookie := busy.reply()
				if errno != 0 {
					t.Fatalf("errno %d", errno)
				}
				seen = append(seen, cookie)
			}
			slices.Sort(seen)
			if len(slices.Compact(seen)) != many {
				t.Error("some were answered twice, and some never")
			}
			if n := d.before.Load(); n == 0 || n > 4*turnReplies {
				t.Errorf("its turn came after %d others", n)
			}
			d.disk.mu.Lock()
			defer d.disk.mu.Unlock()
			if synced && d.syncs > 0 {
				t.Errorf("%d syncs, of nothing", d.syncs)
			}
			if !synced && d.syncs == 0 {
				t.Error("never synced")
			}
		})
	}
}
