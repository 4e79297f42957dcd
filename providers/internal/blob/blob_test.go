package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

func TestCacheSharesAndCloses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, []byte("sealed"), 0o444); err != nil {
		t.Fatal(err)
	}
	opens := 0
	c := NewCache(func(b provider.Blob) (*os.File, error) {
		if b.Digest != "sha256:there" {
			return nil, fs.ErrNotExist
		}
		opens++
		return os.Open(path)
	})
	b := provider.Blob{Digest: "sha256:there", Size: 6}
	first, err := c.Get(b)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Get(b)
	if err != nil {
		t.Fatal(err)
	}
	third := first.Hold()
	if second != first || third != first || opens != 1 || c.Open() != 1 {
		t.Errorf("opened %d times, %d open; want one file for all", opens, c.Open())
	}
	first.Release()
	second.Release()
	got := make([]byte, 6)
	if _, err := third.ReadAt(got, 0); err != nil || string(got) != "sealed" {
		t.Errorf("read %q, %v while one reference is left", got, err)
	}
	third.Release()
	if _, err := third.ReadAt(got, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after the last release: %v, want it closed", err)
	}
	if c.Open() != 0 {
		t.Errorf("%d open after the last release", c.Open())
	}
	if _, err := c.Get(provider.Blob{Digest: "sha256:gone", Size: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing blob gives %v", err)
	}
	again, err := c.Get(b)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Release()
	if _, err := c.Get(provider.Blob{Digest: b.Digest, Size: 7}); err == nil {
		t.Error("a blob of another size is served")
	}
}
