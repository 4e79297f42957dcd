package nbd

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tiered is a disk of which parts are in memory: those can be lent, or read now. The
// rest waits at the gate "fetch", and is in memory after that.
type tiered struct {
	*disk
	lends bool // or else only reads now

	tier sync.Mutex // guards below
	cold map[int64]bool
	lent int
}

const tier = 4096

func (d *tiered) hot(off int64, n int) int {
	d.tier.Lock()
	defer d.tier.Unlock()
	for k := 0; k < n; k += tier - int(off+int64(k))%tier {
		if d.cold[(off+int64(k))/tier] {
			return k
		}
	}
	return n
}

func (d *tiered) Lend(off int64, n int) ([]byte, *os.File) {
	if !d.lends {
		return nil, nil
	}
	k := min(d.hot(off, n), 3*tier) // in several pieces
	d.tier.Lock()
	d.lent += k
	d.tier.Unlock()
	return d.b[off : off+int64(k)], nil
}

func (d *tiered) Fetch(off, n int64) error {
	if err := d.pass("fetch", off, n); err != nil {
		return err
	}
	d.tier.Lock()
	defer d.tier.Unlock()
	for at := off; at < off+n; at += tier - at%tier {
		delete(d.cold, at/tier)
	}
	return nil
}

func (d *tiered) ReadNow(p []byte, off int64) bool {
	return d.hot(off, len(p)) == len(p) && copy(p, d.b[off:]) == len(p)
}

func (d *tiered) ReadAt(p []byte, off int64) (int, error) {
	if !d.lends {
		if err := d.Fetch(off, int64(len(p))); err != nil {
			return 0, err
		}
	}
	return d.disk.ReadAt(p, off)
}

// eachTier runs a test with both kinds of backend in each form, on a disk of 4 MiB
// whose every second page is cold.
func eachTier(t *testing.T, f func(t *testing.T, h *shelf, d *tiered, form form, cl *client)) {
	for _, lends := range []bool{true, false} {
		name := map[bool]string{true: "lent", false: "read now"}[lends]
		for form, formName := range map[form]string{simple: "simple", structured: "structured", extended: "extended"} {
			t.Run(name+"/"+formName, func(t *testing.T) {
				h := newShelf()
				d := &tiered{disk: newDisk(4 << 20), lends: lends, cold: map[int64]bool{}}
				d.begun = make(chan string, 1000)
				rand.NewChaCha8([32]byte{1}).Read(d.b)
				for i := int64(1); i < 4<<20/tier; i += 2 {
					d.cold[i] = true
				}
				h.exports["x"] = Export{Info: Info{Name: "x", Size: 4 << 20}, Backend: d}
				cl := serve(t, h, Limits{})()
				if form == simple {
					cl.attach("x")
				} else {
					cl.choose(form, "x")
				}
				f(t, h, d, form, cl)
			})
		}
	}
}

// answer reads the reply to one READ of n bytes at off.
func (c *client) answer(form form) (cookie uint64, errno uint32, data []byte) {
	c.t.Helper()
	for {
		k := c.chunk(form)
		switch k.Type {
		case chunkOffsetData:
			data = append(data, k.Data[8:]...)
		case chunkNone:
		default:
			errno = uint32(k.Data[3])
		}
		if k.Done {
			return k.Cookie, errno, data
		}
	}
}

// read asks for n bytes and gives what came for which cookie.
func (c *client) next(form form, length map[uint64]int) (uint64, uint32, []byte) {
	c.t.Helper()
	if form != simple {
		return c.answer(form)
	}
	errno, cookie := c.reply()
	if errno != 0 {
		return cookie, errno, nil
	}
	return cookie, 0, c.recv(length[cookie])
}

// Half of the pages wait for a disk. Those that do not are answered meanwhile, on the
// same connection as well; what comes last is right to the byte.
func TestHitsPassWhatWaitsForADisk(t *testing.T) {
	eachTier(t, func(t *testing.T, h *shelf, d *tiered, form form, cl *client) {
		gate := make(chan struct{})
		d.gate["fetch"] = gate
		const pairs = 40 // of a cold one and a hit
		length, offset := map[uint64]int{}, map[uint64]int64{}
		var wire []byte
		for i := range uint64(pairs) {
			for k := range uint64(2) {
				cookie := 2*i + k
				off, n := int64(2*i+1-k)*tier, tier // k = 0: cold
				if k == 0 && i%8 == 7 {
					n = 100 << 10
				}
				length[cookie], offset[cookie] = n, off
				wire = append(wire, form.ask(0, 0, cookie, uint64(off), uint64(n))...)
			}
		}
		cl.send(wire)
		for i := range uint64(pairs) {
			cookie, errno, data := cl.next(form, length)
			if cookie != 2*i+1 || errno != 0 || !bytes.Equal(data, d.b[offset[cookie]:offset[cookie]+tier]) {
				t.Fatalf("hit %d: cookie %d, errno %d, %d bytes", i, cookie, errno, len(data))
			}
		}
		for range maxAbreast { // all of them were with the disk at once
			receive(t, d.begun)
		}
		close(gate)
		for range pairs {
			cookie, errno, data := cl.next(form, length)
			off, n := offset[cookie], int64(length[cookie])
			if cookie%2 != 0 || errno != 0 || !bytes.Equal(data, d.b[off:off+n]) {
				t.Fatalf("cookie %d: errno %d, %d bytes", cookie, errno, len(data))
			}
			delete(offset, cookie)
		}
		if len(offset) != pairs {
			t.Errorf("%d were answered twice, or never", len(offset)-pairs)
		}
	})
}

// More of them than may wait, and a goodbye behind: all are answered.
func TestGoodbyeWaitsForTheDisk(t *testing.T) {
	eachTier(t, func(t *testing.T, h *shelf, d *tiered, form form, cl *client) {
		gate := make(chan struct{})
		d.gate["fetch"] = gate
		const many = 2*maxWaiting + maxAbreast
		length := map[uint64]int{}
		var wire []byte
		for i := range uint64(many) {
			length[i] = tier
			wire = append(wire, form.ask(0, 0, i, (2*i+1)*tier, tier)...)
		}
		cl.send(wire, form.ask(0, 2, 0, 0, 0))
		receive(t, d.begun)
		close(gate)
		for range many {
			cookie, errno, data := cl.next(form, length)
			if at := (2*cookie + 1) * tier; errno != 0 || !bytes.Equal(data, d.b[at:at+tier]) {
				t.Fatalf("cookie %d: errno %d, %d bytes", cookie, errno, len(data))
			}
			delete(length, cookie)
		}
		cl.wantClosed()
		want := Stats{Requests: many + 1, Read: many * tier}
		if got := receive(t, h.detached); got != want || len(length) > 0 {
			t.Errorf("%+v, want %+v; %d not answered", got, want, len(length))
		}
	})
}

// A connection that is dropped while READs of it are with the disk: Detached comes
// after them.
func TestDropWaitsForTheDisk(t *testing.T) {
	eachTier(t, func(t *testing.T, h *shelf, d *tiered, form form, cl *client) {
		gate := make(chan struct{})
		d.gate["fetch"] = gate
		peer := receive(t, h.peers)
		cl.send(form.ask(0, 0, 1, tier, tier), form.ask(0, 0, 2, 3*tier, tier))
		receive(t, d.begun)
		receive(t, d.begun)
		peer.Drop()
		select {
		case <-h.detached:
			t.Fatal("Detached while the disk was still asked")
		default:
		}
		close(gate)
		if s := receive(t, h.detached); !errors.Is(s.Err, errDropped) {
			t.Errorf("ended with %v", s.Err)
		}
	})
}

// What the disk cannot read is an error to who asked for it, and to nobody else.
func TestDiskFailsWhatWaits(t *testing.T) {
	eachTier(t, func(t *testing.T, h *shelf, d *tiered, form form, cl *client) {
		d.fail = func(op string, off, n int64) error {
			if op != "write" && off <= 5*tier && off+n > 5*tier {
				return syscall.EIO
			}
			return nil
		}
		length := map[uint64]int{1: tier, 2: tier, 3: tier}
		cl.send(form.ask(0, 0, 1, 5*tier, tier))
		if cookie, errno, _ := cl.next(form, length); cookie != 1 || errno != errnoIO {
			t.Errorf("cookie %d: errno %d", cookie, errno)
		}
		cl.send(form.ask(0, 0, 2, 7*tier, tier))
		if cookie, errno, data := cl.next(form, length); cookie != 2 || errno != 0 || !bytes.Equal(data, d.b[7*tier:8*tier]) {
			t.Errorf("cookie %d: errno %d", cookie, errno)
		}
	})
}

// A long READ is sent from where it lies, whatever its length.
func TestLongReadsAreLent(t *testing.T) {
	h := newShelf()
	d := &tiered{disk: newDisk(4 << 20), lends: true}
	rand.NewChaCha8([32]byte{2}).Read(d.b)
	d.gate["read"] = make(chan struct{}) // ReadAt would hang
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 4 << 20}, Backend: d}
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	const n = maxLent * 3 * tier
	cl.send(request(0, 0, 1, 5, n))
	cl.wantReply(0, 1)
	if !bytes.Equal(cl.recv(n), d.b[5:5+n]) {
		t.Error("wrong bytes")
	}
}

// What is fetched is not read through only because it has more pieces than are lent.
func TestManyPiecesAreNotReadTwice(t *testing.T) {
	const n = (maxLent + 6) * 3 * tier
	h := newShelf()
	d := &tiered{disk: newDisk(4 << 20), lends: true, cold: map[int64]bool{7: true}}
	rand.NewChaCha8([32]byte{2}).Read(d.b)
	reads := 0
	d.fail = func(op string, _, n int64) error {
		if op == "read" {
			reads += int(n)
		}
		return nil
	}
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 4 << 20}, Backend: d}
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	cl.send(request(0, 0, 1, 0, n))
	cl.wantReply(0, 1)
	if !bytes.Equal(cl.recv(n), d.b[:n]) {
		t.Error("wrong bytes")
	}
	cl.send(request(0, 2, 0, 0, 0))
	receive(t, h.detached)
	if reads != n {
		t.Errorf("%d bytes were read for %d", reads, n)
	}
}

// unread is a sealed disk that must not be read.
type unread struct{ sealedDisk }

func (unread) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

// The longest READ there is, of nothing but a hole, is lent.
func TestLongHolesAreLent(t *testing.T) {
	const size = maxPayload + 4096
	path := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(path, []byte{1}, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	d, err := openSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	h := newShelf()
	h.exports["x"] = Export{Info: Info{Name: "x", Size: size, ReadOnly: true}, Backend: unread{d}}
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	cl.send(request(0, 0, 1, 4096, maxPayload))
	cl.wantReply(0, 1)
	if !bytes.Equal(cl.recv(maxPayload), make([]byte, maxPayload)) {
		t.Error("not zeros")
	}
}

// What left the page cache is fetched, and what was fetched is lent.
func TestEvictedPagesAreFetched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	b := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{5}).Read(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		t.Fatal(err)
	}
	d, err := openSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	h := newShelf()
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 4 << 20, ReadOnly: true}, Backend: d}
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	cl.send(request(0, 0, 1, 100, 1<<20), request(0, 0, 2, 3<<20, 1<<20))
	for range 2 {
		_, cookie := cl.reply()
		off := map[uint64]int{1: 100, 2: 3 << 20}[cookie]
		if !bytes.Equal(cl.recv(1<<20), b[off:off+1<<20]) {
			t.Fatalf("wrong bytes for %d", cookie)
		}
	}
	if b, _ := d.Lend(3<<20, tier); b == nil {
		t.Error("fetched, and not lent")
	}
}

// unsent is a disk in memory whose file the kernel refuses to send from.
type unsent struct {
	*disk
	file *os.File
}

func (d unsent) Lend(off int64, n int) ([]byte, *os.File) { return d.b[off : off+int64(n)], d.file }
func (unsent) Fetch(int64, int64) error                   { return nil }

// Where the kernel does not send from files, everything is sent from memory.
func TestFilesThatCannotBeSentFrom(t *testing.T) {
	f, err := os.Open("/proc/self/mem") // EINVAL, as where there is no such call
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := newShelf()
	d := newDisk(4 << 20)
	rand.NewChaCha8([32]byte{1}).Read(d.b)
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 4 << 20}, Backend: unsent{d, f}}
	cl := serve(t, h, Limits{})()
	cl.attach("x")
	for _, n := range []uint32{fromFile, 1 << 20, tier, 2 << 20} {
		cl.send(request(0, 0, 1, 12345, n), request(0, 0, 2, 12345, fromFile))
		cl.wantReply(0, 1)
		if got := cl.recv(int(n)); !bytes.Equal(got, d.b[12345:12345+n]) {
			t.Errorf("%d bytes differ", n)
		}
		cl.wantReply(0, 2)
		if got := cl.recv(fromFile); !bytes.Equal(got, d.b[12345:12345+fromFile]) {
			t.Errorf("the second read, after one of %d bytes, differs", n)
		}
	}
}
