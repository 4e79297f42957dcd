package cow

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func extentsOf(t *testing.T, o *Overlay, off, n int64) string {
	t.Helper()
	var out []string
	last, sum := "", int64(0)
	end := func() {
		if sum > 0 {
			out = append(out, fmt.Sprint(sum, last))
		}
	}
	if err := o.Extents(off, n, func(n int64, hole bool) bool {
		kind := " data"
		if hole {
			kind = " hole"
		}
		if kind != last {
			end()
			last, sum = kind, 0
		}
		sum += n
		return true
	}); err != nil {
		t.Fatal(err)
	}
	end()
	return strings.Join(out, ", ")
}

func TestExtents(t *testing.T) {
	const size = 1<<20 + 100
	base, b := testBase(7, size)
	o := openOverlay(t, openStore(t, t.TempDir(), "boot"), base, b)
	want := func(what, w string) {
		t.Helper()
		if got := extentsOf(t, o, 0, size); got != w {
			t.Errorf("%s: %s, want %s", what, got, w)
		}
	}
	want("untouched", "1048676 data")
	if err := o.ZeroRange(64<<10, 128<<10, false, true); err != nil {
		t.Skipf("no holes here: %v", err)
	}
	want("zeroed", "65536 data, 131072 hole, 852068 data")
	if _, err := o.WriteAt(make([]byte, 4096), 100<<10); err != nil {
		t.Fatal(err)
	}
	want("written again", "65536 data, 36864 hole, 4096 data, 90112 hole, 852068 data")
	// With noHole, the range has its space, whatever it reads as.
	if err := o.ZeroRange(512<<10, 64<<10, true, false); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(o.data.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 < 68<<10 {
		t.Errorf("%d bytes are taken, want at least %d", st.Blocks*512, 68<<10)
	}
	p := make([]byte, 64<<10)
	if _, err := o.ReadAt(p, 512<<10); err != nil || strings.Trim(string(p), "\x00") != "" {
		t.Errorf("not zeros: %v", err)
	}
	if err := o.Cache(0, size); err != nil {
		t.Error(err)
	}
	if err := o.Extents(0, size+1, nil); err == nil {
		t.Error("a range beyond the end gave no error")
	}
}
