package sparse

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExtents(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const k = 64 << 10
	if err := f.Truncate(8*k + 100); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{k, 2 * k, 5 * k} {
		if _, err := f.WriteAt(make([]byte, k), at); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Scan(f, 8*k+100)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.holes) == 0 {
		t.Skip("this file system has no holes")
	}
	if err := Extents(f, 7*k, 2*k, func(int64, bool) bool { return true }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("beyond the end: %v", err)
	}
	for _, c := range []struct {
		off, n int64
		stop   int
		want   string
	}{
		{0, 8*k + 100, 9, "65536 hole, 131072 data, 131072 hole, 65536 data, 131172 hole"},
		{1, k, 9, "65535 hole, 1 data"}, {k, k, 9, "65536 data"}, {6*k + 1, 10, 9, "10 hole"}, {8*k + 99, 1, 9, "1 hole"},
		{0, 8 * k, 2, "65536 hole, 131072 data"}, {0, 8 * k, 1, "65536 hole"}, {5 * k, 0, 9, ""},
	} {
		collect := func(out *[]string) func(int64, bool) bool {
			return func(n int64, hole bool) bool {
				*out = append(*out, fmt.Sprint(n, map[bool]string{true: " hole", false: " data"}[hole]))
				return len(*out) < c.stop
			}
		}
		var live, kept []string
		if err := Extents(f, c.off, c.n, collect(&live)); err != nil {
			t.Fatal(err)
		}
		m.Extents(c.off, c.n, collect(&kept))
		if got := strings.Join(live, ", "); got != c.want {
			t.Errorf("%d at %d: %s, want %s", c.n, c.off, got, c.want)
		}
		if got := strings.Join(kept, ", "); got != c.want {
			t.Errorf("%d at %d, from memory: %s, want %s", c.n, c.off, got, c.want)
		}
	}
}
