package cow

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What overlays hold was asked of the file system piece by piece, at each commit and each
// look at the metrics, over again.
func TestSizesAreKnown(t *testing.T) {
	base, b := testBase(1, 100*BlockSize)
	s := openStore(t, t.TempDir(), "k")
	want := func(when string, blocks int64) {
		t.Helper()
		if got := s.Bytes(testKey); got != blocks*BlockSize {
			t.Errorf("%s: Bytes %d, want %d", when, got, blocks*BlockSize)
		}
		if got := s.Space(testKey); got != blocks*BlockSize {
			t.Errorf("%s: Space %d, want %d", when, got, blocks*BlockSize)
		}
	}
	// away does it with no disk to ask.
	away := func(do func()) {
		t.Helper()
		at := filepath.Join(s.dir, testKey.Machine)
		must(t, os.Rename(at, at+"-away"))
		do()
		must(t, os.Rename(at+"-away", at))
	}
	o := openOverlay(t, s, base, b)
	write := func(block int64) {
		t.Helper()
		_, err := o.WriteAt(bytes.Repeat([]byte("x"), BlockSize), block*BlockSize)
		must(t, err)
		must(t, o.Sync())
	}
	write(0)
	write(50)
	want("open, not counted", 2)
	o.Close()
	want("closed", 2)
	away(func() { want("closed, and known", 2) })
	o = openOverlay(t, s, base, b)
	write(51)
	want("open again", 3)
	o.SetLimit(50 * BlockSize)
	write(53)
	o.mu.Lock() // as somebody has who writes to a disk that hangs
	away(func() { want("counted", 4) })
	o.mu.Unlock()
	o.Close()
	away(func() { want("counted when it was closed", 4) })
	s.Retire(testKey)
	must(t, s.Sweep())
	want("given back", 0)
	must(t, s.Remove(testKey))
	want("gone", 0)

	openOverlay(t, s, base, b).Close()
	want("made anew", 0)
	if s.Space(Key{"m", "i", "none"}) != 0 {
		t.Error("what is not there takes space")
	}
}
