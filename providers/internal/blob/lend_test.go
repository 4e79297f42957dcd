package blob

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// openImage makes a file of 6 MiB, the third and fourth of which are a hole.
func openImage(t *testing.T) (string, *File, []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	want := make([]byte, 6<<20)
	r := rand.NewChaCha8([32]byte{})
	r.Read(want[:2<<20])
	r.Read(want[4<<20:])
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(want[:2<<20], 0)
	_, err2 := f.WriteAt(want[4<<20:], 4<<20)
	if err := errors.Join(err, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
	c := NewCache(func(provider.Blob) (*os.File, error) { return os.Open(path) })
	b, err := c.Get(provider.Blob{Digest: "sha256:image", Size: 6 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Release)
	return path, b, want
}

// What was fetched is lent, holes and data, wherever a range begins and ends.
func TestLend(t *testing.T) {
	_, f, want := openImage(t)
	if b, _ := f.Lend(0, 1); b != nil {
		t.Error("lent before anything was fetched")
	}
	if err := f.Fetch(0, 6<<20); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ off, n int64 }{
		{0, 6 << 20}, {1, 6<<20 - 2}, {2<<20 - 1, 2}, {4<<20 - 4097, 8000}, {6<<20 - 1, 1}, {3 << 20, 1 << 20}, {windowSize - 1, 2},
	} {
		var got []byte
		for pieces := 0; int64(len(got)) < c.n; pieces++ {
			b, file := f.Lend(c.off+int64(len(got)), int(c.n)-len(got))
			there := make([]byte, len(b))
			if file != nil {
				if _, err := file.ReadAt(there, c.off+int64(len(got))); err != nil || !bytes.Equal(there, b) {
					t.Errorf("the file has other bytes at %d: %v", c.off+int64(len(got)), err)
				}
			}
			if len(b) == 0 || pieces > 64 {
				t.Fatalf("%d bytes at %d: %d lent in %d pieces", c.n, c.off, len(got), pieces)
			}
			got = append(got, b...)
		}
		if !bytes.Equal(got, want[c.off:c.off+c.n]) {
			t.Errorf("%d bytes at %d: others were lent", c.n, c.off)
		}
	}
	if n := testing.AllocsPerRun(100, func() { f.Lend(100, 1<<20) }); n != 0 {
		t.Errorf("lending makes %v allocations", n)
	}
}

func TestReadNow(t *testing.T) {
	_, f, want := openImage(t)
	p := make([]byte, 5000)
	if f.ReadNow(p, 2<<20-100) {
		t.Error("nobody fetched anything, so nothing is mapped yet")
	}
	if err := f.Fetch(0, 1); err != nil {
		t.Fatal(err)
	}
	if !f.ReadNow(p, 2<<20-100) {
		t.Skip("this file system does not say what waits")
	}
	if !bytes.Equal(p, want[2<<20-100:][:5000]) {
		t.Error("other bytes were read")
	}
	if f.ReadNow(p, 6<<20-10) {
		t.Error("beyond the end")
	}
}

// A file that is replaced is mapped anew; who was lent bytes of the former one keeps
// them.
func TestLendAfterRenewal(t *testing.T) {
	path, f, _ := openImage(t)
	if err := f.Fetch(0, 8192); err != nil {
		t.Fatal(err)
	}
	before, _ := f.Lend(0, 8192)
	old := bytes.Clone(before)
	other := bytes.Repeat([]byte{7}, 6<<20)
	if err := errors.Join(os.WriteFile(path+"+", other, 0o600), os.Rename(path+"+", path), f.cache.RenewBlob(f.Blob)); err != nil {
		t.Fatal(err)
	}
	if b, _ := f.Lend(0, 8192); b != nil {
		t.Error("the former file is lent")
	}
	if err := f.Fetch(0, 8192); err != nil {
		t.Fatal(err)
	}
	if b, _ := f.Lend(0, 8192); !bytes.Equal(b, other[:8192]) || !bytes.Equal(before, old) {
		t.Error("other bytes were lent")
	}
}

// A file that is not as long as it should be is not mapped, and one that is cut off
// later gives an error.
func TestFetchOfATruncatedFile(t *testing.T) {
	path, f, _ := openImage(t)
	if err := f.Fetch(0, 4096); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Fetch(4<<20, 8192); err == nil {
		t.Error("fetched from a file that was cut off")
	}
	again := NewCache(func(provider.Blob) (*os.File, error) { return os.Open(path) })
	g, err := again.Get(f.Blob)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Release()
	err = g.Fetch(0, 4096)
	if b, _ := g.Lend(0, 4096); !errors.Is(err, errNotMapped) || b != nil {
		t.Errorf("a short file was mapped: %v", err)
	}
}
