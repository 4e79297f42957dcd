package cow

import (
	"bytes"
	"os"
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
