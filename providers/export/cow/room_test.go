package cow

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// limited opens an overlay of a machine that may hold so many blocks.
func limited(t *testing.T, s *Store, base []byte, b Base, blocks int64) *Overlay {
	t.Helper()
	o := openOverlay(t, s, base, b)
	o.SetLimit(blocks * BlockSize)
	return o
}

func wantUsed(t *testing.T, o *Overlay, blocks int64, when string) {
	t.Helper()
	if got, err := o.Used(); err != nil || got != blocks*BlockSize {
		t.Errorf("%s: %d bytes (%v), want %d blocks", when, got, err, blocks)
	}
}

func TestLimit(t *testing.T) {
	dir := t.TempDir()
	base, b := testBase(1, 300*BlockSize+10)
	var fills []Fill
	s, err := OpenStore(dir, Config{BootID: "k", Fill: func(f Fill) bool { fills = append(fills, f); return true }})
	if err != nil {
		t.Fatal(err)
	}
	o := limited(t, s, base, b, 10)
	block := bytes.Repeat([]byte{7}, BlockSize)
	write := func(at int64, want error) {
		t.Helper()
		if _, err := o.WriteAt(block, at*BlockSize); !errors.Is(err, want) {
			t.Fatalf("block %d: %v, want %v", at, err, want)
		}
	}
	for i := range int64(10) {
		write(i, nil)
	}
	write(10, syscall.ENOSPC)
	write(100, syscall.ENOSPC)
	write(9, nil) // it is held
	if _, err := o.WriteAt(make([]byte, 2*BlockSize), 9*BlockSize); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("half of it is held: %v", err)
	}
	if _, err := o.WriteAt([]byte{1}, 300*BlockSize+3); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a byte takes a block: %v", err)
	}
	wantUsed(t, o, 10, "full")
	if len(fills) != 2 || fills[0].Full || !fills[1].Full || fills[0].Used != 9*BlockSize || fills[1].Limit != 10*BlockSize || fills[1].Key != testKey {
		t.Errorf("told %+v", fills)
	}

	// TRIM of what is held, or never was, gives room and takes none.
	if err := o.Zero(2*BlockSize, 5*BlockSize); err != nil {
		t.Fatal(err)
	}
	if err := o.Zero(200*BlockSize, 50*BlockSize); err != nil {
		t.Fatal(err)
	}
	wantUsed(t, o, 5, "trimmed")
	write(150, nil)
	write(3, nil) // a hole of its own
	wantUsed(t, o, 7, "written again")
	// An edge of what is trimmed has bytes of the base to keep.
	if err := o.Zero(260*BlockSize+5, 2*BlockSize); err != nil {
		t.Fatal(err)
	}
	wantUsed(t, o, 9, "with two edges")
	if err := o.ZeroRange(270*BlockSize, 2*BlockSize, true, false); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("space is asked for, and there is none: %v", err)
	}
	if len(fills) != 4 || fills[2].Full || !fills[3].Full {
		t.Errorf("it was below 8 tenths, then above 9, then full: told %+v", fills[2:])
	}
	want := make([]byte, b.Size)
	if _, err := o.ReadAt(want, 0); err != nil {
		t.Fatal(err)
	}

	// The same after kill -9, and after a reboot of the server once it is synced.
	if err := o.Sync(); err != nil {
		t.Fatal(err)
	}
	for _, boot := range []string{"k", "other"} {
		o = limited(t, openStore(t, dir, boot), base, b, 10)
		wantUsed(t, o, 9, boot)
		wantContent(t, o, want, boot)
		write(3, nil)
		if _, err := o.WriteAt(make([]byte, 2*BlockSize), 280*BlockSize); !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
		if _, err := o.WriteAt(want[3*BlockSize:4*BlockSize], 3*BlockSize); err != nil {
			t.Fatal(err)
		}
	}

	// A limit that is edited counts at once: less than is held, more, none.
	o.SetLimit(2 * BlockSize)
	write(3, nil)
	write(290, syscall.ENOSPC)
	o.SetLimit(20 * BlockSize)
	write(290, nil)
	o.SetLimit(0)
	for i := int64(50); i < 100; i++ {
		write(i, nil)
	}
}

// Overlays leave a part of the file system to leases.
func TestReserve(t *testing.T) {
	base, b := testBase(1, 1000*BlockSize)
	s := openStore(t, t.TempDir(), "k")
	var mu sync.Mutex
	free := int64(30) * BlockSize
	const total = 1000 * BlockSize // of which 2 % are 20 blocks
	s.room.statfs = func() (int64, int64, error) {
		mu.Lock()
		defer mu.Unlock()
		return free, total, nil
	}
	o := openOverlay(t, s, base, b)
	block := make([]byte, BlockSize)
	write := func(at int64) error {
		_, err := o.WriteAt(block, at*BlockSize)
		if err == nil {
			mu.Lock()
			free -= BlockSize
			mu.Unlock()
		}
		return err
	}
	n := int64(0)
	for write(n) == nil {
		if n++; n > 100 {
			t.Fatal("nothing stops it")
		}
	}
	if n < 9 || n > 11 { // asked every few blocks
		t.Errorf("%d blocks of 10 that may be taken", n)
	}
	err := write(n)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	if err := write(1); err != nil {
		t.Errorf("what is held: %v", err)
	}
	free = 2000 * BlockSize
	if err := write(n); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	for total, want := range map[int64]int64{10 << 30: (10 << 30) / 50, 1 << 40: 512 << 20} {
		if got := DefaultReserve(total); got != want {
			t.Errorf("of %d: %d, want %d", total, got, want)
		}
	}
}

// Several writers that asked at once were each shown the same free space, and took it all
// together, reserve and all.
func TestReserveIsKeptAgainstWritersAtOnce(t *testing.T) {
	const reserve, total = 10 << 20, 1 << 30
	written := int64(0)
	r := &room{reserve: reserve, statfs: func() (int64, int64, error) { return 100<<20 - written, total, nil }}
	if !r.take(80 << 20) {
		t.Fatal("there is room")
	}
	if r.take(80 << 20) {
		t.Error("it was granted already")
	}
	if got, err := r.spare(); err != nil || got != 10<<20 {
		t.Errorf("%d bytes (%v) for copies beside what is granted", got, err)
	}
	r.done(80<<20, 80<<20)
	if !r.take(80 << 20) {
		t.Error("it was not used")
	}
	written += 80 << 20
	r.done(80<<20, 0)
	if got, err := r.spare(); err != nil || got != 10<<20 {
		t.Errorf("%d bytes (%v) for copies beside what is written", got, err)
	}
	// Any order of asking, writing and failing.
	rng := rand.New(rand.NewPCG(6, 6))
	written, r = 0, &room{reserve: reserve, statfs: r.statfs}
	granted, refused := []int64{}, 0
	for range 5000 {
		if n := rng.Int64N(3 << 20); rng.IntN(3) > 0 {
			if r.take(n) {
				granted = append(granted, n)
			} else {
				refused++
			}
		} else if len(granted) > 0 {
			i := rng.IntN(len(granted))
			n, used := granted[i], rng.Int64N(granted[i]+1)/64
			granted = slices.Delete(granted, i, i+1)
			written += used
			r.done(n, n-used)
		}
		all := written
		for _, n := range granted {
			all += n
		}
		if all > 90<<20 {
			t.Fatalf("%d bytes are granted or written, of %d", all, 90<<20)
		}
	}
	if refused == 0 {
		t.Error("it never got full: the test shows nothing")
	}
	for _, n := range granted {
		r.done(n, n)
	}
	if r.granted != 0 {
		t.Errorf("%d bytes are granted to nobody", r.granted)
	}
}

// A copy is what the disk reads like, with its holes; too much of one is refused
// before anything is written.
func TestCopyTo(t *testing.T) {
	base, b := testBase(1, 200*BlockSize+99)
	o := openOverlay(t, openStore(t, t.TempDir(), "k"), base, b)
	for _, at := range []int64{0, 5, 6, 64, 199} {
		if _, err := o.WriteAt(bytes.Repeat([]byte{byte(at + 1)}, BlockSize), at*BlockSize+9); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Zero(100*BlockSize, 64*BlockSize); err != nil {
		t.Fatal(err)
	}
	if list, all := o.Ranges(2); all != 5 || len(list) != 2 || list[0] != (Range{0, 2 * BlockSize}) || list[1] != (Range{5 * BlockSize, 3 * BlockSize}) {
		t.Errorf("%+v of %d", list, all)
	}
	if list, _ := o.Ranges(10); list[4] != (Range{199 * BlockSize, BlockSize + 99}) {
		t.Errorf("%+v", list)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "copy"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(base); err != nil {
		t.Fatal(err)
	}
	if err := o.CopyTo(t.Context(), f, Patience{Bytes: BlockSize}); !errors.Is(err, ErrBusy) {
		t.Errorf("%v, want ErrBusy", err)
	}
	if got, _ := os.ReadFile(f.Name()); !bytes.Equal(got, base) {
		t.Error("it was written to all the same")
	}
	if err := o.CopyTo(t.Context(), f, Patience{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, o, got, "the copy")
	if st, _ := f.Stat(); st.Sys().(*syscall.Stat_t).Blocks*512 > 150*BlockSize {
		t.Errorf("no holes: %d blocks", st.Sys().(*syscall.Stat_t).Blocks)
	}
}
