package cow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// faulty is a base of which some reads fail.
type faulty struct {
	io.ReaderAt
	fail bool
}

var errBase = errors.New("the disk of the base")

func (f *faulty) ReadAt(p []byte, off int64) (int, error) {
	if f.fail {
		return 0, errBase
	}
	return f.ReaderAt.ReadAt(p, off)
}

// readOnly makes writes to one of an overlay's files fail, until the call of what it
// gives.
func readOnly(t *testing.T, f **os.File) (again func()) {
	t.Helper()
	ro, err := os.Open((*f).Name())
	if err != nil {
		t.Fatal(err)
	}
	rw := *f
	*f = ro
	return func() {
		*f = rw
		ro.Close()
	}
}

// tmpfs mounts a file system of that many blocks. It can make holes, and no reservations.
func tmpfs(t *testing.T, blocks int64) string {
	t.Helper()
	providertest.NeedRoot(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", blocks*BlockSize)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// wantDisk fails unless what is accounted is what the file takes. metadata is how many
// blocks a file system may take on top of that, to say where the others are.
func wantDisk(t *testing.T, o *Overlay, metadata int64, when string) {
	t.Helper()
	used, err := o.Used()
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	if err := unix.Fdatasync(int(o.data.Fd())); err != nil { // what is on its way arrives
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(o.data.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if more := st.Blocks*512 - used; more < 0 || more > metadata*BlockSize {
		t.Fatalf("%s: %d blocks are accounted, and the disk has %d", when, used/BlockSize, st.Blocks*512/BlockSize)
	}
}

// extMetadata is for one block of a tree of extents, and one that a split leaves.
const extMetadata = 2

// What fails in the middle takes nothing: neither of the limit, nor of the disk, nor of
// the store's room.
func TestFailedOperationsTakeNothing(t *testing.T) {
	const blocks = 64
	content, b := testBase(3, blocks*BlockSize+100)
	base := &faulty{ReaderAt: bytes.NewReader(content)}
	s := openStore(t, t.TempDir(), "k")
	s.room.statfs = func() (int64, int64, error) { return 1 << 40, 1 << 41, nil }
	o, err := s.Open(testKey, b, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	whole := bytes.Repeat([]byte{9}, 4*BlockSize)
	if _, err := o.WriteAt(whole, 30*BlockSize); err != nil {
		t.Fatal(err)
	}
	var always func()
	faults := []struct {
		name   string
		begin  func()
		end    func()
		breaks func(op string) bool
	}{
		{"base", func() { base.fail = true }, func() { base.fail = false }, func(op string) bool { return op != "whole" }},
		{"data", func() { always = readOnly(t, &o.data) }, func() { always() }, func(string) bool { return true }},
		{"live", func() { always = readOnly(t, &o.live) }, func() { always() }, func(string) bool { return true }},
	}
	ops := map[string]func() error{
		"whole":   func() error { _, err := o.WriteAt(whole, 10*BlockSize); return err },
		"edges":   func() error { _, err := o.WriteAt(whole, 10*BlockSize+9); return err },
		"a byte":  func() error { _, err := o.WriteAt(whole[:1], 10*BlockSize+9); return err },
		"half":    func() error { _, err := o.WriteAt(whole, 28*BlockSize+1); return err }, // is held
		"the end": func() error { _, err := o.WriteAt(whole[:60], blocks*BlockSize+9); return err },
		"trim":    func() error { return o.Zero(10*BlockSize+9, 3*BlockSize) },
		"zero":    func() error { return o.ZeroRange(10*BlockSize+9, 3*BlockSize, true, false) },
	}
	for _, limit := range []int64{0, 20} {
		o.SetLimit(limit * BlockSize)
		for _, f := range faults {
			for name, op := range ops {
				if !f.breaks(name) {
					continue
				}
				when := fmt.Sprintf("limit %d, fault of %s, %s", limit, f.name, name)
				left := o.store.room.left
				f.begin()
				err := op()
				f.end()
				if err == nil {
					t.Fatalf("%s: no error", when)
				}
				if now := o.store.room.left; left > 0 && now != left {
					t.Errorf("%s: %d blocks of the room stay reserved", when, (left-now)/BlockSize)
				}
				if o.store.room.granted != 0 {
					t.Errorf("%s: %d bytes stay granted", when, o.store.room.granted)
				}
				if o.Written() != 4*BlockSize {
					t.Errorf("%s: %d blocks are present", when, o.Written()/BlockSize)
				}
				wantDisk(t, o, extMetadata, when)
				wantUsed(t, o, 4, when)
			}
		}
	}
	want := bytes.Clone(content)
	copy(want[30*BlockSize:], whole)
	wantContent(t, o, want, "after all of it")
}

// WRITE_ZEROES that has to be fast, where it cannot be, takes no space for its edges.
func TestFastZeroThatFailsTakesNothing(t *testing.T) {
	content, b := testBase(4, 64*BlockSize)
	o := openOverlay(t, openStore(t, tmpfs(t, 256), "k"), content, b)
	defer o.Close()
	o.SetLimit(10 * BlockSize)
	for range 5 {
		if err := o.ZeroRange(5*BlockSize+7, 2*BlockSize, true, true); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Fatalf("%v, want EOPNOTSUPP", err)
		}
		wantUsed(t, o, 0, "refused")
		wantDisk(t, o, 0, "refused")
	}
	wantContent(t, o, content, "refused")
	if err := o.ZeroRange(5*BlockSize+7, 2*BlockSize, true, false); err != nil {
		t.Fatal(err)
	}
	wantUsed(t, o, 3, "slowly")
	wantDisk(t, o, 0, "slowly")
}

// Whatever is done, and however it fails, what is accounted is what the disk has, then
// and for the process after this one.
func TestAccountingIsTheDisk(t *testing.T) {
	const blocks = 200
	for name, c := range map[string]struct {
		dir      func(t *testing.T) string
		metadata int64
	}{
		"full":     {func(t *testing.T) string { return tmpfs(t, blocks/2) }, 0},
		"ordinary": {func(t *testing.T) string { return t.TempDir() }, extMetadata},
	} {
		for seed := range uint64(6) {
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				const size = blocks*BlockSize + 700
				content, b := testBase(seed, size)
				model, dir := bytes.Clone(content), c.dir(t)
				base := &faulty{ReaderAt: bytes.NewReader(content)}
				open := func() *Overlay {
					s, err := OpenStore(dir, Config{BootID: "k", Reserve: -1})
					if err != nil {
						t.Fatal(err)
					}
					o, err := s.Open(testKey, b, base, nil)
					if err != nil {
						t.Fatal(err)
					}
					return o
				}
				o := open()
				defer func() { o.Close() }()
				r := rand.New(rand.NewPCG(seed, 2))
				failures := 0
				for i := range 1500 {
					off := r.IntN(size)
					if r.IntN(2) == 0 {
						off = off / BlockSize * BlockSize
					}
					n := min(1+r.IntN(1<<r.IntN(17)), size-off)
					again := func() {}
					switch r.IntN(12) {
					case 0:
						base.fail = true
					case 1:
						again = readOnly(t, &o.live)
					}
					var err error
					what := r.IntN(10)
					switch what {
					case 0:
						o.SetLimit(int64(r.IntN(blocks)) * BlockSize)
					case 1: // killed, or ended
						if r.IntN(2) == 0 {
							again()
							again = func() {}
							o.Close()
						}
						o = open()
					case 2, 3, 4:
						noHole, fast := r.IntN(2) == 0, r.IntN(2) == 0
						if err = o.ZeroRange(int64(off), int64(n), noHole, fast); err == nil {
							clear(model[off : off+n])
						}
					default:
						p := bytes.Repeat([]byte{byte(i)}, n)
						if _, err = o.WriteAt(p, int64(off)); err == nil {
							copy(model[off:], p)
						}
					}
					base.fail = false
					again()
					if err != nil {
						failures++
						// What was present has old bytes or new ones.
						if _, err := o.ReadAt(model[off:off+n], int64(off)); err != nil {
							t.Fatal(err)
						}
						wantDisk(t, o, c.metadata, fmt.Sprintf("operation %d, of kind %d: %v", i, what, err))
					}
				}
				wantDisk(t, o, c.metadata, "at the end")
				wantContent(t, o, model, "at the end")
				used, _ := o.Used()
				o = open()
				wantDisk(t, o, c.metadata, "opened again")
				wantUsed(t, o, used/BlockSize, "opened again")
				if failures < 50 {
					t.Errorf("%d operations failed", failures)
				}
			})
		}
	}
}

// What is left of operations that a killed process began is given back.
func TestLeftoversOfAKilledProcess(t *testing.T) {
	content, b := testBase(5, 64*BlockSize)
	dir := t.TempDir()
	o := openOverlay(t, openStore(t, dir, "k"), content, b)
	if _, err := o.WriteAt(make([]byte, BlockSize), 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, testKey.String(), dataFile), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 7*BlockSize), 9*BlockSize); err != nil { // and no bits of it
		t.Fatal(err)
	}
	o = openOverlay(t, openStore(t, dir, "k"), content, b)
	wantUsed(t, o, 1, "killed")
	wantDisk(t, o, extMetadata, "killed")
	copy(content, make([]byte, BlockSize))
	wantContent(t, o, content, "killed")
}

// The operator is told of the same want again once there was room in between: after
// another limit, and after the store had space.
func TestToldAgainAfterThereWasRoom(t *testing.T) {
	content, b := testBase(6, 400*BlockSize)
	var fills []Fill
	deaf := false
	s, err := OpenStore(t.TempDir(), Config{BootID: "k", Reserve: 80 * BlockSize, Fill: func(f Fill) bool { fills = append(fills, f); return !deaf }})
	if err != nil {
		t.Fatal(err)
	}
	free := int64(10000)
	s.room.statfs = func() (int64, int64, error) { return free * BlockSize, 20000 * BlockSize, nil }
	o := openOverlay(t, s, content, b)
	defer o.Close()
	next := int64(0)
	write := func(blocks int64, want error) {
		t.Helper()
		if _, err := o.WriteAt(make([]byte, blocks*BlockSize), next*BlockSize); !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
		if want == nil {
			next += blocks
		}
	}
	told := func(when string, want ...Fill) {
		t.Helper()
		ok := len(fills) == len(want)
		for i := range min(len(fills), len(want)) {
			ok = ok && fills[i].Full == want[i].Full && fills[i].Limit == want[i].Limit*BlockSize
		}
		if !ok {
			t.Fatalf("%s: told %+v", when, fills)
		}
		fills = nil
	}
	o.SetLimit(20 * BlockSize)
	write(20, nil)
	write(1, unix.ENOSPC)
	write(1, unix.ENOSPC)
	told("full", Fill{Limit: 20}, Fill{Limit: 20, Full: true})
	o.SetLimit(20 * BlockSize) // who attaches again
	write(1, unix.ENOSPC)
	told("the same limit")
	o.SetLimit(40 * BlockSize)
	write(10, nil)
	told("there is room")
	write(11, unix.ENOSPC)
	write(11, unix.ENOSPC)
	told("full again", Fill{Limit: 40, Full: true})
	if err := o.Zero(0, BlockSize); err != nil {
		t.Fatal(err)
	}
	write(12, unix.ENOSPC)
	told("emptier by a block", []Fill{{Limit: 40, Full: true}}...) // below 8 tenths

	// The store: whoever sees that it has room again counts.
	o.SetLimit(0)
	full := func(blocks int64) {
		free = 80 + blocks
		s.room.left = 0
	}
	for _, limit := range []int64{0, 300} {
		o.SetLimit(limit * BlockSize)
		full(0)
		write(1, unix.ENOSPC)
		write(1, unix.ENOSPC)
		told("the store is full", Fill{Full: true})
		full(3) // and is so again at once
		write(1, nil)
		full(0)
		write(1, unix.ENOSPC)
		told("a few blocks come and go")
		full(1000)
		write(1, nil)
		told("the store has room")
	}
	full(0)
	write(1, unix.ENOSPC)
	told("the store is full once more", Fill{Full: true})

	// Who has heard too much of it is told later.
	deaf = true
	full(1000)
	write(1, nil)
	full(0)
	write(1, unix.ENOSPC)
	deaf = false
	write(1, unix.ENOSPC)
	write(1, unix.ENOSPC)
	told("the store is full, and nobody listened", Fill{Full: true}, Fill{Full: true})
	o.SetLimit(1 * BlockSize)
	deaf = true
	write(1, unix.ENOSPC)
	deaf = false
	write(1, unix.ENOSPC)
	write(1, unix.ENOSPC)
	told("full, and nobody listened", Fill{Limit: 1, Full: true}, Fill{Limit: 1, Full: true})
}

// What the file system takes for a map of the data was shown as held: more than the limit.
func TestBytesAreWhatTheLimitCounts(t *testing.T) {
	s, err := OpenStore(t.TempDir(), Config{BootID: "k"})
	if err != nil {
		t.Fatal(err)
	}
	key, base := Key{"m", "i", "e"}, make([]byte, 4000*BlockSize)
	o, err := s.Open(key, Base{Digest: "sha256:b", Size: int64(len(base))}, bytes.NewReader(base), nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = 2000 * BlockSize
	o.SetLimit(want)
	for i := int64(0); i < 4000; i += 2 { // each an extent of its own
		if _, err := o.WriteAt(base[:BlockSize], i*BlockSize); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	if used, err := o.Used(); err != nil || used != want || s.Bytes(key) != used {
		t.Errorf("holds %d, shown as %d, %v", used, s.Bytes(key), err)
	}
	o.Close()
	if got := s.Bytes(key); got != want {
		t.Errorf("closed: %d, want %d", got, want)
	}
	if got := s.Bytes(Key{"m", "i", "gone"}); got != 0 {
		t.Errorf("gone: %d", got)
	}
}
