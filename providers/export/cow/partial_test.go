package cow

import (
	"bytes"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A disk that is full, or fails, in the middle of saying which blocks are present: what
// it took is true for this process as well as for the next one.
func TestMarkedInPart(t *testing.T) {
	const blocks = pageSize * 4 // whose bits are one page
	base, b := testBase(1, (blocks+64)*BlockSize)
	dir := t.TempDir()
	s := openStore(t, dir, "k")
	o := openOverlay(t, s, base, b)
	full := fileThatEnds(t, pageSize)
	real := o.live
	page := make([]byte, pageSize)
	if _, err := real.ReadAt(page, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := full.WriteAt(page, 0); err != nil {
		t.Fatal(err)
	}
	o.live = full
	const first = blocks - 8
	written := bytes.Repeat([]byte("w"), 16*BlockSize)
	if _, err := o.WriteAt(written, first*BlockSize); err == nil {
		t.Fatal("it can be written: the test shows nothing")
	}
	if err := o.ZeroRange((blocks-16)*BlockSize, 32*BlockSize, false, false); err == nil {
		t.Fatal("it can be zeroed: the test shows nothing")
	}
	now := make([]byte, 48*BlockSize)
	from := int64(blocks-24) * BlockSize
	if _, err := o.ReadAt(now, from); err != nil {
		t.Fatal(err)
	}
	end := (blocks - (blocks - 24)) * BlockSize
	if !bytes.Equal(now[end:], base[from+int64(end):][:len(now)-end]) {
		t.Error("blocks that were not marked do not read like the base")
	}
	if _, err := full.ReadAt(page, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := real.WriteAt(page, 0); err != nil {
		t.Fatal(err)
	}
	o.live = real
	o.Close()
	o = openOverlay(t, openStore(t, dir, "k"), base, b)
	next := make([]byte, len(now))
	if _, err := o.ReadAt(next, from); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(now); i += BlockSize {
		if !bytes.Equal(now[i:i+BlockSize], next[i:i+BlockSize]) {
			t.Errorf("block %d begins with %x, and with %x for the next process", from/BlockSize+int64(i/BlockSize), now[i:i+4], next[i:i+4])
		}
	}
}

// A disk that ends between two pieces of a mark, or within one: what comes before is
// zeros, what comes after reads like the base, and the next process sees the same.
func TestMarkedInPieces(t *testing.T) {
	const perPiece = pieceSize / 16 * 64 // blocks
	const size = 3 * perPiece * BlockSize
	for _, end := range []int64{pieceSize, 2 * pieceSize, pieceSize + 3*pageSize} {
		dir, b := t.TempDir(), Base{Digest: "sha256:0", Size: size}
		o, err := openStore(t, dir, "k").Open(testKey, b, evenly('b'), nil)
		must(t, err)
		real, full := o.live, fileThatEnds(t, end)
		bits := make([]byte, end)
		_, err = real.ReadAt(bits, 0)
		must(t, err)
		_, err = full.WriteAt(bits, 0)
		must(t, err)
		o.live = full
		if err := o.Zero(BlockSize/2, size-BlockSize/2); err == nil {
			t.Fatal("it can be marked: the test shows nothing")
		}
		marked := end / 16 * 64
		check := func(o *Overlay, when string) {
			t.Helper()
			if got := o.present.n.Load(); got != marked {
				t.Errorf("end at %d, %s: %d blocks are present, want %d", end, when, got, marked)
			}
			for block, want := range map[int64]byte{1: 0, marked - 1: 0, marked: 'b', size/BlockSize - 1: 'b'} {
				p := make([]byte, 1)
				if _, err := o.ReadAt(p, block*BlockSize); err != nil || p[0] != want {
					t.Errorf("end at %d, %s: block %d reads %q (%v), want %q", end, when, block, p, err, want)
				}
			}
		}
		check(o, "at once")
		_, err = full.ReadAt(bits, 0)
		must(t, err)
		_, err = real.WriteAt(bits, 0)
		must(t, err)
		o.live = real
		must(t, o.Sync())
		o.Close()
		for _, boot := range []string{"k", "other"} {
			o, err = openStore(t, dir, boot).Open(testKey, b, evenly('b'), nil)
			must(t, err)
			check(o, boot)
			o.Close()
		}
	}
}

// One TRIM of a large disk had the file form of all its bits in memory at once, as had the
// Sync after it.
func TestTrimOfALargeDiskTakesLittleMemory(t *testing.T) {
	const size = 256 << 30 // whose bitmaps are 16 MiB each
	b := Base{Digest: "sha256:0", Size: size}
	o, err := openStore(t, t.TempDir(), "k").Open(testKey, b, evenly('b'), nil)
	must(t, err)
	defer o.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	must(t, o.Zero(0, size))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d KiB were allocated", n>>10)
	}
	if o.Written() != size {
		t.Errorf("%d bytes are present", o.Written())
	}
	pages := o.flushedForm.pages(o.present)
	if n := o.dirty.n.Load(); n != pages || pages < 2*flushedAtOnce {
		t.Fatalf("%d of %d pages are dirty", n, pages)
	}
	dirty, seen := newBitmap(pages), int64(0)
	dirty.set(0, pages-1)
	for dirty.n.Load() > 0 {
		got := o.dirtyPages(dirty)
		if len(got) > flushedAtOnce || got[0].number != seen {
			t.Fatalf("%d pages at once, from %d on", len(got), got[0].number)
		}
		seen += int64(len(got))
	}
	if seen != pages {
		t.Errorf("%d pages of %d", seen, pages)
	}
	must(t, o.Sync())
	flushed := newBitmap(blocksOf(size))
	must(t, o.flushedForm.load(flushed, o.flushed, blocksOf(size)))
	if flushed.n.Load() != blocksOf(size) {
		t.Errorf("%d blocks are flushed", flushed.n.Load())
	}
}

// fileThatEnds is a file of n bytes that cannot become longer.
func fileThatEnds(t *testing.T, n int64) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("ends", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "ends")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(n); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_GROW); err != nil {
		t.Fatal(err)
	}
	return f
}

// What a large operation took and did not use is no room that others may have unasked.
func TestGivenBackIsNotLeft(t *testing.T) {
	free, taken := int64(1<<30), int64(0)
	r := &room{reserve: 32 << 20, statfs: func() (int64, int64, error) { return free - taken, 2 << 30, nil }}
	const much = 200 << 20
	if !r.take(much) {
		t.Fatal("there is room")
	}
	r.done(much, much)
	free = 33 << 20
	for taken < much && r.take(1<<20) {
		taken += 1 << 20
	}
	if taken > slack+1<<20 {
		t.Errorf("%d MiB were taken with 1 MiB free beside the reserve", taken>>20)
	}
}
