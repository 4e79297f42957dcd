package nbd

import (
	"bytes"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// One address with 100 connections has as many READs at a disk that hangs as it gets;
// READs of another one do not wait for it, be it a machine or a Unix socket.
func TestADiskThatHangsHoldsUpOneAddress(t *testing.T) {
	const many, size = 100, 4 << 20
	h := newShelf()
	hung := &tiered{disk: newDisk(size), lends: true, cold: map[int64]bool{}}
	hung.begun = make(chan string, many*maxAbreast)
	gate := make(chan struct{})
	hung.gate["fetch"] = gate
	sound := &tiered{disk: newDisk(size), lends: true, cold: map[int64]bool{}}
	rand.NewChaCha8([32]byte{4}).Read(sound.b)
	for i := range int64(size / tier) {
		hung.cold[i], sound.cold[i] = true, true
	}
	h.exports["hung"] = Export{Info: Info{Name: "hung", Size: size}, Backend: hung}
	h.exports["sound"] = Export{Info: Info{Name: "sound", Size: size}, Backend: sound}

	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, stop := serveOn(t, ln, crowd(h), Limits{PerAddress: 1000})
	defer stop()
	defer close(gate)
	dialFrom := func(from net.IP) *client {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
		nc, err := d.Dial("tcp4", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		return &client{t: t, nc: nc, in: newReader(nc)}
	}
	for range many {
		cl := dialFrom(net.IPv4(127, 1, 0, 1))
		cl.attach("hung")
		var wire []byte
		for i := range uint64(maxWaiting) {
			wire = append(wire, request(0, 0, i, i*tier, tier)...)
		}
		cl.send(wire)
	}
	most := s.limits.DiskReads / 2
	for range most {
		receive(t, hung.begun)
	}
	for _, from := range []net.IP{net.IPv4(127, 1, 0, 2), net.IPv4(127, 1, 0, 3)} {
		cl := dialFrom(from)
		cl.attach("sound")
		for i := range uint64(20) {
			cl.send(request(0, 0, i, i*tier, tier))
			cl.wantReply(0, i)
			if !bytes.Equal(cl.recv(tier), sound.b[i*tier:(i+1)*tier]) {
				t.Fatal("other bytes")
			}
		}
	}
	if n := len(hung.begun); n != 0 {
		t.Errorf("one address has %d lanes of %d", most+n, s.limits.DiskReads)
	}
}

// coldBlocks is a disk whose Fetch does nothing for what it has, as an overlay's for its
// own blocks.
type coldBlocks struct{ *disk }

func (coldBlocks) Lend(int64, int) ([]byte, *os.File) { return nil, nil }
func (coldBlocks) Fetch(int64, int64) error           { return nil }
func (coldBlocks) ReadNow([]byte, int64) bool         { return false }

// What Fetch leaves out is read in a lane as well, over TLS as in the clear.
func TestWhatIsNotFetchedIsReadInALane(t *testing.T) {
	const connections, reads = 6, 4
	p := newPKI(t)
	for name, secured := range map[string]bool{"clear": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			h := newShelf()
			d := coldBlocks{newDisk(1 << 20)}
			gate := make(chan struct{})
			d.gate["read"] = gate
			h.exports["x"] = Export{Info: Info{Name: "x", Size: 1 << 20}, Backend: d}
			s, dial := served(t, h, Limits{DiskReads: 4})
			open := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(open)
			s.Secure(Security{Config: p.server})
			var clients []*client
			for range connections {
				cl := dial()
				cl.greet(3)
				if secured {
					if err := cl.startTLS(p.client); err != nil {
						t.Fatal(err)
					}
				}
				cl.last(7, infoData("x"))
				for i := range uint64(reads) {
					cl.send(request(0, 0, i, i*tier, tier))
				}
				clients = append(clients, cl)
			}
			inLine := func() (n int) {
				s.disk.mu.Lock()
				defer s.disk.mu.Unlock()
				for _, p := range s.disk.peers {
					n += len(p.wait)
				}
				return n
			}
			for deadline := time.Now().Add(10 * time.Second); inLine() < connections*reads-2; runtime.Gosched() {
				if time.Now().After(deadline) {
					t.Fatalf("%d READs wait for a lane, %d are with the disk", inLine(), len(d.begun))
				}
			}
			receive(t, d.begun)
			receive(t, d.begun)
			if n := len(d.begun); n != 0 {
				t.Errorf("%d READs with the disk, of 2", n+2)
			}
			open()
			for _, cl := range clients {
				for range reads {
					cl.reply()
					cl.recv(tier)
				}
			}
		})
	}
}

// A connection that is dropped does not wait for its turn at the disk.
func TestDroppedWhileItWaitsForALane(t *testing.T) {
	h := newShelf()
	d := &tiered{disk: newDisk(4 * tier), lends: true, cold: map[int64]bool{0: true, 1: true, 2: true}}
	gate := make(chan struct{})
	d.gate["fetch"] = gate
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 4 * tier}, Backend: d}
	dial := serve(t, h, Limits{DiskReads: 1})
	first, second := dial(), dial()
	first.attach("x")
	receive(t, h.peers)
	first.send(request(0, 0, 1, 0, tier))
	receive(t, d.begun)
	second.attach("x")
	second.send(request(0, 0, 1, tier, tier), request(0, 0, 2, 3*tier, 1))
	second.wantReply(0, 2) // so the other one was seen
	second.recv(1)
	receive(t, h.peers).Drop()
	receive(t, h.detached)
	close(gate)
	first.wantReply(0, 1)
	first.recv(tier)
	if d.hot(tier, 1) != 0 {
		t.Error("it was read for nobody")
	}
}

// An address has no more lanes than it may, however many are free, and others have them.
func TestLanesPerAddress(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	l := newLanes(4).perAddress(1)
	if !l.try(a) || l.try(a) {
		t.Fatal("not one lane")
	}
	turn := make(chan struct{}, 1)
	if l.join(a, turn) {
		t.Fatal("a second lane")
	}
	if !l.try(b) {
		t.Fatal("none is left for another one")
	}
	if l.leave(b); len(turn) != 0 {
		t.Error("that of the other was given to who has one")
	}
	if l.leave(a); len(turn) != 1 {
		t.Error("its own was not given to who waited")
	}
}

// Whoever has the fewest lanes is next; one that gave up is passed over; in the end
// nothing is left of anybody.
func TestLanes(t *testing.T) {
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.Addr{}
	l := newLanes(4)
	turn := func() chan struct{} { return make(chan struct{}, 1) }
	given := func(turn chan struct{}) bool {
		select {
		case <-turn:
			return true
		default:
			return false
		}
	}
	a1, a2, a3, b1, b2, c1 := turn(), turn(), turn(), turn(), turn(), turn()
	if !l.join(a, a1) || !l.join(a, a2) || l.join(a, a3) {
		t.Fatal("one address has not half of the lanes")
	}
	if !l.join(b, b1) || l.join(b, b2) || !l.join(c, c1) {
		t.Fatal("the other two have not one each")
	}
	c2, c3 := turn(), turn()
	if l.join(c, c2) || l.join(c, c3) {
		t.Fatal("five lanes of four")
	}
	if l.leave(a); given(a3) || given(b2) || given(c2) { // each has as many as are free
		t.Error("the last lane went to who had one")
	}
	if !l.forget(b, b2) || l.forget(b, b2) {
		t.Error("who waits cannot give up, or twice")
	}
	if l.leave(b); given(b2) || !given(a3) || given(c2) || given(c3) {
		t.Error("a is not next, which waits longest of those that have one")
	}
	if l.leave(a); given(c3) || !given(c2) {
		t.Error("c is not next")
	}
	gone := make(chan struct{})
	close(gone)
	if l.enter(c, turn(), gone) {
		t.Error("c has three of four")
	}
	l.leave(c)
	if l.leave(a); !given(c3) {
		t.Error("c does not get what is left")
	}
	l.leave(c)
	l.leave(c)
	if l.free != 4 || len(l.peers) != 0 || len(l.line) != 0 {
		t.Errorf("%d free, %d addresses, %d in line", l.free, len(l.peers), len(l.line))
	}
}

// Disks that hang for one address leave half of the lanes, and each further address half
// of what is left, to the last one.
func TestLanesOfManyWhoHang(t *testing.T) {
	l := newLanes(64)
	var got []int
	for i := range byte(8) {
		a, n := netip.AddrFrom4([4]byte{10, 0, 0, i}), 0
		for range 100 {
			if l.join(a, make(chan struct{}, 1)) {
				n++
			}
		}
		got = append(got, n)
	}
	if want := []int{32, 16, 8, 4, 2, 1, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Many who come, wait, give up and go at once: never more than there are, none is lost.
func TestLanesAreNotLost(t *testing.T) {
	const most = 6
	l := newLanes(most)
	var inside, entered, gaveUp atomic.Int32
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 5)})
			turn := make(chan struct{}, 1)
			for k := range 400 {
				gone := make(chan struct{})
				if k%3 == 0 {
					wg.Go(func() { close(gone) })
				}
				if !l.enter(a, turn, gone) {
					gaveUp.Add(1)
					continue
				}
				entered.Add(1)
				if n := inside.Add(1); n > most {
					t.Errorf("%d lanes of %d", n, most)
				}
				runtime.Gosched()
				inside.Add(-1)
				l.leave(a)
				if len(turn) != 0 {
					t.Error("a turn of somebody who has one")
				}
			}
		})
	}
	wg.Wait()
	if l.free != most || len(l.peers) != 0 || len(l.line) != 0 || entered.Load() < 24*400/2 {
		t.Errorf("%d free, %d addresses, %d in line; %d had one, %d gave up", l.free, len(l.peers), len(l.line), entered.Load(), gaveUp.Load())
	}
	t.Logf("%d had one, %d gave up", entered.Load(), gaveUp.Load())
}
