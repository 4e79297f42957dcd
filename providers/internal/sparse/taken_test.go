package sparse

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// What takes space is found though it was never written, and though nothing is on the
// disk yet; in more pieces than the kernel tells at once.
func TestTaken(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const k, pieces = int64(64 << 10), 3*fiemapRoom + 1
	if err := f.Truncate(2 * pieces * k); err != nil {
		t.Fatal(err)
	}
	var want []int64
	for i := range int64(pieces) {
		at := 2 * i * k
		if i%3 == 0 {
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, at, k)
		} else {
			_, err = f.WriteAt(make([]byte, k), at)
		}
		if errors.Is(err, unix.EOPNOTSUPP) {
			t.Skip("this file system cannot reserve space")
		}
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, at)
	}
	check := func(from, to int64, when string) {
		t.Helper()
		var got []int64
		if err := Taken(f, from, to-from, func(off, n int64) {
			if n != k || off < from || off+n > to {
				t.Errorf("%s: %d bytes at %d", when, n, off)
			}
			got = append(got, off)
		}); err != nil {
			t.Fatal(err)
		}
		var expect []int64
		for _, at := range want {
			if at >= from && at < to {
				expect = append(expect, at)
			}
		}
		if !slices.Equal(got, expect) {
			t.Errorf("%s: %d pieces, want %d", when, len(got), len(expect))
		}
	}
	check(0, 2*pieces*k, "not synced")
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	check(0, 2*pieces*k, "synced")
	check(4*k, 12*k, "a part")
	check(k, 2*k, "a hole")
	check(2*pieces*k, 2*pieces*k, "nothing")
}
